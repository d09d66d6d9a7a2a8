package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/journal"
	"sallyport/internal/store"
)

// What a log of many records costs: making it, its size, verifying and searching it, starting with it and erasing what is old. The
// log is made by the gateway's own packages, in its real format: logins of 2,000 people at 60 systems, spread over recordDays.
const (
	recordPeople  = 2000
	recordSystems = 60
	recordDays    = 460 // the retention's 400 days, and some to erase
	recordBatch   = 4096
	recordAsks    = 100 // searches of each kind
)

// recordBench is one run of it.
type recordBench struct {
	n            int
	dir, binary  string
	data, conf   string
	out          io.Writer
	begin, until time.Time
}

func runRecords(ctx context.Context, n int, dir, binary string, out, progress io.Writer) (err error) {
	parent := dir
	if dir, err = os.MkdirTemp(parent, "sallyport-records-"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &recordBench{n: n, dir: dir, binary: binary, out: out, until: time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)}
	b.begin = b.until.Add(-recordDays * 24 * time.Hour)
	if b.binary == "" {
		fmt.Fprintln(progress, "building the gateway")
		if b.binary, err = buildGateway(ctx, dir); err != nil {
			return err
		}
	}
	gw := filepath.Join(dir, "gw")
	if err := command(ctx, b.binary, "init", gw); err != nil {
		return err
	}
	b.data, b.conf = filepath.Join(gw, "data"), filepath.Join(gw, "sallyport.yaml")
	for _, begun := range []string{"journal", "records.db", "sallyport.db", "checkpoint", "checkpoint.synced"} { // nothing is older than what is made here
		if err := os.RemoveAll(filepath.Join(b.data, begun)); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf(gatewayConf, "", 0, strings.Repeat("s", 24), "", "")
	if err := os.WriteFile(b.conf, []byte(conf), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(out, "| what | found |\n|---|---|\n")
	for _, step := range []func(context.Context) error{b.make, b.starts, b.verify, b.searches, b.verify, b.retain, b.verify} {
		if err := step(ctx); err != nil {
			return err
		}
		fmt.Fprintf(progress, "%s\n", time.Now().Format(time.TimeOnly))
	}
	return nil
}

func (b *recordBench) row(what, format string, args ...any) {
	fmt.Fprintf(b.out, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// make makes the log and its index.
func (b *recordBench) make(ctx context.Context) error {
	secret, err := os.ReadFile(filepath.Join(b.data, "keys", "audit.key"))
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	public, err := os.ReadFile(filepath.Join(b.data, "keys", "audit.pub"))
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(public)))
	if err != nil {
		return err
	}
	x, err := store.OpenIndex(ctx, filepath.Join(b.data, "records.db"))
	if err != nil {
		return err
	}
	var entries []store.Entry
	pending, recs := make([]audit.Pending, recordBatch), make([]audit.Record, recordBatch)
	places := make(map[uint64]journal.Position, recordBatch)
	log, err := audit.Open(audit.Options{
		Dir: filepath.Join(b.data, "journal"), CheckpointFile: filepath.Join(b.data, "checkpoint"), Node: "bench", Signer: signer, Verifier: verifier, Now: time.Now,
		Durable: func(rec *audit.Record, pos journal.Position) { places[rec.Seq] = pos },
	})
	if err != nil {
		return errors.Join(err, x.Close())
	}
	var ingest, index time.Duration
	r := rand.New(rand.NewPCG(1, 2))
	for made := 0; made < b.n; {
		k := min(recordBatch, b.n-made)
		start := time.Now()
		for i := range k {
			b.record(r, &recs[i], made+i)
			log.Submit(&pending[i], &recs[i], nil)
		}
		for i := range k {
			if _, err := pending[i].Wait(); err != nil {
				return err
			}
		}
		ingest += time.Since(start)
		entries = entries[:0]
		for i := range k {
			rec := &recs[i]
			pos := places[rec.Seq]
			entries = append(entries, store.Entry{
				Seq: rec.Seq, Segment: pos.Segment, Offset: pos.Offset, Time: rec.Time, Event: rec.Event, Result: string(rec.Result), Person: rec.Person,
				System: rec.System, Source: rec.Source,
			})
		}
		clear(places)
		start = time.Now()
		if err := x.Add(ctx, entries); err != nil {
			return err
		}
		index += time.Since(start)
		made += k
	}
	if err := errors.Join(log.Close(), x.Close()); err != nil {
		return err
	}
	b.row("ingest, batches of 4,096", "%s records/s", per(b.n, ingest))
	b.row("index, behind it", "%s records/s", per(b.n, index))
	return b.sizes()
}

func (b *recordBench) sizes() error {
	var bytes [2]int64
	for i, name := range []string{"journal", "records.db"} {
		err := filepath.WalkDir(filepath.Join(b.data, name), func(_ string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				bytes[i] += info.Size()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	b.row("size of a record", "%d bytes in the journal, %.1f in the index", bytes[0]/int64(b.n), float64(bytes[1])/float64(b.n))
	return nil
}

// record is like most that there will be.
func (b *recordBench) record(r *rand.Rand, rec *audit.Record, i int) {
	p := r.IntN(recordPeople)
	person, token := fmt.Sprintf("person%04d", p), fmt.Sprintf("tok-%04d", p)
	at := b.begin.Add(time.Duration(float64(b.until.Sub(b.begin)) * float64(i) / float64(b.n)))
	*rec = audit.Record{
		Time: at, Event: "login", Result: audit.Accept, Reason: "ok", Person: person, PersonKind: "staff", Login: person, Protocol: "radius",
		Source: fmt.Sprintf("10.20.%d.%d", p%7, p%251), System: fmt.Sprintf("system-%02d", r.IntN(recordSystems)), Class: "remote",
		Rule: "network team", Attempt: fmt.Sprintf("018f6f3e-7b1a-7c3d-9e2f-%012x", i),
		Factors: []audit.Factor{{Kind: "know", Method: "password", Result: "ok"}, {Kind: "have", Method: "totp", Token: token, Result: "ok"}},
		Detail:  []audit.Detail{{Key: "client", Value: "vpn-leeds"}, {Key: "nas_ip", Value: "10.20.0.1"}, {Key: "source_port", Value: "49152"}},
		Effects: []audit.Effect{{Set: "token.step", ID: token, Value: int64(i)}},
	}
	if i%20 == 19 {
		rec.Result, rec.Reason, rec.Effects = audit.Reject, "code_wrong", nil
	}
}

func per(n int, d time.Duration) string { return fmt.Sprintf("%.0f", float64(n)/d.Seconds()) }

// starts starts the gateway twice: with every record to replay, and from the snapshot that the first one left.
func (b *recordBench) starts(ctx context.Context) error {
	for _, what := range []string{"start, every record replayed", "start, from a snapshot"} {
		start := time.Now()
		if err := b.serving(ctx, func(context.Context) error { b.row(what, "%.2f s", time.Since(start).Seconds()); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// serving runs something while the gateway serves.
func (b *recordBench) serving(ctx context.Context, do func(context.Context) error) error {
	cmd := exec.CommandContext(ctx, b.binary, "-c", b.conf, "serve")
	errs, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var said strings.Builder
	lines := bufio.NewScanner(errs)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "msg=ready")
		fmt.Fprintln(&said, lines.Text())
	}
	if ready {
		err = do(ctx)
	} else {
		err = fmt.Errorf("the gateway did not start:\n%s", said.String())
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, errs)
	if e := cmd.Wait(); err == nil {
		err = e
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.row("memory of the gateway, at most", "%d MiB", usage.Maxrss>>10)
	}
	return err
}

// tool runs a command of the gateway, and tells what it took.
func (b *recordBench) tool(ctx context.Context, what string, n int, args ...string) error {
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"-c", b.conf}, args...)...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", what, err, out)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	b.row(what, "%s records/s (%.1f s, %.1f s of CPU, %d MiB)", per(n, took), took.Seconds(), cpu.Seconds(), usage.Maxrss>>10)
	return nil
}

func (b *recordBench) verify(ctx context.Context) error {
	return b.tool(ctx, "`audit verify`", b.n, "audit", "verify")
}

func (b *recordBench) retain(ctx context.Context) error {
	return b.tool(ctx, "`audit retain`, of all records; 60 of 460 days are erased", b.n, "audit", "retain")
}

// searches asks the running gateway over its socket.
func (b *recordBench) searches(ctx context.Context) error {
	return b.serving(ctx, func(ctx context.Context) error {
		client := admin.NewClient(filepath.Join(b.data, "sallyport.sock"))
		defer client.Close()
		r := rand.New(rand.NewPCG(3, 4))
		person := func() string { return fmt.Sprintf("person%04d", r.IntN(recordPeople)) }
		day := func() time.Time { return b.begin.Add(time.Duration(r.IntN(recordDays-1)) * 24 * time.Hour) }
		for _, s := range []struct {
			what string
			asks int
			in   func() admin.AuditSearch
		}{
			{"a person, the newest 100", recordAsks, func() admin.AuditSearch { return admin.AuditSearch{Person: person(), Limit: 100} }},
			{"a person on a day", recordAsks, func() admin.AuditSearch {
				d := day()
				return admin.AuditSearch{Person: person(), Since: d, Until: d.Add(24 * time.Hour)}
			}},
			{"a day, the newest 100", recordAsks, func() admin.AuditSearch {
				d := day()
				return admin.AuditSearch{Since: d, Until: d.Add(24 * time.Hour), Limit: 100}
			}},
			{"a person, all", 20, func() admin.AuditSearch { return admin.AuditSearch{Person: person()} }},
			{"a day, all", 5, func() admin.AuditSearch { d := day(); return admin.AuditSearch{Since: d, Until: d.Add(24 * time.Hour)} }},
			{"a year, all", 1, func() admin.AuditSearch { return admin.AuditSearch{Since: b.until.Add(-365 * 24 * time.Hour)} }},
		} {
			var took []int64
			found := 0
			for range s.asks {
				lines := &lineCount{}
				start := time.Now()
				if err := client.Stream(ctx, "audit.search", s.in(), lines); err != nil {
					return err
				}
				took = append(took, int64(time.Since(start)))
				found += lines.n
			}
			slices.Sort(took)
			ms := func(p float64) float64 { return float64(percentile(took, p)) / 1e6 }
			b.row("search: "+s.what, "p50 %.1f ms, p99 %.1f ms, %d records each", ms(50), ms(99), found/s.asks)
		}
		return nil
	})
}

type lineCount struct{ n int }

func (c *lineCount) Write(p []byte) (int, error) {
	c.n += strings.Count(string(p), "\n")
	return len(p), nil
}
