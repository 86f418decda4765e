package iforest

import (
	"math"
	"testing"
)

// What Replace makes can be read again, also where the trees that heard the labels are gone and the others have heard nothing.
func TestReplaceOfTheTreesThatHeard(t *testing.T) {
	rows := gaussian(400, 3, 1)
	for _, opts := range []Options{{Trees: 8, SampleSize: 64}, {Trees: 8, SampleSize: 64, Scoring: LeafDistance}} {
		plain := mustFit(t, rows, opts)
		weight := make([][]float64, len(plain.trees))
		for i := range weight {
			weight[i] = make([]float64, len(plain.trees[i].nodes))
		}
		weight[2][plain.trees[2].leaf(rows[0])] = 0.5
		for n := 1; n <= 8; n++ {
			replaced, err := plain.weighted(weight, 1).Replace(rows, n)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Load(encoded(t, replaced), "")
			if err != nil {
				t.Fatalf("%v, %d trees replaced: %v", opts.Scoring, n, err)
			}
			if back.heard() != (n < 3) {
				t.Errorf("%v, %d trees replaced: feedback %v", opts.Scoring, n, back.heard())
			}
			for _, x := range rows[:50] {
				if back.Score(x) != replaced.Score(x) {
					t.Fatalf("%v, %d trees replaced: another score", opts.Scoring, n)
				}
			}
		}
	}
}

// Distances are in deviations of the first fit. Rows that are beyond all of these by the largest numbers there are give scores still.
func TestReplaceByRowsBeyondAllDeviations(t *testing.T) {
	near, far := gaussian(100, 2, 1), gaussian(100, 2, 2)
	for i := range near {
		near[i][0] *= 1e-38
		far[i][0] *= 1e37
	}
	f := mustFit(t, near, Options{Trees: 10, SampleSize: 32, Scoring: LeafDistance})
	g, err := f.Replace(far, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range append(near, far...) {
		if s := g.Score(x); !(s >= 0 && s <= 1) {
			t.Fatalf("%v scores %v", x, s)
		}
	}
	if _, err := Load(encoded(t, g), ""); err != nil {
		t.Error(err)
	}
}

// Whoever wants all of the features that raised a score asks for as many as there can be.
func TestExplainTopOfAnyNumber(t *testing.T) {
	rows := gaussian(200, 5, 1)
	for _, opts := range []Options{{}, {Scoring: LeafDistance}} {
		f := mustFit(t, rows, opts)
		all := f.Explain(rows[0])
		for n := range all {
			if !(all[n].Credit > 0) {
				all = all[:n]
				break
			}
		}
		for _, n := range []int{math.MinInt, -1, 0, 1, 4, 5, 6, math.MaxInt} {
			top := f.ExplainTop(rows[0], n)
			if want := max(0, min(n, len(all))); len(top) != want {
				t.Errorf("%v: %d of %d features, of %d asked for", opts.Scoring, len(top), want, n)
			}
			for i := range top {
				if top[i].Feature != all[i].Feature {
					t.Errorf("%v: feature %d at %d, not %d", opts.Scoring, top[i].Feature, i, all[i].Feature)
				}
			}
		}
	}
}

func TestReferenceOfScoresThatAreNone(t *testing.T) {
	rows := gaussian(10, 2, 1)
	for _, bad := range []float64{math.Inf(1), math.Inf(-1), math.NaN(), 1e300} {
		scores := make([]float64, len(rows))
		scores[3] = bad
		if _, err := NewReference(rows, scores); err == nil {
			t.Errorf("a score of %v is taken", bad)
		}
	}
}

// What earlier feedback left in a forest is within the bounds of what is heard next.
func TestFeedbackBoundsWhatWasHeardBefore(t *testing.T) {
	rows := gaussian(400, 3, 1)
	f := mustFit(t, rows, Options{Trees: 20, SampleSize: 64})
	first, err := NewFeedback(f, FeedbackOptions{Step: 1, Cap: 1, Relief: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Label([]float32{9, 9, 9}, true); err != nil {
		t.Fatal(err)
	}
	if err := first.Label([]float32{-9, -9, -9}, false); err != nil {
		t.Fatal(err)
	}
	heard, _, err := first.Apply(rows, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewFeedback(heard, FeedbackOptions{Cap: 0.2, Relief: 0.05})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := second.Apply(rows, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	const rounding = 1e-6
	for _, x := range [][]float32{{9, 9, 9}, {-9, -9, -9}, {0, 0, 0}} {
		if was, is := f.Score(x), again.Score(x); is > was*math.Exp2(0.2)+rounding || is < was*math.Exp2(-0.05)-rounding {
			t.Errorf("%v scored %v, and %v with what was heard", x, was, is)
		}
	}
}

// Ordinary rows that the forest cannot judge watch over nothing, as each of them scores 1 whatever was heard.
func TestApplyBesideRowsThatCannotBeJudged(t *testing.T) {
	rows := gaussian(400, 3, 1)
	nan := float32(math.NaN())
	for _, tc := range []struct {
		opts  Options
		row   []float32
		wrong string
	}{
		{Options{}, []float32{1, 2}, "iforest: ordinary row 7: 2 features for a forest of 3"},
		{Options{}, []float32{1, 2, nan}, "iforest: ordinary row 7: a value is NaN"},
		{Options{Missing: MissingMedian}, []float32{nan, nan, nan}, "iforest: ordinary row 7: all of its values are missing"},
		{Options{Missing: MissingMedian}, []float32{1, 2, nan}, ""},
	} {
		f := mustFit(t, rows, tc.opts)
		b, err := NewFeedback(f, FeedbackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ordinary := gaussian(200, 3, 2)
		ordinary[7] = tc.row
		if _, _, err := b.Apply(ordinary, 0.01); (err == nil) != (tc.wrong == "") || err != nil && err.Error() != tc.wrong {
			t.Errorf("%v: %v, wanted %q", tc.row, err, tc.wrong)
		}
		if err := b.Label(tc.row, true); (err == nil) != (tc.wrong == "") {
			t.Errorf("label %v: %v", tc.row, err)
		}
	}
}
