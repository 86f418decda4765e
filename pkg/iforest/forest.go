package iforest

import (
	"math"
	"sync"
)

// Forest is a fitted isolation forest. It never changes, except by
// UnmarshalBinary, and may be shared by any number of goroutines. The zero
// value has learned nothing and scores everything 1; get one from Fit or Load.
type Forest struct {
	opts  Options // as completed, SampleSize being ψ; Workers is 0
	dims  int
	grown uint64 // trees ever grown; those held are the last of them, oldest first
	trees []tree

	center []float32 // medians, with MissingMedian or several columns; else nil

	// With LeafDistance; else nil.
	prototypes [][]float32
	inverse    []float32 // 1 / deviation
	base       []float32 // what each feature adds to an ordinary row's distance

	// What follows from the above.
	flat   flat   // empty where opts.linked() or with LeafDistance
	linked linked // the scoring form of those
	cPsi   float64
	scale  float64 // 1 / (trees × c(ψ)): from a sum of path lengths to E[h]/c(ψ)
	root   float64 // mean over the trees of the path length of their own rows
	unit   float64 // the mean distance of an ordinary row
}

// complete computes what follows from the trees.
func (f *Forest) complete() {
	c := harmonics(f.opts.SampleSize)
	f.cPsi = c[f.opts.SampleSize]
	f.scale = 1 / (float64(len(f.trees)) * f.cPsi)
	f.root = 0
	for i := range f.trees {
		f.trees[i].fillMeans(c)
		f.root += f.trees[i].mean[0]
	}
	f.root /= float64(len(f.trees))
	f.unit = 0
	for _, b := range f.base {
		f.unit += float64(b)
	}
	if !(f.unit > 0) {
		f.unit = 1 // rows all equal: one deviation is as far as any
	}
	if f.opts.linked() || f.opts.Scoring == LeafDistance {
		f.linked = link(f)
	} else {
		f.flat = flatten(f.trees)
	}
}

// Options returns the options the forest was fitted with, defaults filled in
// (but for a MaxDepth of 0, which follows the sample size) and SampleSize
// lowered to what the number of rows allowed. Workers is 0.
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
// With LeafDistance it is D / (D + D₀), D being the mean over the trees of the
// distance and D₀ that of ordinary rows: 0.5 for an ordinary row, again.
//
// Infinite values are values beyond all others. A row with a NaN, unless the
// forest has MissingMedian, a row of nothing but NaN, and a row of another
// length than Features, scores 1: what cannot be judged is not ordinary. No
// other row reaches 1, but for one infinitely far away with LeafDistance.
// Score does not allocate, but for now and then a buffer for rows of more than
// 128 features with missing values.
func (f *Forest) Score(x []float32) float64 {
	if !f.scorable(x) {
		return f.scoreMissing(x)
	}
	return f.fromSum(f.sum(x))
}

// sum is what the trees tell of x together.
func (f *Forest) sum(x []float32) float64 {
	if f.flat.splits == nil {
		return f.sumLinked(x)
	}
	sum := 0.0
	for g := range f.flat.groups() {
		splits, leaves := f.flat.group(g)
		sum += walk(splits, leaves, f.flat.depth, x)
	}
	return sum
}

// buffers hold rows whose missing values are filled in.
var buffers sync.Pool

// scoreMissing is Score for rows that are not scorable as they are.
func (f *Forest) scoreMissing(x []float32) float64 {
	if !f.fillable(x) {
		return 1
	}
	var small [128]float32
	if len(x) <= len(small) {
		return f.fromSum(f.sum(fill(small[:], x, f.center)))
	}
	b, _ := buffers.Get().(*[]float32)
	if b == nil {
		b = new([]float32)
	}
	if cap(*b) < len(x) {
		*b = make([]float32, len(x))
	}
	sum := f.sum(fill((*b)[:cap(*b)], x, f.center))
	buffers.Put(b)
	return f.fromSum(sum)
}

// fillable reports whether the NaNs of x are missing values: whether the forest
// takes them for that, and x has the forest's length and at least one value.
func (f *Forest) fillable(x []float32) bool {
	if f.opts.Missing != MissingMedian || len(x) != f.dims {
		return false
	}
	for _, v := range x {
		if v == v {
			return true
		}
	}
	return false
}

// tile is how many rows pass a group of trees before the next group is taken
// from the level-2 cache (BenchmarkScoreBatch).
const tile = 16

// ScoreBatch scores rows into dst and returns it with the length of rows; it
// allocates only where dst has not the capacity. The scores are those of
// Score, in about a quarter less time for each where trees are of the default
// depth and one column.
func (f *Forest) ScoreBatch(dst []float64, rows [][]float32) []float64 {
	if cap(dst) < len(rows) {
		dst = make([]float64, len(rows))
	}
	dst = dst[:len(rows)]
	if f.flat.splits == nil {
		for i, x := range rows {
			dst[i] = f.Score(x)
		}
		return dst
	}
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
	for i, x := range rows {
		if scorable[i] {
			dst[i] = f.fromSum(dst[i])
		} else {
			dst[i] = f.scoreMissing(x)
		}
	}
}

// fromSum turns the sum of path lengths, or of distances, over all trees into a
// score.
func (f *Forest) fromSum(sum float64) float64 {
	if f.opts.Scoring == LeafDistance {
		return f.fromMean(sum / float64(len(f.trees)))
	}
	return math.Exp2(-sum * f.scale)
}

// fromMean turns a mean distance into a score.
func (f *Forest) fromMean(d float64) float64 { return 1 - f.unit/(d+f.unit) }

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
