package tokencsv

import (
	"bufio"
	"encoding/base32"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"sallyport/otp"
)

// The bounds of a table.
const (
	maxRow     = 16 << 10 // bytes of a row; those of makers have some 200
	maxColumns = 64
	maxPerson  = 256 // bytes of a name of a person
	readAhead  = 4096

	minSecret = 26 // characters of the shortest secret that is taken, 16 bytes in base32
)

// Options are what the table itself does not say. Fields that are zero are not known: type; else 6 digits, SHA-1, 30 seconds.
type Options struct {
	Params otp.Params
}

var errLong = errors.New("a row is too long: is a quote open?")

// bounded hands on no more than a row may have, until it is allowed more.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Read reads a table and hands each token that is well to give, in their order. The error is *otp.Faults with all that is wrong
// with the table, or what the reading or give failed with; then the tokens that were given must not be used.
func Read(r io.Reader, o Options, give func(otp.Hardware) error) error {
	in := otp.NewIntake(give)
	text := bufio.NewReaderSize(transform.NewReader(r, unicode.BOMOverride(encoding.Nop.NewDecoder())), 64<<10)
	separator, err := separatorOf(text)
	if errors.Is(err, errForm) {
		in.Add(otp.Fault{Line: 1, What: "this is XML, not a table", Hint: "`--format pskc` reads PSKC"})
		return in.Err()
	}
	if err != nil {
		return err
	}
	limit := &bounded{r: text}
	t := &table{in: in, o: o, csv: csv.NewReader(limit)}
	t.csv.Comma, t.csv.Comment, t.csv.FieldsPerRecord, t.csv.TrimLeadingSpace, t.csv.ReuseRecord = separator, '#', -1, true, true
	for first := true; ; {
		limit.left = maxRow + readAhead
		record, err := t.csv.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			if first {
				in.Add(otp.Fault{Line: 1, What: "the table is empty", Hint: "fetch it again"})
			} else if in.Tokens() == 0 && len(in.List) == 0 {
				in.Add(otp.Fault{Line: 1, What: "the table has no rows below its names of columns"})
			}
			return in.Err()
		case errors.Is(err, errLong):
			in.Add(otp.Fault{Line: t.line + 1, What: errLong.Error(), Hint: "a row has some 200 bytes"})
			return in.Err()
		case errors.As(err, &bad):
			t.line = bad.StartLine
			in.Add(otp.Fault{Line: bad.StartLine, What: "the quotes of this row are not right", Hint: `a quote within quotes is written twice ("")`})
			continue
		case err != nil:
			return err
		}
		t.line, _ = t.csv.FieldPos(0)
		for i, cell := range record {
			record[i] = clean(cell)
		}
		if strings.Join(record, "") == "" || first && strings.HasPrefix(strings.ToLower(record[0]), "sep=") {
			continue
		}
		if first {
			first = false
			more, err := t.begin(record)
			if err != nil {
				return in.Err()
			}
			if !more {
				continue
			}
		}
		if err := t.row(record); err != nil {
			return err
		}
	}
}

// separatorOf looks at the first line.
func separatorOf(r *bufio.Reader) (rune, error) {
	head, err := r.Peek(maxRow)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, err
	}
	line := ""
	for l := range strings.Lines(string(head)) {
		if line = strings.TrimSpace(l); line != "" && line[0] != '#' {
			break
		}
	}
	if strings.HasPrefix(line, "<") {
		return 0, errForm
	}
	if rest, found := strings.CutPrefix(strings.ToLower(line), "sep="); found && len(rest) == 1 {
		switch rest[0] {
		case ',', ';', '\t', '|':
			return rune(rest[0]), nil
		}
	}
	best, most := ',', 0
	for _, c := range ",;\t|" {
		if n := strings.Count(line, string(c)); n > most {
			best, most = c, n
		}
	}
	return best, nil
}

// clean removes what spreadsheets put around a text to keep it one, and blanks.
func clean(cell string) string {
	cell = strings.TrimSpace(strings.ToValidUTF8(cell, "?"))
	if len(cell) >= 3 && strings.HasPrefix(cell, `="`) && strings.HasSuffix(cell, `"`) {
		cell = strings.TrimSpace(cell[2 : len(cell)-1])
	}
	return strings.TrimPrefix(cell, "'")
}

// form is how the rows of a table read.
type form int

const (
	named       form = iota // by the names of columns
	listed                  // serial, secret, type, digits, period or counter
	traditional             // the YubiKey Personalization Tool's
	yubico                  // its other log
)

// table is one reading.
type table struct {
	in    *otp.Intake
	o     Options
	csv   *csv.Reader
	line  int
	form  form
	names header
}

// errForm: the table is of no form that is known.
var errForm = errors.New("unknown table")

// begin finds out from the first record what table it is. More says that the record is a row itself.
func (t *table) begin(record []string) (more bool, err error) {
	fail := func(hint, format string, args ...any) (bool, error) {
		t.in.Add(otp.Fault{Line: t.line, What: fmt.Sprintf(format, args...), Hint: hint})
		return false, errForm
	}
	const hint = "name the columns in the first line: serial number,secret key,time interval,manufacturer,model"
	if len(record) > maxColumns {
		return fail(hint, "there are %d columns: at most %d", len(record), maxColumns)
	}
	first := strings.ToLower(record[0])
	names := headerOf(record)
	switch {
	case names.has(serial) && names.has(secret):
		for i, f := range names {
			for _, g := range names[:i] {
				if f != 0 && (f == g || isSecret(f) && isSecret(g)) {
					return fail("leave one of them", "two columns tell %v", f)
				}
			}
		}
		t.names = names
		return false, nil
	case names.has(serial) || names.has(secret) && len(record) > 1 && names[0] != 0:
		missing := serial
		if names.has(serial) {
			missing = secret
		}
		return fail(hint, "no column tells %v", missing)
	case first == "logging start" || isEvent(first):
		t.form = traditional
	case len(record) >= 6 && record[1] == "" && record[2] == "0" && allDigits(record[0]):
		t.form = yubico
	default:
		if len(record) < 2 {
			return fail(hint, "there is one column only, and no separator that is known")
		}
		if seed, err := decode(record[1], secret); err != nil || len(seed) < otp.MinSeed/2 {
			return fail(hint, "the first line neither names a serial number and a secret, nor begins with them")
		}
		t.form = listed
	}
	return true, nil
}

func isSecret(f field) bool { return f == secret || f == secretHex || f == secretBase32 }

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isEvent tells the first cell of the YubiKey Personalization Tool's log.
func isEvent(first string) bool {
	switch first {
	case "oath-hotp", "yubico otp", "static password", "challenge-response: hmac-sha1", "challenge-response: yubico otp":
		return true
	}
	return false
}

// cells are a row, by what its columns tell.
type cells map[field]string

// row takes one record.
func (t *table) row(record []string) error {
	c := make(cells, 8)
	put := func(fields ...field) {
		for i, f := range fields {
			if f != 0 && i < len(record) {
				c[f] = record[i]
			}
		}
	}
	h := otp.Hardware{Line: t.line}
	r := &entry{t: t, h: &h, sound: true}
	switch t.form {
	case named:
		put(t.names...)
		r.serial(c[serial])
		if n := len(record); n > len(t.names) || n < len(t.names) && !enough(t.names, n) {
			r.fault("is there a separator within a cell? it needs quotes", "the row has %d cells, and there are %d columns", n, len(t.names))
		}
	case listed:
		put(serial, secret, kind, digits)
		if len(record) > 4 {
			if strings.EqualFold(record[2], "totp") {
				c[period] = record[4]
			} else {
				c[counter] = record[4]
			}
		}
		r.serial(c[serial])
		if len(record) < 2 || len(record) > 5 {
			r.fault("serial number, secret, hotp or totp, digits, period or counter", "the row has %d cells: want 2 to 5", len(record))
		}
	case traditional:
		if first := strings.ToLower(record[0]); first == "logging start" {
			return nil
		} else if first != "oath-hotp" {
			r.fault("only its OATH-HOTP rows can be imported", "this is not the row of an OATH-HOTP token")
			return t.in.Take(h, false)
		}
		put(0, 0, 0, serial, 0, secretHex, 0, 0, 0, 0, 0, digits)
		c[kind], c[maker], c[model] = "hotp", "Yubico", "YubiKey slot "+c.at(record, 2)
		r.serial(c[serial])
		if len(record) < 8 {
			r.fault("", "the row has %d cells: want 8 or more", len(record))
		}
	case yubico:
		put(serial, 0, 0, secretHex)
		c[kind], c[maker], c[model] = "hotp", "Yubico", "YubiKey"
		r.serial(c[serial])
		if c.at(record, 1) != "" || c.at(record, 2) != "0" {
			r.fault("only its OATH-HOTP rows can be imported", "this is not the row of an OATH-HOTP token")
		}
	}
	r.take(c)
	if r.hidden {
		return nil
	}
	return t.in.Take(h, r.sound)
}

func (cells) at(record []string, i int) string {
	if i < len(record) {
		return record[i]
	}
	return ""
}

// enough tells whether n cells hold all that must be there: spreadsheets leave out what is empty at the end.
func enough(h header, n int) bool { return h[:n].has(serial) && h[:n].has(secret) }

// entry is one row on its way to being a token.
type entry struct {
	t     *table
	h     *otp.Hardware
	sound bool

	hidden bool // what stands for the serial number may be a secret
}

// serial takes the serial number, which faults show.
func (r *entry) serial(text string) {
	if len(text) < minSecret {
		r.h.Serial = text
		return
	}
	r.hidden = true
	if _, err := decode(text, secret); err == nil {
		r.fault("are two columns mixed up?", "where the serial number should be, there is something like a secret")
	} else {
		r.fault("makers' have some ten characters", "the serial number has %d characters", len(text))
	}
}

func (r *entry) fault(hint, format string, args ...any) {
	r.sound = false
	r.t.in.Add(otp.Fault{Line: r.h.Line, Serial: r.h.Serial, What: fmt.Sprintf(format, args...), Hint: hint})
}

// mangled is a long number after a spreadsheet has had it.
var mangled = regexp.MustCompile(`^[0-9](?:[.,][0-9]+)?[eE]\+?[0-9]+$`)

func (r *entry) take(c cells) {
	h := r.h
	h.Maker, h.Model = c[maker], c[model]
	if mangled.MatchString(h.Serial) {
		r.fault("open the maker's own file as text: the last digits are lost in this one", "a spreadsheet has rounded the serial number")
	}
	if p := c[person]; len(p) > maxPerson || strings.ContainsFunc(p, func(x rune) bool { return x < ' ' || x == 0x7f }) {
		r.fault("", "the person's name cannot be one")
	} else {
		h.Person = p
	}
	for _, f := range []field{secret, secretHex, secretBase32} {
		text, there := c[f]
		if !there {
			continue
		}
		if text == "" {
			r.fault("", "the secret is missing")
			continue
		}
		seed, err := decode(text, f)
		if err != nil {
			r.fault("hexadecimal (0-9, a-f), or base32 (A-Z, 2-7)", "%v", err)
		}
		h.Seed = seed
	}
	r.params(c)
	h.Counter = r.number(c, counter, 0)
	h.Drift = r.number(c, drift, 0)
	if h.Params.Type == otp.TypeHOTP {
		h.Drift = 0
	} else {
		h.Counter = 0
	}
	h.Start, h.Expiry = r.date(c, start), r.date(c, expiry)
}

// params takes what the codes are made with.
func (r *entry) params(c cells) {
	p, given := &r.h.Params, r.t.o.Params
	// Some tables have the type in the column of the algorithm.
	what, hash := strings.ToLower(c[kind]), strings.ToLower(c[algorithm])
	if what == "" && (typeOf(hash) != "" || strings.Contains(hash, "ocra")) {
		what, hash = hash, ""
	}
	switch {
	case typeOf(what) != "":
		p.Type = typeOf(what)
	case strings.Contains(what, "ocra"):
		r.fault("OCRA tokens answer questions, which no login here asks", "it is an OCRA token, which is not supported")
		return
	case what != "":
		r.fault("hotp (by counter) or totp (by time)", "its type is %s, which is not supported", quoted(what))
		return
	case c[period] != "" && c[period] != "0":
		p.Type = otp.TypeTOTP
	case c[counter] != "":
		p.Type = otp.TypeHOTP
	case given.Type != "":
		p.Type = given.Type
	default:
		r.fault("say so for the whole table: --type totp, or --type hotp", "nothing says whether it goes by the clock or by a counter")
		return
	}
	switch hash = unpunctuated.Replace(hash); strings.TrimPrefix(hash, "hmac") {
	case "":
		p.Algorithm = given.Algorithm
		if p.Algorithm == "" {
			p.Algorithm = otp.SHA1
		}
	case "sha1", "sha":
		p.Algorithm = otp.SHA1
	case "sha256":
		p.Algorithm = otp.SHA256
	case "sha512":
		p.Algorithm = otp.SHA512
	default:
		r.fault("sha1, sha256 and sha512 are", "its algorithm is %s, which is not supported", quoted(hash))
	}
	whole := func(f field, given, usual int64) int {
		if given == 0 {
			given = usual
		}
		return int(min(max(r.number(c, f, given), -1), 1<<30))
	}
	p.Digits = whole(digits, int64(given.Digits), 6)
	if p.Type == otp.TypeTOTP {
		p.Period = whole(period, int64(given.Period), 30)
	}
}

func typeOf(s string) otp.Type {
	switch plainName(s) {
	case "totp", "oathtotp", "time", "timebased":
		return otp.TypeTOTP
	case "hotp", "oathhotp", "event", "eventbased", "counter":
		return otp.TypeHOTP
	}
	return ""
}

// number reads a whole number, or gives the usual one where the cell is empty.
func (r *entry) number(c cells, f field, usual int64) int64 {
	text := c[f]
	if text == "" {
		return usual
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "s"), 10, 64)
	if err != nil {
		r.fault("a whole number", "%v: %s is no number", f, quoted(text))
	}
	return n
}

// date reads a day or a time. Days of which nobody can tell which part is the month are not taken.
func (r *entry) date(c cells, f field) time.Time {
	text := c[f]
	if text == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly, "2006/01/02", "02.01.2006", "02-Jan-2006"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 && t.Year() <= 9999 {
			return t.UTC()
		}
	}
	r.fault("2031-12-31", "%v: %s is no day that reads in one way only", f, quoted(text))
	return time.Time{}
}

// unpunctuated takes out what makes texts easier to read.
var unpunctuated = strings.NewReplacer(" ", "", "-", "", ":", "", "_", "")

// decode reads a secret. A text of hexadecimal digits alone is taken for such: one in 2^45 secrets of 20 bytes in base32 looks so.
func decode(text string, f field) ([]byte, error) {
	text = unpunctuated.Replace(text)
	if len(text) > 2*otp.MaxSeed+2 {
		return nil, errors.New("the secret is too long")
	}
	if f != secretBase32 {
		digits := strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")
		if b, err := hex.DecodeString(digits); err == nil && len(b) > 0 {
			return b, nil
		}
		if f == secretHex {
			return nil, errors.New("the secret is not hexadecimal")
		}
	}
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(text, "=")))
	if err != nil || len(b) == 0 {
		if f == secretBase32 {
			return nil, errors.New("the secret is not base32")
		}
		return nil, errors.New("the secret is neither hexadecimal nor base32")
	}
	return b, nil
}

// quoted shows a cell if it's too short to be a secret that has slipped into the wrong column (P9).
func quoted(s string) string {
	if len(s) >= minSecret/2 {
		return fmt.Sprintf("a text of %d bytes", len(s))
	}
	return strconv.QuoteToASCII(s)
}
