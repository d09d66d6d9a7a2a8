package witness

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// load reads the state of a log from the witness's folder.
func (k *known) load(dir string, own note.Verifier) error {
	path := filepath.Join(dir, k.name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("log %.100q: its state %s: %w", k.origin, path, ErrNoState)
	}
	if err != nil {
		return fmt.Errorf("log %.100q: %w", k.origin, err)
	}
	n, err := note.Open(b, note.VerifierList(own))
	if err != nil {
		return fmt.Errorf("log %.100q: its state %s is not signed by this witness: %w", k.origin, path, err)
	}
	t, err := parseText(n.Text)
	if err == nil && t.origin != k.origin {
		err = fmt.Errorf("it is of log %.100q", t.origin)
	}
	if err != nil {
		return fmt.Errorf("log %.100q: its state %s: %w", k.origin, path, err)
	}
	if k.since, err = SignedAt(n.Sigs[0]); err != nil {
		return fmt.Errorf("log %.100q: its state %s: %w", k.origin, path, err)
	}
	k.last, k.note = t, string(b)
	return nil
}

// ErrNoState: what the witness has signed of a log is not known any more. Signing again from nothing could sign a second
// history: the key is to be retired, or the file put back.
var ErrNoState = errors.New("it is not there")

// Begun tells whether the state of a log is there, as it must be once the log is listed; ErrNoState: it is lost.
func Begun(dir, origin string, s *Signer) error {
	k := &known{origin: origin, name: FileName(origin)}
	return k.load(dir, s.Verifier())
}

// Begin makes the state of a log that the witness has never signed: size 0. One that is there stays.
func Begin(dir, origin string, s *Signer) error {
	if origin == "" || len(origin) > maxName {
		return fmt.Errorf("origin %.100q: want 1 to %d bytes", origin, maxName)
	}
	k := &known{origin: origin, name: FileName(origin)}
	err := k.load(dir, s.Verifier())
	if !errors.Is(err, ErrNoState) {
		return err
	}
	empty := tlog.Hash(sha256.Sum256(nil))
	text := fmt.Sprintf("%s\n0\n%s\n", origin, empty)
	line, err := cosign(s, text)
	if err != nil {
		return err
	}
	return k.store(dir, text+"\n"+line)
}

// store replaces the state. When it returns without an error, the state is on the disk.
func (k *known) store(dir, msg string) error {
	path := filepath.Join(dir, k.name)
	if err := replace(path, msg, 0o600); err != nil {
		return fmt.Errorf("log %.100q: writing its state %s: %w", k.origin, path, err)
	}
	return nil
}

func replace(path, content string, mode fs.FileMode) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
