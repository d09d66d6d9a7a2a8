package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxLine bounds a line of scp's protocol, in bytes: a mode, a size and a name.
	maxLine = 4096
	// maxDepth bounds folders within folders.
	maxDepth = 128
	// maxEarly bounds answers that come before what they answer: OpenSSH's sink may send two for one file.
	maxEarly = 16
)

// SCP watches one conversation of the old scp protocol, of the commands scp -t and scp -f. FromClient, FromTarget and
// End are called as SFTP's are; nothing is refused, so that reply is never called.
//
// One side sends (the client of -t, the target of -f): lines C (a file), D and E (into a folder and out of it), T
// (times), and after a C line that was answered well the content and a zero byte. The other side answers each, and once
// at the start, with a zero byte, or with 1 or 2 and a line that says what went wrong. What is content and what is a line
// depends on these answers, so the sender must wait for them: bytes that come before an answer could mean one thing here
// and another at the other end. Such bytes, as all that isn't understood, are forwarded with an event that says that the
// rest is unwatched; where rights are limited, they end the transfer.
type SCP struct {
	command Command
	rights  Rights
	emit    func(Event)

	mu        sync.Mutex // guards all that follows, and is held while emit runs and bytes are hashed
	failed    error
	unwatched bool
	state     scpState
	line      []byte // what has come of a line
	left      int64  // of content
	folders   []string
	file      Event
	hash      hash.Hash
	waiting   scpWait  // what the sender waits for
	early     []string // answers that nobody has waited for yet
	answer    []byte   // what has come of an answer that is a line
}

// scpState is what the sender's next byte is.
type scpState uint8

const (
	scpLine    scpState = iota // the start of a line, or its middle
	scpContent                 // content
	scpTail                    // the byte after content: zero, or a line that says what went wrong in reading it
)

// scpWait is what the sender has sent last, and waits for the answer to.
type scpWait uint8

const (
	waitNothing scpWait = iota
	waitReady           // the receiver's first byte
	waitOpen            // C
	waitFile            // content
	waitFolder          // D
	waitOther           // T, E
)

// NewSCP returns a watcher of the conversation that an scp command starts.
func NewSCP(c Command, rights Rights, emit func(Event)) *SCP {
	return &SCP{command: c, rights: rights, emit: emit, waiting: waitReady}
}

// FromClient takes bytes from the client.
func (s *SCP) FromClient(p []byte, forward, _ func([]byte) error) error {
	return s.take(p, forward, s.command.Direction == Upload)
}

// FromTarget takes bytes from the target.
func (s *SCP) FromTarget(p []byte, forward func([]byte) error) error {
	return s.take(p, forward, s.command.Direction == Download)
}

func (s *SCP) take(p []byte, forward func([]byte) error, sender bool) error {
	if err := s.watch(p, sender); err != nil {
		return err
	}
	if len(p) == 0 {
		return nil
	}
	if err := forward(p); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = err
		return err
	}
	return nil
}

func (s *SCP) watch(p []byte, sender bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if s.unwatched {
		if sender {
			s.file.Bytes += int64(len(p))
		}
		return nil
	}
	parse := s.answers
	if sender {
		parse = s.sends
	}
	why, rest := parse(p)
	if why == "" {
		return nil
	}
	if !s.rights.Full() {
		s.failed = protocolError("scp: %s", why)
		return s.failed
	}
	s.abort()
	s.unwatched = true
	s.emit(Event{Op: OpSCP, Path: joinPaths(s.command.Paths), Result: resultOpen, Partial: true, Detail: detailUnwatched + " cause=" + strconv.Quote(why)})
	s.file = Event{}
	if sender {
		s.file.Bytes = int64(rest)
	}
	return nil
}

// sends reads what the sender sends. It returns what is wrong, and how many bytes were not understood.
func (s *SCP) sends(p []byte) (why string, rest int) {
	for len(p) > 0 {
		if s.waiting != waitNothing {
			return "the sender doesn't wait for an answer", len(p)
		}
		switch s.state {
		case scpContent:
			n := int(min(s.left, int64(len(p))))
			s.hash.Write(p[:n])
			s.file.Bytes += int64(n)
			s.left -= int64(n)
			p = p[n:]
			if s.left == 0 {
				s.state = scpTail
			}
			continue
		case scpTail:
			if p[0] == 0 && len(s.line) == 0 {
				p = p[1:]
				s.state = scpLine
				s.wait(waitFile)
				continue
			}
			if p[0] != 1 && p[0] != 2 && len(s.line) == 0 {
				return "content is longer than was said", len(p)
			}
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			if len(s.line)+len(p) > maxLine {
				return "a line without an end", len(p)
			}
			s.line = append(s.line, p...)
			return "", 0
		}
		if len(s.line)+n > maxLine {
			return "a line without an end", len(p)
		}
		line := p[:n]
		if len(s.line) > 0 {
			s.line = append(s.line, line...)
			line = s.line
		}
		why := s.oneLine(line)
		s.line = s.line[:0]
		if why != "" {
			return why, len(p)
		}
		p = p[n+1:]
	}
	return "", 0
}

// oneLine takes one line of the sender.
func (s *SCP) oneLine(line []byte) string {
	if len(line) == 0 {
		return "an empty line"
	}
	text := string(line[1:])
	if s.state == scpTail { // the sender couldn't read all, and has sent something in its place
		s.state = scpLine
		s.file.Partial = true
		s.file.Detail = join(s.file.Detail, "sender="+quote(text))
		s.wait(waitFile)
		return ""
	}
	switch line[0] {
	case 1, 2: // in place of a file
		s.emit(Event{Op: s.op(), Path: joinPaths(s.command.Paths), Name: s.name(""), Result: "error_" + strconv.Itoa(int(line[0])), Detail: "sender=" + quote(text)})
		return ""
	case 'T':
		s.wait(waitOther)
		return ""
	case 'E':
		if len(s.folders) == 0 {
			return "the end of a folder that has no start"
		}
		if text != "" {
			return "a malformed line"
		}
		s.folders = s.folders[:len(s.folders)-1]
		s.wait(waitOther)
		return ""
	case 'C', 'D':
		mode, rest, ok1 := strings.Cut(text, " ")
		size, name, ok2 := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if !ok1 || !ok2 || err != nil || n < 0 || name == "" || size[0] == '+' || len(mode) > 8 || strings.Trim(mode, "01234567") != "" {
			return "a malformed line"
		}
		if line[0] == 'D' {
			if len(s.folders) == maxDepth {
				return "too many folders within each other"
			}
			s.folders = append(s.folders, name)
			s.wait(waitFolder)
			return ""
		}
		s.file = Event{Op: s.op(), Path: joinPaths(s.command.Paths), Name: s.name(name), Detail: "size=" + size + " mode=" + mode}
		s.left = n
		s.wait(waitOpen)
		return ""
	}
	return "an unknown line"
}

// wait says what the sender waits for now. An answer may have come already.
func (s *SCP) wait(what scpWait) {
	s.waiting = what
	if len(s.early) > 0 {
		answer := s.early[0]
		s.early = s.early[1:]
		s.answered(answer)
	}
}

// answers reads what the receiver answers.
func (s *SCP) answers(p []byte) (why string, rest int) {
	for len(p) > 0 {
		if len(s.answer) == 0 && p[0] == 0 {
			p = p[1:]
			if why := s.answered(""); why != "" {
				return why, 0
			}
			continue
		}
		if len(s.answer) == 0 && p[0] != 1 && p[0] != 2 {
			return "an answer that starts with " + strconv.QuoteToASCII(string(p[:1])), 0
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			n = len(p)
		}
		if len(s.answer)+n > maxLine {
			return "an answer without an end", 0
		}
		s.answer = append(s.answer, p[:n]...)
		if n == len(p) {
			return "", 0
		}
		answer := string(s.answer)
		s.answer = s.answer[:0]
		p = p[n+1:]
		if why := s.answered(answer); why != "" {
			return why, 0
		}
	}
	return "", 0
}

// answered takes one answer: nothing, or an error's level and text.
func (s *SCP) answered(answer string) string {
	waited := s.waiting
	s.waiting = waitNothing
	result, says := resultOK, ""
	if answer != "" {
		result, says = "error_"+strconv.Itoa(int(answer[0])), "receiver="+quote(answer[1:])
	}
	switch waited {
	case waitNothing:
		if len(s.early) == maxEarly {
			return "more answers than questions"
		}
		s.early = append(s.early, answer)
	case waitOpen:
		if answer != "" {
			s.file.Result, s.file.Partial, s.file.Detail = result, true, join(s.file.Detail, says)
			s.emit(s.file)
			s.file = Event{}
			break
		}
		s.hash = sha256.New()
		s.state = scpContent
		if s.left == 0 {
			s.state = scpTail
		}
	case waitFile:
		s.file.Result, s.file.SHA256 = result, hex.EncodeToString(s.hash.Sum(nil))
		s.file.Partial = s.file.Partial || answer != ""
		s.file.Detail = join(s.file.Detail, says)
		s.emit(s.file)
		s.file, s.hash = Event{}, nil
	case waitFolder:
		op := OpMkdir
		if s.command.Direction == Download {
			op = OpList
		}
		s.emit(Event{Op: op, Path: joinPaths(s.command.Paths), Name: s.name(""), Result: result, Detail: says})
		if answer != "" { // it isn't entered
			s.folders = s.folders[:len(s.folders)-1]
		}
	default:
		if answer != "" {
			s.emit(Event{Op: OpSCP, Path: joinPaths(s.command.Paths), Name: s.name(""), Result: result, Detail: says})
		}
	}
	return ""
}

// abort reports a file that has not ended.
func (s *SCP) abort() {
	if s.file.Op == "" {
		return
	}
	s.file.Partial, s.file.Result = true, resultOpen
	if s.hash != nil {
		s.file.SHA256 = hex.EncodeToString(s.hash.Sum(nil))
	}
	s.emit(s.file)
	s.file, s.hash = Event{}, nil
}

// End reports a file that has not ended, and how much passed unwatched.
func (s *SCP) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unwatched {
		s.emit(Event{Op: s.op(), Path: joinPaths(s.command.Paths), Bytes: s.file.Bytes, Result: resultOpen, Partial: true, Detail: detailUnwatched})
	} else {
		s.abort()
	}
	if s.failed == nil {
		s.failed = errEnded
	}
}

func (s *SCP) op() Op { return Op(s.command.Direction.word()) }

// name is a name below the folders that the sender is in.
func (s *SCP) name(name string) string {
	full := strings.Join(s.folders, "/")
	switch {
	case full == "":
		full = name
	case name != "":
		full += "/" + name
	}
	return full[:min(len(full), maxPath)]
}

func (d Direction) word() string {
	switch d {
	case Upload:
		return "upload"
	case Download:
		return "download"
	}
	return ""
}

// quote makes a peer's words fit for a detail.
func quote(text string) string {
	return strconv.QuoteToASCII(text[:min(len(text), maxName)])
}

// joinPaths words the paths of a command for an event.
func joinPaths(paths []string) string {
	all := strings.Join(paths, " ")
	return all[:min(len(all), maxPath)]
}
