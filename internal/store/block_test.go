package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A filter says "no" to no term of its block, and "perhaps" to few others.
func TestFilter(t *testing.T) {
	all := randomEntries(rand.New(rand.NewPCG(10, 10)), 0, 1000, 100_000)
	var w blockWriter
	b := w.write(all, true)
	bits, ok := cutSum(b.bits, b.bitsSum())
	if !ok {
		t.Fatal("checksum")
	}
	for _, e := range all {
		for f, text := range e.texts() {
			if !mayHold(bits, termHash(f, text)) {
				t.Errorf("no to %q in field %d", text, f)
			}
		}
	}
	wrong := 0
	for i := range 10_000 {
		if mayHold(bits, termHash(fieldPerson, fmt.Sprintf("stranger%d", i))) {
			wrong++
		}
	}
	t.Logf("%d of 10000 strangers pass; %d bytes of filter, %d of data", wrong, len(bits), len(b.data))
	if wrong > 250 {
		t.Errorf("%d of 10000 strangers pass", wrong)
	}
	// Stored filters depend on the hash: another one would need another blockFormat.
	if got := termHash(fieldPerson, "alice"); got != wantHash {
		t.Errorf("the hash of alice is %#x, was %#x", got, uint64(wantHash))
	}
}

const wantHash = 0xdacadec1d1bb41e8

// Foreign bytes with right checksums make an error, not a panic or endless work; what reads well is written the same.
func FuzzBlock(f *testing.F) {
	var w blockWriter
	for _, n := range []int{1, 3, 30} {
		b := w.write(randomEntries(rand.New(rand.NewPCG(11, uint64(n))), 5, n, 20), n > 3)
		f.Add(uint16(n), b.data[:len(b.data)-4])
	}
	f.Add(uint16(1), []byte{blockFormat})
	f.Add(uint16(1), binary.AppendUvarint([]byte{blockFormat}, 1<<63))
	f.Fuzz(func(t *testing.T, n uint16, body []byte) {
		b := block{first: 5, next: 5 + uint64(n)}
		b.bits = appendSum(nil, b.bitsSum())
		b.data = appendSum(bytes.Clone(body), dataSum(b.first))
		entries, err := b.entries(nil)
		hits, err2 := b.search(nil, newMatch(Query{}))
		_, err3 := b.search(nil, newMatch(Query{Person: "person7", Source: "\x00"}))
		if err != nil {
			return // a search may overlook it: it does not read the texts that it does not need
		}
		if err2 != nil || err3 != nil {
			t.Fatalf("it can be read, and not searched: %v, %v", err2, err3)
		}
		there := 0
		for _, e := range entries {
			if !e.Erased() {
				there++
			}
		}
		if len(entries) != int(n) || len(hits) != there {
			t.Fatalf("%d entries and %d hits of %d", len(entries), len(hits), n)
		}
		again := w.write(entries, false)
		back, err := again.entries(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(entries, back) {
			t.Fatal("written again, it is another block")
		}
	})
}
