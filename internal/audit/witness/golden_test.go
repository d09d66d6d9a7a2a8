package witness

import (
	"flag"
	"os"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
)

// The log's key is that of internal/audit's golden export.
const (
	goldenLogSecret = "PRIVATE+KEY+gw1.test/sallyport+9bcf8371+AZEsOL4aWKkKSNflTae7dyte8zSlG1DIsfCUos0vZ7+s"
	goldenLogKey    = "gw1.test/sallyport+9bcf8371+AXQ0X/VcNpYhQKOvQQRnGtURAw4jPHjD3D6i4c9jQgAr"
	goldenSecret    = "PRIVATE+KEY+witness.test/w1+79bbc332+BH8OHVI6weXvi3k/jxUM9zRvrFrSv5s6CN3SDSV4sxSC"
	goldenKey       = "witness.test/w1+79bbc332+BPtQMJOu4JzkPpshRGwpVuhjAkxQT+vA3zcPjsoj+k+d"
)

var update = flag.Bool("update", false, "write testdata/record-3.tlog-proof anew, with new salts")

// TestGoldenProof: a proof that was made once, with the signature of a witness, can be verified for ever.
func TestGoldenProof(t *testing.T) {
	signer, err := note.NewSigner(goldenLogSecret)
	if err != nil {
		t.Fatal(err)
	}
	log, err := note.NewVerifier(goldenLogKey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/record-3.tlog-proof"
	if *update {
		w := newWorld(t)
		if w.signer, err = NewSigner(goldenSecret, w.clock.Now); err != nil {
			t.Fatal(err)
		}
		w.dir, w.log.keys = t.TempDir(), logKeys{signer, log, goldenLogKey}
		if err := Begin(w.dir, log.Name(), w.signer); err != nil {
			t.Fatal(err)
		}
		w.start()
		g := newGateway(t, w.clock, w.log.keys)
		g.records(7)
		g.publish(w.witness("w")).round(t.Context(), false)
		g.wantSigned(7, w)
		proof, err := g.log.Prove(3, g.last())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, proof, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := audit.VerifyProof(file, log, v)
	if err != nil || p.Seq != 3 || p.Record.Login != "mallory" || p.Checkpoint.Size != 7 || len(p.Checkpoint.Cosigned) != 1 || p.Checkpoint.Strangers != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if at, err := SignedAt(p.Checkpoint.Cosigned[0]); err != nil || !at.Equal(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("signed at %s, %v", at, err)
	}
}
