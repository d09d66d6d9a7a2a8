package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxCosigned bounds a checkpoint with the signatures of witnesses, in bytes: some 100 of them.
const MaxCosigned = 16 << 10

// Checkpoint is a checkpoint of a log, opened with the log's key.
type Checkpoint struct {
	Size uint64
	Root tlog.Hash
	// Cosigned are the signatures of the witnesses whose keys were given, in the order of the note. All are valid.
	Cosigned []note.Signature
	// Strangers is how many more signatures there are. Nobody looked at them.
	Strangers int
}

// OpenCheckpoint opens a checkpoint to which witnesses may have added signatures (C2SP tlog-cosignature). It must be
// signed by v, be of v's origin, and each byte as it was written; a signature that is wrong under one of the witnesses' keys is an
// error, and one that is missing is not.
func OpenCheckpoint(msg string, v note.Verifier, witnesses ...note.Verifier) (Checkpoint, error) {
	own, err := canonicalNote(msg, v)
	if err != nil {
		return Checkpoint{}, err
	}
	h, err := openCheckpoint(own, v)
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Size: h.size, Root: h.root}
	n, err := note.Open([]byte(msg), note.VerifierList(append([]note.Verifier{v}, witnesses...)...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	for _, s := range n.Sigs {
		if s.Name != v.Name() || s.Hash != v.KeyHash() {
			c.Cosigned = append(c.Cosigned, s)
		}
	}
	c.Strangers = len(n.UnverifiedSigs)
	return c, nil
}

// canonicalNote checks the form of a note with several signatures, and returns it with v's alone.
func canonicalNote(msg string, v note.Verifier) (own string, err error) {
	if len(msg) > MaxCosigned {
		return "", fmt.Errorf("%d bytes, at most %d can be: %w", len(msg), MaxCosigned, errCheckpoint)
	}
	at := strings.Index(msg, "\n\n")
	if at < 0 || !strings.HasSuffix(msg, "\n") {
		return "", fmt.Errorf("no signatures: %w", errCheckpoint)
	}
	text, seen := msg[:at+2], make(map[string]bool)
	for line := range strings.Lines(msg[at+2:]) {
		name, encoded, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(raw) < 5 || line != "— "+name+" "+base64.StdEncoding.EncodeToString(raw)+"\n" {
			return "", fmt.Errorf("%.80q is not a signature as it is written: %w", line, errCheckpoint)
		}
		key := fmt.Sprintf("%s+%x", name, raw[:4])
		if seen[key] {
			return "", fmt.Errorf("two signatures by %s: %w", key, errCheckpoint)
		}
		seen[key] = true
		if key == fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash()) {
			own = text + line
		}
	}
	if own == "" {
		return "", fmt.Errorf("not signed by %s+%08x: %w", v.Name(), v.KeyHash(), errCheckpoint)
	}
	return own, nil
}

// cosigned is where the newest checkpoint stands that a witness has signed.
func (c checkpointFile) cosigned() string { return string(c) + ".cosigned" }

// loadCosigned reads it, and returns an empty note when there is none.
func (c checkpointFile) loadCosigned(v note.Verifier, witnesses ...note.Verifier) (msg string, open Checkpoint, err error) {
	b, err := os.ReadFile(c.cosigned())
	if errors.Is(err, fs.ErrNotExist) {
		return "", open, nil
	}
	if err != nil {
		return "", open, fmt.Errorf("reading the cosigned checkpoint: %w", err)
	}
	if open, err = OpenCheckpoint(string(b), v, witnesses...); err != nil {
		return "", open, fmt.Errorf("%s: %w", c.cosigned(), err)
	}
	return string(b), open, nil
}

// Cosigned returns the newest checkpoint that a witness has signed, or nothing when none has.
func (l *Log) Cosigned() (string, error) {
	msg, _, err := l.file.loadCosigned(l.o.Verifier)
	return msg, err
}

// KeepCosigned stores a checkpoint of this log that witnesses have signed, through to the disk. From then on the log is
// compared with it as with its own checkpoints.
func (l *Log) KeepCosigned(msg string) error {
	if _, err := OpenCheckpoint(msg, l.o.Verifier); err != nil {
		return err
	}
	l.publishing.Lock()
	defer l.publishing.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return replaceFile(l.file.cosigned(), msg, true)
}

// Witnessed is what a verification compares a log with, beyond the log's own checkpoint.
type Witnessed struct {
	Witnesses []note.Verifier // each must have signed a checkpoint that the log holds to
	Kept      []string        // notes of checkpoints that were kept elsewhere
}

// Cosigned is a checkpoint that the verified log holds to, with its witnesses.
type Cosigned struct {
	Checkpoint
	Where string
}

// witnessed is the checker's part of it: heads that the tree has to pass through.
type witnessed struct {
	Witnessed
	v     note.Verifier
	heads map[uint64][]stored // by size: there may be many
	found []Cosigned

	inFile bool // an export's own cosigned checkpoint was seen
}

func newWitnessed(w Witnessed, v note.Verifier) (*witnessed, error) {
	all := &witnessed{Witnessed: w, v: v, heads: make(map[uint64][]stored)}
	for i, msg := range w.Kept {
		where := fmt.Sprintf("the kept checkpoint %d", i+1)
		if len(w.Kept) == 1 {
			where = "the kept checkpoint"
		}
		c, err := OpenCheckpoint(msg, v, w.Witnesses...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		all.add(c, where)
	}
	return all, nil
}

func (w *witnessed) add(c Checkpoint, where string) {
	w.heads[c.Size] = append(w.heads[c.Size], stored{head{c.Size, c.Root}, where})
	w.found = append(w.found, Cosigned{c, where})
}

// check compares the tree with the heads of its size.
func (w *witnessed) check(c *checker) error {
	for _, s := range w.heads[c.tree.size] {
		if err := c.compare(s.head, s.path, 0); err != nil {
			return err
		}
	}
	return nil
}

// finish checks that the log has come as far as all heads, and that each witness has seen it.
func (w *witnessed) finish(c *checker) error {
	for _, f := range w.found {
		if f.Size > c.tree.size {
			return badRecord(c.tree.size, "it is missing: %s signs %d records, so the log was cut", f.Where, f.Size)
		}
	}
	c.report.Cosigned = w.found
	for _, v := range w.Witnesses {
		signed := false
		for _, found := range w.found {
			for _, s := range found.Cosigned {
				signed = signed || s.Name == v.Name() && s.Hash == v.KeyHash()
			}
		}
		if !signed {
			return fmt.Errorf("%w: %s+%08x", ErrUnwitnessed, v.Name(), v.KeyHash())
		}
	}
	return nil
}

// SplitCheckpoints takes a file apart in which checkpoints stand one after the other, as `>>` writes them.
func SplitCheckpoints(file string) []string {
	var all []string
	inSignatures := true
	for line := range strings.Lines(file) {
		isSignature := strings.HasPrefix(line, "— ")
		if inSignatures && !isSignature {
			all = append(all, "")
		}
		inSignatures = isSignature
		if len(all) == 0 {
			all = append(all, "")
		}
		all[len(all)-1] += line
	}
	return all
}

// ErrUnwitnessed: a witness that was asked for has signed no checkpoint that is here.
var ErrUnwitnessed = errors.New("no checkpoint is signed by the witness")
