package siem

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"sallyport/internal/audit"
)

// Bounds of one receiver's forwarding.
const (
	// Window is how many records may be ahead of the cursor: with the overlap, what a break can repeat.
	Window = 20_000
	// DefaultOverlap is how many records before the cursor are sent again after a break.
	DefaultOverlap = 1000
	// MaxOverlap keeps a setting from repeating the whole log at each break.
	MaxOverlap = 1_000_000

	// settle is how long a connection must stay well after the receiver's kernel has acknowledged a record before the cursor
	// moves over it: a receiver that is alive has read it by then.
	settle = time.Second
	// look is how often what was acknowledged is looked at.
	look = 250 * time.Millisecond
	// saveEvery bounds how often the cursor is written to the store.
	saveEvery = time.Second

	buffer     = 64 << 10
	firstPause = time.Second // between tries
	maxPause   = time.Minute
)

// Log is what is forwarded. *audit.Log is one.
type Log interface {
	Next() uint64
	Follow(ctx context.Context, from uint64, fn func(*audit.Record) error) error
}

// Cursors keep how far a receiver is, durably: a cursor that SetCursor has set is found after a crash. They are called by one
// goroutine a receiver.
type Cursors interface {
	Cursor(ctx context.Context, name string) (next uint64, known bool, err error)
	SetCursor(ctx context.Context, name string, next uint64) error
}

// Options are one receiver.
type Options struct {
	Name     string      // of its cursor, too
	Node     string      // this gateway, as in the records
	Address  string      // host:port
	TLS      *tls.Config // nil: TCP without it
	Encoding Encoding
	Start    bool // where there is no cursor yet: begin with the first record, not with the next one
	Overlap  int  // records that are repeated after a break; negative: none

	Log     Log
	Cursors Cursors
	Now     func() time.Time
	Slog    *slog.Logger
	Timeout time.Duration // of connecting, and of each write; 0: 30 s

	settle time.Duration // 0: settle
}

// Standing is how forwarding to one receiver goes.
type Standing struct {
	Name       string    `json:"name"`
	Address    string    `json:"address"`
	Connected  bool      `json:"connected"`
	Error      string    `json:"error,omitempty"`     // of the last failure, while it is not connected
	Since      time.Time `json:"since,omitzero"`      // of this state
	Cursor     uint64    `json:"cursor"`              // the first record that the receiver may lack
	Lag        uint64    `json:"lag_records"`         // from there to the log's end
	LagSeconds float64   `json:"lag_seconds"`         // age of the record at the cursor
	Sent       uint64    `json:"sent_total"`          // records written to connections, repeated ones too
	Failures   uint64    `json:"failures_total"`      // connections that failed or broke
	Repeated   uint64    `json:"repeated_total"`      // of Sent: records that were sent before
	Bytes      uint64    `json:"bytes_total"`         // handed to connections
	Checkpoint uint64    `json:"checkpoint,omitzero"` // size of the last checkpoint that was sent
}

// Forwarder sends the log to one receiver. The order of calls is New, Run once; Standing and Offer at any time.
type Forwarder struct {
	o       Options
	encoder *Encoder // of run

	mu         sync.Mutex
	connected  bool
	failure    string
	since      time.Time
	cursor     uint64
	counters   struct{ sent, failures, repeated, bytes uint64 }
	checkpoint struct {
		note       string // waits for its records to be sent; empty: none does
		size, sent uint64
	}
	aged struct { // the age of the record at a cursor, once it was read
		seq uint64
		at  time.Time
	}
}

// New makes a Forwarder, or says what of the options is wrong.
func New(o Options) (*Forwarder, error) {
	if o.Overlap < 0 {
		o.Overlap = 0
	}
	if o.Overlap > MaxOverlap {
		return nil, fmt.Errorf("syslog receiver %s: an overlap of %d records is more than %d", o.Name, o.Overlap, MaxOverlap)
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.settle == 0 {
		o.settle = settle
	}
	if o.Slog == nil {
		o.Slog = slog.New(slog.DiscardHandler)
	}
	e, err := NewEncoder(o.Encoding)
	if err != nil {
		return nil, fmt.Errorf("syslog receiver %s: %w", o.Name, err)
	}
	return &Forwarder{o: o, encoder: e, since: o.Now()}, nil
}

// CursorName is the name under which a receiver's cursor is kept.
func CursorName(receiver string) string { return "syslog:" + receiver }

// Run forwards until ctx ends, which is no error. It fails only where the store or the log does.
func (f *Forwarder) Run(ctx context.Context) error {
	if err := f.begin(ctx); err != nil {
		return fmt.Errorf("syslog receiver %s: %w", f.o.Name, err)
	}
	pause := firstPause
	for again := false; ctx.Err() == nil; again = again || f.sent() {
		was := f.at()
		err := f.session(ctx, again)
		var fatal fatalError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fatal):
			return fmt.Errorf("syslog receiver %s: %w", f.o.Name, err)
		}
		f.down(err)
		if f.at() > was { // it got on: this is a new break
			pause = firstPause
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
		pause = min(2*pause, maxPause)
	}
	return nil
}

// fatalError is one that another connection would not mend.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// begin finds the cursor.
func (f *Forwarder) begin(ctx context.Context) error {
	next, known, err := f.o.Cursors.Cursor(ctx, CursorName(f.o.Name))
	if err != nil {
		return err
	}
	end := f.o.Log.Next()
	switch {
	case !known && !f.o.Start:
		next = end
	case next > end: // the log is an older copy
		f.o.Slog.Warn("the receiver has more records than the log: it goes on at the log's end", "receiver", f.o.Name, "cursor", next, "log", end)
		next = end
	}
	f.mu.Lock()
	f.cursor = next
	f.mu.Unlock()
	return f.o.Cursors.SetCursor(ctx, CursorName(f.o.Name), next)
}

// sent tells whether anything was sent since the start. What a process before this one sent, and had acknowledged, is the
// receiver's whatever became of the sender.
func (f *Forwarder) sent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counters.sent > 0
}

func (f *Forwarder) at() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cursor
}

func (f *Forwarder) down(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.connected || f.failure == "" {
		f.since = f.o.Now()
		f.o.Slog.Warn("records do not get to the receiver; they wait in the log", "receiver", f.o.Name, "address", f.o.Address, "error", err)
	}
	f.connected = false
	f.failure = err.Error()
	f.counters.failures++
}

func (f *Forwarder) up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected, f.failure, f.since = true, "", f.o.Now()
	f.o.Slog.Info("records go to the receiver", "receiver", f.o.Name, "address", f.o.Address, "from", f.cursor)
}

// Offer gives a checkpoint to send, once the records that it signs are sent. A later one takes the place of one that waits.
func (f *Forwarder) Offer(size uint64, note string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size >= f.checkpoint.size && size != f.checkpoint.sent {
		f.checkpoint.note, f.checkpoint.size = note, size
	}
}

// due takes the checkpoint that waits, if all its records below handed are sent.
func (f *Forwarder) due(handed uint64) (size uint64, note string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &f.checkpoint
	if c.note == "" || c.size > handed {
		return 0, ""
	}
	size, note = c.size, c.note
	c.note, c.sent = "", c.size
	return size, note
}

// Standing tells how it goes.
func (f *Forwarder) Standing(ctx context.Context) Standing {
	f.mu.Lock()
	s := Standing{
		Name: f.o.Name, Address: f.o.Address, Connected: f.connected, Error: f.failure, Since: f.since, Cursor: f.cursor,
		Sent: f.counters.sent, Failures: f.counters.failures, Repeated: f.counters.repeated, Bytes: f.counters.bytes, Checkpoint: f.checkpoint.sent,
	}
	aged := f.aged
	f.mu.Unlock()
	if end := f.o.Log.Next(); end > s.Cursor {
		s.Lag = end - s.Cursor
	}
	if s.Lag == 0 {
		return s
	}
	if aged.seq != s.Cursor || aged.at.IsZero() {
		// There is one, so this returns at once. An erased record has no time: the next one's stands for it.
		_ = f.o.Log.Follow(ctx, s.Cursor, func(rec *audit.Record) error {
			aged.seq, aged.at = s.Cursor, rec.Time
			return errEnough
		})
		f.mu.Lock()
		f.aged = aged
		f.mu.Unlock()
	}
	if !aged.at.IsZero() {
		s.LagSeconds = max(0, f.o.Now().Sub(aged.at).Seconds())
	}
	return s
}

var (
	errEnough = errors.New("enough")
	errClosed = errors.New("the receiver closed the connection")
)

// session is one connection. Again says that one before it broke: then the records right before the cursor are sent, too.
func (f *Forwarder) session(ctx context.Context, again bool) error {
	raw, conn, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var owned sync.WaitGroup
	defer owned.Wait()
	defer conn.Close() // before the wait: it ends the reader
	f.up()
	owned.Go(func() { watch(conn, cancel) })

	cursor := f.at()
	from := cursor
	if again {
		from -= min(cursor, uint64(f.o.Overlap))
	}
	s := &session{
		f: f, raw: raw, out: bufio.NewWriterSize(deadlined{conn, f.o.Timeout}, buffer),
		handed: from, marked: from, repeat: cursor, moved: make(chan struct{}, 1),
	}
	owned.Go(func() { s.settle(ctx, cancel) })
	err = f.o.Log.Follow(ctx, from, func(rec *audit.Record) error { return s.send(ctx, rec) })
	if errors.Is(err, errWrite) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fatalError{err}
}

// dial connects, and proves who is there.
func (f *Forwarder) dial(ctx context.Context) (*counted, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.o.Address)
	if err != nil {
		return nil, nil, err
	}
	raw := &counted{Conn: plain}
	if f.o.TLS == nil {
		return raw, raw, nil
	}
	c := f.o.TLS.Clone()
	if c.ServerName == "" {
		if c.ServerName, _, err = net.SplitHostPort(f.o.Address); err != nil {
			plain.Close()
			return nil, nil, err
		}
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, nil, fmt.Errorf("TLS with %s: %w", f.o.Address, err)
	}
	return raw, conn, nil
}

// watch ends the session when the receiver closes. Syslog has nothing to say in this direction: what comes is thrown away.
func watch(conn net.Conn, cancel context.CancelCauseFunc) {
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		cancel(err)
		return
	}
	cancel(errClosed)
}

// deadlined gives each write its time.
type deadlined struct {
	net.Conn
	timeout time.Duration
}

var errWrite = errors.New("writing to the receiver")

func (d deadlined) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, fmt.Errorf("%w: %w", errWrite, err)
	}
	n, err := d.Conn.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errWrite, err)
	}
	return n, err
}
