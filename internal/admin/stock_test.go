package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/otp"
)

// table is a file of n HOTP tokens T000000, T000001, ..., each with its own seed and a counter that begins at 100.
func table(n int) string {
	var b strings.Builder
	b.WriteString("serial,seed,type,counter,user\n")
	for i := range n {
		fmt.Fprintf(&b, "T%06d,%s,hotp,100,\n", i, hex.EncodeToString(tableSeed(i)))
	}
	return b.String()
}

func tableSeed(i int) []byte { return fmt.Appendf(nil, "%020d", i) }

// take imports a file.
func (d *desk) take(file string, in TokenImport) (TokenImported, error) {
	d.t.Helper()
	return d.takeBy(d.service, file, in)
}

func (d *desk) takeBy(u Uploader, file string, in TokenImport) (TokenImported, error) {
	d.t.Helper()
	var out bytes.Buffer
	if err := u.Upload(d.ctx(), "token.import", in, strings.NewReader(file), &out); err != nil {
		return TokenImported{}, err
	}
	var last ImportLine
	for line := range strings.Lines(out.String()) {
		last = ImportLine{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			d.t.Fatal(err)
		}
	}
	if last.Result == nil {
		d.t.Fatalf("no result: %s", out.String())
	}
	return *last.Result, nil
}

func (d *desk) stocked() []StockInfo {
	d.t.Helper()
	var list []StockInfo
	d.do("token.stock", StockList{}, &list)
	return list
}

func (d *desk) codeLogin(person, code string) login.Reason {
	o := d.gate.Decide(d.t.Context(), login.Attempt{
		ID: login.NewID(), Name: person, Protocol: "radius", System: login.System{Name: "vpn"}, Capability: login.MayLogin, Code: login.NewSecret(code),
		Proofs: []login.Proof{{Kind: login.Know, Method: "nas-password", ID: "vpn"}},
	})
	return o.Reason()
}

var hotpSix = otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}

// A token's whole way: from a file into stock, to a person, to its first code and a login, back, and to somebody else. No code of it is
// ever accepted twice (P2), none before the maker's counter, and no record holds a seed (P9).
func TestTokenImport(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	if r, err := d.take(table(3), TokenImport{DryRun: true, Name: "t.csv"}); err != nil || r.Imported != 3 || !r.DryRun || len(d.stocked()) != 0 {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	r, err := d.take(table(3), TokenImport{Name: "t.csv"})
	if err != nil || r.Imported != 3 || len(r.Records) != 1 || len(r.Faults) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	rec := d.allRecords()[r.Records[0]]
	if rec.Event != "token.import" || recordDetail(rec, "file_sha256") != r.SHA256 || recordDetail(rec, "tokens") != "3" ||
		recordDetail(rec, "first_serial") != "T000000" || recordDetail(rec, "last_serial") != "T000002" || recordDetail(rec, "file") != "t.csv" {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	d.restart()
	if got := d.stocked(); len(got) != 3 || got[1].Serial != "T000001" || got[1].Type != otp.TypeHOTP {
		t.Fatalf("in stock after a restart: %+v", got)
	}

	var a TokenAssigned
	d.do("token.assign", TokenAssign{Serial: "T000001", Person: "alice"}, &a)
	if a.State != login.TokenPending || a.Serial != "T000001" || len(d.stocked()) != 2 {
		t.Fatalf("assigned: %+v", a)
	}
	code := func(n int64) string { return otp.Code(tableSeed(1), hotpSix, n) }
	d.restart() // what the maker counted must outlive it, too
	d.refused("token.confirm", TokenConfirm{Person: "alice", Code: code(99)})
	d.do("token.confirm", TokenConfirm{Person: "alice", Code: code(101)}, nil)
	for _, c := range []struct {
		n    int64
		want login.Reason
	}{{100, login.ReasonCodeWrong}, {101, login.ReasonCodeReused}, {99, login.ReasonCodeWrong}, {102, login.ReasonOK}, {102, login.ReasonCodeReused}} {
		if got := d.codeLogin("alice", code(c.n)); got != c.want && !(c.want == login.ReasonCodeWrong && got == login.ReasonCodeReused) {
			t.Errorf("code %d: %s, want %s", c.n, got, c.want)
		}
	}
	if e := d.refused("token.assign", TokenAssign{Serial: "T000001", Person: "bob"}); !strings.Contains(e.Text, "alice's") {
		t.Errorf("who has it is not said: %s", e.Text)
	}
	d.refused("token.assign", TokenAssign{Serial: "T000001", Person: "bob", Again: true}) // she has it still
	d.do("token.revoke", TokenIn{ID: a.ID}, nil)
	d.restart()
	if e := d.refused("token.assign", TokenAssign{Serial: "T000001", Person: "bob"}); !strings.Contains(e.Hint, "--again") {
		t.Errorf("hint %q", e.Hint)
	}
	d.do("token.assign", TokenAssign{Serial: "T000001", Person: "bob", Again: true, Active: true}, &a)
	for _, c := range []struct {
		n  int64
		ok bool
	}{{100, false}, {101, false}, {102, false}, {103, true}, {103, false}} {
		if got := d.codeLogin("bob", code(c.n)); (got == login.ReasonOK) != c.ok {
			t.Errorf("bob's code %d: %s", c.n, got)
		}
	}
	for _, rec := range d.allRecords() {
		text := string(rec.AppendJSON(nil))
		for _, secret := range []string{string(tableSeed(1)), hex.EncodeToString(tableSeed(1))} {
			if strings.Contains(text, secret) {
				t.Errorf("a record holds a seed: %s", text)
			}
		}
	}
}

// Of a file that is wrong in any way, or holds what is here already, nothing is taken, and that is on record.
func TestImportIsWhole(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice"}, nil)
	if _, err := d.take(table(4), TokenImport{}); err != nil {
		t.Fatal(err)
	}
	d.do("token.assign", TokenAssign{Serial: "T000002", Person: "alice"}, nil)
	d.do("token.discard", TokenSerial{Serial: "T000003", Reason: "lost"}, nil)
	d.refused("token.discard", TokenSerial{Serial: "T000002"})
	d.restart()
	if got := d.stocked(); len(got) != 2 {
		t.Fatalf("in stock after one was given away and one discarded: %+v", got)
	}
	for name, c := range map[string]struct {
		file  string
		in    TokenImport
		wants []string
	}{
		"wrong rows": {table(10) + "X,1234,hotp,1,\nY," + hex.EncodeToString(tableSeed(7)) + ",ocra,1,\n", TokenImport{}, []string{"line 12, token X: ", "line 13, token Y: "}},
		"here already": {table(3) + "Z," + hex.EncodeToString(tableSeed(77)) + ",hotp,100,\n", TokenImport{}, []string{
			"line 2, token T000000: it is in stock already", "line 3, token T000001: it is in stock already", "line 4, token T000002: it is token tk-",
		}},
		"a key for a table":  {table(1), TokenImport{Password: "secret"}, []string{"not encrypted"}},
		"a table, not XML":   {table(1), TokenImport{Format: "pskc"}, []string{"line 1: this is not XML"}},
		"empty":              {"", TokenImport{}, []string{"line 1: the table is empty"}},
		"XML that is none":   {"<KeyContainer", TokenImport{}, []string{"the file ends in the middle"}},
		"XML as a table":     {"<KeyContainer>", TokenImport{Format: "csv"}, []string{"this is XML"}},
		"type is not known":  {"A," + hex.EncodeToString(tableSeed(7)) + "\n", TokenImport{}, []string{"token A: nothing says"}},
		"unusable parameter": {"A," + hex.EncodeToString(tableSeed(7)) + "\n", TokenImport{Params: otp.Params{Type: otp.TypeTOTP, Digits: 7}}, []string{"token A: it cannot be used"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := fmt.Sprint(d.stocked())
			r, err := d.take(c.file, c.in)
			if err != nil || len(r.Faults) != len(c.wants) || len(r.Records) != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			for i, want := range c.wants {
				if got := r.Faults[i].String(); !strings.HasPrefix(got, want) && !strings.Contains(got, want) {
					t.Errorf("fault %q, want %q", got, want)
				}
			}
			if after := fmt.Sprint(d.stocked()); after != before {
				t.Errorf("in stock: %s\nbefore: %s", after, before)
			}
			rec := d.allRecords()[r.Records[0]]
			if rec.Event != "token.import" || rec.Result != audit.Reject || rec.Reason != string(login.ReasonFile) || recordDetail(rec, "faults") != fmt.Sprint(len(c.wants)) {
				t.Errorf("record %s", rec.AppendJSON(nil))
			}
		})
	}
	if _, err := d.take(table(1), TokenImport{Format: "xlsx"}); err == nil {
		t.Error("a format that nobody knows was taken")
	}
}

// An import that doesn't fit one record is several; cut off between two of them, it is finished by the same file again, and by no other.
func TestImportIsResumed(t *testing.T) {
	d := newDesk(t)
	const n = 8000
	file := table(n)
	fails := &failing{Store: d.service.Store, after: 1}
	d.service.Store = fails
	_, err := d.take(file, TokenImport{})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "same command again") {
		t.Fatalf("got %v", err)
	}
	d.service.Store = fails.Store
	d.restart()
	half := len(d.stocked())
	if half == 0 || half == n {
		t.Fatalf("%d tokens are in stock after the crash", half)
	}
	d.do("user.add", UserAdd{Name: "alice"}, nil)
	d.do("token.assign", TokenAssign{Serial: "T000000", Person: "alice"}, nil) // the desk works on meanwhile
	if r, err := d.take(table(n+1), TokenImport{}); err != nil || len(r.Faults) == 0 {
		t.Errorf("another file with the same tokens was taken: %+v, %v", r, err)
	}
	r, err := d.take(file, TokenImport{})
	if err != nil || len(r.Faults) > 0 || r.Already != half || r.Imported != n-half || len(r.Records) < 2 {
		t.Fatalf("%d already, %d imported, faults %v, records %v, %v", r.Already, r.Imported, r.Faults, r.Records, err)
	}
	for _, seq := range r.Records {
		if rec := d.allRecords()[seq]; rec.Event != "token.import" || rec.Change == audit.None {
			t.Errorf("record %s", rec.AppendJSON(nil))
		}
	}
	if got := len(d.stocked()); got != n-1 {
		t.Errorf("%d in stock, want %d", got, n-1)
	}
	if r, err := d.take(file, TokenImport{}); err != nil || len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "here already") {
		t.Errorf("a third time: %+v, %v", r.Faults, err)
	}
}

// failing is a store that fails after so many changes.
type failing struct {
	Store
	after int
}

func (f *failing) Apply(ctx context.Context, seq uint64, c login.Change) error {
	if f.after--; f.after < 0 {
		return errCrash
	}
	return f.Store.Apply(ctx, seq, c)
}

// Whom a file names gets his token without being named again; nobody else does.
func TestAssignAsWished(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice"}, nil)
	d.do("user.add", UserAdd{Name: "backup", Kind: login.Service}, nil)
	row := func(upn, serial string) string {
		return upn + "," + serial + "," + "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" + ",30,Acme,M\n"
	}
	r, err := d.take("upn,serial number,secret key,time interval,manufacturer,model\n"+row("Alice@trust.example", "1")+row("mallory@x", "2")+row("backup", "3")+row("", "4"), TokenImport{})
	if err != nil || r.Imported != 4 || r.Wishes != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	var a TokenAssigned
	d.do("token.assign", TokenAssign{Serial: "1"}, &a)
	if a.Person != "alice" || a.Maker != "Acme" {
		t.Errorf("%+v", a)
	}
	for _, serial := range []string{"2", "3", "4"} {
		d.refused("token.assign", TokenAssign{Serial: serial})
	}
	d.refused("token.assign", TokenAssign{Serial: "2", Person: "nobody"})
	d.refused("token.assign", TokenAssign{Serial: "9", Person: "alice"})
	d.refused("token.assign", TokenAssign{Serial: "2", Person: "alice", Label: strings.Repeat("x", 65)})
	d.refused("token.assign", TokenAssign{Serial: "1", Again: true})
}

// A token whose time is over is not given to anybody, and clocks that the maker knows to be ahead are followed from the start.
func TestAssignByTime(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	row := func(serial, drift, expires string) string {
		return serial + "," + hex.EncodeToString(tableSeed(1)) + ",totp," + drift + "," + expires + "\n"
	}
	if r, err := d.take("serial,seed,type,drift,expires\n"+row("old", "", "2026-06-30")+row("new", "40", "2026-07-01"), TokenImport{}); err != nil || len(r.Faults) > 0 {
		t.Fatal(r.Faults, err)
	}
	if e := d.refused("token.assign", TokenAssign{Serial: "old", Person: "alice"}); !strings.Contains(e.Text, "expired") {
		t.Error(e.Text)
	}
	d.do("token.assign", TokenAssign{Serial: "new", Person: "alice", Active: true}, nil)
	p := otp.Default()
	if got := d.codeLogin("alice", otp.Code(tableSeed(1), p, p.StepAt(d.clock)+40)); got != login.ReasonOK {
		t.Errorf("by its own clock: %s", got)
	}
	d.clock = d.clock.Add(24 * time.Hour)
	if got := d.codeLogin("alice", otp.Code(tableSeed(1), p, p.StepAt(d.clock)+40)); got != login.ReasonTokenTime {
		t.Errorf("after its end: %s", got)
	}
}

// The help desk gives tokens to people, and only admins take them in or throw them away.
func TestStockRoles(t *testing.T) {
	d := newDesk(t)
	role := RoleHelpDesk
	d.service.Operator = func(a Actor) Actor { a.Role = role; return a }
	if _, err := d.take(table(1), TokenImport{}); err == nil {
		t.Error("the help desk imports")
	}
	d.refused("token.discard", TokenSerial{Serial: "T000000"})
	role = RoleAuditor
	if _, err := d.take(table(1), TokenImport{}); err == nil {
		t.Error("an auditor imports")
	}
	d.refused("token.assign", TokenAssign{Serial: "T000000", Person: "alice"})
	if got := d.stocked(); len(got) > 0 {
		t.Errorf("in stock: %v", got)
	}
}

// broken is a file that cannot be read to its end.
type broken struct{ r io.Reader }

var errBroken = errors.New("the connection broke")

func (b broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return n, err
}

// Of a file that breaks off on its way nothing is taken, wherever it does.
func TestBrokenUpload(t *testing.T) {
	d := newDesk(t)
	whole := table(20)
	for _, cut := range []int{0, 1, len("serial"), len(whole) / 2, strings.LastIndex(whole, "T"), len(whole)} {
		err := d.service.Upload(d.ctx(), "token.import", TokenImport{Format: "csv"}, broken{strings.NewReader(whole[:cut])}, io.Discard)
		if !errors.Is(err, errBroken) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	const xml = `<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc"><KeyPackage>`
	for _, cut := range []int{0, 5, len(xml)} {
		err := d.service.Upload(d.ctx(), "token.import", TokenImport{Format: "pskc"}, broken{strings.NewReader(xml[:cut])}, io.Discard)
		if !errors.Is(err, errBroken) {
			t.Errorf("PSKC cut at %d: %v", cut, err)
		}
	}
	if got := d.stocked(); len(got) > 0 {
		t.Errorf("in stock: %v", got)
	}
}

// gone is a caller who has gone away.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errBroken }

// Whoever goes away while tokens are taken doesn't leave half of them.
func TestImporterGoesAway(t *testing.T) {
	d := newDesk(t)
	const n = 6000
	if err := d.service.Upload(d.ctx(), "token.import", TokenImport{}, strings.NewReader(table(n)), gone{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if got := len(d.stocked()); got != n {
		t.Errorf("%d in stock, want %d", got, n)
	}
}

// endless is a file without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

// P7, P11: over the socket a file arrives as it was sent, a refusal comes back although the file was not read, and a file has a bound.
func TestUpload(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- d.service.Serve(ctx, l, time.Second) }()
	client := NewClient(path)
	r, err := d.takeBy(client, table(5000), TokenImport{Name: "t.csv"})
	if err != nil || r.Imported != 5000 {
		t.Fatalf("%+v, %v", r, err)
	}
	rec := d.allRecords()[r.Records[0]]
	if rec.Source != "socket" || recordDetail(rec, "actor") != UserName(os.Getuid()) {
		t.Errorf("record %s", rec.AppendJSON(nil))
	}
	var e *Error
	if err := client.Upload(t.Context(), "token.sing", Empty{}, strings.NewReader(strings.Repeat("x", 8<<20)), io.Discard); !errors.As(err, &e) {
		t.Errorf("an unknown verb: %v", err)
	}
	if err := client.Upload(t.Context(), "token.import", map[string]int{"what": 1}, strings.NewReader("x"), io.Discard); !errors.As(err, &e) {
		t.Errorf("arguments that do not fit: %v", err)
	}
	if err := client.Upload(t.Context(), "token.import", TokenImport{Name: strings.Repeat("x", maxRequest)}, strings.NewReader("x"), io.Discard); err == nil {
		t.Error("arguments without bound were taken")
	}
	d.service.maxUpload = 1 << 20
	if err := d.service.Upload(d.ctx(), "token.import", TokenImport{Format: "csv"}, endless{}, io.Discard); !errors.As(err, &e) || !strings.Contains(e.Text, "MiB") {
		t.Errorf("a file without end: %v", err)
	}
	client.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// P2: a hardware token outlives its person with what was used of it, so that the next one has no code accepted that was accepted before,
// and the maker's file does not make it new.
func TestRemovedPersonsTokens(t *testing.T) {
	d := newDesk(t)
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	file := "serial,seed,type\nh1," + hex.EncodeToString(tableSeed(1)) + ",hotp\nt1," + hex.EncodeToString(tableSeed(2)) + ",totp\n"
	if r, err := d.take(file, TokenImport{}); err != nil || len(r.Faults) > 0 {
		t.Fatal(r.Faults, err)
	}
	hotp := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}
	totp := otp.Default()
	step := totp.StepAt(d.clock)
	give := func(person string) {
		d.do("token.assign", TokenAssign{Serial: "h1", Person: person, Active: true}, nil)
		d.do("token.assign", TokenAssign{Serial: "t1", Person: person, Active: true}, nil)
	}
	give("alice")
	for _, code := range []string{otp.Code(tableSeed(1), hotp, 4), otp.Code(tableSeed(2), totp, step)} {
		if got := d.codeLogin("alice", code); got != login.ReasonOK {
			t.Fatal(got)
		}
	}
	d.do("user.remove", PersonIn{"alice"}, nil)
	if r, err := d.take(file+"h9,"+hex.EncodeToString(tableSeed(9))+",hotp\n", TokenImport{}); err == nil && len(r.Faults) == 0 {
		t.Errorf("the maker's file makes them new: %+v", r)
	}
	d.restart()
	give("bob")
	for _, code := range []string{otp.Code(tableSeed(1), hotp, 4), otp.Code(tableSeed(1), hotp, 3), otp.Code(tableSeed(2), totp, step)} {
		if got := d.codeLogin("bob", code); got == login.ReasonOK {
			t.Error("a code was accepted twice")
		}
	}
	if got := d.codeLogin("bob", otp.Code(tableSeed(1), hotp, 5)); got != login.ReasonOK {
		t.Errorf("the next one: %s", got)
	}
}

// P2: what any earlier owner of a hardware token used stays used, whoever had it in between, in whatever order they are removed, and
// whatever the maker's file says.
func TestEarlierOwnersCodes(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
	}
	if r, err := d.take(table(1), TokenImport{}); err != nil || len(r.Faults) > 0 {
		t.Fatal(r.Faults, err)
	}
	next := int64(100) // the maker's counter
	give := func(person string, again bool) (a TokenAssigned) {
		t.Helper()
		d.do("token.assign", TokenAssign{Serial: "T000000", Person: person, Active: true, Again: again}, &a)
		return a
	}
	use := func(person string) {
		t.Helper()
		for n := int64(100); n < next; n++ {
			if got := d.codeLogin(person, otp.Code(tableSeed(0), hotpSix, n)); got != login.ReasonCodeWrong && got != login.ReasonCodeReused {
				t.Errorf("%s: code %d: %s", person, n, got)
			}
			d.do("user.unlock", PersonIn{person}, nil)
		}
		if got := d.codeLogin(person, otp.Code(tableSeed(0), hotpSix, next)); got != login.ReasonOK {
			t.Errorf("%s: code %d: %s", person, next, got)
		}
		next++
	}
	alices := give("alice", false)
	use("alice")
	d.do("token.revoke", TokenIn{ID: alices.ID}, nil)
	give("bob", true)
	use("bob")
	d.do("user.remove", PersonIn{"bob"}, nil)
	d.restart()
	carols := give("carol", false)
	use("carol")
	d.do("user.remove", PersonIn{"alice"}, nil) // carol has it: it stays hers
	if got := d.stocked(); len(got) != 0 {
		t.Errorf("in stock: %+v", got)
	}
	use("carol")

	// Revoked, it is in stock when bob comes back and goes, and carol goes after him.
	d.do("token.revoke", TokenIn{ID: carols.ID}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	give("bob", true)
	use("bob")
	d.do("user.remove", PersonIn{"bob"}, nil)
	d.do("user.remove", PersonIn{"carol"}, nil)
	d.restart()
	d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
	alices = give("alice", false)
	use("alice")

	// Thrown away while somebody's revoked token of that number is known, and then while none is.
	d.do("token.revoke", TokenIn{ID: alices.ID}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	give("bob", true)
	use("bob")
	d.do("user.remove", PersonIn{"bob"}, nil)
	d.do("token.discard", TokenSerial{Serial: "T000000"}, nil)
	alices = give("alice", true)
	use("alice")
	d.do("token.revoke", TokenIn{ID: alices.ID}, nil)
	d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
	give("bob", true)
	use("bob")
	d.do("user.remove", PersonIn{"bob"}, nil)
	d.do("token.discard", TokenSerial{Serial: "T000000"}, nil)
	d.restart()
	read := func() {
		t.Helper()
		if r, err := d.take(table(1), TokenImport{}); err != nil || len(r.Faults) > 0 {
			t.Fatal(r.Faults, err)
		}
	}
	for range 2 {
		d.do("user.remove", PersonIn{"alice"}, nil)
		d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
		give("bob", false)
		use("bob")
		for range 2 { // used, and then not used
			d.do("user.remove", PersonIn{"bob"}, nil)
			d.do("token.discard", TokenSerial{Serial: "T000000"}, nil)
			d.restart()
			read()
			d.do("token.discard", TokenSerial{Serial: "T000000"}, nil)
			read()
			d.do("user.add", UserAdd{Name: "bob", Groups: []string{"network"}}, nil)
			give("bob", false)
		}
		d.do("user.remove", PersonIn{"bob"}, nil)
		d.do("user.add", UserAdd{Name: "alice", Groups: []string{"network"}}, nil)
		give("alice", false)
		use("alice")
	}
}

// P2: who logs in while he is removed uses up a code of the next owner's, or is refused.
func TestLoginDuringRemoval(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"alice", "bob"} {
		d.do("user.add", UserAdd{Name: name, Groups: []string{"network"}}, nil)
	}
	if r, err := d.take(table(1), TokenImport{}); err != nil || len(r.Faults) > 0 {
		t.Fatal(r.Faults, err)
	}
	d.do("token.assign", TokenAssign{Serial: "T000000", Person: "alice", Active: true}, nil)
	seal, n := d.service.Seal, int64(100)
	var accepted []int64
	d.service.Seal = func(b []byte) []byte { // the change is made, and not yet recorded
		if d.codeLogin("alice", otp.Code(tableSeed(0), hotpSix, n)) == login.ReasonOK {
			accepted = append(accepted, n)
		}
		n++
		return seal(b)
	}
	d.do("user.remove", PersonIn{"alice"}, nil)
	d.service.Seal = seal
	d.do("token.assign", TokenAssign{Serial: "T000000", Person: "bob", Active: true}, nil)
	for _, used := range accepted {
		if got := d.codeLogin("bob", otp.Code(tableSeed(0), hotpSix, used)); got == login.ReasonOK {
			t.Errorf("code %d is accepted twice", used)
		}
	}
	if len(accepted) == 0 {
		t.Error("nobody logged in meanwhile")
	}
}
