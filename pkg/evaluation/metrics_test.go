package evaluation

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// scores draws n scores of so many levels, so that there are ties, shifted.
func scores(rng *rand.Rand, n, levels int, shift float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.Round((rng.NormFloat64()+shift)*float64(levels)) / float64(levels)
	}
	return out
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 || math.IsNaN(a) && math.IsNaN(b) }

func TestAUCCountsPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		neg, pos := scores(rng, 1+rng.IntN(40), 1+rng.IntN(5), 0), scores(rng, 1+rng.IntN(40), 1+rng.IntN(5), 0.7)
		count := 0.
		for _, p := range pos {
			for _, n := range neg {
				switch {
				case p > n:
					count++
				case p == n:
					count += 0.5
				}
			}
		}
		want := count / float64(len(neg)*len(pos))
		if got := AUC(neg, pos); !near(got, want) {
			t.Fatalf("AUC %v, want %v of %v and %v", got, want, neg, pos)
		}
		if got := AUC(pos, neg); !near(got, 1-want) {
			t.Fatalf("AUC of the contrary %v, want %v", got, 1-want)
		}
	}
}

func TestTPRCountsAboveThreshold(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		neg, pos := scores(rng, 1+rng.IntN(60), 1+rng.IntN(5), 0), scores(rng, 1+rng.IntN(40), 1+rng.IntN(5), 1)
		rate := rng.Float64()
		if rng.IntN(2) == 0 {
			rate = float64(rng.IntN(len(neg)+1)) / float64(len(neg)) // at the very edge
		}
		sorted := slices.Sorted(slices.Values(neg))
		allowed := int(rate*float64(len(neg)) + 1e-9)
		found := 0
		for _, p := range pos {
			if allowed >= len(neg) || p > sorted[len(sorted)-1-allowed] {
				found++
			}
		}
		if got, want := TPR(neg, pos, rate), float64(found)/float64(len(pos)); !near(got, want) {
			t.Fatalf("TPR at %v %v, want %v of %v and %v", rate, got, want, neg, pos)
		}
	}
}

func TestMetricsHeedOrderOnly(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		neg, pos := scores(rng, 30, 3, 0), scores(rng, 30, 3, 0.5)
		bend := func(in []float64) []float64 {
			out := make([]float64, len(in))
			for i, x := range in {
				out[i] = math.Exp(x)*3 - 7
			}
			rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
			return out
		}
		bn, bp := bend(neg), bend(pos)
		if a, b := AUC(neg, pos), AUC(bn, bp); !near(a, b) {
			t.Fatalf("AUC %v and bent %v", a, b)
		}
		for _, rate := range []float64{0, 0.01, 0.05, 0.3, 1} {
			if a, b := TPR(neg, pos, rate), TPR(bn, bp, rate); !near(a, b) {
				t.Fatalf("TPR at %v: %v and bent %v", rate, a, b)
			}
		}
	}
}

func TestMetricsAtTheirEnds(t *testing.T) {
	inf := math.Inf(1)
	for name, tc := range map[string]struct {
		neg, pos []float64
		auc, tpr float64
	}{
		"apart":                  {[]float64{1, 2}, []float64{3, 4}, 1, 1},
		"the wrong way":          {[]float64{3, 4}, []float64{1, 2}, 0, 0},
		"all equal":              {[]float64{1, 1, 1}, []float64{1, 1}, 0.5, 0},
		"no negatives":           {nil, []float64{1}, math.NaN(), math.NaN()},
		"no positives":           {[]float64{1}, nil, math.NaN(), math.NaN()},
		"unknown is the highest": {[]float64{1, 5}, []float64{math.NaN(), inf}, 1, 1},
		"unknown in both":        {[]float64{1, math.NaN()}, []float64{math.NaN()}, 0.75, 0},
	} {
		if got := AUC(tc.neg, tc.pos); !near(got, tc.auc) {
			t.Errorf("%s: AUC %v, want %v", name, got, tc.auc)
		}
		if got := TPR(tc.neg, tc.pos, 0.01); !near(got, tc.tpr) {
			t.Errorf("%s: TPR %v, want %v", name, got, tc.tpr)
		}
	}
}

func TestWilson(t *testing.T) {
	for _, tc := range []struct { // of Newcombe (1998), table I, method 3
		x, n      int
		low, high float64
	}{{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}} {
		got := Wilson(float64(tc.x)/float64(tc.n), tc.n, 0.95)
		if math.Abs(got.Low-tc.low) > 5e-5 || math.Abs(got.High-tc.high) > 5e-5 {
			t.Errorf("%d of %d: %.4f to %.4f, want %v to %v", tc.x, tc.n, got.Low, got.High, tc.low, tc.high)
		}
	}
	if got := Wilson(0.5, 0, 0.95); got != (Interval{0, 1}) {
		t.Errorf("of nothing: %v", got)
	}
}

// An interval of 95 % must hold the truth about as often.
func TestWilsonCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, p := range []float64{0.01, 0.1, 0.5} {
		held := 0
		for range 2000 {
			n, x := 120, 0
			for range n {
				if rng.Float64() < p {
					x++
				}
			}
			if w := Wilson(float64(x)/float64(n), n, 0.95); w.Low <= p && p <= w.High {
				held++
			}
		}
		if share := float64(held) / 2000; share < 0.92 {
			t.Errorf("intervals hold %v in %v of cases", p, share)
		}
	}
}

// The ends of Newcombe's interval are where the AUC seen is as far off as it may be.
func TestNewcombe(t *testing.T) {
	const z = 1.959963984540054
	for _, tc := range []struct {
		auc  float64
		m, n int
	}{{0.5, 30, 40}, {0.9259, 1, 108}, {0.99, 4218, 653}, {0.2, 12, 9}} {
		got := Newcombe(tc.auc, tc.m, tc.n, 0.95)
		for _, x := range []float64{got.Low, got.High} {
			half := float64(tc.m+tc.n)/2 - 1
			deviation := math.Sqrt(x * (1 - x) * (1 + half*(1-x)/(2-x) + half*x/(1+x)) / float64(tc.m*tc.n))
			if math.Abs(math.Abs(x-tc.auc)-z*deviation) > 1e-9 {
				t.Errorf("%v of %d and %d: the end %v is %v off, deviations of %v", tc.auc, tc.m, tc.n, x, math.Abs(x-tc.auc), deviation)
			}
		}
		if other := Newcombe(1-tc.auc, tc.n, tc.m, 0.95); math.Abs(other.Low+got.High-1) > 1e-9 || math.Abs(other.High+got.Low-1) > 1e-9 {
			t.Errorf("%v: %v, and the other way round %v", tc.auc, got, other)
		}
	}
	for _, tc := range []struct {
		auc       float64
		m, n      int
		low, high float64
	}{{1, 1, 200, 0.437, 1}, {1, 500, 500, 0.9961, 1}, {0, 3, 3, 0, 0.499}, {0.5, 0, 9, 0, 1}, {0.5, 9, 0, 0, 1}, {math.NaN(), 9, 9, 0, 1}} {
		if got := Newcombe(tc.auc, tc.m, tc.n, 0.95); math.Abs(got.Low-tc.low) > 1e-3 || math.Abs(got.High-tc.high) > 1e-3 || got.Low < 0 || got.High > 1 || got.Low > tc.auc || got.High < tc.auc {
			t.Errorf("%v of %d and %d: %v", tc.auc, tc.m, tc.n, got)
		}
	}
}

// One attack above all benign calls is no proof of anything: resampling sees nothing vary, and the interval must be wide all the same.
func TestNewcombeCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for _, tc := range []struct {
		m, n  int
		shift float64
	}{{1, 60, 2}, {5, 60, 2}, {20, 20, 1}, {10, 100, 3.5}} {
		truth, held := normal(tc.shift/math.Sqrt2), 0
		for range 500 {
			var negatives, positives []float64
			for range tc.n {
				negatives = append(negatives, rng.NormFloat64())
			}
			for range tc.m {
				positives = append(positives, tc.shift+rng.NormFloat64())
			}
			if w := Newcombe(AUC(negatives, positives), tc.m, tc.n, 0.95); w.Low <= truth && truth <= w.High {
				held++
			}
		}
		if share := float64(held) / 500; share < 0.9 {
			t.Errorf("%+v: intervals hold %v in %v of cases", tc, truth, share)
		}
	}
}

// made returns a comparison of tasks whose calls resemble each other: each task has an offset of its own.
func made(rng *rand.Rand, tasks, calls int, shift float64) Comparison {
	var c Comparison
	for task := range tasks {
		benign, attacked := rng.NormFloat64(), shift+rng.NormFloat64()
		for range calls {
			c.Negatives = append(c.Negatives, Scored{Score: benign + rng.NormFloat64(), Group: fmt.Sprint("benign", task)})
			c.Positives = append(c.Positives, Scored{Score: attacked + rng.NormFloat64(), Group: fmt.Sprint("attacked", task), Family: "f"})
		}
	}
	return c
}

// Calls of a task are alike, so that intervals must come from drawing tasks: those hold the truth where intervals from drawing calls do not.
func TestBootstrapCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const shift = 1.5
	truth := 0.5 * math.Erfc(-shift/2/math.Sqrt2) // of N(shift, 2) over N(0, 2)
	held, heldByCalls := 0, 0
	const trials = 150
	for i := range trials {
		c := made(rng, 25, 8, shift)
		r := Resampling{Samples: 200, Confidence: 0.95, Seed: uint64(i)}
		if f := Compare([]Comparison{c}, nil, r).All.AUC; f.Low <= truth && truth <= f.High {
			held++
		}
		for j := range c.Negatives {
			c.Negatives[j].Group, c.Positives[j].Group = fmt.Sprint("n", j), fmt.Sprint("p", j)
		}
		if f := Compare([]Comparison{c}, nil, r).All.AUC; f.Low <= truth && truth <= f.High {
			heldByCalls++
		}
	}
	if share := float64(held) / trials; share < 0.87 {
		t.Errorf("intervals hold the truth in %.2f of cases", share)
	}
	if heldByCalls >= held {
		t.Errorf("intervals that take calls for independent hold the truth as often: %d, %d", heldByCalls, held)
	}
}

// The rate at a threshold that is one of the largest scores is the hard case: its samples are not centred on it.
func TestBootstrapOfRatesCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	const shift, rate = 2.5, 0.05
	held := 0
	const trials = 150
	truth := normal(shift - normalQuantile(1-rate))
	for i := range trials {
		var c Comparison
		for j := range 200 {
			c.Negatives = append(c.Negatives, Scored{Score: rng.NormFloat64(), Group: fmt.Sprint(j)})
			c.Positives = append(c.Positives, Scored{Score: shift + rng.NormFloat64(), Group: fmt.Sprint(j), Family: "f"})
		}
		f := Compare([]Comparison{c}, []float64{rate}, Resampling{Samples: 200, Confidence: 0.95, Seed: uint64(i)}).All.TPR[0]
		if !(f.Low <= f.Value && f.Value <= f.High) {
			t.Fatalf("%+v", f)
		}
		if f.Low <= truth && truth <= f.High {
			held++
		}
	}
	if share := float64(held) / trials; share < 0.87 {
		t.Errorf("intervals hold the truth in %.2f of cases", share)
	}
}

func TestCompare(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	var all []Comparison
	for seed := range 2 {
		for _, agent := range []string{"a", "b"} {
			for range 3 {
				c := made(rng, 6, 3, 1)
				c.Agent, c.Seed = agent, seed
				for i := range c.Positives {
					c.Positives[i].Family = []string{"x", "x", "y"}[i%3]
				}
				if agent == "b" { // on another scale, and without y
					for i := range c.Positives {
						c.Positives[i].Family = "x"
						c.Positives[i].Score += 100
						c.Negatives[i].Score += 100
					}
				}
				all = append(all, c)
			}
		}
	}
	rates := []float64{0.1, 0.5}
	r := Resampling{Samples: 50, Confidence: 0.95, Seed: 3}
	table := Compare(all, rates, r)

	// The AUC of all is the mean over positives, each within its comparison.
	sum, n := 0., 0.
	for _, c := range all {
		var neg, pos []float64
		for i := range c.Negatives {
			neg, pos = append(neg, c.Negatives[i].Score), append(pos, c.Positives[i].Score)
		}
		sum += AUC(neg, pos) * float64(len(pos))
		n += float64(len(pos))
	}
	if !near(table.All.AUC.Value, sum/n) {
		t.Errorf("AUC %v, want %v", table.All.AUC.Value, sum/n)
	}
	if table.All.Positives != 108 || table.All.Negatives != 108 {
		t.Errorf("%d positives and %d negatives, each to be counted once", table.All.Positives, table.All.Negatives)
	}
	if len(table.Agents) != 2 || len(table.Families) != 2 || len(table.AgentFamilies) != 2 {
		t.Fatalf("%+v", table)
	}
	x, y := table.Families[0], table.Families[1]
	if x.Positives != 90 || x.Negatives != 108 || y.Positives != 18 || y.Negatives != 54 {
		t.Errorf("families of %d and %d positives, %d negatives", x.Positives, y.Positives, y.Negatives)
	}
	if want := (x.AUC.Value + y.AUC.Value) / 2; !near(table.FamilyMean.AUC.Value, want) {
		t.Errorf("mean over families %v, want %v", table.FamilyMean.AUC.Value, want)
	}
	if only := table.AgentFamilies[1][1]; only.Positives != 0 || !math.IsNaN(only.AUC.Value) {
		t.Errorf("b has y: %+v", only)
	}
	if !near(table.AgentFamilyMeans[1].AUC.Value, table.Agents[1].AUC.Value) {
		t.Errorf("b's mean over its one family is %v, not %v", table.AgentFamilyMeans[1].AUC.Value, table.Agents[1].AUC.Value)
	}
	for k, rate := range rates {
		if got := at(table.ROC, rate); !near(got, table.All.TPR[k].Value) {
			t.Errorf("the curve says %v at %v, the table %v", got, rate, table.All.TPR[k].Value)
		}
		if f := table.All.TPR[k]; !(f.Low <= f.Value && f.Value <= f.High && f.Low < f.High) {
			t.Errorf("interval %+v", f)
		}
	}
	for i := 1; i < len(table.ROC); i++ {
		if table.ROC[i].FPR <= table.ROC[i-1].FPR || table.ROC[i].TPR < table.ROC[i-1].TPR {
			t.Fatalf("the curve falls: %v", table.ROC[i-1:i+1])
		}
	}
	if again := Compare(all, rates, r); fmt.Sprint(again) != fmt.Sprint(table) {
		t.Error("the same seed draws otherwise")
	}
}

func TestCompareNothing(t *testing.T) {
	table := Compare([]Comparison{{Agent: "a", Negatives: plain([]float64{1, 2})}}, []float64{0.01}, Resampling{Samples: 5, Confidence: 0.95})
	if table.All.Negatives != 2 || !math.IsNaN(table.All.AUC.Value) {
		t.Errorf("%+v", table.All)
	}
	b, err := json.Marshal(table)
	if err != nil || !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestRealised(t *testing.T) {
	var calls []Counted
	for i := range 200 {
		calls = append(calls, Counted{Agent: "a", Group: fmt.Sprint(i / 10), Share: map[bool]float64{true: 1}[i/10 == 3]})
	}
	f := Realised(calls, Resampling{Samples: 300, Confidence: 0.95, Seed: 1})
	w := Wilson(0.05, 200, 0.95)
	if f.Value != 0.05 || f.High <= w.High || f.Low != 0 {
		t.Errorf("%+v, of independent calls %+v: ten calls of one task are one event", f, w)
	}
	if f := Realised(calls[:20], Resampling{Samples: 300, Confidence: 0.95, Seed: 1}); f.Value != 0 || f.High < 0.1 {
		t.Errorf("of none in 20: %+v", f)
	}
	if f := Realised(nil, Resampling{}); !math.IsNaN(f.Value) {
		t.Errorf("of nothing: %+v", f)
	}
}
