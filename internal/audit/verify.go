package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/internal/journal"
)

// BadRecord says which record is wrong, and how. Where the fault cannot be told that closely, it lies within the records
// Seq to Through.
type BadRecord struct {
	Seq     uint64
	Through uint64
	What    string
}

func (e *BadRecord) Error() string {
	if e.Through > e.Seq {
		return fmt.Sprintf("records %d to %d: %s", e.Seq, e.Through, e.What)
	}
	return fmt.Sprintf("record %d: %s", e.Seq, e.What)
}

func badRecord(seq uint64, format string, args ...any) *BadRecord {
	return &BadRecord{Seq: seq, Through: seq, What: fmt.Sprintf(format, args...)}
}

// MaxErasedRanges bounds Report.ErasedRanges.
const MaxErasedRanges = 1000

// Range is the records First to Last.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Report is what a verification found. With an error it tells how far it came.
type Report struct {
	Size    uint64    // records that the checkpoint signs, erased ones included
	Root    tlog.Hash // that it signs
	Records uint64    // that are there to be read
	Erased  uint64    // of which only the leaf is left
	// ErasedRanges are the erased ones, the first MaxErasedRanges runs of them. That they are gone is proved to be no
	// damage.
	ErasedRanges []Range
	// UncoveredErased are erased ones, as many runs, of which no later record of the event EventErase tells, or one that
	// cannot be true, since a record before them is of a later time than the erased are said to be: somebody hid them.
	// The hashes are right all the same, so this is no error.
	UncoveredErased []Range
	Erasures        uint64     // records of the event EventErase
	Unfinished      string     // VerifyDir: a write that a killed gateway left behind the last record; empty: none
	Unsigned        uint64     // VerifyDir: records after those that the checkpoint signs. They are sound, and prove nothing yet
	First, Last     time.Time  // of the first and the last record read
	Cosigned        []Cosigned // checkpoints that others kept or signed, and the log holds to
}

// checker is what both verifications do with each record.
type checker struct {
	tree     tree
	steps    map[string]int64  // by token, the last step consumed
	spent    map[string]uint64 // by set of recovery codes, a bit for each that was used
	cover    coverage
	report   Report
	progress func(n uint64)
}

func newChecker(progress func(n uint64)) *checker {
	if progress == nil {
		progress = func(uint64) {}
	}
	return &checker{steps: make(map[string]int64), spent: make(map[string]uint64), progress: progress}
}

// progressEvery is how many records lie between two calls of progress.
const progressEvery = 10_000

// take takes the next record in, which is examined.
func (c *checker) take(it *item) error {
	if it.bad != nil {
		return it.bad
	}
	seq := c.tree.size
	if it.erased {
		c.erased(seq)
		c.cover.erased(seq, c.report.Last)
	} else {
		rec := it.rec
		for i := range rec.Effects {
			x := &rec.Effects[i]
			if x.Set == "recovery.used" {
				if x.Value < 0 || x.Value > 63 || c.spent[x.ID]&(1<<x.Value) != 0 {
					return badRecord(seq, "recovery code %d of %q was used before", x.Value, x.ID)
				}
				c.spent[strings.Clone(x.ID)] |= 1 << x.Value
			}
			if x.Set != "token.step" {
				continue
			}
			last, used := c.steps[x.ID]
			if used && x.Value <= last {
				return badRecord(seq, "step %d of token %q was consumed after step %d: a code was accepted twice, or an older one", x.Value, x.ID, last)
			}
			if used {
				c.steps[x.ID] = x.Value
			} else {
				c.steps[strings.Clone(x.ID)] = x.Value // not to keep all of the record
			}
		}
		if c.report.Records == 0 {
			c.report.First = rec.Time
		}
		c.report.Last = rec.Time
		if rec.Event == EventErase {
			c.report.Erasures++
			c.cover.told(rec)
		}
		c.report.Records++
	}
	_ = c.tree.grow(nil, it.node)
	if c.tree.size%progressEvery == 0 {
		c.progress(c.tree.size)
	}
	return nil
}

func (c *checker) erased(seq uint64) {
	c.report.Erased++
	c.report.ErasedRanges = AppendRange(c.report.ErasedRanges, Range{seq, seq}, MaxErasedRanges)
}

// done is the report, at the end of the records.
func (c *checker) done() Report {
	c.report.UncoveredErased = c.cover.uncovered()
	return c.report
}

// compare tells whether the records seen are those that h signs. Good is how many are known to be right.
func (c *checker) compare(h head, path string, good uint64) error {
	if c.tree.head() == h {
		return nil
	}
	return &BadRecord{Seq: good, Through: max(h.size, 1) - 1, What: fmt.Sprintf(
		"their root is %s, and %s signs %s: at least one was changed, replaced, added or removed", c.tree.root(), path, h.root)}
}

// VerifyExport checks a file that Export wrote, with nothing but the public key: each byte of it, each record's form and
// number, that no token's step was consumed twice, and that the records are just those that the checkpoint signs. An error
// that is not a *BadRecord comes from r. Progress may be nil; it is called now and then with the number of records seen.
//
// It cannot tell that records were made after the checkpoint and left out together with it: for that the reader
// compares Report.Size with a checkpoint that was kept elsewhere.
func VerifyExport(r io.Reader, v note.Verifier, progress func(n uint64)) (Report, error) {
	return VerifyExportWith(r, v, Witnessed{}, progress)
}

// VerifyExportWith is VerifyExport, and compares with what witnesses have signed or somebody has kept: a log that was cut or
// made anew since is found. An error of ErrUnwitnessed means that the export is right as far as it goes.
func VerifyExportWith(r io.Reader, v note.Verifier, with Witnessed, progress func(n uint64)) (Report, error) {
	c := newChecker(progress)
	w, err := newWitnessed(with, v)
	if err != nil {
		return c.report, err
	}
	in := bufio.NewReaderSize(r, maxLine)
	if err := w.check(c); err != nil {
		return c.report, err
	}
	var last []byte // the checkpoint's line
	var between cosignedLines
	others := func() error {
		for line := between.at(c.tree.size); line != nil; line = between.at(c.tree.size) {
			if bad := w.exported(c, line); bad != nil {
				return bad
			}
		}
		return nil
	}
	err = c.each(false, func(emit func([]byte) error) error {
		for seq := uint64(0); ; {
			line, err := in.ReadSlice('\n')
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				return badRecord(seq, "a line of more than %d bytes", maxLine)
			case errors.Is(err, io.EOF) && len(line) == 0:
				return badRecord(seq, "the file ends without a checkpoint: it was cut")
			case errors.Is(err, io.EOF):
				return badRecord(seq, "the file ends within a line: it was cut")
			case err != nil:
				return fmt.Errorf("reading the export: %w", err)
			case bytes.HasPrefix(line, []byte(lineCheckpoint)):
				last = bytes.Clone(line)
				return nil
			case bytes.HasPrefix(line, []byte(lineCosigned)):
				if err := between.put(seq, line); err != nil {
					return err
				}
				continue
			}
			if err := emit(line); err != nil {
				return err
			}
			seq++
		}
	}, func(it *item) error {
		if err := others(); err != nil {
			return err
		}
		if err := c.take(it); err != nil {
			return err
		}
		return w.check(c)
	})
	if err == nil {
		err = others()
	}
	if err != nil {
		return c.report, err
	}
	if err := c.finishExport(last, in, v); err != nil {
		return c.report, err
	}
	err = w.finish(c)
	return c.done(), err
}

func (c *checker) finishExport(line []byte, in *bufio.Reader, v note.Verifier) error {
	seq := c.tree.size
	msg, err := parseCheckpointLine(line)
	if err != nil {
		return badRecord(seq, "in its place: %v", err)
	}
	h, err := openCheckpoint(msg, v)
	if err != nil {
		return badRecord(seq, "in its place, the checkpoint: %v", err)
	}
	c.report.Size, c.report.Root = h.size, h.root
	switch {
	case h.size > seq:
		return badRecord(seq, "it is missing: the checkpoint signs %d records", h.size)
	case h.size < seq:
		return badRecord(h.size, "the checkpoint signs only %d records: it was added, or the checkpoint is another's", h.size)
	}
	if err := c.compare(h, "the checkpoint", 0); err != nil {
		return err
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return badRecord(seq, "something stands after the checkpoint")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("reading the export: %w", err)
	}
	return nil
}

// VerifyDir checks the journal in dir against the checkpoint file, as VerifyExport does, and besides the private
// changes, the journal's own checksums and the snapshot. It never repairs, and may run while a gateway writes:
// records after the checkpoint are checked and counted in Report.Unsigned, and a write under way is no fault. Errors that
// are not a *BadRecord come from the disk, or from the journal's parts that hold no record.
func VerifyDir(dir, checkpointFileName string, v note.Verifier, progress func(n uint64)) (Report, error) {
	return VerifyDirWith(dir, checkpointFileName, v, Witnessed{}, progress)
}

// VerifyDirWith is to VerifyDir as VerifyExportWith is to VerifyExport. The checkpoint that the gateway's own witnesses have
// signed, which stands beside the newest one, is looked at in any case.
func VerifyDirWith(dir, checkpointFileName string, v note.Verifier, with Witnessed, progress func(n uint64)) (Report, error) {
	c := newChecker(progress)
	w, err := newWitnessed(with, v)
	if err != nil {
		return c.report, err
	}
	file := checkpointFile(checkpointFileName)
	msg, open, err := file.loadCosigned(v, with.Witnesses...)
	if err != nil {
		return c.report, err
	}
	if msg != "" {
		w.add(open, file.cosigned())
	}
	// The records last: a gateway that writes meanwhile only adds to what checkpoints and snapshot sign.
	signed, unsigned := file.load(v, false)
	j, snapshot, err := openDir(dir, v)
	if err != nil {
		return c.report, verifyError(dir, err)
	}
	defer j.Close()
	if unsigned != nil {
		return c.report, &BadRecord{Seq: 0, Through: max(j.Next(), 1) - 1, What: fmt.Sprintf("nothing proves them: %v", unsigned)}
	}
	for _, s := range signed {
		if s.size >= c.report.Size {
			c.report.Size, c.report.Root = s.size, s.root
		}
	}
	if err := c.dir(j, append(signed, snapshot), w); err != nil {
		return c.report, err
	}
	if err := w.finish(c); err != nil {
		return c.report, err
	}
	unfinished, err := verifyJournal(dir)
	if err != nil {
		return c.report, verifyError(dir, err)
	}
	c.report.Unfinished = unfinished
	return c.done(), nil
}

// verifyError names the record that damage to the journal is to, where it is to one: entries are numbered as records are.
func verifyError(dir string, err error) error {
	if damage := (*journal.Damage)(nil); errors.As(err, &damage) && damage.Entry != journal.NoEntry {
		return badRecord(uint64(damage.Entry), "%v", damage)
	}
	if bad := (*BadRecord)(nil); errors.As(err, &bad) {
		return bad
	}
	return fmt.Errorf("verifying %s: %w", dir, err)
}

// openDir opens the journal for reading, and says what its latest snapshot tells of the tree; without one, what is true of
// every tree.
func openDir(dir string, v note.Verifier) (*journal.Journal, stored, error) {
	for again := true; ; again = false {
		j, err := journal.Open(journal.Options{Dir: dir, ReadOnly: true})
		if err != nil {
			return nil, stored{}, err
		}
		var t tree
		at, blob, ok, err := j.LatestSnapshot()
		if err == nil && ok {
			if _, err = t.openSnapshot(at, blob, v); err != nil {
				err = fmt.Errorf("at record %d: %w", at, err)
			}
		}
		if err == nil {
			return j, stored{t.head(), "the snapshot"}, nil
		}
		next, shorter := j.Next(), errors.Is(err, journal.ErrShorter)
		err = errors.Join(fmt.Errorf("snapshot: %w", err), j.Close())
		switch {
		case again && shorter: // it may be newer than what Open saw of the journal
		case shorter:
			return nil, stored{}, badRecord(next, "%v", err)
		default:
			return nil, stored{}, err
		}
	}
}

// verifyJournal checks what the records do not cover. A write that is not finished is a fault, unless somebody is there
// to finish it, or it lies in the space that a writer reserves and gives back when it ends well: a killed gateway leaves
// that, nobody was told of what it wrote, and the next start cuts it off. Then unfinished says so.
func verifyJournal(dir string) (unfinished string, err error) {
	var faults []error
	_, errs := journal.Verify(dir)
	for _, err := range errs {
		if damage := (*journal.Damage)(nil); errors.As(err, &damage) && damage.Tail {
			if journal.BeingWritten(dir) {
				continue
			}
			if endsReserved(filepath.Join(dir, damage.File)) {
				unfinished = damage.Error()
				continue
			}
		}
		faults = append(faults, err)
	}
	return unfinished, errors.Join(faults...)
}

// endsReserved reports whether a segment still has reserved space, which is zeros, at its end.
func endsReserved(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := []byte{1}
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] == 0
}

// dir checks all entries of j, and each signed head where the tree has its size.
func (c *checker) dir(j *journal.Journal, signed []stored, w *witnessed) error {
	good := uint64(0)
	check := func() error {
		for _, s := range signed {
			if s.size != c.tree.size {
				continue
			}
			if err := c.compare(s.head, s.path, good); err != nil {
				return err
			}
			good = s.size
		}
		return w.check(c)
	}
	if err := check(); err != nil {
		return err
	}
	err := c.each(true, func(emit func([]byte) error) error {
		next := uint64(0)
		for again := true; again; {
			again = false
			err := j.Scan(next, func(index uint64, _ journal.Position, payload []byte) error {
				if index != next {
					return badRecord(next, "in its place is entry %d", index)
				}
				next++
				// The record that tells of it was there before, and may stand in a segment that this pass does not know of.
				again = again || len(payload) > 0 && payload[0] == typeErased
				return emit(payload)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, func(it *item) error {
		if err := c.take(it); err != nil {
			return err
		}
		return check()
	})
	if bad := (*BadRecord)(nil); errors.As(err, &bad) {
		return bad
	}
	if err != nil {
		return badRecord(c.tree.size, "%v", err)
	}
	for _, s := range signed {
		if s.size > c.tree.size {
			return badRecord(c.tree.size, "it is missing: %s signs %d records", s.path, s.size)
		}
	}
	if size := c.report.Size; c.tree.size > size {
		c.report.Unsigned = c.tree.size - size
	}
	return nil
}
