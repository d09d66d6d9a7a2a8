package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/journal"
)

const (
	proofHeader = "c2sp.org/tlog-proof@v1"
	// maxPath bounds the hashes of one proof: a tree of 2^63 leaves has no more levels.
	maxPath = 64
	// MaxProof bounds a proof file, in bytes: one record, one path, one checkpoint.
	MaxProof = (maxLine+2)/3*4 + maxPath*45 + MaxCosigned + 256
)

// ErrNoProof: a proof cannot be made now, and may be later.
var ErrNoProof = errors.New("no proof can be made")

// ProveConsistency proves that the tree of size records with this root begins with the first old ones (RFC 6962 section
// 2.1.2). For old 0 and for old equal to size the proof is empty.
func (l *Log) ProveConsistency(old, size uint64, root tlog.Hash) (tlog.TreeProof, error) {
	if old > size || size > math.MaxInt64 {
		return nil, fmt.Errorf("proof from %d to %d records: %w", old, size, ErrNoProof)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	var p tlog.TreeProof
	err := l.prove(func() error {
		before, err := l.hashes.edge(old)
		if err != nil {
			return err
		}
		if p, err = tlog.ProveTree(int64(size), int64(old), &l.hashes); err != nil {
			return err
		}
		return tlog.CheckTree(p, int64(size), root, int64(old), before.root())
	})
	if err != nil {
		return nil, fmt.Errorf("proof from %d to %d records: %w: %w", old, size, ErrNoProof, err)
	}
	return p, nil
}

// prove calls try, and once more when the hashes had to be made anew: nothing keeps them from rotting on the disk.
func (l *Log) prove(try func() error) error {
	first := try()
	if first == nil {
		return nil
	}
	l.publishing.Lock()
	var t tree
	l.mu.Lock()
	closed := l.closed
	t.set(&l.durable)
	l.mu.Unlock()
	err := ErrClosed
	switch {
	case closed:
	case l.hashes.err != nil:
		err = l.hashes.err
	case time.Since(l.hashes.rebuilt) < hashRetry: // then that did not help
		err = errHashes
	default:
		l.hashes.rebuilt = time.Now()
		if err = l.fillHashes(0, &t); err != nil {
			l.hashesFailed(err)
		}
	}
	l.publishing.Unlock()
	if err != nil {
		return errors.Join(first, err)
	}
	return try()
}

// Prove makes a file of C2SP tlog-proof (c2sp.org/tlog-proof@v1) that record seq is among those that a checkpoint of
// this log signs. Its extra data are the record's line of an export, from which the leaf is computed.
func (l *Log) Prove(seq uint64, checkpoint string) ([]byte, error) {
	c, err := OpenCheckpoint(checkpoint, l.o.Verifier)
	if err != nil {
		return nil, err
	}
	if seq >= c.Size {
		return nil, fmt.Errorf("record %d: the checkpoint signs the %d before it only: %w", seq, c.Size, ErrNoProof)
	}
	var line []byte
	var leaf [32]byte
	hasher := newLeafHasher()
	err = l.journal.Scan(seq, func(index uint64, _ journal.Position, payload []byte) error {
		e, err := parseEntry(payload)
		if err != nil {
			return err
		}
		leaf = e.leafOf(&hasher)
		line = appendLine(nil, index, &e, leaf[:])
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return nil, fmt.Errorf("record %d: %w", seq, err)
	}
	var path tlog.RecordProof
	err = l.prove(func() error {
		if path, err = tlog.ProveRecord(int64(c.Size), int64(seq), &l.hashes); err != nil {
			return err
		}
		return tlog.CheckRecord(path, int64(c.Size), c.Root, int64(seq), tlog.RecordHash(leaf[:]))
	})
	if err != nil {
		return nil, fmt.Errorf("record %d in a tree of %d: %w: %w", seq, c.Size, ErrNoProof, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(line), seq)
	for _, h := range path {
		fmt.Fprintf(&b, "%s\n", h)
	}
	fmt.Fprintf(&b, "\n%s", checkpoint)
	return b.Bytes(), nil
}

// Proof is what a proof file shows.
type Proof struct {
	Seq        uint64
	Record     *Record // nil: it is erased, and only its leaf is proved
	Checkpoint Checkpoint
}

var errProof = errors.New("not a proof of a record")

// IsProof reports whether a file begins as a proof does.
func IsProof(begin []byte) bool { return bytes.HasPrefix(begin, []byte(proofHeader+"\n")) }

// VerifyProof checks a file that Prove wrote with nothing but public keys: the log's, and those of witnesses. Each byte counts,
// save in signatures of witnesses that were not asked about: who they are from is not known. Whether those who were
// have signed is in the Checkpoint.
func VerifyProof(file []byte, v note.Verifier, witnesses ...note.Verifier) (Proof, error) {
	p, leaf, path, msg, err := parseProof(file)
	if err != nil {
		return Proof{}, err
	}
	p.Checkpoint, err = OpenCheckpoint(msg, v, witnesses...)
	if err != nil {
		return Proof{}, err
	}
	if p.Seq >= p.Checkpoint.Size || p.Checkpoint.Size > math.MaxInt64 {
		return Proof{}, fmt.Errorf("record %d, and the checkpoint signs %d records: %w", p.Seq, p.Checkpoint.Size, errProof)
	}
	err = tlog.CheckRecord(path, int64(p.Checkpoint.Size), p.Checkpoint.Root, int64(p.Seq), tlog.RecordHash(leaf))
	if err != nil {
		return Proof{}, fmt.Errorf("record %d is not the one that the checkpoint of %d records signs: %w", p.Seq, p.Checkpoint.Size, errProof)
	}
	return p, nil
}

// parseProof takes a proof apart without believing it. Each part must stand as Prove writes it.
func parseProof(file []byte) (p Proof, leaf []byte, path tlog.RecordProof, msg string, err error) {
	bad := func(format string, args ...any) (Proof, []byte, tlog.RecordProof, string, error) {
		return Proof{}, nil, nil, "", fmt.Errorf(format+": %w", append(args, errProof)...)
	}
	if len(file) > MaxProof {
		return bad("%d bytes, at most %d can be", len(file), MaxProof)
	}
	rest, ok := strings.CutPrefix(string(file), proofHeader+"\n")
	if !ok {
		return bad("its first line is not %s", proofHeader)
	}
	head, msg, ok := strings.Cut(rest, "\n\n")
	if !ok {
		return bad("no blank line before the checkpoint")
	}
	lines := strings.Split(head, "\n")
	if len(lines) < 2 || len(lines) > 2+maxPath {
		return bad("%d lines before the checkpoint, want extra, index and at most %d hashes", len(lines)+1, maxPath)
	}
	encoded, ok := strings.CutPrefix(lines[0], "extra ")
	extra, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || base64.StdEncoding.EncodeToString(extra) != encoded {
		return bad("its second line is not \"extra\" and base64")
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	p.Seq, err = strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || strconv.FormatUint(p.Seq, 10) != number {
		return bad("its third line is not \"index\" and a number")
	}
	for _, line := range lines[2:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return bad("%.60q is not a hash in base64", line)
		}
		path = append(path, h)
	}
	e, stated, err := parseLine(extra, p.Seq)
	if err != nil {
		return bad("its extra data are not the line of record %d", p.Seq)
	}
	hasher := newLeafHasher()
	found := e.leafOf(&hasher)
	if !bytes.Equal(stated, found[:]) {
		return bad("record, salt and leaf do not belong together")
	}
	if !e.erased {
		var parser parser
		rec, err := parser.parse(e.json)
		if err != nil {
			return bad("its record: %v", err)
		}
		if rec.Seq != p.Seq || !validName(rec.Node) {
			return bad("its record is number %d of %q, in place of number %d", rec.Seq, rec.Node, p.Seq)
		}
		p.Record = rec
	}
	return p, found[:], path, msg, nil
}
