package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// forwardMetrics are read from the standings when somebody asks. Labels are names of the configuration, and fixed words.
type forwardMetrics struct{ f *forwards }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sallyport_"+name, help, labels, nil)
}

func (m forwardMetrics) descriptions() (d struct{ connected, lag, seconds, sent, repeated, failures, bytes, open, told, untold, waiting *prometheus.Desc }) {
	d.connected = describe("forward_connected", "1 while a connection to the receiver of records is open, 0 otherwise", "receiver")
	d.lag = describe("forward_lag_records", "Records that the receiver may lack", "receiver")
	d.seconds = describe("forward_lag_seconds", "Age of the oldest record that the receiver may lack, in seconds", "receiver")
	d.sent = describe("forward_records_total", "Records written to connections, repeated ones too", "receiver")
	d.repeated = describe("forward_repeated_total", "Records that were sent again after a break", "receiver")
	d.failures = describe("forward_failures_total", "Connections to the receiver that failed or broke", "receiver")
	d.bytes = describe("forward_bytes_total", "Bytes written to connections, before TLS", "receiver")
	d.open = describe("alerts_open", "Alerts that are not closed, by severity", "severity")
	d.told = describe("alert_messages_total", "Messages about alerts that a destination has taken", "destination")
	d.untold = describe("alert_message_failures_total", "Messages about alerts that a destination has not taken", "destination")
	d.waiting = describe("alert_waiting", "Alerts that the destination is yet to be told of", "destination")
	return d
}

// Describe implements prometheus.Collector.
func (m forwardMetrics) Describe(ch chan<- *prometheus.Desc) {
	d := m.descriptions()
	for _, one := range []*prometheus.Desc{d.connected, d.lag, d.seconds, d.sent, d.repeated, d.failures, d.bytes, d.open, d.told, d.untold, d.waiting} {
		ch <- one
	}
}

// Collect implements prometheus.Collector.
func (m forwardMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d := m.descriptions()
	gauge := func(desc *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, label)
	}
	count := func(desc *prometheus.Desc, v uint64, label string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), label)
	}
	receivers, destinations := m.f.standings(ctx)
	for _, r := range receivers {
		connected := 0.0
		if r.Connected {
			connected = 1
		}
		gauge(d.connected, connected, r.Name)
		gauge(d.lag, float64(r.Lag), r.Name)
		gauge(d.seconds, r.LagSeconds, r.Name)
		count(d.sent, r.Sent, r.Name)
		count(d.repeated, r.Repeated, r.Name)
		count(d.failures, r.Failures, r.Name)
		count(d.bytes, r.Bytes, r.Name)
	}
	for severity, n := range m.f.g.alerts.OpenBySeverity() {
		gauge(d.open, float64(n), severity.String())
	}
	for _, s := range destinations {
		count(d.told, s.Sent, s.Name)
		count(d.untold, s.Failures, s.Name)
		gauge(d.waiting, float64(s.Waiting), s.Name)
	}
}
