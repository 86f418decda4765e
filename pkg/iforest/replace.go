package iforest

import (
	"fmt"
	"math"
	"runtime"
	"slices"
)

// Replace returns a forest in which the n oldest trees have given way to trees
// grown on rows, a reservoir of what is ordinary now. The forest forgets what
// it knew over several such steps, and what enters the reservoir by stealth
// moves no more than n trees at a time. f is not changed: swap a pointer.
//
// The new trees have the options, sample size and seed of f and go on where its
// random numbers ended, so that the same steps give the same forest on every
// machine. rows must be at least as many as the sample size (with LeafDistance
// twice), of f's features; with MissingMedian, the medians stay those of the
// first fit, and so do the deviations that distances are measured in. Feedback
// stays with the trees that heard it.
//
// Thresholds do not carry over: calibrate anew, and look at Drift before.
func (f *Forest) Replace(rows [][]float32, n int) (*Forest, error) {
	if f.dims == 0 {
		return nil, fmt.Errorf("iforest: replace trees of a forest that was never fitted")
	}
	if n < 1 || n > len(f.trees) {
		return nil, &OptionError{"n", n, fmt.Sprintf("1 to the number of trees, which is %d", len(f.trees))}
	}
	dims, err := checkRows(rows, f.opts.Missing)
	if err != nil {
		return nil, err
	}
	if dims != f.dims {
		return nil, fmt.Errorf("iforest: rows of %d features for a forest of %d", dims, f.dims)
	}
	need := f.opts.SampleSize
	if f.opts.Scoring == LeafDistance {
		need *= 2
	}
	if len(rows) < need {
		return nil, fmt.Errorf("iforest: %d rows to grow trees on; this forest needs %d", len(rows), need)
	}
	if f.opts.Missing == MissingMedian {
		rows = filled(rows, f.center)
	}
	dev := deviations(rows, dims, f.opts.MinDeviation)
	if f.opts.Scoring == LeafDistance {
		rows = pool(rows, max(need, f.opts.Prototypes), f.opts.Seed, f.grown)
	}

	g := *f
	g.flat, g.linked = flat{}, linked{}
	g.grown += uint64(n)
	fresh, base := growTrees(&g, rows, dev, f.grown, n, runtime.GOMAXPROCS(0))
	kept := f.trees[n:]
	g.trees = make([]tree, 0, len(f.trees))
	for _, t := range kept {
		t.proto = append([]int32(nil), t.proto...) // renumbered below
		g.trees = append(g.trees, t)
	}
	if f.opts.Scoring == LeafDistance {
		shift := int32(len(f.prototypes))
		g.prototypes = append(append([][]float32(nil), f.prototypes...), rows...)
		for i := range fresh {
			for k := range fresh[i].proto {
				fresh[i].proto[k] += shift
			}
		}
		g.base = make([]float32, dims)
		for i := range g.base {
			old := float64(float64(f.base[i]) * float64(len(kept)))
			// Rows beyond all deviations of the first fit are farther than a float32 tells.
			g.base[i] = float32(min(math.MaxFloat32, (old+base[i])/float64(len(f.trees))))
		}
	}
	g.trees = append(g.trees, fresh...)
	weighted := false
	for i := range kept {
		weighted = weighted || slices.ContainsFunc(kept[i].weight, func(w int16) bool { return w != 0 })
	}
	for i := range g.trees { // all trees have weights, or none, where no label is left
		switch t := &g.trees[i]; {
		case !weighted:
			t.weight = nil
		case t.weight == nil:
			t.weight = make([]int16, len(t.nodes))
		}
	}
	if f.opts.Scoring == LeafDistance {
		g.compact()
	}
	g.complete()
	return &g, nil
}
