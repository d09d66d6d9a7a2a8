package radiusd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/audit"
	"sallyport/internal/login"
	"sallyport/radiusd/eap"
)

// eapRig is a rig that holds EAP conversations, and what eapol_test (wpa_supplicant's EAP peer, with RADIUS of its own)
// needs to take part in them.
type eapRig struct {
	*rig
	ca  string // file
	dir string
}

// chainedCertificate makes a server's certificate whose issuer has a long name, so that it does not fit into one packet.
func chainedCertificate(t *testing.T, dir string, long int) (ca string, cert *tls.Certificate) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root", OrganizationalUnit: []string{strings.Repeat("l", 64)}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "radius.example.org"}, DNSNames: []string{"radius.example.org"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for i := range long {
		leaf.DNSNames = append(leaf.DNSNames, fmt.Sprintf("%03d.%s.example.org", i, strings.Repeat("n", 40)))
	}
	rootKey, leafKey := key(), key()
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, &tls.Certificate{Certificate: [][]byte{leafDER, rootDER}, PrivateKey: leafKey}
}

func newEAPRig(t *testing.T, mode Mode, o eap.Options, long int) *eapRig {
	t.Helper()
	r := &eapRig{rig: newRig(t, nil, everybody(mode)), dir: t.TempDir()}
	var cert *tls.Certificate
	r.ca, cert = chainedCertificate(t, r.dir, long)
	o.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	server, err := eap.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	r.with = func(c *Config) { c.EAP = server }
	r.configure(everybody(mode))
	return r
}

// eapol runs eapol_test with a network of wpa_supplicant.conf's form. It has one answer to all that it is asked.
func (r *eapRig) eapol(network string, flags ...string) (output string, accepted bool) {
	t := r.t
	t.Helper()
	program, err := exec.LookPath("eapol_test")
	if err != nil {
		t.Fatal("eapol_test is missing: install the Debian package eapoltest (tools/install-deps)")
	}
	config := filepath.Join(r.dir, "conf")
	text := "network={\n ssid=\"x\"\n key_mgmt=WPA-EAP\n" + network + "\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-c" + config, "-a127.0.0.1", fmt.Sprintf("-p%d", r.addr.Port()), "-s" + testSecret, "-t20"}, flags...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out logLines
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err == nil
}

func (r *eapRig) network(method, inner, identity, secret string, more ...string) string {
	lines := []string{" eap=" + method, " identity=\"" + identity + "\"", " ca_cert=\"" + r.ca + "\""}
	if secret != "" {
		lines = append(lines, " password=\""+secret+"\"")
	}
	if inner != "" {
		lines = append(lines, " phase2=\""+inner+"\"", " anonymous_identity=\"anonymous\"")
	}
	return strings.Join(append(lines, more...), "\n")
}

// reasons returns the reasons of the logins on record, in order.
func (r *rig) reasons() (all []string) {
	r.t.Helper()
	for _, rec := range r.records("login") {
		all = append(all, rec.Reason)
	}
	return all
}

// Every method, in both versions of TLS, with a real peer that compares the keys. P2: a code that was used is not accepted.
func TestEAPOL(t *testing.T) {
	r := newEAPRig(t, Code, eap.Options{
		Methods: []eap.Method{eap.TTLS, eap.PEAP, eap.GTC, eap.MSCHAPv2}, ExposeCodesWithoutTunnel: true, Fragment: 300,
	}, 40)
	const old, young = ` phase1="tls_disable_tlsv1_3=1"`, ` phase1="tls_disable_tlsv1_3=0"`
	for _, c := range []struct{ method, inner, phase1 string }{
		{"TTLS", "auth=PAP", old},
		{"TTLS", "auth=PAP", young},
		{"TTLS", "autheap=GTC", old},
		{"TTLS", "autheap=GTC", young},
		{"TTLS", "autheap=MSCHAPV2", old},
		{"TTLS", "autheap=MSCHAPV2", young},
		{"PEAP", "auth=GTC", old},
		{"PEAP", "auth=GTC", young},
		{"PEAP", "auth=MSCHAPV2", old},
		{"PEAP", "auth=MSCHAPV2", young},
		{"GTC", "", ""},
		{"MSCHAPV2", "", ""},
	} {
		name := c.method + " " + c.inner
		if c.phase1 == young {
			name += " TLS 1.3"
		}
		t.Run(name, func(t *testing.T) {
			var flags []string
			if c.method == "GTC" {
				flags = []string{"-n"} // it makes no keys
			}
			r.advance(time.Minute)
			code := r.code()
			out, ok := r.eapol(r.network(c.method, c.inner, "alice", "000000", c.phase1), flags...)
			if ok {
				t.Fatalf("a wrong code was accepted:\n%s", out)
			}
			out, ok = r.eapol(r.network(c.method, c.inner, "alice", code, c.phase1), flags...)
			if !ok {
				t.Fatalf("refused:\n%s\n%s", tail(out, 60), r.lines)
			}
			if c.method != "GTC" && !strings.Contains(out, "MPPE keys OK: 1  mismatch: 0") {
				t.Errorf("the keys differ:\n%s", tail(out, 20))
			}
			if out, ok = r.eapol(r.network(c.method, c.inner, "alice", code, c.phase1), flags...); ok {
				t.Errorf("a used code was accepted:\n%s", tail(out, 20))
			}
			if got := r.reasons(); !slices.Equal(got[max(0, len(got)-3):], []string{string(login.ReasonCodeWrong), "ok", string(login.ReasonCodeReused)}) {
				t.Errorf("on record: %q", got)
			}
		})
	}
	if out, ok := r.eapol(r.network("TTLS", "auth=PAP", "mallory", r.code())); ok {
		t.Errorf("a stranger was accepted:\n%s", out)
	}
	r.stop()
	if len(r.server.talks.by) != 0 {
		t.Error("conversations are left")
	}
}

// Password and code: in two rounds by GTC, in one field by PAP, which has no second question.
func TestEAPRounds(t *testing.T) {
	r := newEAPRig(t, Challenge, eap.Options{Methods: []eap.Method{eap.PEAP, eap.TTLS}}, 0)
	for _, c := range []struct {
		name, method, inner string
		password, code      bool // is right
	}{
		{"PEAP GTC", "PEAP", "auth=GTC", true, true},
		{"TTLS GTC", "TTLS", "autheap=GTC", true, true},
		{"a wrong code", "PEAP", "auth=GTC", true, false},
		{"a wrong password", "TTLS", "autheap=GTC", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.advance(time.Minute)
			typed := r.code()
			if !c.code {
				typed = "000000"
			}
			r.alsoPassword = ""
			if c.password {
				r.alsoPassword = typed
			}
			before := r.gate.count()
			out, ok := r.eapol(r.network(c.method, c.inner, "alice", typed))
			if good := c.password && c.code; ok != good {
				t.Errorf("accepted %v:\n%s\n%s", ok, tail(out, 60), r.lines)
			} else if good && !strings.Contains(out, "MPPE keys OK: 1  mismatch: 0") {
				t.Errorf("the keys differ:\n%s", tail(out, 20))
			}
			if asked := r.gate.count() - before; asked != 2 { // P6: the code is asked whatever the password is
				t.Errorf("asked %d times", asked)
			}
		})
	}
	t.Run("TTLS PAP in one field", func(t *testing.T) {
		r.advance(time.Minute)
		if out, ok := r.eapol(r.network("TTLS", "auth=PAP", "alice", password+r.code())); !ok {
			t.Errorf("%s\n%s", tail(out, 60), r.lines)
		}
	})
	t.Run("MSCHAPv2 proves no password", func(t *testing.T) {
		r.advance(time.Minute)
		if out, ok := r.eapol(r.network("PEAP", "auth=MSCHAPV2", "alice", r.code())); ok {
			t.Error(out)
		}
		if got := r.reasons(); got[len(got)-1] != refuseMethod.String() {
			t.Errorf("%q", got)
		}
	})
}

// A peer that does not trust the certificate says so, and the record repeats it.
func TestEAPUntrusted(t *testing.T) {
	r := newEAPRig(t, Code, eap.Options{Methods: []eap.Method{eap.PEAP, eap.TTLS}}, 0)
	other, _ := chainedCertificate(t, t.TempDir(), 0)
	r.ca = other
	if out, ok := r.eapol(r.network("TTLS", "auth=PAP", "alice", r.code(), ` phase1="tls_disable_tlsv1_3=1"`)); ok {
		t.Fatal(out)
	}
	all := r.records("login")
	if len(all) == 0 {
		t.Fatal("nothing on record")
	}
	last := all[len(all)-1]
	if last.Reason != string(eap.TLSAlert) || !slices.ContainsFunc(last.Detail, func(d audit.Detail) bool {
		return d.Key == "eap_detail" && strings.HasPrefix(d.Value, "remote error: tls: ")
	}) {
		t.Errorf("%+v", last)
	}
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
