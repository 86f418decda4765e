package iforest

import (
	"math"
	"testing"
)

// A missing value is what it was taken for in training: the median.
func TestMissingValueCountsAsTheMedian(t *testing.T) {
	nan := float32(math.NaN())
	rows := gaussian(501, 4, 1)
	for i, row := range rows {
		row[1] += 10
		row[i%3] = nan
		row[3] = nan // missing altogether
	}
	for _, opts := range []Options{{}, {RangeExtension: 1}, {Columns: 2}, {Scoring: LeafDistance, MaxDepth: 20}} {
		if _, err := Fit(rows, opts); err == nil {
			t.Errorf("%+v: NaNs are fitted without being asked for", opts)
		}
		opts.Missing = MissingMedian
		f := mustFit(t, rows, opts)
		if f.center[3] != 0 || f.center[1] < 9.8 || f.center[1] > 10.2 {
			t.Errorf("medians are %v", f.center)
		}
		for _, x := range [][]float32{{nan, 12, 1, 0}, {1, nan, nan, 0}, {3, 9, 0, nan}, {nan, nan, nan, 1}} {
			y := fill(make([]float32, 4), x, f.center)
			if got, want := f.Score(x), f.Score(y); got != want || got == 1 {
				t.Errorf("%+v: score of %v is %v, of %v is %v", opts, x, got, y, want)
			}
		}
		if s := f.Score([]float32{nan, nan, nan, nan}); s != 1 {
			t.Errorf("%+v: nothing at all scores %v", opts, s)
		}
		if s := f.Score([]float32{nan, nan, nan}); s != 1 {
			t.Errorf("%+v: a row too short scores %v", opts, s)
		}
		inf := append([]float32(nil), rows[0]...)
		inf[0] = float32(math.Inf(1))
		if _, err := Fit(append(rows[:500:500], inf), opts); err == nil {
			t.Errorf("%+v: an infinite value is fitted", opts)
		}
	}
}

// A forest that saw a third of its values go missing still finds what is off in
// the ones it has.
func TestMissingValuesDoNotHideAnomalies(t *testing.T) {
	nan := float32(math.NaN())
	drop := func(rows [][]float32, keep int) [][]float32 {
		for i, row := range rows {
			for f := range row {
				if f != keep && mix(uint64(i*len(row)+f))%3 == 0 {
					row[f] = nan
				}
			}
		}
		return rows
	}
	test := gaussian(1000, 8, 2)
	label := make([]bool, len(test))
	for i := range test {
		if label[i] = i%2 == 0; label[i] {
			test[i][2] += 5
		}
	}
	opts := Options{Missing: MissingMedian, RangeExtension: 1, SampleSize: 1024}
	whole := auc(mustFit(t, gaussian(1000, 8, 1), opts).ScoreBatch(nil, test), label)
	got := auc(mustFit(t, drop(gaussian(1000, 8, 1), -1), opts).ScoreBatch(nil, drop(test, 2)), label)
	t.Logf("AUC with all values %.3f, with two thirds of them %.3f", whole, got)
	if got < whole-0.05 {
		t.Errorf("AUC falls from %.3f to %.3f", whole, got)
	}
}

func TestLongRowsWithMissingValues(t *testing.T) {
	rows := gaussian(50, 300, 1)
	rows[3][7] = float32(math.NaN())
	f := mustFit(t, rows, Options{Missing: MissingMedian, Trees: 20})
	if got, want := f.Score(rows[3]), linkedScore(f, rows[3]); got != want {
		t.Errorf("%v by the flat form, %v by the trees", got, want)
	}
}

func TestDistanceToInfinityIsOne(t *testing.T) {
	f := mustFit(t, gaussian(50, 3, 1), Options{Scoring: LeafDistance})
	x := []float32{0, float32(math.Inf(-1)), 0}
	if s := f.Score(x); s != 1 {
		t.Errorf("score %v", s)
	}
	if got := f.Explain(x); len(got) != 1 || got[0].Feature != 1 || f.ScoreOf(got[0].Credit) != 1 {
		t.Errorf("explained by %+v", got)
	}
	if _, err := Fit(gaussian(3, 3, 1), Options{Scoring: LeafDistance}); err == nil {
		t.Error("three rows are fitted")
	}
	// Equal rows: what is one deviation off is off.
	same := make([][]float32, 20)
	for i := range same {
		same[i] = []float32{1, 1, 1}
	}
	f = mustFit(t, same, Options{Scoring: LeafDistance})
	if a, b := f.Score([]float32{1, 1, 1}), f.Score([]float32{1, 1.5, 1}); a != 0 || math.Abs(b-0.5) > 1e-9 {
		t.Errorf("equal rows score %v and %v", a, b)
	}
}
