package iforest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// constantDeviation stands in for the standard deviation of a feature that
// had one value only. It was set on log1p counts and shares; see
// Options.RangeExtension.
const constantDeviation = 0.5

// Fit grows a forest on rows, which must be at least two, of equal length and
// finite. It keeps no reference to them.
func Fit(rows [][]float32, opts Options) (*Forest, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	dims, err := checkRows(rows)
	if err != nil {
		return nil, err
	}
	psi := min(opts.SampleSize, len(rows))
	opts.SampleSize = psi

	g := grower{rows: rows, psi: psi, limit: depthLimit(psi), dims: dims}
	if opts.RangeExtension > 0 {
		g.reach = deviations(rows, dims)
		for f := range g.reach {
			g.reach[f] = float64(g.reach[f] * opts.RangeExtension)
		}
	}

	trees := make([]tree, opts.Trees)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(opts.Workers, opts.Trees) {
		workers.Go(func() {
			w := g
			w.order = ascending(len(rows))
			w.swaps = make([]int32, psi)
			w.sample = make([]int32, psi)
			w.features = make([]int32, dims)
			for {
				i := next.Add(1) - 1
				if i >= int64(len(trees)) {
					return
				}
				trees[i].nodes = w.grow(opts.Seed, uint64(i))
			}
		})
	}
	workers.Wait()
	return newForest(opts, dims, trees), nil
}

func checkRows(rows [][]float32) (dims int, err error) {
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
			if v-v != 0 {
				return 0, fmt.Errorf("iforest: row %d, feature %d is %v; only finite values can be fitted", i, f, v)
			}
		}
	}
	return dims, nil
}

// deviations returns each feature's standard deviation over rows, or
// constantDeviation where all values are equal. The conversions keep every
// machine from fusing a product with a sum, which would round differently.
func deviations(rows [][]float32, dims int) []float64 {
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
	}
	return dev
}

// grower grows trees one after the other. What lies under the blank line is
// scratch of one goroutine.
type grower struct {
	rows  [][]float32
	psi   int
	limit int
	dims  int
	reach []float64 // extension × deviation per feature; nil in a classic forest

	random
	order    []int32 // all rows, ascending between trees
	swaps    []int32 // what undoes the draw of a sample from order
	sample   []int32 // rows of the tree, in the order of its leaves in the end
	features []int32 // constant ones first; see classicCut
	nodes    []node
}

// grow grows tree i. Its random numbers come from a stream of its own, so that
// neither the number of workers nor their pace matters.
func (g *grower) grow(seed, i uint64) []node {
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
	// Undo the draw: a tree may not depend on which trees this goroutine grew
	// before it.
	for k := g.psi - 1; k >= 0; k-- {
		j := g.swaps[k]
		g.order[k], g.order[j] = g.order[j], g.order[k]
	}
	g.nodes = g.nodes[:0]
	g.split(g.sample, 0, 0)
	return append([]node(nil), g.nodes...)
}

// split appends the subtree over the rows of idx. constant is how many
// features at the front of g.features are known not to vary here.
func (g *grower) split(idx []int32, depth, constant int) {
	i := len(g.nodes)
	g.nodes = append(g.nodes, node{feature: isLeaf, size: int32(len(idx))})
	if len(idx) <= 1 || depth == g.limit {
		return
	}
	var feature int
	var threshold float32
	if g.reach != nil {
		feature, threshold = g.extendedCut(idx, depth)
	} else {
		var ok bool
		if feature, threshold, constant, ok = g.classicCut(idx, constant); !ok {
			return // the rows are all equal
		}
	}
	m := 0 // idx[:m] goes left
	for k, r := range idx {
		if !(g.rows[r][feature] > threshold) {
			idx[m], idx[k] = idx[k], idx[m]
			m++
		}
	}
	g.split(idx[:m], depth+1, constant)
	right := len(g.nodes)
	g.split(idx[m:], depth+1, constant)
	n := &g.nodes[i]
	n.feature, n.threshold, n.right = int32(feature), threshold, int32(right)
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
