package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxNote bounds a checkpoint file, in bytes.
const maxNote = 4096

// NewKey makes a key for signing checkpoints: the secret half for note.NewSigner, the public half for
// note.NewVerifier. The name is the log's origin, by convention like a host and path: "gw1.example.nhs.uk/sallyport".
func NewKey(name string) (skey, vkey string, err error) {
	if skey, vkey, err = note.GenerateKey(rand.Reader, name); err != nil {
		return "", "", fmt.Errorf("making a checkpoint key: %w", err)
	}
	if _, err := note.NewVerifier(vkey); err != nil {
		return "", "", fmt.Errorf("name %q of a checkpoint key: no blanks and no plus sign can be in it: %w", name, err)
	}
	return skey, vkey, nil
}

// head is what a checkpoint says.
type head struct {
	size uint64
	root tlog.Hash
}

func (t *tree) head() head { return head{t.size, t.root()} }

// sign makes the checkpoint's note (C2SP tlog-checkpoint, signed-note).
func (h head) sign(s note.Signer) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), h.size, h.root)
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("signing the checkpoint of size %d: %w", h.size, err)
	}
	return string(msg), nil
}

var errCheckpoint = errors.New("not a checkpoint of this log")

// openCheckpoint is strict: this origin, three lines, one signature, by this key, and each byte as sign writes it.
func openCheckpoint(msg string, v note.Verifier) (head, error) {
	text, err := openNote(msg, v)
	if err != nil {
		return head{}, err
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return head{}, fmt.Errorf("want the three lines origin, size, root: %w", errCheckpoint)
	}
	if lines[0] != v.Name() {
		return head{}, fmt.Errorf("origin %q, want %q: %w", lines[0], v.Name(), errCheckpoint)
	}
	var h head
	h.size, err = strconv.ParseUint(lines[1], 10, 64)
	if err != nil || strconv.FormatUint(h.size, 10) != lines[1] {
		return head{}, fmt.Errorf("size %q is not a number: %w", lines[1], errCheckpoint)
	}
	h.root, err = tlog.ParseHash(lines[2])
	if err != nil || h.root.String() != lines[2] {
		return head{}, fmt.Errorf("root %q is not a hash in base64: %w", lines[2], errCheckpoint)
	}
	return h, nil
}

// openNote verifies a note that bears v's signature and no other, and returns its text. The form must be exact:
// note.Open alone would let pass a second signature, and base64 with stray bits.
func openNote(msg string, v note.Verifier) (string, error) {
	if len(msg) > maxNote {
		return "", fmt.Errorf("%d bytes, at most %d can be: %w", len(msg), maxNote, errCheckpoint)
	}
	n, err := note.Open([]byte(msg), note.VerifierList(v))
	if unknown := (*note.UnverifiedNoteError)(nil); errors.As(err, &unknown) {
		return "", fmt.Errorf("signed by another key than %s+%08x: %w", v.Name(), v.KeyHash(), errCheckpoint)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return "", fmt.Errorf("%d signatures, want one: %w", len(n.Sigs)+len(n.UnverifiedSigs), errCheckpoint)
	}
	sig := n.Sigs[0]
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || msg != n.Text+"\n— "+sig.Name+" "+base64.StdEncoding.EncodeToString(raw)+"\n" {
		return "", fmt.Errorf("another form than it was written in: %w", errCheckpoint)
	}
	return n.Text, nil
}

// checkpointFile is where the newest checkpoint stands. Beside it, with ".synced" added, stands the last one that
// was written through to the disk: after a power cut the newest may be an empty file.
type checkpointFile string

func (c checkpointFile) synced() string { return string(c) + ".synced" }

// store replaces the checkpoint. With sync it is durable when store returns.
func (c checkpointFile) store(msg string, sync bool) error {
	if sync {
		if err := replaceFile(c.synced(), msg, true); err != nil {
			return err
		}
	}
	return replaceFile(string(c), msg, sync)
}

func replaceFile(path, text string, sync bool) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	_, err = f.WriteString(text)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil && sync {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing the checkpoint %s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// stored is a checkpoint as a file holds it.
type stored struct {
	head
	path string
}

var errNoCheckpoint = errors.New("the checkpoint file is missing")

// load reads what is there: the newest, and the last synced one. It returns nothing with errNoCheckpoint.
// Lenient is for the gateway's own start: a newest one that a power cut emptied is then let pass, since it shows no
// more than an older checkpoint in its place would.
func (c checkpointFile) load(v note.Verifier, lenient bool) ([]stored, error) {
	newest, err := os.ReadFile(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", string(c), errNoCheckpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	var all []stored
	lost := lenient && len(newest) <= maxNote && len(bytes.Trim(newest, "\x00")) == 0
	if !lost {
		h, err := openCheckpoint(string(newest), v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", string(c), err)
		}
		all = append(all, stored{h, string(c)})
	}
	synced, err := os.ReadFile(c.synced())
	switch {
	case errors.Is(err, fs.ErrNotExist) && !lost:
		return all, nil // only the newest was copied
	case err != nil:
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	h, err := openCheckpoint(string(synced), v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.synced(), err)
	}
	return append(all, stored{h, c.synced()}), nil
}
