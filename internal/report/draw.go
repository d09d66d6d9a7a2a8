package report

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

// drawing draws a sample: the records for which SHA-256("sallyport-sample", seed, number) is smallest, where seed and number stand on lines of
// their own. It does not matter in which order they are seen, and anybody can draw the same from an export.
type drawing struct {
	number int
	class  string
	prefix []byte
	of     int // admissions that could have been drawn
	have   []drawn
}

type drawn struct {
	lot              [sha256.Size]byte
	seq              uint64
	session, attempt string // as the records' JSON has them
}

func newDrawing(r *Request) *drawing {
	return &drawing{number: r.Number, class: r.Class, prefix: []byte("sallyport-sample\n" + r.Seed + "\n")}
}

func (d *drawing) fresh() *drawing {
	return &drawing{number: d.number, class: d.class, prefix: bytes.Clone(d.prefix)}
}

func byLot(a, b drawn) int {
	return cmp.Or(bytes.Compare(a.lot[:], b.lot[:]), cmp.Compare(a.seq, b.seq))
}

// take looks at an admission.
func (d *drawing) take(g *audit.Glance) {
	if d.number == 0 || d.class != "" && audit.Text(g.Class) != d.class {
		return
	}
	d.of++
	line := strconv.AppendUint(d.prefix[:len(d.prefix):len(d.prefix)], g.Seq, 10)
	line = append(line, 10)
	c := drawn{lot: sha256.Sum256(line), seq: g.Seq}
	if len(d.have) == d.number && byLot(c, d.have[len(d.have)-1]) > 0 {
		return
	}
	c.session, c.attempt = string(g.Session), string(g.Attempt)
	d.put(c)
}

func (d *drawing) put(c drawn) {
	at, _ := slices.BinarySearchFunc(d.have, c, byLot)
	d.have = slices.Insert(d.have, at, c)
	if len(d.have) > d.number {
		d.have = d.have[:d.number]
	}
}

func (d *drawing) add(o *drawing) {
	d.of += o.of
	for _, c := range o.have {
		d.put(c)
	}
}

// maxTrail bounds the records that are shown of one admission.
const maxTrail = 300

// trail is all that is on record of one admission: its attempt and its session.
type trail struct {
	drawn
	records []trailed
	chunks  int // of its recording, which are counted only
	left    int
}

type trailed struct {
	seq  uint64
	json string
}

// follow reads the records once more, for the trails of what was drawn.
func follow(ctx context.Context, log Log, next uint64, workers int, have []drawn) ([]trail, error) {
	trails := make([]trail, len(have))
	attempts, sessions := make(map[string][]int), make(map[string][]int)
	for i, c := range have {
		trails[i].drawn = c
		if c.attempt != audit.None {
			attempts[c.attempt] = append(attempts[c.attempt], i)
		}
		if c.session != audit.None {
			sessions[c.session] = append(sessions[c.session], i)
		}
	}
	if len(have) == 0 {
		return trails, nil
	}
	workers = max(1, min(workers, int(next/leastStretch)))
	found := make([]map[int]*trail, workers)
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for w := range workers {
		found[w] = make(map[int]*trail)
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
					// A login to the gateway opens many sessions: another session's records are not of this trail.
					if s := string(g.Session); s != audit.None && s != have[i].session && have[i].session != audit.None {
						continue
					}
					note(found[w], i, &g, json)
				}
				for _, i := range sessions[string(g.Session)] {
					if string(g.Attempt) != have[i].attempt {
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
			t.records, t.chunks, t.left = append(t.records, part.records...), t.chunks+part.chunks, t.left+part.left
			if n := len(t.records) - maxTrail; n > 0 {
				t.records, t.left = t.records[:maxTrail], t.left+n
			}
		}
	}
	return trails, nil
}

func note(found map[int]*trail, i int, g *audit.Glance, json []byte) {
	t := found[i]
	if t == nil {
		t = new(trail)
		found[i] = t
	}
	switch {
	case string(g.Event) == "recording.chunk":
		t.chunks++
	case len(t.records) == maxTrail:
		t.left++
	default:
		t.records = append(t.records, trailed{g.Seq, string(json)})
	}
}
