package sshgw

import (
	"errors"
	"strconv"
	"sync"

	"sallyport/internal/login"
	"sallyport/internal/recording"
	"sallyport/sshgw/relay"
	"sallyport/sshgw/transfer"
)

// Recordings is how sessions are recorded.
type Recordings struct {
	Options recording.Options // Chunk is the gateway's to set
	// StopAtLimit lets a session go on without its recording when that has reached its size, where no rule requires one.
	StopAtLimit bool
}

var errNoRecordings = errors.New("recording is not configured: it needs the public key of somebody who may read recordings")

// tape is a session's recording. A nil tape records nothing.
type tape struct {
	w    *recording.Writer
	exit string
	once sync.Once
	// mayStop: the session goes on when the recording has reached its size, since no rule requires it.
	mayStop bool
}

// startTape starts the recording that a session must have, and returns what its start record tells of it.
func (s *session) startTape(start *relay.Start, held *relay.Held) (*tape, []login.Detail, error) {
	// What rsync says is not understood here: where a recording is required it is recorded like any command. scp that leaves its
	// protocol ends then, so that neither name hides a conversation (P10).
	rsync := s.want.command != nil && s.want.command.Kind == transfer.KindRsync
	if s.record && s.want.command != nil && !rsync {
		s.want.rights = s.want.command.Direction.Needs()
	}
	if s.want.sftp || s.want.command != nil && !(rsync && s.record) {
		// What is moved is on record, file by file, and not its content.
		return nil, []login.Detail{{Key: "recorded", Value: "transfers"}}, nil
	}
	if !s.record {
		return nil, []login.Detail{{Key: "recorded", Value: "no"}}, nil
	}
	r := s.c.srv.settings.Load().Recordings
	if r == nil {
		return nil, nil, errNoRecordings
	}
	o := r.Options
	o.Chunk = s.noteChunk
	h := recording.Header{
		Session: s.grant.Session, Person: s.grant.Person, Account: s.attempt.Account, Target: s.target.Name, Rule: s.grant.Rule,
		Command: cut(start.Command, maxCommand), Started: s.c.srv.now(), Width: 80, Height: 24,
	}
	if p, ok := held.Size(); ok {
		h.Term, h.Width, h.Height = p.Term, int(min(p.Cols, maxSide)), int(min(p.Rows, maxSide))
	}
	w, err := recording.Create(o, h)
	if err != nil {
		return nil, nil, err
	}
	return &tape{w: w, mayStop: r.StopAtLimit && !s.grant.Record}, []login.Detail{{Key: "recorded", Value: "yes"}, {Key: "recording", Value: w.Path()}}, nil
}

// maxSide bounds the columns and rows of a terminal that are believed.
const maxSide = 1000

// noteChunk puts a chunk's hash on record while the session still runs, so that a missing tail shows.
func (s *session) noteChunk(chunk recording.Chunk) error {
	ev := s.event(recording.EventChunk, login.Info, login.ReasonOK)
	for _, d := range recording.ChunkDetails(chunk) {
		ev.Detail = append(ev.Detail, login.Detail{Key: d[0], Value: d[1]})
	}
	if !s.c.note(ev) {
		return errors.New("a piece of the recording could not be put on record")
	}
	return nil
}

// tapeError is a failure of the recording: it ends the session (P10).
type tapeError struct{ error }

func (t *tape) tap(write func(p []byte) error) relay.Tap {
	if t == nil {
		return nil
	}
	return func(p []byte, forward relay.Forward) error {
		// The recorder first: nobody sees what is not recorded.
		if err := write(p); err != nil && !t.goesOn(err) {
			return tapeError{err}
		}
		return forward(p)
	}
}

// goesOn tells whether a session may go on without its recording, after this error.
func (t *tape) goesOn(err error) bool { return t.mayStop && errors.Is(err, recording.ErrLimit) }

func (t *tape) input() relay.Tap {
	if t == nil {
		return nil
	}
	return t.tap(t.w.Input)
}

func (t *tape) output() relay.Tap {
	if t == nil {
		return nil
	}
	return t.tap(t.w.Output)
}

func (t *tape) errors() relay.Tap {
	if t == nil {
		return nil
	}
	return t.tap(t.w.Stderr)
}

func (t *tape) resize(cols, rows uint32) error {
	if t == nil {
		return nil
	}
	if err := t.w.Resize(int(min(cols, maxSide)), int(min(rows, maxSide))); err != nil && !t.goesOn(err) {
		return tapeError{err}
	}
	return nil
}

// watch ends the session when its recorder fails, until the returned function is called.
func (t *tape) watch(s *session) (stop func()) {
	if t == nil {
		return func() {}
	}
	ran := make(chan struct{})
	stopped := t.w.AfterFailure(func() {
		defer close(ran)
		defer s.c.srv.crashed(s.c)
		if err := t.w.Err(); t.goesOn(err) {
			s.c.log.Warn("ssh session goes on without its recording", "session", s.grant.Session, "error", err)
			ev := s.event("recording.stopped", login.Failed, endRecorder)
			s.c.note(ev)
			return
		}
		s.end(endRecorder, dialError(t.w.Err()))
	})
	return func() {
		if !stopped() {
			<-ran
		}
	}
}

// finish ends the recording, before the session's end is recorded.
func (t *tape) finish(s *session) {
	if t == nil {
		return
	}
	t.once.Do(func() {
		sum, err := t.w.Close(t.exit)
		if err != nil && !t.goesOn(err) {
			s.forced.CompareAndSwap(nil, &ending{endRecorder, dialError(err)})
		}
		for _, d := range recording.SummaryDetails(sum) {
			s.epilogue = append(s.epilogue, login.Detail{Key: d[0], Value: d[1]})
		}
	})
}

// mustRecord tells whether a session is to be recorded: since the rule requires it, or since the jump is a recorded one.
func (l *link) mustRecord(t *Target, grant login.Grant) bool {
	return grant.Record || l.jump && t.Jump == Recorded
}

// transferQueue bounds what is known of a session's transfers and is not on record yet; beyond it the transfer waits.
const transferQueue = 64

// watchFiles puts what moves files under watch, and returns what waits until all of it is on record.
func (s *session) watchFiles(r *relay.Session) (done func()) {
	var fromClient func(p []byte, forward, reply func([]byte) error) error
	var fromTarget func(p []byte, forward func([]byte) error) error
	var end func()
	queue := make(chan transfer.Event, transferQueue)
	emit := func(e transfer.Event) { queue <- e }
	switch {
	case s.want.sftp:
		w := transfer.NewSFTP(s.want.rights, emit)
		fromClient, fromTarget, end = w.FromClient, w.FromTarget, w.End
	case s.want.command != nil && s.want.command.Kind == transfer.KindRsync:
		w := transfer.NewRsync(*s.want.command, emit)
		fromClient, fromTarget, end = w.FromClient, w.FromTarget, w.End
	case s.want.command != nil:
		w := transfer.NewSCP(*s.want.command, s.want.rights, emit)
		fromClient, fromTarget, end = w.FromClient, w.FromTarget, w.End
	default:
		return func() {}
	}
	reply := func(p []byte) error {
		s.out.Add(int64(len(p)))
		_, err := r.Client.Channel.Write(p)
		return err
	}
	input, output := r.Input, r.Output // a tape, if there is one, sees what passes
	r.Input = func(p []byte, forward relay.Forward) error {
		return fromClient(p, func(p []byte) error { return input(p, forward) }, reply)
	}
	r.Output = func(p []byte, forward relay.Forward) error {
		return fromTarget(p, func(p []byte) error { return output(p, forward) })
	}
	written := make(chan struct{})
	s.c.run(func() {
		defer close(written)
		for e := range queue {
			s.noteTransfer(e)
		}
	})
	return sync.OnceFunc(func() {
		end()
		close(queue)
		<-written
	})
}

// noteTransfer records what was moved or changed.
func (s *session) noteTransfer(e transfer.Event) {
	result := login.Info
	if e.Result != "ok" && e.Result != "" {
		result = login.Failed
	}
	ev := s.event("transfer", result, login.Reason(transferReason(e)))
	add := func(key, value string) {
		if value != "" {
			ev.Detail = append(ev.Detail, login.Detail{Key: key, Value: value})
		}
	}
	add("operation", string(e.Op))
	add("path", e.Path)
	add("name", e.Name)
	add("to", e.To)
	add("bytes", strconv.FormatInt(e.Bytes, 10))
	add("sha256", e.SHA256)
	add("outcome", e.Result)
	add("detail_text", e.Detail)
	if e.Partial {
		add("partial", "yes")
	}
	s.c.note(ev)
}

func transferReason(e transfer.Event) string {
	if e.Result == "" {
		return "ok"
	}
	return e.Result
}

// isTapeError tells a failing recorder from a transfer that breaks its protocol.
func isTapeError(err error) bool {
	var t tapeError
	return errors.As(err, &t)
}
