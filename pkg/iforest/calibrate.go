package iforest

import (
	"math"
	"slices"
	"sort"
)

// maxPoints bounds a Calibration: about 10 KiB when encoded.
const maxPoints = 1024

// bodySteps is how many of those points lie evenly over the ranks; the rest are
// spent on the upper tail, where thresholds lie.
const bodySteps = 256

// Calibration tells how unusual a score is among the scores of ordinary rows
// that the forest had not seen (see CrossScores). It is a conformal predictor:
// for a new ordinary row, exchangeable with the calibration rows,
//
//	P(Percentile(score) ≥ 1−α) ≤ α
//
// for every α, whatever the scores' distribution. A Calibration never changes,
// except by UnmarshalBinary. The zero value has seen no scores: every
// percentile is 0 and no threshold is supported.
type Calibration struct {
	n      uint64
	values []float64 // ascending
	ranks  []uint64  // how many scores were ≤ values[i]; the last is n
}

// Calibrate summarises scores. With at most 1024 distinct scores the summary
// is exact. Otherwise a percentile p is too low, never too high, by at most
// 1/256 and at most 1/32 of 1−p: thresholds err towards fewer alarms, by three
// in a hundred of them at most. Scores that are not finite are left out.
func Calibrate(scores []float64) *Calibration {
	sorted := make([]float64, 0, len(scores))
	for _, s := range scores {
		if s-s == 0 {
			sorted = append(sorted, s)
		}
	}
	slices.Sort(sorted)
	c := &Calibration{n: uint64(len(sorted))}
	for i, s := range sorted {
		if i+1 == len(sorted) || s != sorted[i+1] {
			c.values = append(c.values, s)
			c.ranks = append(c.ranks, uint64(i+1))
		}
	}
	if len(c.values) <= maxPoints {
		return c
	}
	for fineness := uint64(512); ; fineness /= 2 {
		if t := c.thinned(fineness); len(t.values) <= maxPoints {
			return t
		}
	}
}

// thinned keeps the largest score and then, going down, as few points as leave
// the number of scores above any of them known to one part in fineness, and to
// one in bodySteps of all. The point kept of a stretch is its lowest, so that
// what was left out is taken to be lower than it is.
func (c *Calibration) thinned(fineness uint64) *Calibration {
	above := func(i int) uint64 { return c.n - c.ranks[i] }
	last := len(c.values) - 1
	keep := []int{last}
	for i := last - 1; i >= 0; i-- {
		bound := above(i) + min(above(i)/fineness, c.n/bodySteps)
		for i > 0 && above(i-1) <= bound {
			i--
		}
		keep = append(keep, i)
	}
	t := &Calibration{n: c.n}
	for _, i := range slices.Backward(keep) {
		t.values = append(t.values, c.values[i])
		t.ranks = append(t.ranks, c.ranks[i])
	}
	return t
}

// Size returns how many scores the calibration was made of.
func (c *Calibration) Size() int { return int(c.n) }

// Percentile returns the conformal percentile of a score, in [0, 1): the
// number of calibration scores below it, divided by their number plus one.
// Equal scores do not count as below. Beyond the largest calibration score it
// stays at n/(n+1): n rows bear witness to no rarer event than one in n+1, and
// to rank rows beyond that there is the score itself. A NaN counts as beyond
// the largest.
func (c *Calibration) Percentile(score float64) float64 {
	below := len(c.values)
	if score == score {
		below = sort.SearchFloat64s(c.values, score)
	}
	if below == 0 {
		return 0
	}
	return float64(c.ranks[below-1]) / float64(c.n+1)
}

// Threshold returns the score above which ("score > threshold") a share of at
// most fpr of ordinary rows lies. It is ok if the calibration is large enough
// to say so, that is, for fpr in (0, 1) and at least 1/fpr − 1 scores. If not,
// the largest score seen is returned, or 0 if there is none: alarms above it
// are as few as the calibration can make them, and more than were asked for.
func (c *Calibration) Threshold(fpr float64) (score float64, ok bool) {
	// The slack lets 0.01 of 99+1 scores be 1, however 0.01 was rounded.
	const slack = 1e-9
	budget := math.Floor(float64(float64(c.n+1)*fpr) + slack)
	if !(fpr > 0 && fpr < 1) || budget < 1 || c.n == 0 {
		if c.n == 0 {
			return 0, false
		}
		return c.values[len(c.values)-1], false
	}
	// Of n+1 exchangeable scores, budget may lie above: the new one and
	// budget−1 of ours, so that the threshold is ours of rank n+1−budget.
	rank := c.n + 1 - uint64(budget)
	i := sort.Search(len(c.ranks), func(i int) bool { return c.ranks[i] >= rank })
	return c.values[i], true
}

// Quantile returns the score above which a share fpr of ordinary rows is
// expected, between two calibration scores where the share lies between them.
// Threshold promises "at most", and with n scores may be met with up to 1/(n+1)
// less than was allowed: of 300 scores and 1 %, with 0.66 %. Quantile is met on
// average, give or take that. Where there are too few scores to say, it is the
// largest seen, or 0 if there is none, as with Threshold.
func (c *Calibration) Quantile(fpr float64) float64 {
	if c.n == 0 {
		return 0
	}
	last := len(c.values) - 1
	below := float64(c.n) - float64(float64(c.n+1)*fpr) // scores, less one, that lie below
	if !(fpr > 0 && fpr < 1) || below >= float64(c.n-1) {
		return c.values[last]
	}
	if below <= 0 {
		return c.values[0]
	}
	at := uint64(below)
	value := func(rank uint64) float64 { // the score of that rank, from 0
		return c.values[sort.Search(last, func(i int) bool { return c.ranks[i] > rank })]
	}
	lo, hi := value(at), value(at+1)
	return lo + float64((hi-lo)*(below-float64(at)))
}
