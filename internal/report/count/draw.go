package count

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"sallyport/internal/audit"
)

// Drawing draws a sample: the records for which SHA-256("sallyport-sample", seed, number) is smallest, where seed and number stand on lines of
// their own. It does not matter in which order they are seen, and anybody can draw the same from an export.
type Drawing struct {
	number int
	class  string
	prefix []byte
	Of     int // admissions that could have been drawn
	Have   []Drawn
}

// Drawn is a record that was drawn.
type Drawn struct {
	lot              [sha256.Size]byte
	Seq              uint64
	Session, Attempt string // as the records' JSON has them
}

// NewDrawing draws so many admissions, of one class or of all, by a seed.
func NewDrawing(number int, class, seed string) *Drawing {
	return &Drawing{number: number, class: class, prefix: []byte("sallyport-sample\n" + seed + "\n")}
}

func (d *Drawing) fresh() *Drawing {
	return &Drawing{number: d.number, class: d.class, prefix: bytes.Clone(d.prefix)}
}

func byLot(a, b Drawn) int {
	return cmp.Or(bytes.Compare(a.lot[:], b.lot[:]), cmp.Compare(a.Seq, b.Seq))
}

// take looks at an admission.
func (d *Drawing) take(g *audit.Glance) {
	if d.number == 0 || d.class != "" && audit.Text(g.Class) != d.class {
		return
	}
	d.Of++
	line := strconv.AppendUint(d.prefix[:len(d.prefix):len(d.prefix)], g.Seq, 10)
	line = append(line, 10)
	c := Drawn{lot: sha256.Sum256(line), Seq: g.Seq}
	if len(d.Have) == d.number && byLot(c, d.Have[len(d.Have)-1]) > 0 {
		return
	}
	c.Session, c.Attempt = string(g.Session), string(g.Attempt)
	d.put(c)
}

func (d *Drawing) put(c Drawn) {
	at, _ := slices.BinarySearchFunc(d.Have, c, byLot)
	d.Have = slices.Insert(d.Have, at, c)
	if len(d.Have) > d.number {
		d.Have = d.Have[:d.number]
	}
}

func (d *Drawing) add(o *Drawing) {
	d.Of += o.Of
	for _, c := range o.Have {
		d.put(c)
	}
}

// MaxTrail bounds the records that are shown of one admission.
const MaxTrail = 300

// Trail is all that is on record of one admission: its attempt and its session.
type Trail struct {
	Drawn
	Records []TrailRecord
	Chunks  int // of its recording, which are counted only
	Left    int
}

// TrailRecord is one record of a trail.
type TrailRecord struct {
	Seq  uint64
	JSON string
}

// Follow reads the records once more, for the trails of what was drawn.
func Follow(ctx context.Context, log Log, next uint64, workers int, have []Drawn) ([]Trail, error) {
	trails := make([]Trail, len(have))
	attempts, sessions := make(map[string][]int), make(map[string][]int)
	for i, c := range have {
		trails[i].Drawn = c
		if c.Attempt != audit.None {
			attempts[c.Attempt] = append(attempts[c.Attempt], i)
		}
		if c.Session != audit.None {
			sessions[c.Session] = append(sessions[c.Session], i)
		}
	}
	if len(have) == 0 {
		return trails, nil
	}
	workers = max(1, min(workers, int(next/leastStretch)))
	found := make([]map[int]*Trail, workers)
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for w := range workers {
		found[w] = make(map[int]*Trail)
		from, to := next*uint64(w)/uint64(workers), next*uint64(w+1)/uint64(workers)
		wait.Go(func() {
			var g audit.Glance
			errs[w] = log.ScanJSON(from, to, func(seq uint64, json []byte) error {
				if seq%lookEvery == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				if json == nil {
					return nil
				}
				if err := g.Read(json); err != nil {
					return fmt.Errorf("record %d: %w", seq, err)
				}
				for _, i := range attempts[string(g.Attempt)] {
					// A login to the gateway opens many Sessions: another session's records are not of this trail.
					if s := string(g.Session); s != audit.None && s != have[i].Session && have[i].Session != audit.None {
						continue
					}
					note(found[w], i, &g, json)
				}
				for _, i := range sessions[string(g.Session)] {
					if string(g.Attempt) != have[i].Attempt {
						note(found[w], i, &g, json)
					}
				}
				return nil
			})
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for w := range workers {
		for i, part := range found[w] {
			t := &trails[i]
			t.Records, t.Chunks, t.Left = append(t.Records, part.Records...), t.Chunks+part.Chunks, t.Left+part.Left
			if n := len(t.Records) - MaxTrail; n > 0 {
				t.Records, t.Left = t.Records[:MaxTrail], t.Left+n
			}
		}
	}
	return trails, nil
}

func note(found map[int]*Trail, i int, g *audit.Glance, json []byte) {
	t := found[i]
	if t == nil {
		t = new(Trail)
		found[i] = t
	}
	switch {
	case string(g.Event) == "recording.chunk":
		t.Chunks++
	case len(t.Records) == MaxTrail:
		t.Left++
	default:
		t.Records = append(t.Records, TrailRecord{g.Seq, string(json)})
	}
}
