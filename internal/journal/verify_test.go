package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// small makes a journal of several segments, batches of several sizes and two snapshots.
func small(t *testing.T) (fs files, want []string) {
	t.Helper()
	o := quick(t.TempDir())
	o.SegmentBytes = 200
	j := mustOpen(t, o)
	want = numbered(0, 16)
	for i, n := 0, 0; i < len(want); i += n {
		n = min(1+i%4, len(want)-i)
		appendBatch(t, j, want[i:i+n]...)
		if i == 3 || i == 11 {
			if err := j.WriteSnapshot(uint64(i), fmt.Appendf(nil, "state at %d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, o.Dir, len(want))
	fs = load(t, o.Dir)
	if len(fs) < 5 || fs[snapshotName(3)] == nil || fs[snapshotName(11)] == nil {
		t.Fatalf("too small to prove anything: %v", slices.Sorted(maps.Keys(fs)))
	}
	return fs, want
}

// found checks that a changed folder is found by Verify or has fewer entries, and that neither a start nor a reader
// gives an entry that was not written.
func found(t *testing.T, what string, dir string, fs files, want []string) {
	t.Helper()
	fs.lay(t, dir)
	r, problems := Verify(dir)
	if len(problems) == 0 && r.Entries >= uint64(len(want)) {
		t.Fatalf("%s: not found, %d entries", what, r.Entries)
	}
	if r.Entries > uint64(len(want)) {
		t.Fatalf("%s: %d entries", what, r.Entries)
	}
	for _, p := range problems {
		var d *Damage
		if !errors.As(p, &d) && !errors.Is(p, ErrShorter) {
			t.Fatalf("%s: a problem that does not say where: %v", what, p)
		}
	}
	for _, readOnly := range []bool{true, false} {
		o := quick(dir)
		o.ReadOnly = readOnly
		j, err := Open(o)
		if err != nil {
			continue
		}
		i := 0
		err = j.Scan(0, func(index uint64, _ Position, p []byte) error {
			if index != uint64(i) || i >= len(want) || string(p) != want[i] {
				t.Fatalf("%s: scan gives entry %d %q as number %d", what, index, p, i)
			}
			i++
			return nil
		})
		if err == nil && i == len(want) {
			// All entries are there: only a snapshot was touched, or an addition was cut off as a torn tail.
			if r := j.Repaired(); r == nil && len(problems) == 0 {
				t.Fatalf("%s: not found", what)
			}
		}
		if _, state, ok, _ := j.LatestSnapshot(); ok && !bytes.HasPrefix(state, []byte("state at ")) {
			t.Fatalf("%s: snapshot is %q", what, state)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// P8: every byte of every file counts.
func TestVerifyFindsAnyChangedByte(t *testing.T) {
	t.Parallel()
	fs, want := small(t)
	dir := t.TempDir()
	for name, b := range fs {
		for i := range b {
			for _, x := range []byte{1 << (i % 8), 0xff, b[i]} { // the last makes it zero
				if x == 0 {
					continue
				}
				c := slices.Clone(b)
				c[i] ^= x
				found(t, fmt.Sprintf("%s byte %d ^ %#x", name, i, x), dir, fs.with(name, c), want)
			}
		}
	}
}

// P8: no range of bytes can go, and none can come.
func TestVerifyFindsRemovedAndAddedBytes(t *testing.T) {
	t.Parallel()
	fs, want := small(t)
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	for name, b := range fs {
		for from := range b {
			for _, n := range []int{1, len(b) - from, 1 + random.IntN(len(b)-from)} {
				if from+n <= len(b) {
					found(t, fmt.Sprintf("%s without %d bytes at %d", name, n, from), dir,
						fs.with(name, slices.Delete(slices.Clone(b), from, from+n)), want)
				}
			}
		}
		for at := range len(b) + 1 {
			for _, add := range [][]byte{{'x'}, b[:random.IntN(len(b))+1]} {
				found(t, fmt.Sprintf("%s with %d bytes more at %d", name, len(add), at), dir,
					fs.with(name, slices.Insert(slices.Clone(b), at, add...)), want)
			}
			if at < len(b) {
				found(t, fmt.Sprintf("%s with a zero more at %d", name, at), dir,
					fs.with(name, slices.Insert(slices.Clone(b), at, 0)), want)
			}
		}
	}
}

// P8: whole frames and whole files, each right by itself, cannot change places, go, or come twice.
func TestVerifyFindsMovedFramesAndFiles(t *testing.T) {
	fs, want := small(t)
	dir := t.TempDir()
	for name, b := range fs {
		if _, ok := indexedName(name, segmentSuffix); !ok {
			continue
		}
		var cuts []int // frame borders
		first, _ := indexedName(name, segmentSuffix)
		r := newFrameReader(bytes.NewReader(b), segment{first: first, size: int64(len(b))})
		cuts = append(cuts, int(r.off))
		for {
			if _, what, err := r.next(); err != nil || what != "" {
				break
			}
			cuts = append(cuts, int(r.off))
		}
		for i := range len(cuts) - 1 {
			one := b[cuts[i]:cuts[i+1]]
			found(t, fmt.Sprintf("%s without frame %d", name, i), dir,
				fs.with(name, slices.Delete(slices.Clone(b), cuts[i], cuts[i+1])), want)
			found(t, fmt.Sprintf("%s with frame %d twice", name, i), dir,
				fs.with(name, slices.Insert(slices.Clone(b), cuts[i+1], one...)), want)
			for k := i + 1; k < len(cuts)-1; k++ {
				two := b[cuts[k]:cuts[k+1]]
				found(t, fmt.Sprintf("%s with frames %d and %d exchanged", name, i, k), dir, fs.with(name,
					slices.Concat(b[:cuts[i]], two, b[cuts[i+1]:cuts[k]], one, b[cuts[k+1]:])), want)
			}
		}
	}
	for a := range fs {
		if _, ok := indexedName(a, segmentSuffix); ok { // a missing snapshot is no loss: the entries make it again
			found(t, "without "+a, dir, func() files { c := fs.with(a, nil); delete(c, a); return c }(), want)
		}
		for b := range fs {
			if a != b {
				found(t, a+" exchanged with "+b, dir, fs.with(a, fs[b]).with(b, fs[a]), want)
				found(t, a+" in place of "+b, dir, fs.with(b, fs[a]), want)
			}
		}
	}
	found(t, "a segment too many", dir, fs.with(segmentName(99), fs[segmentName(0)]), want)
	found(t, "a segment with a strange name", dir, fs.with("1.seg", fs[segmentName(0)]), want)
	found(t, "a snapshot with a strange name", dir, fs.with("+0000000000000000011.snap", fs[snapshotName(11)]), want)
	found(t, "a snapshot of more entries than there are", dir, fs.with(snapshotName(17), append(snapshotHead(17, nil), nil...)), want)
}

// Bytes with a right checksum that this program would not have written, or that another version wrote, are refused.
func TestResealedBytes(t *testing.T) {
	fs, want := small(t)
	dir := t.TempDir()
	name := segmentName(0)
	seg := func(change func(b []byte)) files {
		b := slices.Clone(fs[name])
		change(b)
		return fs.with(name, b)
	}
	header := func(change func(b []byte)) files {
		return seg(func(b []byte) {
			change(b)
			binary.LittleEndian.PutUint32(b[36:], crc32.Checksum(b[:36], castagnoli))
		})
	}
	second := func(index uint64, place uint32) files {
		return seg(func(b []byte) {
			n, _ := frameSize(b[segmentHeader:])
			at := segmentHeader + n
			n, _ = frameSize(b[at:])
			sealFrame(b[at:at+n], index, place)
		})
	}
	snap := func(change func(b []byte)) files {
		b := slices.Clone(fs[snapshotName(11)])
		change(b)
		copy(b[28:], snapshotSum(b[:28], b[snapshotHeader:]))
		return fs.with(snapshotName(11), b)
	}
	for what, changed := range map[string]files{
		"version 2":                   header(func(b []byte) { b[8] = 2 }),
		"first entry 1":               header(func(b []byte) { b[12] = 1 }),
		"a segment before the first":  header(func(b []byte) { b[28] = 40 }),
		"index 2 in place of 1":       second(2, 0),
		"place before the log":        second(1, 2),
		"snapshot version 2":          snap(func(b []byte) { b[8] = 2 }),
		"snapshot of another entry":   snap(func(b []byte) { b[12]++ }),
		"snapshot of another length":  snap(func(b []byte) { b[20]++ }),
		"snapshot with another magic": snap(func(b []byte) { b[0]++ }),
	} {
		found(t, what, dir, changed, want)
	}
	b := append(make([]byte, segmentHeader+frameHeader), "entry"...)
	sealFrame(b[segmentHeader:], 1, 1)
	r := newFrameReader(bytes.NewReader(b), segment{first: 1, size: int64(len(b))})
	if f, what, err := r.next(); what == "" || err != nil {
		t.Errorf("a segment that begins within a batch: %+v, %v", f, err)
	}
}

// P8: the zeros that a killed writer has reserved hide nothing.
func TestVerifyReadsReservedSpace(t *testing.T) {
	o := quick(t.TempDir())
	o.SegmentBytes = 400
	j := mustOpen(t, o)
	want := numbered(0, 5)
	appendBatch(t, j, want...)
	fs := load(t, o.Dir)
	b := fs[segmentName(0)]
	if len(b) != 400 {
		t.Fatalf("%d bytes, none reserved", len(b))
	}
	dir := t.TempDir()
	fs.lay(t, dir)
	mustVerify(t, dir, 5)
	for i := int(j.end); i < len(b); i++ {
		c := slices.Clone(b)
		c[i] = 'x'
		found(t, fmt.Sprintf("byte %d of the reserve", i), dir, fs.with(segmentName(0), c), want)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(j.path()); err != nil || info.Size() != j.end {
		t.Errorf("the reserve is not given back at Close: %v, %v", info, err)
	}
}

// Next to a live writer, an unfinished write that stays unfinished is a problem too.
func TestVerifyReportsTailBesideWriter(t *testing.T) {
	o := quick(t.TempDir())
	j := mustOpen(t, o)
	appendBatch(t, j, "a", "b")
	if _, err := j.out.WriteAt([]byte("garbage"), j.end+5); err != nil {
		t.Fatal(err)
	}
	r, problems := Verify(o.Dir)
	var d *Damage
	if r.Entries != 2 || len(problems) != 1 || !errors.As(problems[0], &d) || !d.Tail || d.Offset != j.end {
		t.Errorf("%d entries, %v", r.Entries, problems)
	}
}

// The reader of foreign bytes gives only frames that were sealed, in order, and never passes its end.
func FuzzSegment(f *testing.F) {
	b := segment{}.appendHeader(nil)
	f.Add(b)
	for i, e := range numbered(0, 4) {
		at := len(b)
		b = append(append(b, make([]byte, frameHeader)...), e...)
		sealFrame(b[at:], uint64(i), uint32(i%2))
	}
	f.Add(b)
	f.Add(append(slices.Clone(b), make([]byte, 64)...))
	f.Add(b[:len(b)-3])
	f.Add(append(b[:60:60], b[59:]...))
	f.Add(segment{was: 100, size: rewrittenHeader}.appendHeader(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, what := parseHeader(b)
		if what == "" && !bytes.Equal(s.appendHeader(nil), b[:s.start()]) {
			t.Error("header is not the one form")
		}
		if len(b) < segmentHeader {
			return
		}
		s = segment{size: int64(len(b))}
		again := slices.Clone(b[:segmentHeader])
		end, err := scanTail(bytes.NewReader(b), s, func(f frame, at int64) error {
			if at != int64(len(again)) || f.index != uint64(len(again)) && f.index > uint64(len(b)) {
				t.Errorf("entry %d at %d", f.index, at)
			}
			again = append(append(again, make([]byte, frameHeader)...), f.payload...)
			sealFrame(again[at:], f.index, f.place)
			return nil
		})
		if !bytes.Equal(again, b[:len(again)]) {
			t.Error("the frames read are not the bytes there")
		}
		if err == nil && (end.end != int64(len(again)) || end.end+end.torn > int64(len(b)) ||
			len(bytes.TrimRight(b[end.end+end.torn:], "\x00")) != 0) {
			t.Errorf("tail %+v of %d bytes", end, len(b))
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(append(snapshotHead(7, []byte("state")), "state"...))
	f.Add(snapshotHead(0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		next, state, what := parseSnapshot(b)
		if what == "" && !bytes.Equal(append(snapshotHead(next, state), state...), b) {
			t.Error("snapshot is not the one form")
		}
	})
}
