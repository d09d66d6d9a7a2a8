package main

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
		shown  string
	}{
		{[]float64{3}, spread{3, 3, 3, 1}, "3.0"},
		{[]float64{9, 1, 2}, spread{2, 1, 9, 3}, "2.0 [1.0–9.0]"},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9, 4}, "3.0 [1.0–9.0]"},
	} {
		before := append([]float64(nil), c.values...)
		got := spreadOf(c.values)
		if got != c.want || got.show("%.1f") != c.shown {
			t.Errorf("%v: %+v, %q: want %+v, %q", c.values, got, got.show("%.1f"), c.want, c.shown)
		}
		for i := range before {
			if c.values[i] != before[i] {
				t.Errorf("%v was put into another order", before)
				break
			}
		}
	}
	if none := spreadOf(nil); !math.IsNaN(none.Median) || none.show("%.1f") != "-" {
		t.Errorf("without values: %+v, %q", none, none.show("%.1f"))
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		sorted []int64
		p      float64
		want   int64
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 0, 1},
		{[]int64{7}, 50, 7},
		{[]int64{7}, 99, 7},
		{[]int64{1, 2}, 50, 1},
		{[]int64{1, 2, 3}, 50, 2},
		{nil, 50, 0},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %v: %d: want %d", c.p, c.sorted, got, c.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 1234 567 0 0 20 0"
	for _, comm := range []string{"sallyport", "a b", "x) S 1 (y", ""} {
		got, err := parseStat([]byte("42 (" + comm + ")" + tail))
		if err != nil || got != (times{1234, 567}) {
			t.Errorf("command %q: %+v, %v: want 1234 and 567", comm, got, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (x)", "42 (x) S 1 2 3", "42 (x) S 1 2 3 4 5 6 7 8 9 10 many 567"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v: want an error", bad, got)
		}
	}
}

func TestParseMemory(t *testing.T) {
	const status = "Name:\tsallyport\nVmRSS:\t   30000 kB\nRssAnon:\t   20000 kB\nRssFile:\t    9000 kB\nRssShmem:\t       0 kB\n"
	got, err := parseMemory([]byte(status))
	if err != nil || got != (memory{Anon: 20000 << 10, File: 9000 << 10}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "RssAnon:\t1 kB\n", strings.Replace(status, "9000", "nine", 1)} {
		if got, err := parseMemory([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v: want an error", bad, got)
		}
	}
}

func TestParseMachine(t *testing.T) {
	got, err := parseMachine([]byte("cpu  100 1 50 800 20 3 4 22 7 0\ncpu0 1 2 3\n"))
	if err != nil || got != (machine{total: 1000, idle: 820, steal: 22}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x"} {
		if got, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v: want an error", bad, got)
		}
	}
}

// TestCPUTime: the CPU clock is what the kernel also says in ticks.
func TestCPUTime(t *testing.T) {
	pid := os.Getpid()
	x := 1.0
	for end := ownCPU() + 200*time.Millisecond; ownCPU() < end; {
		x = math.Sqrt(x + 2)
	}
	clock, err := cpuTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := readTimes(pid)
	if err != nil {
		t.Fatal(err)
	}
	said := time.Duration(ticks.user+ticks.system) * 10 * time.Millisecond
	if d := clock - said; d < -50*time.Millisecond || d > 50*time.Millisecond {
		t.Errorf("CPU clock %s, /proc/PID/stat %s (%f)", clock, said, x)
	}
	// 1<<22 is the kernel's PID_MAX_LIMIT.
	if _, err := cpuTime(1 << 22); err == nil {
		t.Error("a process that is not there has a CPU time")
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_234_567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %q: want %q", n, got, want)
		}
	}
}
