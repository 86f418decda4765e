package iforest

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestReplaceIsRepeatableAndLeavesTheForestAlone(t *testing.T) {
	rows, later := gaussian(700, 5, 1), gaussian(700, 5, 2)
	for _, opts := range kinds {
		opts.Trees, opts.Schema = 13, "s"
		f := mustFit(t, rows, opts)
		before := encoded(t, f)
		g, err := f.Replace(later, 5)
		if err != nil {
			t.Fatalf("%+v: %v", opts, err)
		}
		again, err := f.Replace(later, 5)
		if err != nil || !bytes.Equal(encoded(t, g), encoded(t, again)) {
			t.Fatalf("%+v: the same step gives another forest (%v)", opts, err)
		}
		if !bytes.Equal(encoded(t, f), before) {
			t.Fatalf("%+v: the forest itself changed", opts)
		}
		if !reflect.DeepEqual(g.trees[0].nodes, f.trees[5].nodes) || reflect.DeepEqual(g.trees[8].nodes, f.trees[0].nodes) {
			t.Fatalf("%+v: the oldest trees did not give way", opts)
		}
		h, err := Load(encoded(t, g), "s")
		if err != nil || !reflect.DeepEqual(g, h) {
			t.Fatalf("%+v: changed on the way (%v)", opts, err)
		}
		for _, x := range later[:50] {
			if g.Score(x) != linkedScore(g, x) {
				t.Fatalf("%+v: the flat form disagrees", opts)
			}
		}
		// Further steps grow other trees than this one did.
		next, err := g.Replace(later, 5)
		if err != nil || reflect.DeepEqual(next.trees[12].nodes, g.trees[12].nodes) {
			t.Fatalf("%+v: the same trees twice (%v)", opts, err)
		}
	}
}

func TestReplaceRefusals(t *testing.T) {
	rows := gaussian(100, 3, 1)
	f := mustFit(t, rows, Options{Trees: 10, SampleSize: 64})
	far := mustFit(t, rows, Options{Trees: 10, SampleSize: 40, Scoring: LeafDistance})
	for name, c := range map[string]struct {
		f    *Forest
		rows [][]float32
		n    int
	}{
		"none":           {f, rows, 0},
		"too many":       {f, rows, 11},
		"too few rows":   {f, rows[:63], 1},
		"no twice":       {far, rows[:79], 1},
		"other features": {f, gaussian(100, 2, 1), 1},
		"NaN":            {f, append(rows[:99:99], []float32{0, float32(math.NaN()), 0}), 1},
		"zero forest":    {&Forest{}, rows, 1},
	} {
		if _, err := c.f.Replace(c.rows, c.n); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What is ordinary moves; a forest that replaces trees follows it, and one step
// moves it by a part of the way only.
func TestReplaceFollowsWhatIsOrdinary(t *testing.T) {
	shifted := func(n int, seed uint64) [][]float32 {
		rows := gaussian(n, 4, seed)
		for _, row := range rows {
			row[0] += 4
			row[1] -= 4
		}
		return rows
	}
	mean := func(f *Forest, rows [][]float32) float64 {
		sum := 0.0
		for _, s := range f.ScoreBatch(nil, rows) {
			sum += s / float64(len(rows))
		}
		return sum
	}
	for _, opts := range []Options{{RangeExtension: 1}, {Scoring: LeafDistance}} {
		old, fresh := gaussian(200, 4, 3), shifted(200, 4)
		f := mustFit(t, gaussian(1000, 4, 1), opts)
		first := mean(f, fresh)
		last := first
		for step := range 5 {
			var err error
			if f, err = f.Replace(shifted(1000, uint64(10+step)), 20); err != nil {
				t.Fatal(err)
			}
			now := mean(f, fresh)
			if now >= last {
				t.Errorf("%+v, step %d: score of what is ordinary now went from %.3f to %.3f", opts, step, last, now)
			}
			if step == 0 && first-now > (first-0.45)/2 {
				t.Errorf("%+v: one step of five went from %.3f to %.3f", opts, first, now)
			}
			last = now
		}
		if past := mean(f, old); past < last+0.1 {
			t.Errorf("%+v: what was ordinary scores %.3f, what is scores %.3f", opts, past, last)
		}
	}
}

// family returns rows of one family of anomalies: its own feature is off.
func family(n, feature int, by float32, seed uint64) [][]float32 {
	rows := gaussian(n, 8, seed)
	for _, row := range rows {
		row[feature] += by
	}
	return rows
}

func TestFeedbackKeepsItsBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 0))
	ordinary := gaussian(2000, 8, 1)
	for _, opts := range kinds {
		opts.Trees, opts.Schema = 20, "s"
		f := mustFit(t, ordinary, opts)
		o := FeedbackOptions{Step: 0.3, Relief: 0.07}
		b, err := NewFeedback(f, o)
		if err != nil {
			t.Fatal(err)
		}
		asked := append(gaussian(200, 8, 5), family(100, 3, 4, 6)...)
		for range 60 {
			x := asked[r.IntN(len(asked))]
			if err := b.Label(x, r.IntN(2) == 0); err != nil {
				t.Fatal(err)
			}
		}
		_, strength, err := b.Apply(gaussian(1000, 8, 7), 0.01)
		if err != nil {
			t.Fatal(err)
		}
		g := f.weighted(b.weight, 1) // the bounds hold at any strength, also this
		for _, x := range asked {
			was, is := f.Score(x), g.Score(x)
			down, up := math.Exp2(-0.07), math.Exp2(0.5)
			if opts.Scoring == LeafDistance {
				was, is = was/(1-was), is/(1-is)
				down, up = 1-0.07, 1.5
			}
			if is < was*down*(1-1e-6) || is > was*up*(1+1e-6) {
				t.Fatalf("%+v (strength %v): %v became %v", opts, strength, was, is)
			}
			if is := g.Score(x); is != linkedScore(g, x) || !(is < 1) {
				t.Fatalf("%+v: score %v, by the trees %v", opts, is, linkedScore(g, x))
			}
			sum := 0.0
			for _, c := range g.Explain(x) {
				sum += c.Credit
			}
			if math.Abs(g.ScoreOf(sum)-g.Score(x)) > 1e-9 {
				t.Fatalf("%+v: credits give %v, score %v", opts, g.ScoreOf(sum), g.Score(x))
			}
		}
		h, err := Load(encoded(t, g), "s")
		if err != nil || !reflect.DeepEqual(g, h) {
			t.Fatalf("%+v: feedback changed on the way (%v)", opts, err)
		}
		if !bytes.Equal(encoded(t, g.unheard()), encoded(t, f)) {
			t.Fatalf("%+v: without its feedback it is not the forest it was", opts)
		}
		if next, err := g.Replace(ordinary, 3); err != nil || next.trees[0].weight == nil {
			t.Fatalf("%+v: feedback is lost by Replace (%v)", opts, err)
		}
	}
}

// Labels of one family, and of false positives, help where they were given; a
// family without labels keeps its rate of detection within three points.
func TestFeedbackHelpsItsFamilyAndSparesTheOthers(t *testing.T) {
	const budget, tolerance = 0.01, 0.03
	ordinary := gaussian(3000, 8, 1)
	for i, row := range ordinary {
		if i%50 == 0 {
			row[6] = 3.5 // a rare kind of ordinary work
		}
	}
	for _, opts := range []Options{
		{SampleSize: 512, RangeExtension: 1, Seed: 1},
		{Scoring: LeafDistance, Seed: 1},
		{Columns: 2, RangeExtension: 1, Seed: 1},
	} {
		f := mustFit(t, ordinary, opts)
		watch := gaussian(2000, 8, 21)
		rate := func(f *Forest, rows [][]float32) float64 {
			limit, ok := Calibrate(f.ScoreBatch(nil, watch)).Threshold(budget)
			if !ok {
				t.Fatal("too few rows for the budget")
			}
			n := 0
			for _, s := range f.ScoreBatch(nil, rows) {
				if s > limit {
					n++
				}
			}
			return float64(n) / float64(len(rows))
		}
		b, err := NewFeedback(f, FeedbackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range family(100, 2, 3, 22) {
			if err := b.Label(x, true); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				x = gaussian(1, 8, uint64(1000+i))[0]
				x[6] = 3.5
				if err := b.Label(x, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		g, strength, err := b.Apply(gaussian(2000, 8, 23), budget)
		if err != nil {
			t.Fatal(err)
		}
		shown := [2]float64{rate(f, family(2000, 2, 3, 24)), rate(g, family(2000, 2, 3, 24))}
		t.Logf("%+v: strength %v; the family that was shown: %.3f to %.3f", opts, strength, shown[0], shown[1])
		if strength == 0 || shown[1] < shown[0]+0.02 {
			t.Errorf("%+v: a hundred labels took the family from %.3f to %.3f", opts, shown[0], shown[1])
		}
		for _, feature := range []int{0, 5, 7} {
			was, is := rate(f, family(2000, feature, 3, 25)), rate(g, family(2000, feature, 3, 25))
			t.Logf("  an unlabelled one: %.3f to %.3f", was, is)
			if is < was-tolerance {
				t.Errorf("%+v: an unlabelled family fell from %.3f to %.3f", opts, was, is)
			}
		}
	}
}

func TestFeedbackDecays(t *testing.T) {
	rows := gaussian(500, 3, 1)
	f := mustFit(t, rows, Options{Trees: 10})
	b, err := NewFeedback(f, FeedbackOptions{Decay: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	x, y := []float32{5, 5, 5}, []float32{-5, -5, -5}
	if err := b.Label(x, true); err != nil {
		t.Fatal(err)
	}
	last := f.weighted(b.weight, 1).Score(x)
	if last <= f.Score(x) {
		t.Errorf("a label does not raise %v: %v", f.Score(x), last)
	}
	for range 4 {
		if err := b.Label(y, true); err != nil {
			t.Fatal(err)
		}
		now := f.weighted(b.weight, 1).Score(x)
		if now >= last {
			t.Errorf("an old label does not fade: %v, %v", last, now)
		}
		last = now
	}
}

func TestFeedbackRefusals(t *testing.T) {
	f := mustFit(t, gaussian(50, 2, 1), Options{Trees: 3})
	for _, o := range []FeedbackOptions{
		{Step: -1}, {Step: 2}, {Decay: 1.1}, {Cap: -0.5}, {Relief: 0.6}, {Tolerance: math.NaN()},
	} {
		if _, err := NewFeedback(f, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := NewFeedback(&Forest{}, FeedbackOptions{}); err == nil {
		t.Error("feedback to a zero forest")
	}
	b, err := NewFeedback(f, FeedbackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range [][]float32{{1}, {1, float32(math.NaN())}} {
		if b.Label(x, true) == nil {
			t.Errorf("label of %v", x)
		}
	}
	if _, _, err := b.Apply(gaussian(50, 2, 2), 0.01); err == nil {
		t.Error("50 rows watch over a budget of 1 %")
	}
	g, strength, err := b.Apply(gaussian(100, 2, 2), 0.01)
	if err != nil || strength != 1 || !bytes.Equal(encoded(t, g), encoded(t, f)) {
		t.Errorf("no labels change the forest (%v, %v)", strength, err)
	}
}
