package iforest

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// weightUnit is what one step of a stored leaf weight is.
const weightUnit = 1. / 1024

// leafWeight is the weight that a stored one stands for.
func leafWeight(w int16) float64 { return float64(w) * weightUnit }

// factor is what feedback makes of a distance at leaf i.
func (t *tree) factor(i int32) float64 {
	if t.weight == nil {
		return 1
	}
	return float64(float32(1 + float64(leafWeight(t.weight[i]))))
}

// FeedbackOptions says how labels change a forest. The zero value takes every
// default.
type FeedbackOptions struct {
	// Step is how much one label adds to the weight of each leaf its row
	// falls into, above 0 to 1; 0 means 0.1.
	Step float64
	// Decay is what every label leaves of all earlier ones, above 0 to 1;
	// 0 means 0.99: a label has half its weight after 69 further ones.
	Decay float64
	// Cap bounds the weight of a leaf, above 0 to 1; 0 means 0.5. No row's
	// score is raised by more than Cap allows: a factor of 2^Cap, or, with
	// LeafDistance, odds of 1+Cap.
	Cap float64
	// Relief bounds the weight of a leaf downwards, above 0 to 0.5; 0 means
	// 0.1. It is the tolerance towards what nobody labelled: whatever rows are
	// called false positives, no row's score, of no family of anomalies,
	// falls below 2^−Relief of what it was (with LeafDistance, no row's odds
	// below 1−Relief).
	Relief float64
	// Tolerance is how far Apply lets the threshold on ordinary rows rise, as
	// a share of it, above 0 to 1; 0 means 0.02.
	Tolerance float64
}

func (o FeedbackOptions) complete() (FeedbackOptions, error) {
	for _, p := range []struct {
		name           string
		value          *float64
		preset, atMost float64
	}{
		{"Step", &o.Step, 0.1, 1},
		{"Decay", &o.Decay, 0.99, 1},
		{"Cap", &o.Cap, 0.5, 1},
		{"Relief", &o.Relief, 0.1, 0.5},
		{"Tolerance", &o.Tolerance, 0.02, 1},
	} {
		if *p.value == 0 {
			*p.value = p.preset
		}
		if !(*p.value > 0 && *p.value <= p.atMost) {
			return o, &OptionError{p.name, *p.value, fmt.Sprintf("above 0 to %v, or 0 for %v", p.atMost, p.preset)}
		}
	}
	return o, nil
}

// Feedback gathers labels of rows and makes a forest that has heard them: each
// leaf has a weight, which labels of the rows in it move up or down, and which
// shortens or lengthens the paths that end there. That follows Das et al.,
// "Incorporating Feedback into Tree-based Anomaly Detection",
// arXiv 1708.09441, but the forest stays the detector and labels only bend it,
// within bounds: one fitted to labels is perfect on the families it was shown
// and blind to the others.
//
// What an unlabelled family of anomalies may lose is bounded twice. Its scores
// fall by no more than FeedbackOptions.Relief, and the threshold on ordinary
// rows rises by no more than FeedbackOptions.Tolerance; so what is missed after
// feedback was within both of the threshold before.
//
// A Feedback is for one goroutine at a time. Forests made by it are as any.
type Feedback struct {
	forest *Forest
	opts   FeedbackOptions
	weight [][]float64 // per tree, per node
}

// NewFeedback starts from a forest and the feedback that is in it already, as
// far as that is within the bounds of opts. It fails for a zero Forest and, with
// an *OptionError, for options outside of what is accepted.
func NewFeedback(f *Forest, opts FeedbackOptions) (*Feedback, error) {
	if f.dims == 0 {
		return nil, errors.New("iforest: feedback to a forest that was never fitted")
	}
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	b := &Feedback{forest: f, opts: opts, weight: make([][]float64, len(f.trees))}
	for i := range f.trees {
		b.weight[i] = make([]float64, len(f.trees[i].nodes))
		for n := range f.trees[i].weight {
			b.weight[i][n] = max(-opts.Relief, min(opts.Cap, leafWeight(f.trees[i].weight[n])))
		}
	}
	return b, nil
}

// Label tells that x is an anomaly, or a false positive. It is an error if the
// forest cannot judge x: if it is of another length, or has a NaN that the forest
// does not take for missing.
func (b *Feedback) Label(x []float32, anomaly bool) error {
	f := b.forest
	x, err := f.judgeable(x)
	if err != nil {
		return fmt.Errorf("iforest: label a row: %w", err)
	}
	step := b.opts.Step
	if !anomaly {
		step = -step
	}
	for i := range f.trees {
		w := b.weight[i]
		for n := range w {
			w[n] = float64(w[n] * b.opts.Decay)
		}
		leaf := f.trees[i].leaf(x)
		w[leaf] = max(-b.opts.Relief, min(b.opts.Cap, w[leaf]+step))
	}
	return nil
}

// judgeable returns x as the trees take it, missing values filled in, or says why
// the forest cannot judge it.
func (f *Forest) judgeable(x []float32) ([]float32, error) {
	switch {
	case f.scorable(x):
		return x, nil
	case f.fillable(x):
		return fill(make([]float32, len(x)), x, f.center), nil
	case len(x) != f.dims:
		return nil, fmt.Errorf("%d features for a forest of %d", len(x), f.dims)
	case f.opts.Missing == MissingMedian:
		return nil, errors.New("all of its values are missing")
	}
	return nil, errors.New("a value is NaN")
}

// Apply returns the forest that has heard the labels. ordinary are rows of
// everyday work, best those the forest was not fitted on. A leaf that k of them
// come to, of those that score highest, hears 1/(1+k) of what raises its
// weight, and then all labels are weakened by halves until the score that a
// share of at most budget of ordinary lies above has risen by no more than the
// tolerance. strength is what that leaves of the labels, 1 if nothing was
// halved, 0 if none could be heard. Thresholds have to be set anew, as scores of
// ordinary rows change with their leaves. It is an error if the forest cannot
// judge one of ordinary, or if they are fewer than 1/budget − 1.
func (b *Feedback) Apply(ordinary [][]float32, budget float64) (heard *Forest, strength float64, err error) {
	plain := b.forest.unheard()
	rows := make([][]float32, len(ordinary))
	for i, x := range ordinary {
		if rows[i], err = plain.judgeable(x); err != nil {
			return nil, 0, fmt.Errorf("iforest: ordinary row %d: %w", i, err)
		}
	}
	ordinary = rows
	scores := plain.ScoreBatch(nil, ordinary)
	spread := Calibrate(scores)
	before, ok := spread.Threshold(budget)
	if !ok {
		return nil, 0, fmt.Errorf("iforest: %d ordinary rows are too few to watch a budget of %v by", len(ordinary), budget)
	}
	tail, _ := spread.Threshold(min(0.5, watched*budget))
	weight := b.spared(plain, ordinary, scores, tail)
	for strength = 1; strength >= 1./64; strength /= 2 {
		heard = b.forest.weighted(weight, strength)
		after, _ := Calibrate(heard.ScoreBatch(nil, ordinary)).Threshold(budget)
		if after <= before*(1+b.opts.Tolerance) {
			return heard, strength, nil
		}
	}
	return plain, 0, nil
}

// watched is how many times the budget's share of ordinary rows, those of the
// highest scores, keep their leaves from being raised.
const watched = 5

// spared returns the weights with those that raise divided by one more than
// the number of ordinary rows with a score above tail in the leaf.
func (b *Feedback) spared(f *Forest, ordinary [][]float32, scores []float64, tail float64) [][]float64 {
	out := make([][]float64, len(b.weight))
	count := make([][]float64, len(b.weight))
	for i, w := range b.weight {
		out[i] = slices.Clone(w)
		count[i] = make([]float64, len(w))
	}
	for r, x := range ordinary {
		if scores[r] > tail {
			for i := range f.trees {
				count[i][f.trees[i].leaf(x)]++
			}
		}
	}
	for i, w := range out {
		for n := range w {
			if w[n] > 0 {
				w[n] /= 1 + count[i][n]
			}
		}
	}
	return out
}

// unheard returns f without feedback.
func (f *Forest) unheard() *Forest { return f.weighted(nil, 0) }

// weighted returns f with these leaf weights, nil for none.
func (f *Forest) weighted(weight [][]float64, strength float64) *Forest {
	g := *f
	g.trees = make([]tree, len(f.trees))
	any := false
	for i := range f.trees {
		t := f.trees[i]
		t.weight = nil
		if weight != nil {
			t.weight = make([]int16, len(t.nodes))
			for n := range t.nodes {
				if t.nodes[n].feature == isLeaf {
					// Towards 0, so that caps hold.
					t.weight[n] = int16(math.Trunc(weight[i][n] * strength / weightUnit))
					any = any || t.weight[n] != 0
				}
			}
		}
		g.trees[i] = t
	}
	if !any {
		for i := range g.trees {
			g.trees[i].weight = nil
		}
	}
	g.flat, g.linked = flat{}, linked{}
	g.complete()
	return &g
}
