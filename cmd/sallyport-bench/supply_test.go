package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/otp"
)

func testCrowd(t *testing.T, n int, p otp.Params) *crowd {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		seed := []byte(fmt.Sprintf("seed of 20 bytes%4d", i))
		fmt.Fprintf(&lines, "{\"person\":\"p%d\",\"uri\":%q}\n", i, otp.URI("Sallyport", fmt.Sprintf("p%d", i), seed, p, 5))
	}
	c, err := readCrowd(strings.NewReader(lines.String()), testSecret)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var hotp = otp.Params{Type: otp.TypeHOTP, Algorithm: otp.SHA1, Digits: 6}

// TestReadCrowd: what an enrolment prints is read back, and anything else is refused without showing the seed.
func TestReadCrowd(t *testing.T) {
	eight := otp.Params{Type: otp.TypeTOTP, Algorithm: otp.SHA256, Digits: 8, Period: 60}
	for _, want := range []otp.Params{otp.Default(), eight, hotp} {
		c := testCrowd(t, 3, want)
		p := c.people[2]
		last := int64(-1)
		if want.Type == otp.TypeHOTP {
			last = 4
		}
		if len(c.people) != 3 || p.name != "p2" || string(p.seed) != "seed of 20 bytes   2" || p.params != want || p.last != last {
			t.Errorf("%d people, the last %+v: want %+v", len(c.people), p, want)
		}
	}
	const seed = "ONXW2ZJANZXW4IDTMVSWK3Q"
	for _, bad := range []string{
		`{`, `[]`, `{"person":"p"}`, `{"person":"","uri":"otpauth://totp/a?secret=` + seed + `"}`,
		`{"person":"p","uri":"https://example.com/?secret=` + seed + `"}`,
		`{"person":"p","uri":"otpauth://totp/a?secret=` + seed + `1"}`,
		`{"person":"p","uri":"otpauth://totp/a?secret=` + seed + `&digits=seven"}`,
		`{"person":"p","uri":"otpauth://totp/a?secret=` + seed + `&digits=7"}`,
		`{"person":"p","uri":"otpauth://xotp/a?secret=` + seed + `"}`,
	} {
		_, err := readCrowd(strings.NewReader(bad), testSecret)
		if err == nil || strings.Contains(err.Error(), seed) {
			t.Errorf("%s: %v: want an error without the seed", bad, err)
		}
	}
}

// codes reads back who asks with which code, and checks the shape of a script.
func codes(t *testing.T, s *script) (who, code []string) {
	t.Helper()
	for k := range s.len() {
		p, err := radius.Parse(s.packet(k), []byte(testSecret))
		if err != nil {
			t.Fatal(err)
		}
		if p.Identifier != byte(k) {
			t.Fatalf("packet %d has identifier %d", k, p.Identifier)
		}
		who = append(who, rfc2865.UserName_GetString(p))
		code = append(code, rfc2865.UserPassword_GetString(p))
	}
	return who, code
}

// TestCounters: every HOTP request of a person has the next counter, within a run and from run to run, and what was
// made but not sent is made again.
func TestCounters(t *testing.T) {
	c := testCrowd(t, 10, hotp)
	next := map[string]int64{}
	for run := range 3 {
		scripts, err := c.prepare(context.Background(), need{lanes: 3, want: 600, least: 10}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		home := map[string]int{}
		for lane := range scripts {
			s := &scripts[lane]
			if s.len() != 200 {
				t.Fatalf("lane %d has %d requests: want 200", lane, s.len())
			}
			s.sent = 150
			who, code := codes(t, s)
			for k := range s.sent {
				if at, seen := home[who[k]]; seen && at != lane {
					t.Fatalf("%s is in lanes %d and %d", who[k], at, lane)
				}
				home[who[k]] = lane
				var i int
				fmt.Sscanf(who[k], "p%d", &i)
				if want := otp.Code(c.people[i].seed, hotp, 5+next[who[k]]); code[k] != want {
					t.Fatalf("run %d: %s has code %s: want %s of counter %d", run, who[k], code[k], want, 5+next[who[k]])
				}
				next[who[k]]++
			}
		}
		c.sent(scripts)
	}
}

// TestStepOnce: where codes serve once, nobody is asked for twice in a time step, and a run waits for the next step when
// too few people are left.
func TestStepOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCrowd(t, 100, otp.Default())
		start := time.Now()
		used := map[string]bool{}
		ask := func(want, least, sent int) int {
			t.Helper()
			scripts, err := c.prepare(t.Context(), need{lanes: 4, want: want, least: least, lasts: time.Second}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			step := otp.Default().StepAt(time.Now())
			for i := range scripts {
				scripts[i].sent = min(sent, scripts[i].len())
				who, _ := codes(t, &scripts[i])
				for _, name := range who[:scripts[i].sent] {
					key := fmt.Sprint(name, step)
					if used[key] {
						t.Fatalf("%s twice in step %d", name, step)
					}
					used[key] = true
				}
			}
			c.sent(scripts)
			return total(scripts)
		}
		if n := ask(20, 20, 99); n != 20 {
			t.Errorf("%d requests: want 20", n)
		}
		if n := ask(1000, 70, 10); n != 80 {
			t.Errorf("%d requests: want those of the 80 who are left", n)
		}
		if time.Since(start) > time.Second {
			t.Fatalf("waited %s although enough people were left", time.Since(start))
		}
		if n := ask(1000, 40, 99); n != 40 {
			t.Errorf("%d requests: want the 40 that were made but not sent", n)
		}
		if n := ask(1000, 70, 99); n != 100 {
			t.Errorf("%d requests: want all 100 again", n)
		}
		if waited := time.Since(start); waited < 29*time.Second || waited > 31*time.Second {
			t.Errorf("waited %s: want for the next step", waited)
		}
	})
}

// TestStepFits: where only the present step's code passes, a run begins so early that it ends within the step.
func TestStepFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inventCrowd(10, testSecret)
		n := need{lanes: 1, want: 50, least: 10, lasts: 5 * time.Second}
		time.Sleep(24 * time.Second) // of the bubble's clock
		scripts, err := c.prepare(t.Context(), n, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if into := time.Now().Unix() % 30; into > 1 {
			t.Errorf("began %d s into a step: want at its begin", into)
		}
		who, code := codes(t, &scripts[0])
		for k := range who {
			var i int
			fmt.Sscanf(who[k], "person-%d", &i)
			if want := otp.Code(c.people[i].seed, otp.Default(), otp.Default().StepAt(time.Now())); code[k] != want {
				t.Fatalf("%s has code %s: want %s", who[k], code[k], want)
			}
		}
		n.lasts = 29 * time.Second
		if _, err := c.prepare(t.Context(), n, time.Now); err == nil {
			t.Error("a run of 29 s began, which cannot fit")
		}
	})
}

func TestInvented(t *testing.T) {
	a, b := inventCrowd(1000, testSecret), inventCrowd(1000, testSecret)
	seen := map[string]bool{}
	for i, p := range a.people {
		if seen[string(p.seed)] || len(p.seed) != 20 || url.PathEscape(p.name) != p.name {
			t.Fatalf("person %d: %+v", i, p.name)
		}
		seen[string(p.seed)] = true
		if string(b.people[i].seed) != string(p.seed) {
			t.Fatal("two crowds differ: runs would not be alike")
		}
	}
}
