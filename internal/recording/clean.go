package recording

import (
	"bytes"
	"strconv"
)

// Cleaner makes the output of a session harmless for the terminal of whoever looks at it. What is left: printable text, CR, LF,
// TAB, BS, colours, movement and erasure, and the few modes of a list. What is gone: whatever answers, so that it would
// be typed at the auditor's prompt (device queries), whatever is remembered (titles, clipboard, key maps, printers), whatever
// hides (marks of direction), and all that is not known. It may be fed a byte at a time.
type Cleaner struct {
	scanner scanner

	// What Reset has to undo.
	altScreen, hidden, noWrap, origin, graphics, margins bool
}

// Clean appends p, made harmless, to dst.
func (c *Cleaner) Clean(dst, p []byte) []byte {
	c.scanner.scan(p, func(t token) { dst = c.token(dst, t) })
	return dst
}

// Reset appends what leaves a terminal as it was.
func (c *Cleaner) Reset(dst []byte) []byte {
	dst = append(dst, "\x1b[0m"...)
	for _, undo := range []struct {
		on *bool
		by string
	}{
		{&c.graphics, "\x0f\x1b(B\x1b)B"},
		{&c.margins, "\x1b7\x1b[r\x1b8"},
		{&c.origin, "\x1b[?6l"},
		{&c.noWrap, "\x1b[?7h"},
		{&c.hidden, "\x1b[?25h"},
		{&c.altScreen, "\x1b[?1049l"},
	} {
		if *undo.on {
			dst = append(dst, undo.by...)
			*undo.on = false
		}
	}
	c.scanner = scanner{}
	return dst
}

func (c *Cleaner) token(dst []byte, t token) []byte {
	switch t.kind {
	case tokText:
		return append(dst, t.text...)
	case tokControl:
		return c.control(dst, t.last)
	case tokEscape:
		return c.escape(dst, t)
	default:
		return c.csi(dst, t)
	}
}

const (
	shiftOut = 0x0e
	shiftIn  = 0x0f
)

func (c *Cleaner) control(dst []byte, b byte) []byte {
	switch b {
	case '\r', '\n', '\t', '\b':
		return append(dst, b)
	case '\v', '\f': // terminals take them for LF
		return append(dst, '\n')
	case shiftOut, shiftIn:
		c.graphics = c.graphics || b == shiftOut
		return append(dst, b)
	}
	return dst
}

func (c *Cleaner) escape(dst []byte, t token) []byte {
	switch string(t.inter) {
	case "":
		switch t.last {
		case '7', '8', 'D', 'E', 'M': // save and restore the cursor; index, next line, reverse index
			return append(dst, escape, t.last)
		case 'c': // RIS would undo the auditor's own settings
			return append(c.Reset(dst), "\x1b[H\x1b[2J"...)
		}
	case "(", ")":
		if t.last == '0' || t.last == 'B' { // lines, ASCII
			c.graphics = c.graphics || t.last == '0'
			return append(append(append(dst, escape), t.inter...), t.last)
		}
	}
	return dst
}

// maxParam bounds a parameter: no terminal is larger, and some count as far as they are told.
const maxParam = 9999

func (c *Cleaner) csi(dst []byte, t token) []byte {
	if len(t.inter) > 0 {
		return dst
	}
	most := 1
	switch t.last {
	case 'm':
		return c.colours(dst, t)
	case 'h', 'l':
		return c.mode(dst, t)
	case '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'I', 'J', 'K', 'L', 'M', 'P', 'S', 'T', 'X', 'Z', '`', 'a', 'b', 'd', 'e':
	case 'H', 'f', 'r':
		most = 2
	case 's', 'u':
		most = 0
	default:
		return dst
	}
	params, ok := numbers(t.params)
	if !ok || len(params) > most {
		return dst
	}
	c.margins = c.margins || t.last == 'r'
	return appendCSI(dst, "", params, t.last)
}

// numbers reads parameters; -1 is one that is not there. Anything but digits and semicolons is not ok.
func numbers(p []byte) (all []int, ok bool) {
	if len(p) == 0 {
		return nil, true
	}
	for part := range bytes.SplitSeq(p, []byte(";")) {
		n := -1
		for _, d := range part {
			if d < '0' || d > '9' {
				return nil, false
			}
			n = min(max(n, 0)*10+int(d-'0'), maxParam)
		}
		all = append(all, n)
	}
	return all, true
}

func appendCSI(dst []byte, private string, params []int, last byte) []byte {
	dst = append(append(dst, escape, '['), private...)
	for i, n := range params {
		if i > 0 {
			dst = append(dst, ';')
		}
		if n >= 0 {
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
	}
	return append(dst, last)
}

// colours lets SGR through, also in its form with colons (ISO 8613-6).
func (c *Cleaner) colours(dst []byte, t token) []byte {
	for _, b := range t.params {
		if (b < '0' || b > '9') && b != ';' && b != ':' {
			return dst
		}
	}
	return append(append(append(dst, escape, '['), t.params...), 'm')
}

// mode lets those private modes through that only change how things look, one by one.
func (c *Cleaner) mode(dst []byte, t token) []byte {
	rest, private := bytes.CutPrefix(t.params, []byte("?"))
	params, ok := numbers(rest)
	if !private || !ok {
		return dst
	}
	set := t.last == 'h'
	for _, n := range params {
		switch n {
		case 6:
			c.origin = set
		case 7:
			c.noWrap = !set
		case 25:
			c.hidden = !set
		case 47, 1047, 1049:
			c.altScreen = set
		case 12, 1048:
		default:
			continue
		}
		dst = appendCSI(dst, "?", []int{n}, t.last)
	}
	return dst
}
