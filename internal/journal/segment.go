package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	version          = 1
	versionRewritten = 2
	segmentMagic     = "SALLYJNL"
	segmentHeader    = 40
	rewrittenHeader  = 56
	frameHeader      = 20
	segmentSuffix    = ".seg"
	snapshotSuffix   = ".snap"
	unfinished       = ".tmp"
	indexDigits      = 20
	readBufferBytes  = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Damage is a finding about a file that is not what the journal wrote.
type Damage struct {
	File   string // its name in the journal's folder
	Offset int64  // the byte at which the broken part begins
	What   string
	// Entry is the first entry that is touched; NoEntry where the damage is to none, or it is not known.
	Entry int64
	// Tail is true when nothing durable follows: the bytes may be those of a write that a crash, or a writer at
	// work, has not finished.
	Tail bool
}

// NoEntry is the Entry of a Damage that is to no entry.
const NoEntry = -1

func (d *Damage) Error() string {
	return fmt.Sprintf("journal: %s at byte %d: %s", d.File, d.Offset, d.What)
}

// segment is one file. Its size is that of its whole, durable frames.
type segment struct {
	first uint64
	size  int64
	prev  uint64 // first of the segment before
	sized int64  // size of the segment before, when that was finished
	was   int64  // own size when it was finished, of a segment that was rewritten since; 0: it was not
}

// start is where its first frame stands.
func (s segment) start() int64 {
	if s.was > 0 {
		return rewrittenHeader
	}
	return segmentHeader
}

// finished is its size when it was finished, which the segment after it knows.
func (s segment) finished() int64 {
	if s.was > 0 {
		return s.was
	}
	return s.size
}

func segmentName(first uint64) string {
	return fmt.Sprintf("%0*d%s", indexDigits, first, segmentSuffix)
}

// indexedName splits a name that this package makes; ok is false for any other spelling of the number.
func indexedName(name, suffix string) (index uint64, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) != indexDigits {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil
}

func (s segment) appendHeader(b []byte) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	if s.was > 0 {
		b = binary.LittleEndian.AppendUint32(b, versionRewritten)
	} else {
		b = binary.LittleEndian.AppendUint32(b, version)
	}
	b = binary.LittleEndian.AppendUint64(b, s.first)
	b = binary.LittleEndian.AppendUint64(b, s.prev)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.sized))
	if s.was > 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.was))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.size))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseHeader is the only reader of a segment's header. what is empty if it is right.
func parseHeader(b []byte) (s segment, what string) {
	if len(b) < segmentHeader {
		return s, fmt.Sprintf("header has %d of %d bytes", len(b), segmentHeader)
	}
	if string(b[:8]) != segmentMagic {
		return s, "header does not begin with " + segmentMagic
	}
	v := binary.LittleEndian.Uint32(b[8:])
	size := segmentHeader
	if v == versionRewritten {
		if size = rewrittenHeader; len(b) < size {
			return s, fmt.Sprintf("header has %d of %d bytes", len(b), size)
		}
	}
	if b = b[:size]; crc32.Checksum(b[:size-4], castagnoli) != binary.LittleEndian.Uint32(b[size-4:]) {
		return s, "header checksum is wrong"
	}
	if v != version && v != versionRewritten {
		return s, fmt.Sprintf("version %d is not known to this program, which reads %d and %d", v, version, versionRewritten)
	}
	s.first = binary.LittleEndian.Uint64(b[12:])
	s.prev = binary.LittleEndian.Uint64(b[20:])
	s.sized = int64(binary.LittleEndian.Uint64(b[28:]))
	if v == versionRewritten {
		s.was = int64(binary.LittleEndian.Uint64(b[36:]))
		s.size = int64(binary.LittleEndian.Uint64(b[44:]))
		if s.was < segmentHeader || s.size < rewrittenHeader {
			return s, fmt.Sprintf("header says that it had %d bytes, and %d since it was rewritten", s.was, s.size)
		}
	}
	return s, ""
}

// listSegments reads the folder and every segment's header, and checks that each continues the one before. The
// size of the last is that of the file. Segments with a bad header are left out and are in the problems.
func listSegments(dir string) ([]segment, []error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, []error{fmt.Errorf("list journal: %w", err)}
	}
	var segments []segment
	var problems []error
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), segmentSuffix) {
			continue
		}
		s, err := readSegmentHeader(dir, n.Name())
		if err != nil {
			problems = append(problems, err)
			continue
		}
		segments = append(segments, s)
	}
	slices.SortFunc(segments, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i, s := range segments {
		var before segment
		if i > 0 {
			before = segments[i-1]
		}
		switch {
		case i == 0 && (s.first != 0 || s.prev != 0 || s.sized != 0):
			problems = append(problems, &Damage{
				File: segmentName(s.first), Entry: 0,
				What: fmt.Sprintf("segments with the entries before %d are missing", s.first),
			})
		case i > 0 && s.prev != before.first:
			problems = append(problems, &Damage{
				File: segmentName(s.first), Entry: int64(s.first),
				What: fmt.Sprintf("follows %s, but that should be %s: a segment is missing or too many",
					segmentName(before.first), segmentName(s.prev)),
			})
		case i > 0 && s.sized != before.finished():
			problems = append(problems, &Damage{
				File: segmentName(before.first), Offset: min(s.sized, before.finished()), Entry: int64(before.first),
				What: fmt.Sprintf("has %d bytes, but had %d when it was finished", before.finished(), s.sized),
			})
		}
	}
	if n := len(segments); n > 0 && segments[n-1].was > 0 {
		problems = append(problems, &Damage{
			File: segmentName(segments[n-1].first), Entry: NoEntry, What: "was finished and rewritten, but no segment follows it: those after it are missing",
		})
	}
	return segments, problems
}

func readSegmentHeader(dir, name string) (segment, error) {
	first, ok := indexedName(name, segmentSuffix)
	if !ok {
		return segment{}, &Damage{File: name, Entry: NoEntry, What: "name is not that of a segment"}
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return segment{}, fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	return headerOf(f, first)
}

// headerOf reads the header of the segment with that first entry, and the file's size.
func headerOf(f *os.File, first uint64) (segment, error) {
	name := segmentName(first)
	var b [rewrittenHeader]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return segment{}, fmt.Errorf("read %s: %w", name, err)
	}
	s, what := parseHeader(b[:n])
	if what == "" && s.first != first {
		what = fmt.Sprintf("header says that it begins with entry %d", s.first)
	}
	if what != "" {
		return segment{}, &Damage{File: name, Entry: int64(first), What: what}
	}
	info, err := f.Stat()
	if err != nil {
		return segment{}, fmt.Errorf("stat %s: %w", name, err)
	}
	if s.was > 0 && s.size != info.Size() {
		return segment{}, &Damage{
			File: name, Offset: min(s.size, info.Size()), Entry: int64(first),
			What: fmt.Sprintf("has %d bytes, but had %d when it was rewritten", info.Size(), s.size),
		}
	}
	s.size = info.Size()
	return s, nil
}

// removeUnfinished removes the segments and snapshots that a crash left in the making.
func removeUnfinished(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	for _, n := range names {
		whole, ok := strings.CutSuffix(n.Name(), unfinished)
		if !ok {
			continue
		}
		_, seg := indexedName(whole, segmentSuffix)
		_, snap := indexedName(whole, snapshotSuffix)
		if !seg && !snap {
			continue
		}
		if err := os.Remove(filepath.Join(dir, n.Name())); err != nil {
			return fmt.Errorf("remove unfinished file: %w", err)
		}
	}
	return nil
}

// A frame is one entry as it stands in a segment.
type frame struct {
	index   uint64
	place   uint32 // in its batch
	payload []byte
}

// batch is the index of the first entry of the frame's batch.
func (f frame) batch() uint64 { return f.index - uint64(f.place) }

func (f frame) size() int64 { return frameHeader + int64(len(f.payload)) }

// frameSize is the size that the frame's header tells; ok is false without a header or with one that cannot be.
func frameSize(b []byte) (n int, ok bool) {
	if len(b) < frameHeader {
		return 0, false
	}
	length := binary.LittleEndian.Uint32(b)
	return frameHeader + int(length), length <= MaxPayload
}

// sealFrame fills in the header of the frame that b is, payload included.
func sealFrame(b []byte, index uint64, place uint32) {
	binary.LittleEndian.PutUint32(b[0:], uint32(len(b)-frameHeader))
	binary.LittleEndian.PutUint64(b[4:], index)
	binary.LittleEndian.PutUint32(b[12:], place)
	binary.LittleEndian.PutUint32(b[16:], frameSum(b))
}

func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, b[frameHeader:])
}

// parseFrame reads the frame at the start of b. The payload is a part of b. what is empty if the frame is whole.
func parseFrame(b []byte) (f frame, what string) {
	if len(b) < frameHeader {
		return f, fmt.Sprintf("frame header has %d of %d bytes", len(b), frameHeader)
	}
	length := binary.LittleEndian.Uint32(b)
	if length > MaxPayload {
		return f, fmt.Sprintf("frame length %d is above %d", length, MaxPayload)
	}
	if uint64(len(b)-frameHeader) < uint64(length) {
		return f, fmt.Sprintf("frame of %d bytes has %d", frameHeader+length, len(b))
	}
	b = b[:frameHeader+length]
	if frameSum(b) != binary.LittleEndian.Uint32(b[16:]) {
		return f, "frame checksum is wrong"
	}
	f.index = binary.LittleEndian.Uint64(b[4:])
	f.place = binary.LittleEndian.Uint32(b[12:])
	if uint64(f.place) > f.index {
		return f, fmt.Sprintf("entry %d claims place %d in its batch", f.index, f.place)
	}
	f.payload = b[frameHeader:]
	return f, ""
}

// frameReader reads the frames of one segment in order.
type frameReader struct {
	src   io.ReaderAt
	off   int64  // of the next frame
	limit int64  // of the bytes to read
	index uint64 // of the next frame
	place uint32 // of the next frame if it does not begin a batch

	buf   []byte // the bytes from bufAt
	bufAt int64
}

func newFrameReader(src io.ReaderAt, s segment) *frameReader {
	return &frameReader{src: src, off: s.start(), limit: s.size, index: s.first, bufAt: s.start()}
}

// peek returns the n bytes at off, or fewer at the limit or the end of the file.
func (r *frameReader) peek(n int) ([]byte, error) {
	n = int(min(int64(n), r.limit-r.off))
	have := r.bufAt + int64(len(r.buf)) - r.off
	if int64(n) > have {
		want := int(min(int64(max(n, readBufferBytes)), r.limit-r.off))
		if cap(r.buf) < want {
			grown := make([]byte, 0, max(want, readBufferBytes))
			r.buf = append(grown, r.buf[r.off-r.bufAt:]...)
		} else {
			r.buf = append(r.buf[:0], r.buf[r.off-r.bufAt:]...)
		}
		r.bufAt = r.off
		got, err := r.src.ReadAt(r.buf[len(r.buf):want], r.off+int64(len(r.buf)))
		r.buf = r.buf[:len(r.buf)+got]
		if errors.Is(err, io.EOF) {
			r.limit = r.bufAt + int64(len(r.buf)) // the writer has given its reserve back
		} else if err != nil {
			return nil, fmt.Errorf("read segment at byte %d: %w", r.bufAt, err)
		}
	}
	b := r.buf[r.off-r.bufAt:]
	return b[:min(n, len(b))], nil
}

// next returns the next frame, whose payload is valid until the next call. At the end it returns io.EOF; what is
// set, and the reader stays where it is, when the bytes there are not the frame that must come.
func (r *frameReader) next() (f frame, what string, err error) {
	head, err := r.peek(frameHeader)
	if err != nil {
		return f, "", err
	}
	if len(head) == 0 {
		return f, "", io.EOF
	}
	b := head
	if size, ok := frameSize(head); ok {
		if b, err = r.peek(size); err != nil {
			return f, "", err
		}
	}
	f, what = parseFrame(b)
	switch {
	case what != "":
		return f, fmt.Sprintf("entry %d: %s", r.index, what), nil
	case f.index != r.index:
		return f, fmt.Sprintf("entry %d stands where entry %d must", f.index, r.index), nil
	case f.place != 0 && f.place != r.place:
		return f, fmt.Sprintf("entry %d has place %d in its batch, not 0 or %d", f.index, f.place, r.place), nil
	}
	r.off += f.size()
	r.index++
	r.place = f.place + 1
	return f, "", nil
}

// tail is where a last segment ends.
type tail struct {
	end  int64  // of the last whole frame
	next uint64 // index of the next entry
	torn int64  // bytes from end to the last that is not zero: an unfinished write
	what string // what is wrong with the frame at end, when torn > 0
}

// scanTail reads a last segment, calling fn for each frame if fn is not nil, and judges what stands behind the
// last whole frame. Damage that is not at the tail is the error.
func scanTail(src io.ReaderAt, s segment, fn func(frame, int64) error) (tail, error) {
	r := newFrameReader(src, s)
	for {
		at := r.off
		f, what, err := r.next()
		if err == io.EOF {
			return tail{end: at, next: r.index}, nil
		}
		if err != nil {
			return tail{}, err
		}
		if what == "" {
			if fn != nil {
				if err := fn(f, at); err != nil {
					return tail{}, err
				}
			}
			continue
		}
		t := tail{end: at, next: r.index, what: what}
		later, err := r.judge(&t)
		if err != nil {
			return tail{}, err
		}
		if !later {
			return t, nil
		}
		// A whole frame of a later batch follows, so this one was whole before that was written. If it is so
		// now, a writer was at work between the two looks.
		r.buf, r.bufAt = r.buf[:0], r.off
		if f, again, err := r.next(); err != nil || again != "" {
			if err != nil && err != io.EOF {
				return tail{}, err
			}
			return t, &Damage{File: segmentName(s.first), Offset: at, Entry: int64(t.next), What: what + ", and later entries follow"}
		} else if fn != nil {
			if err := fn(f, at); err != nil {
				return tail{}, err
			}
		}
	}
}

// judge looks at what follows the frame at r.off that is not whole: later is true when a whole frame of a later
// batch is among it; otherwise t.torn is filled in.
func (r *frameReader) judge(t *tail) (later bool, err error) {
	rest := make([]byte, r.limit-r.off)
	n, err := r.src.ReadAt(rest, r.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read segment at byte %d: %w", r.off, err)
	}
	rest = rest[:n]
	for len(rest) > 0 && rest[len(rest)-1] == 0 {
		rest = rest[:len(rest)-1]
	}
	t.torn = int64(len(rest))
	// Zeros may be the end of a frame, so frames are looked for in all that was read.
	all := rest[:n]
	for at := 1; at < len(rest); at++ {
		if len(all)-at < frameHeader {
			break
		}
		// The index tells nearly every place that is not a frame before its checksum is computed.
		index := binary.LittleEndian.Uint64(all[at+4:])
		if index <= r.index || index-r.index > uint64(n/frameHeader) {
			continue
		}
		if f, what := parseFrame(all[at:]); what == "" && f.batch() > r.index {
			return true, nil
		}
	}
	return false, nil
}
