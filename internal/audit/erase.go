package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/journal"
)

// EventErase is the event of a record that says which records were erased, and before which time they were made. It is
// durable before they go, and is itself never erased.
const EventErase = "audit.erase"

// The details of such a record. Ranges that do not fit one value go on in ranges_1, ranges_2, ...
const (
	detailBefore = "before" // RFC 3339: all were made before this time
	detailErased = "erased" // how many
	detailRanges = "ranges" // "0-511 513 520-530"
)

// Bounds of one record about erasures.
const (
	maxRangesText  = 4000 // bytes of a value, below MaxValue
	maxRangesTexts = 7    // values; all together below maxDetailBytes
)

// clockSlack is how far a record's time may be ahead of now before nobody believes it. Such a record is kept, and tells
// nothing of the age of others.
const clockSlack = 24 * time.Hour

// ErrNoSnapshot: what is to be erased may be needed by the next start.
var ErrNoSnapshot = errors.New("two whole snapshots must lie behind the records to erase")

// Erasure says what to erase.
type Erasure struct {
	Before time.Time
	// Keep tells of a record that is old enough to go that it must stay (a legal hold). May be nil.
	Keep func(*Record) bool
	// DryRun only counts.
	DryRun bool
	// Announce makes a record with these details, event EventErase, durable. Only then are the records erased.
	Announce func(details []Detail) error
	// Rewritten is called when a segment stands anew, with its entries that were erased or have another place. May be nil.
	Rewritten func(ctx context.Context, segment journal.Finished) error
}

// Erased says what an erasure did, or would do.
type Erased struct {
	Erased  uint64  `json:"erased"`
	Held    uint64  `json:"held"`    // that are old enough, and stay
	Earlier uint64  `json:"earlier"` // that were erased before
	Ranges  []Range `json:"ranges"`  // the first MaxErasedRanges
	Bytes   int64   `json:"bytes"`   // that the journal became smaller by
}

// Erase erases the content of the records that were made before a time, and leaves their leaves, so that the tree is what
// it was. It goes through the log from its beginning to the first record that is not older: a record whose time was wrong
// does not go before those around it. Kept are those that Keep names, and those of erasures.
//
// It works segment by segment: first the record of what goes, then the new segment in the place of the old. A crash between
// the two leaves a record of more than was erased, and the next call does the rest.
//
// Nothing is erased that a start may have to replay: two snapshots must lie behind it, since the newest may turn out damaged.
func (l *Log) Erase(ctx context.Context, o Erasure) (Erased, error) {
	l.erasing.Lock()
	defer l.erasing.Unlock()
	var sum Erased
	if !o.Before.Before(l.o.Now()) {
		return sum, fmt.Errorf("erasing records from before %s: that is not in the past", o.Before.UTC().Format(time.RFC3339))
	}
	var snapshots []uint64
	for at := uint64(0); ; {
		seg, ok := l.segmentAt(at)
		if !ok {
			return sum, nil
		}
		plan, err := l.planErasure(ctx, seg, &o)
		if err != nil {
			return sum, err
		}
		sum.Held += plan.held
		sum.Earlier += plan.earlier
		if plan.goes > 0 && !o.DryRun {
			if !seg.finished {
				if err := l.journal.Finish(); err != nil {
					return sum, fmt.Errorf("erasing records: %w", err)
				}
				if seg, ok = l.segmentAt(at); !ok || !seg.finished {
					return sum, fmt.Errorf("erasing records: the segment of record %d was not finished", at)
				}
			}
			if snapshots == nil { // once is enough: later ones lie further behind
				if snapshots, err = l.journal.Snapshots(); err != nil {
					return sum, fmt.Errorf("erasing records: %w", err)
				}
			}
			saved, err := l.eraseIn(ctx, seg.Finished, snapshots, plan.ranges, &o)
			sum.Bytes += saved
			if err != nil {
				return sum, fmt.Errorf("erasing records %d to %d: %w", plan.ranges[0].First, plan.ranges[len(plan.ranges)-1].Last, err)
			}
		}
		sum.Erased += plan.goes
		for _, r := range plan.ranges {
			sum.Ranges = AppendRange(sum.Ranges, r, MaxErasedRanges)
		}
		if plan.young {
			return sum, nil
		}
		at = seg.Next
	}
}

// part is a segment as an erasure sees it.
type part struct {
	journal.Finished
	finished bool
}

// segmentAt is the segment that begins with record at.
func (l *Log) segmentAt(at uint64) (part, bool) {
	next := uint64(0)
	for _, s := range l.journal.Finished() {
		if s.First == at {
			return part{s, true}, true
		}
		next = s.Next
	}
	if end := l.journal.Next(); at == next && end > at {
		return part{Finished: journal.Finished{First: at, Next: end}}, true
	}
	return part{}, false
}

// erasurePlan is what goes of one segment.
type erasurePlan struct {
	goes, held, earlier uint64
	ranges              []Range
	young               bool // a record that is not old enough was met
}

func (l *Log) planErasure(ctx context.Context, seg part, o *Erasure) (p erasurePlan, err error) {
	var parser parser
	doubtful := l.o.Now().Add(clockSlack)
	err = l.journal.Scan(seg.First, func(index uint64, _ journal.Position, payload []byte) error {
		if index >= seg.Next {
			return errStop
		}
		if index%progressEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rec, err := readRecord(&parser, index, payload)
		switch {
		case err != nil:
			return fmt.Errorf("record %d: %w", index, err)
		case rec == nil:
			p.earlier++
		case rec.Time.After(doubtful):
			p.held++
		case !rec.Time.Before(o.Before):
			p.young = true
			return errStop
		case rec.Event == EventErase:
		case o.Keep != nil && o.Keep(rec):
			p.held++
		default:
			p.goes++
			p.ranges = AppendRange(p.ranges, Range{index, index}, 0)
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return p, err
}

// AppendRange adds a range after the others, at most so many of them, 0: any number.
func AppendRange(all []Range, r Range, most int) []Range {
	if n := len(all); n > 0 && all[n-1].Last+1 == r.First {
		all[n-1].Last = r.Last
		return all
	} else if most > 0 && n >= most {
		return all
	}
	return append(all, r)
}

// eraseIn erases ranges of one segment, all of which it holds.
func (l *Log) eraseIn(ctx context.Context, seg journal.Finished, snapshots []uint64, ranges []Range, o *Erasure) (saved int64, err error) {
	if last := ranges[len(ranges)-1].Last; len(snapshots) < 2 || snapshots[0] <= last {
		return 0, fmt.Errorf("%w: there are %d, the oldest at record %d", ErrNoSnapshot, len(snapshots), slices.Min(append(snapshots, l.journal.Next())))
	}
	for rest := ranges; len(rest) > 0; {
		var details []Detail
		details, rest = eraseDetails(rest, o.Before)
		if err := o.Announce(details); err != nil {
			return 0, fmt.Errorf("recording it first: %w", err)
		}
	}
	left := ranges
	err = l.journal.Rewrite(seg.First, func(index uint64, payload []byte) ([]byte, error) {
		if index%progressEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for len(left) > 0 && left[0].Last < index {
			left = left[1:]
		}
		if len(left) == 0 || index < left[0].First {
			return payload, nil
		}
		return Erase(payload)
	})
	if err != nil {
		return 0, err
	}
	for _, now := range l.journal.Finished() {
		if now.First != seg.First {
			continue
		}
		saved = seg.Size - now.Size
		if o.Rewritten != nil {
			err = o.Rewritten(ctx, now)
		}
	}
	return saved, err
}

// eraseDetails puts as many of the ranges as fit into the details of one record.
func eraseDetails(ranges []Range, before time.Time) (details []Detail, rest []Range) {
	var text []byte
	count := uint64(0)
	values := 0
	flush := func() {
		key := detailRanges
		if values > 0 {
			key += "_" + strconv.Itoa(values)
		}
		details = append(details, Detail{key, string(text)})
		text = text[:0]
		values++
	}
	for len(ranges) > 0 {
		r := ranges[0]
		if len(text)+2*len("18446744073709551615 ") > maxRangesText {
			flush()
			if values == maxRangesTexts {
				break
			}
		}
		if len(text) > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendUint(text, r.First, 10)
		if r.Last > r.First {
			text = append(text, '-')
			text = strconv.AppendUint(text, r.Last, 10)
		}
		count += r.Last - r.First + 1
		ranges = ranges[1:]
	}
	if len(text) > 0 {
		flush()
	}
	details = append(details,
		Detail{detailBefore, before.UTC().Format("2006-01-02T15:04:05.000Z")},
		Detail{detailErased, strconv.FormatUint(count, 10)})
	return details, ranges
}

var errErasure = errors.New("a record of an erasure that cannot be read")

// Erasures is what a record of the event EventErase says.
type Erasures struct {
	Seq    uint64    `json:"record"`
	Time   time.Time `json:"time"`
	Before time.Time `json:"before"`
	Erased uint64    `json:"erased"`
	Ranges []Range   `json:"ranges"`
}

// ParseErasure reads a record of the event EventErase.
func ParseErasure(rec *Record) (e Erasures, err error) {
	e.Seq, e.Time = rec.Seq, rec.Time
	if rec.Event != EventErase {
		return e, fmt.Errorf("record %d: %w: its event is %s", rec.Seq, errErasure, rec.Event)
	}
	bad := func(what string) (Erasures, error) {
		return e, fmt.Errorf("record %d: %w: %s", rec.Seq, errErasure, what)
	}
	stated := uint64(0)
	for _, d := range rec.Detail {
		switch {
		case d.Key == detailBefore:
			if e.Before, err = time.Parse(time.RFC3339, d.Value); err != nil {
				return bad("before")
			}
		case d.Key == detailErased:
			if stated, err = strconv.ParseUint(d.Value, 10, 64); err != nil {
				return bad("erased")
			}
		case d.Key == detailRanges || strings.HasPrefix(d.Key, detailRanges+"_"):
			for _, word := range strings.Fields(d.Value) {
				a, b, two := strings.Cut(word, "-")
				if !two {
					b = a
				}
				first, err1 := strconv.ParseUint(a, 10, 64)
				last, err2 := strconv.ParseUint(b, 10, 64)
				if cmp.Or(err1, err2) != nil || last < first || last >= rec.Seq {
					return bad(fmt.Sprintf("range %.50q", word))
				}
				e.Ranges = append(e.Ranges, Range{first, last})
				e.Erased += last - first + 1
			}
		}
	}
	if e.Before.IsZero() || stated != e.Erased || len(e.Ranges) == 0 {
		return bad(fmt.Sprintf("it says that %d went, and names %d", stated, e.Erased))
	}
	return e, nil
}

// Find returns record seq, which stood at pos once; nil when it is erased.
func (l *Log) Find(seq uint64, pos journal.Position) (*Record, error) {
	payload, _, err := l.journal.Find(seq, pos)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	var p parser
	rec, err := readRecord(&p, seq, payload)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", seq, err)
	}
	return rec, nil
}

// ScanFrom is Scan for somebody who knows where record from stands, or stood.
func (l *Log) ScanFrom(from uint64, pos journal.Position, fn func(*Record) error) error {
	var p parser
	return l.journal.ScanFrom(from, pos, func(index uint64, _ journal.Position, payload []byte) error {
		rec, err := readRecord(&p, index, payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		if rec == nil {
			return nil
		}
		return fn(rec)
	})
}

// ScanAll is Scan that tells of erased records too: rec is nil.
func (l *Log) ScanAll(from uint64, fn func(seq uint64, rec *Record, pos journal.Position) error) error {
	if from >= l.journal.Next() {
		return nil
	}
	var p parser
	return l.journal.Scan(from, func(index uint64, pos journal.Position, payload []byte) error {
		rec, err := readRecord(&p, index, payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		return fn(index, rec, pos)
	})
}

// Rewritten lists the segments in which records were erased.
func (l *Log) Rewritten() []journal.Finished {
	return slices.DeleteFunc(l.journal.Finished(), func(s journal.Finished) bool { return !s.Rewritten })
}
