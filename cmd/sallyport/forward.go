package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/internal/admin"
	"sallyport/internal/alert"
	"sallyport/internal/audit"
	"sallyport/internal/config"
	"sallyport/internal/journal"
	"sallyport/internal/login"
	"sallyport/internal/siem"
)

// This file joins the log with whoever is told of it: receivers of records, and people.

// How often what has no event of its own is looked at.
const (
	forwardLook  = time.Second      // standings of receivers, new settings
	radiusLook   = 10 * time.Second // refused RADIUS packets; one record for each client and reason at a time
	forwardAgain = time.Minute      // after a failure of the store or the log
)

// alertLog is the log as alerts read it.
type alertLog struct{ *audit.Log }

func (l alertLog) Scan(from uint64, fn func(*audit.Record) error) error {
	return l.Log.Scan(from, func(rec *audit.Record, _ journal.Position) error { return fn(rec) })
}

// forwards are what a running gateway tells others.
type forwards struct {
	g *gateway

	mu       sync.Mutex
	cfg      *config.Config // whose receivers run
	senders  []*siem.Forwarder
	notifier *alert.Notifier
	told     map[string]bool // receivers that are said to be down
	refused  map[[2]string]uint64
}

// forward runs all of it until ctx ends. Its failures are logged and tried again: logins do not hang on receivers.
func (g *gateway) forward(ctx context.Context) error {
	f := g.forwards
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return f.again(ctx, "alerts", g.alerts.Run) })
	work.Go(func() error { return f.run(ctx) })
	work.Go(func() error { return f.watch(ctx) })
	return work.Wait()
}

// again runs fn until ctx ends, however often it fails.
func (f *forwards) again(ctx context.Context, part string, fn func(context.Context) error) error {
	for {
		err := fn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.g.slog.Error("a part of the gateway that logins do not hang on has failed; it is tried again", "part", part, "error", err, "again_in", forwardAgain)
		wait := time.NewTimer(forwardAgain)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// run serves the receivers and destinations of the configuration in force, and starts anew when another is.
func (f *forwards) run(ctx context.Context) error {
	for ctx.Err() == nil {
		cfg := f.g.config()
		senders, notifier, err := f.g.outbound(cfg)
		if err != nil { // it was checked, but files change
			f.g.slog.Error("nobody is told of records and alerts", "error", err, "hint", "mend it and `sallyport reload`")
		}
		f.mu.Lock()
		f.cfg, f.senders, f.notifier = cfg, senders, notifier
		f.mu.Unlock()
		running, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		for i, s := range senders {
			all.Go(func() { _ = f.again(running, "syslog "+cfg.Audit.Syslog[i].Name, s.Run) })
			all.Go(func() { f.offer(running, s, cfg.Audit.Syslog[i].CheckpointEvery) })
		}
		if notifier != nil {
			all.Go(func() { _ = f.again(running, "alerts", notifier.Run) })
		}
		tick := time.NewTicker(forwardLook)
		for same := true; same; same = f.g.config() == cfg {
			select {
			case <-ctx.Done():
			case <-tick.C:
				continue
			}
			break
		}
		tick.Stop()
		stop()
		all.Wait()
	}
	return nil
}

// offer gives a receiver the newest checkpoint, when there is one that it has not.
func (f *forwards) offer(ctx context.Context, s *siem.Forwarder, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last uint64
	for {
		if next := f.g.log.Next(); next > last {
			if note, err := f.g.log.Checkpoint(); err == nil { // the log's own trouble shows elsewhere
				if size, ok := checkpointSize(note); ok {
					s.Offer(size, note)
					last = size
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkpointSize is the second line of a checkpoint.
func checkpointSize(note string) (uint64, bool) {
	lines := strings.SplitN(note, "\n", 3)
	if len(lines) < 3 {
		return 0, false
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	return size, err == nil
}

// watch records what alerts follow from and has no record of its own.
func (f *forwards) watch(ctx context.Context) error {
	receivers, radius := time.NewTicker(forwardLook), time.NewTicker(radiusLook)
	defer receivers.Stop()
	defer radius.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-receivers.C:
			f.lookAtLog(ctx)
			f.lookAtReceivers(ctx)
		case <-radius.C:
			f.lookAtRADIUS(ctx)
		}
	}
}

// say records something, and logs when that fails.
func (f *forwards) say(ctx context.Context, rec *audit.Record) bool {
	rec.Time, rec.Protocol, rec.Person, rec.Login = time.Now(), "admin", audit.None, audit.None
	if rec.System == "" {
		rec.System = login.GatewaySystem
	}
	rec.Source = "daemon"
	if _, err := f.g.gate.Commit(rec, login.Change{}, nil, nil); err != nil {
		if ctx.Err() == nil {
			f.g.slog.Error("no record could be made", "event", rec.Event, "error", err)
		}
		return false
	}
	return true
}

// lookAtLog raises an alert when the log takes no more records: there can be no record of that.
func (f *forwards) lookAtLog(ctx context.Context) {
	why := f.g.log.Err()
	if why == nil {
		why = f.g.log.CheckpointStatus().Err
	}
	f.mu.Lock()
	known := f.told["log"]
	f.told["log"] = why != nil
	f.mu.Unlock()
	if why == nil || known {
		return
	}
	if err := f.g.alerts.Raise(ctx, alert.Signal{Kind: alert.LogTrouble}, why.Error(), f.g.config().Node); err != nil {
		f.g.slog.Error("an alert could not be kept", "kind", alert.LogTrouble, "error", err)
	}
}

// lookAtReceivers records receivers that lack records for too long, and that have them again.
func (f *forwards) lookAtReceivers(ctx context.Context) {
	f.mu.Lock()
	senders, cfg := f.senders, f.cfg
	f.mu.Unlock()
	now := time.Now()
	for i, s := range senders {
		set, is := cfg.Audit.Syslog[i], s.Standing(ctx)
		late := is.LagSeconds >= set.DownAfter.Seconds() || !is.Connected && now.Sub(is.Since) >= set.DownAfter
		well := is.Connected && is.LagSeconds < set.DownAfter.Seconds()
		f.mu.Lock()
		known := f.told[siem.CursorName(set.Name)]
		f.mu.Unlock()
		switch {
		case late && !known:
			detail := []audit.Detail{{Key: "receiver", Value: set.Name}, {Key: "address", Value: set.Address}, {Key: "lag_records", Value: strconv.FormatUint(is.Lag, 10)}, {Key: "error", Value: is.Error}}
			f.note(set.Name, true, f.say(ctx, &audit.Record{Event: alert.EventDown, Result: audit.Error, Reason: "receiver_behind", Detail: detail}))
		case well && known:
			f.note(set.Name, false, f.say(ctx, &audit.Record{Event: alert.EventUp, Result: audit.Info, Reason: "ok", Detail: []audit.Detail{{Key: "receiver", Value: set.Name}}}))
		}
	}
}

func (f *forwards) note(receiver string, down, recorded bool) {
	if !recorded {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[siem.CursorName(receiver)] = down
}

// lookAtRADIUS records that packets were refused since it last looked: those of no client, and those that prove no secret.
func (f *forwards) lookAtRADIUS(ctx context.Context) {
	counts := make(map[[2]string]uint64)
	for _, c := range f.g.radius.Stats() {
		for _, reason := range []string{"ma_bad", "ma_missing"} {
			counts[[2]string{c.Name, reason}] = c.Drops[reason]
		}
	}
	address := ""
	for i, s := range f.g.radius.Strangers() {
		if i == 0 {
			address = s.Addr.String()
		}
		counts[[2]string{"", "unknown_client"}] += s.Packets
	}
	for k, n := range counts {
		before := f.refused[k]
		f.refused[k] = n
		if n <= before { // strangers are forgotten, so that theirs may fall
			continue
		}
		detail := []audit.Detail{{Key: "client", Value: k[0]}, {Key: "count", Value: strconv.FormatUint(n-before, 10)}}
		if k[0] == "" {
			detail = append(detail, audit.Detail{Key: "address", Value: address})
		}
		if !f.say(ctx, &audit.Record{Event: alert.EventRADIUS, Result: audit.Reject, Reason: k[1], Detail: detail}) {
			f.refused[k] = before
		}
	}
}

// outbound makes what a configuration asks for. It reads the files of certificates, and opens nothing.
func (g *gateway) outbound(cfg *config.Config) ([]*siem.Forwarder, *alert.Notifier, error) {
	var senders []*siem.Forwarder
	for _, s := range cfg.Audit.Syslog {
		o, err := receiverOf(s)
		if err != nil {
			return nil, nil, err
		}
		o.Node, o.Log, o.Cursors, o.Now, o.Slog = cfg.Node, g.log, g.store, time.Now, g.slog.With("part", "syslog")
		f, err := siem.New(o)
		if err != nil {
			return nil, nil, err
		}
		senders = append(senders, f)
	}
	destinations, err := destinationsOf(cfg)
	if err != nil || len(destinations) == 0 {
		return senders, nil, err
	}
	minimum, err := alert.ParseSeverity(cfg.Alerts.Minimum)
	if err != nil {
		return nil, nil, err
	}
	return senders, alert.NewNotifier(alert.NotifierOptions{
		Follower: g.alerts, Destinations: destinations, Minimum: minimum, Node: cfg.Node, Now: time.Now, Slog: g.slog.With("part", "alerts"),
	}), nil
}

func receiverOf(s config.Syslog) (siem.Options, error) {
	o := siem.Options{
		Name: s.Name, Address: s.Address, Start: s.From == config.FromStart, Overlap: s.Overlap,
		Encoding: siem.Encoding{Format: siem.Format(s.Format), Facility: s.Facility, Enterprise: s.Enterprise, Version: version()},
	}
	if s.TLS == nil {
		return o, nil
	}
	var err error
	if o.TLS, err = clientTLS(s.TLS.CA, s.TLS.ServerName); err != nil {
		return o, fmt.Errorf("audit.syslog[%s]: %w", s.Name, err)
	}
	if s.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
		if err != nil {
			return o, hintf("cert and key are PEM files, of one pair", "audit.syslog[%s].tls: %w", s.Name, err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}

// clientTLS checks the other end against a file of CAs, or the system's.
func clientTLS(ca, name string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, hintf("a file of PEM, -----BEGIN CERTIFICATE-----", "ca: %s holds no certificate", ca)
	}
	return t, nil
}

func destinationsOf(cfg *config.Config) ([]alert.Destination, error) {
	var list []alert.Destination
	kinds := func(words []string) (all []alert.Kind) {
		for _, w := range words {
			all = append(all, alert.Kind(w))
		}
		return all
	}
	for _, w := range cfg.Alerts.Webhooks {
		t, err := clientTLS(w.CA, "")
		if err != nil {
			return nil, fmt.Errorf("alerts.webhooks[%s]: %w", w.Name, err)
		}
		list = append(list, alert.Destination{Name: w.Name, Kinds: kinds(w.Kinds), Sender: alert.NewWebhook(w.URL, w.Secret.Bytes(), t, time.Now)})
	}
	if m := cfg.Alerts.Mail; m != nil {
		t, err := clientTLS(m.CA, m.ServerName)
		if err != nil {
			return nil, fmt.Errorf("alerts.mail: %w", err)
		}
		host, port, err := net.SplitHostPort(m.Server)
		if err != nil {
			return nil, fmt.Errorf("alerts.mail: %w", err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("alerts.mail: %w", err)
		}
		list = append(list, alert.Destination{Name: "mail", Kinds: kinds(m.Kinds), Sender: &alert.Mail{
			Host: host, Port: number, TLS: t, From: m.From, To: m.To, User: m.User, Password: string(m.Secret.Bytes()),
			Security: map[string]alert.MailSecurity{config.MailStartTLS: alert.StartTLS, config.MailTLS: alert.ImplicitTLS, config.MailPlain: alert.Plain}[m.TLS],
		}})
	}
	return list, nil
}

// checkOutbound finds files that cannot be used, and kinds of alert that there are not.
func checkOutbound(cfg *config.Config) (problems config.Problems) {
	wrong := func(at config.Pos, err error) {
		var h hinted
		hint := ""
		if errors.As(err, &h) {
			hint = h.hint
		}
		problems = append(problems, at.Problem(err.Error(), hint))
	}
	for _, s := range cfg.Audit.Syslog {
		o, err := receiverOf(s)
		if err == nil {
			_, err = siem.NewEncoder(o.Encoding)
		}
		if err != nil {
			wrong(s.Pos, err)
		}
	}
	if _, err := destinationsOf(cfg); err != nil {
		problems = append(problems, config.Problem{File: cfg.File, Field: "alerts", Text: err.Error()})
	}
	known := func(at config.Pos, kinds []string) {
		for _, k := range kinds {
			if !alert.Known(k) {
				problems = append(problems, at.Under("kinds").Problem(fmt.Sprintf("%.40q is no kind of alert", k), "docs/siem.md lists them; without the key, all"))
			}
		}
	}
	for _, w := range cfg.Alerts.Webhooks {
		known(w.Pos, w.Kinds)
	}
	if m := cfg.Alerts.Mail; m != nil {
		known(m.Pos, m.Kinds)
	}
	return problems
}

// forwardVerbs are those that only a daemon has.
func (g *gateway) forwardVerbs() {
	g.forwards = &forwards{g: g, told: make(map[string]bool), refused: make(map[[2]string]uint64)}
	g.metrics.registry.MustRegister(forwardMetrics{g.forwards})
	admin.Handle(g.admin, "alert.test", func(ctx context.Context, _ admin.Empty) ([]alert.Tried, error) {
		g.forwards.mu.Lock()
		n := g.forwards.notifier
		g.forwards.mu.Unlock()
		if n == nil {
			return nil, &admin.Error{Text: "nobody is told of alerts", Hint: "name webhooks or a mail server under `alerts` in the configuration"}
		}
		tried := n.Test(ctx)
		detail := make([]audit.Detail, 0, len(tried))
		for _, t := range tried {
			outcome := "sent"
			if t.Error != "" {
				outcome = t.Error
			}
			detail = append(detail, audit.Detail{Key: "to_" + t.Destination, Value: outcome})
		}
		return tried, g.admin.Record(ctx, alert.EventTest, audit.Info, "ok", detail...)
	})
}

// status adds what `status` says of receivers and alerts.
func (f *forwards) status(ctx context.Context, s *Status) {
	s.Forward, s.Alerting = f.standings(ctx)
	s.Alerts = f.g.alerts.OpenBySeverity()
}

func (f *forwards) standings(ctx context.Context) (receivers []siem.Standing, destinations []alert.DestinationStanding) {
	f.mu.Lock()
	senders, notifier := f.senders, f.notifier
	f.mu.Unlock()
	for _, s := range senders {
		receivers = append(receivers, s.Standing(ctx))
	}
	if notifier != nil {
		destinations = notifier.Standings()
	}
	return receivers, destinations
}
