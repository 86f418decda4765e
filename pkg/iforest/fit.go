package iforest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// constantDeviation stands in for the standard deviation of a feature that
// had one value only. It was set on log1p counts and shares; see
// Options.RangeExtension.
const constantDeviation = 0.5

// Fit grows a forest on rows, which must be at least two (four for
// LeafDistance), each an observation and each of the same 1 to MaxFeatures
// features, finite or, with MissingMedian, finite or NaN. It keeps no reference
// to them. An option outside of what is accepted is an *OptionError; other errors
// name the row and the feature.
func Fit(rows [][]float32, opts Options) (*Forest, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	dims, err := checkRows(rows, opts.Missing)
	if err != nil {
		return nil, err
	}
	f := &Forest{opts: opts, dims: dims, grown: uint64(opts.Trees)}
	if opts.Missing == MissingMedian || opts.Columns > 1 {
		f.center = medians(rows, dims)
	}
	if opts.Missing == MissingMedian {
		rows = filled(rows, f.center)
	}
	dev := deviations(rows, dims, opts.MinDeviation)
	workers := opts.Workers
	if opts.Scoring == LeafDistance {
		if len(rows) < 4 {
			return nil, fmt.Errorf("iforest: %d rows to fit on; LeafDistance needs 4", len(rows))
		}
		rows = pool(rows, opts.Prototypes, opts.Seed, 0)
		f.opts.SampleSize = min(opts.SampleSize, len(rows)/2)
		f.inverse = make([]float32, dims)
		for i, s := range dev {
			f.inverse[i] = float32(min(maxInverse, 1/s))
		}
	} else {
		f.opts.SampleSize = min(opts.SampleSize, len(rows))
	}
	f.opts.Workers = 0
	var base []float64
	f.trees, base = growTrees(f, rows, dev, 0, opts.Trees, workers)
	if opts.Scoring == LeafDistance {
		f.base = make([]float32, dims)
		for i, b := range base {
			f.base[i] = float32(b / float64(opts.Trees))
		}
		f.prototypes = rows
		f.compact()
	}
	f.complete()
	return f, nil
}

// growTrees grows the n trees of f from number first on, in parallel, and
// returns them in order. base is, with LeafDistance, the sum over the trees of
// what each feature adds to the distances of rows outside of their samples.
func growTrees(f *Forest, rows [][]float32, dev []float64, first uint64, n, workers int) (trees []tree, base []float64) {
	o := &f.opts
	g := grower{
		rows: rows, psi: o.SampleSize, limit: o.depth(), widened: depthLimit(o.SampleSize), dims: f.dims,
		columns: o.Columns, gain: o.Gain, candidates: o.Candidates,
	}
	if o.RangeExtension > 0 {
		g.reach = make([]float64, f.dims)
		for i := range g.reach {
			g.reach[i] = float64(dev[i] * o.RangeExtension)
		}
	}
	if o.Columns > 1 {
		g.dev = dev
		g.extension = o.RangeExtension
	}
	g.inverse = f.inverse

	trees = make([]tree, n)
	bases := make([][]float64, n)
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(workers, n) {
		running.Go(func() {
			w := g
			w.order = ascending(len(rows))
			w.swaps = make([]int32, w.psi)
			w.sample = make([]int32, w.psi)
			w.features = make([]int32, w.dims)
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				trees[i], bases[i] = w.grow(o.Seed, first+uint64(i))
			}
		})
	}
	running.Wait()
	if f.inverse != nil {
		base = make([]float64, f.dims)
		for _, b := range bases { // in this order, whoever grew them
			for i, v := range b {
				base[i] += v
			}
		}
	}
	return trees, base
}

func checkRows(rows [][]float32, missing Missing) (dims int, err error) {
	if len(rows) < 2 {
		return 0, fmt.Errorf("iforest: %d rows to fit on; at least 2 are needed", len(rows))
	}
	if uint64(len(rows)) > math.MaxInt32 {
		return 0, errors.New("iforest: more than 2147483647 rows to fit on")
	}
	dims = len(rows[0])
	if dims < 1 || dims > MaxFeatures {
		return 0, fmt.Errorf("iforest: rows of %d features; accepted is 1 to %d", dims, MaxFeatures)
	}
	for i, row := range rows {
		if len(row) != dims {
			return 0, fmt.Errorf("iforest: row %d has %d features, row 0 has %d", i, len(row), dims)
		}
		for f, v := range row {
			if v-v != 0 && (v == v || missing == MissingRefused) {
				return 0, fmt.Errorf("iforest: row %d, feature %d is %v; only finite values can be fitted", i, f, v)
			}
		}
	}
	return dims, nil
}

// deviations returns each feature's standard deviation over rows, or
// constantDeviation where all values are equal, and least at least. The
// conversions keep every
// machine from fusing a product with a sum, which would round differently.
func deviations(rows [][]float32, dims int, least float64) []float64 {
	n := float64(len(rows))
	mean := make([]float64, dims)
	for _, row := range rows {
		for f, v := range row {
			mean[f] += float64(v)
		}
	}
	for f := range mean {
		mean[f] /= n
	}
	dev := make([]float64, dims)
	varies := make([]bool, dims)
	for _, row := range rows {
		for f, v := range row {
			d := float64(v) - mean[f]
			dev[f] += float64(d * d)
			varies[f] = varies[f] || v != rows[0][f]
		}
	}
	for f := range dev {
		if dev[f] = math.Sqrt(dev[f] / n); !varies[f] {
			dev[f] = constantDeviation
		}
		dev[f] = max(dev[f], least)
	}
	return dev
}

// medians returns each feature's median over the rows that have it, the lower
// of two, and 0 where none has.
func medians(rows [][]float32, dims int) []float32 {
	out := make([]float32, dims)
	column := make([]float32, 0, len(rows))
	for f := range out {
		column = column[:0]
		for _, row := range rows {
			if v := row[f]; v == v {
				column = append(column, v)
			}
		}
		if len(column) > 0 {
			slices.Sort(column)
			out[f] = column[(len(column)-1)/2]
		}
	}
	return out
}

// filled returns rows with every NaN replaced; rows without are not copied.
func filled(rows [][]float32, center []float32) [][]float32 {
	out := slices.Clone(rows)
	for i, row := range out {
		if !finite(row) {
			out[i] = fill(make([]float32, len(row)), row, center)
		}
	}
	return out
}

func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}

// fill copies x into dst with every NaN replaced by its center.
func fill(dst, x, center []float32) []float32 {
	dst = dst[:len(x)]
	for i, v := range x {
		if v != v {
			v = center[i]
		}
		dst[i] = v
	}
	return dst
}

// pool draws at most n of rows, without replacement, and copies them. Each
// generation of a forest draws from a stream of its own.
func pool(rows [][]float32, n int, seed, generation uint64) [][]float32 {
	order := ascending(len(rows))
	r := newRandom(seed, ^generation)
	n = min(n, len(rows))
	out := make([][]float32, n)
	for k := range out {
		j := k + r.below(len(order)-k)
		order[k], order[j] = order[j], order[k]
		out[k] = slices.Clone(rows[order[k]])
	}
	return out
}

// grower grows trees one after the other. What lies under the blank line is
// scratch of one goroutine.
type grower struct {
	rows       [][]float32
	psi        int
	limit      int // levels
	widened    int // levels in which ranges are widened
	dims       int
	reach      []float64 // extension × deviation per feature; nil without extension
	columns    int
	gain       Gain
	candidates int
	dev        []float64 // deviations, and extension, where columns > 1
	extension  float64
	inverse    []float32 // 1 / deviation; nil with PathLength

	random
	order    []int32 // all rows, ascending between trees
	swaps    []int32 // what undoes the draw of a sample from order
	sample   []int32 // rows of the tree, in the order of its leaves in the end
	features []int32 // constant ones first; see classicCut
	nodes    []node
	terms    []term
	proto    []int32
	z        []float32 // what a node's split compares, of its rows
}

// grow grows tree i. Its random numbers come from a stream of its own, so that
// neither the number of workers nor their pace matters.
func (g *grower) grow(seed, i uint64) (t tree, base []float64) {
	g.random = newRandom(seed, i)
	for f := range g.features {
		g.features[f] = int32(f)
	}
	for k := range g.psi {
		j := k + g.below(len(g.order)-k)
		g.order[k], g.order[j] = g.order[j], g.order[k]
		g.swaps[k] = int32(j)
	}
	copy(g.sample, g.order)
	g.nodes, g.terms, g.proto = g.nodes[:0], g.terms[:0], g.proto[:0]
	g.split(g.sample, 0, 0, 0)
	t.nodes = append(t.nodes, g.nodes...)
	t.terms = append(t.terms, g.terms...)
	t.proto = append(t.proto, g.proto...)
	if g.inverse != nil {
		base = g.outside(&t)
	}
	// Undo the draw: a tree may not depend on which trees this goroutine grew
	// before it.
	for k := g.psi - 1; k >= 0; k-- {
		j := g.swaps[k]
		g.order[k], g.order[j] = g.order[j], g.order[k]
	}
	return t, base
}

// witnesses is how many rows outside of its sample tell a tree what distance is
// ordinary.
const witnesses = 64

// outside returns the mean, over rows outside of the sample, of what each
// feature adds to the distance from t.
func (g *grower) outside(t *tree) []float64 {
	base := make([]float64, g.dims)
	rows := g.order[g.psi:]
	rows = rows[:min(witnesses, len(rows))]
	for _, r := range rows {
		x := g.rows[r]
		p := g.rows[t.proto[t.leaf(x)]]
		if d := distance(x, p, g.inverse); d > 0 {
			for f := range base {
				base[f] += float64(squared(x[f], p[f], g.inverse[f])) / d
			}
		}
	}
	for f := range base {
		base[f] /= float64(len(rows))
	}
	return base
}

// split appends the subtree over the rows of idx. constant is how many
// features at the front of g.features are known not to vary here; near is a row
// of the parent's.
func (g *grower) split(idx []int32, depth, constant int, near int32) {
	i := len(g.nodes)
	g.nodes = append(g.nodes, node{feature: isLeaf, size: int32(len(idx))})
	if g.columns > 1 {
		for range g.columns {
			g.terms = append(g.terms, term{})
		}
	}
	if g.inverse != nil {
		if len(idx) > 0 {
			near = idx[g.below(len(idx))]
		}
		g.proto = append(g.proto, near)
	}
	if len(idx) <= 1 || depth == g.limit {
		return
	}
	var feature int
	var threshold float32
	extended := g.reach != nil && depth < g.widened
	ok := true
	switch {
	case g.gain != GainNone && (!extended || g.below(2) == 0):
		feature, threshold, constant, ok = g.gainCut(idx, constant, i)
		if !ok && extended { // constant rows are worth extending
			feature, threshold, ok = g.randomCut(idx, depth, i)
		}
	case extended && g.columns > 1:
		feature, threshold, ok = g.randomCut(idx, depth, i)
	case extended:
		feature, threshold = g.extendedCut(idx, depth)
	case g.columns > 1:
		feature, threshold, constant, ok = g.planeCut(idx, constant, i)
	default:
		feature, threshold, constant, ok = g.classicCut(idx, constant)
	}
	if !ok {
		if g.columns > 1 {
			clear(g.terms[i*g.columns : (i+1)*g.columns])
		}
		return // the rows are all equal, or too close to be told apart
	}
	m := 0 // idx[:m] goes left
	for k, r := range idx {
		if !(g.at(g.rows[r], feature, i) > threshold) {
			idx[m], idx[k] = idx[k], idx[m]
			m++
		}
	}
	g.split(idx[:m], depth+1, constant, near)
	right := len(g.nodes)
	g.split(idx[m:], depth+1, constant, near)
	n := &g.nodes[i]
	n.feature, n.threshold, n.right = int32(feature), threshold, int32(right)
}

// at is the value that node i, which splits on this feature or its own terms,
// compares.
func (g *grower) at(x []float32, feature, i int) float32 {
	if g.columns > 1 {
		return project(g.terms[i*g.columns:(i+1)*g.columns], x)
	}
	return x[feature]
}

// classicCut draws a feature among those that vary in idx and a threshold in
// [lo, hi), so that neither side is empty. Features found constant are moved
// to the front of g.features, where the whole subtree skips them; those before
// constant stay where they are, as the sibling subtree relies on them.
func (g *grower) classicCut(idx []int32, constant int) (feature int, threshold float32, nowConstant int, ok bool) {
	for constant < g.dims {
		k := constant + g.below(g.dims-constant)
		f := g.features[k]
		lo, hi := g.bounds(idx, int(f))
		if lo == hi {
			g.features[k], g.features[constant] = g.features[constant], f
			constant++
			continue
		}
		t := float32(float64(lo) + float64(g.unit()*(float64(hi)-float64(lo))))
		if t < lo || t >= hi { // rounded out of the range
			t = lo
		}
		return int(f), t, constant, true
	}
	return 0, 0, constant, false
}

// extendedCut draws a feature among all, constant or not, and a threshold in
// the range of idx widened on both sides by the feature's reach, halved at each
// level. A threshold beyond the rows leaves one child empty: the place of what
// was never seen, at path length depth+1.
func (g *grower) extendedCut(idx []int32, depth int) (feature int, threshold float32) {
	f := g.below(g.dims)
	lo, hi := g.bounds(idx, f)
	e := math.Ldexp(g.reach[f], -depth)
	from := float64(lo) - e
	to := float64(hi) + e
	t := from + float64(g.unit()*(to-from))
	return f, float32(max(-math.MaxFloat32, min(math.MaxFloat32, t)))
}

func (g *grower) bounds(idx []int32, f int) (lo, hi float32) {
	lo = g.rows[idx[0]][f]
	hi = lo
	for _, r := range idx[1:] {
		v := g.rows[r][f]
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	return lo, hi
}

func ascending(n int) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}
