// Package collector sets how much garbage the sidecar's heap may hold, by what lives in it.
//
// The one call is Tune, for a program that has a process to itself.
package collector

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Bounds of how much garbage there may be for what lives, in percent, and what the heap may come to before less is allowed. Set by e2e/bench: a call of a kilobyte
// leaves some 10 KB behind, and collecting at Go's own 100 % takes a tenth of a busy sidecar's time while little lives; 256 streams keep 18 MB alive
// but leave little behind, so that collecting more often costs them nothing.
const (
	leastGarbage = 65
	mostGarbage  = 200
	easyHeap     = 31 << 20
)

// garbagePercent is what debug.SetGCPercent is to be given with so many bytes alive: what lets the heap grow to easyHeap, within bounds.
func garbagePercent(live uint64) int {
	if live == 0 {
		return mostGarbage
	}
	return int(max(leastGarbage, min(mostGarbage, 100*float64(easyHeap)/float64(live)-100)))
}

// Tune sets the garbage collector's percentage after each collection by what it found alive, for the life of the process: a sidecar
// that does little or holds much open stays small, and a busy one collects seldom. It is called once, by the program.
func Tune() {
	t := &tuner{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	t.tune()
}

type tuner struct {
	live    []metrics.Sample
	percent int
}

// tune sets the percentage and asks to be called after the next collection.
func (t *tuner) tune() {
	metrics.Read(t.live)
	if p := garbagePercent(t.live[0].Value.Uint64()); p < t.percent-5 || p > t.percent+5 {
		t.percent = p
		debug.SetGCPercent(p)
	}
	// Unreachable at once, it is found so by the next collection. Its pointer keeps it from the allocator's blocks of tiny objects, which live as long as
	// any of them.
	runtime.AddCleanup(&struct{ t *tuner }{t}, (*tuner).tune, t)
}
