package main

import "testing"

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		inUse, made uint64
		most        int // bytes of garbage, in MiB
	}{
		{4 * mib, 0, 8},
		{8 * mib, 80 * mib, 20},
		{8 * mib, 480 * mib, 40}, // up to 48 MiB in all
		{4 * mib, 1 << 40, 32},   // nor over eight times what is in use
		{45 * mib, 0, 13},
		{80 * mib, 480 * mib, 80}, // nor over as much as is in use
		{200 * mib, 480 * mib, 120},
		{0, 0, 0},
	} {
		p := gcPercent(c.inUse, c.made)
		if got := int(c.inUse/mib) * p / 100; got != c.most && got != c.most-1 {
			t.Errorf("%d MiB in use, %d made: %d %%, which is %d MiB, want %d", c.inUse/mib, c.made/mib, p, got, c.most)
		}
	}
}
