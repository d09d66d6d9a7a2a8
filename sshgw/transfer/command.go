package transfer

import (
	"slices"
	"strings"
)

// Kind is the program that a command starts at the target.
type Kind string

// The kinds.
const (
	KindSCP        Kind = "scp"
	KindRsync      Kind = "rsync"
	KindSFTPServer Kind = "sftp-server"
)

// Direction is where content goes. The zero value is neither.
type Direction uint8

// The directions.
const (
	Upload   Direction = 1 + iota // to the target
	Download                      // from the target
	Both                          // as the conversation says: SFTP
)

// Needs returns the rights without which such a command must not start. SFTP starts with any, and is filtered.
func (d Direction) Needs() Rights {
	return Rights{Upload: d == Upload, Download: d == Download}
}

// Command is a command line that does nothing but move files.
type Command struct {
	Kind      Kind
	Direction Direction
	Paths     []string // what it names at the target, without quoting; patterns as they are
	Recursive bool     // scp -r
}

// maxCommand bounds the command lines that are read, in bytes.
const maxCommand = 32 << 10

// programs are where the programs are expected. Others of the same name could be anything, perhaps just uploaded.
var programs = map[string]Kind{
	"scp": KindSCP, "/bin/scp": KindSCP, "/usr/bin/scp": KindSCP, "/usr/local/bin/scp": KindSCP,
	"rsync": KindRsync, "/bin/rsync": KindRsync, "/usr/bin/rsync": KindRsync, "/usr/local/bin/rsync": KindRsync,
	"sftp-server": KindSFTPServer, "/usr/lib/openssh/sftp-server": KindSFTPServer, "/usr/lib/sftp-server": KindSFTPServer,
	"/usr/lib/ssh/sftp-server": KindSFTPServer, "/usr/libexec/sftp-server": KindSFTPServer,
	"/usr/libexec/openssh/sftp-server": KindSFTPServer, "/usr/lib64/ssh/sftp-server": KindSFTPServer,
	"/usr/local/libexec/sftp-server": KindSFTPServer,
}

// ParseCommand recognises the command lines by which clients move files: scp's -t and -f, rsync's --server, and
// sftp-server. It says no to anything that a shell could take for more than this one command, or that has an option
// that isn't known to do no more than move files. What it refuses is an exec like any other.
func ParseCommand(exec string) (Command, bool) {
	if len(exec) > maxCommand {
		return Command{}, false
	}
	words, ok := splitWords(exec)
	if !ok || len(words) == 0 || words[0].pattern {
		return Command{}, false
	}
	var c Command
	switch kind := programs[words[0].text]; kind {
	case KindSCP:
		c, ok = parseSCP(words[1:])
	case KindRsync:
		c, ok = parseRsync(words[1:])
	case KindSFTPServer:
		c, ok = Command{Direction: Both}, len(words) == 1
	default:
		return Command{}, false
	}
	if !ok {
		return Command{}, false
	}
	c.Kind = programs[words[0].text]
	return c, true
}

func parseSCP(words []word) (c Command, ok bool) {
	i := 0
	for ; i < len(words) && strings.HasPrefix(words[i].text, "-"); i++ {
		if words[i].text == "--" {
			i++
			break
		}
		letters := words[i].text[1:]
		if letters == "" || words[i].pattern {
			return c, false
		}
		for _, letter := range letters {
			switch letter {
			case 't', 'f':
				if c.Direction != 0 {
					return c, false
				}
				c.Direction = Upload
				if letter == 'f' {
					c.Direction = Download
				}
			case 'r':
				c.Recursive = true
			case 'p', 'd', 'v', 'q':
			default:
				return c, false
			}
		}
	}
	dashes := i > 0 && words[i-1].text == "--"
	c.Paths, ok = operands(words[i:], dashes)
	return c, ok && c.Direction != 0 && len(c.Paths) > 0 && (c.Direction == Download || len(c.Paths) == 1)
}

// operands returns the paths of a command. Getopt takes options behind them too, and a pattern may stand for a name that
// looks like one.
func operands(words []word, dashes bool) (paths []string, ok bool) {
	for _, w := range words {
		if !dashes && (strings.HasPrefix(w.text, "-") || w.pattern && strings.ContainsAny(w.text[:1], "*?[")) {
			return nil, false
		}
		paths = append(paths, w.text)
	}
	return paths, true
}

// rsync's options in server mode, as its client sends them and rrsync allows them. An option that names another file,
// starts a program, or lets more options come through the stream (-s) isn't here.
const (
	rsyncLetters  = "ACDEHIJKLNOPRSUWXbcdgklmnopqrtuvxyz"
	rsyncEither   = "append append-verify bwlimit= checksum checksum-choice= checksum-seed= compress compress-choice= compress-level= copy-unsafe-links existing fuzzy hard-links iconv= ignore-errors ignore-existing ignore-non-existing inplace log-format= max-alloc= max-size= min-size= modify-window= munge-links new-compress no-i-r no-implied-dirs no-inc-recursive no-r no-W numeric-ids old-compress one-file-system open-noatime partial preallocate safe-links size-only skip-compress= sparse stats stderr= timeout= use-qsort"
	rsyncReceiver = "backup block-size= delay-updates delete delete-after delete-before delete-delay delete-during delete-excluded delete-missing-args fake-super force fsync groupmap= ignore-missing-args max-delete= mkpath super usermap="
)

func parseRsync(words []word) (c Command, ok bool) {
	if len(words) < 2 || words[0].text != "--server" {
		return c, false
	}
	c.Direction = Upload
	i := 1
	if words[1].text == "--sender" {
		c.Direction = Download
		i++
	}
	allowed := strings.Fields(rsyncEither)
	if c.Direction == Upload {
		allowed = append(allowed, strings.Fields(rsyncReceiver)...)
	}
	for ; i < len(words) && strings.HasPrefix(words[i].text, "-"); i++ {
		w := words[i]
		if w.pattern {
			return c, false
		}
		if long, isLong := strings.CutPrefix(w.text, "--"); isLong {
			name, _, valued := strings.Cut(long, "=")
			if valued {
				name += "="
			}
			if !slices.Contains(allowed, name) {
				return c, false
			}
			continue
		}
		// Letters, and at their end e with what the client can do.
		letters, able, _ := strings.Cut(w.text[1:], "e")
		if strings.Trim(letters, rsyncLetters) != "" || strings.Trim(able, "."+"0123456789"+"LsfxCIvuiR") != "" || w.text == "-" {
			return c, false
		}
	}
	// A dot stands between options and paths.
	if i >= len(words) || words[i].text != "." {
		return c, false
	}
	c.Paths, ok = operands(words[i+1:], false)
	return c, ok && len(c.Paths) > 0
}

// word is one word of a command line, without its quoting.
type word struct {
	text    string
	pattern bool // a shell replaces it by names of files
}

// notInWords are what some shell acts on, though another one's quotes stand around it.
const notInWords = "\n\r\x00$`;&|<>^%"

// itemize is what rsync -i sends: the one harmless percent sign.
const itemize = "--log-format=%i"

// splitWords splits a command line as a POSIX shell does, and refuses what any shell we know could take for more.
func splitWords(line string) (words []word, ok bool) {
	if strings.ContainsAny(strings.ReplaceAll(line, itemize, ""), notInWords) {
		return nil, false
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r >= 0x2018 && r <= 0x201f }) {
		return nil, false // PowerShell takes these for quotes
	}
	if strings.Contains(line, `\`) && strings.ContainsAny(line, "(){}") {
		return nil, false // a quote behind a backslash is one for PowerShell, and what follows it may be an expression
	}
	var text []byte
	var in, pattern bool // in a word; it has a character that makes it a pattern
	end := func() {
		if in {
			words = append(words, word{string(text), pattern})
		}
		text, in, pattern = nil, false, false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			end()
		case '\'', '"':
			n := strings.IndexByte(line[i+1:], c)
			if n < 0 {
				return nil, false
			}
			quoted := line[i+1 : i+1+n]
			if c == '"' && strings.ContainsAny(quoted, `\!`) {
				return nil, false
			}
			text, in = append(text, quoted...), true
			i += n + 1
		case '\\':
			i++
			if i == len(line) {
				return nil, false
			}
			text, in = append(text, line[i]), true
		case '(', ')', '{', '}', '!', '#':
			return nil, false
		case '*', '?', '[', ']':
			text, in, pattern = append(text, c), true, true
		case '=', '~':
			// The first word with it is an assignment; a tilde is a home at a path's start.
			if c == '=' && len(words) == 0 {
				return nil, false
			}
			text, in = append(text, c), true
		default:
			if c < ' ' || c == 0x7f {
				return nil, false
			}
			text, in = append(text, c), true
		}
	}
	end()
	return words, true
}
