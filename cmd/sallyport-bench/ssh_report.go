package main

import (
	"fmt"
	"slices"
	"strings"
)

// What the issue asks for.
const (
	mustOfPlain     = 1.0 // of the CPU of a plain x/crypto jump or proxy
	mustOfRecording = 1.1 // of the CPU without a recording
	aimJump         = 1.5 // CPU s/GB
	aimRecorded     = 2.2 // CPU s/GB
	mustLoginMillis = 5   // CPU
	mustIdleSession = 165 // KiB
	mustIdleJump    = 110 // KiB
	mustKeyMicros   = 50  // what a recording adds to a key's round trip
)

// bulkOf are the transfers of one cell.
func (f *sshFigures) bulkOf(way, cipher string, up, sftp bool, of func(bulkRun) float64) (v []float64) {
	for _, r := range f.Bulk {
		if r.Way == way && r.Cipher == cipher && r.Up == up && r.SFTP == sftp {
			v = append(v, of(r))
		}
	}
	return v
}

func bulkCPU(r bulkRun) float64  { return r.CPU }
func bulkRate(r bulkRun) float64 { return r.PerSec }

func (f *sshFigures) keysOf(way string, of func(keysRun) float64) (v []float64) {
	for _, r := range f.Keys {
		if r.Way == way {
			v = append(v, of(r))
		}
	}
	return v
}

func keyP50(r keysRun) float64 { return r.P50 }

func (f *sshFigures) loginsOf(way string, only bool, of func(loginsRun) float64) (v []float64) {
	for _, r := range f.Logins {
		if r.Way == way && r.Only == only {
			v = append(v, of(r))
		}
	}
	return v
}

func loginCPU(r loginsRun) float64 { return r.CPU }

// pairs combines repeat by repeat.
func pairs(a, b []float64, with func(a, b float64) float64) (v []float64) {
	for i := range min(len(a), len(b)) {
		v = append(v, with(a[i], b[i]))
	}
	return v
}

func minus(a, b float64) float64 { return a - b }

func directionOf(up bool) string { return bulkRun{Up: up}.direction() }

// judgeSSH holds the figures against the issue.
func (b *bench) judgeSSH(add func(must, met bool, what, says string, args ...any)) {
	f := b.SSH
	if f == nil {
		return
	}
	compare := func(way, with string, up, sftp bool, bound float64) {
		mine, theirs := f.bulkOf(way, oneCipher, up, sftp, bulkCPU), f.bulkOf(with, oneCipher, up, sftp, bulkCPU)
		if len(mine) == 0 || len(theirs) == 0 {
			return
		}
		what := "CPU a GB, "
		if sftp {
			what = "CPU a GB by sftp, "
		}
		s := spreadOf(pairs(mine, theirs, over))
		add(true, s.Median <= bound, what+way+", "+directionOf(up), "%.2f s against %.2f s of %s: %s, at most %.1f",
			spreadOf(mine).Median, spreadOf(theirs).Median, with, s.show("%.2f"), bound)
	}
	for _, up := range []bool{true, false} {
		for _, w := range sshWays {
			if w.rival != "" {
				compare(w.name, w.rival, up, false, mustOfPlain)
			}
		}
		compare(wayRecorded, wayProxied, up, false, mustOfRecording)
		compare(wayProxied, wayProxy, up, true, mustOfPlain)
		for way, aim := range map[string]float64{wayOpaque: aimJump, wayRecorded: aimRecorded} {
			if s := spreadOf(f.bulkOf(way, oneCipher, up, false, bulkCPU)); s.N > 0 {
				add(false, s.Median <= aim, "CPU a GB, "+way+", "+directionOf(up), "%s s, %.1f wished for", s.show("%.2f"), aim)
			}
		}
	}
	if s := spreadOf(pairs(f.keysOf(wayRecorded, keyP50), f.keysOf(wayProxied, keyP50), minus)); s.N > 0 {
		add(true, s.Median <= mustKeyMicros, "what a recording adds to a key's round trip, p50", "%s us, at most %d", s.show("%.0f"), mustKeyMicros)
	}
	for _, w := range sshWays {
		for _, only := range []bool{true, false} {
			mine := f.loginsOf(w.name, only, loginCPU)
			if len(mine) == 0 || w.party != partyGateway {
				continue
			}
			s := spreadOf(mine)
			add(true, s.Median-f.Hash <= mustLoginMillis, "CPU a login, "+w.name+", "+loginsRun{Only: only}.what(),
				"%.2f ms without the password's hashing, at most %d (%s with it)", s.Median-f.Hash, mustLoginMillis, s.show("%.2f"))
		}
	}
	for _, r := range f.Idle {
		bound := mustIdleSession
		switch r.Way {
		case wayOpaque:
			bound = mustIdleJump
		case wayProxied, wayRecorded, wayRecordedJump:
		default:
			continue
		}
		add(true, r.RSS <= float64(bound), "memory of an idle session, "+r.Way, "%.0f KiB at %d sessions, at most %d", r.RSS, r.Sessions, bound)
	}
}

// writeSSH prints what was measured of SSH.
func (b *bench) writeSSH(p *strings.Builder) {
	f := b.SSH
	say := func(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }
	say("\n## SSH\n")
	say("%s. The target is sshd, on loopback like all others; CPU is that of the program in the middle, idle to idle.\n", f.Versions)
	if len(f.Bulk) > 0 {
		say("### Bulk, by stock OpenSSH: CPU s/GB and MB/s\n")
		say("%s bytes of log lines, a transfer. With one cipher for all (%s), and with what the two sides agree on by themselves.\n", thousands(int(f.Bulk[0].Bytes)), oneCipher)
		p.WriteString(table(f.bulkRows()))
	}
	if len(f.Keys) > 0 {
		say("\n### A key's round trip, us\n")
		say("One byte to cat on a raw terminal at the target and back, by an x/crypto client; %d times %d keys, in turn.\n", keysRepeats, keysEach)
		p.WriteString(table(f.keyRows()))
	}
	if len(f.Logins) > 0 {
		say("\n### Logins, %d at a time, by an x/crypto client\n", sshPeople)
		say("At the gateway with password and HOTP code, each on record before the answer; elsewhere with a key. One password's hashing takes %.2f ms of CPU here", f.Hash)
		say("(argon2id, %d KiB, %d iteration, the least that may be configured), and is in the figures.\n", hashMemoryKiB, hashIterations)
		p.WriteString(table(f.loginRows()))
	}
	if len(f.Idle) > 0 {
		say("\n### Memory of idle terminals\n")
		say("Each with cat at the target, on a TCP connection of its own, at a server that was just started.\n")
		rows := [][]string{{"way", "sessions", "KiB RSS each", "KiB PSS each", "processes each", "CPU ms to open"}}
		for _, r := range f.Idle {
			rows = append(rows, []string{
				r.Way, thousands(r.Sessions), fmt.Sprintf("%.0f", r.RSS), fmt.Sprintf("%.0f", r.PSS),
				fmt.Sprintf("%.1f", float64(r.Processes)/float64(r.Sessions)), fmt.Sprintf("%.1f", r.Open),
			})
		}
		p.WriteString(table(rows))
	}
}

func (f *sshFigures) bulkRows() [][]string {
	rows := [][]string{{"cipher", "way", "up: CPU s/GB", "up: MB/s", "down: CPU s/GB", "down: MB/s"}}
	var seen []string
	for _, r := range f.Bulk {
		key := r.title() + r.Way
		if slices.Contains(seen, key) {
			continue
		}
		seen = append(seen, key)
		row := []string{r.title(), r.Way}
		for _, up := range []bool{true, false} {
			row = append(row, spreadOf(f.bulkOf(r.Way, r.Cipher, up, r.SFTP, bulkCPU)).show("%.2f"), spreadOf(f.bulkOf(r.Way, r.Cipher, up, r.SFTP, bulkRate)).show("%.0f"))
		}
		if r.Way == wayDirect {
			row[2], row[4] = "-", "-"
		}
		rows = append(rows, row)
	}
	return rows
}

func (f *sshFigures) keyRows() [][]string {
	rows := [][]string{{"way", "p50", "over no gateway", "p99", "CPU us a key"}}
	for _, w := range sshWays {
		mine := f.keysOf(w.name, keyP50)
		if len(mine) == 0 {
			continue
		}
		cpu := "-"
		if w.party != partyDirect && w.party != partySSHD {
			cpu = spreadOf(f.keysOf(w.name, func(r keysRun) float64 { return r.CPU })).show("%.0f")
		}
		rows = append(rows, []string{
			w.name, spreadOf(mine).show("%.0f"), spreadOf(pairs(mine, f.keysOf(wayDirect, keyP50), minus)).show("%.0f"),
			spreadOf(f.keysOf(w.name, func(r keysRun) float64 { return r.P99 })).show("%.0f"), cpu,
		})
	}
	return rows
}

func (f *sshFigures) loginRows() [][]string {
	rows := [][]string{{"way", "login", "a second", "p50 ms", "CPU ms", "less the hashing"}}
	for _, only := range []bool{true, false} {
		for _, w := range sshWays {
			mine := f.loginsOf(w.name, only, loginCPU)
			if len(mine) == 0 {
				continue
			}
			of := func(format string, of func(loginsRun) float64) string {
				return spreadOf(f.loginsOf(w.name, only, of)).show(format)
			}
			cpu, less := "-", "-"
			if w.party != partyDirect {
				cpu = of("%.2f", loginCPU)
			}
			if w.party == partyGateway {
				less = of("%.2f", func(r loginsRun) float64 { return r.CPU - f.Hash })
			}
			rows = append(rows, []string{
				w.name, loginsRun{Only: only}.what(), of("%.1f", func(r loginsRun) float64 { return r.PerSec }),
				of("%.0f", func(r loginsRun) float64 { return r.P50 }), cpu, less,
			})
		}
	}
	return rows
}
