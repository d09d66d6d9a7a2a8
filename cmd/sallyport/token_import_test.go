package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layeh.com/radius"

	"sallyport/internal/admin"
	"sallyport/otp"
)

// hardware is a table of n counting tokens H000000, H000001, ... that their maker has tried a hundred times.
func hardware(n int) (table string, seed func(i int) []byte) {
	seed = func(i int) []byte { return fmt.Appendf(nil, "seed of token %08d!", i) }
	var b strings.Builder
	b.WriteString("Serial No.;Seed;Type;Digits;Counter\r\n")
	for i := range n {
		fmt.Fprintf(&b, "H%06d;%X;HOTP;8;100\r\n", i, seed(i))
	}
	return b.String(), seed
}

// A hardware token logs in over RADIUS: imported into the running gateway, given to somebody, tried once, and then each code once, also
// across a kill. No seed is in what was printed or in the data folder (P2, P9).
func TestHardwareToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	table, seed := hardware(3)
	r.write("tokens.csv", table)
	r.ok("user", "add", "alice", "--group", "network")
	r.start()
	r.ok("token", "import", filepath.Join(r.dir, "tokens.csv"))
	r.ok("token", "assign", "H000001", "alice")
	params := otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 8}
	code := func(n int64) string { return otp.Code(seed(1), params, n) }
	r.refusedIn(code(99)+"\n", "token", "confirm", "alice")
	r.okIn(code(100)+"\n", "token", "confirm", "alice")
	ask := func(n int64, want radius.Code) {
		t.Helper()
		if got := newNAS(t, fromCode, r.daemon.radius).ask(t, "alice", code(n), nil); got.Code != want {
			t.Errorf("code %d: %v, want %v", n, got.Code, want)
		}
	}
	ask(100, radius.CodeAccessReject)
	ask(99, radius.CodeAccessReject)
	ask(103, radius.CodeAccessAccept)
	r.kill()
	r.start()
	ask(103, radius.CodeAccessReject)
	ask(102, radius.CodeAccessReject)
	ask(104, radius.CodeAccessAccept)
	r.stop()
	r.check()

	secrets := map[string][]byte{}
	for i := range 3 {
		secrets[fmt.Sprint("seed ", i)] = seed(i)
		secrets[fmt.Sprint("seed in hex ", i)] = []byte(strings.ToUpper(hex.EncodeToString(seed(i))))
		secrets[fmt.Sprint("seed in small hex ", i)] = []byte(hex.EncodeToString(seed(i)))
		secrets[fmt.Sprint("seed in base32 ", i)] = []byte(seedEncoding.EncodeToString(seed(i)))
	}
	search(t, "what was printed", r.said.Bytes(), secrets)
	files := 0
	err := filepath.WalkDir(r.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		search(t, path, b, secrets)
		return err
	})
	if err != nil || files < 6 {
		t.Errorf("%d files were searched: %v", files, err)
	}
}

// killing is where the answer of an import goes: at its first line the gateway is killed.
type killing struct {
	r    *rig
	done bool
}

func (k *killing) Write(p []byte) (int, error) {
	if !k.done {
		k.done = true
		k.r.kill()
	}
	return len(p), nil
}

// An import during which the gateway is killed leaves whole records, and the same command again takes the rest, and nothing twice.
func TestImportAcrossKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const n = 30_000 // some twenty records
	table, _ := hardware(n)
	r.write("tokens.csv", table)
	r.start()
	client := r.caller()
	if err := client.Upload(t.Context(), "token.import", admin.TokenImport{Format: "csv"}, strings.NewReader(table), &killing{r: r}); err == nil {
		t.Log("the import was faster than the kill")
	}
	client.Close()
	r.start()
	have := func() int { return bytes.Count([]byte(r.ok("token", "stock", "--json")), []byte("\n")) }
	before := have()
	if before == 0 {
		t.Error("nothing of what was said to be taken is there")
	}
	if before < n {
		if out := r.ok("token", "import", filepath.Join(r.dir, "tokens.csv")); !strings.Contains(out, fmt.Sprintf("%d tokens are in stock now", n-before)) || !strings.Contains(out, fmt.Sprintf("%d were here already", before)) {
			t.Errorf("%d were there, and then: %s", before, out)
		}
	}
	if got := have(); got != n {
		t.Errorf("%d in stock, want %d", got, n)
	}
	if said := r.refusedIn("", "token", "import", filepath.Join(r.dir, "tokens.csv")); !strings.Contains(said, "here already") {
		t.Errorf("once more: %s", said)
	}
	r.stop()
	r.check()
}
