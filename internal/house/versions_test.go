package house

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// leastCrypto is the first release of golang.org/x/crypto without the faults of 2026 in its SSH server: permissions that
// outlive a partial success (CVE-2026-39828), deadlocked and leaked channels, costly keys.
const leastCrypto = "v0.56.0"

// selected asks go which version of each module is linked, replacements included.
func selected(t *testing.T, modules ...string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-m", "-json"}, modules...)...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -m: %v", err)
	}
	found := map[string]listed{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var m listed
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Replace != nil {
			m.Version, m.GoMod = m.Replace.Version, m.Replace.GoMod
		}
		found[m.Path] = m
	}
}

// listed is what `go list -m -json` says of one module.
type listed struct {
	Path, Version, GoMod string
	Replace              *listed
}

// belowFloor reports whether a version is older than the floor, or none that can be told.
func belowFloor(version, floor string) bool {
	return !semver.IsValid(version) || semver.Compare(version, floor) < 0
}

// TestCryptoFloor: an older x/crypto would give away what sshgw promises (P1, P7).
func TestCryptoFloor(t *testing.T) {
	got := selected(t, "golang.org/x/crypto")["golang.org/x/crypto"].Version
	if belowFloor(got, leastCrypto) {
		t.Errorf("golang.org/x/crypto %q is linked, want %s or later", got, leastCrypto)
	}
	for version, below := range map[string]bool{"v0.55.9": true, "v0.56.0-rc.1": true, "": true, "v0.56.0": false, "v0.58.0": false, "v1.0.0": false} {
		if belowFloor(version, leastCrypto) != below {
			t.Errorf("belowFloor(%q) = %v", version, !below)
		}
	}
}

// TestLibcMatchesSQLite: modernc.org/sqlite is generated against one exact modernc.org/libc, and others corrupt memory.
func TestLibcMatchesSQLite(t *testing.T) {
	const sqlite, libc = "modernc.org/sqlite", "modernc.org/libc"
	found := selected(t, sqlite, libc)
	text, err := os.ReadFile(found[sqlite].GoMod)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if r.Mod.Path == libc {
			if got := found[libc].Version; got != r.Mod.Version {
				t.Errorf("%s %s is linked, but %s %s is made for %s\n  hint: go get %s@%s", libc, got, sqlite, found[sqlite].Version, r.Mod.Version, libc, r.Mod.Version)
			}
			return
		}
	}
	t.Errorf("the go.mod of %s names no %s", sqlite, libc)
}
