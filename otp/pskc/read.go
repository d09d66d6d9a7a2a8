package pskc

import (
	"cmp"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sallyport/otp"
)

// The namespace of RFC 6030, and what stands before the name of an algorithm.
const (
	namespace = "urn:ietf:params:xml:ns:keyprov:pskc"
	profile   = namespace + ":"
)

// Key is what opens an encrypted file: one of the two, or neither for a file in clear.
type Key struct {
	Preshared []byte // 16, 24 or 32 bytes
	Password  string
}

// Read reads a file and hands each token that is well to give, in their order. The error is *otp.Faults with all that is wrong with
// the file, or what the reading or give failed with; then the tokens that were given must not be used.
func Read(r io.Reader, k Key, give func(otp.Hardware) error) error {
	in := otp.NewIntake(give)
	p := &reader{in: in, lock: lock{given: k}}
	if len(k.Preshared) > 0 && k.Password != "" {
		return errors.New("a key and a password were given: a file has one or the other")
	}
	text, err := utf8Of(r)
	if err != nil {
		in.Add(otp.Fault{Line: 1, What: err.Error(), Hint: "save it as UTF-8"})
		return in.Err()
	}
	p.d, p.src = newDecoder(text)
	if err := p.container(); err != nil && !errors.Is(err, errStop) {
		if p.src.err != nil {
			return p.src.err
		}
		line, _ := p.d.InputPos()
		what, hint := whyNot(err)
		if whole := (*problem)(nil); errors.As(err, &whole) {
			what, hint = whole.what, whole.hint
			if whole.line > 0 {
				line = whole.line
			}
		}
		in.Add(otp.Fault{Line: line, What: what, Hint: hint})
	}
	if p.failed != nil {
		return p.failed
	}
	p.settle()
	return in.Err()
}

// errStop ends a reading because the token was not taken.
var errStop = errors.New("stop")

// reader is one reading of a file.
type reader struct {
	d    *xml.Decoder
	src  *source
	in   *otp.Intake
	lock lock

	failed   error // what the taking of a token failed with
	packages int
	sound    int         // secrets that opened
	unsound  []otp.Fault // secrets whose MAC did not match, or that do not open
	more     int         // further ones
}

// settle says once that the key is wrong, where it opens nothing, and otherwise which secrets it does not open.
func (p *reader) settle() {
	if p.sound == 0 && len(p.unsound) > 1 {
		p.in.Add(otp.Fault{
			Line: p.unsound[0].Line, What: fmt.Sprintf("none of the %d secrets opens: the key or password is not the one to this file, or all of it was altered", len(p.unsound)+p.more),
			Hint: "the maker sends it apart from the file; a file of another delivery has another one",
		})
		return
	}
	for _, f := range p.unsound {
		p.in.Add(f)
	}
	if p.more > 0 {
		p.in.More += p.more
	}
}

// container reads the document.
func (p *reader) container() error {
	root, err := p.token()
	for ; err == nil; root, err = p.token() {
		if text, ok := root.(xml.CharData); !ok || strings.TrimSpace(string(text)) != "" {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		return wrong("fetch it again", "the file is empty")
	}
	if err != nil {
		return err
	}
	start, ok := root.(xml.StartElement)
	switch {
	case !ok:
		return &problem{"this is not XML", "`--format csv` reads tables", 1}
	case start.Name.Space != namespace && strings.HasSuffix(start.Name.Local, "Container"):
		return wrong("ask the maker for a file as RFC 6030 has it", "this is a key container of another version: its namespace is %s", quoted(start.Name.Space))
	case start.Name.Local != "KeyContainer" || start.Name.Space != namespace:
		return wrong("a PSKC file begins with KeyContainer", "this is XML, but not PSKC: its first element is %s", quoted(start.Name.Local))
	}
	for _, a := range start.Attr {
		if a.Name.Local == "Version" && a.Value != "1.0" && a.Value != "1" {
			return wrong("ask the maker for version 1.0", "it is PSKC of version %s", quoted(a.Value))
		}
	}
	for {
		tok, err := p.token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
			return p.end()
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return wrong("", "there is text between the elements of KeyContainer")
			}
		case xml.StartElement:
			line, _ := p.d.InputPos()
			err := p.element(t)
			if whole := (*problem)(nil); errors.As(err, &whole) && whole.line == 0 {
				whole.line = line
			}
			if err != nil {
				return err
			}
		}
	}
}

// end looks at what follows the document.
func (p *reader) end() error {
	if p.packages == 0 {
		return wrong("", "there is no KeyPackage in it, and so no token")
	}
	for {
		tok, err := p.token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if text, ok := tok.(xml.CharData); !ok || strings.TrimSpace(string(text)) != "" {
			return wrong("", "something follows the end of KeyContainer")
		}
	}
}

func (p *reader) element(t xml.StartElement) error {
	late := func() error {
		if p.packages > 0 {
			return wrong("", "%s comes after the first KeyPackage", t.Name.Local)
		}
		return nil
	}
	switch t.Name.Local {
	case "EncryptionKey":
		n, err := p.tree(t)
		if err == nil {
			err = late()
		}
		if err != nil {
			return err
		}
		return p.lock.readKey(n)
	case "MACMethod":
		n, err := p.tree(t)
		if err == nil {
			err = late()
		}
		if err != nil {
			return err
		}
		return p.lock.readMAC(n)
	case "KeyPackage":
		n, err := p.tree(t)
		if err != nil {
			return err
		}
		if p.packages == 0 {
			if err := p.lock.check(); err != nil {
				return err
			}
		}
		p.packages++
		return p.keyPackage(n)
	case "Signature", "Extensions":
		return p.skip()
	default:
		return wrong("", "there is an element %s in KeyContainer, which RFC 6030 does not know", quoted(t.Name.Local))
	}
}

// row is one KeyPackage on its way to being a token.
type row struct {
	p     *reader
	h     otp.Hardware
	sound bool
}

func (r *row) fault(hint, format string, args ...any) {
	r.sound = false
	r.p.in.Add(otp.Fault{Line: r.h.Line, Serial: r.h.Serial, What: fmt.Sprintf(format, args...), Hint: hint})
}

func (p *reader) keyPackage(n *node) error {
	r := &row{p: p, sound: true, h: otp.Hardware{Line: n.line}}
	info := n.find("DeviceInfo")
	r.h.Serial, r.h.Maker, r.h.Model = info.find("SerialNo").value(), info.find("Manufacturer").value(), info.find("Model").value()
	key := n.find("Key")
	r.h.Person = userOf(cmp.Or(key.find("UserId").value(), info.find("UserId").value()))
	if key == nil {
		r.fault("", "the KeyPackage holds no Key")
		return p.take(r)
	}
	name := algorithm(key.attr("Algorithm"))
	if name == "pin" {
		return nil // what opens the device itself
	}
	for _, path := range [][]string{
		{"DeviceInfo"},
		{"DeviceInfo", "SerialNo"},
		{"Key"},
		{"Key", "Data"},
		{"Key", "Data", "Secret"},
		{"Key", "Data", "Counter"},
		{"Key", "Data", "TimeInterval"},
		{"Key", "Data", "TimeDrift"},
		{"Key", "AlgorithmParameters"},
		{"Key", "Policy"},
	} {
		if n.twice(path...) {
			r.fault("", "%s is there twice", path[len(path)-1])
		}
	}
	r.algorithm(name, key)
	r.policy(key.find("Policy"))
	r.window(info)
	data := key.find("Data")
	if err := r.secret(data.find("Secret")); err != nil {
		return err
	}
	if err := r.numbers(data); err != nil {
		return err
	}
	return p.take(r)
}

func (p *reader) take(r *row) error {
	if p.failed = p.in.Take(r.h, r.sound); p.failed != nil {
		return errStop
	}
	return nil
}

// algorithm is the last part of a profile's name. Some makers still write the '#' of drafts before the RFC.
func algorithm(uri string) string {
	for _, before := range []string{profile, namespace + "#"} {
		if name, ok := strings.CutPrefix(uri, before); ok {
			return strings.ToLower(name)
		}
	}
	return uri
}

// userOf is whom the maker means by a distinguished name (RFC 6030 section 4.2): what its first part has, UID=jsmith or CN=jsmith; or the
// text itself where it's no such name.
func userOf(text string) string {
	if attribute, rest, found := strings.Cut(text, "="); found {
		switch strings.ToUpper(strings.TrimSpace(attribute)) {
		case "UID", "CN":
			text, _, _ = strings.Cut(rest, ",")
		default:
			return ""
		}
	}
	text = strings.TrimSpace(text)
	if len(text) > maxUser || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	return text
}

// maxUser bounds the name of a user, in bytes.
const maxUser = 256

// algorithm takes what the codes are made with (RFC 6030 section 10).
func (r *row) algorithm(name string, key *node) {
	p := &r.h.Params
	switch {
	case name == "hotp":
		p.Type = otp.TypeHOTP
	case name == "totp":
		p.Type, p.Period = otp.TypeTOTP, 30 // unless TimeInterval says otherwise
	case strings.Contains(strings.ToLower(name), "ocra"):
		r.fault("OCRA tokens answer questions, which no login here asks", "it is an OCRA token, which is not supported")
		return
	default:
		r.fault("hotp and totp are", "its algorithm is %s, which is not supported", quoted(name))
		return
	}
	params := key.find("AlgorithmParameters")
	switch suite := params.find("Suite").value(); suiteName(suite) {
	case "", "sha1":
		p.Algorithm = otp.SHA1
	case "sha256":
		p.Algorithm = otp.SHA256
	case "sha512":
		p.Algorithm = otp.SHA512
	default:
		r.fault("HMAC-SHA1, HMAC-SHA256 and HMAC-SHA512 are", "its suite is %s, which is not supported", quoted(suite))
	}
	if params.find("ChallengeFormat") != nil {
		r.fault("tokens that answer questions are not", "it wants a challenge")
	}
	f := params.find("ResponseFormat")
	if f == nil {
		r.fault("ask the maker: a ResponseFormat belongs to each key", "nothing says how many digits its codes have")
		return
	}
	if e := f.attr("Encoding"); e != "DECIMAL" {
		r.fault("codes of decimal digits are", "its codes are %s, which is not supported", quoted(e))
	}
	if c := f.attr("CheckDigits"); c != "" && c != "false" && c != "0" {
		r.fault("", "its codes end in a check digit, which is not supported")
	}
	length, err := strconv.Atoi(f.attr("Length"))
	if err != nil || length != 6 && length != 8 {
		r.fault("6 or 8 digits are", "its codes have %s digits, which is not supported", quoted(f.attr("Length")))
		return
	}
	p.Digits = length
}

// suiteName takes HMAC-SHA256, HMAC-SHA-256, HmacSHA256 and SHA256 for the same.
func suiteName(s string) string {
	return strings.TrimPrefix(unpunctuated.Replace(strings.ToLower(s)), "hmac")
}

var unpunctuated = strings.NewReplacer("-", "", "_", "")

// policy takes what the maker allows. What cannot be kept forbids the key (RFC 6030 section 5).
func (r *row) policy(n *node) {
	if n == nil {
		return
	}
	uses, forOTP := 0, false
	for _, k := range n.kids {
		switch k.name.Local {
		case "StartDate", "ExpiryDate":
		case "KeyUsage":
			uses++
			forOTP = forOTP || k.value() == "OTP"
		case "PINPolicy":
			if usage := k.attr("PINUsageMode"); usage != "Local" {
				r.fault("PINs that the device itself checks (Local) are", "its PIN is of the kind %s, which is not supported", quoted(usage))
			}
		default:
			r.fault("ask the maker for tokens without it", "its policy has %s, which could not be kept", quoted(k.name.Local))
		}
	}
	if uses > 0 && !forOTP {
		r.fault("", "its policy forbids one-time codes")
	}
	r.window(n)
}

// window narrows when the token serves by the dates of a Policy or DeviceInfo.
func (r *row) window(n *node) {
	read := func(name string) time.Time {
		text := n.find(name).value()
		if text == "" {
			return time.Time{}
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02", "2006-01-02Z07:00"} {
			if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 && t.Year() <= 9999 {
				return t.UTC()
			}
		}
		r.fault("2026-06-30T00:00:00Z", "its %s is no time", name)
		return time.Time{}
	}
	if t := read("StartDate"); t.After(r.h.Start) {
		r.h.Start = t
	}
	if t := read("ExpiryDate"); !t.IsZero() && (r.h.Expiry.IsZero() || t.Before(r.h.Expiry)) {
		r.h.Expiry = t
	}
}

// secret takes the seed. The error ends the reading.
func (r *row) secret(n *node) error {
	plain, value := n.find("PlainValue"), n.find("EncryptedValue")
	switch {
	case plain == nil && value == nil:
		r.fault("a key that is derived from the serial number (RFC 6030 section 6) is not supported", "the secret is missing")
		return nil
	case plain != nil && value != nil:
		r.fault("", "its secret is there twice: in clear and encrypted")
		return nil
	case plain != nil && (r.p.lock.encrypted || len(r.p.lock.given.Preshared) > 0):
		r.fault("if the file is meant to be in clear, give no key; else ask the maker what happened to it", "its secret is in clear, although the file is encrypted or a key was given")
		return nil
	case plain != nil:
		seed, err := decode64(plain.value())
		if err != nil {
			r.fault("", "its secret is not base64")
		}
		r.h.Seed = seed
		return nil
	}
	seed, err := r.open(value, n)
	if err != nil || seed == nil {
		return err
	}
	r.p.sound++
	r.h.Seed = seed
	return nil
}

// open opens an EncryptedValue of element n. nil, and no error: a fault was found.
func (r *row) open(value, n *node) ([]byte, error) {
	plain, err := r.p.lock.open(value, n.find("ValueMAC").value())
	var whole *problem
	switch {
	case err == nil:
		return plain, nil
	case errors.As(err, &whole):
		return nil, err
	case errors.Is(err, errMAC), errors.Is(err, errOpen):
		r.sound = false
		if len(r.p.unsound) >= otp.MaxFaults {
			r.p.more++
			return nil, nil
		}
		r.p.unsound = append(r.p.unsound, otp.Fault{Line: r.h.Line, Serial: r.h.Serial, What: fmt.Sprintf("%s: %v", n.name.Local, err), Hint: "ask the maker for the file again"})
		return nil, nil
	}
	r.fault("", "%s: %v", n.name.Local, err)
	return nil, nil
}

// numbers takes where the token stands. Time, the time when it was made, is not needed.
func (r *row) numbers(data *node) error {
	if r.h.Params.Type == otp.TypeHOTP {
		counter, _, err := r.number(data.find("Counter")) // RFC 6030's figure 7 has none: a new token begins at 0
		r.h.Counter = counter
		return err
	}
	period, there, err := r.number(data.find("TimeInterval"))
	if err != nil {
		return err
	}
	if there {
		r.h.Params.Period = int(min(max(period, 0), 1<<30))
	}
	r.h.Drift, _, err = r.number(data.find("TimeDrift"))
	return err
}

// maxNumber is how many characters a number of 64 bits has at most.
const maxNumber = 20

func (r *row) number(n *node) (value int64, there bool, err error) {
	if n == nil {
		return 0, false, nil
	}
	if v := n.find("EncryptedValue"); v != nil {
		b, err := r.open(v, n)
		if err != nil || b == nil {
			return 0, true, err
		}
		if value, ok := integer(b); ok {
			return value, true, nil
		}
		r.fault("ask the maker for a file that has it in clear", "its %s, decrypted, is no number that reads in one way only", n.name.Local)
		return 0, true, nil
	}
	text := n.find("PlainValue").value()
	value, err = strconv.ParseInt(text, 10, 64)
	if err != nil {
		shown := quoted(text)
		if len(text) > maxNumber {
			shown = fmt.Sprintf("a text of %d bytes", len(text)) // perhaps a secret in the wrong place
		}
		r.fault("a whole number", "its %s is %s", n.name.Local, shown)
	}
	return value, true, nil
}

// integer reads an encrypted number: big-endian. Some tools encrypt decimal digits instead, so what could be those as well says
// nothing for certain.
func integer(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 8 || strings.Trim(string(b), "0123456789") == "" {
		return 0, false
	}
	var full [8]byte
	copy(full[8-len(b):], b)
	v := binary.BigEndian.Uint64(full[:])
	return int64(v), v < 1<<63
}
