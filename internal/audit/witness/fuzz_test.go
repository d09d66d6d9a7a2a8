package witness

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func FuzzParseRequest(f *testing.F) {
	m := (&memory{keys: newLogKeys(f, "gw1.test/sallyport")}).grow(f, leaves("a", 9)...)
	f.Add(m.ask(f, 0, 5))
	f.Add(m.ask(f, 5, 9))
	f.Add("old 0\n\n\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		r, err := parseRequest([]byte(body))
		if err == nil && r.String() != body {
			t.Errorf("%q is taken as %q", body, r)
		}
	})
}

// FuzzAddCheckpoint: whatever comes, nothing is signed but what the log has signed and proved.
func FuzzAddCheckpoint(f *testing.F) {
	w := newWorld(f)
	m := w.log.grow(f, leaves("a", 9)...)
	w.signs(m, 0, 5)
	fork := (&memory{keys: m.keys}).grow(f, leaves("b", 9)...)
	f.Add(fork.ask(f, 5, 9))
	f.Add(m.ask(f, 0, 5))
	f.Add(strings.Replace(m.ask(f, 5, 9), "old 5", "old 4", 1))
	f.Fuzz(func(t *testing.T, body string) {
		line, refused := w.server.addCheckpoint([]byte(body))
		if refused == nil {
			r, err := parseRequest([]byte(body))
			if err != nil || !strings.Contains(r.checkpoint, "\n5\n") || r.old != 5 {
				t.Errorf("signed %q for %q", line, body)
			}
		} else if refused.status < 400 || refused.status == http.StatusInternalServerError {
			t.Errorf("%d %v", refused.status, refused)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	w := newWorld(f)
	m := w.log.grow(f, leaves("a", 9)...)
	line := w.signs(m, 0, 5)
	msg := m.checkpoint(f, 5)
	v := w.signer.Verifier()
	f.Add(line, "text/x.tlog.size")
	f.Add("5\n", "text/x.tlog.size; charset=utf-8")
	f.Fuzz(func(t *testing.T, answer, kind string) {
		if sig, err := parseCosignature(msg, []byte(answer), v); err == nil {
			if opened, err := note.Open([]byte(msg+lineOf(sig)), note.VerifierList(v)); err != nil || len(opened.Sigs) != 1 {
				t.Errorf("%q gives %q: %v", answer, lineOf(sig), err)
			}
		}
		if n, err := parseSigned(kind, []byte(answer)); err == nil && n == nil {
			t.Error("neither a size nor an error")
		}
	})
}

func FuzzParseLogs(f *testing.F) {
	k := newLogKeys(f, "gw1.test/sallyport")
	f.Add(LogListHeader + "\nvkey " + k.vkey + "\norigin x y\nqpd 5\n\n# more\nvkey " + newLogKeys(f, "b").vkey + "\n")
	f.Fuzz(func(t *testing.T, list string) {
		logs, err := ParseLogs(list)
		if err != nil {
			return
		}
		for _, l := range logs {
			if l.Origin == "" || len(l.Keys) == 0 || strings.Contains(l.Origin, "\n") {
				t.Errorf("%+v", l)
			}
		}
	})
}

func FuzzKeys(f *testing.F) {
	skey, vkey, err := NewKey("witness.test/w1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vkey)
	f.Add(skey)
	f.Add(newLogKeys(f, "gw1.test/sallyport").vkey)
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := NewVerifier(text); err == nil && v.String() != text {
			t.Errorf("%q is taken as %q", text, v)
		}
		if _, err := NewSigner(text, nil); err != nil && strings.HasPrefix(text, privatePrefix) && len(text) > 60 && strings.Contains(err.Error(), text[len(text)-20:]) {
			t.Errorf("the error shows the key: %v", err)
		}
	})
}
