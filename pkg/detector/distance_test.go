package detector

import (
	"math"
	"testing"
)

func TestScoreOfDistance(t *testing.T) {
	last := -1.
	for _, d := range []float64{0, 1e-9, 0.5, 2, 7, 1e6, 1e300, math.Inf(1)} {
		s := scoreAt(d, ordinary)
		if !(s >= last && s >= 0 && s <= 1) {
			t.Errorf("distance %v scores %v, a shorter one %v", d, s, last)
		}
		last = s
		if back := distanceAt(s, ordinary); d < 1e9 && math.Abs(back-d) > 1e-6*(1+d*d) {
			t.Errorf("distance %v scores %v, which is distance %v", d, s, back)
		}
	}
	if s := scoreAt(ordinary, ordinary); s != 0.5 {
		t.Errorf("an ordinary distance scores %v", s)
	}
	for _, tc := range []struct{ distance, least, want float64 }{{3, 3, 1}, {6, 3, 1. / 16}, {math.Inf(1), 3, 0}, {3, 0, 0}} {
		if got := thinned(tc.distance, tc.least); got != tc.want {
			t.Errorf("%v beyond %v: a share of %v, want %v", tc.distance, tc.least, got, tc.want)
		}
	}
}
