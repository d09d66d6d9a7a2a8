package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/journal"
)

// Options are what a Log is made of.
type Options struct {
	Dir      string        // the journal's folder; the caller holds its lock (journal.LockDir)
	Node     string        // this gateway's name in the records
	Signer   note.Signer   // signs checkpoints; its name is the log's origin
	Verifier note.Verifier // of the same key
	Now      func() time.Time

	// CheckpointFile is where the newest checkpoint is kept, outside Dir. A second one stands beside it, with
	// ".synced" added to its name, and the tree's hashes, with ".hashes" added.
	CheckpointFile string

	// Journal is passed on, with Dir set. A Committed hook given here is called after the log's own.
	Journal journal.Options

	// Durable, if not nil, is called by whoever waited for a record, once it is durable: concurrently, in no order, and
	// not for records that nobody waited for. It is for those who follow the log and would otherwise read it back.
	Durable func(rec *Record, pos journal.Position)

	// Restore gets the state that the last Snapshot was given. Replay then gets each record after it, in order,
	// with its private change. Without Restore, Replay gets every record. An error from either ends Open.
	Restore func(state []byte) error
	Replay  func(rec *Record, change []byte) error
}

func (o *Options) check() error {
	switch {
	case o.Dir == "" || o.CheckpointFile == "":
		return errors.New("audit log: the folder and the checkpoint file must be named")
	case !validName(o.Node):
		return fmt.Errorf("audit log: node %.80q: want 1 to %d printable bytes without quotes", o.Node, MaxNode)
	case o.Signer == nil || o.Verifier == nil || o.Now == nil:
		return errors.New("audit log: signer, verifier and clock must be given")
	case o.Signer.Name() != o.Verifier.Name() || o.Signer.KeyHash() != o.Verifier.KeyHash():
		return fmt.Errorf("audit log: signing key %s+%08x is not the half of public key %s+%08x",
			o.Signer.Name(), o.Signer.KeyHash(), o.Verifier.Name(), o.Verifier.KeyHash())
	}
	return nil
}

// Errors that tell why Open refuses a log (P8). Nothing is served from it until somebody has looked.
var (
	// ErrShort: the checkpoint signs more records than there are.
	ErrShort = errors.New("records that the checkpoint signs are gone")
	// ErrOther: the records are not those that the checkpoint signs.
	ErrOther = errors.New("the records are not those that the checkpoint signs")
	// ErrUnsigned: there are records and no checkpoint.
	ErrUnsigned = errors.New("there are records, and no checkpoint that signs them")
)

// Open opens the log in o.Dir, or begins one. It rebuilds the state (Restore, Replay) and the tree, and compares the
// tree with the stored checkpoint: a log that is shorter than it or another one is refused. The caller calls Close.
func Open(o Options) (*Log, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l := newLog(o)
	signed, err := l.signed()
	if err != nil {
		return nil, fmt.Errorf("audit log in %s: %w", o.Dir, err)
	}
	jo := o.Journal
	jo.Dir, jo.Committed = o.Dir, l.committed
	l.journal, err = journal.Open(jo)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if r := l.journal.Repaired(); r != nil {
		l.repaired = append(l.repaired, r.String())
	}
	err = l.load(signed)
	if err == nil {
		if missed := l.openHashes(); missed != nil {
			l.repaired = append(l.repaired, missed.Error())
		}
		_, err = l.Checkpoint() // also the first one, of no records: from now on its absence means tampering
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log in %s: %w", o.Dir, err), l.hashes.close(), l.journal.Close())
	}
	go l.keep()
	return l, nil
}

// signed loads the checkpoints, and compares their sizes with a journal that is only read: opened for writing, it would
// cut off a last record that somebody has damaged, and with it the evidence.
func (l *Log) signed() ([]stored, error) {
	signed, missing := l.file.load(l.o.Verifier, true)
	if missing != nil && !errors.Is(missing, errNoCheckpoint) {
		return nil, fmt.Errorf("%w: %w", ErrOther, missing)
	}
	if msg, c, err := l.file.loadCosigned(l.o.Verifier); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOther, err)
	} else if msg != "" {
		signed = append(signed, stored{head{c.Size, c.Root}, l.file.cosigned()})
	}
	j, err := journal.Open(journal.Options{Dir: l.o.Dir, ReadOnly: true})
	next := uint64(0)
	if err == nil {
		next = j.Next()
		err = j.Close()
	} else if signed == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nothing yet
	}
	if missing != nil && next > 0 {
		return nil, fmt.Errorf("%w: %d records, but %w", ErrUnsigned, next, missing)
	}
	if missing == nil && signed[0].path != string(l.file) {
		l.repaired = append(l.repaired, fmt.Sprintf("%s is empty; %s was used", l.file, signed[0].path))
	}
	for _, s := range signed {
		if s.size > next {
			return nil, errors.Join(fmt.Errorf("%w: the journal ends before record %d, and %s signs %d records", ErrShort, next, s.path, s.size), err)
		}
	}
	return signed, nil // what else the journal may suffer from, it says itself when it is opened for writing
}

// load rebuilds state and tree from snapshot and journal.
func (l *Log) load(signed []stored) error {
	next := l.journal.Next()
	from, err := l.restore()
	if err != nil {
		return err
	}
	signed = append(signed, stored{l.tree.head(), "the snapshot"})
	for _, s := range signed {
		if s.size < from { // it was put back from a copy: look at all of the log, without replaying it twice
			l.tree = tree{}
			break
		}
	}
	check := func() error {
		for _, s := range signed {
			if s.size == l.tree.size && s.head != l.tree.head() {
				return fmt.Errorf("%w: %d records have the root %s, and %s signs %s",
					ErrOther, s.size, l.tree.root(), s.path, s.root)
			}
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	var p parser
	err = l.journal.Scan(l.tree.size, func(index uint64, _ journal.Position, payload []byte) error {
		if err := l.loadEntry(&p, index, payload, index >= from); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		return check()
	})
	if err != nil {
		return err
	}
	if l.tree.size != next {
		return fmt.Errorf("%w: the journal holds %d records, and says %d", ErrShort, l.tree.size, next)
	}
	l.durable.set(&l.tree)
	return nil
}

func (l *Log) loadEntry(p *parser, index uint64, payload []byte, replay bool) error {
	if index != l.tree.size {
		return fmt.Errorf("want record %d: %w", l.tree.size, errEntry)
	}
	e, err := parseEntry(payload)
	if err != nil {
		return err
	}
	l.tree.add(e.leafOf(&l.hasher))
	if !replay || l.o.Replay == nil {
		return nil
	}
	if e.erased {
		return errors.New("it is erased, and no snapshot holds what it did")
	}
	rec, err := p.parse(e.json)
	if err != nil {
		return err
	}
	if rec.Seq != index {
		return fmt.Errorf("it says that it is record %d: %w", rec.Seq, errEntry)
	}
	if err := checkChange(rec, e.change); err != nil {
		return err
	}
	return l.o.Replay(rec, e.change)
}

// restore gives Restore the last snapshot, sets the tree to it, and returns from where Replay goes on.
func (l *Log) restore() (uint64, error) {
	if l.o.Restore == nil {
		return 0, nil
	}
	at, blob, ok, err := l.journal.LatestSnapshot()
	switch {
	case errors.Is(err, journal.ErrShorter):
		return 0, fmt.Errorf("%w: %w", ErrShort, err)
	case err != nil: // a snapshot only saves time
		l.repaired = append(l.repaired, err.Error())
	}
	if !ok {
		return 0, nil
	}
	state, err := l.tree.openSnapshot(at, blob, l.o.Verifier)
	if err != nil {
		return 0, fmt.Errorf("snapshot at record %d: %w", at, err)
	}
	if err := l.o.Restore(state); err != nil {
		return 0, fmt.Errorf("snapshot at record %d: %w", at, err)
	}
	return at, nil
}

// snapshotText begins what is signed of a snapshot. No checkpoint can begin so: an origin holds no blank.
const snapshotText = "sallyport snapshot"

// sealSnapshot puts the tree's edge and a signature before the state.
func (t *tree) sealSnapshot(state []byte, s note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n%x\n", snapshotText, t.size, t.root(), sha256.Sum256(state))
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("signing the snapshot at record %d: %w", t.size, err)
	}
	blob := binary.AppendUvarint(nil, uint64(len(msg)))
	blob = append(blob, msg...)
	for _, h := range t.edge[:t.depth()] {
		blob = append(blob, h[:]...)
	}
	return append(blob, state...), nil
}

var errSnapshot = errors.New("not a snapshot of this log")

// openSnapshot is the inverse: it sets the tree and returns the state.
func (t *tree) openSnapshot(at uint64, blob []byte, v note.Verifier) ([]byte, error) {
	length, n := binary.Uvarint(blob)
	if n <= 0 || length > maxNote || length > uint64(len(blob)-n) {
		return nil, fmt.Errorf("impossible length of its signature: %w", errSnapshot)
	}
	text, err := openNote(string(blob[n:n+int(length)]), v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshot, err)
	}
	rest := blob[n+int(length):]
	found := tree{size: at}
	if len(rest) < found.depth()*tlog.HashSize {
		return nil, fmt.Errorf("ends within the tree: %w", errSnapshot)
	}
	for i := range found.depth() {
		found.edge[i] = tlog.Hash(rest[:tlog.HashSize])
		rest = rest[tlog.HashSize:]
	}
	want := fmt.Sprintf("%s\n%d\n%s\n%x\n", snapshotText, at, found.root(), sha256.Sum256(rest))
	if text != want {
		return nil, fmt.Errorf("its signature is for %q: %w", strings.ReplaceAll(text, "\n", " "), errSnapshot)
	}
	t.set(&found)
	return rest, nil
}
