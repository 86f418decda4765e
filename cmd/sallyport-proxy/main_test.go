package main

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestTuneCollector(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) })

	tuneCollector(false)
	if l, p := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); l != math.MaxInt64 || p != 100 {
		t.Errorf("without a limit: limit %d, percent %d", l, p)
	}
	debug.SetMemoryLimit(512 << 20)
	tuneCollector(true)
	if l, p := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); l != 448<<20 || p != 100 {
		t.Errorf("with GOGC: limit %d, percent %d", l, p)
	}
	tuneCollector(false)
	if l, p := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); l != 392<<20 || p == 100 {
		t.Errorf("with a limit: limit %d, percent %d", l, p)
	}
}
