package transfer

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxHandles bounds open files and folders. OpenSSH's server has as many descriptors, by default.
	maxHandles = 1024
	// maxRequests bounds requests without an answer: at 32 KiB each they are more than any window holds.
	maxRequests = 4096
	// maxPath bounds each path in an event, in bytes: PATH_MAX, beyond which no target follows.
	maxPath = 4096
	// maxName bounds names of extensions and other words of peers.
	maxName = 128
	// maxHeld bounds the paths of open files and unanswered requests together, in bytes.
	maxHeld = 1 << 20
)

// SFTP watches one SFTP conversation. Its use is New, then FromClient and FromTarget, then End.
//
// FromClient and FromTarget are each called by one goroutine at a time, which may be two different ones. End is called
// once, when both have returned for the last time. An error from either is final, and says that the transfer must end:
// a peer's bytes that were not understood are not forwarded.
//
// What a caller's forward and reply must do: write all bytes or return an error, and not keep them. FromTarget's forward
// and FromClient's reply write to the same client, and are never called at the same time.
//
// A slow client stops FromTarget alone, a slow target stops FromClient alone; only an answer of our own, which goes to
// the client from FromClient, waits in FromClient for the client.
type SFTP struct {
	rights Rights
	emit   func(Event)

	client  half // FromClient's
	refused []byte
	target  half // FromTarget's
	out     outbox

	// What both sides know. The lock is held while emit runs, and not while bytes are hashed, forwarded or answered; a
	// content's own lock is taken within it or without it.
	mu       sync.Mutex
	failed   error
	asked    uint32 // the client's version
	version  uint32 // the target's, in which both speak; 0 until it has come
	requests map[uint32]request
	files    map[string]*file
	opening  int // requests that may become files
	held     int // bytes of paths
	opened   int64
	stated   request // the last answered stat of a path, and in offset the size
	strayIn  int64   // bytes written to handles that nobody has opened here
	strayOut int64   // and read; FromTarget's until End
}

// file is an open file or folder.
type file struct {
	path    string
	handle  string
	number  int64
	folder  bool
	how     opening
	entries int64
	size    int64 // -1: not known
	closing bool
	read    content
	written content
}

// NewSFTP returns a watcher of one conversation. emit gets one event for each operation when it has ended, before the
// client learns how; it's called by one goroutine at a time, and must not call the watcher.
func NewSFTP(rights Rights, emit func(Event)) *SFTP {
	s := &SFTP{rights: rights, emit: emit, requests: map[uint32]request{}, files: map[string]*file{}}
	s.out.free.L = &s.out.mu
	return s
}

// fail makes an error final.
func (s *SFTP) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	return s.failed
}

func (s *SFTP) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// FromClient takes bytes from the client, cut anywhere: what is allowed goes to forward, what isn't is answered by
// reply, which writes to the client. Both are called before it returns or not at all, except that an answer may be left
// to FromTarget.
func (s *SFTP) FromClient(p []byte, forward, reply func([]byte) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	c := &s.client
	run := 0 // p[run:i] has been judged good, and waits to be forwarded in one piece
	i := 0
	flush := func() error {
		from := run
		run = i
		if from == i {
			return nil
		}
		return forward(p[from:i])
	}
	for i < len(p) {
		if c.left > 0 {
			n := c.pass(p[i:])
			i += n
			if c.drop {
				run = i // what came before it has been flushed
			}
		} else {
			kept := len(c.meta) > 0
			meta, n, err := c.collect(p[i:], requestMeta)
			if err != nil {
				return s.fail(err)
			}
			if meta == nil { // p is used up
				if err := flush(); err != nil {
					return s.fail(err)
				}
				return nil
			}
			if err := s.request(meta); err != nil {
				return s.fail(err)
			}
			switch {
			case c.drop:
				if err := flush(); err != nil {
					return s.fail(err)
				}
				i += n
				run = i
			case kept: // what was kept is forwarded from where it is; then run is i
				if err := forward(meta); err != nil {
					return s.fail(err)
				}
				i += n
				run = i
			default:
				i += n
			}
		}
		if c.drop && c.left == 0 {
			c.drop = false
			answer := s.refused
			s.refused = nil
			if err := s.out.put(answer, reply); err != nil {
				return s.fail(err)
			}
		}
	}
	if err := flush(); err != nil {
		return s.fail(err)
	}
	return nil
}

// find returns what a handle stands for, or nil.
func (s *SFTP) find(handle []byte) *file { return s.files[string(handle)] }

// request judges a request by its metadata, and sets what becomes of the packet.
func (s *SFTP) request(meta []byte) error {
	c := &s.client
	c.body(meta)
	typ, id := meta[4], binary.BigEndian.Uint32(meta[5:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.started {
		if typ != typeInit {
			return protocolError("the client's first packet has type %d, which is no SFTP", typ)
		}
		c.started = true
		s.asked = id
		return nil
	}
	if typ == typeInit {
		return protocolError("the client starts SFTP twice")
	}
	if s.version == 0 {
		return protocolError("the client asks before the version is agreed")
	}
	f := fields{b: meta[9:]}
	r, needs := parse(s.version, typ, &f, s.find)
	if f.bad {
		return protocolError("a malformed SFTP packet (type %d) from the client", typ)
	}
	if r.kind == kindWrite && int64(r.length) > int64(c.left) {
		return protocolError("an SFTP write of %d bytes in a packet that holds %d", r.length, c.left)
	}
	if !s.rights.allows(needs) {
		s.refuse(id, r, statusPermissionDenied, detailRefused, sentence(needs))
		return nil
	}
	opens := r.kind == kindOpen || r.kind == kindOpendir
	if opens && len(s.files)+s.opening >= maxHandles || s.held+r.cost() > maxHeld {
		s.refuse(id, r, statusFailure, detailTooMany, "Too many files are open, or requests unanswered, for this gateway.")
		return nil
	}
	if len(s.requests) >= maxRequests {
		return protocolError("more than %d SFTP requests without an answer", maxRequests)
	}
	if _, twice := s.requests[id]; twice {
		return protocolError("the client uses SFTP request id %d twice at once", id)
	}
	s.requests[id] = r
	s.held += r.cost()
	switch {
	case opens:
		s.opening++
	case r.kind == kindClose && r.file != nil:
		r.file.closing = true
	case r.kind == kindWrite && r.file != nil:
		c.content(&r.file.written, r.offset, r.length)
	case r.kind == kindWrite:
		c.content(nil, 0, r.length)
		c.stray = &s.strayIn
	}
	return nil
}

// refuse has the packet dropped and answered, and reports it.
func (s *SFTP) refuse(id uint32, r request, code uint32, why, sentence string) {
	s.client.drop = true
	s.refused = statusPacket(s.version, id, code, sentence)
	if r.op == "" {
		switch r.kind {
		case kindRead:
			r.op = OpDownload
		case kindWrite:
			r.op = OpUpload
		default:
			return
		}
		if r.file != nil {
			r.path = r.file.path
		}
	}
	s.emit(Event{Op: r.op, Path: r.path, To: r.to, Result: statusWord(code), Detail: join(why, r.detail)})
}

// sentence says to the client what it may not.
func sentence(needs Rights) string {
	switch needs {
	case upload:
		return "You may not upload to or change files on this target."
	case download:
		return "You may not download from this target."
	}
	return "You may not both read and change files on this target, which this request could."
}

// FromTarget takes bytes from the target, cut anywhere, and forwards them to the client. Answers to what was refused are
// written by the same forward, between two packets.
func (s *SFTP) FromTarget(p []byte, forward func([]byte) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	// Everything is read, and reported, before any of it is sent: what a client learns has been noted.
	t := &s.target
	boundary := -1 // where the last whole packet ends
	for i := 0; i < len(p); {
		if t.left > 0 {
			i += t.pass(p[i:])
		} else {
			meta, n, err := t.collect(p[i:], answerMeta)
			if err != nil {
				return s.fail(err)
			}
			i += n
			if meta == nil {
				break
			}
			if err := s.answer(meta); err != nil {
				return s.fail(err)
			}
		}
		if t.left == 0 {
			boundary = i
		}
	}
	s.out.claim()
	if boundary > 0 {
		if ours := s.out.take(); ours != nil {
			for _, part := range [][]byte{p[:boundary], ours} {
				if err := forward(part); err != nil {
					s.out.abandon()
					return s.fail(err)
				}
			}
			p = p[boundary:]
		}
	}
	if len(p) > 0 {
		if err := forward(p); err != nil {
			s.out.abandon()
			return s.fail(err)
		}
	}
	if err := s.out.release(t.left > 0 || len(t.meta) > 0, forward); err != nil {
		return s.fail(err)
	}
	return nil
}

// answer notes what an answer says.
func (s *SFTP) answer(meta []byte) error {
	t := &s.target
	t.body(meta)
	typ, id := meta[4], binary.BigEndian.Uint32(meta[5:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.started {
		if typ != typeVersion {
			return protocolError("the target's first packet has type %d, which is no SFTP", typ)
		}
		t.started = true
		return s.agree(id)
	}
	if typ == typeVersion {
		return protocolError("the target starts SFTP twice")
	}
	r, known := s.requests[id]
	if known {
		delete(s.requests, id)
		s.held -= r.cost()
		if r.kind == kindOpen || r.kind == kindOpendir {
			s.opening--
		}
	}
	f := fields{b: meta[9:]}
	switch {
	case typ == typeData:
		return s.content(r, f.u32())
	case !known: // the client won't know it either
	case typ == typeStatus:
		s.status(r, f.u32())
	case typ == typeHandle && (r.kind == kindOpen || r.kind == kindOpendir):
		s.open(r, f.bytes())
	case typ == typeName && r.kind == kindReaddir:
		if r.file != nil {
			r.file.entries += int64(f.u32())
		}
	case typ == typeAttrs && r.kind == kindStat:
		s.size(r, &f)
	default:
		s.status(r, statusOK) // an extended reply, or what an unknown request is answered with
	}
	return nil
}

// agree takes the target's version. Where rights are limited, both sides must mean the same by a packet.
func (s *SFTP) agree(version uint32) error {
	switch {
	case s.asked == 0:
		return protocolError("the target speaks SFTP before the client asks")
	case version == 0:
		return protocolError("the target speaks SFTP version 0")
	case !s.rights.Full() && (version > 6 || version > s.asked):
		return protocolError("the target speaks SFTP version %d where the client asks for %d: what is limited must be understood", version, s.asked)
	}
	s.version = min(version, s.asked)
	return nil
}

// content follows in an SSH_FXP_DATA.
func (s *SFTP) content(r request, n uint32) error {
	t := &s.target
	if int64(n) > int64(t.left) {
		return protocolError("SFTP data of %d bytes in a packet that holds %d", n, t.left)
	}
	if r.kind == kindRead && r.file != nil {
		t.content(&r.file.read, r.offset, n)
		if n < r.length {
			r.file.read.cameShort(r.offset + uint64(n))
		}
		return nil
	}
	t.content(nil, 0, n)
	t.stray = &s.strayOut
	return nil
}

// size notes what a stat says of a file's size.
func (s *SFTP) size(r request, f *fields) {
	flags := f.u32()
	if s.version >= 4 {
		f.u8()
	}
	size := f.u64()
	switch {
	case flags&1 == 0 || f.bad:
	case r.file != nil:
		r.file.size = int64(size)
	case r.path != "":
		s.stated = request{path: r.path, offset: size}
	}
}

// open makes a file of a handle.
func (s *SFTP) open(r request, handle []byte) {
	if old := s.files[string(handle)]; old != nil {
		if old.closing { // the target closes and opens at once
			s.finish(old, resultOK, "")
		} else {
			s.finish(old, resultOpen, detailReused)
		}
	}
	s.opened++
	f := &file{path: r.path, handle: string(handle), number: s.opened, folder: r.kind == kindOpendir, how: r.how, size: -1}
	if !f.folder && f.path == s.stated.path {
		f.size = int64(s.stated.offset)
	}
	if f.how&opensAppend != 0 {
		f.written.broken = detailAppend
	}
	s.files[f.handle] = f
	s.held += len(f.path)
}

// status notes how a request has ended.
func (s *SFTP) status(r request, code uint32) {
	switch r.kind {
	case kindClose:
		if r.file != nil && s.files[r.file.handle] == r.file {
			s.finish(r.file, statusWord(code), "")
		}
	case kindRead:
		switch {
		case r.file == nil:
		case code == statusEOF:
			r.file.read.ended(r.offset)
		case code != statusOK:
			r.file.read.fail(code)
		}
	case kindWrite:
		if r.file != nil && code != statusOK {
			r.file.written.spoil(detailWriteFailed)
			r.file.written.fail(code)
		}
	case kindResize:
		if r.file != nil && code == statusOK {
			if r.file.written.resize(r.offset) {
				r.file.how |= opensTruncate
			}
		}
	case kindSelect:
		if code == statusOK {
			s.version = r.length
		}
	case kindCopy:
		if r.file != nil && code == statusOK {
			r.file.written.spoil(detailCopied)
		}
	}
	if r.op != "" {
		s.emit(Event{Op: r.op, Path: r.path, To: r.to, Result: statusWord(code), Detail: r.detail})
	}
}

// finish reports a file that is no longer open.
func (s *SFTP) finish(f *file, result, why string) {
	delete(s.files, f.handle)
	s.held -= len(f.path)
	if f.folder {
		s.emit(Event{
			Op: OpList, Path: f.path, Result: result, Partial: result == resultOpen,
			Detail: join("entries="+strconv.FormatInt(f.entries, 10), why),
		})
		return
	}
	if f.how&opensWrite != 0 || f.written.used {
		if f.how&(opensTruncate|opensAppend) == 0 {
			why = join(why, detailOpen)
		}
		s.emit(f.uploaded(result, why))
	}
	if f.how&opensWrite == 0 || f.read.used {
		s.emit(f.downloaded(result, why))
	}
}

func (f *file) uploaded(result, why string) Event {
	c := &f.written
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.event(OpUpload, f.path, result, why)
	switch {
	case f.how&opensAppend != 0 || c.broken == detailNotFromStart:
		e.Partial = true
	case !c.ranges.whole():
		e.Partial = true
		e.Detail = join(e.Detail, detailGaps)
	}
	return e
}

func (f *file) downloaded(result, why string) Event {
	c := &f.read
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.event(OpDownload, f.path, result, why)
	if !c.all(f.size) {
		e.Partial = true
	}
	return e
}

// event words one direction of a file. The caller holds the lock.
func (c *content) event(op Op, path, result, why string) Event {
	e := Event{Op: op, Path: path, Bytes: c.bytes, SHA256: c.sum(), Result: result, Partial: result == resultOpen, Detail: join(c.broken, why)}
	if c.failure != 0 {
		e.Result, e.Partial = statusWord(c.failure), true
	}
	return e
}

// End reports what has not ended: files still open as partial, and requests without an answer. The watcher is used up.
func (s *SFTP) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = errEnded
	}
	open := make([]*file, 0, len(s.files))
	for _, f := range s.files {
		open = append(open, f)
	}
	slices.SortFunc(open, func(a, b *file) int { return cmp.Compare(a.number, b.number) })
	for _, f := range open {
		s.finish(f, resultOpen, "")
	}
	ids := make([]uint32, 0, len(s.requests))
	for id, r := range s.requests {
		if r.op != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		r := s.requests[id]
		s.emit(Event{Op: r.op, Path: r.path, To: r.to, Result: resultUnanswered, Partial: true, Detail: r.detail})
	}
	clear(s.requests)
	if s.strayIn > 0 {
		s.emit(Event{Op: OpUpload, Bytes: s.strayIn, Result: resultOK, Partial: true, Detail: detailUnknown})
	}
	if s.strayOut > 0 {
		s.emit(Event{Op: OpDownload, Bytes: s.strayOut, Result: resultOK, Partial: true, Detail: detailUnknown})
	}
}

// join joins the words that there are.
func join(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
