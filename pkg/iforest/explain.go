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
	// Credit is how much shorter the row's path is, in splits, for those on
	// this feature; with LeafDistance how much farther it is, in standard
	// deviations, than an ordinary row. Above 0 made the row more anomalous,
	// below 0 less. Against Forest.CreditUnit it tells what of the score it is.
	Credit float64
}

// Explain returns the features that had a part in x's score, largest credit
// first, features of equal credit by index.
//
// With PathLength, a split is credited with the mean path length of the
// training rows at its node less that of the training rows at the child x goes
// to. Along a path these differences telescope, so that the credits of all
// features add up to the mean path length of the training rows less that of x.
// A split on several columns shares its credit among them by how far x is from
// each one's median, times its coefficient. With LeafDistance, a feature's
// credit is what it adds to the mean distance (its squared difference over the
// distance) less what it adds to that of ordinary rows. In both,
//
//	Score(x) = ScoreOf(Σ credits)
//
// holds to rounding (1e-9). Credits say what the forest did, not what caused
// the row: of two features that move together, either may be credited.
//
// A missing value is explained as the median it is taken for. Where Score is 1
// because of NaNs, the NaN features share equally the credit that makes the
// above true, and so do infinite ones, of an infinite credit, where the distance
// is infinite. For a row of the wrong length Explain returns nil.
//
// Explain walks the trees one by one and allocates; it is meant for the rows
// that alarm, not for every row.
func (f *Forest) Explain(x []float32) []Contribution {
	out := f.contributions(x)
	slices.SortStableFunc(out, func(a, b Contribution) int { return cmp.Compare(b.Credit, a.Credit) })
	return out
}

// ExplainTop returns the first n of what Explain returns, those that made the
// row no more anomalous left out. It allocates what it returns, and for rows of
// more than 128 features or such as Score does not take as they are a little
// more.
func (f *Forest) ExplainTop(x []float32, n int) []Contribution {
	top := make([]Contribution, 0, max(0, min(n, f.dims)))
	var small [128]float64
	if f.opts.Scoring != LeafDistance || f.dims > len(small) || !f.scorable(x) || !finite(x) {
		for _, c := range f.contributions(x) {
			top = rank(top, c)
		}
		return top
	}
	credits := small[:f.dims]
	f.creditDistances(credits, x)
	for k, credit := range credits {
		top = rank(top, Contribution{Feature: k, Value: x[k], Credit: credit})
	}
	return top
}

// rank puts c among those of greater or equal credit, of which no more are kept
// than there is room for.
func rank(top []Contribution, c Contribution) []Contribution {
	at := len(top)
	for at > 0 && top[at-1].Credit < c.Credit {
		at--
	}
	if !(c.Credit > 0) || at == cap(top) {
		return top
	}
	top = top[:min(len(top)+1, cap(top))]
	copy(top[at+1:], top[at:])
	top[at] = c
	return top
}

// contributions is Explain in the order of the features.
func (f *Forest) contributions(x []float32) []Contribution {
	if len(x) != f.dims || f.dims == 0 {
		return nil
	}
	asked := x
	if !f.scorable(x) {
		if !f.fillable(x) {
			return f.share(x, func(v float32) bool { return v != v })
		}
		x = fill(make([]float32, len(x)), x, f.center)
	}
	var out []Contribution
	if f.opts.Scoring == LeafDistance {
		if !finite(x) {
			return f.share(x, func(v float32) bool { return v-v != 0 })
		}
		out = f.explainDistance(x)
	} else {
		out = f.explainPath(x)
	}
	for i := range out {
		out[i].Value = asked[out[i].Feature]
	}
	return out
}

func (f *Forest) explainPath(x []float32) []Contribution {
	credits := make([]float64, f.dims)
	asked := make([]bool, f.dims)
	for i := range f.trees {
		t := &f.trees[i]
		for n := int32(0); t.nodes[n].feature != isLeaf; {
			next := t.child(n, x)
			credit := t.mean[n] - t.mean[next]
			if t.terms == nil {
				feature := t.nodes[n].feature
				credits[feature] += credit
				asked[feature] = true
			} else {
				f.divide(credits, asked, t.split(n), x, credit)
			}
			n = next
		}
	}
	var out []Contribution
	for i, yes := range asked {
		if yes {
			out = append(out, Contribution{Feature: i, Credit: credits[i] / float64(len(f.trees))})
		}
	}
	return out
}

// divide shares the credit of a split among its columns.
func (f *Forest) divide(credits []float64, asked []bool, terms []term, x []float32, credit float64) {
	var part [MaxColumns]float64
	sum := 0.0
	for k, t := range terms {
		far := max(-math.MaxFloat32, min(math.MaxFloat32, float64(x[t.feature]))) - float64(f.center[t.feature])
		part[k] = math.Abs(far * float64(t.coef))
		sum += part[k]
	}
	for k, t := range terms {
		share := 1 / float64(len(terms))
		if sum > 0 {
			share = part[k] / sum
		}
		credits[t.feature] += credit * share
		asked[t.feature] = true
	}
}

func (f *Forest) explainDistance(x []float32) []Contribution {
	credits := make([]float64, f.dims)
	f.creditDistances(credits, x)
	out := make([]Contribution, f.dims)
	for k, credit := range credits {
		out[k] = Contribution{Feature: k, Credit: credit}
	}
	return out
}

// creditDistances makes credits, zeros of the row's length, what each feature
// adds to the distance, less what it adds to that of an ordinary row.
func (f *Forest) creditDistances(credits []float64, x []float32) {
	l := &f.linked
	for g := range l.groups() {
		leaves := l.walk(g, x)
		for _, k := range leaves[:min(lanes, len(f.trees)-g*lanes)] {
			p := f.prototypes[l.proto[k]]
			d := distance(x, p, f.inverse)
			if !(d > 0) {
				continue
			}
			factor := 1.0
			if l.factor != nil {
				factor = float64(l.factor[k])
			}
			addSquares(credits, x, p, f.inverse, factor/d)
		}
	}
	differ := slices.ContainsFunc(f.base, func(b float32) bool { return b > 0 })
	for k := range credits {
		expected := f.unit / float64(f.dims)
		if differ {
			expected = float64(f.base[k])
		}
		credits[k] = credits[k]/float64(len(f.trees)) - expected
	}
}

// share gives the features that are to blame for a score of 1 equal parts of
// what it takes.
func (f *Forest) share(x []float32, blamed func(float32) bool) []Contribution {
	var out []Contribution
	for i, v := range x {
		if blamed(v) {
			out = append(out, Contribution{Feature: i, Value: v})
		}
	}
	for i := range out {
		out[i].Credit = f.root / float64(len(out))
		if f.opts.Scoring == LeafDistance {
			out[i].Credit = math.Inf(1)
		}
	}
	return out
}

// ScoreOf is the score of a row whose credits add up to this: for PathLength
//
//	BaseScore() · 2^(credits / CreditUnit())
//
// and for LeafDistance 1 − 1 / (2 + credits / CreditUnit()).
func (f *Forest) ScoreOf(credits float64) float64 {
	switch {
	case f.dims == 0:
		return 1
	case f.opts.Scoring == LeafDistance:
		return f.fromMean(f.unit + credits)
	}
	return f.BaseScore() * math.Exp2(credits/f.cPsi)
}

// BaseScore is the score of a row without credits, of the mean path length of
// the training rows or the distance of an ordinary row: what Explain starts
// from.
func (f *Forest) BaseScore() float64 {
	switch {
	case f.dims == 0:
		return 1
	case f.opts.Scoring == LeafDistance:
		return f.fromMean(f.unit)
	}
	return math.Exp2(-f.root / f.cPsi)
}

// CreditUnit is c(ψ), the credit that doubles a score, or, with LeafDistance,
// the distance of an ordinary row, of which 0.5 is the score.
func (f *Forest) CreditUnit() float64 {
	if f.opts.Scoring == LeafDistance {
		return f.unit
	}
	return f.cPsi
}
