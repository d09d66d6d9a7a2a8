package transfer

import "strconv"

// Rsync counts and hashes the two streams of an rsync conversation. What is in them stays rsync's: it sends
// differences, not files. FromClient, FromTarget and End are called as SFTP's are.
type Rsync struct {
	command        Command
	emit           func(Event)
	client, target content
}

// NewRsync returns a watcher of the conversation that an rsync command starts. emit gets one event, at the end.
func NewRsync(c Command, emit func(Event)) *Rsync { return &Rsync{command: c, emit: emit} }

// FromClient takes bytes from the client; reply is never called.
func (r *Rsync) FromClient(p []byte, forward, _ func([]byte) error) error {
	r.client.add(p)
	return forward(p)
}

// FromTarget takes bytes from the target.
func (r *Rsync) FromTarget(p []byte, forward func([]byte) error) error {
	r.target.add(p)
	return forward(p)
}

// End reports the conversation: Bytes and SHA256 are the stream's in the command's direction, Detail has the other's.
func (r *Rsync) End() {
	with, back := &r.client, &r.target
	if r.command.Direction == Download {
		with, back = back, with
	}
	e := Event{
		Op: OpRsync, Bytes: with.bytes, SHA256: with.sum(), Result: resultOK, Partial: true,
		Detail: join("stream", r.command.Direction.word(), "back_bytes="+strconv.FormatInt(back.bytes, 10), "back_sha256="+back.sum()),
	}
	e.Path = joinPaths(r.command.Paths)
	r.emit(e)
}
