package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// MaxSecretFile bounds, in bytes, the file of a secret.
const MaxSecretFile = 4096

// Tree parses the one document. yaml/v4 says nothing about what follows the first (trap C1), so the end is asked for.
func (r *Reader) Tree(data []byte) *yaml.Node {
	top := Pos{File: r.File}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		r.Bad(top, "", "cannot be read as YAML")
		return nil
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); err != nil && !errors.Is(err, io.EOF) {
		r.syntax(err)
		return nil
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		r.Bad(top, "`sallyport init` writes one to begin with", "is empty")
		return nil
	}
	switch err := loader.Load(&second); {
	case err == nil:
		r.Bad(Pos{File: r.File, Line: second.Line}, "keep one, and take out the line ---", "a second document begins here")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
	}
	return doc.Content[0]
}

// quoted is what a parser's message repeats from the file.
var quoted = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")

// syntax reports what the parser stumbled over, without what it found there: that may be half a secret.
func (r *Reader) syntax(err error) {
	at, what := Pos{File: r.File}, "cannot be read as YAML"
	hint := "look for a missing blank behind a colon, a tab, wrong indentation, or a quote without its fellow"
	var failed *yaml.LoadError
	var several *yaml.LoadErrors
	if errors.As(err, &several) && len(several.Errors) > 0 {
		failed = several.Errors[0]
	} else {
		errors.As(err, &failed)
	}
	if failed != nil {
		at.Line = failed.Mark.Line
		if strings.Contains(failed.Message, "anchor") || strings.Contains(failed.Message, "alias") || strings.Contains(failed.Message, " tag") {
			hint = "put a value that begins with & * or ! into quotes"
		}
		what += ": " + strings.TrimSpace(quoted.ReplaceAllString(failed.Message, "(...)"))
	}
	r.Bad(at, hint, "%s", what)
}

// Secret reads key, key_file or key_env, of which exactly one is to be there.
func (b *Block) Secret(key string, required bool) Secret {
	inFile, inEnv := key+"_file", key+"_env"
	var given []string
	for _, k := range []string{key, inFile, inEnv} {
		if b.Has(k) {
			given = append(given, k)
		}
	}
	ways := key + ", " + inFile + " or " + inEnv
	switch {
	case len(given) == 0 && required && !b.broken:
		b.asked = append(b.asked, key, inFile, inEnv)
		b.Bad(key, "give one of "+ways, "is missing")
		return Secret{}
	case len(given) > 1:
		b.asked = append(b.asked, key, inFile, inEnv)
		b.Bad(given[1], "give one of "+ways, "is given beside %s", given[0])
		return Secret{}
	}
	inline, _ := b.Text(key)
	path, _ := b.Text(inFile)
	name, _ := b.Text(inEnv)
	switch {
	case inline != "":
		b.Reader.Inline = append(b.Reader.Inline, b.At(key))
		if n := b.values[key]; n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && n.LineComment != "" {
			b.Reader.Warn(b.At(key), "put the secret into quotes", "ends where YAML begins a comment, at a blank and #")
		}
		return b.checked(key, []byte(inline))
	case path != "":
		return b.secretFile(inFile, b.Reader.Resolve(path))
	case name != "":
		v, ok := b.Reader.Env(name)
		if !ok || v == "" {
			// The name is not repeated: somebody will put the secret itself here.
			b.Bad(inEnv, "it wants the name of a variable; set it for the daemon too", "the environment variable is not set, or empty")
			return Secret{}
		}
		return b.checked(inEnv, []byte(v))
	}
	return Secret{}
}

func (b *Block) secretFile(key, path string) Secret {
	data, err := b.Reader.ReadFile(path)
	if err != nil {
		hint := ""
		if h := (hintedError{}); errors.As(err, &h) {
			hint = h.hint
		}
		b.Bad(key, hint, "cannot be read: %v", err)
		return Secret{}
	}
	if len(data) > MaxSecretFile {
		b.Bad(key, "is it the right file?", "holds more than %d bytes", MaxSecretFile)
		return Secret{}
	}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(data, []byte(mark)) {
			b.Bad(key, "save it as plain text without one", "begins with a byte order mark, which would be part of the secret")
			return Secret{}
		}
	}
	if cut, ok := bytes.CutSuffix(data, []byte("\n")); ok {
		data = bytes.TrimSuffix(cut, []byte("\r"))
	}
	if len(data) == 0 {
		b.Bad(key, "", "the file is empty")
		return Secret{}
	}
	return b.checked(key, data)
}

func (b *Block) checked(key string, secret []byte) Secret {
	if len(bytes.TrimSpace(secret)) != len(secret) {
		b.Reader.Warn(b.At(key), "", "the secret begins or ends with a blank or a line end, which belongs to it")
	}
	return NewSecret(secret)
}

// hintedError is an error of the default readFile that knows what to do.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

// ReadSecretFile reads the file of a secret, which not everybody on the machine may be able to read or change.
func ReadSecretFile(path string) ([]byte, error) {
	data, mode, err := ReadRegular(path, MaxSecretFile)
	if err != nil {
		return nil, err
	}
	if mode&0o006 != 0 {
		return nil, hintedError{fmt.Errorf("everybody on this machine can read or change %s", path), "chmod 0640 " + path}
	}
	return data, nil
}

// ReadRegular reads a file of at most so many bytes (and one more, for the caller to see that it was too much) and says
// who may read it. A pipe or device is refused before it's opened: it could block for ever.
func ReadRegular(path string, most int) ([]byte, os.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	return data, info.Mode().Perm(), err
}
