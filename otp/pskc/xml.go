package pskc

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// The bounds of the XML. A KeyPackage of RFC 6030 has some thirty elements, nine deep, and 2 KiB.
const (
	maxToken    = 64 << 10 // bytes of one tag, text or comment
	maxText     = 64 << 10 // bytes of text in one KeyPackage
	maxElements = 512      // in one KeyPackage
	maxDepth    = 32
)

var (
	errLong = errors.New("a tag, text or comment is too long")
	errDeep = errors.New("elements are nested too deeply")
	errMuch = errors.New("one element holds too much")
	errType = errors.New("a document type is declared")
)

// source hands on bytes one at a time, as the decoder wants them, and no more of them than one token may have.
type source struct {
	r    *bufio.Reader
	left int
	err  error // what reading failed with, but the end
}

func (s *source) ReadByte() (byte, error) {
	if s.left <= 0 {
		return 0, errLong
	}
	s.left--
	b, err := s.r.ReadByte()
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return b, err
}

// Read is there for the decoder's sake, which uses ReadByte.
func (s *source) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := s.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// declared finds the encoding that the first line of a document says it is in.
var declared = regexp.MustCompile(`^<\?xml[^>]{0,100}?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']`)

// utf8Of gives the document in UTF-8. Windows tools write UTF-16 with a mark, and older ones their code page.
func utf8Of(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(200)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, err := b.Discard(3)
		return b, err
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Reader(b), nil
	case len(head) > 1 && (head[0] == 0 || head[1] == 0):
		return nil, errors.New("it has no byte order mark, and is not UTF-8")
	}
	m := declared.FindSubmatch(head)
	if m == nil {
		return b, nil
	}
	switch name := strings.ToLower(string(m[1])); name {
	case "utf-8", "us-ascii", "ascii":
		return b, nil
	case "iso-8859-1", "windows-1252":
		return charmap.Windows1252.NewDecoder().Reader(b), nil
	default:
		return nil, fmt.Errorf("it is in the encoding %q", name)
	}
}

// newDecoder makes a decoder whose tokens are bounded: reset before each.
func newDecoder(r io.Reader) (*xml.Decoder, *source) {
	src := &source{r: bufio.NewReaderSize(r, 64<<10)}
	d := xml.NewDecoder(src)
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it is UTF-8 by now: see utf8Of
	return d, src
}

// node is an element with all that is in it.
type node struct {
	name  xml.Name
	line  int
	attrs []xml.Attr
	text  strings.Builder
	kids  []*node
}

func (n *node) attr(name string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.attrs {
		if a.Name.Local == name && a.Name.Space == "" {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// find follows a path of local names. The namespaces below KeyContainer are not looked at: RFC 6030's own figures leave some out.
// nil: there is none. What is there twice is found as the first; twice tells.
func (n *node) find(path ...string) *node {
	for _, name := range path {
		if n == nil {
			return nil
		}
		var next *node
		for _, k := range n.kids {
			if k.name.Local == name {
				next = k
				break
			}
		}
		n = next
	}
	return n
}

// twice finds an element that is there more than once, where one alone has a meaning.
func (n *node) twice(path ...string) bool {
	parent := n.find(path[:len(path)-1]...)
	if parent == nil {
		return false
	}
	count := 0
	for _, k := range parent.kids {
		if k.name.Local == path[len(path)-1] {
			count++
		}
	}
	return count > 1
}

func (n *node) value() string {
	if n == nil {
		return ""
	}
	return strings.TrimSpace(n.text.String())
}

// tree reads the rest of an element. Extensions are dropped, whatever they hold.
func (p *reader) tree(start xml.StartElement) (*node, error) {
	line, _ := p.d.InputPos()
	root := &node{name: start.Name, line: line, attrs: start.Attr}
	stack, elements, text := []*node{root}, 1, 0
	for len(stack) > 0 {
		tok, err := p.token()
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			if elements++; elements > maxElements {
				return nil, errMuch
			}
			if len(stack) >= maxDepth {
				return nil, errDeep
			}
			if t.Name.Local == "Extensions" {
				if err := p.skip(); err != nil {
					return nil, err
				}
				continue
			}
			k := &node{name: t.Name, attrs: t.Attr}
			top.kids = append(top.kids, k)
			stack = append(stack, k)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if text += len(t); text > maxText {
				return nil, errMuch
			}
			top.text.Write(t)
		}
	}
	return root, nil
}

// skip passes over the rest of an element.
func (p *reader) skip() error {
	for depth := 1; depth > 0; {
		tok, err := p.token()
		if err != nil {
			return err
		}
		switch tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return errDeep
			}
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

// token reads the next token that means something. What it returns belongs to the decoder.
func (p *reader) token() (xml.Token, error) {
	for {
		p.src.left = maxToken
		tok, err := p.d.Token()
		if err != nil {
			return nil, err
		}
		switch tok.(type) {
		case xml.Directive:
			return nil, errType
		case xml.Comment, xml.ProcInst:
			continue
		}
		return tok, nil
	}
}

// whyNot says in words, and with nothing of the file in them, why the XML cannot be read.
func whyNot(err error) (what, hint string) {
	var syntax *xml.SyntaxError
	switch {
	case errors.Is(err, errType):
		return "a document type (DOCTYPE) is declared: it could make a small file a huge one, or read other files", "remove it: PSKC needs none"
	case errors.Is(err, errDeep), errors.Is(err, errLong), errors.Is(err, errMuch):
		return err.Error(), "this is no file that a maker of tokens writes"
	case errors.As(err, &syntax):
		switch {
		case strings.HasPrefix(syntax.Msg, "unexpected EOF"):
			return "the file ends in the middle", "fetch it again: it was cut off"
		case strings.HasPrefix(syntax.Msg, "invalid UTF-8"):
			return "the bytes are not of the encoding that the first line says", "save it as UTF-8"
		case strings.HasPrefix(syntax.Msg, "invalid character entity"):
			return "an entity is used that XML does not have by itself", ""
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the file ends in the middle", "fetch it again: it was cut off"
	}
	return "this is not well-formed XML 1.0", "is it a PSKC file? `--format csv` reads tables"
}
