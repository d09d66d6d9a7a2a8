package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// The index keeps records in blocks. A block is a row of the table blocks:
//
//	first, next   the block is about the records from first to next-1, all of them
//	since, until  its oldest and newest time, microseconds since 1970; clocks are set back, so they need not be those
//	              of its first and last record
//	bits          a Bloom filter over the terms of the block, empty in small blocks; and 4 bytes CRC-32C of the row
//	              but for data
//	data          the records; and 4 bytes CRC-32C of first and data
//
// The data is a byte blockFormat; for each of the five fields, the length in bytes and then the texts that occur in it,
// each after its length; and for each record three signed differences to the one before (time, segment, offset;
// to 0 for the first) and five numbers of texts. All numbers are varints. So a thousand records are one insert of
// about 15 kB, where a row and two entries of B-trees for each would be three thousand scattered ones.

// A block of which every record is erased has one byte of data, blockErased, and its times are such that no search for
// a time finds it. An erased record in another block has empty texts, and the time and place of the one before it.

// The versions of the data.
const (
	blockFormat = 1
	blockErased = 2
)

// The fields of an Entry that have texts, in the order in which a block stores them.
const (
	fieldEvent = iota
	fieldResult
	fieldPerson
	fieldSystem
	fieldSource
	fields
)

func (e *Entry) texts() [fields]string {
	return [fields]string{e.Event, e.Result, e.Person, e.System, e.Source}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// block is a row of the table. What it points to belongs to the blockWriter or the query that made it.
type block struct {
	first, next  uint64
	since, until int64
	bits, data   []byte
}

func (b *block) bitsSum() uint32 {
	var head [32]byte
	binary.LittleEndian.PutUint64(head[0:], b.first)
	binary.LittleEndian.PutUint64(head[8:], b.next)
	binary.LittleEndian.PutUint64(head[16:], uint64(b.since))
	binary.LittleEndian.PutUint64(head[24:], uint64(b.until))
	return crc32.Checksum(head[:], castagnoli)
}

func dataSum(first uint64) uint32 {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], first)
	return crc32.Checksum(head[:], castagnoli)
}

// appendSum appends the checksum of b, which goes on from sum.
func appendSum(b []byte, sum uint32) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Update(sum, castagnoli, b))
}

// cutSum checks and removes what appendSum appended.
func cutSum(b []byte, sum uint32) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	body, end := b[:len(b)-4], b[len(b)-4:]
	return body, binary.LittleEndian.Uint32(end) == crc32.Update(sum, castagnoli, body)
}

// A Bloom filter of ten bits and four probes for each term says "perhaps" wrongly about once in eighty times, and
// never wrongly says no.
const (
	bitsPerTerm = 10
	probes      = 4
)

// termHash is FNV-1a over the field and the text, and a finalizer (MurmurHash3's), since FNV's high bits are poor. It
// is stored, in effect: it may change only with blockFormat.
func termHash(field int, text string) uint64 {
	h := uint64(14695981039346656037)
	h = (h ^ uint64(field)) * 1099511628211
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// probe calls fn with each probe's place in a filter of n bytes, until fn says no. The places come from two halves of
// the hash (Kirsch and Mitzenmacher, "Less hashing, same performance").
func probe(hash uint64, n int, fn func(at int, bit byte) bool) bool {
	a, b := uint32(hash), uint32(hash>>32)|1
	for range probes {
		place := uint64(a) * uint64(n) * 8 >> 32 // a scaled to the filter, without division
		if !fn(int(place>>3), 1<<(place&7)) {
			return false
		}
		a += b
	}
	return true
}

func mayHold(bits []byte, hash uint64) bool {
	return len(bits) == 0 || probe(hash, len(bits), func(at int, bit byte) bool { return bits[at]&bit != 0 })
}

// blockWriter makes blocks. It keeps its memory from one to the next.
type blockWriter struct {
	numbers [fields]map[string]uint32
	texts   [fields][]string
	size    [fields]int // of texts, as they are stored
	rows    []byte
	bits    []byte
	data    []byte
}

// write makes a block of entries with consecutive numbers. It is valid until the next call.
func (w *blockWriter) write(entries []Entry, filter bool) block {
	for f := range fields {
		if w.numbers[f] == nil {
			w.numbers[f] = make(map[string]uint32)
		}
		clear(w.numbers[f])
		w.texts[f], w.size[f] = w.texts[f][:0], 0
	}
	b := block{first: entries[0].Seq, next: entries[len(entries)-1].Seq + 1, since: math.MaxInt64, until: math.MinInt64}
	w.rows = w.rows[:0]
	var before, now rowHead
	var last [fields]string
	var number [fields]uint32
	for i := range entries {
		e := &entries[i]
		if !e.Erased() {
			now = rowHead{e.Time.UnixMicro(), int64(e.Segment), e.Offset}
			b.since, b.until = min(b.since, now.at), max(b.until, now.at)
		}
		w.rows = now.appendSince(w.rows, before)
		before = now
		for f, text := range e.texts() {
			if i == 0 || text != last[f] { // most often it is the same event, result and system
				last[f], number[f] = text, w.number(f, text)
			}
			w.rows = binary.AppendUvarint(w.rows, uint64(number[f]))
		}
	}
	if b.since > b.until {
		w.data = appendSum(append(w.data[:0], blockErased), dataSum(b.first))
		w.bits = appendSum(w.bits[:0], b.bitsSum())
		b.bits, b.data = w.bits, w.data
		return b
	}
	w.data = append(w.data[:0], blockFormat)
	terms := 0
	for f := range fields {
		w.data = binary.AppendUvarint(w.data, uint64(w.size[f]))
		for _, text := range w.texts[f] {
			w.data = appendText(w.data, text)
		}
		terms += len(w.texts[f])
	}
	w.data = appendSum(append(w.data, w.rows...), dataSum(b.first))
	w.bits = w.bits[:0]
	if filter {
		w.fillBits((terms*bitsPerTerm + 7) / 8)
	}
	w.bits = appendSum(w.bits, b.bitsSum())
	b.bits, b.data = w.bits, w.data
	return b
}

func (w *blockWriter) number(f int, text string) uint32 {
	n, ok := w.numbers[f][text]
	if !ok {
		n = uint32(len(w.texts[f]))
		w.numbers[f][text] = n
		w.texts[f] = append(w.texts[f], text)
		w.size[f] += len(text) + uvarintLen(uint64(len(text)))
	}
	return n
}

func (w *blockWriter) fillBits(n int) {
	for range n {
		w.bits = append(w.bits, 0)
	}
	for f := range fields {
		for _, text := range w.texts[f] {
			probe(termHash(f, text), n, func(at int, bit byte) bool { w.bits[at] |= bit; return true })
		}
	}
}

// forget lets go of the entries' texts, which may be parts of something larger.
func (w *blockWriter) forget() {
	for f := range fields {
		clear(w.numbers[f])
		clear(w.texts[f])
	}
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

// rowHead is what of a record is stored as differences. They may wrap around; adding them up wraps back.
type rowHead struct{ at, segment, offset int64 }

func (h rowHead) appendSince(dst []byte, before rowHead) []byte {
	dst = binary.AppendVarint(dst, h.at-before.at)
	dst = binary.AppendVarint(dst, h.segment-before.segment)
	return binary.AppendVarint(dst, h.offset-before.offset)
}

var errBlock = errors.New("a block of the index cannot be read")

// blockReader goes through the data of a block. Every length in it is checked, although the checksum has been: what it
// reads may be another version's.
// It counts in at, and does not cut b: a pointer that is written makes work for the garbage collector.
type blockReader struct {
	b      []byte
	at     int
	bad    bool
	erased bool // there is nothing to read
}

func (r *blockReader) uvarint() uint64 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 { // most are one byte
		r.at++
		return uint64(r.b[r.at-1])
	}
	return r.longUvarint()
}

func (r *blockReader) longUvarint() uint64 {
	x, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.at, r.bad = len(r.b), true
		return 0
	}
	r.at += n
	return x
}

func (r *blockReader) varint() int64 {
	x := r.uvarint()
	return int64(x>>1) ^ -int64(x&1) // as binary.Varint
}

func (r *blockReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)-r.at) {
		r.at, r.bad = len(r.b), true
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// more reports whether something is left.
func (r *blockReader) more() bool { return r.at < len(r.b) }

// open checks what is common to all ways of reading, and leaves the reader at the first field's texts.
func (b *block) open() (blockReader, error) {
	if _, ok := cutSum(b.bits, b.bitsSum()); !ok || b.next <= b.first {
		return blockReader{}, fmt.Errorf("%w: records %d to %d: its head is damaged", errBlock, b.first, b.next)
	}
	data, ok := cutSum(b.data, dataSum(b.first))
	if !ok || len(data) == 0 || data[0] != blockFormat && (data[0] != blockErased || len(data) > 1) {
		return blockReader{}, fmt.Errorf("%w: records %d to %d: its data is damaged", errBlock, b.first, b.next)
	}
	return blockReader{b: data[1:], erased: data[0] == blockErased}, nil
}

// end tells whether all was read and made sense.
func (b *block) end(r *blockReader) error {
	if r.bad || r.more() {
		return fmt.Errorf("%w: records %d to %d: its parts do not fit together", errBlock, b.first, b.next)
	}
	return nil
}

// head reads what stands before the numbers of a row's texts.
func (h *rowHead) read(r *blockReader) {
	h.at += r.varint()
	h.segment += r.varint()
	h.offset += r.varint()
}

// entries appends all records of the block to dst.
func (b *block) entries(dst []Entry) ([]Entry, error) {
	r, err := b.open()
	if err != nil {
		return nil, err
	}
	if r.erased {
		for seq := b.first; seq < b.next; seq++ {
			dst = append(dst, Entry{Seq: seq})
		}
		return dst, nil
	}
	var texts [fields][]string
	for f := range fields {
		in := blockReader{b: r.bytes(r.uvarint())}
		for in.more() {
			texts[f] = append(texts[f], string(in.bytes(in.uvarint())))
		}
		r.bad = r.bad || in.bad
	}
	var h rowHead
	for seq := b.first; seq < b.next && !r.bad; seq++ {
		h.read(&r)
		var of [fields]string
		for f := range fields {
			n := r.uvarint()
			if n >= uint64(len(texts[f])) {
				r.bad = true
				break
			}
			of[f] = texts[f][n]
		}
		if of[fieldEvent] == "" {
			dst = append(dst, Entry{Seq: seq})
			continue
		}
		dst = append(dst, Entry{
			Seq: seq, Segment: uint64(h.segment), Offset: h.offset, Time: time.UnixMicro(h.at).UTC(),
			Event: of[fieldEvent], Result: of[fieldResult], Person: of[fieldPerson], System: of[fieldSystem], Source: of[fieldSource],
		})
	}
	return dst, b.end(&r)
}

// search appends the block's records that match, oldest first.
func (b *block) search(dst []Hit, m *match) ([]Hit, error) {
	r, err := b.open()
	if err != nil {
		return nil, err
	}
	if r.erased {
		return dst, nil
	}
	none := uint64(math.MaxUint64)
	erased := none           // the number of the empty event
	want := [fields]uint64{} // the number of the text that is asked for
	for f := range fields {
		in := blockReader{b: r.bytes(r.uvarint())}
		want[f] = none
		if m.texts[f] == "" && f != fieldEvent {
			continue
		}
		for n := uint64(0); in.more(); n++ {
			switch text := in.bytes(in.uvarint()); {
			case f == fieldEvent && len(text) == 0:
				erased = n
			case m.texts[f] != "" && string(text) == m.texts[f]:
				want[f] = n
			}
			if want[f] != none && f != fieldEvent {
				break
			}
		}
		if in.bad {
			r.bad = true
		} else if m.texts[f] != "" && want[f] == none {
			return dst, nil
		}
	}
	var h rowHead
	for seq := b.first; seq < b.next && !r.bad; seq++ {
		h.read(&r)
		ok := seq >= m.from && seq < m.before && h.at >= m.since && h.at < m.until
		for f := range fields {
			n := r.uvarint()
			if want[f] != none && n != want[f] || f == fieldEvent && n == erased {
				ok = false
			}
		}
		if ok {
			dst = append(dst, Hit{Seq: seq, Segment: uint64(h.segment), Offset: h.offset})
		}
	}
	return dst, b.end(&r)
}
