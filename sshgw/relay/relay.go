// Package relay passes one session channel of SSH (RFC 4254 section 6) through: data both ways, what the client asks for,
// and how the target's program ended, exactly and in the right order. It decides nothing: what may pass is for its caller,
// who sees all data and may change or refuse them.
//
// # Order
//
// golang.org/x/crypto/ssh delivers data and requests on different channels, so their order is lost. What the target's
// program wrote is passed on to its end first, then its exit status or signal, then the end of data, then the close: a client that
// leaves when it learns the status has all the output. Many clients close when both sides have ended their data, and can be told
// nothing after that; so the end of data waits for the status, unless a program that has closed its output lives on and the client
// may have more to say to it.
//
// # Memory
//
// Each direction holds a few hundred bytes while nothing moves, and one packet's worth while data move. A side that does not
// read stops the other, by SSH's own windows; nothing is queued here.
package relay

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Side is one end of a session: the client's channel, or the target's.
type Side struct {
	Channel  ssh.Channel
	Requests <-chan *ssh.Request
}

// Forward passes data on. It blocks while the other side does not read.
type Forward func(p []byte) error

// Tap sees data before they are passed on, and passes them on, all or some of them. It must not keep p. A nil Tap passes all on.
type Tap func(p []byte, forward Forward) error

// Session is one session channel to be relayed. All fields are set before Serve.
type Session struct {
	Client, Target Side

	Input  Tap // from the client
	Output Tap // from the target
	Errors Tap // the target's error output
	// Resized is told of each new size of the client's terminal, before the target is.
	Resized func(cols, rows uint32) error
	// Ask is asked about each request of the client before it is passed on. Nil: all are.
	Ask func(r *ssh.Request) bool
	// Left is called when the client has closed its channel. A Tap that waits for the client has to give up then.
	Left func()

	Buffers *Buffers
	Run     func(func()) // starts a goroutine that somebody waits for
	// Stuck is called when a side has not answered the closing of its channel for CloseWait: it ends that side's connection.
	Stuck     func(client bool)
	CloseWait time.Duration
}

// Exit is how the target's program ended.
type Exit struct {
	Status *uint32 // nil: it did not say
	Signal string  // without SIG; empty: none
	// ByClient tells that the client closed before the target did.
	ByClient bool
	Err      error // of a Tap, or of Resized; nil: none
}

// end collects how a session ends; the first error stands.
type end struct {
	mu   sync.Mutex
	exit Exit
	over bool // somebody has closed
}

func (e *end) closed(byClient bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		e.over, e.exit.ByClient = true, byClient
	}
}

func (e *end) failed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.exit.Err == nil {
		e.exit.Err = err
	}
}

// tapError is an error of a Tap, which ends the session, in contrast to one of a connection.
type tapError struct{ error }

// Serve relays until both channels are closed or ctx ends, which closes them. It returns when all its goroutines have ended.
func (s *Session) Serve(ctx context.Context) Exit {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	e := &end{}
	fail := func(err error) {
		e.failed(err)
		cut()
	}
	clientGone, targetGone, inputEnded := make(chan struct{}), make(chan struct{}), make(chan struct{})
	exit := heldExit{known: make(chan struct{})}
	s.Run(func() {
		s.fromClient(e, fail)
		close(clientGone)
		s.leave(inputEnded, targetGone)
	})
	s.Run(func() {
		defer close(targetGone)
		exit.collect(s)
		e.closed(false)
	})
	// Nobody sends extended data towards a program, but they use up the window (RFC 4254 section 5.2).
	s.Run(func() { s.Buffers.Discard(s.Client.Channel.Stderr()) })

	var out sync.WaitGroup
	s.Run(func() {
		defer close(inputEnded)
		// Whether it was the client's end of data or the target that no longer takes any: the target learns it.
		if s.pump(s.Client.Channel, s.Target.Channel, s.Input, fail) {
			_ = s.Target.Channel.CloseWrite()
		}
	})
	out.Add(1)
	s.Run(func() {
		defer out.Done()
		s.pump(s.Target.Channel.Stderr(), s.Client.Channel.Stderr(), s.Errors, fail)
	})

	cutDone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cutDone)
		s.Run(func() { s.close(s.Target.Channel, targetGone, false) })
		// A write to a client that gives no window is woken by the client's closing only.
		s.close(s.Client.Channel, clientGone, true)
	})
	s.pump(s.Target.Channel, s.Client.Channel, s.Output, fail)
	out.Wait()
	exit.await(targetGone, inputEnded)
	exit.send(s.Client.Channel, e)
	_ = s.Client.Channel.CloseWrite()
	// The target may still say how the program ended, and take input, until it closes its channel.
	<-targetGone
	exit.send(s.Client.Channel, e)
	if !stop() {
		<-cutDone
	}
	s.close(s.Client.Channel, clientGone, true)
	<-inputEnded
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.exit
}

// close closes a side's channel, and waits until that side has closed it too. The time is counted from before the closing, which is a
// write, and held up by a side that reads nothing.
func (s *Session) close(ch ssh.Channel, gone <-chan struct{}, client bool) {
	timer := time.AfterFunc(s.CloseWait, func() { s.Stuck(client) })
	defer timer.Stop()
	_ = ch.Close()
	<-gone
}

// leave closes the target's channel when the client has closed its own, and when what it sent before that has been passed on.
func (s *Session) leave(inputEnded, targetGone <-chan struct{}) {
	if s.Left != nil {
		s.Left()
	}
	timer := time.NewTimer(s.CloseWait)
	defer timer.Stop()
	select {
	case <-inputEnded:
	case <-timer.C: // the target takes no more
	}
	s.close(s.Target.Channel, targetGone, false)
}

// fromClient passes on what the client asks for, until its channel is closed.
func (s *Session) fromClient(e *end, fail func(error)) {
	for r := range s.Client.Requests {
		ok := s.Ask == nil || s.Ask(r)
		if size, is := windowChange(r); ok && is && s.Resized != nil {
			if err := s.Resized(size.Cols, size.Rows); err != nil {
				fail(err)
				ok = false
			}
		}
		if ok {
			// An error means that the target has closed, which the other loops find.
			ok, _ = s.Target.Channel.SendRequest(r.Type, r.WantReply, r.Payload)
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
	e.closed(true)
}

// size is the payload of window-change (RFC 4254 section 6.7).
type size struct{ Cols, Rows, Width, Height uint32 }

func windowChange(r *ssh.Request) (w size, is bool) {
	if r.Type != "window-change" {
		return w, false
	}
	return w, ssh.Unmarshal(r.Payload, &w) == nil
}

// heldExit is how the program ended, kept until its output is through.
type heldExit struct {
	known chan struct{} // closed when the target has said it

	mu      sync.Mutex
	kind    string
	payload []byte
	sent    bool
}

// endOfDataWait is how long the end of a program's output is kept from a client that may still send: servers say at the same
// time that a program has ended, and how.
const endOfDataWait = 2 * time.Second

// await returns when the client may be told that there is no more output: the status is known, or the target has closed, or the program
// lives on and the client may have more for it.
func (h *heldExit) await(targetGone, inputEnded <-chan struct{}) {
	timer := time.NewTimer(endOfDataWait)
	defer timer.Stop()
	select {
	case <-h.known:
		return
	case <-targetGone:
		return
	case <-timer.C:
	}
	select {
	case <-inputEnded: // the client would close
		select {
		case <-h.known:
		case <-targetGone:
		}
	default:
	}
}

// collect takes the target's requests until its channel is closed. What is not about the program's end is passed on at once.
func (h *heldExit) collect(s *Session) {
	for r := range s.Target.Requests {
		ok := false
		switch r.Type {
		case "exit-status", "exit-signal":
			h.mu.Lock()
			if h.kind == "" {
				h.kind, h.payload = r.Type, r.Payload
				close(h.known)
			}
			h.mu.Unlock()
			ok = true
		default:
			ok, _ = s.Client.Channel.SendRequest(r.Type, r.WantReply, r.Payload)
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
}

// send tells the client how the program ended, once.
func (h *heldExit) send(client ssh.Channel, e *end) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kind == "" || h.sent {
		return
	}
	h.sent = true
	var status struct{ Status uint32 }
	var signal struct {
		Signal string
		Core   bool
		Text   string
		Lang   string
	}
	e.mu.Lock()
	switch {
	case h.kind == "exit-status" && ssh.Unmarshal(h.payload, &status) == nil:
		e.exit.Status = &status.Status
	case h.kind == "exit-signal" && ssh.Unmarshal(h.payload, &signal) == nil:
		e.exit.Signal = signal.Signal
	}
	e.mu.Unlock()
	// An error means that the client has gone, and wants to know nothing.
	_, _ = client.SendRequest(h.kind, false, h.payload)
}

// pump copies until the source ends, and reports whether that, rather than an error, was the end.
func (s *Session) pump(from io.Reader, to io.Writer, tap Tap, fail func(error)) bool {
	forward := func(p []byte) error {
		_, err := to.Write(p)
		return err
	}
	err := s.Buffers.Copy(from, func(p []byte) error {
		if tap == nil {
			return forward(p)
		}
		broken := false
		err := tap(p, func(p []byte) error {
			err := forward(p)
			broken = broken || err != nil
			return err
		})
		if err != nil && !broken {
			return tapError{err}
		}
		return err
	})
	if tapped, is := err.(tapError); is { // Copy returns what it was given
		fail(tapped.error)
	}
	if err != nil {
		// Who can't be written to any more is still read from, or its window would hold up the other channels.
		s.Buffers.Discard(from)
	}
	return err == nil
}
