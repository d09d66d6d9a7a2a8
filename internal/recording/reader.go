package recording

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Kind is what an Event tells.
type Kind byte

// The kinds, by the codes of asciicast.
const (
	Output = Kind(codeOutput) // Data, Stderr
	Input  = Kind(codeInput)  // Data
	Resize = Kind(codeResize) // Cols, Rows
	Mark   = Kind(codeMark)   // Data
	Exit   = Kind(codeExit)   // Data
)

// Event is one thing that happened.
type Event struct {
	At         time.Duration // since the session's start
	Kind       Kind
	Data       []byte // the very bytes; good until the next call of Next
	Stderr     bool   // Data is standard error
	Cols, Rows int
}

// Reader reads a recording, a chunk at a time. It is for one goroutine.
type Reader struct {
	Header   Header
	Progress func(offset int64) // called with how far in the file it is, at each chunk; may be nil

	file       *os.File
	frames     *frames
	identities []age.Identity
	zstd       *zstd.Decoder
	snappy     *s2.Reader // nil until it is needed
	previous   string     // sum of the chunk before
	plain      []byte
	lines      []byte // of plain, what is left
	chunk      int    // that lines are of
	micros     int64
	data       []byte
	err        error // of Next, for ever
}

// Open opens a recording with an auditor's key: the text of an identity file of age. It reads the first chunk.
func Open(path string, identities []byte) (*Reader, error) { return open(path, identities, nil) }

// OpenGrowing is Open for a recording that is still being made: at its end wait is called, and returns when there may be
// more, or an error, which Next then returns.
func OpenGrowing(path string, identities []byte, wait func() error) (*Reader, error) {
	return open(path, identities, wait)
}

func open(path string, identities []byte, wait func() error) (_ *Reader, err error) {
	keys, err := parseIdentities(identities)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := newReader(file, keys, wait)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.file = file
	return r, nil
}

func newReader(file io.ReaderAt, keys []age.Identity, wait func() error) (*Reader, error) {
	f, err := newFrames(file)
	if err != nil {
		return nil, err
	}
	f.wait = wait
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(2*maxPlain))
	if err != nil {
		return nil, err
	}
	r := &Reader{frames: f, identities: keys, zstd: z, previous: "-"}
	if err := r.load(); err != nil {
		z.Close()
		if errors.Is(err, io.EOF) {
			err = damaged(ErrAltered, 0, "was altered: it is missing")
		}
		return nil, err
	}
	return r, nil
}

// Expect compares the chunks that are still to be read with what the audit log says. More than it has are taken to be not on
// record yet.
func (r *Reader) Expect(chunks []Chunk) { r.frames.known = chunks }

// Close closes the file.
func (r *Reader) Close() error {
	r.zstd.Close()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Sum is the SHA-256 over the sums of the chunks that were read, and how many those are.
func (r *Reader) Sum() (sum string, chunks int) { return r.frames.sum(), r.frames.number }

// load opens the next chunk.
func (r *Reader) load() error {
	r.chunk = r.frames.number
	sealed, err := r.frames.next()
	if err != nil {
		return err
	}
	in, err := age.Decrypt(bytes.NewReader(sealed), r.identities...)
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch):
		return damaged(ErrWrongKey, r.chunk, "is not sealed to this key")
	case err != nil:
		return damaged(ErrAltered, r.chunk, "was altered: it does not open")
	}
	packed, err := io.ReadAll(in)
	if err != nil {
		return damaged(ErrAltered, r.chunk, "was altered: it does not open")
	}
	if r.plain, err = r.unpack(packed); err != nil {
		return damaged(ErrAltered, r.chunk, "is not as a gateway writes it: %v", err)
	}
	r.lines = r.plain
	if r.chunk == 0 {
		line, _ := r.cut()
		if err := r.readHeader(line); err != nil {
			return err
		}
	}
	line, _ := r.cut()
	if want := fmt.Sprintf("# sallyport %s %s %d %s", version, r.frames.session, r.chunk, r.previous); string(line) != want {
		return damaged(ErrAltered, r.chunk, "was altered: what is inside belongs elsewhere")
	}
	r.previous = fmt.Sprintf("%x", r.frames.total[len(r.frames.total)-32:])
	if r.Progress != nil {
		r.Progress(r.frames.offset)
	}
	return nil
}

// unpack undoes workspace.pack, into the memory of the chunk before.
func (r *Reader) unpack(packed []byte) ([]byte, error) {
	if !bytes.HasPrefix(packed, []byte(snappyHead)) {
		return r.zstd.DecodeAll(packed, r.plain[:0])
	}
	if r.snappy == nil {
		r.snappy = s2.NewReader(nil, s2.ReaderMaxBlockSize(64<<10)) // as Snappy's framing format has it
	}
	r.snappy.Reset(bytes.NewReader(packed))
	out := bytes.NewBuffer(r.plain[:0])
	n, err := io.Copy(out, io.LimitReader(r.snappy, maxPlain+1))
	if err == nil && n > maxPlain {
		err = fmt.Errorf("it holds more than %d bytes", maxPlain)
	}
	return out.Bytes(), err
}

func (r *Reader) cut() (line []byte, ok bool) {
	line, r.lines, ok = bytes.Cut(r.lines, []byte("\n"))
	return line, ok
}

func (r *Reader) readHeader(line []byte) error {
	var h castHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Version != 3 || h.Sallyport == nil {
		return damaged(ErrAltered, 0, "is not as a gateway writes it: its header does not fit")
	}
	f := h.Sallyport
	started, err := time.Parse(time.RFC3339Nano, f.Started)
	if err != nil || f.Session != r.frames.session {
		return damaged(ErrAltered, 0, "was altered: its header does not fit the file")
	}
	r.Header = Header{
		Session: f.Session, Person: f.Person, Account: f.Account, Target: f.Target, Rule: f.Rule, Command: h.Command, Term: h.Term.Type,
		Started: started,
	}
	r.Header.Width, r.Header.Height = size(h.Term.Cols, h.Term.Rows)
	return nil
}

// Next returns the next event. At the end of a whole recording the error is io.EOF; anything that is wrong is a *Damage.
func (r *Reader) Next() (Event, error) {
	if r.err != nil {
		return Event{}, r.err
	}
	for len(r.lines) == 0 {
		if r.err = r.load(); r.err != nil {
			return Event{}, r.err
		}
	}
	var e Event
	if e, r.err = r.event(); r.err != nil {
		return Event{}, r.err
	}
	return e, nil
}

// event reads an event and what is said of it in the lines that follow.
func (r *Reader) event() (e Event, err error) {
	line, _ := r.cut()
	micros, code, text, err := parseLine(line)
	if err != nil {
		return e, damaged(ErrAltered, r.chunk, "is not as a gateway writes it: %v", err)
	}
	r.micros += micros
	e = Event{At: time.Duration(r.micros) * time.Microsecond, Kind: Kind(code)}
	r.data = append(r.data[:0], text...)
	for more := true; more && len(r.lines) > 0; {
		if more, err = r.annotation(&e); err != nil {
			return e, damaged(ErrAltered, r.chunk, "is not as a gateway writes it: %v", err)
		}
	}
	e.Data = r.data
	switch e.Kind {
	case Output, Input, Mark, Exit:
	case Resize:
		cols, rows, ok := strings.Cut(text, "x")
		c, e1 := strconv.Atoi(cols)
		n, e2 := strconv.Atoi(rows)
		if !ok || e1 != nil || e2 != nil {
			return e, damaged(ErrAltered, r.chunk, "is not as a gateway writes it: %.40q is no size", text)
		}
		e.Cols, e.Rows = size(c, n)
	default:
		return e, damaged(ErrAltered, r.chunk, "is not as a gateway writes it: an event of kind %q", code)
	}
	return e, nil
}

// annotation takes the next line if it is of our own codes.
func (r *Reader) annotation(e *Event) (bool, error) {
	rest := r.lines
	line, _ := r.cut()
	_, code, text, err := parseLine(line)
	switch {
	case err == nil && code == codeStderr:
		e.Stderr = true
	case err == nil && code == codeBytes:
		if r.data, err = base64.StdEncoding.AppendDecode(r.data[:0], []byte(text)); err != nil {
			return false, err
		}
	default:
		r.lines = rest
		return false, nil
	}
	return true, nil
}

// maxSeconds bounds an interval: a year.
const maxSeconds = 366 * 24 * 3600

var errLine = errors.New("a line is no event")

func parseLine(line []byte) (micros int64, code byte, text string, err error) {
	var parts []json.RawMessage
	var seconds float64
	var word string
	if json.Unmarshal(line, &parts) != nil || len(parts) != 3 ||
		json.Unmarshal(parts[0], &seconds) != nil || json.Unmarshal(parts[1], &word) != nil || json.Unmarshal(parts[2], &text) != nil ||
		len(word) != 1 || word[0] >= utf8.RuneSelf || !(seconds >= 0 && seconds <= maxSeconds) {
		return 0, 0, "", errLine
	}
	return int64(math.Round(seconds * 1e6)), word[0], text, nil
}
