package iforest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// gaussian returns n rows of independent standard normal features.
func gaussian(n, dims int, seed uint64) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 0))
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = make([]float32, dims)
		for f := range rows[i] {
			rows[i][f] = float32(r.NormFloat64())
		}
	}
	return rows
}

// awkward returns rows of small integers: many ties, some constant columns,
// duplicate rows.
func awkward(n, dims int, r *rand.Rand) [][]float32 {
	rows := make([][]float32, n)
	spread := make([]int, dims)
	for f := range spread {
		spread[f] = 1 + r.IntN(4)
	}
	for i := range rows {
		rows[i] = make([]float32, dims)
		for f := range rows[i] {
			rows[i][f] = float32(r.IntN(spread[f]) - 1)
		}
	}
	return rows
}

func mustFit(t testing.TB, rows [][]float32, opts Options) *Forest {
	t.Helper()
	f, err := Fit(rows, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func encoded(t testing.TB, f *Forest) []byte {
	t.Helper()
	b, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOptionsOutsideWhatIsAcceptedAreRefused(t *testing.T) {
	rows := gaussian(10, 2, 1)
	for _, c := range []struct {
		name   string
		opts   Options
		option string
	}{
		{"negative trees", Options{Trees: -1}, "Trees"},
		{"too many trees", Options{Trees: MaxTrees + 1}, "Trees"},
		{"sample of one", Options{SampleSize: 1}, "SampleSize"},
		{"negative sample", Options{SampleSize: -256}, "SampleSize"},
		{"too large a sample", Options{SampleSize: MaxSampleSize + 1}, "SampleSize"},
		{"too large a forest", Options{Trees: 2048, SampleSize: 1025}, "Trees × SampleSize"},
		{"negative extension", Options{RangeExtension: -0.1}, "RangeExtension"},
		{"NaN extension", Options{RangeExtension: math.NaN()}, "RangeExtension"},
		{"infinite extension", Options{RangeExtension: math.Inf(1)}, "RangeExtension"},
		{"negative workers", Options{Workers: -1}, "Workers"},
		{"negative deviation", Options{MinDeviation: -1}, "MinDeviation"},
		{"NaN deviation", Options{MinDeviation: math.NaN()}, "MinDeviation"},
		{"negative depth", Options{MaxDepth: -1}, "MaxDepth"},
		{"too deep", Options{MaxDepth: NoDepthLimit + 1}, "MaxDepth"},
		{"negative columns", Options{Columns: -1}, "Columns"},
		{"too many columns", Options{Columns: MaxColumns + 1}, "Columns"},
		{"unknown gain", Options{Gain: GainAveraged + 1}, "Gain"},
		{"too many candidates", Options{Gain: GainPooled, Candidates: MaxCandidates + 1}, "Candidates"},
		{"candidates without gain", Options{Candidates: 2}, "Candidates"},
		{"unknown policy for NaN", Options{Missing: MissingMedian + 1}, "Missing"},
		{"unknown scoring", Options{Scoring: LeafDistance + 1}, "Scoring"},
		{"prototypes without distance", Options{Prototypes: 100}, "Prototypes"},
		{"too few prototypes", Options{Scoring: LeafDistance, Prototypes: 3}, "Prototypes"},
		{"long schema", Options{Schema: strings.Repeat("x", MaxSchema+1)}, "Schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Fit(rows, c.opts)
			var oe *OptionError
			if !errors.As(err, &oe) || oe.Option != c.option {
				t.Fatalf("got %v, want an OptionError on %s", err, c.option)
			}
			if !strings.Contains(err.Error(), "accepted is ") {
				t.Errorf("%q does not say what is accepted", err)
			}
		})
	}
}

func TestNamesOfOptions(t *testing.T) {
	for _, c := range []struct {
		is   fmt.Stringer
		want string
	}{
		{GainNone, "GainNone"}, {GainPooled, "GainPooled"}, {GainAveraged, "GainAveraged"}, {Gain(7), "Gain(7)"},
		{MissingRefused, "MissingRefused"}, {MissingMedian, "MissingMedian"}, {Missing(2), "Missing(2)"},
		{PathLength, "PathLength"}, {LeafDistance, "LeafDistance"}, {Scoring(255), "Scoring(255)"},
	} {
		if got := c.is.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestDefaultsAreThePapers(t *testing.T) {
	got := mustFit(t, gaussian(1000, 2, 1), Options{}).Options()
	if want := (Options{Trees: 100, SampleSize: 256, Columns: 1, Candidates: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := mustFit(t, gaussian(17, 2, 1), Options{}).Options().SampleSize; got != 17 {
		t.Errorf("sample of 17 rows is %d", got)
	}
}

func TestRowsThatCannotBeFittedAreRefused(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		rows [][]float32
		says string
	}{
		{"none", nil, "at least 2"},
		{"one", [][]float32{{1}}, "at least 2"},
		{"no features", [][]float32{{}, {}}, "0 features"},
		{"ragged", [][]float32{{1, 2}, {1, 2}, {1}}, "row 2 has 1 features"},
		{"NaN", [][]float32{{1, 2}, {1, nan}}, "row 1, feature 1 is NaN"},
		{"Inf", [][]float32{{1, 2}, {inf, 2}}, "row 1, feature 0 is +Inf"},
		{"-Inf", [][]float32{{-inf, 2}, {1, 2}}, "row 0, feature 0 is -Inf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Fit(c.rows, Options{}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func TestForestDependsOnSeedNotOnWorkers(t *testing.T) {
	rows := gaussian(500, 7, 1)
	for i := range rows {
		rows[i][3] = 1 // constant columns permute features in the classic cut
	}
	for _, opts := range kinds {
		opts.Seed, opts.Workers = 9, 1
		one := encoded(t, mustFit(t, rows, opts))
		for _, opts.Workers = range []int{2, 3, 16, 200} {
			if !bytes.Equal(one, encoded(t, mustFit(t, rows, opts))) {
				t.Errorf("%+v: %d workers grow another forest than one", opts, opts.Workers)
			}
		}
		opts.Seed = 10
		if bytes.Equal(one[60:], encoded(t, mustFit(t, rows, opts))[60:]) {
			t.Errorf("%+v: seeds 9 and 10 grow the same forest", opts)
		}
	}
}

// These sums pin the forest of a seed. They may change only with the version of
// the encoding, since a stored forest must be the one its seed gives.
func TestForestIsTheSameOnEveryMachine(t *testing.T) {
	rows := make([][]float32, 300)
	for i := range rows { // no library's random numbers here
		z := mix(uint64(i))
		rows[i] = []float32{float32(z % 1000), float32(z>>20%1000) / 7, float32(z >> 40 % 3), 4}
	}
	for _, c := range []struct {
		opts Options
		want string
	}{
		{Options{}, "6ec386ba3795ea51"}, // of version 1
		{Options{RangeExtension: 1}, "5eb9f0ebbf68cc50"},
		{Options{Columns: 2, Gain: GainPooled, Candidates: 3, MaxDepth: NoDepthLimit}, "913a7dc8c94961db"},
		{Options{Columns: 3, RangeExtension: 1, Missing: MissingMedian}, "a176bac457599a2e"},
		{Options{Scoring: LeafDistance, RangeExtension: 1, Gain: GainAveraged}, "f010c1cf142be7d0"},
	} {
		c.opts.Seed = 5
		sum := sha256.Sum256(encoded(t, mustFit(t, rows, c.opts)))
		if got := hex.EncodeToString(sum[:8]); got != c.want {
			t.Errorf("%+v: %s, want %s", c.opts, got, c.want)
		}
	}
}

func TestFitLeavesItsRowsAlone(t *testing.T) {
	rows := gaussian(100, 3, 1)
	before := make([][]float32, len(rows))
	for i := range rows {
		before[i] = slices.Clone(rows[i])
	}
	f := mustFit(t, rows, Options{RangeExtension: 1})
	s := f.Score(before[0])
	for i := range rows {
		if !slices.Equal(rows[i], before[i]) {
			t.Fatalf("row %d was changed", i)
		}
		clear(rows[i])
	}
	if f.Score(before[0]) != s {
		t.Error("forest refers to the rows it was fitted on")
	}
}

// What the paper and the range extension say of a tree, for trees of all kinds.
func TestTreesAreWellFormed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	for range 60 {
		extension := float64(r.IntN(2)) * r.Float64() * 3
		rows := awkward(2+r.IntN(300), 1+r.IntN(6), r)
		f := mustFit(t, rows, Options{Trees: 5, SampleSize: 2 + r.IntN(299), RangeExtension: extension, Seed: r.Uint64()})
		limit := depthLimit(f.opts.SampleSize)
		for _, tr := range f.trees {
			if h := tr.height(); h > limit {
				t.Fatalf("tree of height %d, limit %d", h, limit)
			}
			if int(tr.nodes[0].size) != f.opts.SampleSize {
				t.Fatalf("root of %d rows, ψ is %d", tr.nodes[0].size, f.opts.SampleSize)
			}
			for i, n := range tr.nodes {
				if n.feature == isLeaf {
					continue
				}
				l, rt := tr.nodes[i+1].size, tr.nodes[n.right].size
				if l+rt != n.size {
					t.Fatalf("%d rows split into %d and %d", n.size, l, rt)
				}
				if extension == 0 && (l == 0 || rt == 0) {
					t.Fatal("empty leaf in a classic tree")
				}
			}
		}
	}
}

// kinds are options of every kind, each with what it may be put together with.
var kinds = []Options{
	{},
	{RangeExtension: 1},
	{MaxDepth: NoDepthLimit},
	{MaxDepth: 3},
	{MaxDepth: NoDepthLimit, RangeExtension: 1},
	{Columns: 2},
	{Columns: 3, RangeExtension: 1},
	{Gain: GainPooled},
	{Gain: GainAveraged, Columns: 2, Candidates: 5},
	{Gain: GainPooled, Columns: 2, MaxDepth: NoDepthLimit},
	{Gain: GainPooled, RangeExtension: 1},
	{Gain: GainPooled, Columns: 8, RangeExtension: 0.5, MaxDepth: 12},
	{Missing: MissingMedian},
	{Missing: MissingMedian, Columns: 2},
	{Scoring: LeafDistance},
	{Scoring: LeafDistance, Prototypes: 40, RangeExtension: 1, MinDeviation: 0.5},
	{Scoring: LeafDistance, Columns: 2, Gain: GainPooled, MaxDepth: NoDepthLimit, Missing: MissingMedian},
}

func TestEqualRowsScoreHalf(t *testing.T) {
	rows := make([][]float32, 100)
	for i := range rows {
		rows[i] = []float32{1, 2, 3}
	}
	f := mustFit(t, rows, Options{})
	if got := f.Score([]float32{1, 2, 3}); math.Abs(got-0.5) > 1e-6 {
		t.Errorf("score %v; a single leaf of ψ rows has h = c(ψ)", got)
	}
}

func TestValuesAtTheEndsOfFloat32(t *testing.T) {
	const most = math.MaxFloat32
	tiny := float32(math.SmallestNonzeroFloat32)
	for _, extension := range []float64{0, 1, 1000} {
		rows := [][]float32{{-most, 0, 1}, {most, tiny, math.Nextafter32(1, 2)}, {0, -tiny, 1}, {most, tiny, 1}}
		f := mustFit(t, rows, Options{RangeExtension: extension})
		for _, x := range rows {
			if s := f.Score(x); !(s > 0 && s < 1) {
				t.Errorf("extension %v: score of %v is %v", extension, x, s)
			}
		}
		if _, err := Load(encoded(t, f), ""); err != nil {
			t.Error(err)
		}
	}
}

// A value beyond what training showed in a column that was constant is
// invisible to the classic forest and seen by the extended one; so is how far
// beyond the range a value lies.
func TestRangeExtensionSeesWhatTrainingNeverShowed(t *testing.T) {
	train := gaussian(1000, 10, 1)
	for _, row := range train {
		row[0] = 0
	}
	test := gaussian(1000, 10, 2)
	label := make([]bool, len(test))
	for i, row := range test {
		row[0] = 0
		if label[i] = i%2 == 0; label[i] {
			row[0] = 3
		}
	}
	classic := auc(mustFit(t, train, Options{Seed: 1}).ScoreBatch(nil, test), label)
	extended := auc(mustFit(t, train, Options{Seed: 1, RangeExtension: 1}).ScoreBatch(nil, test), label)
	t.Logf("AUC of one constant column among ten: classic %.3f, extended %.3f", classic, extended)
	if classic > 0.55 {
		t.Errorf("classic AUC %.3f: it should be blind to a constant column", classic)
	}
	if extended < 0.95 {
		t.Errorf("extended AUC %.3f, want at least 0.95", extended)
	}

	f := mustFit(t, train, Options{Seed: 1, RangeExtension: 1})
	x := make([]float32, 10)
	last := f.Score(x)
	for _, v := range []float32{0.25, 0.5, 1} {
		x[0] = v
		s := f.Score(x)
		if s < last {
			t.Errorf("score falls from %v to %v as a constant column goes to %v", last, s, v)
		}
		last = s
	}
}

// At depth d a threshold lies within the node's range widened by extension ×
// deviation × 0.5^d, all of that range being used, and every feature is drawn
// equally often, also the constant one (deviation 0.5).
func TestExtendedCutsLieWhereTheyShould(t *testing.T) {
	const extension = 2
	rows := make([][]float32, 256)
	for i := range rows {
		rows[i] = []float32{3, float32(i%2*20 - 10)} // constant; −10 and 10, deviation 10
	}
	f := mustFit(t, rows, Options{Trees: 4000, RangeExtension: extension})
	var widest [2]float64 // share of the allowed range that root cuts reach
	drawn := [2]int{}
	for _, tr := range f.trees {
		var check func(i int32, depth int, lo, hi float64)
		check = func(i int32, depth int, lo, hi float64) { // the range of feature 1 here
			n := tr.nodes[i]
			if n.feature == isLeaf {
				return
			}
			at := float64(n.threshold)
			from, to, reach := 3.0, 3.0, extension*0.5
			if n.feature == 1 {
				from, to, reach = lo, hi, extension*10
			}
			reach *= math.Pow(0.5, float64(depth))
			if at < from-reach-1e-5 || at > to+reach+1e-5 {
				t.Fatalf("depth %d: cut of feature %d at %v, range %v to %v, reach %v", depth, n.feature, at, from, to, reach)
			}
			if depth == 0 {
				drawn[n.feature]++
				widest[n.feature] = max(widest[n.feature], (at-from)/(to+reach-from))
			}
			if n.feature == 0 || at < lo || at >= hi {
				check(i+1, depth+1, lo, hi)
				check(n.right, depth+1, lo, hi)
				return
			}
			check(i+1, depth+1, lo, lo)
			check(n.right, depth+1, hi, hi)
		}
		check(0, 0, -10, 10)
	}
	for feature := range 2 {
		if widest[feature] < 0.99 {
			t.Errorf("cuts of feature %d reach %.3f of what is allowed", feature, widest[feature])
		}
		if share := float64(drawn[feature]) / 4000; math.Abs(share-0.5) > 0.04 {
			t.Errorf("feature %d is drawn at %.3f of the roots", feature, share)
		}
	}
}

func TestSamplesAreDrawnWithoutReplacementAndEvenly(t *testing.T) {
	const n, psi, trees = 40, 10, 4000
	g := grower{
		rows: gaussian(n, 1, 1), psi: psi, limit: depthLimit(psi), dims: 1,
		order: ascending(n), swaps: make([]int32, psi), sample: make([]int32, psi), features: make([]int32, 1),
	}
	var drawn [n]int
	for i := range uint64(trees) {
		g.grow(1, i)
		seen := make(map[int32]bool)
		for _, row := range g.sample {
			if seen[row] {
				t.Fatalf("tree %d drew row %d twice", i, row)
			}
			seen[row] = true
			drawn[row]++
		}
		if !slices.Equal(g.order, ascending(n)) {
			t.Fatalf("tree %d left its draw behind", i)
		}
	}
	for row, k := range drawn {
		if want := trees * psi / n; k < want-150 || k > want+150 { // five deviations
			t.Errorf("row %d was drawn %d times, want about %d", row, k, want)
		}
	}
}

// auc is the chance that a labelled row scores higher than another, ties half.
func auc(scores []float64, label []bool) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	var sum, positives float64
	for lo := 0; lo < len(order); {
		hi := lo
		for hi < len(order) && scores[order[hi]] == scores[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			if label[i] {
				sum += float64(lo+hi+1) / 2 // the mean rank of the ties
				positives++
			}
		}
		lo = hi
	}
	return (sum - positives*(positives+1)/2) / (positives * (float64(len(scores)) - positives))
}
