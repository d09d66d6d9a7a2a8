package otp

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rows reads a comma-separated file of testdata/otp, without its comments.
func rows(t *testing.T, name string, columns int) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "testdata", "otp", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		row := strings.Split(sc.Text(), ",")
		if len(row) != columns {
			t.Fatalf("%s: %q has %d columns, want %d", name, sc.Text(), len(row), columns)
		}
		out = append(out, row)
	}
	return out
}

func number(t *testing.T, s string, base int) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Every vector of RFC 4226 appendix D: the truncated HMAC, the code, and the counter that Match finds.
func TestRFC4226AppendixD(t *testing.T) {
	seed := []byte("12345678901234567890")
	p := Params{Type: TypeHOTP, Algorithm: SHA1, Digits: 6}
	vectors := rows(t, "rfc4226-appendix-d.csv", 5)
	if len(vectors) != 10 {
		t.Fatalf("%d vectors, want the appendix's 10", len(vectors))
	}
	for _, v := range vectors {
		counter, code := number(t, v[0], 10), v[4]
		var m mac
		m.init(SHA1, seed)
		if got := int64(m.truncated(counter)); got != number(t, v[2], 16) || got != number(t, v[3], 10) {
			t.Errorf("counter %d: truncated %x, want %s", counter, got, v[2])
		}
		if got := Code(seed, p, counter); got != code {
			t.Errorf("counter %d: code %s, want %s", counter, got, code)
		}
		if step, ok := Match(seed, p, code, Ahead(-1, 10)); !ok || step != counter {
			t.Errorf("code %s: matched %d, %v, want counter %d", code, step, ok, counter)
		}
	}
}

// Every vector of RFC 6238 appendix B, for each of its hashes and seed lengths.
func TestRFC6238AppendixB(t *testing.T) {
	seeds := map[Algorithm]int{SHA1: 20, SHA256: 32, SHA512: 64}
	vectors := rows(t, "rfc6238-appendix-b.csv", 5)
	if len(vectors) != 18 {
		t.Fatalf("%d vectors, want the appendix's 18", len(vectors))
	}
	for _, v := range vectors {
		at := time.Unix(number(t, v[0], 10), 0)
		if utc := at.UTC().Format(time.DateTime); utc != v[1] {
			t.Errorf("%s: is %s, want %s", v[0], utc, v[1])
		}
		p := Params{Type: TypeTOTP, Algorithm: Algorithm(v[3]), Digits: 8, Period: 30}
		seed := []byte(strings.Repeat("1234567890", 7))[:seeds[p.Algorithm]]
		want := number(t, v[2], 16)
		if step := p.StepAt(at); step != want {
			t.Errorf("%s: step %X, want %s", v[0], step, v[2])
		}
		if got := Code(seed, p, want); got != v[4] {
			t.Errorf("%s %s: code %s, want %s", v[0], p.Algorithm, got, v[4])
		}
		if step, ok := Match(seed, p, v[4], p.Around(at, 1)); !ok || step != want {
			t.Errorf("%s %s: matched %d, %v, want %d", v[0], p.Algorithm, step, ok, want)
		}
	}
}
