package audit

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

const (
	goldenSecret = "PRIVATE+KEY+gw1.test/sallyport+9bcf8371+AZEsOL4aWKkKSNflTae7dyte8zSlG1DIsfCUos0vZ7+s"
	goldenKey    = "gw1.test/sallyport+9bcf8371+AXQ0X/VcNpYhQKOvQQRnGtURAw4jPHjD3D6i4c9jQgAr"
)

var update = flag.Bool("update", false, "write testdata/export.jsonl anew, with new salts; the examples' outputs change with it")

// TestGoldenExport: an export that was made once can be verified for ever.
func TestGoldenExport(t *testing.T) {
	signer, err := note.NewSigner(goldenSecret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/export.jsonl"
	if *update {
		f := newFixture(t, keys{signer, verifier})
		l := f.open(t)
		appendRecords(t, l, 0, 4)
		refused := &Record{
			Event: "login", Result: Reject, Reason: "unknown_person", Login: "al\x1b[31mice\xff\u202e", Protocol: "ssh",
			Source: "2001:db8::7", System: "gateway", Detail: []Detail{{"note", "Zoë\n\"quoted\""}},
			Factors: []Factor{{Kind: "know", Method: "password", Result: "wrong"}},
		}
		if _, err := l.Append(refused, nil); err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(export(t, l), []byte("\n"))
		closeLog(t, l)
		lines[1] = erasedLine(t, lines[1], 1)
		if err := os.WriteFile(path, bytes.Join(lines, nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := VerifyExport(bytes.NewReader(file), verifier, nil)
	if err != nil || r.Size != 5 || r.Records != 4 || r.Erased != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
