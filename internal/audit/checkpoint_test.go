package audit

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func noteOf(t *testing.T, text string, signers ...note.Signer) string {
	t.Helper()
	msg, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}

// TestCheckpointIsStrict holds P8: one checkpoint has one form, one key and one origin.
func TestCheckpointIsStrict(t *testing.T) {
	k, other := newKeys(t, "gw1.test/sallyport"), newKeys(t, "gw2.test/sallyport")
	namesake := newKeys(t, "gw1.test/sallyport")
	want := head{size: 70, root: tlog.RecordHash([]byte("x"))}
	good, err := want.sign(k.signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openCheckpoint(good, k.verifier); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	text, _, _ := strings.Cut(good, "\n\n")
	root := want.root.String()
	stray := func(b64 string) string { // the same bytes, with other bits in the padding
		i := strings.Index(b64, "=") - 1
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		return b64[:i] + string(alphabet[strings.IndexByte(alphabet, b64[i])^1]) + b64[i+1:]
	}
	if a, _ := base64.StdEncoding.DecodeString(stray(root)); string(a) != string(want.root[:]) {
		t.Fatal("stray changes the bytes")
	}
	sig := good[strings.LastIndex(good, " ")+1 : len(good)-1]
	for name, msg := range map[string]string{
		"nothing":            "",
		"zeros":              strings.Repeat("\x00", 200),
		"no signature":       text + "\n",
		"another key":        noteOf(t, "gw2.test/sallyport\n70\n"+root+"\n", other.signer),
		"key of that name":   noteOf(t, text+"\n", namesake.signer),
		"two signatures":     noteOf(t, text+"\n", k.signer, other.signer),
		"same twice":         good + good[strings.LastIndex(good, "—"):],
		"another origin":     noteOf(t, "gw2.test/sallyport\n70\n"+root+"\n", k.signer),
		"extension line":     noteOf(t, text+"\nmore\n", k.signer),
		"line missing":       noteOf(t, "gw1.test/sallyport\n70\n", k.signer),
		"blank line":         noteOf(t, "gw1.test/sallyport\n70\n"+root+"\n\n", k.signer),
		"leading zero":       noteOf(t, "gw1.test/sallyport\n070\n"+root+"\n", k.signer),
		"negative":           noteOf(t, "gw1.test/sallyport\n-70\n"+root+"\n", k.signer),
		"too large":          noteOf(t, "gw1.test/sallyport\n18446744073709551616\n"+root+"\n", k.signer),
		"short root":         noteOf(t, "gw1.test/sallyport\n70\nAAAA\n", k.signer),
		"stray bits in root": noteOf(t, "gw1.test/sallyport\n70\n"+stray(root)+"\n", k.signer),
		"stray bits in sig":  strings.Replace(good, sig, stray(sig), 1),
		"size changed":       strings.Replace(good, "\n70\n", "\n71\n", 1),
		"CR":                 strings.ReplaceAll(good, "\n", "\r\n"),
		"line feed after":    good + "\n",
		"line feed before":   "\n" + good,
		"cut":                good[:len(good)-1],
		"long":               noteOf(t, text+"\n"+strings.Repeat("x", maxNote)+"\n", k.signer),
		"snapshot":           noteOf(t, fmt.Sprintf("%s\n70\n%s\n%x\n", snapshotText, root, want.root), k.signer),
	} {
		t.Run(name, func(t *testing.T) {
			if msg == good {
				t.Fatal("nothing was changed")
			}
			if h, err := openCheckpoint(msg, k.verifier); err == nil {
				t.Errorf("accepted as %+v:\n%s", h, msg)
			}
		})
	}
}

func TestNewKey(t *testing.T) {
	for name, ok := range map[string]bool{"gw1.example.nhs.uk/sallyport": true, "": false, "two words": false, "a+b": false, "a\nb": false} {
		if _, _, err := NewKey(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestStoreFails: a checkpoint that cannot be written leaves the one before, and says so.
func TestStoreFails(t *testing.T) {
	dir := t.TempDir()
	c := checkpointFile(filepath.Join(dir, "checkpoint"))
	if err := c.store("one\n", true); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(string(c)+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.store("two\n", false); err == nil {
		t.Error("stored")
	}
	for _, path := range []string{string(c), c.synced()} {
		if b, err := os.ReadFile(path); err != nil || string(b) != "one\n" {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
}
