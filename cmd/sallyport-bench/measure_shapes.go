package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"sallyport/otp"
)

// shapesOutstanding is how many requests, or conversations, are outstanding while shapes are measured.
const shapesOutstanding = 64

// measureShapes measures the shapes beside PAP, with the small crowd. One process of each server takes them all; of two
// that will be compared, one is measured right after the other.
func (b *bench) measureShapes(ctx context.Context) error {
	var err error
	if b.certs, err = makeCertificates(filepath.Join(b.dir, "certificates"), time.Now()); err != nil {
		return err
	}
	first := len(b.cells)
	if b.side != peer {
		b.say("starting Sallyport for the shapes")
		dir := filepath.Join(b.dir, gateway+"-shapes")
		s, err := startShapesGateway(ctx, b.binary, dir, benchSecret, b.small, b.lookAhead, b.certs)
		if err != nil {
			return err
		}
		b.add(&cell{Server: gateway, Tokens: otp.TypeHOTP, People: b.small, srv: s, disk: filepath.Join(dir, "data"), shapes: true})
	}
	if b.side != gateway {
		b.say("starting %s for the shapes", b.Peer)
		s, err := startShapesPeer(ctx, b.peerPath, filepath.Join(b.dir, peer+"-shapes"), benchSecret, b.small, b.certs)
		if err != nil {
			return err
		}
		b.add(&cell{Server: peer, Tokens: otp.TypeTOTP, People: b.small, srv: s, shapes: true})
	}
	level := shapesOutstanding
	if b.only != 0 {
		level = b.only
	}
	rates := map[string]map[int]int{}
	for repeat := range b.repeats {
		for _, how := range b.others {
			for _, home := range b.cells[first:] {
				key := home.Server + how.name
				if rates[key] == nil {
					rates[key] = map[int]int{}
				}
				c := *home
				c.how, c.Shape, c.gen, c.rate, c.answers = how, how.name, c.srv.door(how, b.certs), rates[key], 0
				r, err := b.measure(ctx, &c, level)
				home.answers += c.answers
				if err != nil {
					return fmt.Errorf("%s, %s: %w\n%s", c.srv.name, how.title, err, c.srv.tail())
				}
				r.Repeat = repeat + 1
				b.Shapes = append(b.Shapes, r)
				b.say("%d/%d  %-12s  %-10s  %7.0f/s  %6.1f us  p50 %.3f ms  p99 %.3f ms  idle after %.1f s", r.Repeat, b.repeats, how.title, c.srv.name, r.PerSecond, r.CPU, r.P50, r.P99, r.Deferred)
			}
		}
	}
	if err := b.end(); err != nil {
		return err
	}
	for _, c := range b.cells[first:] {
		if c.Server == gateway && b.only == 0 {
			if err := b.verify(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofShape are the runs of one server with one shape.
func (b *bench) ofShape(server, shape string) (runs []run) {
	for _, r := range b.Shapes {
		if r.Server == server && r.Shape == shape {
			runs = append(runs, r)
		}
	}
	return runs
}

// judgeShapes holds the shapes against what we set ourselves: no more CPU than FreeRADIUS.
func (b *bench) judgeShapes(add func(must, met bool, what, says string, args ...any)) {
	for _, how := range b.others {
		mine, theirs := b.ofShape(gateway, how.name), b.ofShape(peer, how.name)
		if len(mine) == 0 || len(theirs) == 0 {
			continue
		}
		s := spreadOf(ratios(mine, theirs, cpu))
		add(true, s.Median <= mustOfPeerShape, fmt.Sprintf("CPU, %s, %d outstanding", how.title, mine[0].Outstanding), "%.1f us against %.1f us: %s of FreeRADIUS's, at most %.1f",
			spreadOf(figures(mine, cpu)).Median, spreadOf(figures(theirs, cpu)).Median, s.show("%.2f"), mustOfPeerShape)
	}
}

// shapeRows is a row a shape. PAP's is of the other servers with as many people.
func (b *bench) shapeRows() [][]string {
	rows := [][]string{{"shape", "Sallyport /s", "Sallyport CPU us", "FreeRADIUS /s", "FreeRADIUS CPU us", "of FreeRADIUS", "under load", "p99 ms", "FreeRADIUS p99 ms", "refused"}}
	row := func(title string, mine, theirs []run) {
		of := func(runs []run, format string, f func(run) float64) string {
			return spreadOf(figures(runs, f)).show(format)
		}
		var t tally
		for _, r := range append(mine[:len(mine):len(mine)], theirs...) {
			t.add(r.tally)
		}
		perSecond, p99 := func(r run) float64 { return r.PerSecond }, func(r run) float64 { return r.P99 }
		rows = append(rows, []string{
			title, of(mine, "%.0f", perSecond), of(mine, "%.1f", cpu), of(theirs, "%.0f", perSecond), of(theirs, "%.1f", cpu),
			spreadOf(ratios(mine, theirs, cpu)).show("%.2f"), spreadOf(ratios(mine, theirs, underLoad)).show("%.2f"),
			of(mine, "%.2f", p99), of(theirs, "%.2f", p99), fmt.Sprint(t.Rejected),
		})
	}
	if b.pap {
		row(papShape.title, b.of(gateway, otp.TypeHOTP, b.small, shapesOutstanding), b.of(peer, otp.TypeTOTP, b.small, shapesOutstanding))
	}
	for _, how := range b.others {
		row(how.title, b.ofShape(gateway, how.name), b.ofShape(peer, how.name))
	}
	return rows
}

// explainShapes says what is asked and checked.
func explainShapes(say func(string, ...any)) {
	say("One login, or one report, an operation, %d outstanding; in EAP-TTLS a whole conversation, of four requests.\n", shapesOutstanding)
	say("- Sallyport checks a code once and has a durable record, as above. FreeRADIUS checks a fixed password where the method hides it (CHAP, MS-CHAPv2),")
	say("  a TOTP code elsewhere, and keeps nothing. Of MS-CHAPv2's answers, one in %d is recomputed; of EAP-TTLS, every key is compared.", successEvery)
	say("- RadSec: TLS 1.3, %d connections that stay. EAP-TTLS: TLS 1.2, X25519, ECDSA on P-256, nothing resumed, PAP within.", maxLanes)
	say("- Accounting: Start and Stop. Sallyport's are durable before the answer; FreeRADIUS's detail file is written, and not synced.\n")
}
