package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// A verification runs on all processors: one goroutine reads and finds where records begin, one for each processor takes records
// apart and hashes them, a batch at a time, and the caller takes the batches in their order, for the tree and whatever depends on
// the order. Memory is bounded by the batches under way.
const (
	batchRecords = 512
	batchBytes   = 256 << 10 // and one record
)

// item is a record as examined. Of a bad one, only bad counts.
type item struct {
	node   tlog.Hash // of the leaf
	erased bool
	rec    *Record // nil: erased
	bad    *BadRecord
}

// examiner is one worker's.
type examiner struct {
	hasher leafHasher
	parser parser
	dir    bool // entries of a journal; else lines of an export
}

// batch is records on their way.
type batch struct {
	first uint64
	data  []byte
	ends  []int // in data, of each record
	items []item
	// records are those of the items. Their memory goes round with the batch.
	records []Record
	done    chan struct{}
}

// each examines the records that read emits, and calls take for each in order. The first bad record, or take's first error, is
// the error; after them that of read, which must return when emit fails.
func (c *checker) each(dir bool, read func(emit func(raw []byte) error) error, take func(*item) error) error {
	workers := runtime.GOMAXPROCS(0)
	todo, ordered := make(chan *batch, workers), make(chan *batch, 2*workers)
	spare := sync.Pool{New: func() any { return new(batch) }}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			x := &examiner{hasher: newLeafHasher(), dir: dir}
			for b := range todo {
				x.batch(b)
				close(b.done)
			}
		})
	}
	var readErr error
	wg.Go(func() {
		defer close(ordered)
		defer close(todo)
		fresh := func(first uint64) *batch {
			b := spare.Get().(*batch)
			*b = batch{first: first, data: b.data[:0], ends: b.ends[:0], items: b.items[:0], records: b.records, done: make(chan struct{})}
			return b
		}
		b := fresh(0)
		send := func() error {
			if len(b.ends) == 0 {
				return nil
			}
			select {
			case <-stop:
				return errStop
			case ordered <- b:
			}
			todo <- b // workers go on until it is closed
			b = fresh(b.first + uint64(len(b.ends)))
			return nil
		}
		readErr = read(func(raw []byte) error {
			b.data = append(b.data, raw...)
			if b.ends = append(b.ends, len(b.data)); len(b.ends) < batchRecords && len(b.data) < batchBytes {
				return nil
			}
			return send()
		})
		if !errors.Is(readErr, errStop) {
			readErr = errors.Join(readErr, send())
		}
	})
	var err error
	for b := range ordered {
		<-b.done
		for i := range b.items {
			if err == nil {
				if err = take(&b.items[i]); err != nil {
					close(stop)
				}
			}
		}
		clear(b.items)
		spare.Put(b)
	}
	wg.Wait()
	if err != nil {
		return err
	}
	return readErr
}

func (x *examiner) batch(b *batch) {
	if b.records == nil {
		b.records = make([]Record, batchRecords)
	}
	from := 0
	for i, end := range b.ends {
		it := x.examine(&b.records[i], b.first+uint64(i), b.data[from:end])
		b.items = append(b.items, it)
		if from = end; it.bad != nil {
			return // nobody looks further
		}
	}
}

// examine does what needs no other record. Rec is memory for it.
func (x *examiner) examine(rec *Record, seq uint64, raw []byte) (it item) {
	var e entry
	var stated []byte
	var err error
	if x.dir {
		e, err = parseEntry(raw)
	} else {
		e, stated, err = parseLine(raw, seq)
	}
	if err != nil {
		it.bad = badRecord(seq, "%v", err)
		return it
	}
	leaf := e.leafOf(&x.hasher)
	if it.erased = e.erased; !e.erased {
		if it.bad = x.record(rec, seq, &e, stated, leaf); it.bad != nil {
			return it
		}
		it.rec = rec
	}
	it.node = nodeOf(leaf)
	return it
}

func (x *examiner) record(rec *Record, seq uint64, e *entry, stated []byte, leaf [sha256.Size]byte) *BadRecord {
	switch err := x.parser.parseInto(rec, e.json); {
	case err != nil:
		return badRecord(seq, "%v", err)
	case rec.Seq != seq:
		return badRecord(seq, "in its place is record %d", rec.Seq)
	case !validName(rec.Node):
		return badRecord(seq, "node %q", rec.Node)
	}
	if x.dir {
		if err := checkChange(rec, e.change); err != nil {
			return badRecord(seq, "%v", err)
		}
	}
	if stated != nil && string(stated) != string(leaf[:]) {
		return badRecord(seq, "record, salt and leaf do not belong together: one of them was changed")
	}
	return nil
}

// cosignedLines are the lines of an export that are no records, from who reads it to who has come that far.
type cosignedLines struct {
	mu   sync.Mutex
	seqs []uint64 // guarded by mu: number of the record behind it
	text [][]byte // guarded by mu
}

func (l *cosignedLines) put(seq uint64, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seqs) > 1 { // the second is refused when its turn comes
		return badRecord(seq, "in its place is one more cosigned checkpoint")
	}
	l.seqs, l.text = append(l.seqs, seq), append(l.text, bytes.Clone(line))
	return nil
}

// at takes the next line before record seq; nil: there is none.
func (l *cosignedLines) at(seq uint64) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.seqs {
		if line := l.text[i]; s == seq && line != nil {
			l.text[i] = nil
			return line
		}
	}
	return nil
}
