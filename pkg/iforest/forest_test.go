package iforest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// linkedScore is Score by the trees as they were grown.
func linkedScore(f *Forest, x []float32) float64 {
	if f.fillable(x) {
		x = fill(make([]float32, len(x)), x, f.center)
	}
	sum := 0.0
	for i := range f.trees {
		t := &f.trees[i]
		leaf := t.leaf(x)
		if t.proto == nil {
			sum += t.mean[leaf]
			continue
		}
		sum += float64(distance(x, f.prototypes[t.proto[leaf]], f.inverse) * t.factor(leaf))
	}
	return f.fromSum(sum)
}

func TestFlatFormScoresAsTheTreesDo(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	inf := float32(math.Inf(1))
	for round := range 10 * len(kinds) {
		dims := 1 + r.IntN(80)
		rows := awkward(4+r.IntN(400), dims, r)
		if r.IntN(2) == 0 {
			rows = gaussian(4+r.IntN(400), dims, r.Uint64())
		}
		opts := kinds[round%len(kinds)]
		opts.Trees, opts.SampleSize, opts.Seed = 1+r.IntN(20), 2+r.IntN(300), r.Uint64()
		f := mustFit(t, rows, opts)
		var asked [][]float32
		for range 40 {
			x := make([]float32, dims)
			for i := range x {
				switch k := r.IntN(7); {
				case k == 0 && opts.Scoring == PathLength:
					x[i] = inf
				case k == 1 && opts.Scoring == PathLength:
					x[i] = -inf
				case k == 2: // exactly on a threshold
					tr := f.trees[r.IntN(len(f.trees))]
					x[i] = tr.nodes[r.IntN(len(tr.nodes))].threshold
				case k == 3 && opts.Missing == MissingMedian:
					x[i] = float32(math.NaN())
				default:
					x[i] = rows[r.IntN(len(rows))][i]
				}
			}
			if opts.Missing == MissingMedian {
				x[0] = 0 // not missing altogether
			}
			asked = append(asked, x)
		}
		batch := f.ScoreBatch(nil, asked)
		for i, x := range asked {
			s := f.Score(x)
			if want := linkedScore(f, x); s != want {
				t.Fatalf("%+v: Score is %v by the flat form, %v by the trees", opts, s, want)
			}
			if s != batch[i] {
				t.Fatalf("%+v: Score is %v, ScoreBatch %v", opts, s, batch[i])
			}
			if !(s >= 0 && s < 1) || s == 0 && opts.Scoring == PathLength {
				t.Fatalf("%+v: score %v is not in (0, 1)", opts, s)
			}
		}
	}
}

func TestWhatCannotBeJudgedScoresOne(t *testing.T) {
	f := mustFit(t, gaussian(100, 3, 1), Options{})
	nan := float32(math.NaN())
	for _, c := range []struct {
		name   string
		forest *Forest
		x      []float32
	}{
		{"NaN", f, []float32{0, nan, 0}},
		{"NaN last", f, []float32{0, 0, nan}},
		{"too short", f, []float32{0, 0}},
		{"too long", f, []float32{0, 0, 0, 0}},
		{"nil", f, nil},
		{"zero forest", &Forest{}, []float32{0}},
		{"zero forest, nil", &Forest{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s := c.forest.Score(c.x); s != 1 {
				t.Errorf("Score is %v", s)
			}
			good := []float32{0, 0, 0}
			batch := c.forest.ScoreBatch(nil, [][]float32{good, c.x, good})
			if batch[1] != 1 || batch[0] != c.forest.Score(good) || batch[2] != batch[0] {
				t.Errorf("ScoreBatch is %v", batch)
			}
		})
	}
}

func TestScoringDoesNotAllocate(t *testing.T) {
	for _, opts := range kinds {
		for _, dims := range []int{50, 200} {
			rows := gaussian(300, dims, 1)
			opts.Trees = 10
			f := mustFit(t, rows, opts)
			if opts.Missing == MissingMedian && dims < 128 { // beyond, a pooled buffer is used
				rows[0][3] = float32(math.NaN())
			}
			dst := make([]float64, len(rows))
			if n := testing.AllocsPerRun(100, func() { f.Score(rows[0]) }); n != 0 {
				t.Errorf("%+v: Score allocates %v times", opts, n)
			}
			if n := testing.AllocsPerRun(10, func() { f.ScoreBatch(dst, rows) }); n != 0 {
				t.Errorf("%+v: ScoreBatch allocates %v times", opts, n)
			}
		}
	}
}

func TestScoreBatchUsesWhatItIsGiven(t *testing.T) {
	rows := gaussian(50, 2, 1)
	f := mustFit(t, rows, Options{})
	dst := make([]float64, 3, 60)
	if got := f.ScoreBatch(dst, rows); len(got) != 50 || &got[0] != &dst[0] {
		t.Error("a dst of sufficient capacity is not used")
	}
	if got := f.ScoreBatch(dst, nil); len(got) != 0 {
		t.Errorf("%d scores of no rows", len(got))
	}
}

// c(n) against its closed forms and the estimate printed in the paper.
func TestHarmonics(t *testing.T) {
	c := harmonics(10000)
	for n, want := range map[int]float64{0: 0, 1: 0, 2: 1, 3: 5. / 3, 4: 2 + 1./6} {
		if math.Abs(c[n]-want) > 1e-15 {
			t.Errorf("c(%d) = %v, want %v", n, c[n], want)
		}
	}
	for _, n := range []float64{256, 10000} {
		estimate := 2*(math.Log(n-1)+0.5772156649) - 2*(n-1)/n
		if got := c[int(n)]; math.Abs(got-estimate) > 1/(n-1)+1e-8 {
			t.Errorf("c(%v) = %v, estimate %v", n, got, estimate)
		}
	}
}

func TestExplainAddsUpToTheScore(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	for round := range 5 * len(kinds) {
		dims := 1 + r.IntN(30)
		opts := kinds[round%len(kinds)]
		opts.Trees, opts.Seed = 1+r.IntN(40), r.Uint64()
		f := mustFit(t, awkward(4+r.IntN(300), dims, r), opts)
		for range 20 {
			x := make([]float32, dims)
			for i := range x {
				x[i] = float32(r.NormFloat64() * 3)
				if r.IntN(40*dims) == 0 {
					x[i] = float32(math.NaN())
				}
				if r.IntN(80*dims) == 0 {
					x[i] = float32(math.Inf(-1))
				}
			}
			sum := 0.0
			last := math.Inf(1)
			all := f.Explain(x)
			n := 1 + r.IntN(dims+1)
			var want []Contribution
			for _, c := range all {
				if c.Credit > 0 && len(want) < n {
					want = append(want, c)
				}
			}
			same := func(a, b Contribution) bool { return a.Feature == b.Feature && a.Credit == b.Credit }
			if top := f.ExplainTop(x, n); !slices.EqualFunc(top, want, same) {
				t.Fatalf("%+v: the first %d are %+v, Explain has %+v", opts, n, top, want)
			}
			for _, c := range all {
				sum += c.Credit
				if !(c.Credit <= last) {
					t.Fatalf("%+v: credits do not descend", opts)
				}
				if last = c.Credit; c.Value != x[c.Feature] && c.Value == c.Value {
					t.Fatalf("value %v of feature %d, which is %v", c.Value, c.Feature, x[c.Feature])
				}
			}
			if f.scorable(x) && opts.Scoring == PathLength {
				h := 0.0
				for i := range f.trees {
					h += f.trees[i].mean[f.trees[i].leaf(x)]
				}
				if diff := f.root - h/float64(len(f.trees)); math.Abs(sum-diff) > 1e-9 {
					t.Fatalf("%+v: credits add up to %v, path length differs by %v", opts, sum, diff)
				}
			}
			if got, want := f.ScoreOf(sum), f.Score(x); !(math.Abs(got-want) <= 1e-9) {
				t.Fatalf("%+v: credits give score %v, Score %v", opts, got, want)
			}
		}
		if got := f.ScoreOf(0); got != f.BaseScore() {
			t.Fatalf("%+v: base score is %v, %v by credits", opts, f.BaseScore(), got)
		}
	}
}

func TestExplainNamesTheOddFeature(t *testing.T) {
	rows := gaussian(1000, 8, 1)
	for _, row := range rows {
		row[6] = 0
	}
	f := mustFit(t, rows, Options{RangeExtension: 1})
	for _, feature := range []int{2, 6} {
		x := make([]float32, 8)
		x[feature] = 7
		got := f.Explain(x)
		if got[0].Feature != feature || got[0].Credit <= 0 || got[0].Value != 7 {
			t.Errorf("feature %d is odd, first credit is %+v", feature, got[0])
		}
		if last := got[len(got)-1]; last.Credit >= 0 {
			t.Errorf("no feature speaks for an otherwise central row: %+v", last)
		}
	}
	nan := float32(math.NaN())
	got := f.Explain([]float32{0, nan, 0, 0, nan, 0, 0, 0})
	if len(got) != 2 || got[0].Feature != 1 || got[1].Feature != 4 || got[0].Credit != got[1].Credit {
		t.Errorf("NaNs are explained by %+v", got)
	}
	if got := f.Explain(make([]float32, 7)); got != nil {
		t.Errorf("a row of the wrong length is explained by %+v", got)
	}
	if got := new(Forest).Explain(nil); got != nil || new(Forest).BaseScore() != 1 {
		t.Errorf("a zero forest explains %+v", got)
	}
}
