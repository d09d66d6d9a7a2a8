package siem

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/audit"
)

// seqs are the numbers of the records among messages, in their order.
func seqs(t testing.TB, messages [][]byte) (list []uint64, checkpoints int) {
	t.Helper()
	for _, m := range messages {
		if bytes.Contains(m, []byte(" sallyport - checkpoint ")) {
			checkpoints++
			continue
		}
		_, rest, found := bytes.Cut(m, []byte(` seq="`))
		number, _, _ := bytes.Cut(rest, []byte(`"`))
		n, err := strconv.ParseUint(string(number), 10, 64)
		if !found || err != nil {
			continue // the line that a kill has torn, with the first of the next start behind it
		}
		list = append(list, n)
	}
	return list, checkpoints
}

// complete tells whether all records up to n are there.
func complete(list []uint64, n uint64) bool {
	have := make(map[uint64]bool)
	for _, s := range list {
		have[s] = true
	}
	return uint64(len(have)) == n
}

// steps are how often, and at most how far, the order goes back.
func steps(t testing.TB, list []uint64) (times int, farthest uint64) {
	t.Helper()
	for i := 1; i < len(list); i++ {
		switch {
		case list[i] > list[i-1]+1:
			t.Errorf("after record %d comes %d: one between is missing there", list[i-1], list[i])
		case list[i] <= list[i-1]:
			times++
			farthest = max(farthest, list[i-1]+1-list[i])
		}
	}
	return times, farthest
}

// TestRsyslog forwards to a real rsyslogd over TLS that dies in mid-stream and comes back: each record arrives, in order but for
// what the break repeats.
func TestRsyslog(t *testing.T) {
	ca := newAuthority(t)
	r := newReceiver(t, ca)
	r.start()
	l, c := newLog(t), newCursors(t)
	fill(t, l, 500)
	f, stop := run(t, Options{Name: "siem", Address: r.address, TLS: ca.client(siemName), Start: true, Overlap: 100, Log: l, Cursors: c})
	until(t, "the first records are there", func() bool { list, _ := seqs(t, r.messages()); return complete(list, 500) })

	var filled atomic.Bool
	go func() {
		for range 50 {
			fill(t, l, 100)
		}
		filled.Store(true)
	}()
	until(t, "some more are there", func() bool { return len(r.messages()) > 1500 })
	r.kill()
	until(t, "the break is noticed", func() bool { return !f.Standing(t.Context()).Connected })
	until(t, "records wait", func() bool { return filled.Load() })
	if s := f.Standing(t.Context()); s.Lag == 0 || s.Error == "" || s.LagSeconds <= 0 {
		t.Errorf("while the receiver is dead the standing is %+v", s)
	}
	r.start()
	until(t, "all are there", func() bool { list, _ := seqs(t, r.messages()); return complete(list, 5500) })
	list, _ := seqs(t, r.messages())
	if times, far := steps(t, list); times > 1 || far > Window+100 {
		t.Errorf("the order goes back %d times, by up to %d records", times, far)
	}
	until(t, "the cursor has followed", func() bool { return f.Standing(t.Context()).Lag == 0 })

	note, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	f.Offer(5500, note)
	until(t, "the checkpoint is there", func() bool { _, n := seqs(t, r.messages()); return n == 1 })
	last := r.messages()[len(r.messages())-1]
	if want := strings.ReplaceAll(note, "\n", `\n`); !strings.HasSuffix(string(last), `{"checkpoint":"`+want+`"}`) {
		t.Errorf("the checkpoint came as %s", last)
	}

	// Stopped and started again, it goes on where it was, and repeats nothing that had settled.
	stop()
	if next, _, _ := c.Cursor(t.Context(), CursorName("siem")); next != 5500 {
		t.Errorf("the cursor is kept as %d", next)
	}
	fill(t, l, 10)
	before := len(list)
	f, _ = run(t, Options{Name: "siem", Address: r.address, TLS: ca.client(siemName), Start: true, Overlap: 100, Log: l, Cursors: c})
	until(t, "the rest is there", func() bool { list, _ := seqs(t, r.messages()); return complete(list, 5510) })
	list, _ = seqs(t, r.messages())
	if s := f.Standing(t.Context()); len(list) != before+10 && s.Failures == 0 { // a busy machine may break the connection: that repeats
		t.Errorf("after a stop in peace %d records came for 10: %+v", len(list)-before, s)
	}
}

// TestWrongPeer refuses a receiver whose certificate is another CA's, or another name's; one that we give no certificate refuses us.
func TestWrongPeer(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	r := newReceiver(t, ca)
	r.start()
	l, c := newLog(t), newCursors(t)
	fill(t, l, 3)
	anonymous := ca.client(siemName)
	anonymous.Certificates = nil
	for name, o := range map[string]Options{
		"wrong-ca":   {TLS: other.client(siemName)},
		"wrong-name": {TLS: ca.client("other.example.nhs.uk")},
		"anonymous":  {TLS: anonymous},
	} {
		o.Name, o.Address, o.Start, o.Log, o.Cursors = name, r.address, true, l, c
		f, stop := run(t, o)
		until(t, name+" is refused", func() bool {
			s := f.Standing(t.Context())
			return s.Error != "" && !strings.Contains(s.Error, "refused")
		})
		if s := f.Standing(t.Context()); s.Cursor != 0 || !strings.Contains(s.Error, "certificate") && name != "anonymous" {
			t.Errorf("%s: the standing is %+v", name, s)
		}
		stop()
	}
	if n := len(r.messages()); n > 0 {
		t.Errorf("%d messages got through", n)
	}
}

// TestFrozen stops the receiver as a debugger would. Its kernel still takes what fits; then the writes end by their deadline. The
// log's records wait, memory doesn't grow, and nothing is lost when it comes back.
func TestFrozen(t *testing.T) {
	ca := newAuthority(t)
	r := newReceiver(t, ca)
	r.start()
	l, c := newLog(t), newCursors(t)
	fill(t, l, 10)
	f, _ := run(t, Options{Name: "siem", Address: r.address, TLS: ca.client(siemName), Start: true, Log: l, Cursors: c, Timeout: time.Second})
	until(t, "it is connected", func() bool { list, _ := seqs(t, r.messages()); return complete(list, 10) })
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const many = 40_000 // some 30 MB: more than kernels take
	for range many / 1000 {
		fill(t, l, 1000)
	}
	until(t, "a write is given up", func() bool { return f.Standing(t.Context()).Failures > 0 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("memory has grown by %d bytes while the receiver was frozen", grown)
	}
	if s := f.Standing(t.Context()); s.Lag == 0 || s.LagSeconds <= 0 {
		t.Errorf("the standing is %+v", s)
	}
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "all are there", func() bool { list, _ := seqs(t, r.messages()); return complete(list, many+10) })
}

// TestFrom begins where the setting says, and keeps that even if nothing was ever sent.
func TestFrom(t *testing.T) {
	l, c := newLog(t), newCursors(t)
	fill(t, l, 5)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	_, stop := run(t, Options{Name: "late", Address: dead.Addr().String(), Log: l, Cursors: c})
	until(t, "the cursor is kept", func() bool { _, known, _ := c.Cursor(t.Context(), CursorName("late")); return known })
	stop()
	fill(t, l, 2)
	_, stop = run(t, Options{Name: "late", Address: dead.Addr().String(), Log: l, Cursors: c})
	stop()
	if next, _, _ := c.Cursor(t.Context(), CursorName("late")); next != 5 {
		t.Errorf("the cursor is %d, and 2 records were made since the receiver was set up", next)
	}
}

// TestBreakRepeats: a receiver whose kernel acknowledges and whose program closes without reading gets those records again.
func TestBreakRepeats(t *testing.T) {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	l, c := newLog(t), newCursors(t)
	fill(t, l, 50)
	f, _ := run(t, Options{Name: "siem", Address: in.Addr().String(), Start: true, Overlap: 20, Log: l, Cursors: c})
	first, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// It acknowledges for longer than settle: the cursor moves over what nobody has read.
	until(t, "the cursor has moved", func() bool { return f.Standing(t.Context()).Cursor == 50 })
	first.Close()
	second, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	fill(t, l, 1)
	got := read(t, second, 21)
	if got[0] != 30 || got[20] != 50 {
		t.Errorf("after the break came %d to %d: want the overlap of 20, and the new one", got[0], got[20])
	}
	if s := f.Standing(t.Context()); s.Repeated != 20 {
		t.Errorf("%d are counted as repeated", s.Repeated)
	}
}

// TestUnsettled: what was acknowledged a moment before the break is sent again, however small the overlap; and no more than Window records
// are ever in that state.
func TestUnsettled(t *testing.T) {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	l, c := newLog(t), newCursors(t)
	fill(t, l, 50)
	f, _ := run(t, Options{Name: "siem", Address: in.Addr().String(), Start: true, Log: l, Cursors: c, settle: time.Hour})
	first, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read(t, first, 50)
	first.Close()
	second, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for range (Window + 2000) / 1000 {
		fill(t, l, 1000)
	}
	if got := read(t, second, Window); got[0] != 0 || got[Window-1] != Window-1 {
		t.Errorf("after the break came %d to %d", got[0], got[Window-1])
	}
	if err := second.SetReadDeadline(time.Now().Add(look)); err != nil {
		t.Fatal(err)
	}
	if n, _ := second.Read(make([]byte, 1)); n > 0 || f.Standing(t.Context()).Cursor != 0 {
		t.Errorf("more than %d records are ahead of the cursor", Window)
	}
}

// TestUnacknowledged: what waits in this machine's own buffers has not arrived, however long it waits.
func TestUnacknowledged(t *testing.T) {
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(err, c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }))
	}}
	in, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	l, c := newLog(t), newCursors(t)
	const few = 60 // more than the receiver's buffer takes, and no more than ours does
	fill(t, l, few)
	f, _ := run(t, Options{Name: "siem", Address: in.Addr().String(), Start: true, Log: l, Cursors: c, settle: time.Millisecond})
	conn, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until(t, "all are written", func() bool { return f.Standing(t.Context()).Sent == few })
	<-time.After(4 * look) // there is nothing to wait for: nothing must happen
	if s := f.Standing(t.Context()); s.Cursor != 0 || s.Lag != few {
		t.Errorf("the cursor has moved to %d although the receiver's system does not have all", s.Cursor)
	}
	read(t, conn, few)
	until(t, "the cursor follows", func() bool { return f.Standing(t.Context()).Cursor == few })
}

// read takes n records off a connection.
func read(t testing.TB, conn net.Conn, n int) (list []uint64) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for len(list) < n {
		length, err := in.ReadString(' ')
		if err != nil {
			t.Fatal(err)
		}
		size, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			t.Fatal(err)
		}
		m := make([]byte, size)
		if _, err := io.ReadFull(in, m); err != nil {
			t.Fatal(err)
		}
		one, _ := seqs(t, [][]byte{m})
		list = append(list, one...)
	}
	return list
}

// TestAheadOfLog goes on at the log's end where the cursor is of a log that had more.
func TestAheadOfLog(t *testing.T) {
	l, c := newLog(t), &shrinking{newCursors(t)}
	fill(t, l, 3)
	c.by[CursorName("siem")] = 100
	f, _ := run(t, Options{Name: "siem", Address: "127.0.0.1:1", Log: l, Cursors: c})
	until(t, "it has begun", func() bool { s := f.Standing(t.Context()); return s.Cursor == 3 && s.Lag == 0 })
}

// shrinking lets a cursor go back.
type shrinking struct{ *cursors }

func (s *shrinking) SetCursor(_ context.Context, name string, next uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[name] = next
	return nil
}

var _ Log = (*audit.Log)(nil)
