package detector

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// rowsAround are rows in which every feature varies a little, and one that all of them share is off.
func rowsAround(n, feature int, off float32, seed uint64) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 0))
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = make([]float32, features.Size)
		for f := range rows[i] {
			if f%3 == 0 {
				rows[i][f] = float32(r.NormFloat64()) * 0.7
			}
		}
		rows[i][feature] += off
	}
	return rows
}

// heardOf is what likenessOf wants of ordinary rows, with distances from their middle.
func heardOf(rows [][]float32, budget float64) heardRows {
	with := heardRows{rows: rows, folds: 5, budget: budget}
	for i, x := range rows {
		with.fold = append(with.fold, i%5)
		with.distances = append(with.distances, length(x))
	}
	return with
}

func length(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v * v)
	}
	return math.Sqrt(sum)
}

func labelsOf(rows [][]float32) []label {
	out := make([]label, len(rows))
	for i, x := range rows {
		copy(out[i].row[:], x)
		out[i].attack = true
	}
	return out
}

// Labels of attacks that lie among ordinary rows, but for one feature, bring others of the kind over the line that a share of the ordinary rows exceeds. What nobody labelled is never
// brought nearer, nothing is brought beyond what is documented, and the line rises by the tolerance at most.
func TestLikenessBringsAttacksOverTheLine(t *testing.T) {
	with := heardOf(rowsAround(800, 1, 0, 1), 0.01)
	l, ordinary := likenessOf(labelsOf(rowsAround(50, 1, 2, 2)), length, with)
	if l == nil {
		t.Fatal("fifty labels were not heard")
	}
	over := func(rows [][]float32, heard bool) (share float64) {
		line := l.line
		for _, x := range rows {
			d := length(x)
			if heard {
				d = l.raised(d, x)
			}
			if d > line*(1+likenessTolerance) {
				share += 1 / float64(len(rows))
			}
		}
		return share
	}
	kind := rowsAround(500, 1, 2, 3)
	if before, after := over(kind, false), over(kind, true); after < before+0.3 {
		t.Errorf("of the labelled kind %.2f are over the line, %.2f before", after, before)
	}
	if share := over(rowsAround(2000, 1, 0, 4), true); share > 0.03 {
		t.Errorf("%.4f of new ordinary rows are over the line of 0.01", share)
	}
	for i, d := range with.distances {
		with.distances[i] = l.raise(d, ordinary[i])
	}
	if line := limit(with.distances, 0.01); line > l.line*(1+likenessTolerance) {
		t.Errorf("the line rose from %.3f to %.3f", l.line, line)
	}
	for _, rows := range [][][]float32{kind, rowsAround(500, 4, 9, 5), rowsAround(500, 7, -3, 6)} {
		for _, x := range rows {
			was := length(x)
			is := l.raised(was, x)
			if is < was || is > (1+likenessGain)*was || is > max(was, l.line*(1+likenessBeyond)) {
				t.Fatalf("a distance of %.3f became %.3f, the line is %.3f", was, is, l.line)
			}
			credits := make([]iforest.Contribution, len(x))
			for f := range credits {
				credits[f].Feature = f
			}
			l.credit(credits, x, is-was)
			sum := 0.0
			for k, c := range credits {
				sum += c.Credit
				if k > 0 && c.Credit > credits[k-1].Credit {
					t.Fatal("credits are not in order")
				}
			}
			if math.Abs(sum-(is-was)) > 1e-9 {
				t.Fatalf("credits add up to %v, the distance rose by %v", sum, is-was)
			}
		}
	}
}

func TestLikenessIsNotHeard(t *testing.T) {
	with := heardOf(rowsAround(400, 1, 0, 1), 0.01)
	cleared := labelsOf(rowsAround(50, 1, 2, 2))
	for i := range cleared {
		cleared[i].attack = false
	}
	for name, labels := range map[string][]label{
		"of false positives": cleared,
		"few":                labelsOf(rowsAround(fewestLabels-1, 1, 2, 2)),
		"of what cannot be told from ordinary calls": labelsOf(rowsAround(50, 1, 0, 2)),
		"of what exceeds anyway":                     labelsOf(rowsAround(50, 1, 40, 2)),
	} {
		if l, _ := likenessOf(labels, length, with); l != nil {
			t.Errorf("labels %s were heard: %+v", name, l)
		}
	}
}

// A later label counts more than one before it.
func TestLikenessFades(t *testing.T) {
	rows := rowsAround(200, 1, 0, 1)
	old, late := rowsAround(20, 4, 3, 2), rowsAround(20, 7, 3, 3)
	weights := make([]float64, 40)
	w := 1.0
	for i := range slices.Backward(weights) {
		weights[i] = w
		w *= 0.9
	}
	l := direction(rows, append(slices.Clone(old), late...), weights)
	if l.weight[7] <= l.weight[4] || l.weight[4] <= 0 {
		t.Errorf("weight %v of what was labelled first, %v of what was labelled last", l.weight[4], l.weight[7])
	}
}

func TestLikenessRoundTrip(t *testing.T) {
	l, _ := likenessOf(labelsOf(rowsAround(50, 1, 2, 2)), length, heardOf(rowsAround(800, 1, 0, 1), 0.01))
	b := l.append([]byte{likenessBytes & 0x7f, 0})
	b = append([]byte{likenessBytes&0x7f | 0x80, likenessBytes >> 7}, b[2:]...)
	r := &reader{rest: b}
	if again := readLikeness(r); r.end() != nil || *again != *l {
		t.Fatalf("%+v came back as %+v: %v", l, again, r.err)
	}
	for name, wrong := range map[string]likeness{
		"no number":      {from: 1, to: 2, gain: 1, line: math.NaN()},
		"no way up":      {from: 2, to: 2, gain: 1, line: 1},
		"gain":           {from: 1, to: 2, gain: likenessGain * 2, line: 1},
		"below ordinary": {from: -1, to: 2, gain: 1, line: 1},
		"weight":         {weight: features.Vector{float32(math.Inf(1))}, from: 1, to: 2, gain: 1, line: 1},
	} {
		r := &reader{rest: append(slices.Clone(b[:2]), wrong.append(nil)...)}
		readLikeness(r)
		if !errors.Is(r.end(), ErrCorrupt) {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	var none *likeness
	if d := none.raised(1.5, make([]float32, features.Size)); d != 1.5 {
		t.Errorf("no labels made %v of 1.5", d)
	}
}

// The threshold rises little from one training to the next, however many calls were sent that lie just below it, and what an earlier, higher one allowed is forgotten slowly.
func TestCeiling(t *testing.T) {
	i := Info{Calls: 1000, Threshold: scoreAt(3, ordinary), FalsePositivesPerMillion: 10_000}
	o := Options{}.withDefaults()
	lent := o
	lent.Prior = make([]Row, 1)
	other := o
	other.FalsePositivesPerMillion *= 2
	higher, fromPrior := i, i
	higher.Ceiling, fromPrior.PriorRows = 4, 1
	worded := i
	worded.Words = true
	if got := worded.allows(o, 1000, true); math.Abs(got-3*1.02) > 1e-9 {
		t.Errorf("with words, as before: %v", got)
	}
	for name, tc := range map[string]struct {
		i     Info
		o     Options
		calls int
		want  float64
	}{
		"words before":     {worded, o, 1000, 0},
		"none before":      {Info{}, o, 1000, 0},
		"as many calls":    {i, o, 1000, 3 * 1.02},
		"twice as many":    {i, o, 2000, 0},
		"another budget":   {i, other, 1000, 0},
		"lent":             {i, lent, 1000, 0},
		"lent before":      {fromPrior, o, 1000, 0},
		"higher some time": {higher, o, 1000, 4 * 0.97},
	} {
		if got := tc.i.allows(tc.o, tc.calls, false); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
