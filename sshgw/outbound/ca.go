package outbound

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// CA is a certificate authority of the gateway's (OpenSSH's PROTOCOL.certkeys): one signs the gateway's own host
// certificates, another the certificates by which it logs in at targets.
type CA struct{ signer ssh.Signer }

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 64 << 10

// LoadCA reads a CA's private key. It refuses a file that others than its owner can read.
func LoadCA(path string) (*CA, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("CA %s has mode %04o, so others than its owner can use it; hint: chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", path, err)
	}
	signer, err := ParsePrivateKey(text)
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", path, err)
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("CA %s is a key of type %s: want %s", path, signer.PublicKey().Type(), ssh.KeyAlgoED25519)
	}
	return &CA{signer}, nil
}

// CreateCA makes an Ed25519 key in OpenSSH's form, readable by its owner only, and returns when it is on the disk. It
// never replaces a file.
func CreateCA(path, comment string) (*CA, error) {
	private, signer, err := GenerateKey(comment)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	defer clear(private)
	if err := writeNew(path, private); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	return &CA{signer}, nil
}

// GenerateKey makes an Ed25519 key, and its private half in OpenSSH's form.
func GenerateKey(comment string) (private []byte, signer ssh.Signer, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, nil, err
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(block), signer, nil
}

func writeNew(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Key returns the public key: what TrustedUserCAKeys of sshd_config(5), or a line @cert-authority, takes.
func (c *CA) Key() ssh.PublicKey { return c.signer.PublicKey() }

// AuthorizedKey is the public key in one line, with a comment and without a newline.
func (c *CA) AuthorizedKey(comment string) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(c.Key())), "\n") + " " + comment
}

// UserCertificate makes a key and a certificate for it, which lasts a few minutes and permits what a session needs.
func (c *CA) UserCertificate(id Identity, now time.Time) (ssh.Signer, error) {
	if id.Account == "" || id.Person == "" { // without principals, it would be valid for every account
		return nil, errors.New("a certificate needs a person and an account")
	}
	if id.For <= 0 {
		id.For = DefaultValidity
	}
	cert := &ssh.Certificate{
		CertType: ssh.UserCert, KeyId: id.Person + " session " + id.Session, ValidPrincipals: []string{id.Account},
		ValidAfter: uint64(now.Add(-DefaultValidity).Unix()), ValidBefore: uint64(now.Add(id.For).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": ""}},
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	own, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	return c.certify(cert, own)
}

// HostCertificate makes a certificate by which the gateway, with a host key of its own, answers for targets. Principals
// are what clients call them: names and addresses without ports.
func (c *CA) HostCertificate(own ssh.Signer, principals []string, from, until time.Time) (ssh.Signer, error) {
	if len(principals) == 0 || slices.Contains(principals, "") { // without, it would be valid for every host
		return nil, errors.New("a host certificate needs the names that it is for")
	}
	cert := &ssh.Certificate{
		CertType: ssh.HostCert, KeyId: "sallyport", ValidPrincipals: principals,
		ValidAfter: uint64(from.Unix()), ValidBefore: uint64(until.Unix()),
	}
	return c.certify(cert, own)
}

func (c *CA) certify(cert *ssh.Certificate, own ssh.Signer) (ssh.Signer, error) {
	var serial [8]byte
	_, _ = rand.Read(serial[:]) // never fails (crypto/rand)
	cert.Key, cert.Serial = own.PublicKey(), binary.BigEndian.Uint64(serial[:])
	if err := cert.SignCert(rand.Reader, c.signer); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, own)
}

// Names are what clients may call a target: its name, and its address with another port where it has one. Patterns are as
// known_hosts has them, principals as certificates have them.
func Names(name, address string) (patterns, principals []string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "22"
	}
	for _, h := range []string{strings.ToLower(name), strings.ToLower(host)} {
		if h == "" || slices.Contains(principals, h) {
			continue
		}
		principals = append(principals, h)
		if h == strings.ToLower(name) || port == "22" { // a name may be asked for with ssh's own port
			patterns = append(patterns, h)
		}
		if port != "22" {
			patterns = append(patterns, "["+h+"]:"+port)
		}
	}
	return patterns, principals
}

// KnownHosts is the line of known_hosts that trusts the CA for these patterns, without a newline.
func (c *CA) KnownHosts(patterns []string) string {
	return "@cert-authority " + strings.Join(patterns, ",") + " " + c.AuthorizedKey("sallyport")
}
