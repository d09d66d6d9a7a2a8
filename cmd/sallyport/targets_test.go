package main

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newOldSwitch shows a host key as a switch of 2005 does, and lets nobody in.
func newOldSwitch(t *testing.T, key ssh.Signer) (address string) {
	t.Helper()
	config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
		return nil, fmt.Errorf("nobody")
	}}
	config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1}
	config.Ciphers, config.MACs = []string{ssh.InsecureCipherTripleDESCBC}, []string{ssh.HMACSHA1}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				_, _, _, _ = ssh.NewServerConn(conn, config) // how it ends, the client sees
			})
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return l.Addr().String()
}

// TestTargetTrust asks real targets for their host keys by the running gateway, an old switch with 768 bits among them, and
// approves them; a data folder of an older version gets its CAs at the start.
func TestTargetTrust(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 768)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerFromKey(small)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sshd, sw := newTarget(t, dir), newOldSwitch(t, old)
	r := newRig(t, rigOptions{dir: dir, targets: fmt.Sprintf(`
    - {name: srv1, address: %q, class: privileged-internal, tags: [network]}
    - {name: old-sw, address: %q, class: privileged-internal, algorithms: legacy}
    - {name: strict, address: %[2]q, class: privileged-internal}
    - {name: nowhere, address: "127.0.0.1:1", class: privileged-internal}`, sshd.listener.Addr(), sw)})
	for _, name := range []string{hostCAFile, userCAFile} {
		if err := os.Remove(filepath.Join(r.data, "keys", name)); err != nil {
			t.Fatal(err)
		}
	}
	if text := r.refusedIn("", "target", "credential", "--print-ca"); !strings.Contains(text, "makes it at its next start") {
		t.Errorf("without a CA: %s", text)
	}
	r.start()
	if rec := r.last("--event", "ca.create"); !strings.HasPrefix(detail(rec, userCAFile), "SHA256:") || !strings.HasPrefix(detail(rec, hostCAFile), "SHA256:") {
		t.Errorf("the new CAs are recorded as %+v", rec)
	}
	_ = r.ok("target", "credential", "--print-ca")

	print := fingerprintOf(t, filepath.Join(dir, "target_host.pub"))
	text := r.refusedIn("", "target", "trust", "srv1", "--scan")
	if !containsAll(text, print, "waits for approval", "hint: compare it") {
		t.Errorf("scan of sshd: %s", text)
	}
	rec := r.last("--event", "target.host_key")
	if rec.System != "srv1" || rec.Reason != "host_key_unknown" || detail(rec, "fingerprint") != print || rec.Class != "privileged-internal" {
		t.Errorf("recorded: %+v", rec)
	}
	if text := r.ok("target", "trust", "srv1", print); !strings.Contains(text, "trusted "+print) {
		t.Errorf("trust: %s", text)
	}
	if text := r.ok("target", "trust", "old-sw", "--scan", "--yes"); !strings.Contains(text, "trusted "+ssh.FingerprintSHA256(old.PublicKey())) {
		t.Errorf("trust of the old switch: %s", text)
	}
	if text := r.refusedIn("", "target", "trust", "strict", "--scan"); !containsAll(text, "it offers diffie-hellman-group1-sha1", "hint: update the target; until then, algorithms: legacy") {
		t.Errorf("scan of the old switch by modern: %s", text)
	}
	if text := r.refusedIn("", "target", "trust", "nowhere", "--scan"); !strings.Contains(text, "connect") {
		t.Errorf("scan of nobody: %s", text)
	}
	r.stop()
	if text := r.ok("target", "list"); !containsAll(text, "1 approved") { // it has outlived the daemon
		t.Errorf("list: %s", text)
	}
	r.check()
}

func fingerprintOf(t testing.TB, path string) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey(mustRead(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}
