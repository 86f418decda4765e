package detector

import (
	"slices"
	"testing"
)

func TestAsOneForest(t *testing.T) {
	got := asOneForest([][]float64{{1, 5, 3, 9}, {2, 4, 6, 8}, {1.5, 7, 2.5, 10}})
	// The means are in the order 0, 2, 1, 3; of 1 1.5 2 | 2.5 3 4 | 5 6 7 | 8 9 10 each has the middle one.
	if want := []float64{1.5, 6, 3, 9}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
