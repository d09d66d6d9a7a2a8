package roll

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/login"
)

// The bounds of a file.
const (
	MaxFile     = 64 << 20 // bytes
	MaxRows     = 250_000
	MaxGroups   = 64   // of one person
	MaxField    = 4096 // bytes
	maxProblems = 500  // that are told; the rest are counted
	maxHeader   = 4096 // bytes of the header line
)

// Problem is one thing that is wrong with a list.
type Problem struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"` // bytes from 1 on
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// Problems are all that is wrong, of which the first are kept.
type Problems struct {
	List  []Problem
	Total int
}

// Add takes one more. Of one field of one line, the first is enough.
func (p *Problems) Add(x Problem) {
	if x.Field != "" && slices.ContainsFunc(p.List, func(o Problem) bool { return o.Line == x.Line && o.Field == x.Field }) {
		return
	}
	if p.Total++; len(p.List) < maxProblems {
		p.List = append(p.List, x)
	}
}

func (p *Problems) bad(r *Row, field, hint, format string, args ...any) {
	p.Add(Problem{Line: r.Line, Column: r.At(field), Field: field, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// summing hashes what is read.
type summing struct {
	io.Reader
	sum hash.Hash
	n   int64
}

var errTooLong = fmt.Errorf("the file has more than %d bytes", int64(MaxFile))

func (s *summing) Read(p []byte) (int, error) {
	if s.n >= MaxFile {
		return 0, errTooLong
	}
	n, err := s.Reader.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// Read reads a file, and all that is wrong with it by itself. Sum is the SHA-256 of its bytes. An error is one of reading.
func Read(in io.Reader, problems *Problems) (rows []Row, sum string, err error) {
	s := &summing{Reader: in, sum: sha256.New()}
	b := bufio.NewReaderSize(s, 64<<10)
	if mark, _ := b.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	head, _ := b.Peek(maxHeader)
	if bytes.IndexByte(head, 0) >= 0 {
		problems.Add(Problem{Line: 1, Text: "the file is not text in UTF-8", Hint: "in a spreadsheet: save as CSV UTF-8"})
		return nil, "", nil
	}
	r := csv.NewReader(b)
	r.Comma, r.FieldsPerRecord, r.ReuseRecord = delimiter(head), -1, true
	columns, ok := header(r, problems)
	if !ok {
		return nil, "", nil
	}
	for {
		record, err := r.Read()
		var parse *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return rows, hex.EncodeToString(s.sum.Sum(nil)), nil
		case errors.As(err, &parse):
			problems.Add(Problem{Line: parse.Line, Column: parse.Column, Text: parse.Err.Error(), Hint: `a field with a quotation mark is written "so ""it"" is"`})
			continue
		case err != nil:
			return nil, "", err
		}
		row := Row{Has: columns, at: make([]uint16, len(columns))}
		row.Line, _ = r.FieldPos(0)
		if len(rows) >= MaxRows {
			problems.Add(Problem{Line: row.Line, Text: fmt.Sprintf("more than %d people", MaxRows)})
			return nil, "", nil
		}
		if !slices.ContainsFunc(record, func(f string) bool { return strings.TrimSpace(f) != "" }) {
			continue // what spreadsheets leave of an empty line
		}
		if len(record) != len(columns) {
			problems.Add(Problem{Line: row.Line, Text: fmt.Sprintf("has %d fields, and the header has %d", len(record), len(columns))})
			continue
		}
		for i, field := range columns {
			_, at := r.FieldPos(i)
			row.at[i] = uint16(min(at, math.MaxUint16))
			row.read(field, record[i], problems)
		}
		rows = append(rows, row)
	}
}

// delimiter is what stands between the words of the header line.
func delimiter(head []byte) rune {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	best, most := ',', 0
	for _, d := range ",;\t" {
		if n := bytes.Count(line, []byte(string(d))); n > most {
			best, most = d, n
		}
	}
	return best
}

func header(r *csv.Reader, problems *Problems) (columns []string, ok bool) {
	record, err := r.Read()
	if err != nil {
		problems.Add(Problem{Line: 1, Text: "there is no header line", Hint: "the columns are: " + strings.Join(Columns(), ",")})
		return nil, false
	}
	ok = true
	for i, word := range record {
		name := strings.ToLower(strings.TrimSpace(word))
		_, at := r.FieldPos(i)
		switch {
		case !slices.Contains(Columns(), name):
			problems.Add(Problem{Line: 1, Column: at, Text: fmt.Sprintf("%q is not a known column", clip(word)), Hint: "known are: " + strings.Join(Columns(), ", ")})
			ok = false
		case slices.Contains(columns, name):
			problems.Add(Problem{Line: 1, Column: at, Text: fmt.Sprintf("the column %s is there twice", name)})
			ok = false
		}
		columns = append(columns, name)
	}
	if ok && !slices.Contains(columns, Name) {
		problems.Add(Problem{Line: 1, Text: "there is no column name", Hint: "known are: " + strings.Join(Columns(), ", ")})
		ok = false
	}
	return columns, ok
}

// read takes one field.
func (r *Row) read(field, value string, problems *Problems) {
	value = strings.TrimSpace(plain(value))
	if len(value) > MaxField || !utf8.ValidString(value) {
		problems.bad(r, field, "in a spreadsheet: save as CSV UTF-8", "is not text in UTF-8 of at most %d bytes", MaxField)
		return
	}
	value = strings.Clone(value) // what the reader gives is part of its whole line
	switch field {
	case Name:
		if r.Name = value; !login.ValidName(value) {
			problems.bad(r, field, "lower-case letters, digits, dot, hyphen and underscore, beginning with a letter or digit, at most 64", "%q cannot be a person's name", clip(value))
		}
	case Kind:
		r.Kind = login.PersonKind(value)
	case Groups:
		list := strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == ',' || c == ';' || c == '|' })
		if slices.Sort(list); len(list) > MaxGroups {
			problems.bad(r, field, "", "has %d groups: at most %d", len(list), MaxGroups)
			return
		}
		if len(list) > 0 {
			r.Groups = slices.Compact(list)
		}
	case FullName:
		r.FullName = value
	case Mail:
		r.Mail = value
	case Company:
		r.Company = value
	case Sponsor:
		r.Sponsor = value
	case Owner:
		r.Owner = value
	case From:
		r.From = r.when(field, value, problems)
	case Until:
		r.Until = r.when(field, value, problems)
	case Contract:
		if err := r.Contract.UnmarshalText([]byte(value)); err != nil {
			problems.bad(r, field, "2026-12-31", "%q is no day", clip(value))
		}
	case First:
		r.First = value
	case Disabled:
		switch strings.ToLower(value) {
		case "", "no", "false", "0":
		case "yes", "true", "1":
			r.Disabled = true
		default:
			problems.bad(r, field, "yes or no", "%q is neither yes nor no", clip(value))
		}
	}
}

func (r *Row) when(field, value string, problems *Problems) time.Time {
	if value == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, value); err == nil {
			return t.UTC()
		}
	}
	problems.bad(r, field, "2026-06-30, or 2026-06-30T09:00:00Z", "%q is no time", clip(value))
	return time.Time{}
}

// formula are the characters by which a spreadsheet knows one (OWASP, CSV Injection).
const formula = "=+-@\t\r"

// plain takes away what harmless put before a field.
func plain(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.IndexByte(formula+"'", s[1]) >= 0 {
		return s[1:]
	}
	return s
}

// harmless keeps a spreadsheet from taking a field for a formula.
func harmless(s string) string {
	if s != "" && strings.IndexByte(formula+"'", s[0]) >= 0 {
		return "'" + s
	}
	return s
}

// Write writes people as Read reads them.
func Write(w io.Writer, people func(yield func(login.Person) error) error) error {
	out := csv.NewWriter(w)
	if err := out.Write(Columns()); err != nil {
		return err
	}
	record := make([]string, len(Columns()))
	if err := people(func(p login.Person) error {
		for i, field := range Columns() {
			record[i] = harmless(text(p, field))
		}
		return out.Write(record)
	}); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
