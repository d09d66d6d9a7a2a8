package relay

import (
	"sync"

	"golang.org/x/crypto/ssh"
)

// Bounds of what a client may ask for before its session starts.
const (
	maxEnv      = 64       // variables
	maxEnvBytes = 16 << 10 // of names and values
	maxTerm     = 128      // bytes of a terminal's name
	maxModes    = 4 << 10  // bytes of a terminal's modes
	// MaxCommand bounds a command, in bytes. Linux takes 128 KiB for one argument.
	MaxCommand = 128 << 10
)

// PTY is the payload of pty-req (RFC 4254 section 6.2).
type PTY struct {
	Term                      string
	Cols, Rows, Width, Height uint32
	Modes                     string
}

// Env is the payload of env (RFC 4254 section 6.4).
type Env struct{ Name, Value string }

// Start is what a session is to be.
type Start struct {
	Kind    string // shell, exec, subsystem; empty: the client closed before it said
	Command string // exec's command, or the subsystem's name
	PTY     *PTY   // nil: no terminal
	Env     []Env
	Agent   bool // the client offers its agent, and Gather's caller took the offer

	request *ssh.Request // not answered yet
}

// Resize takes a window-change before the session has started, and reports whether r was one.
func (s *Start) Resize(r *ssh.Request) bool {
	w, is := windowChange(r)
	if !is || s.PTY == nil {
		return false
	}
	s.PTY.Cols, s.PTY.Rows, s.PTY.Width, s.PTY.Height = w.Cols, w.Rows, w.Width, w.Height
	return true
}

// Answer tells the client whether the session has started.
func (s *Start) Answer(ok bool) {
	if s.request != nil && s.request.WantReply {
		// An error means that the client has gone, which the relaying finds.
		_ = s.request.Reply(ok, nil)
	}
	s.request = nil
}

// Gather takes a client's requests up to the one that starts something, or to the channel's end. Those before it are granted
// when they can be passed on, since the client waits for the answer and the target is not known yet. Extra is asked about
// offers of an agent and wishes for X11.
func Gather(requests <-chan *ssh.Request, extra func(kind string) bool) Start {
	var s Start
	bytes := 0
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			var p PTY
			if ssh.Unmarshal(r.Payload, &p) == nil && len(p.Term) <= maxTerm && len(p.Modes) <= maxModes {
				ok, s.PTY = true, &p
			}
		case "window-change":
			ok = s.Resize(r)
		case "env":
			var e Env
			if ssh.Unmarshal(r.Payload, &e) == nil && len(s.Env) < maxEnv && bytes+len(e.Name)+len(e.Value) <= maxEnvBytes {
				bytes += len(e.Name) + len(e.Value)
				ok, s.Env = true, append(s.Env, e)
			}
		case "auth-agent-req@openssh.com":
			ok = extra(r.Type)
			s.Agent = s.Agent || ok
		case "x11-req":
			_ = extra(r.Type) // it is refused, and the caller knows of it
		case "shell":
			s.Kind, s.request = r.Type, r
			return s
		case "exec", "subsystem":
			var c struct{ Text string }
			if ssh.Unmarshal(r.Payload, &c) == nil && len(c.Text) <= MaxCommand {
				s.Kind, s.Command, s.request = r.Type, c.Text, r
				return s
			}
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
	return s
}

// AtTarget asks the target for what the client asked for, in the client's order, and reports whether the session has started,
// and whether the terminal was granted. An error is one of the connection.
func (s *Start) AtTarget(ch ssh.Channel, h *Held) (started, terminal bool, err error) {
	for _, e := range s.Env {
		// A target may refuse variables (sshd's AcceptEnv), and clients do not ask for an answer.
		if _, err := ch.SendRequest("env", false, ssh.Marshal(&e)); err != nil {
			return false, false, err
		}
	}
	terminal = true
	h.resized()
	if p, ok := h.Size(); ok {
		if terminal, err = ch.SendRequest("pty-req", true, ssh.Marshal(&p)); err != nil {
			return false, false, err
		}
	}
	if s.Agent {
		if s.Agent, err = ch.SendRequest("auth-agent-req@openssh.com", true, nil); err != nil {
			return false, false, err
		}
	}
	var payload []byte
	if s.Kind != "shell" {
		payload = ssh.Marshal(&struct{ Text string }{s.Command})
	}
	if started, err = ch.SendRequest(s.Kind, true, payload); err != nil || !started {
		return started, terminal, err
	}
	if p, ok := h.Size(); ok && h.resized() {
		_, err = ch.SendRequest("window-change", false, ssh.Marshal(&size{p.Cols, p.Rows, p.Width, p.Height}))
	}
	return started, terminal, err
}

// Held answers a channel's requests between its start and Serve, which may be long: somebody logs in at the target meanwhile, and is
// asked questions. An unread request would hold up the client's whole connection.
type Held struct {
	start *Start
	stop  chan struct{}
	done  chan struct{}

	mu      sync.Mutex // guards start.PTY's size, and changed
	changed bool
}

// Hold begins to answer requests. Run starts a goroutine.
func Hold(requests <-chan *ssh.Request, start *Start, run func(func())) *Held {
	h := &Held{start: start, stop: make(chan struct{}), done: make(chan struct{})}
	run(func() {
		defer close(h.done)
		for {
			select {
			case <-h.stop:
				return
			case r, open := <-requests:
				if !open {
					return
				}
				h.mu.Lock()
				ok := h.start.Resize(r)
				h.changed = h.changed || ok
				h.mu.Unlock()
				if r.WantReply {
					_ = r.Reply(ok, nil)
				}
			}
		}
	})
	return h
}

// Size is the terminal with its size now; ok is false when there is none.
func (h *Held) Size() (p PTY, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.start.PTY == nil {
		return PTY{}, false
	}
	return *h.start.PTY, true
}

// resized tells whether the size has changed since it was asked last.
func (h *Held) resized() (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, h.changed = h.changed, false
	return changed
}

// Release ends the answering; whoever comes next reads the requests. It may be called again.
func (h *Held) Release() {
	h.mu.Lock()
	select {
	case <-h.stop:
	default:
		close(h.stop)
	}
	h.mu.Unlock()
	<-h.done
}
