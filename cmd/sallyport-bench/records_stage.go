package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/term"

	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/store"
)

// recordsWord is the hidden subcommand that runs one stage: its name, the folder, the number of records, and the file for a
// CPU profile, which gets the stage's name behind its own (empty: none).
const recordsWord = "records-stage"

// The titles of those stages that are judged.
const (
	titleIngest       = "recording"
	titleCold         = "start, without a snapshot"
	titleWarm         = "start, from a snapshot"
	titleIndex        = "indexing"
	titleVerify       = "verify, the journal"
	titleVerifyExport = "verify, the export"
)

// stages are in the order in which each finds what it needs.
var stages = []struct {
	name, title, says string
	run               func(context.Context, *stage) error
}{
	{"ingest", titleIngest, "recording", ingest},
	{"start", titleCold, "starting without a snapshot", startCold},
	{"start-snapshot", titleWarm, "starting from a snapshot", startWarm},
	{"index", titleIndex, "indexing", buildIndex},
	{"verify", titleVerify, "verifying the journal", verifyJournal},
	{"export", "export", "exporting", exportAll},
	{"verify-export", titleVerifyExport, "verifying the export", verifyExported},
	{"search", "searches", "searching", searchAll},
}

// stage is one at work.
type stage struct {
	dir     string
	records uint64
	bar     *bar
	run     stageRun
	// done is called when what is measured has ended; what is put away after it does not count.
	done func()
}

func (s *stage) at(name string) string { return filepath.Join(s.dir, name) }

func runStage(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) != 4 {
		return errors.New("want a stage, a folder, a number of records and a file")
	}
	n, err := strconv.ParseUint(args[2], 10, 63)
	if err != nil {
		return err
	}
	for _, known := range stages {
		if known.name != args[0] {
			continue
		}
		s := &stage{dir: args[1], records: n, bar: newBar(stderr, known.says, n)}
		s.run.Stage, s.run.Records = known.title, n
		if err := s.measure(ctx, known.run, args[3], known.name); err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(s.run)
	}
	return fmt.Errorf("there is no stage %q", args[0])
}

func (s *stage) measure(ctx context.Context, run func(context.Context, *stage) error, profile, name string) error {
	if profile != "" {
		f, err := os.Create(profile + "." + name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	w := watcher{pid: os.Getpid()}
	w.begin()
	begin := time.Now()
	ended := false
	s.done = func() {
		if !ended {
			ended = true
			s.run.Seconds = time.Since(begin).Seconds()
			w.end()
		}
	}
	err := run(ctx, s)
	s.done()
	w.rest()
	s.bar.end()
	s.run.CPU, s.run.Anon = over(micros(w.used), float64(s.run.Records)), w.most.Anon
	if !math.IsNaN(w.idle) { // a stage that took no tick of the system's clock has no share of it
		s.run.Idle = w.idle
	}
	return errors.Join(err, w.err)
}

// bar shows on a terminal how far a stage is.
type bar struct {
	w     io.Writer
	what  string
	total uint64
	on    bool
	next  time.Time
}

func newBar(w io.Writer, what string, total uint64) *bar {
	f, ok := w.(*os.File)
	return &bar{w: w, what: what, total: total, on: ok && term.IsTerminal(int(f.Fd()))}
}

func (b *bar) at(n uint64) {
	const every = 200 * time.Millisecond
	if !b.on || time.Now().Before(b.next) {
		return
	}
	b.next = time.Now().Add(every)
	const width = 40
	full := int(min(n, b.total) * width / max(b.total, 1))
	fmt.Fprintf(b.w, "\r%s [%s%s] %s of %s", b.what, strings.Repeat("#", full), strings.Repeat(".", width-full), thousands(int(n)), thousands(int(b.total)))
}

func (b *bar) end() {
	if b.on {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// options are those of the log in the folder, whose key is made when there is none.
func (s *stage) options() (o audit.Options, err error) {
	key, err := os.ReadFile(s.at("key"))
	if errors.Is(err, fs.ErrNotExist) {
		skey, vkey, err := audit.NewKey("bench")
		if err != nil {
			return o, err
		}
		key = []byte(skey + "\n" + vkey)
		if err := os.WriteFile(s.at("key"), key, 0o600); err != nil {
			return o, err
		}
	} else if err != nil {
		return o, err
	}
	skey, vkey, _ := strings.Cut(string(key), "\n")
	o = audit.Options{Dir: s.at("journal"), CheckpointFile: s.at("checkpoint"), Node: "bench", Now: time.Now}
	if o.Signer, err = note.NewSigner(skey); err != nil {
		return o, err
	}
	o.Verifier, err = note.NewVerifier(vkey)
	return o, err
}

// size is what a file or a folder takes.
func (s *stage) size(names ...string) (sum int64, err error) {
	for _, name := range names {
		err := filepath.WalkDir(s.at(name), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sum += info.Size()
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// ingestBatch is how many records wait for the disk together: as many as a gateway has under load.
const ingestBatch = 512

// ingestion is a batch's memory, which is used again.
type ingestion struct {
	records [ingestBatch]audit.Record
	pending [ingestBatch]audit.Pending
	n       int
}

// ingest makes the records. While one batch is made, the one before becomes durable.
func ingest(ctx context.Context, s *stage) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	log, err := audit.Open(o)
	if err != nil {
		return err
	}
	free, full, failed := make(chan *ingestion, 3), make(chan *ingestion, 3), make(chan error, 1)
	for range cap(free) {
		free <- new(ingestion)
	}
	go func() {
		var err error
		for b := range full {
			for i := range b.n {
				if _, waited := b.pending[i].Wait(); err == nil {
					err = waited
				}
			}
			free <- b
		}
		failed <- err
	}()
	t := newYear(s.records)
	for left := s.records; left > 0 && ctx.Err() == nil; {
		b := <-free
		b.n = int(min(left, ingestBatch))
		for i := range b.n {
			t.next(&b.records[i])
			log.Submit(&b.pending[i], &b.records[i], nil)
		}
		full <- b
		left -= uint64(b.n)
		s.bar.at(s.records - left)
	}
	close(full)
	err = errors.Join(<-failed, ctx.Err(), log.Close())
	s.done()
	if err == nil {
		s.run.Bytes, err = s.size("journal")
	}
	return err
}

// startFrom says that a start is to take its state from the snapshot at the log's end, so that nothing is replayed.
func (s *stage) startFrom(o audit.Options) (*audit.Log, error) {
	o.Restore = func([]byte) error { return nil }
	return audit.Open(o)
}

// buildIndex does as the gateway's indexer does when the index is missing.
func buildIndex(ctx context.Context, s *stage) error {
	x, err := store.OpenIndex(ctx, s.at("index.db"))
	if err != nil {
		return err
	}
	o, err := s.options()
	if err != nil {
		return errors.Join(err, x.Close())
	}
	log, err := s.startFrom(o)
	if err != nil {
		return errors.Join(err, x.Close())
	}
	const size = 2048 // indexBatch of cmd/sallyport
	entries := make([]store.Entry, 0, size)
	add := func() error {
		err := x.Add(ctx, entries)
		entries = entries[:0]
		return err
	}
	err = log.Scan(0, func(rec *audit.Record, pos journal.Position) error {
		entries = append(entries, store.Entry{
			Seq: rec.Seq, Segment: pos.Segment, Offset: pos.Offset, Time: rec.Time, Event: rec.Event, Result: string(rec.Result),
			Person: rec.Person, System: rec.System, Source: rec.Source,
		})
		if len(entries) < size {
			return nil
		}
		s.bar.at(rec.Seq)
		return add()
	})
	if err == nil {
		err = add()
	}
	err = errors.Join(err, x.Close(), log.Close())
	s.done()
	if err == nil {
		s.run.Bytes, err = s.size("index.db")
	}
	return err
}

// verifyJournal is `audit verify` of the live log.
func verifyJournal(_ context.Context, s *stage) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	r, err := audit.VerifyDir(o.Dir, o.CheckpointFile, o.Verifier, s.bar.at)
	s.done()
	s.run.Hashed = hashing()
	return s.sound(r, err)
}

func (s *stage) sound(r audit.Report, err error) error {
	if err == nil && r.Size != s.records {
		err = fmt.Errorf("%d records verify: want %d", r.Size, s.records)
	}
	return err
}

// hashing is the CPU time in us for the hashes of one record of a typical length: its leaf, the leaf's hash, and the one inner hash
// that each record completes in the mean.
func hashing() float64 {
	const typical, times = 800, 200_000
	data := make([]byte, 16+typical)
	var a tlog.Hash
	begin := ownCPU()
	for range times {
		leaf := sha256.Sum256(data)
		a = tlog.NodeHash(a, tlog.RecordHash(leaf[:]))
	}
	return micros(ownCPU()-begin) / times
}

func exportAll(ctx context.Context, s *stage) (err error) {
	o, err := s.options()
	if err != nil {
		return err
	}
	log, err := s.startFrom(o)
	if err != nil {
		return err
	}
	f, err := os.Create(s.at("export.jsonl"))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	err = errors.Join(log.Export(f), f.Close(), log.Close(), ctx.Err())
	s.done()
	if err == nil {
		s.run.Bytes, err = s.size("export.jsonl")
	}
	return err
}

func verifyExported(_ context.Context, s *stage) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	f, err := os.Open(s.at("export.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := audit.VerifyExport(f, o.Verifier, s.bar.at)
	s.done()
	return s.sound(r, errors.Join(err, os.Remove(f.Name())))
}

// open is a start as serve does it, with the gate's state.
func (s *stage) open() (*login.Gate, *audit.Log, uint64, error) {
	gate, err := login.New(login.Options{Now: time.Now, Policy: &login.Policy{}, Blind: func(string) string { return "" }})
	if err != nil {
		return nil, nil, 0, err
	}
	o, err := s.options()
	if err != nil {
		return nil, nil, 0, err
	}
	replayed := uint64(0)
	o.Restore = gate.Restore
	o.Replay = func(rec *audit.Record, _ []byte) error {
		replayed++
		s.bar.at(rec.Seq)
		return gate.Replay(rec)
	}
	log, err := audit.Open(o)
	if err != nil {
		return nil, nil, 0, err
	}
	gate.SetLog(log)
	return gate, log, replayed, nil
}

// startCold starts with no snapshot, and leaves one.
func startCold(_ context.Context, s *stage) error {
	gate, log, replayed, err := s.open()
	if err != nil {
		return err
	}
	s.done()
	if replayed != s.records {
		err = fmt.Errorf("%d records were replayed: want %d", replayed, s.records)
	}
	return errors.Join(err, gate.Snapshot(log.Snapshot), log.Close())
}

func startWarm(_ context.Context, s *stage) error {
	_, log, replayed, err := s.open()
	if err != nil {
		return err
	}
	s.done()
	if replayed != 0 {
		err = fmt.Errorf("%d records were replayed from a snapshot at the end", replayed)
	}
	return errors.Join(err, log.Close())
}

// searches is how many of each kind are made.
const searches = 200

// finder searches as the gateway does: the places from the index, each record from the journal.
type finder struct {
	ctx   context.Context
	index *store.Index
	log   *audit.Log
}

// newest is `audit search --limit`; all, without a limit, a page at a time.
func (f *finder) newest(q store.Query, limit int) (int, error) {
	q.NewestFirst, q.Limit = true, limit
	hits, err := f.index.Search(f.ctx, q)
	if err != nil {
		return 0, err
	}
	return len(hits), f.read(hits, q)
}

func (f *finder) all(q store.Query) (n int, err error) {
	q.Limit = 1000 // page of cmd/sallyport
	for more := true; more; {
		hits, err := f.index.Search(f.ctx, q)
		if err != nil {
			return n, err
		}
		if err := f.read(hits, q); err != nil {
			return n, err
		}
		n += len(hits)
		q, more = q.Following(hits)
	}
	return n, nil
}

func (f *finder) places(q store.Query) (n int, err error) {
	q.Limit = store.MaxHits
	hits, err := f.index.Search(f.ctx, q)
	return len(hits), err
}

func (f *finder) read(hits []store.Hit, q store.Query) error {
	for _, h := range hits {
		rec, err := f.log.Read(journal.Position{Segment: h.Segment, Offset: h.Offset})
		if err != nil {
			return err
		}
		if rec.Seq != h.Seq || q.Person != "" && rec.Person != q.Person {
			return fmt.Errorf("the index says that record %d is of %q, and it is record %d of %q", h.Seq, q.Person, rec.Seq, rec.Person)
		}
	}
	return nil
}

// shown is how many records are looked at, of the newest.
const shown = 100

func searchAll(ctx context.Context, s *stage) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	log, err := s.startFrom(o)
	if err != nil {
		return err
	}
	x, err := store.OpenIndex(ctx, s.at("index.db"))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	f := &finder{ctx, x, log}
	rng := rand.New(rand.NewPCG(3, 4))
	person := func() store.Query { return store.Query{Person: trustPerson(rng.IntN(trustPeople))} }
	day := func() store.Query {
		since := trustBegin.AddDate(0, 0, rng.IntN(365))
		return store.Query{Since: since, Until: since.AddDate(0, 0, 1)}
	}
	both := func() store.Query {
		q := day()
		q.Person = person().Person
		return q
	}
	s.run.Records = 0
	for _, kind := range []struct {
		what string
		ask  func() store.Query
		find func(store.Query) (int, error)
	}{
		{"a person's newest 100 records", person, func(q store.Query) (int, error) { return f.newest(q, shown) }},
		{"all of a person's records", person, f.all},
		{"a day's newest 100 records", day, func(q store.Query) (int, error) { return f.newest(q, shown) }},
		{"all places of a day", day, f.places},
		{"all of a day's records", day, f.all},
		{"a person's records of a day", both, f.all},
		{"somebody who never came", func() store.Query { return store.Query{Person: "nobody@trust.example"} }, f.all},
	} {
		took := make([]int64, 0, searches)
		figure := findFigure{What: kind.what, N: searches}
		before := ownCPU()
		for i := range searches {
			if err = ctx.Err(); err != nil {
				break
			}
			q := kind.ask()
			begin := time.Now()
			n, failed := kind.find(q)
			if err = failed; err != nil {
				break
			}
			took = append(took, int64(time.Since(begin)))
			figure.Hits += float64(n) / searches
			s.run.Records++
			s.bar.at(s.records * uint64(i) / searches)
		}
		if err != nil {
			break
		}
		slices.Sort(took)
		figure.CPU = micros(ownCPU()-before) / 1e3 / searches
		figure.P50, figure.P99, figure.Max = float64(percentile(took, 50))/1e6, float64(percentile(took, 99))/1e6, float64(took[len(took)-1])/1e6
		s.run.Finds = append(s.run.Finds, figure)
	}
	s.done()
	return errors.Join(err, x.Close(), log.Close())
}
