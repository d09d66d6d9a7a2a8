package main

import (
	"context"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
	"time"
)

// tuneGC sets how much garbage there may be, unless GOGC does. Most of what is in use is people, who stay: with few of
// them the collector would run all the time for little, and with many its usual share is more memory than need be. A
// hundred thousand people stay under 80 MiB.
func (c *cli) tuneGC() {
	debug.FreeOSMemory() // reading everybody in has left much behind
	if _, set := c.env("GOGC"); set {
		return
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetGCPercent(gcPercent(m.HeapAlloc, 0))
}

// gcPercent is how much garbage there may be, in per cent of what is in use, where passwords make so much a second, both in bytes. Each
// takes megabytes for a moment: where many log in, the collector would run for each of them.
func gcPercent(inUse, made uint64) int {
	const (
		runs      = 4 // of the collector a second, as far as memory allows: up to small, or twice what is in use
		least     = 8 << 20
		small     = 48 << 20
		low, high = 30, 800
	)
	allowance := max(min(made/runs, max(small-min(inUse, small), inUse)), least)
	return min(max(int(allowance*100/max(inUse, 1)), low), high)
}

const (
	lookAtMemory = time.Second // how often the garbage that may be is measured: sessions come and go
	rushOver     = 5           // looks without a run of the collector between them
)

// tendMemory keeps gcPercent, and gives memory back to the system once a rush is over: the collector runs by what was
// allocated, so that after a rush of logins nothing would give it back for minutes.
func (c *cli) tendMemory(ctx context.Context, byPasswords func() uint64) error {
	const spare = 16 << 20 // bytes that are worth a collection
	s := []gometrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	_, fixed := c.env("GOGC")
	var cycles, made uint64
	quiet := 0
	tick := time.NewTicker(lookAtMemory)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		gometrics.Read(s)
		now, live, held := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()+s[3].Value.Uint64()+s[4].Value.Uint64()
		before := made
		made = byPasswords()
		if now != cycles { // somebody is at work
			cycles, quiet = now, 0
			if !fixed {
				debug.SetGCPercent(gcPercent(live, made-min(before, made)))
			}
			continue
		}
		if quiet++; quiet >= rushOver && held > live+max(spare, live/4) {
			debug.FreeOSMemory()
		}
	}
}
