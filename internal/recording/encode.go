package recording

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// The codes of events.
const (
	codeOutput = 'o'
	codeInput  = 'i'
	codeResize = 'r'
	codeMark   = 'm'
	codeExit   = 'x'
	codeStderr = 'e'
	codeBytes  = 'b'
)

// An event waits as kind (1 byte), microseconds since the start (8), length (4), data.
const rawHead = 1 + 8 + 4

// maxPiece bounds the data of one event, so that even its longest form (six bytes for one, and base64 beside it) fits into a
// chunk.
const maxPiece = 16 << 10

func appendRaw(dst []byte, kind byte, micros int64, data []byte) []byte {
	dst = append(dst, kind)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(micros))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(data)))
	return append(dst, data...)
}

func cutRaw(src []byte) (kind byte, micros int64, data, rest []byte) {
	n := rawHead + int(binary.LittleEndian.Uint32(src[9:]))
	return src[0], int64(binary.LittleEndian.Uint64(src[1:])), src[rawHead:n], src[n:]
}

// encoder writes events as lines of asciicast 3.
type encoder struct {
	last int64                       // microseconds, of the event before
	held map[byte]*[utf8.UTFMax]byte // by kind; see hold
	many map[byte]int
	join []byte
}

// hold is how many bytes at the end of data begin a character that may go on in the next piece.
func hold(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		c := data[len(data)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// event appends one event's lines to dst. Of a stream of bytes, an unfinished character at the end waits for the next.
func (e *encoder) event(dst []byte, kind byte, micros int64, data []byte) []byte {
	switch kind {
	case codeOutput, codeStderr, codeInput:
	default:
		return e.line(dst, kind, micros, data)
	}
	if n := e.many[kind]; n > 0 {
		e.join = append(append(e.join[:0], e.held[kind][:n]...), data...)
		e.many[kind], data = 0, e.join
	}
	if n := hold(data); n > 0 {
		if e.held == nil {
			e.held, e.many = make(map[byte]*[utf8.UTFMax]byte), make(map[byte]int)
		}
		if e.held[kind] == nil {
			e.held[kind] = new([utf8.UTFMax]byte)
		}
		e.many[kind] = copy(e.held[kind][:], data[len(data)-n:])
		data = data[:len(data)-n]
	}
	return e.stream(dst, kind, micros, data)
}

// release appends what still waits.
func (e *encoder) release(dst []byte, micros int64) []byte {
	for _, kind := range []byte{codeOutput, codeStderr, codeInput} {
		if n := e.many[kind]; n > 0 {
			e.many[kind] = 0
			dst = e.stream(dst, kind, micros, e.held[kind][:n])
		}
	}
	return dst
}

func (e *encoder) stream(dst []byte, kind byte, micros int64, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	code := kind
	if kind == codeStderr {
		code = codeOutput
	}
	text, valid := data, utf8.Valid(data)
	if !valid && isBinary(data) {
		text = []byte("\ufffd")
	}
	dst = e.line(dst, code, micros, text)
	if kind == codeStderr {
		dst = e.line(dst, codeStderr, micros, nil)
	}
	if !valid {
		dst = e.head(dst, codeBytes, micros)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		dst = append(dst, "\"]\n"...)
	}
	return dst
}

// isBinary tells what nobody could read as text, such as an archive: more than an eighth is no UTF-8. Text in Latin-1 has less.
func isBinary(data []byte) bool {
	bad := 0
	for i := 0; i < len(data) && bad <= len(data)/8; {
		if data[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			bad++
		}
		i += size
	}
	return len(data) >= 64 && bad > len(data)/8
}

func (e *encoder) line(dst []byte, code byte, micros int64, text []byte) []byte {
	return append(appendText(e.head(dst, code, micros), text), "\"]\n"...)
}

func (e *encoder) head(dst []byte, code byte, micros int64) []byte {
	d := max(0, micros-e.last)
	e.last = max(e.last, micros)
	dst = append(dst, '[')
	dst = appendSeconds(dst, d)
	return append(dst, ',', '"', code, '"', ',', '"')
}

// appendSeconds writes microseconds as seconds with six digits behind the point.
func appendSeconds(dst []byte, micros int64) []byte {
	const second = 1_000_000
	dst = append(strconv.AppendInt(dst, micros/second, 10), '.')
	for unit := int64(second / 10); unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+micros/unit%10))
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendText appends text as the inside of a JSON string. Controls are escaped, C1 ones too, so that the file does
// no harm to a terminal that it is printed on. Bytes that are not UTF-8 become U+FFFD.
func appendText(dst, text []byte) []byte {
	start := 0
	for i := 0; i < len(text); {
		i += plain(text[i:])
		if i == len(text) {
			break
		}
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, text[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, text[start:i]...), "\ufffd"...)
			start = i + 1
		case r < 0xa0:
			dst = append(append(dst, text[start:i]...), '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(dst, text[start:]...)
}

// plain is how many bytes at the start of text need no escape in JSON and are ASCII, looked at eight at a time. The last few bytes
// it may leave to its caller.
func plain(text []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	none := func(x uint64) uint64 { return (x - ones) & ^x & tops } // the lowest top bit that is set is of a byte that is zero
	i := 0
	for ; i+8 <= len(text); i += 8 {
		x := binary.LittleEndian.Uint64(text[i:])
		below := (x - 0x20*ones) & ^x & tops
		if bad := x&tops | below | none(x^'"'*ones) | none(x^'\\'*ones) | none(x^0x7f*ones); bad != 0 {
			return i + bits.TrailingZeros64(bad)/8
		}
	}
	return i
}

// castHeader is the first line of an asciicast 3.
type castHeader struct {
	Version   int      `json:"version"`
	Term      castTerm `json:"term"`
	Timestamp int64    `json:"timestamp"`
	Command   string   `json:"command,omitempty"`
	Title     string   `json:"title,omitempty"`
	Sallyport *facts   `json:"sallyport,omitempty"`
}

type castTerm struct {
	Cols int    `json:"cols"`
	Rows int    `json:"rows"`
	Type string `json:"type,omitempty"`
}

// facts are what a header says beyond asciicast.
type facts struct {
	Session string `json:"session"`
	Person  string `json:"person"`
	Account string `json:"account"`
	Target  string `json:"target"`
	Rule    string `json:"rule,omitempty"`
	Started string `json:"started"`
}

// The bounds of a terminal's size; asciicast wants one, also where there is none.
const (
	maxCols, maxRows         = 1000, 500
	defaultCols, defaultRows = 80, 24
)

// size brings a terminal's size within bounds.
func size(cols, rows int) (int, int) {
	if cols <= 0 {
		cols = defaultCols
	}
	if rows <= 0 {
		rows = defaultRows
	}
	return min(cols, maxCols), min(rows, maxRows)
}

// maxHeaderText bounds a text of the header, of which a command is the longest.
const maxHeaderText = 16 << 10

func (h Header) line() ([]byte, error) {
	cols, rows := size(h.Width, h.Height)
	clip := func(s string) string { return s[:min(len(s), maxHeaderText)] }
	line, err := json.Marshal(castHeader{
		Version: 3, Term: castTerm{cols, rows, clip(h.Term)}, Timestamp: h.Started.Unix(), Command: clip(h.Command),
		Title: clip(h.Person + ": " + h.Account + "@" + h.Target),
		Sallyport: &facts{
			Session: h.Session, Person: clip(h.Person), Account: clip(h.Account), Target: clip(h.Target), Rule: clip(h.Rule),
			Started: h.Started.UTC().Format("2006-01-02T15:04:05.000000Z"),
		},
	})
	return append(line, '\n'), err
}
