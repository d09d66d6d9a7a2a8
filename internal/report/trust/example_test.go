package trust

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/report"
	"sallyport/internal/report/document"
)

// TestExampleReport: the statement that docs shows is the one that this program makes.
func TestExampleReport(t *testing.T) {
	f, _, err := Statement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Report(t.Context(), report.MFA)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range document.Formats() {
		got, err := d.Bytes(format)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("..", "..", "..", "docs", "example-report", "mfa."+format)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is another by now: `make example-report` makes it anew", path)
		}
	}
}

// The year is the same whenever it is made, its export is one that anybody can verify, and no code is used twice in it.
func TestYear(t *testing.T) {
	var sums [2][sha256.Size]byte
	for i := range sums {
		lines, err := New().Fill(5000)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(lines); n < 4000 || n > 8000 {
			t.Errorf("%d records where about 5000 were asked for", n)
		}
		sealed, err := Seal(lines)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := sealed.Export(&b); err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(b.Bytes())
		v, err := note.NewVerifier(sealed.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.VerifyExport(&b, v, nil)
		if err != nil || r.Root != sealed.Root || r.Size != uint64(len(lines)) {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if sums[0] != sums[1] {
		t.Error("two years differ")
	}
}

func TestSizeOfTheTrust(t *testing.T) {
	tr := New()
	if len(tr.People) != 200 || len(tr.Systems) != 60 {
		t.Errorf("%d people, %d systems: want 200 and 60", len(tr.People), len(tr.Systems))
	}
	for _, x := range tr.Exceptions {
		if x.ID == "EX-4" {
			continue // not approved yet
		}
		if errs := x.Validate(); len(errs) > 0 {
			t.Errorf("%s version %d: %v", x.ID, x.Version, errs)
		}
	}
	if errs := tr.Rules.Rules.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
}
