package audit

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testNow = time.Date(2026, 11, 24, 9, 15, 4, 123_456_789, time.FixedZone("", 3600))

type keys struct {
	signer   note.Signer
	verifier note.Verifier
}

func newKeys(t testing.TB, name string) keys {
	t.Helper()
	skey, vkey, err := NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return keys{s, v}
}

// fixture is a log in a folder of its own, and what its replay saw.
type fixture struct {
	o        Options
	state    string
	replayed []uint64
}

func newFixture(t testing.TB, k keys) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{}
	f.o = Options{
		Dir: filepath.Join(dir, "journal"), CheckpointFile: filepath.Join(dir, "checkpoint"),
		Node: "gw1", Signer: k.signer, Verifier: k.verifier, Now: func() time.Time { return testNow },
		Restore: func(state []byte) error { f.state = string(state); return nil },
		Replay:  func(rec *Record, _ []byte) error { f.replayed = append(f.replayed, rec.Seq); return nil },
	}
	return f
}

func (f *fixture) open(t testing.TB) *Log {
	t.Helper()
	f.state, f.replayed = "", nil
	l, err := Open(f.o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (f *fixture) verify() (Report, error) {
	return VerifyDir(f.o.Dir, f.o.CheckpointFile, f.o.Verifier, nil)
}

// loginRecord is like most records that there will be.
func loginRecord(n int) *Record {
	return &Record{
		Event: "login", Result: Accept, Reason: "ok", Person: "alice", PersonKind: "staff", Login: "alice",
		Protocol: "radius", Source: "10.20.0.17", System: "vpn-leeds", Class: "remote",
		Factors: []Factor{
			{Kind: "know", Method: "password", Token: "none", Result: "ok"},
			{Kind: "have", Method: "totp", Token: "tok-7f3a", Result: "ok"},
		},
		Rule: "network team", Attempt: "018f6f3e-7b1a-7c3d-9e2f-0123456789ab",
		Detail:  []Detail{{"source_port", "49152"}, {"client", "vpn-leeds"}, {"nas_ip", "10.20.0.1"}},
		Effects: []Effect{{Set: "token.step", ID: "tok-7f3a", Value: int64(58_000_000 + n)}},
	}
}

func appendRecords(t testing.TB, l *Log, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		var change []byte
		if i%3 == 2 {
			change = fmt.Appendf(nil, "change %d", i)
		}
		r, err := l.Append(loginRecord(i), change)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Valid() || r.Seq() != uint64(i) {
			t.Fatalf("receipt %+v of record %d", r, i)
		}
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func export(t testing.TB, l *Log) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRoundTrip holds P8: what was appended is found again by reopening, and both verifications agree on it.
func TestRoundTrip(t *testing.T) {
	f := newFixture(t, newKeys(t, "gw1.test/sallyport"))
	l := f.open(t)
	appendRecords(t, l, 0, 20)
	file := export(t, l)
	closeLog(t, l)

	l = f.open(t)
	if len(f.replayed) != 20 {
		t.Errorf("replayed %v", f.replayed)
	}
	if again := export(t, l); !bytes.Equal(again, file) {
		t.Errorf("export after reopening differs:\n%s\n%s", file, again)
	}
	closeLog(t, l)

	a, err := VerifyExport(bytes.NewReader(file), f.o.Verifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.verify()
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a) != fmt.Sprint(b) || a.Size != 20 || a.Records != 20 || !a.First.Equal(testNow.Truncate(time.Millisecond)) {
		t.Errorf("export %+v\ndir %+v", a, b)
	}
}
