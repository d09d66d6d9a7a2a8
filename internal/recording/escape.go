package recording

import (
	"unicode/utf8"
)

// tokenKind is what a piece of a terminal's input is.
type tokenKind uint8

const (
	tokText    tokenKind = iota // printable characters, UTF-8
	tokControl                  // one byte of C0, or DEL
	tokEscape                   // ESC, bytes between, a last one
	tokCSI                      // ESC [, parameters, bytes between, a last one
)

// token is one piece. Its slices are good during the call that it comes with.
type token struct {
	kind   tokenKind
	text   []byte // of tokText
	params []byte // of tokCSI: 0x30 to 0x3f
	inter  []byte // of tokCSI and tokEscape: 0x20 to 0x2f
	last   byte   // of all others
}

// Bounds of sequences. What is longer is dropped, as terminals do, and a string that does not end is taken for text in the
// end: nothing may be hidden from an auditor by a sequence that the person's terminal did not know.
const (
	maxSequence  = 64
	maxString    = 8 << 10 // OSC, APC, PM, SOS and titles; they end with a line too
	maxDCS       = 1 << 20 // pictures come as DCS
	escape       = 0x1b
	byteBell     = 0x07
	byteCancel   = 0x18
	byteSubst    = 0x1a
	byteDel      = 0x7f
	stringEndC1  = 0x9c // ST as C1; in UTF-8 behind stringLeadC1
	stringLeadC1 = 0xc2
)

type scanState uint8

const (
	inGround scanState = iota
	inEscape
	inCSI
	inLongCSI // too long: until its end
	inString
	inDCS
)

// scanner takes the output of a session apart, however it was cut (ECMA-48; states after Paul Williams' parser). Strings
// (OSC, DCS, APC, PM, SOS) and C1 controls are dropped.
type scanner struct {
	state  scanState
	params []byte
	inter  []byte
	length int // of a string
	lead   bool
	held   [utf8.UTFMax]byte
	many   int // of held
}

// scan calls emit for each token of p.
func (s *scanner) scan(p []byte, emit func(token)) {
	for len(p) > 0 {
		if s.state == inGround {
			p = s.ground(p, emit)
			continue
		}
		if s.step(p[0], emit) {
			p = p[1:]
		}
	}
}

// ground takes text, and the control that ends it.
func (s *scanner) ground(p []byte, emit func(token)) (rest []byte) {
	if s.many > 0 {
		return s.goOn(p, emit)
	}
	text := 0 // where it begins
	flush := func(end int) {
		if end > text {
			emit(token{kind: tokText, text: p[text:end]})
		}
	}
	for i := 0; i < len(p); {
		c := p[i]
		if c >= 0x20 && c < byteDel {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			flush(i)
			if c == escape {
				s.begin()
			} else {
				emit(token{kind: tokControl, last: c})
			}
			return p[i+1:]
		}
		if !utf8.FullRune(p[i:]) {
			flush(i)
			s.many = copy(s.held[:], p[i:])
			return nil
		}
		r, n := utf8.DecodeRune(p[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			flush(i)
			emit(token{kind: tokText, text: []byte("\ufffd")})
			text = i + 1
		case unseen(r):
			flush(i)
			text = i + n
		}
		i += n
	}
	flush(len(p))
	return nil
}

// goOn completes a character that was cut.
func (s *scanner) goOn(p []byte, emit func(token)) (rest []byte) {
	whole := append([]byte(nil), s.held[:s.many]...)
	had := len(whole)
	for len(p) > len(whole)-had && len(whole) < utf8.UTFMax && !utf8.FullRune(whole) {
		whole = append(whole, p[len(whole)-had])
	}
	if !utf8.FullRune(whole) {
		s.many = copy(s.held[:], whole)
		return nil
	}
	s.many = 0
	r, n := utf8.DecodeRune(whole)
	if r == utf8.RuneError && n == 1 { // what was held begins no character, nor does any byte of it
		for range had {
			emit(token{kind: tokText, text: []byte("\ufffd")})
		}
		return p
	}
	s.ground(whole[:n], emit)
	return p[n-had:]
}

// unseen tells of the C1 controls, and of marks that turn the direction of what follows.
func unseen(r rune) bool {
	return r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

func (s *scanner) begin() {
	s.state, s.params, s.inter, s.length, s.lead = inEscape, s.params[:0], s.inter[:0], 0, false
}

// step takes a byte within a sequence; where it tells false, the byte is to be looked at again.
func (s *scanner) step(c byte, emit func(token)) bool {
	if s.state == inString || s.state == inDCS {
		return s.stepString(c)
	}
	switch {
	case c == escape:
		s.begin()
		return true
	case c == byteCancel || c == byteSubst:
		s.state = inGround
		return true
	case c < 0x20: // carried out in the middle, as terminals do
		emit(token{kind: tokControl, last: c})
		return true
	case c == byteDel:
		return true
	case c >= utf8.RuneSelf:
		s.state = inGround
		return false
	}
	if s.state == inEscape {
		s.stepEscape(c, emit)
		return true
	}
	switch {
	case c >= 0x40:
		if s.state == inCSI {
			emit(token{kind: tokCSI, params: s.params, inter: s.inter, last: c})
		}
		s.state = inGround
	case s.state == inLongCSI:
	case len(s.params)+len(s.inter) >= maxSequence, c >= 0x30 && len(s.inter) > 0:
		s.state = inLongCSI
	case c >= 0x30:
		s.params = append(s.params, c)
	default:
		s.inter = append(s.inter, c)
	}
	return true
}

func (s *scanner) stepEscape(c byte, emit func(token)) {
	if c < 0x30 {
		if len(s.inter) < maxSequence {
			s.inter = append(s.inter, c)
		}
		return
	}
	s.state = inGround
	if len(s.inter) == 0 {
		switch c {
		case '[':
			s.state = inCSI
			return
		case 'P':
			s.state = inDCS
			return
		case ']', 'X', '^', '_', 'k':
			s.state = inString
			return
		}
	}
	emit(token{kind: tokEscape, inter: s.inter, last: c})
}

// stepString drops what is in a string.
func (s *scanner) stepString(c byte) bool {
	s.length++
	lead := s.lead
	s.lead = c == stringLeadC1
	most := maxString
	if s.state == inDCS {
		most = maxDCS
	}
	switch {
	case c == escape:
		s.begin()
	case c == byteCancel, c == byteSubst, c == byteBell && s.state == inString, c == stringEndC1 && lead:
		s.state = inGround
	case c == '\n' && s.state == inString, s.length > most:
		s.state = inGround
		return false
	}
	return true
}
