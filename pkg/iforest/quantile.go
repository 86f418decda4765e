package iforest

import "math"

// Quantile returns a value that about a share p of the reference's rows do not
// exceed in a feature, p in 0 to 1: one of the at most 16 that cut its histogram,
// the nearest one up. With p = 0 it is the end of the lowest part, with 1 the
// largest value there was. Missing values do not count. It is NaN for a feature
// that the reference does not have, or of which it has no values.
func (r *Reference) Quantile(feature int, p float64) float32 {
	if feature < 0 || feature >= r.Features() {
		return float32(math.NaN())
	}
	h := &r.columns[feature+1]
	total := uint64(0)
	for i := range h.edges {
		total += h.counts[i]
	}
	if total == 0 {
		return float32(math.NaN())
	}
	sum := uint64(0)
	for i, edge := range h.edges {
		if sum += h.counts[i]; float64(sum) >= p*float64(total) {
			return edge
		}
	}
	return h.edges[len(h.edges)-1]
}
