package relay

import (
	"io"
	"testing"
)

// greedy gives as much as is asked for, and counts how often that is.
type greedy struct{ left, reads int }

func (g *greedy) Read(p []byte) (int, error) {
	g.reads++
	if g.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), g.left)
	g.left -= n
	return n, nil
}

// P7: what nobody wants is read in packets, since a channel may answer each read by a packet of its own.
func TestDiscardReadsPackets(t *testing.T) {
	var b Buffers
	g := &greedy{left: 64 << 20}
	b.Discard(g)
	if most := 64<<20/Packet + 3; g.left > 0 || g.reads > most {
		t.Errorf("%d bytes left after %d reads, want at most %d", g.left, g.reads, most)
	}
}
