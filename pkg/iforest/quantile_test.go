package iforest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestReferenceQuantile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows [][]float32
	column := []float32{}
	for range 1000 {
		x := float32(rng.NormFloat64())
		column = append(column, x)
		rows = append(rows, []float32{x, 7, float32(math.NaN())})
	}
	r, err := NewReference(rows, make([]float64, len(rows)))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(column)
	last := float32(math.Inf(-1))
	for _, p := range []float64{0, 0.05, 0.25, 0.5, 0.75, 0.95, 1} {
		got := r.Quantile(0, p)
		if got < last {
			t.Errorf("quantiles fall at %v", p)
		}
		last = got
		at, _ := slices.BinarySearch(column, got)
		if share := float64(at+1) / 1000; share < p || share > p+1./driftBins+0.002 {
			t.Errorf("%v of the values are up to the quantile %v", share, p)
		}
		if r.Quantile(1, p) != 7 {
			t.Errorf("quantile %v of a constant is %v", p, r.Quantile(1, p))
		}
	}
	if r.Quantile(0, 1) != column[999] {
		t.Error("the last quantile is not the largest value")
	}
	for _, f := range []int{-1, 2, 3} {
		if x := r.Quantile(f, 0.5); x == x {
			t.Errorf("feature %d has the quantile %v", f, x)
		}
	}
}
