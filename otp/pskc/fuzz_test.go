package pskc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sallyport/otp"
)

// Whatever the file holds: no panic, bounded work, tokens that can be used, and faults that show nothing of a secret.
func FuzzRead(f *testing.F) {
	figures, err := filepath.Glob("testdata/rfc6030-*.xml")
	if err != nil || len(figures) < 5 {
		f.Fatal(figures, err)
	}
	for _, name := range figures {
		doc, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc, uint8(0))
		f.Add(doc, uint8(1))
		f.Add(doc, uint8(2))
	}
	f.Add([]byte(head+plainTOTP+tail), uint8(0))
	f.Fuzz(func(t *testing.T, doc []byte, how uint8) {
		if bytes.Contains(doc, []byte("IterationCount")) && !bytes.Contains(doc, []byte(">1000<")) {
			return // no hours for PBKDF2
		}
		k := [3]Key{{}, rfcKey, {Password: "qwerty"}}[how%3]
		var given []otp.Hardware
		err := Read(bytes.NewReader(doc), k, func(h otp.Hardware) error {
			given = append(given, h)
			return nil
		})
		serials := make(map[string]bool)
		for _, h := range given {
			if h.Params.Validate() != nil || len(h.Seed) < otp.MinSeed || len(h.Seed) > otp.MaxSeed || !otp.ValidSerial(h.Serial) || h.Counter < 0 || serials[h.Serial] {
				t.Errorf("given: %+v", h)
			}
			serials[h.Serial] = true
		}
		var faults *otp.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Errorf("an error that is no fault: %v", err)
		}
	})
}

// many is a file with n tokens that is made while it is read.
type many struct {
	n, next int
	buf     bytes.Buffer
}

func (m *many) Read(p []byte) (int, error) {
	for m.buf.Len() < len(p) && m.next <= m.n+1 {
		switch {
		case m.next == 0:
			m.buf.WriteString(head)
		case m.next == m.n+1:
			m.buf.WriteString(tail)
		default:
			m.buf.WriteString(strings.Replace(plainTOTP, "T1", fmt.Sprintf("T%07d", m.next), 1))
		}
		m.next++
	}
	if m.buf.Len() == 0 {
		return 0, io.EOF
	}
	return m.buf.Read(p)
}

// Thirty thousand tokens are read in a few megabytes: what grows is the set of serial numbers.
func TestMemory(t *testing.T) {
	const n = 30_000
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, most := 0, uint64(0)
	err := Read(&many{n: n}, Key{}, func(otp.Hardware) error {
		if got++; got%5_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
		return nil
	})
	if err != nil || got != n {
		t.Fatalf("%d tokens, %v", got, err)
	}
	if used := int64(most) - int64(before.HeapAlloc); used > 12<<20 {
		t.Errorf("%d MiB were in use for %d tokens", used>>20, n)
	}
}

func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	if err := Read(&many{n: b.N}, Key{}, func(otp.Hardware) error { return nil }); err != nil && b.N <= otp.MaxHardware {
		b.Fatal(err)
	}
}
