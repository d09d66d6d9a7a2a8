package kept

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Names lead nowhere but into the folder.
func TestParseID(t *testing.T) {
	for _, bad := range []string{
		"", "../2026-06-30-mfa-0123456789abcdef", "2026-06-30-mfa-0123456789abcdef/..", "2026-06-30-mfa-0123456789ABCDEF", "2026-06-30--0123456789abcdef",
		"2026-06-30-mfa-0123456789abcdef.json", "2026-06-30-mfa-0123456789abcde", "2026-06-30-mfa-0123456789abcdef\n", "2026-06-30-../x-0123456789abcdef",
	} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	sum := sha256.Sum256([]byte("x"))
	id := Name(time.Date(2026, 6, 30, 23, 59, 0, 0, time.FixedZone("BST", 3600)), "log-health", sum)
	again, err := ParseID(string(id))
	if err != nil || again != id || id.Day() != "2026-06-30" || id.Kind() != "log-health" || len(id.Hash()) != 16 {
		t.Errorf("%s: %v", id, err)
	}
}

func TestFolder(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "reports"))
	if list, err := f.List(); err != nil || len(list) != 0 {
		t.Errorf("before the first: %v, %v", list, err)
	}
	sum := sha256.Sum256([]byte("{}"))
	id := Name(time.Unix(0, 0), "mfa", sum)
	for format, text := range map[string]string{"json": "{}", "html": "<p>"} {
		if err := f.Put(id, format, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := f.Read(id, "json"); err != nil || string(b) != "{}" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := f.Read(id, "pdf"); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	// What is no report is passed over, and a link is not followed.
	for _, name := range []string{"notes.txt", ".report-123", "1970-01-01-mfa-zzzz.json"} {
		if err := os.WriteFile(filepath.Join(string(f), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := Name(time.Unix(0, 0), "access", sum)
	if err := os.Symlink("/etc/passwd", f.path(link, "json")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(link, "json"); err == nil {
		t.Error("a link is followed")
	}
	list, err := f.List()
	if err != nil || len(list) != 1 || list[0].ID != id || len(list[0].Formats) != 2 || list[0].Bytes != 5 {
		t.Errorf("%+v, %v", list, err)
	}
	info, err := os.Stat(string(f))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode: %v, %v", info.Mode(), err)
	}
}

// Reports cannot fill the disk: beyond a bound none is kept.
func TestFull(t *testing.T) {
	f := Folder(t.TempDir())
	big, err := os.Create(filepath.Join(string(f), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	if err := big.Truncate(MaxFolder - 1); err != nil {
		t.Fatal(err)
	}
	id := Name(time.Unix(0, 0), "mfa", sha256.Sum256(nil))
	if err := f.Put(id, "json", []byte("1")); err != nil {
		t.Errorf("what just fits: %v", err)
	}
	if err := f.Put(id, "html", []byte("1")); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
}

// FuzzParseID: whatever is taken is a plain name.
func FuzzParseID(f *testing.F) {
	f.Add("2026-06-30-mfa-0123456789abcdef")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && (filepath.Base(string(id)) != s || filepath.Ext(s) != "") {
			t.Errorf("%q", s)
		}
	})
}
