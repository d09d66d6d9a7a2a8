package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"sallyport/internal/journal"
)

// The parts of an export's lines. Each line ends with one line feed.
const (
	lineLeaf       = `{"leaf":"`       // 64 hex digits, for saying which record is bad
	lineSalt       = `","salt":"`      // 32 hex digits
	lineRecord     = `","record":`     // the canonical JSON
	lineEnd        = "}\n"             //
	lineErased     = `{"erased":"`     // 64 hex digits
	lineSeq        = `","seq":`        // the number
	lineCosigned   = `{"cosigned":"`   // the note as a JSON string
	lineCheckpoint = `{"checkpoint":"` // the same

	maxLine = MaxRecord + 256
)

var errStop = errors.New("stop")

// Export writes the log as it is now, with a checkpoint of just these records as its last line. Appends go on
// meanwhile. It checks what it reads: an export of a damaged journal fails.
//
// Nor does it hold up Erase, however slowly w takes the export: with an erased record goes the later one that tells of it. That
// one was durable before the other went, so after a pass that met erased records it goes on to what is durable by then. The last
// pass meets none, as nobody erases what is as young.
func (l *Log) Export(w io.Writer) error {
	want, err := l.exportable()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	witnessed, at, err := l.exportedCosigned(want.size)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if at == 0 {
		_, err = out.Write(witnessed)
	}
	var seen tree
	for err == nil {
		var erased bool
		erased, err = exportEntries(l.journal, out, &seen, want.size, func() (err error) {
			if seen.size == at {
				_, err = out.Write(witnessed)
			}
			return err
		})
		if err != nil || !erased {
			break
		}
		want, err = l.exportable()
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if got := seen.head(); got != want {
		return fmt.Errorf("export: the journal holds %d records with the root %s, and %d were appended with the root %s: %w",
			got.size, got.root, want.size, want.root, ErrOther)
	}
	msg, err := want.sign(l.o.Signer)
	if err != nil {
		return err
	}
	line, err := checkpointLine(msg)
	if err != nil {
		return err
	}
	if _, err = out.Write(line); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// exportable is the head over all records that are durable now.
func (l *Log) exportable() (head, error) {
	if next := l.journal.Next(); next > 0 {
		if err := l.await(context.Background(), next-1); err != nil {
			return head{}, err
		}
	}
	var now tree
	l.mu.Lock()
	now.set(&l.durable)
	l.mu.Unlock()
	return now.head(), nil
}

// exportedCosigned is the line of the newest checkpoint that a witness has signed, and after how many records it goes.
func (l *Log) exportedCosigned(size uint64) (line []byte, at uint64, err error) {
	msg, c, err := l.file.loadCosigned(l.o.Verifier)
	if err != nil || msg == "" || c.Size > size {
		return nil, 0, err
	}
	line, err = cosignedLine(msg)
	return line, c.Size, err
}

// exportEntries writes the lines of the entries that seen lacks of the first size, adds them to it, calls then after each, and
// tells whether one is erased.
func exportEntries(j *journal.Journal, w io.Writer, seen *tree, size uint64, then func() error) (erased bool, err error) {
	if seen.size >= size {
		return false, nil
	}
	hasher := newLeafHasher()
	var line []byte
	err = j.Scan(seen.size, func(index uint64, _ journal.Position, payload []byte) error {
		e, err := parseEntry(payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		erased = erased || e.erased
		leaf := e.leafOf(&hasher)
		seen.add(leaf)
		line = appendLine(line[:0], index, &e, leaf[:])
		if _, err := w.Write(line); err != nil {
			return err
		}
		if err := then(); err != nil {
			return err
		}
		if seen.size == size {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return erased, err
}

func appendLine(dst []byte, seq uint64, e *entry, leaf []byte) []byte {
	if e.erased {
		dst = append(dst, lineErased...)
		dst = hex.AppendEncode(dst, leaf)
		dst = append(dst, lineSeq...)
		dst = strconv.AppendUint(dst, seq, 10)
		return append(dst, lineEnd...)
	}
	dst = append(dst, lineLeaf...)
	dst = hex.AppendEncode(dst, leaf)
	dst = append(dst, lineSalt...)
	dst = hex.AppendEncode(dst, e.salt)
	dst = append(dst, lineRecord...)
	dst = append(dst, e.json...)
	return append(dst, lineEnd...)
}

var errLine = errors.New("not a line of an export")

// parseLine reads a record's or erased entry's line, and gives the leaf that it states.
func parseLine(line []byte, seq uint64) (e entry, leaf []byte, err error) {
	if rest, ok := bytes.CutPrefix(line, []byte(lineErased)); ok {
		if leaf, rest, ok = cutHex(rest, 64); ok {
			e.erased, e.leaf = true, [32]byte(leaf)
			var number [20]byte
			want := append([]byte(lineSeq), strconv.AppendUint(number[:0], seq, 10)...)
			if string(rest) == string(want)+lineEnd {
				return e, leaf, nil
			}
		}
		return entry{}, nil, errLine
	}
	rest, ok := bytes.CutPrefix(line, []byte(lineLeaf))
	if ok {
		leaf, rest, ok = cutHex(rest, 64)
	}
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte(lineSalt))
	}
	if ok {
		e.salt, rest, ok = cutHex(rest, 2*saltSize)
	}
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte(lineRecord))
	}
	if ok {
		e.json, ok = bytes.CutSuffix(rest, []byte(lineEnd))
	}
	if !ok {
		return entry{}, nil, errLine
	}
	return e, leaf, nil
}

// cutHex takes n lower-case hex digits from the front.
func cutHex(b []byte, n int) (value, rest []byte, ok bool) {
	if len(b) < n {
		return nil, nil, false
	}
	value = make([]byte, n/2)
	if _, err := hex.Decode(value, b[:n]); err != nil || !bytes.Equal(hex.AppendEncode(nil, value), b[:n]) {
		return nil, nil, false
	}
	return value, b[n:], true
}

// noteLine is a checkpoint's line of an export. The keys are the fields of v.
func noteLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("export: checkpoint: %w", err)
	}
	return b.Bytes(), nil
}

func checkpointLine(msg string) ([]byte, error) {
	return noteLine(struct {
		Checkpoint string `json:"checkpoint"`
	}{msg})
}

func cosignedLine(msg string) ([]byte, error) {
	return noteLine(struct {
		Cosigned string `json:"cosigned"`
	}{msg})
}

// parseNoteLine gives the note in a line, which must be just as write makes it.
func parseNoteLine(line []byte, write func(string) ([]byte, error)) (string, error) {
	var v struct{ Checkpoint, Cosigned string }
	if err := json.Unmarshal(line, &v); err != nil {
		return "", fmt.Errorf("checkpoint: %w", errLine)
	}
	msg := v.Checkpoint + v.Cosigned // one of them, else the line is another
	if again, err := write(msg); err != nil || !bytes.Equal(again, line) {
		return "", fmt.Errorf("checkpoint: %w", errLine)
	}
	return msg, nil
}

// parseCheckpointLine gives the note in a line, which must be just as checkpointLine writes it.
func parseCheckpointLine(line []byte) (string, error) { return parseNoteLine(line, checkpointLine) }

// exported takes a cosigned checkpoint's line of an export, which stands where the tree has its size.
func (w *witnessed) exported(c *checker, line []byte) error {
	seq := c.tree.size
	msg, err := parseNoteLine(line, cosignedLine)
	if err != nil {
		return badRecord(seq, "in its place: %v", err)
	}
	open, err := OpenCheckpoint(msg, w.v, w.Witnesses...)
	switch {
	case err != nil:
		return badRecord(seq, "in its place, a cosigned checkpoint: %v", err)
	case open.Size != seq || w.inFile:
		return badRecord(seq, "in its place is a cosigned checkpoint of %d records", open.Size)
	}
	w.inFile = true
	w.add(open, "the file's cosigned checkpoint")
	return w.check(c)
}
