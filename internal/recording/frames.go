package recording

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// What can be wrong with a recording. A *Damage says where, and unwraps to one of these.
var (
	ErrNotRecording = errors.New("no recording")
	ErrTruncated    = errors.New("truncated")
	ErrUnfinished   = errors.New("unfinished") // whole chunks, and no end: the session still runs, or the gateway broke off
	ErrTailMissing  = errors.New("tail missing")
	ErrAltered      = errors.New("altered")
	ErrUnrecorded   = errors.New("not on record") // chunks that the audit log does not have
	ErrWrongKey     = errors.New("wrong key")
)

// Damage is what is wrong with a recording, and from which chunk on.
type Damage struct {
	Chunk int // -1: the file's first line
	What  string
	kind  error
}

func (d *Damage) Error() string {
	if d.Chunk < 0 {
		return d.What
	}
	return fmt.Sprintf("chunk %d %s", d.Chunk, d.What)
}

func (d *Damage) Unwrap() error { return d.kind }

func damaged(kind error, chunk int, format string, args ...any) error {
	return &Damage{chunk, fmt.Sprintf(format, args...), kind}
}

// maxFirstLine bounds the plain line at the start.
const maxFirstLine = 128

var firstLine = regexp.MustCompile(`^` + magic + ` ([0-9]+) ([A-Za-z0-9_-]{1,64}) ([0-9]{1,4})\n`)

// frames reads the frames of a file one by one.
type frames struct {
	file    io.ReaderAt
	session string
	offset  int64 // of what comes next
	number  int   // of the frame that comes next
	known   []Chunk
	strict  bool         // known is all that there is
	wait    func() error // at the end of what is there: returns when there may be more. nil: it is the end
	total   []byte       // sums of all frames
	buf     []byte
}

func newFrames(file io.ReaderAt) (*frames, error) {
	head := make([]byte, maxFirstLine)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m := firstLine.FindSubmatch(head[:n])
	if m == nil {
		return nil, damaged(ErrNotRecording, -1, "it is no recording of Sallyport")
	}
	if string(m[1]) != version {
		return nil, damaged(ErrNotRecording, -1, "it is of version %s, and this program reads version %s", m[1], version)
	}
	return &frames{file: file, session: string(m[2]), offset: int64(len(m[0]))}, nil
}

// fill reads all of p at the present offset; short tells how much there is where that is less.
func (f *frames) fill(p []byte, ahead int64) (n int, err error) {
	for {
		m, err := f.file.ReadAt(p[n:], f.offset+ahead+int64(n))
		n += m
		if n == len(p) {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if f.wait == nil {
			return n, nil
		}
		if err := f.wait(); err != nil {
			return n, err
		}
	}
}

// next returns the next age file, which is good until the next call. io.EOF says that the recording is over, and was whole.
func (f *frames) next() ([]byte, error) {
	var head [frameHead]byte
	n, err := f.fill(head[:], 0)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		if f.strict && f.number < len(f.known) {
			return nil, f.tailMissing()
		}
		return nil, damaged(ErrUnfinished, f.number, "and the end are not there: the session still runs, or its recording broke off")
	case n < frameHead:
		return nil, f.torn()
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 {
		return nil, f.end()
	}
	if length > maxFrame {
		return nil, damaged(ErrAltered, f.number, "was altered: a length of %d bytes cannot be", length)
	}
	if uint32(cap(f.buf)) < length {
		f.buf = make([]byte, length)
	}
	sealed := f.buf[:length]
	if n, err := f.fill(sealed, frameHead); err != nil {
		return nil, err
	} else if n < len(sealed) {
		return nil, f.torn()
	}
	sum := sha256.Sum256(sealed)
	if err := f.compare(sum[:], int64(length)); err != nil {
		return nil, err
	}
	f.total = append(f.total, sum[:]...)
	f.offset += frameHead + int64(length)
	f.number++
	return sealed, nil
}

// compare holds a frame against the audit log.
func (f *frames) compare(sum []byte, length int64) error {
	if f.number >= len(f.known) {
		if f.strict {
			return damaged(ErrUnrecorded, f.number, "is not on record in the audit log")
		}
		return nil
	}
	c := f.known[f.number]
	if c.SHA256 != hex.EncodeToString(sum) || c.Length != length || c.Offset != f.offset+frameHead {
		return damaged(ErrAltered, f.number, "was altered: it is not the one that the audit log has")
	}
	return nil
}

func (f *frames) tailMissing() error {
	if last := len(f.known) - 1; last > f.number {
		return damaged(ErrTailMissing, f.number, "to %d are missing: the audit log has them, and the file ends before", last)
	}
	return damaged(ErrTailMissing, f.number, "is missing: the audit log has it, and the file ends before")
}

// torn is where the file ends within a frame: a crash leaves that, or somebody who cuts.
func (f *frames) torn() error {
	if f.number < len(f.known) {
		return damaged(ErrTailMissing, f.number, "is cut off within, and the audit log has it whole: the tail is missing")
	}
	return damaged(ErrTruncated, f.number, "is cut off: the file ends within it")
}

func (f *frames) end() error {
	if f.number < len(f.known) {
		return f.tailMissing()
	}
	var one [1]byte
	if n, err := f.file.ReadAt(one[:], f.offset+frameHead); n > 0 {
		return damaged(ErrAltered, f.number, "was altered: something follows the end of the recording")
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}

// sum is the SHA-256 over the sums of all frames that were read.
func (f *frames) sum() string { return fmt.Sprintf("%x", sha256.Sum256(f.total)) }

// Known is what the audit log says of a recording.
type Known struct {
	Session string
	Chunks  []Chunk // in the order of their numbers
	Ended   bool    // there is a record of the session's end, with the following
	Count   int     // of chunks
	SHA256  string
	State   State
}

// Report is what Verify found.
type Report struct {
	Session string
	Chunks  int   // that are whole, and on record
	Bytes   int64 // up to the end of them
	Ended   bool  // the file has its end
	Running bool  // neither file nor log has an end
}

// check finds what is wrong with the log's own account: its chunks must be without gaps, and be those that the end sums up.
func (k *Known) check() error {
	var sums bytes.Buffer
	for i, c := range k.Chunks {
		if c.Number != i {
			return damaged(ErrAltered, i, "is not in the audit log, and chunk %d is", c.Number)
		}
		sum, err := hex.DecodeString(c.SHA256)
		if err != nil {
			return damaged(ErrAltered, i, "has no sum in the audit log")
		}
		sums.Write(sum)
	}
	if !k.Ended {
		return nil
	}
	if k.Count != len(k.Chunks) {
		return damaged(ErrAltered, min(k.Count, len(k.Chunks)), "does not fit: the audit log has %d chunks, and the record of the session's end says %d", len(k.Chunks), k.Count)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(sums.Bytes())); got != k.SHA256 {
		return damaged(ErrAltered, max(0, len(k.Chunks)-1), "does not fit: the sums in the audit log are not those of the record of the session's end")
	}
	return nil
}

// Verify compares a file with the audit log. It needs no key. The error is a *Damage, which unwraps to ErrUnfinished when all
// that is there is right and the recording is not over, or when a recording broke off that the log too knows as broken off.
func Verify(path string, k Known) (Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return Report{}, err
	}
	defer file.Close()
	f, err := newFrames(file)
	if err != nil {
		return Report{}, err
	}
	if f.session != k.Session {
		return Report{Session: f.session}, damaged(ErrAltered, -1, "it is the recording of session %s", f.session)
	}
	if err := k.check(); err != nil {
		return Report{Session: f.session}, err
	}
	f.known, f.strict = k.Chunks, true
	for err == nil {
		_, err = f.next()
	}
	r := Report{Session: f.session, Chunks: f.number, Bytes: f.offset}
	unrecorded := errors.Is(err, ErrUnrecorded) || errors.Is(err, ErrTruncated)
	switch {
	case errors.Is(err, io.EOF):
		r.Ended = true
		return r, nil
	case unrecorded && !k.Ended:
		// A chunk is on the disk before it is on record, and a frame is half there while it is written.
		r.Running = true
		return r, damaged(ErrUnfinished, f.number, "and what may follow are not on record yet")
	case errors.Is(err, ErrUnfinished) && !k.Ended:
		r.Running = true
	case errors.Is(err, ErrUnfinished) && k.State == Complete:
		return r, damaged(ErrTailMissing, f.number, "was to be the end, which is missing")
	}
	return r, err
}
