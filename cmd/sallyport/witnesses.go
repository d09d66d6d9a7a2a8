package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/internal/admin"
	"sallyport/internal/audit"
	"sallyport/internal/audit/witness"
	"sallyport/internal/config"
)

// finishFor bounds how long a stop waits for the witnesses to sign the last records.
const finishFor = 5 * time.Second

// checkWitnesses finds what is wrong with the witnesses of a configuration beyond its form.
func checkWitnesses(cfg *config.Config) config.Problems {
	var problems config.Problems
	keys := make(map[string]bool)
	for _, w := range cfg.Audit.Witnesses {
		v, err := witness.NewVerifier(w.Key)
		if err != nil {
			problems = append(problems, w.Problem("key: "+err.Error(), "`sallyport witness init` prints it"))
			continue
		}
		if keys[v.Name()] {
			problems = append(problems, w.Problem("key: another witness has a key of the same name", "each witness has a key of its own"))
		}
		keys[v.Name()] = true
	}
	return problems
}

// witnessesOf are the witnesses without their places in the file.
func witnessesOf(cfg *config.Config) (all []config.Witness) {
	for _, w := range cfg.Audit.Witnesses {
		w.Pos = config.Pos{}
		all = append(all, w)
	}
	return all
}

// newPublisher takes the checkpoints of this gateway to its witnesses, and to whoever is in a.published.
func (g *gateway) newPublisher(cfg *config.Config) (*witness.Publisher, error) {
	v, err := readVerifier(g.paths.auditPublic)
	if err != nil {
		return nil, err
	}
	log := g.slog.With("part", "witness")
	o := witness.PublisherOptions{
		Source: g.log, Verifier: v, Every: cfg.Audit.CheckpointEvery, Now: time.Now, Log: log,
		Published: func(note string) {
			for _, fn := range g.published {
				fn(note)
			}
		},
		Conflict: func(ctx context.Context, name string, c *witness.Conflict) error {
			reason := "log_cut_back"
			if c.Forked {
				reason = "log_forked"
			}
			return g.admin.Record(ctx, "witness.conflict", audit.Error, reason, audit.Detail{Key: "witness", Value: name},
				audit.Detail{Key: "witness_size", Value: fmt.Sprint(c.Signed)}, audit.Detail{Key: "log_size", Value: fmt.Sprint(c.Ours)})
		},
	}
	for _, w := range cfg.Audit.Witnesses {
		verifier, err := witness.NewVerifier(w.Key)
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", w.Name, err)
		}
		client, err := witnessHTTP(w)
		if err != nil {
			return nil, fmt.Errorf("witness %s: %w", w.Name, err)
		}
		o.Witnesses = append(o.Witnesses, witness.Witness{Name: w.Name, Client: &witness.Client{URL: w.URL, Verifier: verifier, HTTP: client}})
	}
	return witness.NewPublisher(o)
}

// witnessHTTP is a client for one witness. It follows no redirects: what is signed there must not depend on who answers.
func witnessHTTP(w config.Witness) (*http.Client, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: 2 * time.Minute, MaxResponseHeaderBytes: 16 << 10,
		TLSHandshakeTimeout: witness.Timeout, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
	}
	if w.CA != "" {
		pool, err := authorities(w.CA)()
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{
		Transport: t, Timeout: witness.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// finishPublishing lets the witnesses sign the last record, in the time that a stop has.
func (g *gateway) finishPublishing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishFor)
	defer cancel()
	g.publisher.Finish(ctx)
}

// proofVerbs are the verbs about proofs, in a daemon and without.
func (a *app) proofVerbs() {
	admin.Handle(a.admin, "audit.proof", a.proof)
	admin.Handle(a.admin, "audit.cosigned", func(context.Context, admin.Empty) (admin.Checkpoint, error) {
		note, err := a.log.Cosigned()
		return admin.Checkpoint{Note: note}, err
	})
}

// ProofIn asks for the proof of one record.
type ProofIn struct {
	Record uint64 `json:"record"`
}

// Proof is one record's proof.
type Proof struct {
	File      string `json:"file"`      // what a .tlog-proof file holds
	Witnessed bool   `json:"witnessed"` // its checkpoint is one that a witness has signed
}

func (a *app) proof(ctx context.Context, in ProofIn) (p Proof, err error) {
	if next := a.log.Next(); in.Record >= next {
		return p, &admin.Error{Text: fmt.Sprintf("there is no record %d: the log has %d, the first is record 0", in.Record, next), Hint: "`sallyport audit search` shows their numbers"}
	}
	if err := a.admin.Record(ctx, "audit.proof", audit.Info, "ok", audit.Detail{Key: "record", Value: fmt.Sprint(in.Record)}); err != nil {
		return p, err
	}
	note, err := a.log.Cosigned()
	if err != nil {
		return p, err
	}
	if note != "" {
		file, err := a.log.Prove(in.Record, note)
		if err == nil {
			return Proof{File: string(file), Witnessed: true}, nil
		}
	}
	if note, err = a.log.Checkpoint(); err != nil {
		return p, err
	}
	file, err := a.log.Prove(in.Record, note)
	return Proof{File: string(file)}, err
}

// witnessMetrics are the publisher's standings as metrics. Names of witnesses come from the configuration, so they are few.
type witnessMetrics struct {
	p                                                    *witness.Publisher
	size, lag, behind, conflict, failing, signed, failed *prometheus.Desc
}

func newWitnessMetrics(p *witness.Publisher) *witnessMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sallyport_witness_"+name, help, []string{"witness"}, nil)
	}
	return &witnessMetrics{
		p:        p,
		size:     desc("size_records", "Records of the largest checkpoint that the witness has signed"),
		lag:      desc("lag_records", "Records that the witness has not signed"),
		behind:   desc("behind_seconds", "For how long there have been records that the witness has not signed, in seconds"),
		conflict: desc("conflict", "1 when the witness has signed what the audit log does not hold, 0 otherwise"),
		failing:  desc("consecutive_failures", "Tries since the witness last signed that brought no signature"),
		signed:   desc("signed_total", "Checkpoints that the witness has signed since the start"),
		failed:   desc("failures_total", "Tries since the start that brought no signature"),
	}
}

// Describe implements prometheus.Collector.
func (m *witnessMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *witnessMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.p.Standings() {
		conflict := 0.0
		if s.Conflict {
			conflict = 1
		}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Name)
		}
		gauge(m.size, float64(s.Size))
		gauge(m.lag, float64(s.Lag))
		gauge(m.behind, s.Behind.Seconds())
		gauge(m.conflict, conflict)
		gauge(m.failing, float64(s.Failures))
		ch <- prometheus.MustNewConstMetric(m.signed, prometheus.CounterValue, float64(s.Signed), s.Name)
		ch <- prometheus.MustNewConstMetric(m.failed, prometheus.CounterValue, float64(s.Failed), s.Name)
	}
}

// witnessRows are the witnesses in the table of status.
func witnessRows(all []witness.Standing) [][]string {
	var rows [][]string
	for _, s := range all {
		state := fmt.Sprintf("signed %d records at %s; %d to come", s.Size, day(s.At), s.Lag)
		if s.At.IsZero() {
			state = "has signed nothing yet"
		}
		switch {
		case s.Conflict:
			state = "CONTRADICTS THE LOG: " + s.Error
		case s.Error != "":
			state += "; fails: " + s.Error
		}
		rows = append(rows, []string{"witness " + s.Name, printable(state)})
	}
	return rows
}
