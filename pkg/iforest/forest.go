package iforest

import "math"

// Forest is a fitted isolation forest. It never changes, except by
// UnmarshalBinary, and may be shared by any number of goroutines. The zero
// value has learned nothing and scores everything 1; get one from Fit or Load.
type Forest struct {
	opts  Options // as completed, SampleSize being ψ; Workers is 0
	dims  int
	trees []tree
	flat  flat
	cPsi  float64 // c(ψ)
	scale float64 // 1 / (trees × c(ψ)): from a sum of path lengths to E[h]/c(ψ)
	root  float64 // mean over the trees of the path length of their own rows
}

func newForest(opts Options, dims int, trees []tree) *Forest {
	c := harmonics(opts.SampleSize)
	opts.Workers = 0
	f := &Forest{opts: opts, dims: dims, trees: trees, cPsi: c[opts.SampleSize]}
	f.scale = 1 / (float64(len(trees)) * f.cPsi)
	for i := range trees {
		trees[i].fillMeans(c)
		f.root += trees[i].mean[0]
	}
	f.root /= float64(len(trees))
	f.flat = flatten(trees)
	return f
}

// Options returns the options the forest was fitted with, defaults filled in
// and SampleSize lowered to the number of rows there were. Workers is 0.
func (f *Forest) Options() Options { return f.opts }

// Features returns the length of the rows the forest scores.
func (f *Forest) Features() int { return f.dims }

// Schema returns the name of what the features are, see Options.Schema.
func (f *Forest) Schema() string { return f.opts.Schema }

// Score returns the anomaly score of x,
//
//	s(x, ψ) = 2^(−E[h(x)] / c(ψ))
//
// (Liu et al. 2008, equation 2), h being the path length of x in a tree: near
// 1 for a row that few cuts set apart, about 0.5 and less for an ordinary one.
// Infinite values are values beyond all others. A row with a NaN, and a row of
// another length than Features, scores 1, which no other row reaches: what
// cannot be judged is not ordinary. Score does not allocate.
func (f *Forest) Score(x []float32) float64 {
	if !f.scorable(x) {
		return 1
	}
	sum := 0.0
	for g := range f.flat.groups() {
		splits, leaves := f.flat.group(g)
		sum += walk(splits, leaves, f.flat.depth, x)
	}
	return f.fromSum(sum)
}

// tile is how many rows pass a group of trees before the next group is taken
// from the level-2 cache (BenchmarkScoreBatch).
const tile = 16

// ScoreBatch scores rows into dst and returns it with the length of rows; it
// allocates only where dst has not the capacity. The scores are those of
// Score, in about a quarter less time for each.
func (f *Forest) ScoreBatch(dst []float64, rows [][]float32) []float64 {
	if cap(dst) < len(rows) {
		dst = make([]float64, len(rows))
	}
	dst = dst[:len(rows)]
	for lo := 0; lo < len(rows); lo += tile {
		hi := min(lo+tile, len(rows))
		f.scoreTile(dst[lo:hi], rows[lo:hi])
	}
	return dst
}

func (f *Forest) scoreTile(dst []float64, rows [][]float32) {
	var scorable [tile]bool
	for i, x := range rows {
		scorable[i] = f.scorable(x)
		dst[i] = 0
	}
	for g := range f.flat.groups() {
		splits, leaves := f.flat.group(g)
		for i, x := range rows {
			if scorable[i] {
				dst[i] += walk(splits, leaves, f.flat.depth, x)
			}
		}
	}
	for i := range rows {
		if scorable[i] {
			dst[i] = f.fromSum(dst[i])
		} else {
			dst[i] = 1
		}
	}
}

// fromSum turns the sum of path lengths over all trees into a score.
func (f *Forest) fromSum(sum float64) float64 { return math.Exp2(-sum * f.scale) }

// scorable reports whether x has the forest's length and no NaN.
func (f *Forest) scorable(x []float32) bool {
	if len(x) != f.dims || f.dims == 0 {
		return false
	}
	for _, v := range x {
		if v != v {
			return false
		}
	}
	return true
}
