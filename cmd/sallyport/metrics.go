package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/internal/login"
)

// metrics are the counters of a running gateway. Labels come from the configuration and from fixed words only, so
// that a stranger cannot make them grow (P7).
type metrics struct {
	registry *prometheus.Registry
	replies  *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	drops    *prometheus.CounterVec
	resends  *prometheus.CounterVec
	queue    prometheus.Gauge
	logins   *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	refused  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	legacy   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	reloads  *prometheus.CounterVec

	mu    sync.RWMutex
	known map[replyKey]reply // guarded by mu; as few as there are labels
}

func newMetrics(a *app) *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		registry: r, known: make(map[replyKey]reply),
		replies: counter("radius_replies_total", "RADIUS replies sent, by client, code and reason", "client", "code", "reason"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sallyport_radius_reply_seconds", Help: "Time from the arrival of a RADIUS request to its reply, in seconds",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}, []string{"code"}),
		drops:   counter("radius_drops_total", "RADIUS packets that were not answered, by client and reason", "client", "reason"),
		resends: counter("radius_resends_total", "Resent RADIUS requests that were answered from the reply cache", "client"),
		queue:   gauge("radius_queue_length", "RADIUS requests that wait for a worker"),
		logins:  counter("ssh_logins_total", "SSH logins that were decided, by reason", "reason"),
		dropped: counter("ssh_connections_dropped_total", "SSH connections that ended before a login, by reason", "reason"),
		refused: counter("ssh_refused_total", "SSH channels and requests that were refused, by kind and reason", "kind", "reason"),
		ended:   counter("ssh_sessions_ended_total", "SSH sessions that ended, by reason", "reason"),
		legacy:  counter("ssh_target_logins_legacy_total", "Logins at targets with algorithms that only old kit needs, by target", "target"),
		bytes:   counter("ssh_session_bytes_total", "Bytes of ended SSH sessions, by direction", "direction"),
		reloads: counter("config_reloads_total", "Reloads of the configuration, by result", "result"),
	}
	r.MustRegister(
		m.replies, m.latency, m.drops, m.resends, m.queue, m.logins, m.dropped, m.refused, m.ended, m.legacy, m.bytes, m.reloads,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_audit_records", Help: "Records in the audit log",
		}, func() float64 { return float64(a.log.Next()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_audit_index_lag_records", Help: "Durable records that the search index does not hold yet",
		}, func() float64 { return float64(a.index.lag()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_open", Help: "1 when logins can be decided, 0 otherwise",
		}, func() float64 {
			if a.gate.Open() == nil {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sallyport_build_info", Help: "1, labelled with the version", ConstLabels: prometheus.Labels{"version": version()},
		}, func() float64 { return 1 }),
	)
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_" + name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "sallyport_" + name, Help: help})
}

// Drop, Reply, Resend and QueueDepth are what the RADIUS server counts.
func (m *metrics) Drop(client, reason string, _ netip.Addr) {
	m.drops.WithLabelValues(client, reason).Inc()
}

func (m *metrics) Reply(client, code, reason string, d time.Duration) {
	key := replyKey{client, code, reason}
	m.mu.RLock()
	r, ok := m.known[key]
	m.mu.RUnlock()
	if !ok { // finding a labelled counter costs more than counting
		r = reply{m.replies.WithLabelValues(client, code, reason), m.latency.WithLabelValues(code)}
		m.mu.Lock()
		m.known[key] = r
		m.mu.Unlock()
	}
	r.count.Inc()
	r.latency.Observe(d.Seconds())
}

type replyKey struct{ client, code, reason string }

type reply struct {
	count   prometheus.Counter
	latency prometheus.Observer
}

func (m *metrics) Resend(client string) { m.resends.WithLabelValues(client).Inc() }

func (m *metrics) QueueDepth(n int) { m.queue.Set(float64(n)) }

// Dropped, Login, Refused and SessionEnded are what the SSH gateway counts.
func (m *metrics) Dropped(reason string) { m.dropped.WithLabelValues(reason).Inc() }

func (m *metrics) Login(reason login.Reason) { m.logins.WithLabelValues(string(reason)).Inc() }

func (m *metrics) Refused(kind string, reason login.Reason) {
	m.refused.WithLabelValues(kind, string(reason)).Inc()
}

func (m *metrics) SessionEnded(reason login.Reason, in, out int64, _ time.Duration) {
	m.ended.WithLabelValues(string(reason)).Inc()
	m.bytes.WithLabelValues("in").Add(float64(in))
	m.bytes.WithLabelValues("out").Add(float64(out))
}

// Legacy counts logins at targets with algorithms that only old kit needs.
func (m *metrics) Legacy(target string) { m.legacy.WithLabelValues(target).Inc() }

// serveMetrics answers /metrics and /healthz until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, m *metrics, a *app) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.health(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "closed: %v\n", err)
			return
		}
		fmt.Fprintln(w, "open")
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	err := srv.Close()
	if e := <-done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// health tells why logins cannot be decided: the log, the store, the directory that checks most people's passwords, or
// that the gateway stops.
func (a *app) health(ctx context.Context) error {
	_, err := a.store.Applied(ctx)
	if err != nil {
		err = fmt.Errorf("store: %w", err)
	}
	return errors.Join(a.gate.Open(), err, a.gate.ProbeFirst(ctx))
}
