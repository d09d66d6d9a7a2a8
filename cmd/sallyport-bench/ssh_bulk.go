package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// bulkRun is one transfer by stock OpenSSH.
type bulkRun struct {
	Way     string  `json:"way"`
	Cipher  string  `json:"cipher"` // oneCipher, or what is agreed on by default
	Up      bool    `json:"up"`
	SFTP    bool    `json:"sftp"`
	Repeat  int     `json:"repeat"`
	Bytes   int64   `json:"bytes"`
	PerSec  float64 `json:"mb_per_s"`
	CPU     float64 `json:"cpu_s_per_gb"` // of the party in the middle, idle to idle
	Settled float64 `json:"settled_s"`
}

const byDefault = "default"

// bulkBytes is what one transfer moves.
const bulkBytes = 256_000_000

// writeBulk writes what is moved: lines as a program logs them, so that a recording has text to keep.
func writeBulk(path string, size int) error {
	r := newSeeded()
	var b bytes.Buffer
	b.Grow(size + 200)
	words := []string{"accepted", "refused", "connection", "from", "session", "opened", "closed", "for", "user", "interface", "up", "down", "timeout"}
	for b.Len() < size {
		line := fmt.Sprintf("2026-11-25T14:%02d:%02d.%06d core-sw1 daemon[%d]:", r.IntN(60), r.IntN(60), r.IntN(1_000_000), r.IntN(30_000))
		b.WriteString(line)
		for range 4 + r.IntN(8) {
			b.WriteByte(' ')
			b.WriteString(words[r.IntN(len(words))])
		}
		fmt.Fprintf(&b, " %016x\n", r.Uint64())
	}
	return os.WriteFile(path, b.Bytes()[:size], 0o644)
}

func (r *sshRig) measureBulk(ctx context.Context) error {
	size := bulkBytes
	if r.quick {
		size /= 8
	}
	file := filepath.Join(r.dir, "bulk.txt")
	if err := writeBulk(file, size); err != nil {
		return err
	}
	for repeat := range r.repeats {
		for _, conf := range []string{confOneCipher, confDefault} {
			for _, up := range []bool{true, false} {
				for _, w := range r.ways() {
					if err := r.bulk(ctx, w, conf, file, bulkRun{Up: up, Repeat: repeat + 1, Bytes: int64(size)}); err != nil {
						return err
					}
				}
			}
		}
		for _, up := range []bool{true, false} {
			for _, w := range r.ways(wayDirect, waySSHD, wayProxy, wayBoth, wayOpaque, wayProxied, wayRecordedJump) {
				if err := r.bulk(ctx, w, confOneCipher, file, bulkRun{Up: up, SFTP: true, Repeat: repeat + 1, Bytes: int64(size)}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bulk moves the file once.
func (r *sshRig) bulk(ctx context.Context, w sshWay, conf, file string, run bulkRun) error {
	party := r.parties[w.party]
	run.Way, run.Cipher = w.name, oneCipher
	if conf == confDefault {
		run.Cipher = byDefault
	}
	p := r.people[run.Repeat%len(r.people)]
	before, err := party.spent(ctx)
	if err != nil {
		return err
	}
	program, args := "ssh", []string{"cat " + file}
	switch {
	case run.SFTP:
		program = "sftp"
		line := "get " + file + " /dev/null\n"
		if run.Up {
			line = "put " + file + " /dev/null\n"
		}
		if err := r.write("batch", line, 0o600); err != nil {
			return err
		}
		args = []string{"-b", filepath.Join(r.dir, "batch")}
	case run.Up:
		args = []string{"cat >/dev/null"}
	}
	cmd := r.stock(ctx, program, conf, w, p, args...)
	if run.Up && !run.SFTP {
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s, %s: %w\n%s", w.name, cmd, err, stderr.String())
	}
	took := time.Since(begin)
	after, err := party.spent(ctx)
	if err != nil {
		return err
	}
	run.PerSec = float64(run.Bytes) / 1e6 / took.Seconds()
	run.CPU = (after - before).Seconds() / (float64(run.Bytes) / 1e9)
	run.Settled = time.Since(begin).Seconds() - took.Seconds()
	r.SSH.Bulk = append(r.SSH.Bulk, run)
	r.say("%d/%d  %-22s  %-22s  %-4s  %6.0f MB/s  %5.2f CPU s/GB", run.Repeat, r.repeats, run.title(), run.Way, run.direction(), run.PerSec, run.CPU)
	return nil
}

func (b bulkRun) title() string {
	if b.SFTP {
		return "sftp, " + b.Cipher
	}
	return b.Cipher
}

func (b bulkRun) direction() string {
	if b.Up {
		return "up"
	}
	return "down"
}
