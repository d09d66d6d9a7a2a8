package sshgw

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// maxHostKeyFile bounds a host key file, in bytes.
const maxHostKeyFile = 64 << 10

// LoadHostKey reads a private host key in OpenSSH or PEM form. It refuses a file that others than its owner can read.
func LoadHostKey(path string) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("host key %s has mode %04o, so others than its owner can use it; hint: chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxHostKeyFile))
	if err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, fmt.Errorf("host key %s is encrypted, and nobody is there to type its passphrase", path)
	} else if err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	signer, err := hostSigner(key)
	if err != nil {
		return nil, fmt.Errorf("host key %s is %w", path, err)
	}
	return signer, nil
}

// CreateHostKey makes an Ed25519 host key in OpenSSH's form, readable by its owner only, and returns when it is on the
// disk. It never replaces a file.
func CreateHostKey(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sallyport host key")
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block)); err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return ssh.NewSignerFromKey(private)
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
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
