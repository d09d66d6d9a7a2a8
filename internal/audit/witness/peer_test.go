package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite"

	"sallyport/internal/audit"
)

// peer builds a program of the module tools/peers.
func peer(t *testing.T, pkg string) string {
	t.Helper()
	dir, err := filepath.Abs("../../../tools/peers")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s in %s: %v\n%s\nhint: `go mod download` there fetches what it needs", pkg, dir, err, out)
	}
	return path
}

func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed (Debian package %s)", name, debianPackage)
	}
	return path
}

// start runs a program until the test ends, and shows what it said if the test fails.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var mu sync.Mutex
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = syncWriter{&mu, &said}, syncWriter{&mu, &said}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, said.String())
		}
	})
}

// await returns when try succeeds.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// liteWitness runs filippo.io/torchwood's litewitness, with its key in a real ssh-agent, for one log.
func liteWitness(t *testing.T, origin, vkey string) (url string, v *Verifier) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lw-") // short: sockets' names are bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, sock, db := filepath.Join(dir, "key"), filepath.Join(dir, "agent"), filepath.Join(dir, "lw.db")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(tool(t, "ssh-agent", "openssh-client"), "-D", "-a", sock))
	await(t, "ssh-agent", func() error {
		add := exec.Command(tool(t, "ssh-add", "openssh-client"), "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
		out, err := add.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})

	// Its own program for adding logs needs a module that cannot be had everywhere, so the row is made here.
	base, err := sql.Open("sqlite", db)
	if err != nil {
		t.Fatal(err)
	}
	empty := tlog.Hash(sha256.Sum256(nil))
	for _, s := range []struct {
		text string
		args []any
	}{
		{"CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)", nil},
		{"CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))", nil},
		{"INSERT INTO log VALUES (?, 0, ?)", []any{origin, empty.String()}},
		{"INSERT INTO key VALUES (?, ?)", []any{origin, vkey}},
	} {
		if _, err := base.Exec(s.text, s.args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := base.Close(); err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	signer, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	const name = "litewitness.test/w"
	start(t, exec.Command(peer(t, "filippo.io/torchwood/cmd/litewitness"), "-name", name, "-db", db, "-ssh-agent", sock,
		"-listen", addr, "-key", ssh.FingerprintSHA256(signer)))
	url = "http://" + addr
	await(t, "litewitness", func() error {
		resp, err := http.Get(url + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return url, &Verifier{name: name, hash: keyHash(name, public), key: public}
}

// TestLitewitness holds the publisher against the witness that the public network runs: the first checkpoint, further
// ones, a restart without memory, a log cut back and a fork.
func TestLitewitness(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	c := newClock()
	keys := newLogKeys(t, "gw1.test/sallyport")
	url, v := liteWitness(t, "gw1.test/sallyport", keys.vkey)
	if known, err := NewVerifier(v.String()); err != nil || known.String() != v.String() {
		t.Fatal(err)
	}
	client := func() Witness {
		return Witness{Name: "lite", Client: &Client{URL: url, Verifier: v, HTTP: http.DefaultClient}}
	}
	g := newGateway(t, c, keys)
	p := g.publish(client())
	for _, size := range []uint64{1, 2, 5, 64, 65, 130} {
		g.records(int(size - g.log.Next()))
		p.round(t.Context(), false)
		stored, err := g.log.Cosigned()
		if err != nil {
			t.Fatal(err)
		}
		cp, err := audit.OpenCheckpoint(stored, keys.verifier, v)
		if err != nil || cp.Size != size || len(cp.Cosigned) != 1 {
			t.Fatalf("%d records: %+v, %v; %+v", size, cp, err, p.Standings())
		}
		if at, err := SignedAt(cp.Cosigned[0]); err != nil || time.Since(at) > time.Hour {
			t.Errorf("signed at %s, %v", at, err)
		}
	}
	// Without memory it asks with old 0, is told 130, and goes on from there.
	if err := os.Remove(filepath.Join(g.dir, "checkpoint.cosigned")); err != nil {
		t.Fatal(err)
	}
	p = g.publish(client())
	g.records(1)
	p.round(t.Context(), false)
	if s := p.Standings()[0]; s.Size != 131 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	// Others' code verifies the proof, with both signatures.
	stored, err := g.log.Cosigned()
	if err != nil {
		t.Fatal(err)
	}
	proof, err := g.log.Prove(77, stored)
	if err != nil {
		t.Fatal(err)
	}
	check := peer(t, "./checkproof")
	run := func(proof []byte, keys ...string) (string, error) {
		cmd := exec.Command(check, keys...)
		cmd.Stdin = bytes.NewReader(proof)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(proof, keys.vkey, v.String()); err != nil || !strings.Contains(out, `"seq":77,`) {
		t.Errorf("checkproof: %v\n%s", err, out)
	}
	if out, err := run(proof, keys.vkey, newTestSigner(t, "w", c.Now).Verifier().String()); err == nil {
		t.Errorf("checkproof with another witness's key: %s", out)
	}

	for what, n := range map[string]int{"cut back": 20, "another history": 140} {
		bad := newGateway(t, c, keys)
		bad.records(n)
		p := bad.publish(client())
		p.round(t.Context(), false)
		if s := p.Standings()[0]; !s.Conflict || len(bad.conflicts) != 1 {
			t.Errorf("%s: %+v", what, s)
		}
	}
}

// TestOthersProof has others' code verify a proof whose witness is ours.
func TestOthersProof(t *testing.T) {
	w := newWorld(t)
	g := newGateway(t, w.clock, w.log.keys)
	g.records(9)
	g.publish(w.witness("w")).round(t.Context(), false)
	g.wantSigned(9, w)
	check := peer(t, "./checkproof")
	for seq := range uint64(9) {
		proof, err := g.log.Prove(seq, g.last())
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(check, w.log.keys.vkey, w.signer.Verifier().String())
		cmd.Stdin = bytes.NewReader(proof)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("record %d: %v\n%s", seq, err, out)
		}
	}
}
