package sshgw

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/login"
)

// fido is a FIDO key (sk-ssh-ed25519@openssh.com) that signs with the flags that a test wants.
type fido struct {
	public      ssh.PublicKey
	private     ed25519.PrivateKey
	application string
	flags       byte
}

func newFIDO(t *testing.T, application string, flags byte) *fido {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(&struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, public, application}))
	if err != nil {
		t.Fatal(err)
	}
	return &fido{key, private, application, flags}
}

func (f *fido) PublicKey() ssh.PublicKey { return f.public }

// Sign signs as the device does (OpenSSH's PROTOCOL.u2f).
func (f *fido) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(f.application)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{f.flags}, 7)
	blob := append(append(append([]byte{}, app[:]...), rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(f.private, blob), Rest: rest}, nil
}

// A FIDO key is one thing had when it was touched, and when it was made for SSH; password and code are asked for beside it (P1).
func TestFIDOKeys(t *testing.T) {
	const touched = 1
	for _, x := range []struct {
		name, application string
		flags             byte
		taken             bool // the key counts
		in                bool
		reason            login.Reason
	}{
		{"touched", "ssh:", touched, true, true, login.ReasonOK},
		{"touched, with a name", "ssh:work", touched, true, true, login.ReasonOK},
		{"not touched", "ssh:", 0, false, false, ReasonSignature},
		{"a web site's", "https://example.org", touched, false, true, login.ReasonOK},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHarness(t)
			h.serve(h.config(echo(t)))
			key := newFIDO(t, x.application, x.flags)
			h.gate.Apply(login.Change{PutKey: &login.Key{Person: "alice", Fingerprint: ssh.FingerprintSHA256(key.public), Blob: key.public.Marshal()}})
			who := &typist{password: alicePassword, code: h.code()}
			c, err := h.client("alice", ssh.PublicKeys(key), who.auth())
			if (err == nil) != x.in {
				t.Fatalf("in: %v", err)
			}
			if err == nil {
				c.Close()
				if len(who.asked) != 2 {
					t.Errorf("asked %q", who.asked)
				}
			}
			h.await("the record", func() bool { return len(h.find("login")) == 1 })
			rec := h.last("login")
			taken := false
			for _, f := range rec.Factors {
				taken = taken || f.Method == "key" && f.Result == "ok"
			}
			if rec.Reason != string(x.reason) || taken != x.taken {
				t.Errorf("record %+v", rec)
			}
		})
	}
}
