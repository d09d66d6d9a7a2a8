package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	snapshotMagic  = "SALLYSNP"
	snapshotHeader = 60
	snapshotsKept  = 2  // the newest, and one to fall back to when it is damaged
	snapshotLooks  = 20 // for the latest beside a writer, who would have to make two within each
)

func snapshotName(next uint64) string {
	return fmt.Sprintf("%0*d%s", indexDigits, next, snapshotSuffix)
}

// WriteSnapshot keeps state, which is what the entries below next make, and removes all snapshots but the newest two.
// A snapshot saves time at the next start and is never the only copy of anything, so its errors do not end the
// journal. next may not be above Next.
func (j *Journal) WriteSnapshot(next uint64, state []byte) error {
	j.snapshots.Lock()
	defer j.snapshots.Unlock()
	if j.opt.ReadOnly {
		return fmt.Errorf("write snapshot: %w", ErrReadOnly)
	}
	if err := j.Err(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if have := j.Next(); next > have {
		return fmt.Errorf("write snapshot: it holds %d entries, the journal %d", next, have)
	}
	path := filepath.Join(j.opt.Dir, snapshotName(next))
	if err := j.writeWhole(path, snapshotHead(next, state), state); err != nil {
		_ = os.Remove(path + unfinished)
		return fmt.Errorf("write snapshot: %w", err)
	}
	return j.dropSnapshots()
}

// writeWhole makes a file that is there wholly or not at all.
func (j *Journal) writeWhole(path string, parts ...[]byte) error {
	f, err := os.OpenFile(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	if err == nil {
		err = j.opt.Sync(f)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+unfinished, path)
	}
	if err != nil {
		return err
	}
	return j.syncFolder()
}

func (j *Journal) syncFolder() error {
	dir, err := os.Open(j.opt.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return j.opt.syncDir(dir)
}

func (j *Journal) dropSnapshots() error {
	names, err := listSnapshots(j.opt.Dir)
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-snapshotsKept)] {
		if err := os.Remove(filepath.Join(j.opt.Dir, name)); err != nil {
			return fmt.Errorf("remove old snapshot: %w", err)
		}
	}
	return nil
}

// snapshotHead is the header for state.
func snapshotHead(next uint64, state []byte) []byte {
	b := make([]byte, 0, snapshotHeader)
	b = append(b, snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, next)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(state)))
	return append(b, snapshotSum(b, state)...)
}

func snapshotSum(head, state []byte) []byte {
	h := sha256.New()
	h.Write(head)
	h.Write(state)
	return h.Sum(nil)
}

// listSnapshots returns the names in the order of their indexes.
func listSnapshots(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var names []string
	for _, e := range entries { // ReadDir sorts, and all indexes have as many digits
		if strings.HasSuffix(e.Name(), snapshotSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func readSnapshot(dir, name string) (next uint64, state []byte, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, nil, fmt.Errorf("read snapshot: %w", err)
	}
	next, state, what := parseSnapshot(b)
	named, ok := indexedName(name, snapshotSuffix)
	switch {
	case !ok:
		what = "name is not that of a snapshot"
	case what == "" && named != next:
		what = fmt.Sprintf("holds the snapshot at entry %d", next)
	}
	if what != "" {
		return 0, nil, &Damage{File: name, Entry: NoEntry, What: what}
	}
	return next, state, nil
}

func parseSnapshot(b []byte) (next uint64, state []byte, what string) {
	if len(b) < snapshotHeader {
		return 0, nil, fmt.Sprintf("header has %d of %d bytes", len(b), snapshotHeader)
	}
	head, sum, state := b[:28], b[28:snapshotHeader], b[snapshotHeader:]
	switch {
	case string(head[:8]) != snapshotMagic:
		return 0, nil, "header does not begin with " + snapshotMagic
	case !bytes.Equal(snapshotSum(head, state), sum):
		return 0, nil, "checksum is wrong"
	case binary.LittleEndian.Uint32(head[8:]) != version:
		return 0, nil, fmt.Sprintf("version %d is not known to this program, which reads %d",
			binary.LittleEndian.Uint32(head[8:]), version)
	case binary.LittleEndian.Uint64(head[20:]) != uint64(len(state)):
		return 0, nil, fmt.Sprintf("state has %d bytes, not the %d that the header tells",
			len(state), binary.LittleEndian.Uint64(head[20:]))
	}
	return binary.LittleEndian.Uint64(head[12:]), state, ""
}

// LatestSnapshot returns the newest snapshot that is whole; ok is false when there is none, and the caller starts with
// entry 0. With ok true, err may name newer snapshots that are damaged and were passed over: a warning. With ok
// false, err says why none could be used. A snapshot beyond the journal's end is ErrShorter and is not passed over,
// for the entries that it knows are lost.
func (j *Journal) LatestSnapshot() (next uint64, state []byte, ok bool, err error) {
	for range snapshotLooks {
		// One that is not there any more was replaced since the folder was listed.
		if next, state, ok, err = j.latestSnapshot(); ok || !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return next, state, ok, err
}

func (j *Journal) latestSnapshot() (next uint64, state []byte, ok bool, err error) {
	names, err := listSnapshots(j.opt.Dir)
	if err != nil {
		return 0, nil, false, err
	}
	var damaged []error
	for i := len(names) - 1; i >= 0; i-- {
		next, state, err := readSnapshot(j.opt.Dir, names[i])
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		if have := j.Next(); next > have {
			return 0, nil, false, fmt.Errorf("snapshot %s: %w: %d entries against %d", names[i], ErrShorter, have, next)
		}
		return next, state, true, errors.Join(damaged...)
	}
	return 0, nil, false, errors.Join(damaged...)
}
