package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "transfer more than 4 GiB each way (make test-long)")

// The key and first block of a stream that looks random, and that openssl makes at the target.
const (
	streamKey = "000102030405060708090a0b0c0d0e0f"
	streamIV  = "101112131415161718191a1b1c1d1e1f"
)

// stream is n bytes of it.
func stream(t testing.TB, n int64) io.Reader {
	t.Helper()
	key, err := hex.DecodeString(streamKey)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := hex.DecodeString(streamIV)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return io.LimitReader(&cipher.StreamReader{S: cipher.NewCTR(block, iv), R: zeros{}}, n)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// streamAtTarget is the command that writes n bytes of it.
func streamAtTarget(n int64) string {
	return fmt.Sprintf("head -c %d /dev/zero | openssl enc -aes-128-ctr -K %s -iv %s", n, streamKey, streamIV)
}

// running is one of OpenSSH's programs under way.
type running struct {
	*exec.Cmd
	stderr lockedBuffer
	cancel context.CancelFunc
}

// begin starts ssh as somebody with password and a fresh code, for as long as that takes.
func (c *sshTry) begin(within time.Duration, stdin io.Reader, stdout io.Writer, args ...string) *running {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	r := &running{Cmd: exec.CommandContext(ctx, tool(c, "ssh", "openssh-client"), append([]string{"-F", c.w.conf}, args...)...), cancel: cancel}
	r.Env = append(os.Environ(), c.answers(c.p.password, c.p.code())...)
	r.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r.WaitDelay = time.Second
	r.Stdin, r.Stdout, r.Stderr = stdin, stdout, &r.stderr
	if err := r.Start(); err != nil {
		c.Fatal(err)
	}
	return r
}

func (r *running) end() error {
	defer r.cancel()
	return r.Wait()
}

// upload sends n bytes, and compares the sum that the target has made.
func (c *sshTry) upload(within time.Duration, n int64, args ...string) *running {
	c.Helper()
	sum := sha256.New()
	var stdout bytes.Buffer
	r := c.begin(within, io.TeeReader(stream(c, n), sum), &stdout, append(args, "sha256sum")...)
	if err := r.end(); err != nil || !strings.HasPrefix(stdout.String(), hex.EncodeToString(sum.Sum(nil))) {
		c.Fatalf("%d bytes up: %v, %q\n%s", n, err, stdout.String(), tailOf(r.stderr.String()))
	}
	return r
}

// download takes n bytes, and compares their sum.
func (c *sshTry) download(within time.Duration, n int64, args ...string) *running {
	c.Helper()
	got := &summed{Hash: sha256.New()}
	r := c.begin(within, nil, got, append(args, streamAtTarget(n))...)
	want := sha256.New()
	if _, err := io.Copy(want, stream(c, n)); err != nil {
		c.Fatal(err)
	}
	if err := r.end(); err != nil || got.n != n || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		c.Fatalf("%d bytes down: %v, %d bytes came, and their sum is another\n%s", n, err, got.n, tailOf(r.stderr.String()))
	}
	return r
}

type summed struct {
	hash.Hash
	n int64
}

func (w *summed) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	return w.Hash.Write(p)
}

// rekeyed counts the key exchanges after the first that ssh -v tells of.
func (r *running) rekeyed() int { return strings.Count(r.stderr.String(), "set_newkeys: rekeying out") }

// TestSSHTransfers moves much, and across many key exchanges, with checksums both ways: a quarter of a GiB, and with -long more than
// 4 GiB, where counters of 32 bits would have gone round.
func TestSSHTransfers(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	size, limit, within := int64(256<<20), "16M", 3*time.Minute
	if *long {
		size, limit, within = 4_400_000_000, "256M", 30*time.Minute
	}
	t.Run("much", func(t *testing.T) {
		c := w.try(t)
		args := c.cmdline(byAt, "ports1", "-v", "-o", "RekeyLimit="+limit)
		for name, move := range map[string]func(time.Duration, int64, ...string) *running{"up": c.upload, "down": c.download} {
			start := time.Now()
			if n := move(within, size, args...).rekeyed(); n < 10 {
				t.Errorf("%s: %d key exchanges after the first", name, n)
			}
			t.Logf("%s: %.0f MB/s", name, float64(size)/1e6/time.Since(start).Seconds())
		}
		for _, end := range c.newRecords("session.end") {
			in, _ := strconv.ParseInt(detail(end, "bytes_in"), 10, 64)
			out, _ := strconv.ParseInt(detail(end, "bytes_out"), 10, 64)
			if in+out < size {
				t.Errorf("on record: %d bytes in, %d out", in, out)
			}
		}
		c.check()
	})
	t.Run("many key exchanges", func(t *testing.T) {
		c := w.try(t)
		c.w.file(filepath.Join(filepath.Base(c.tmp), "conf"), "Host *\n  RekeyLimit 1M\n  LogLevel DEBUG1\n"+string(mustRead(t, w.conf)), 0o600)
		for _, x := range []struct {
			way    way
			target string
			size   int64
		}{{byAt, "ports1", 32 << 20}, {byJump, "srv1", 16 << 20}, {byOpaque, "open1", 16 << 20}} {
			args := append([]string{"-F", c.path("conf")}, c.cmdline(x.way, x.target)...)
			for name, move := range map[string]func(time.Duration, int64, ...string) *running{"up": c.upload, "down": c.download} {
				// Each megabyte, on the outer connection and on the inner one.
				if n, least := move(within, x.size, args...).rekeyed(), int(x.size>>20)/2; n < least {
					t.Errorf("%s, %s: %d key exchanges after the first, want %d at least", x.way.name, name, n, least)
				}
			}
		}
		c.check()
	})
	w.stop()
	w.check()
}

// resident is how much memory a process has, in bytes. It may be asked by any goroutine.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, found := strings.Cut(string(status), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(after), " kB")
	n, bad := strconv.ParseInt(kib, 10, 64)
	if err != nil || !found || bad != nil {
		t.Errorf("the gateway's memory: %v, %v in %q", err, bad, status)
	}
	return n << 10
}

// The pace of a side that is slow: 64 KiB in 20 ms, a hundredth of what the other side can do.
const (
	slowPiece  = 64 << 10
	slowPace   = 20 * time.Millisecond
	slowPieces = 60
)

// By how much the gateway may grow with four sessions, for their windows and buffers; recorded ones have 4 MiB of events each besides,
// which are larger in memory. What waits at the fast
// sides is 256 MiB. The race detector takes about three times as much.
const (
	mostGrowth   = 64 << 20
	mostRecorded = 192 << 20
)

// slow reads some pieces slowly, and then the rest.
type slow struct {
	io.Writer
	each func()
	left int
	tick *time.Ticker
}

func (s *slow) Write(p []byte) (int, error) {
	for off := 0; off < len(p); off += slowPiece {
		if s.left > 0 {
			s.left--
			<-s.tick.C
			s.each()
		}
	}
	return s.Writer.Write(p)
}

// TestSSHSlowSides has clients that read a hundred times slower than the target writes, and targets that read a hundred times slower
// than clients write: the gateway does not grow, and all of it arrives.
func TestSSHSlowSides(t *testing.T) {
	t.Parallel()
	w := newSSHWorld(t)
	const n, sessions = 64 << 20, 4
	want := sha256.New()
	if _, err := io.Copy(want, stream(t, n)); err != nil {
		t.Fatal(err)
	}
	pid := w.daemon.cmd.Process.Pid
	var most atomic.Int64 // of several goroutines
	grown := func() {
		now := resident(t, pid)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
	}
	// A session of each kind first, so that what the gateway needs once is there.
	var tries [sessions]*sshTry
	for i := range tries {
		tries[i] = w.try(t)
	}
	first := tries[0]
	first.upload(patience, 32<<20, first.cmdline(byAt, "ports1")...)
	first.download(patience, 32<<20, first.cmdline(byAt, "ports1")...)
	before := resident(t, pid)
	check := func(what string, bound int64) {
		t.Helper()
		now := most.Swap(0)
		t.Logf("%s: from %d to %d MiB", what, before>>20, now>>20)
		if raceEnabled() {
			bound *= 3
		}
		if now-before > bound {
			t.Errorf("%s: the gateway has grown from %d to %d MiB", what, before>>20, now>>20)
		}
	}
	// The target says whenever it has taken a piece.
	piece := fmt.Sprintf("dd bs=%d count=1 iflag=fullblock status=none; echo >&2; sleep %.3f", slowPiece, slowPace.Seconds())
	command := fmt.Sprintf("{ for i in $(seq %d); do %s; done; cat; } | sha256sum", slowPieces, piece)
	var all []*running
	var outs [sessions]bytes.Buffer
	for i, c := range tries {
		all = append(all, c.begin(patience, stream(t, n), &outs[i], append(c.cmdline(byAt, "ports1"), command)...))
	}
	for pieces := 0; pieces < sessions*slowPieces; {
		grown()
		until(t, "slow targets", func() bool {
			now := 0
			for _, r := range all {
				now += strings.Count(r.stderr.String(), "\n")
			}
			more := now > pieces
			pieces = max(pieces, now)
			return more
		})
	}
	for i, r := range all {
		if err := r.end(); err != nil || !strings.HasPrefix(outs[i].String(), hex.EncodeToString(want.Sum(nil))) {
			t.Errorf("slow target %d: %v, %q\n%s", i, err, outs[i].String(), tailOf(r.stderr.String()))
		}
	}
	check("slow targets", mostGrowth)
	for _, x := range []struct {
		target string
		bound  int64
	}{{"ports1", mostGrowth}, {"srv1", mostRecorded}} {
		var all []*running
		var sums []hash.Hash
		for _, c := range tries {
			tick := time.NewTicker(slowPace)
			defer tick.Stop()
			sum := sha256.New()
			sums = append(sums, sum)
			all = append(all, c.begin(patience, nil, &slow{Writer: sum, each: func() { grown() }, left: slowPieces, tick: tick}, append(c.cmdline(byAt, x.target), streamAtTarget(n))...))
		}
		for i, r := range all {
			if err := r.end(); err != nil || !bytes.Equal(sums[i].Sum(nil), want.Sum(nil)) {
				t.Errorf("slow client %d at %s: %v\n%s", i, x.target, err, tailOf(r.stderr.String()))
			}
		}
		check("slow clients of "+x.target, x.bound)
	}
	w.stop()
	w.check()
}
