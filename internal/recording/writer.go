package recording

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// MaxWaiting bounds the bytes of events that wait to be sealed. As much again may be on its way to the disk.
const MaxWaiting = 4 << 20

// FlushEvery is how long an event waits at most, unless Options say otherwise: what a crash can lose.
const FlushEvery = 2 * time.Second

const (
	bulk = 768 << 10 // bytes that wait from which on they do not wait for the time
	keep = 16 << 10  // bytes of memory that a session that is quiet keeps for its next events
)

// What ends a recording before its session.
var (
	ErrLimit  = errors.New("the recording has reached its limit of size")
	ErrClosed = errors.New("the recording is closed")
)

// SpaceError says that the file system of the recordings has too little room. Create returns it, and a recording that
// runs fails with it.
type SpaceError struct {
	Dir        string
	Free, Want int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %d bytes free, and recordings want %d", e.Dir, e.Free, e.Want)
}

// Options are how recordings are made.
type Options struct {
	Dir        string   // folder of recordings; made where it is missing
	Recipients []string // public keys of the auditors, see ParseRecipients

	// Chunk is told of every chunk when it is on the disk, in order, by a goroutine of the Writer's own, so that nobody who
	// calls Output waits for it. It belongs into the audit log. An error of it fails the recording. While it waits nothing
	// else is sealed: where much is recorded, hand the record on and return. May be nil.
	Chunk func(Chunk) error

	MaxBytes int64            // of the file, 0: no limit. Beyond it the recording fails with ErrLimit
	LowWater int64            // bytes: with fewer free, Create refuses; a recording that runs fails at half of it, so that new sessions go first
	Input    bool             // whether Input is recorded, with all passwords that are typed
	Every    time.Duration    // 0: FlushEvery
	Now      func() time.Time // nil: time.Now

	free func(dir string) (int64, error) // for tests
	sync func(*os.File) error
	rush time.Duration // in which bulk must have come for time to matter more than room
}

// Header is what a recording says of its session.
type Header struct {
	Session string // letters, digits, - and _; it is the file's name
	Person  string
	Account string
	Target  string
	Rule    string
	Command string // empty: a shell
	Term    string // as TERM
	Width   int    // columns; 0: there is no terminal
	Height  int    // rows
	Started time.Time
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Writer records one session. Its methods may be called concurrently. Output, Stderr, Input, Resize and Mark only put an
// event into memory; when MaxWaiting is reached, they wait for the disk. After the first error all of them return it.
// Close must be called once, and ends it.
type Writer struct {
	opt        Options
	recipients []age.Recipient
	session    string
	path       string // below opt.Dir
	file       *os.File
	started    time.Time

	mu     sync.Mutex
	room   *sync.Cond // on mu: fill has become shorter, or nothing will be written any more
	fill   []byte     // guarded by mu: events that wait, see appendRaw
	since  time.Time  // guarded by mu: when the first of them came, by the real clock
	last   int64      // guarded by mu: microseconds of the newest
	err    error      // guarded by mu
	closed bool       // guarded by mu

	busy   bool            // guarded by mu: work runs; for ever, once the end is written
	timer  *time.Timer     // wakes work when what waits has waited for long enough
	health context.Context // ends with err
	fails  context.CancelFunc
	done   chan struct{} // closed when the end is written

	// Of work alone, and of Close after it.
	spare    []byte
	encoder  encoder
	header   []byte // line, until it is written
	offset   int64  // where the next frame goes
	number   int    // of the next chunk
	previous string // sum of the chunk before
	total    hash.Hash
	batch    []Chunk
	summary  Summary
}

// Create begins a recording, and returns when its file is durable. With too little room it returns a *SpaceError.
func Create(o Options, h Header) (*Writer, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Every <= 0 {
		o.Every = FlushEvery
	}
	if o.rush == 0 {
		o.rush = 100 * time.Millisecond
	}
	if o.free == nil {
		o.free = freeBytes
	}
	if o.sync == nil {
		o.sync = func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
	}
	recipients, err := ParseRecipients(o.Recipients)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	if !sessionName.MatchString(h.Session) {
		return nil, fmt.Errorf("recording: session %.80q cannot be the name of a file", h.Session)
	}
	if h.Started.IsZero() {
		h.Started = o.Now()
	}
	w := &Writer{
		opt: o, recipients: recipients, session: h.Session, started: h.Started, previous: "-", total: newTotal(),
		done: make(chan struct{}),
	}
	w.health, w.fails = context.WithCancel(context.Background())
	w.room = sync.NewCond(&w.mu)
	if w.header, err = h.line(); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	if err := w.open(); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	w.mu.Lock() // the timer may be over at once
	defer w.mu.Unlock()
	w.since = time.Now()
	w.timer = time.AfterFunc(o.Every, w.due)
	return w, nil
}

func (w *Writer) open() error {
	day := w.started.UTC().Format("2006/01/02")
	dir := filepath.Join(w.opt.Dir, day)
	if err := makeFolders(w.opt.Dir, dir); err != nil {
		return err
	}
	if err := w.checkSpace(w.opt.LowWater); err != nil {
		return err
	}
	w.path = filepath.Join(day, w.session+".rec")
	f, err := os.OpenFile(filepath.Join(w.opt.Dir, w.path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s %s %s %d\n", magic, version, w.session, len(w.recipients))
	_, err = f.WriteString(line)
	if err = errors.Join(err, w.opt.sync(f), syncFolder(dir)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	w.file, w.offset = f, int64(len(line))
	return nil
}

// makeFolders makes dir durably. Root may be there with another mode; what is made below it is its owner's alone.
func makeFolders(root, dir string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	below, err := filepath.Rel(root, dir)
	if err != nil {
		return err
	}
	at := root
	for _, name := range splitPath(below) {
		parent := at
		at = filepath.Join(at, name)
		switch err := os.Mkdir(at, 0o700); {
		case errors.Is(err, os.ErrExist):
		case err != nil:
			return err
		default:
			if err := syncFolder(parent); err != nil {
				return err
			}
		}
	}
	return nil
}

func splitPath(path string) (names []string) {
	for path != "." && path != "" {
		dir, name := filepath.Split(path)
		names = append([]string{name}, names...)
		path = filepath.Clean(dir)
	}
	return names
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func (w *Writer) checkSpace(want int64) error {
	if want <= 0 {
		return nil
	}
	free, err := w.opt.free(w.opt.Dir)
	if err != nil {
		return err
	}
	if free < want {
		return &SpaceError{Dir: w.opt.Dir, Free: free, Want: want}
	}
	return nil
}

// Path is the file's, below Options.Dir.
func (w *Writer) Path() string { return w.path }

// Failed is closed when the recording has failed. A session that must be recorded ends then (P10).
func (w *Writer) Failed() <-chan struct{} { return w.health.Done() }

// AfterFailure calls f in a goroutine of its own when the recording has failed, as context.AfterFunc does.
func (w *Writer) AfterFailure(f func()) (stop func() bool) { return context.AfterFunc(w.health, f) }

// Err is why the recording failed, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Output records what the person saw.
func (w *Writer) Output(p []byte) error { return w.add(codeOutput, p) }

// Stderr records what came on standard error.
func (w *Writer) Stderr(p []byte) error { return w.add(codeStderr, p) }

// Input records what the person typed, where Options.Input says so, and else drops it.
func (w *Writer) Input(p []byte) error {
	if !w.opt.Input {
		return w.Err()
	}
	return w.add(codeInput, p)
}

// Resize records that the terminal has another size.
func (w *Writer) Resize(cols, rows int) error {
	cols, rows = size(cols, rows)
	var text [16]byte
	return w.add(codeResize, strconv.AppendInt(append(strconv.AppendInt(text[:0], int64(cols), 10), 'x'), int64(rows), 10))
}

// Mark records a remark, such as that a transfer began. It is cut at 16 KiB.
func (w *Writer) Mark(text string) error {
	return w.add(codeMark, []byte(text[:min(len(text), maxPiece)]))
}

// add puts an event into memory, in pieces.
func (w *Writer) add(kind byte, p []byte) error {
	if len(p) == 0 {
		return w.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		p = p[len(piece):]
		for w.err == nil && !w.closed && len(w.fill)+rawHead+len(piece) > MaxWaiting {
			w.room.Wait()
		}
		if w.err != nil {
			return w.err
		}
		if w.closed {
			return ErrClosed
		}
		w.put(kind, piece)
	}
	return nil
}

// put needs mu.
func (w *Writer) put(kind byte, piece []byte) {
	before := len(w.fill)
	w.last = max(w.last, w.opt.Now().Sub(w.started).Microseconds())
	w.fill = appendRaw(w.fill, kind, w.last, piece)
	if before == 0 {
		w.since = time.Now()
		w.timer.Reset(w.opt.Every)
	}
	if before < bulk && len(w.fill) >= bulk {
		w.wake()
	}
}

// wake lets work begin, unless it is under way. It needs mu.
func (w *Writer) wake() {
	if !w.busy {
		w.busy = true
		go w.work()
	}
}

func (w *Writer) due() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake()
}

// Close records the exit status, unless that is empty, and ends the recording: when it returns, all is on the disk and
// Options.Chunk was told. The error is that with which the recording failed, if it did; the Summary holds in any case.
func (w *Writer) Close(exit string) (Summary, error) {
	w.mu.Lock()
	if !w.closed {
		if w.err == nil && exit != "" { // also where MaxWaiting is reached
			w.put(codeExit, []byte(exit[:min(len(exit), maxPiece)]))
		}
		w.closed = true
		w.room.Broadcast()
		w.wake()
	}
	w.mu.Unlock()
	<-w.done
	return w.summary, w.Err()
}

// fail keeps the first error, and lets go who waits.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("recording: %w", err)
		w.fill = nil
		w.fails()
	}
	w.room.Broadcast()
}

// work seals what is due, and writes the end when that has come. A session that is quiet has no goroutine for it.
func (w *Writer) work() {
	for {
		raw, ready, closing, hurry := w.take()
		if !ready {
			return
		}
		err := w.seal(raw, len(raw) < bulk || closing, hurry)
		if err != nil {
			w.stop(err)
		}
		if err != nil || closing {
			w.timer.Stop()
			w.end()
			close(w.done)
			return
		}
		w.giveBack(raw)
	}
}

// take takes all that waits, if it has waited long enough or is much; hurry tells that it came fast. Else work is over, until it is
// woken.
func (w *Writer) take() (raw []byte, ready, closing, hurry bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := len(w.fill) > 0 || w.number == 0
	waited := time.Since(w.since)
	left := w.opt.Every - waited
	if !w.closed && len(w.fill) < bulk && (!waits || left > 0) {
		if w.busy = false; waits {
			w.timer.Reset(left)
		}
		return nil, false, false, false
	}
	raw = w.fill
	w.fill, w.spare = w.spare[:0], nil
	w.room.Broadcast()
	return raw, true, w.closed, len(raw) >= bulk && waited*bulk/time.Duration(len(raw)) < w.opt.rush
}

// giveBack keeps the memory of a batch for the next one, or little of it when the session is quiet.
func (w *Writer) giveBack(raw []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fill) == 0 && cap(w.fill) > keep {
		w.fill = nil
	}
	if len(raw) < bulk && cap(raw) > keep {
		raw = nil
	}
	w.spare = raw
}

// stop ends the recording with an error. Where the disk is well, the file says so at its end.
func (w *Writer) stop(err error) {
	var space *SpaceError
	if !errors.Is(err, ErrLimit) && !errors.As(err, &space) {
		w.summary.State = Failed
		w.fail(err)
		return
	}
	w.summary.State = Stopped
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	w.opt.MaxBytes, w.opt.LowWater = 0, 0
	note := appendRaw(nil, codeMark, last, []byte("the recording ends here: "+err.Error()))
	if e := w.seal(note, true, false); e != nil {
		w.summary.State = Failed
		err = errors.Join(err, e)
	}
	w.fail(err)
}

// end writes the end, unless the file ends in something worse, and sums up.
func (w *Writer) end() {
	if w.summary.State == "" {
		w.summary.State = Complete
	}
	if w.summary.State != Failed {
		n, err := w.file.Write(make([]byte, frameHead))
		w.offset += int64(n)
		if err = errors.Join(err, w.opt.sync(w.file)); err != nil {
			w.summary.State = Failed
			w.fail(err)
		}
	}
	if err := w.file.Close(); err != nil && w.summary.State == Complete {
		w.summary.State = Failed
		w.fail(err)
	}
	w.summary.Path, w.summary.Bytes = w.path, w.offset
	w.summary.SHA256 = fmt.Sprintf("%x", w.total.Sum(nil))
}
