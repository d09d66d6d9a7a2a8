package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
	"sallyport/internal/report"
	"sallyport/internal/report/trust"
)

// The words that begin the commands of this file.
const (
	exampleWord = "example-report" // writes docs/example-report anew
	reportsWord = "reports"        // measures reports over a journal of so many records
)

// runExample writes the example's files. All of them depend on the program alone.
func runExample(ctx context.Context, args []string, stdout io.Writer) error {
	dir := filepath.Join("docs", "example-report")
	if len(args) > 0 {
		dir = args[0]
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return trust.Example(ctx, func(name string, content []byte) error {
		fmt.Fprintf(stdout, "%9d  %s\n", len(content), name)
		return os.WriteFile(filepath.Join(dir, name), content, 0o644)
	})
}

// runReports fills a real journal with a made-up year, and makes reports of it.
func runReports(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sallyport-bench "+reportsWord, flag.ContinueOnError)
	flags.SetOutput(stderr)
	records := flags.Int("records", 1_000_000, "about so many `records`")
	dir := flags.String("dir", "", "`folder` of the journal, kept and used again (default: a temporary one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		tmp, err := os.MkdirTemp("", "sallyport-reports-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		*dir = tmp
	}
	log, verifier, err := fillJournal(*dir, *records, stderr)
	if err != nil {
		return err
	}
	defer log.Close()
	t := trust.New()
	t.Log = log
	recount := func(ctx context.Context) report.Integrity {
		r, err := log.Recount(ctx, runtime.GOMAXPROCS(0))
		if err != nil {
			return report.Integrity{Done: true, Text: err.Error()}
		}
		return report.Integrity{Done: true, Sound: true, Text: "recounted", Size: r.Size}
	}
	verify := func(context.Context) report.Integrity {
		r, err := audit.VerifyDir(filepath.Join(*dir, "journal"), filepath.Join(*dir, "checkpoint"), verifier, nil)
		if err != nil {
			return report.Integrity{Done: true, Text: err.Error()}
		}
		return report.Integrity{Done: true, Sound: true, Text: "verified", Size: r.Size}
	}
	fmt.Fprintf(stdout, "%d records, %d processors\n", log.Next(), runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		name   string
		kind   string
		verify func(context.Context) report.Integrity
	}{
		{"report mfa --no-verify", report.MFA, nil},
		{"report sample -n 25 --no-verify", report.Sample, nil},
		{"report mfa", report.MFA, recount},
		{"report log-health", report.LogHealth, verify},
	} {
		s := t.State
		s.Verify = c.verify
		r := report.Request{Kind: c.kind, From: t.Begin, To: t.End, Zone: trust.Zone, Seed: "bench"}
		if err := r.Fill(t.Now); err != nil {
			return err
		}
		began, cpu, peak := time.Now(), ownCPU(), watchHeap()
		d, err := report.Make(ctx, s, r)
		if err != nil {
			return err
		}
		took := time.Since(began)
		fmt.Fprintf(stdout, "%-32s %8.2f s  CPU %8.2f s  %10.0f records/s  heap at most %d MiB  (%s)\n",
			c.name, took.Seconds(), (ownCPU() - cpu).Seconds(), float64(log.Next())/took.Seconds(), peak()>>20, d.Lead)
	}
	return nil
}

// watchHeap samples the heap until its result is called, which gives the most that was seen.
func watchHeap() func() uint64 {
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		var m runtime.MemStats
		top := uint64(0)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapInuse)
			select {
			case <-stop:
				most <- top
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(stop); return <-most }
}

// fillJournal writes the records, without waiting for the disk, unless they are there from an earlier run.
func fillJournal(dir string, n int, stderr io.Writer) (*audit.Log, note.Verifier, error) {
	skey, vkey, err := benchKey(dir)
	if err != nil {
		return nil, nil, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, err
	}
	o := audit.Options{
		Dir: filepath.Join(dir, "journal"), CheckpointFile: filepath.Join(dir, "checkpoint"), Node: "gw1", Signer: signer, Verifier: verifier, Now: time.Now,
		Restore: func([]byte) error { return nil }, Replay: func(*audit.Record, []byte) error { return nil },
	}
	o.Journal.Sync = func(*os.File) error { return nil }
	log, err := audit.Open(o)
	if err != nil {
		return nil, nil, err
	}
	if log.Next() > 0 {
		return log, verifier, nil
	}
	const window = 512
	began, count := time.Now(), 0
	pending := make([]audit.Pending, window)
	err = trust.New().Records(n, func(rec *audit.Record) error {
		p := &pending[count%window]
		if count >= window {
			if _, err := p.Wait(); err != nil {
				return err
			}
		}
		log.Submit(p, rec, nil)
		count++
		return nil
	})
	for i := max(0, count-window); i < count && err == nil; i++ {
		_, err = pending[i%window].Wait()
	}
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	fmt.Fprintf(stderr, "%d records written in %.1f s\n", count, time.Since(began).Seconds())
	_, err = log.Checkpoint()
	return log, verifier, err
}

// benchKey makes or reads the key of the journal in a folder.
func benchKey(dir string) (skey, vkey string, err error) {
	path := filepath.Join(dir, "bench.key")
	if b, err := os.ReadFile(path); err == nil {
		var s, v string
		if _, err := fmt.Sscan(string(b), &s, &v); err != nil {
			return "", "", fmt.Errorf("%s: %w", path, err)
		}
		return s, v, nil
	}
	if skey, vkey, err = audit.NewKey(fmt.Sprintf("bench-%x", sha256.Sum256([]byte(dir)))[:20]); err != nil {
		return "", "", err
	}
	return skey, vkey, os.WriteFile(path, []byte(skey+"\n"+vkey+"\n"), 0o600)
}
