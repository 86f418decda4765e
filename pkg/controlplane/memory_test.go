package controlplane

import (
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/xds"
)

func TestMemory(t *testing.T) {
	for _, tt := range []struct {
		m        memory
		sidecars int // may be
		with     int // are
		learned  int
	}{
		{defaultMemory, 3780, 0, 224 << 20},
		{defaultMemory, 3780, 1500, 224 << 20},
		{defaultMemory, 3780, 3000, 384<<20 - 3000*sidecarMemory},
		{defaultMemory, 3780, 5000, 0},
		{2 << 30, 17014, 5000, 896 << 20},
		{64 << 20, leastSidecars, 0, 0},
		{0, leastSidecars, 0, 0},
	} {
		if sidecars, learned := tt.m.sidecars(), tt.m.learned(tt.with); sidecars != tt.sidecars || learned != tt.learned {
			t.Errorf("%d bytes: %d sidecars, and with %d %d bytes to learn; want %d and %d", tt.m, sidecars, tt.with, learned, tt.sidecars, tt.learned)
		}
		if sum := tt.m.learned(tt.m.sidecars()) + tt.m.sidecars()*sidecarMemory; tt.m > 128<<20 && sum > int(tt.m) {
			t.Errorf("%d bytes are given of %d", sum, tt.m)
		}
	}
}

// What is learned gives way to sidecars that connect, and is learned again when they have gone.
func TestLearningGivesWayToSidecars(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	l.salt = salted(7)
	l.configure("agents", learningOf(&v1alpha1.DetectorSpec{MinCalls: 100, MinSessions: 2}))
	records := recordsOf(t, detectortest.Rows(1, 400), "")
	name := func(i int) xds.Identity {
		return xds.Identity{Namespace: "agents", Kind: "Deployment", Name: string(rune('a' + i))}
	}
	send := func() {
		for i := range 4 {
			for _, record := range records {
				l.Record(name(i), record)
			}
		}
	}
	send()
	all := l.taken()
	most := 8 * all
	l.room.bound = func() int { return most }
	l.tidy()
	for i := range 4 {
		if l.state(name(i).Workload()).Limited {
			t.Fatalf("workload %d gave something up", i)
		}
	}
	most = all * 3 / 4
	now = now.Add(lookEvery)
	l.tidy()
	limited := 0
	for i := range 4 {
		if l.state(name(i).Workload()).Limited {
			limited++
		}
	}
	if l.taken() > most || limited == 0 {
		t.Errorf("%d bytes are kept of %d, where %d may be; %d workloads gave something up", l.taken(), all, most, limited)
	}
	most = 8 * all
	now = now.Add(lookEvery)
	l.tidy()
	send()
	if l.taken() < all*3/4 {
		t.Errorf("%d bytes are learned again, of %d before", l.taken(), all)
	}
}
