package iforest

import (
	"cmp"
	"math"
	"slices"
)

// Contribution is what one feature did to a row's score.
type Contribution struct {
	Feature int     // index into the row
	Value   float32 // the row's value
	// Credit is in units of path length: how much shorter the row's path is
	// for the splits on this feature. Above 0 made the row more anomalous,
	// below 0 less.
	Credit float64
}

// Explain returns the features that were asked on x's paths, largest credit
// first, features of equal credit by index.
//
// A split is credited with the mean path length of the training rows at its
// node less that of the training rows at the child x goes to. Along a path
// these differences telescope, so that the credits of all features add up to
// the mean path length of the training rows less that of x, and
//
//	Score(x) = BaseScore() · 2^(Σ credits / CreditUnit())
//
// hold to rounding (1e-9). A feature with credit CreditUnit() has thus doubled
// the score. Credits say what the forest did, not what caused the row: of two
// features that move together, either may be credited.
//
// Where Score is 1 because of NaNs, the NaN features share equally the credit
// that makes the above true. For a row of the wrong length Explain returns nil.
//
// Explain walks the trees one by one and allocates; it is meant for the rows
// that alarm, not for every row.
func (f *Forest) Explain(x []float32) []Contribution {
	if len(x) != f.dims || f.dims == 0 {
		return nil
	}
	if !f.scorable(x) {
		return f.explainNaN(x)
	}
	credits := make([]float64, f.dims)
	asked := make([]bool, f.dims)
	for i := range f.trees {
		t := &f.trees[i]
		for n := int32(0); t.nodes[n].feature != isLeaf; {
			feature := t.nodes[n].feature
			next := t.child(n, x[feature])
			credits[feature] += t.mean[n] - t.mean[next]
			asked[feature] = true
			n = next
		}
	}
	var out []Contribution
	for i, yes := range asked {
		if yes {
			out = append(out, Contribution{i, x[i], credits[i] / float64(len(f.trees))})
		}
	}
	slices.SortStableFunc(out, func(a, b Contribution) int { return cmp.Compare(b.Credit, a.Credit) })
	return out
}

func (f *Forest) explainNaN(x []float32) []Contribution {
	var out []Contribution
	for i, v := range x {
		if v != v {
			out = append(out, Contribution{Feature: i, Value: v})
		}
	}
	for i := range out {
		out[i].Credit = f.root / float64(len(out))
	}
	return out
}

// BaseScore is the score of the mean path length of the training rows: what
// Explain's credits start from.
func (f *Forest) BaseScore() float64 {
	if f.dims == 0 {
		return 1
	}
	return math.Exp2(-f.root / f.cPsi)
}

// CreditUnit is c(ψ), the credit that doubles a score.
func (f *Forest) CreditUnit() float64 { return f.cPsi }
