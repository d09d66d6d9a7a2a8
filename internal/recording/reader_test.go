package recording

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// made is a recording of a few chunks with all that belongs to it.
type made struct {
	auditor
	path  string
	raw   []byte
	book  book
	sum   Summary
	known Known
}

// record makes a recording, a chunk for each text.
func record(t testing.TB, texts ...string) *made {
	t.Helper()
	m := &made{auditor: newAuditor(t)}
	m.book.told = make(chan Chunk, len(texts)+1)
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Recipients: []string{m.recipient}, Chunk: m.book.put, Now: steps(time.Second), Every: time.Nanosecond, sync: noSync}, sampleHeader)
	<-m.book.told
	for _, text := range texts {
		must(t, w.Output([]byte(text)))
		<-m.book.told
	}
	m.sum = closed(t, w, "")
	m.path = filepath.Join(dir, m.sum.Path)
	m.raw = mustRead(t, m.path)
	m.known = m.book.known(m.sum)
	return m
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// with writes the file anew.
func (m *made) with(t testing.TB, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "changed.rec")
	must(t, os.WriteFile(path, raw, 0o600))
	return path
}

// texts reads until something is wrong.
func texts(path string, a auditor, expect []Chunk) (all []string, err error) {
	r, err := Open(path, a.file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if expect != nil {
		r.Expect(expect)
	}
	for {
		e, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, string(e.Data))
	}
}

func (m *made) frame(n int) []byte {
	c := m.book.chunks[n]
	return m.raw[c.Offset-frameHead : c.Offset+c.Length]
}

// What is wrong is said precisely, with the key and without.
func TestDamage(t *testing.T) {
	m := record(t, "one", "two", "three") // chunks 1, 2, 3 after the header's
	stranger := newAuditor(t)
	other := record(t, "one", "two", "three")
	start := m.raw[:m.book.chunks[0].Offset-frameHead]
	end := make([]byte, frameHead)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	flip := func(at int64) []byte {
		raw := bytes.Clone(m.raw)
		raw[at] ^= 1
		return raw
	}
	last := m.book.chunks[3]
	for _, c := range []struct {
		name string
		raw  []byte
		// With the key alone, and with the audit log alone.
		read       error
		readText   string
		read1      []string // what could be read
		verify     error
		verifyText string
	}{
		{"nothing", m.raw, io.EOF, "EOF", []string{"one", "two", "three"}, nil, ""},
		{
			"cut within a chunk", m.raw[:last.Offset+3], ErrTruncated, "chunk 3 is cut off: the file ends within it",
			[]string{"one", "two"},
			ErrTailMissing, "chunk 3 is cut off within, and the audit log has it whole: the tail is missing",
		},
		{
			"cut within a length", m.raw[:last.Offset-2], ErrTruncated, "chunk 3 is cut off: the file ends within it",
			[]string{"one", "two"},
			ErrTailMissing, "chunk 3 is cut off within, and the audit log has it whole: the tail is missing",
		},
		{
			"cut between chunks", m.raw[:m.book.chunks[2].Offset-frameHead], ErrUnfinished, "chunk 2 and the end are not there: the session still runs, or its recording broke off",
			[]string{"one"},
			ErrTailMissing, "chunk 2 to 3 are missing: the audit log has them, and the file ends before",
		},
		{
			"cut, and a new end", cat(start, m.frame(0), m.frame(1), m.frame(2), end), io.EOF, "EOF",
			[]string{"one", "two"},
			ErrTailMissing, "chunk 3 is missing: the audit log has it, and the file ends before",
		},
		{
			"without its end", m.raw[:len(m.raw)-frameHead], ErrUnfinished, "chunk 4 and the end are not there: the session still runs, or its recording broke off",
			[]string{"one", "two", "three"},
			ErrTailMissing, "chunk 4 was to be the end, which is missing",
		},
		{
			"something behind the end", cat(m.raw, []byte("x")), ErrAltered, "chunk 4 was altered: something follows the end of the recording",
			[]string{"one", "two", "three"},
			ErrAltered, "chunk 4 was altered: something follows the end of the recording",
		},
		{
			"a chunk taken out", cat(start, m.frame(0), m.frame(1), m.frame(3), end), ErrAltered, "chunk 2 was altered: what is inside belongs elsewhere",
			[]string{"one"},
			ErrAltered, "chunk 2 was altered: it is not the one that the audit log has",
		},
		{
			"chunks the other way round", cat(start, m.frame(0), m.frame(2), m.frame(1), m.frame(3), end), ErrAltered, "chunk 1 was altered: what is inside belongs elsewhere",
			nil, ErrAltered, "chunk 1 was altered: it is not the one that the audit log has",
		},
		{
			"a chunk twice", cat(start, m.frame(0), m.frame(1), m.frame(1), m.frame(2), m.frame(3), end), ErrAltered, "chunk 2 was altered: what is inside belongs elsewhere",
			[]string{"one"},
			ErrAltered, "chunk 2 was altered: it is not the one that the audit log has",
		},
		{
			"a chunk for another key", cat(start, m.frame(0), other.frame(1), m.frame(2), m.frame(3), end), ErrWrongKey, "chunk 1 is not sealed to this key",
			nil, ErrAltered, "chunk 1 was altered: it is not the one that the audit log has",
		},
		{
			"one byte", flip(m.book.chunks[2].Offset + m.book.chunks[2].Length - 1), ErrAltered, "chunk 2 was altered: it does not open",
			[]string{"one"},
			ErrAltered, "chunk 2 was altered: it is not the one that the audit log has",
		},
		{
			"a length", flip(m.book.chunks[2].Offset - frameHead), ErrAltered, "chunk 2 was altered: a length of 1677",
			[]string{"one"},
			ErrAltered, "chunk 2 was altered: a length of 1677",
		},
		{"the first line", flip(0), ErrNotRecording, "it is no recording of Sallyport", nil, ErrNotRecording, "it is no recording of Sallyport"},
		{"the version", bytes.Replace(m.raw, []byte(" 1 "), []byte(" 2 "), 1), ErrNotRecording, "it is of version 2", nil, ErrNotRecording, "it is of version 2"},
		{"the session", bytes.Replace(m.raw, []byte(" s1 "), []byte(" s2 "), 1), ErrAltered, "chunk 0 was altered: its header does not fit the file", nil, ErrAltered, "it is the recording of session s2"},
		{"empty", nil, ErrNotRecording, "it is no recording of Sallyport", nil, ErrNotRecording, "it is no recording of Sallyport"},
		{"only its end", cat(start, end), ErrAltered, "chunk 0 was altered: it is missing", nil, ErrTailMissing, "chunk 0 to 3 are missing: the audit log has them, and the file ends before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := m.with(t, c.raw)
			got, err := texts(path, m.auditor, nil)
			if !errors.Is(err, c.read) || !strings.HasPrefix(err.Error(), c.readText) || !slices.Equal(got, c.read1) {
				t.Errorf("reading: %q, %v", got, err)
			}
			if _, err := Verify(path, m.known); !errors.Is(err, c.verify) || err != nil && !strings.HasPrefix(err.Error(), c.verifyText) {
				t.Errorf("verifying: %v", err)
			}
		})
	}
	if _, err := Open(m.path, stranger.file); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := Open(m.path, []byte("no key\n")); err == nil || strings.Contains(err.Error(), "no key") {
		t.Errorf("no key: %v", err)
	}
}

// Every byte of a file counts, and so does every cut.
func TestEveryByte(t *testing.T) {
	m := record(t, "one", "two")
	dir := t.TempDir()
	path := filepath.Join(dir, "x.rec")
	for i := range m.raw {
		raw := bytes.Clone(m.raw)
		raw[i] ^= 0x20
		must(t, os.WriteFile(path, raw, 0o600))
		if _, err := Verify(path, m.known); err == nil && !bytes.HasPrefix(raw[i:], []byte("\x11\n")) { // of the number of recipients nothing depends
			t.Errorf("byte %d: not found without a key", i)
		}
		if _, err := texts(path, m.auditor, m.known.Chunks); errors.Is(err, io.EOF) && raw[i] != 0x11 {
			t.Errorf("byte %d: not found with the key", i)
		}
		must(t, os.WriteFile(path, m.raw[:i], 0o600))
		if _, err := Verify(path, m.known); err == nil {
			t.Errorf("cut at %d: not found without a key", i)
		}
		if _, err := texts(path, m.auditor, nil); errors.Is(err, io.EOF) {
			t.Errorf("cut at %d: not found with the key", i)
		}
	}
}

// The log's own account has to be whole, and what is not over is told from what is cut.
func TestVerifyAgainstLog(t *testing.T) {
	m := record(t, "one", "two")
	whole := m.path
	open := m.with(t, m.raw[:m.book.chunks[2].Offset-frameHead])
	torn := m.with(t, m.raw[:m.book.chunks[2].Offset+5])
	chunks := m.known.Chunks
	for _, c := range []struct {
		name   string
		path   string
		change func(*Known)
		is     error
		text   string
	}{
		{"whole", whole, func(*Known) {}, nil, ""},
		{"a record is missing", whole, func(k *Known) { k.Chunks = append(slices.Clone(chunks[:1]), chunks[2]) }, ErrAltered, "chunk 1 is not in the audit log, and chunk 2 is"},
		{"the last record is missing", whole, func(k *Known) { k.Chunks = chunks[:2] }, ErrAltered, "chunk 2 does not fit: the audit log has 2 chunks, and the record of the session's end says 3"},
		{"another sum", whole, func(k *Known) { k.SHA256 = chunks[0].SHA256 }, ErrAltered, "chunk 2 does not fit: the sums"},
		{"no end on record, and one in the file", whole, func(k *Known) { k.Ended = false }, nil, ""},
		{"the newest chunk is not on record yet", whole, func(k *Known) { k.Ended, k.Chunks = false, chunks[:2] }, ErrUnfinished, "chunk 2 and what may follow are not on record yet"},
		{"it runs", open, func(k *Known) { k.Ended, k.Chunks = false, chunks[:2] }, ErrUnfinished, "chunk 2 and the end are not there"},
		{"it runs, and writes", torn, func(k *Known) { k.Ended, k.Chunks = false, chunks[:2] }, ErrUnfinished, "chunk 2 and what may follow are not on record yet"},
		{"it runs, and was cut", open, func(k *Known) { k.Ended = false }, ErrTailMissing, "chunk 2 is missing"},
		{"it is over, and was cut", open, func(*Known) {}, ErrTailMissing, "chunk 2 is missing"},
		{"more than on record", whole, func(k *Known) {
			k.Chunks, k.Count = chunks[:2], 2
			k.SHA256 = sumOf(chunks[:2])
		}, ErrUnrecorded, "chunk 2 is not on record in the audit log"},
		{"another session", whole, func(k *Known) { k.Session = "s9" }, ErrAltered, "it is the recording of session s1"},
	} {
		k := m.known
		c.change(&k)
		if _, err := Verify(c.path, k); !errors.Is(err, c.is) || err != nil && !strings.HasPrefix(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func sumOf(chunks []Chunk) string {
	w := &Writer{total: newTotal()}
	for _, c := range chunks {
		w.addTotal(c)
	}
	return fmt.Sprintf("%x", w.total.Sum(nil))
}

// Details of records give back what they were made of.
func TestDetails(t *testing.T) {
	c := Chunk{7, 100, 200, strings.Repeat("a1", 32), sampleHeader.Started, sampleHeader.Started.Add(time.Second)}
	details := map[string]string{}
	for _, d := range ChunkDetails(c) {
		details[d[0]] = d[1]
	}
	get := func(key string) string { return details[key] }
	if got, err := ParseChunk(get); err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
	for key, bad := range map[string]string{DetailChunk: "x", DetailOffset: "-1", DetailLength: "", DetailSHA256: "A1"} {
		was := details[key]
		details[key] = bad
		if _, err := ParseChunk(get); err == nil {
			t.Errorf("%s %q is taken", key, bad)
		}
		details[key] = was
	}
	if _, err := File("/srv", "../x"); err == nil {
		t.Error("a path leads out")
	}
	if path, err := File("/srv", "2026/x.rec"); err != nil || path != "/srv/2026/x.rec" {
		t.Errorf("%s, %v", path, err)
	}
}

// A recording is read while it is made, and to its end.
func TestGrowing(t *testing.T) {
	a := newAuditor(t)
	dir := t.TempDir()
	b := book{told: make(chan Chunk, 10)}
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient}, Chunk: b.put, Every: time.Nanosecond}, sampleHeader)
	<-b.told
	waits := 0
	r, err := OpenGrowing(filepath.Join(dir, w.Path()), a.file, func() error {
		waits++
		switch waits {
		case 1:
			return w.Output([]byte("more"))
		case 2:
			<-b.told
			_, err := w.Close("0")
			return err
		}
		return errors.New("it does not see the end")
	})
	must(t, err)
	defer r.Close()
	for _, want := range []string{"more", "0"} {
		e, err := r.Next()
		if err != nil || string(e.Data) != want {
			t.Fatalf("%q, %v, want %q", e.Data, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if sum, n := r.Sum(); n != len(b.chunks) || sum != sumOf(b.chunks) {
		t.Errorf("%s, %d", sum, n)
	}
}

// Exports are what players read: valid lines, joined characters, nothing of our own.
func TestExport(t *testing.T) {
	a := newAuditor(t)
	dir := t.TempDir()
	w := create(t, Options{Dir: dir, Recipients: []string{a.recipient}, Now: steps(time.Second / 2), Input: true}, sampleHeader)
	must(t, w.Output([]byte("caf\xc3")))
	must(t, w.Stderr([]byte("\xff\"\x1b\x7f\u0085")))
	must(t, w.Output([]byte("\xa9")))
	must(t, w.Input([]byte("ls\r")))
	must(t, w.Resize(100, 40))
	must(t, w.Output([]byte("\xe2\x82")))
	s := closed(t, w, "0")
	path := filepath.Join(dir, s.Path)
	export := func(do func(*Reader, io.Writer) error) string {
		r, err := Open(path, a.file)
		must(t, err)
		defer r.Close()
		var out bytes.Buffer
		must(t, do(r, &out))
		for line := range strings.Lines(out.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
		return out.String()
	}
	_, v3, _ := strings.Cut(export((*Reader).ExportV3), "\n")
	want := "[0.500000,\"o\",\"caf\"]\n[0.500000,\"o\",\"\ufffd\ufffd\\\"\\u001b\\u007f\\u0085\"]\n[0.500000,\"o\",\"\ufffd\"]\n" +
		"[0.500000,\"i\",\"ls\\r\"]\n[0.500000,\"r\",\"100x40\"]\n[1.000000,\"x\",\"0\"]\n[0.000000,\"o\",\"\ufffd\ufffd\"]\n"
	// The character comes whole where its stream goes on; here standard error came between.
	want = strings.Replace(want, "\ufffd\ufffd\\\"", "\ufffd\\\"", 1)
	want = strings.Replace(want, "[0.500000,\"o\",\"\ufffd\"]", "[0.500000,\"o\",\"é\"]", 1)
	if v3 != want {
		t.Errorf("got:\n%s\nwant:\n%s", v3, want)
	}
	v2 := export((*Reader).ExportV2)
	head, rest, _ := strings.Cut(v2, "\n")
	if !strings.Contains(head, `"height":24`) || !strings.Contains(head, `"version":2`) || !strings.Contains(head, `"width":80`) {
		t.Error(head)
	}
	if want := "[0.500000, \"o\", \"caf\"]\n"; !strings.HasPrefix(rest, want) || strings.Contains(rest, `"x"`) || !strings.Contains(rest, `[2.500000, "r", "100x40"]`) {
		t.Errorf("got:\n%s", rest)
	}
}

// Playing keeps the pace, cuts pauses, and leaves the terminal as it was.
func TestPlay(t *testing.T) {
	m := record(t, "one\x1b[?25l", "two", "\x1b]0;title\x07three")
	r, err := Open(m.path, m.file)
	must(t, err)
	defer r.Close()
	var out bytes.Buffer
	var waits []time.Duration
	must(t, r.Play(context.Background(), &out, PlayOptions{Speed: 2, Idle: 400 * time.Millisecond, Wait: func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		return nil
	}}))
	if got, want := out.String(), "one\x1b[?25ltwothree\x1b[0m\x1b[?25h"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(waits, []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond}) {
		t.Errorf("waits %v", waits)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r2, err := Open(m.path, m.file)
	must(t, err)
	defer r2.Close()
	if err := r2.Play(ctx, &out, PlayOptions{Speed: 1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzReader reads any bytes as a file, and any text as the inside of a chunk.
func FuzzReader(f *testing.F) {
	m := record(f, "one", "two")
	f.Add(m.raw, []byte(nil))
	f.Add(m.raw[:100], []byte("[0.1,\"o\",\"x\"]\n[0,\"b\",\"eA==\"]\n[1,\"r\",\"9x9\"]\n"))
	f.Add([]byte("sallyport-recording 1 s1 1\n\x00\x00\x00\x05hello"), []byte("[1e300,\"o\",1]\n[]\n\n"))
	recipients, err := ParseRecipients([]string{m.recipient})
	must(f, err)
	keys, err := parseIdentities(m.file)
	must(f, err)
	drain := func(raw []byte) {
		r, err := newReader(bytes.NewReader(raw), keys, nil)
		if err != nil {
			return
		}
		defer r.Close()
		n := 0
		if err := r.Lines(context.Background(), func(Line) error { n++; return nil }); err != nil && n < 0 {
			panic(err)
		}
	}
	f.Fuzz(func(t *testing.T, raw, inside []byte) {
		drain(raw)
		ws := workspaces.Get().(*workspace)
		defer workspaces.Put(ws)
		head, _ := sampleHeader.line()
		plain := append(append(head, "# sallyport 1 s1 0 -\n"...), inside...)
		var file, sealed bytes.Buffer
		ws.plain = append(ws.plain[:0], plain...)
		quick, err := ws.pack(true)
		must(t, err)
		for _, packed := range [][]byte{ws.zstd.EncodeAll(plain, nil), quick, append([]byte(snappyHead), inside...), inside} {
			file.Reset()
			sealed.Reset()
			must(t, sealTo(&sealed, packed, recipients))
			n := sealed.Len()
			file.WriteString("sallyport-recording 1 s1 1\n")
			file.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			file.Write(sealed.Bytes())
			drain(file.Bytes())
		}
	})
}
