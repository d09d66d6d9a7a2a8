package recording

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/golang/snappy"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait. Nothing takes it unless it hangs.
const patience = 30 * time.Second

// auditor is a key with its file.
type auditor struct {
	file      []byte
	recipient string
}

func newAuditor(t testing.TB) auditor {
	t.Helper()
	file, recipient, err := NewIdentity(time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return auditor{file, recipient}
}

// book keeps what the audit log would.
type book struct {
	mu     sync.Mutex
	chunks []Chunk
	err    error
	told   chan Chunk
}

func (b *book) put(c Chunk) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.chunks = append(b.chunks, c)
	if b.told != nil {
		b.told <- c
	}
	return nil
}

func (b *book) known(s Summary) Known {
	return Known{Session: "s1", Chunks: b.chunks, Ended: true, Count: s.Chunks, SHA256: s.SHA256, State: s.State}
}

var sampleHeader = Header{
	Session: "s1", Person: "alice", Account: "root", Target: "srv1", Rule: "network team", Term: "xterm", Width: 80, Height: 24,
	Started: time.Date(2026, 11, 24, 23, 59, 58, 0, time.UTC),
}

// steps is a clock that goes on by a step with each look.
func steps(step time.Duration) func() time.Time {
	var mu sync.Mutex
	now := sampleHeader.Started
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(step)
		return now
	}
}

func noSync(*os.File) error { return nil }

func create(t testing.TB, o Options, h Header) *Writer {
	t.Helper()
	w, err := Create(o, h)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closed(t testing.TB, w *Writer, exit string) Summary {
	t.Helper()
	s, err := w.Close(exit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readAll reads a whole recording.
func readAll(t testing.TB, path string, a auditor) (*Reader, []Event) {
	t.Helper()
	r, err := Open(path, a.file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var all []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, all
		}
		if err != nil {
			t.Fatal(err)
		}
		e.Data = bytes.Clone(e.Data)
		all = append(all, e)
	}
}

// A session comes back as it was, from a file that only its owner can look at, and that the log knows.
func TestRoundTrip(t *testing.T) {
	a, second := newAuditor(t), newAuditor(t)
	dir := t.TempDir()
	var b book
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient, second.recipient}, Chunk: b.put, Now: steps(time.Millisecond)}, sampleHeader)
	must(t, w.Output([]byte("caf\xc3")))
	must(t, w.Output([]byte("\xa9\x1b[1m\xff\xfe")))
	must(t, w.Stderr([]byte("oops\n")))
	must(t, w.Input([]byte("the password")))
	must(t, w.Resize(100, 40))
	must(t, w.Resize(0, 1<<20))
	must(t, w.Mark("transfer"))
	s := closed(t, w, "0")
	if s.Path != "2026/11/24/s1.rec" || s.State != Complete || s.Chunks != 1 || len(b.chunks) != 1 {
		t.Fatalf("%+v, %d chunks", s, len(b.chunks))
	}
	path := filepath.Join(dir, s.Path)
	for at, mode := path, os.FileMode(0o600); at != dir; at, mode = filepath.Dir(at), 0o700 {
		if info, err := os.Stat(at); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", at, info.Mode(), err)
		}
	}
	if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte("oops")) || !bytes.HasPrefix(raw, []byte("sallyport-recording 1 s1 2\n")) || int64(len(raw)) != s.Bytes {
		t.Errorf("%v, %d bytes of %d", err, len(raw), s.Bytes)
	}
	for _, who := range []auditor{a, second} {
		r, events := readAll(t, path, who)
		if r.Header != sampleHeader {
			t.Errorf("header %+v", r.Header)
		}
		got := ""
		for _, e := range events {
			got += fmt.Sprintf("%c %v %q %v %dx%d\n", e.Kind, e.At, e.Data, e.Stderr, e.Cols, e.Rows)
		}
		want := `o 1ms "caf" false 0x0
o 2ms "é\x1b[1m\xff" false 0x0
o 3ms "oops\n" true 0x0
r 4ms "100x40" false 100x40
r 5ms "80x500" false 80x500
m 6ms "transfer" false 0x0
x 7ms "0" false 0x0
o 7ms "\xfe" false 0x0
`
		// U+FE begins no character: it need not wait.
		want = strings.Replace(strings.Replace(want, `\xff"`, `\xff\xfe"`, 1), "o 7ms \"\\xfe\" false 0x0\n", "", 1)
		if got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	if r, err := Verify(path, b.known(s)); err != nil || r.Chunks != 1 || !r.Ended || r.Bytes+frameHead != s.Bytes {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := w.Close("1"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := w.Output([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("late: %v", err)
	}
}

// Any byte streams, cut anywhere and mixed, come back exactly.
func TestAnyStream(t *testing.T) {
	a := newAuditor(t)
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		h := sampleHeader
		h.Session = fmt.Sprint("s", n)
		every := rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Hour}).Draw(t, "every")
		w, err := Create(Options{Dir: dir, Recipients: []string{a.recipient}, Input: true, Every: every, sync: noSync}, h)
		if err != nil {
			t.Fatal(err)
		}
		piece := rapid.OneOf(
			rapid.SliceOf(rapid.Byte()),
			rapid.Map(rapid.StringOf(rapid.SampledFrom([]rune("aé€𝄞\x1b\u0085\ufffd\u2028\"\\\x00\x7f\n"))), func(s string) []byte { return []byte(s) }),
			rapid.SampledFrom([][]byte{{0xf0}, {0x9f}, {0x98, 0x80}, {0xe2, 0x82}, {0xac}, {0xc3}, bytes.Repeat([]byte{0}, 70000), bytes.Repeat([]byte{0xff, 'x'}, 40000)}),
		)
		var wrote [3]bytes.Buffer
		for range rapid.IntRange(0, 30).Draw(t, "pieces") {
			p := piece.Draw(t, "piece")
			stream := rapid.IntRange(0, 2).Draw(t, "stream")
			wrote[stream].Write(p)
			if err := []func([]byte) error{w.Output, w.Stderr, w.Input}[stream](p); err != nil {
				t.Fatal(err)
			}
		}
		s, err := w.Close("")
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(filepath.Join(dir, s.Path), a.file)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var read [3]bytes.Buffer
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case e.Kind == Input:
				read[2].Write(e.Data)
			case e.Stderr:
				read[1].Write(e.Data)
			default:
				read[0].Write(e.Data)
			}
		}
		for i := range wrote {
			if !bytes.Equal(wrote[i].Bytes(), read[i].Bytes()) {
				t.Fatalf("stream %d: wrote %q, read %q", i, wrote[i].Bytes(), read[i].Bytes())
			}
		}
	})
}

// Each chunk opens by itself: age, then zstd, or Snappy where much came at once. One behind the other they are an asciicast.
func TestStandardTools(t *testing.T) {
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		t.Fatal("zstd is not installed (Debian package zstd)")
	}
	for _, c := range []struct {
		rush time.Duration
		fast bool
	}{{time.Nanosecond, false}, {time.Hour, true}} {
		fast := 0
		testStandard(t, c.rush, func(packed []byte) ([]byte, error) {
			if bytes.HasPrefix(packed, []byte(snappyHead)) {
				fast++
				return io.ReadAll(snappy.NewReader(bytes.NewReader(packed)))
			}
			cmd := exec.Command(zstd, "-dc")
			cmd.Stdin = bytes.NewReader(packed)
			return cmd.Output()
		})
		if fast > 0 != c.fast {
			t.Errorf("%v: %d chunks are packed fast", c.rush, fast)
		}
	}
}

func testStandard(t *testing.T, rush time.Duration, unpack func(packed []byte) ([]byte, error)) {
	a := newAuditor(t)
	dir := t.TempDir()
	var b book
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient}, Chunk: b.put, Now: steps(time.Second / 4), rush: rush}, sampleHeader)
	line := strings.Repeat("x", 1000)
	for range 3000 {
		must(t, w.Output([]byte(line)))
	}
	s := closed(t, w, "3")
	if s.Chunks < 3 {
		t.Fatalf("%d chunks", s.Chunks)
	}
	raw, err := os.ReadFile(filepath.Join(dir, s.Path))
	must(t, err)
	ids, err := age.ParseIdentities(bytes.NewReader(a.file))
	must(t, err)
	var cast []byte
	sums := sha256.New()
	for i, c := range b.chunks {
		sealed := raw[c.Offset : c.Offset+c.Length]
		sum := sha256.Sum256(sealed)
		sums.Write(sum[:])
		if fmt.Sprintf("%x", sum) != c.SHA256 || c.Number != i || c.Last.Before(c.First) {
			t.Errorf("%+v", c)
		}
		in, err := age.Decrypt(bytes.NewReader(sealed), ids...)
		must(t, err)
		packed, err := io.ReadAll(in)
		must(t, err)
		out, err := unpack(packed)
		if err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if len(out) > maxPlain {
			t.Errorf("chunk %d holds %d bytes", i, len(out))
		}
		cast = append(cast, out...)
	}
	if got := fmt.Sprintf("%x", sums.Sum(nil)); got != s.SHA256 {
		t.Errorf("the sum is %s, not %s", s.SHA256, got)
	}
	lines := strings.Split(strings.TrimSuffix(string(cast), "\n"), "\n")
	if !strings.HasPrefix(lines[0], `{"version":3,"term":{"cols":80,"rows":24,"type":"xterm"},"timestamp":1795564798,"title":"alice: root@srv1"`) {
		t.Error(lines[0])
	}
	if want := `[0.250000,"o","` + line + `"]`; lines[2] != want {
		t.Errorf("got %s", lines[2])
	}
	if want := `[0.250000,"x","3"]`; lines[len(lines)-1] != want {
		t.Errorf("got %s", lines[len(lines)-1])
	}
}

// What waits is sealed after a while, though the session goes on (a crash loses no more), and once alone.
func TestSealsWithTime(t *testing.T) {
	a := newAuditor(t)
	b := book{told: make(chan Chunk, 10)}
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient}, Chunk: b.put, Every: 5 * time.Millisecond}, sampleHeader)
	for i := range 3 {
		if i > 0 {
			must(t, w.Output([]byte("more")))
		}
		select {
		case c := <-b.told:
			if c.Number != i {
				t.Errorf("chunk %d, want %d", c.Number, i)
			}
		case <-time.After(patience):
			t.Fatal("nothing was sealed")
		}
		k := Known{Session: "s1", Chunks: b.chunks}
		if r, err := Verify(filepath.Join(dir, w.Path()), k); !errors.Is(err, ErrUnfinished) || !r.Running || r.Chunks != i+1 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if s := closed(t, w, ""); s.Chunks != 3 {
		t.Errorf("%d chunks", s.Chunks)
	}
}

// A disk that is slow makes the session slow, and takes nothing from the recording (P7).
func TestBackPressure(t *testing.T) {
	a := newAuditor(t)
	dir := t.TempDir()
	gate := make(chan struct{})
	first := true
	o := Options{Dir: dir, Recipients: []string{a.recipient}, sync: func(*os.File) error {
		if !first { // Create's own
			<-gate
		}
		first = false
		return nil
	}}
	w := create(t, o, sampleHeader)
	const total = 3 * MaxWaiting
	wrote := make(chan error, 1)
	var sent sync.Mutex
	count := 0
	go func() {
		piece := bytes.Repeat([]byte("0123456789abcdef"), 2048)
		for n := 0; n < total; n += len(piece) {
			if err := w.Output(piece); err != nil {
				wrote <- err
				return
			}
			sent.Lock()
			count = n + len(piece)
			sent.Unlock()
		}
		wrote <- nil
	}()
	full := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.fill)+rawHead+maxPiece > MaxWaiting
	}
	for deadline := time.Now().Add(patience); !full(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never got full")
		}
	}
	sent.Lock()
	if count > 2*MaxWaiting {
		t.Errorf("%d bytes are in memory", count)
	}
	sent.Unlock()
	close(gate)
	must(t, <-wrote)
	s := closed(t, w, "")
	_, events := readAll(t, filepath.Join(dir, s.Path), a)
	n := 0
	for _, e := range events {
		n += len(e.Data)
	}
	if n != total {
		t.Errorf("%d bytes were read, of %d", n, total)
	}
}

// A recorder that cannot go on says so at once, to everybody who writes, and the session can be ended (P10).
func TestFails(t *testing.T) {
	a := newAuditor(t)
	broken := errors.New("broken")
	var free int64 = 100
	for _, c := range []struct {
		name  string
		o     Options
		is    error
		state State
		ended bool // the file has an end
	}{
		{"disk", Options{sync: failAfter(1, broken)}, broken, Failed, false},
		{"audit log", Options{Chunk: func(Chunk) error { return broken }}, broken, Failed, false},
		{"size", Options{MaxBytes: 2000}, ErrLimit, Stopped, true},
		{"space", Options{LowWater: 100, free: func(string) (int64, error) { free -= 30; return free + 30, nil }}, nil, Stopped, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Dir, c.o.Recipients, c.o.Every = t.TempDir(), []string{a.recipient}, time.Nanosecond
			w := create(t, c.o, sampleHeader)
			var random bytes.Buffer
			deadline := time.After(patience)
			for over := false; !over; {
				fmt.Fprintf(&random, "%x", sha256.Sum256(random.Bytes()))
				_ = w.Output(random.Bytes()[max(0, random.Len()-900):])
				select {
				case <-w.Failed():
					over = true
				case <-deadline:
					t.Fatal("it does not fail")
				default:
				}
			}
			err := w.Output([]byte("x"))
			var space *SpaceError
			if err == nil || w.Err() == nil || c.is != nil && !errors.Is(err, c.is) || c.is == nil && !errors.As(err, &space) {
				t.Errorf("%v", err)
			}
			if w.Mark("x") == nil || w.Resize(1, 1) == nil || w.Stderr([]byte("x")) == nil || w.Input([]byte("x")) == nil {
				t.Error("others go on")
			}
			s, err := w.Close("0")
			if err == nil || s.State != c.state {
				t.Errorf("%+v, %v", s, err)
			}
			r, err := Open(filepath.Join(c.o.Dir, s.Path), a.file)
			must(t, err)
			defer r.Close()
			last := ""
			for err == nil {
				var e Event
				if e, err = r.Next(); err == nil {
					last = string(e.Data)
				}
			}
			if c.ended != errors.Is(err, io.EOF) || c.ended != strings.HasPrefix(last, "the recording ends here: ") {
				t.Errorf("the file ends with %q, %v", last, err)
			}
		})
	}
}

func failAfter(n int, err error) func(*os.File) error {
	return func(*os.File) error {
		if n--; n < 0 {
			return err
		}
		return nil
	}
}

// Who waits for room is let go when the recording fails.
func TestFailLetsGo(t *testing.T) {
	a := newAuditor(t)
	gate := make(chan struct{})
	first := true
	w := create(t, Options{Dir: t.TempDir(), Recipients: []string{a.recipient}, Every: time.Nanosecond, sync: func(*os.File) error {
		if first {
			first = false
			return nil
		}
		<-gate
		return errors.New("broken")
	}}, sampleHeader)
	waits := make(chan error, 1)
	go func() {
		for {
			if err := w.Output(make([]byte, 1<<20)); err != nil {
				waits <- err
				return
			}
		}
	}()
	close(gate)
	select {
	case <-waits:
	case <-time.After(patience):
		t.Fatal("it waits for ever")
	}
	if _, err := w.Close(""); err == nil {
		t.Error("no error")
	}
}

// A session whose recorder cannot start is refused (P10).
func TestCreateRefuses(t *testing.T) {
	a := newAuditor(t)
	good := func() (Options, Header) {
		return Options{Dir: t.TempDir(), Recipients: []string{a.recipient}}, sampleHeader
	}
	secret := strings.TrimSpace(string(a.file[bytes.LastIndex(a.file, []byte("AGE-SECRET"))-1:]))
	for name, spoil := range map[string]func(*Options, *Header){
		"no recipient":        func(o *Options, _ *Header) { o.Recipients = nil },
		"no key":              func(o *Options, _ *Header) { o.Recipients = []string{"age1qqqq"} },
		"secret key":          func(o *Options, _ *Header) { o.Recipients = []string{secret} },
		"twice":               func(o *Options, _ *Header) { o.Recipients = []string{a.recipient, a.recipient} },
		"too many":            func(o *Options, _ *Header) { o.Recipients = make([]string, MaxRecipients+1) },
		"session with a path": func(_ *Options, h *Header) { h.Session = "../x" },
		"no session":          func(_ *Options, h *Header) { h.Session = "" },
		"folder is a file": func(o *Options, _ *Header) {
			o.Dir = filepath.Join(o.Dir, "f")
			must(t, os.WriteFile(o.Dir, nil, 0o600))
		},
		"session twice": func(o *Options, h *Header) {
			closed(t, create(t, *o, *h), "")
		},
		"disk": func(o *Options, _ *Header) { o.sync = func(*os.File) error { return errors.New("broken") } },
	} {
		o, h := good()
		spoil(&o, &h)
		w, err := Create(o, h)
		if err == nil || w != nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the secret is repeated (P9)", name)
		}
	}
	o, h := good()
	o.LowWater = 1 << 62
	_, err := Create(o, h)
	var space *SpaceError
	if !errors.As(err, &space) || space.Want != 1<<62 || space.Free <= 0 {
		t.Errorf("%v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(o.Dir, "*/*/*/*")); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}

// All methods at once.
func TestConcurrent(t *testing.T) {
	a := newAuditor(t)
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient}, Input: true, Every: time.Millisecond}, sampleHeader)
	var work sync.WaitGroup
	for _, do := range []func() error{
		func() error { return w.Output([]byte("out")) },
		func() error { return w.Stderr([]byte("err")) },
		func() error { return w.Input([]byte("in")) },
		func() error { return w.Resize(1, 2) },
		func() error { return w.Mark("m") },
		w.Err,
	} {
		work.Go(func() {
			for range 200 {
				if err := do(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	s := closed(t, w, "0")
	if _, events := readAll(t, filepath.Join(dir, s.Path), a); len(events) != 1001 {
		t.Errorf("%d events", len(events))
	}
}

// A keystroke costs no memory of its own, and a quiet session keeps little.
func TestOutputIsCheap(t *testing.T) {
	a := newAuditor(t)
	b := book{told: make(chan Chunk, 1000)}
	w := create(t, Options{Dir: t.TempDir(), Recipients: []string{a.recipient}, Chunk: b.put, Every: time.Hour}, sampleHeader)
	w.mu.Lock()
	w.fill = make([]byte, 0, bulk/2)
	w.mu.Unlock()
	p := []byte("x")
	if n := testing.AllocsPerRun(1000, func() { _ = w.Output(p) }); n > 0 {
		t.Errorf("%v allocations a call", n)
	}
	for range 100 {
		must(t, w.Output(make([]byte, 10_000)))
	}
	must(t, w.Mark("end"))
	w.mu.Lock()
	w.since = time.Time{}
	w.mu.Unlock()
	w.due()
	quiet := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return cap(w.fill) <= keep && len(w.fill) == 0
	}
	for deadline := time.Now().Add(patience); !quiet(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it keeps its memory")
		}
	}
	closed(t, w, "")
}

func BenchmarkKeystroke(b *testing.B) {
	a := newAuditor(b)
	w := create(b, Options{Dir: b.TempDir(), Recipients: []string{a.recipient}}, sampleHeader)
	p := []byte("x")
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Output(p); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	closed(b, w, "")
}

func BenchmarkBulk(b *testing.B) {
	a := newAuditor(b)
	words := strings.Fields("eth0 link up the quick brown fox error permission denied connection from 10.0.0.1 port 22 \x1b[32mok\x1b[0m")
	var text, random []byte
	for i, sum := 0, sha256.Sum256(nil); len(text) < 32<<10; i++ {
		sum = sha256.Sum256(sum[:])
		text = fmt.Appendf(text, "%d %s %s %x\r\n", i, words[int(sum[0])%len(words)], words[int(sum[1])%len(words)], sum[2:4])
	}
	for sum := sha256.Sum256(nil); len(random) < 32<<10; sum = sha256.Sum256(sum[:]) {
		random = append(random, sum[:]...)
	}
	for name, p := range map[string][]byte{"log": text[:32<<10], "random": random} {
		b.Run(name, func(b *testing.B) {
			w := create(b, Options{Dir: b.TempDir(), Recipients: []string{a.recipient}}, sampleHeader)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Output(p); err != nil {
					b.Fatal(err)
				}
			}
			closed(b, w, "")
		})
	}
}

// What came fast is packed fast, also when it had to wait since the batch before was long in the making.
func TestHurryIsByRate(t *testing.T) {
	for _, c := range []struct {
		bytes int
		hurry bool
	}{{bulk, false}, {MaxWaiting, true}} {
		w := &Writer{opt: Options{Every: time.Hour, rush: time.Minute}, fill: make([]byte, c.bytes), since: time.Now().Add(-2 * time.Minute)}
		w.room = sync.NewCond(&w.mu)
		if _, ready, _, hurry := w.take(); !ready || hurry != c.hurry {
			t.Errorf("%d bytes in two minutes: ready %v, hurry %v", c.bytes, ready, hurry)
		}
	}
}
