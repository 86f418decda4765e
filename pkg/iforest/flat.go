package iforest

import "math"

// The scoring form of a tree is complete: every leaf lies at the same depth D,
// a leaf that came earlier being continued by splits with threshold +Inf, which
// send every row left, to copies of its value. Nodes lie in breadth-first
// order, the root at 1 and the children of k at 2k and 2k+1, so that a step is
//
//	k = 2k + (x[feature] > threshold)
//
// without a branch to mispredict and without a child index to load; after D
// steps k−2^D is the leaf. One tree is a chain of dependent loads, so eight are
// walked in lock step to keep the processor busy while each waits, and the
// eight lie interleaved, so that one bounds check and one address serve all.
// (BenchmarkScore. Eight trees laid one after the other cost as much for one row
// and a sixth more in a batch; arrays of constant size and masks instead of
// bounds checks cost a tenth more.)

// lanes is how many trees are walked together.
const lanes = 8

// split is an inner node: 8 bytes, so that 100 trees of ψ = 256 take 200 KiB
// of splits and 100 KiB of leaves and lie in a level-2 cache.
type split struct {
	threshold float32
	feature   uint32
}

// flat is the scoring form of a forest: groups of 8 trees, 2^depth entries
// each. Lanes without a tree have leaves of 0 and so add nothing to a sum.
type flat struct {
	depth  int
	splits [][lanes]split   // entry 0 of a group is unused
	leaves [][lanes]float32 // h, with c(n) in it
}

func flatten(trees []tree) flat {
	var f flat
	for i := range trees {
		f.depth = max(f.depth, trees[i].height())
	}
	groups := (len(trees) + lanes - 1) / lanes
	f.splits = make([][lanes]split, groups<<f.depth)
	f.leaves = make([][lanes]float32, groups<<f.depth)
	for i := range f.splits {
		for lane := range lanes {
			f.splits[i][lane].threshold = float32(math.Inf(1))
		}
	}
	for i := range trees {
		base := i / lanes << f.depth
		place(&trees[i], 0, i%lanes, f.splits[base:base+1<<f.depth], f.leaves[base:base+1<<f.depth], 1)
	}
	return f
}

// place puts node i of t, and all below it, at entry k of a group's lane.
func place(t *tree, i int32, lane int, splits [][lanes]split, leaves [][lanes]float32, k int) {
	n := &t.nodes[i]
	if n.feature != isLeaf {
		splits[k][lane] = split{n.threshold, uint32(n.feature)}
		place(t, i+1, lane, splits, leaves, 2*k)
		place(t, n.right, lane, splits, leaves, 2*k+1)
		return
	}
	from, to := k, k+1
	for from < len(leaves) {
		from, to = 2*from, 2*to
	}
	for j := from; j < to; j++ {
		leaves[j-len(leaves)][lane] = float32(t.mean[i])
	}
}

// group returns group g.
func (f *flat) group(g int) ([][lanes]split, [][lanes]float32) {
	lo, hi := g<<f.depth, (g+1)<<f.depth
	return f.splits[lo:hi], f.leaves[lo:hi]
}

func (f *flat) groups() int { return len(f.splits) >> f.depth }

// walk returns the sum of x's path lengths in the eight trees of a group.
// Every leaf is a float32 below 2⁶, so the sum in float64 is exact, whatever
// its order.
func walk(splits [][lanes]split, leaves [][lanes]float32, depth int, x []float32) float64 {
	var k0, k1, k2, k3, k4, k5, k6, k7 uint32 = 1, 1, 1, 1, 1, 1, 1, 1
	for range depth {
		k0 = 2*k0 + above(x[splits[k0][0].feature], splits[k0][0].threshold)
		k1 = 2*k1 + above(x[splits[k1][1].feature], splits[k1][1].threshold)
		k2 = 2*k2 + above(x[splits[k2][2].feature], splits[k2][2].threshold)
		k3 = 2*k3 + above(x[splits[k3][3].feature], splits[k3][3].threshold)
		k4 = 2*k4 + above(x[splits[k4][4].feature], splits[k4][4].threshold)
		k5 = 2*k5 + above(x[splits[k5][5].feature], splits[k5][5].threshold)
		k6 = 2*k6 + above(x[splits[k6][6].feature], splits[k6][6].threshold)
		k7 = 2*k7 + above(x[splits[k7][7].feature], splits[k7][7].threshold)
	}
	d := uint32(1) << depth
	return float64(leaves[k0-d][0]) + float64(leaves[k1-d][1]) +
		float64(leaves[k2-d][2]) + float64(leaves[k3-d][3]) +
		float64(leaves[k4-d][4]) + float64(leaves[k5-d][5]) +
		float64(leaves[k6-d][6]) + float64(leaves[k7-d][7])
}

// above is 1 if v > t and else 0, by a SETcc instruction.
func above(v, t float32) uint32 {
	var b uint32
	if v > t {
		b = 1
	}
	return b
}
