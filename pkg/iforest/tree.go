package iforest

// node is a node of a tree as it was grown and as it is stored: in depth-first
// order, the left child following its parent. Explain and the encoding read
// this form; scoring reads the flat one.
type node struct {
	threshold float32 // x[feature] > threshold goes right
	feature   int32   // isLeaf at a leaf; where splits have terms, 0 elsewhere
	size      int32   // training rows that came here
	right     int32   // index of the right child
}

const isLeaf = -1

// tree holds the nodes and, for each, the mean path length of the training
// rows that came by it. At a leaf that is the path length h itself, less what
// feedback took from it.
type tree struct {
	nodes []node
	mean  []float64
	// terms are the summands of node i's split, at i × columns, where a split
	// has more than one column; else nil.
	terms []term
	// proto is, at a leaf, the prototype it measures distances to; nil with
	// PathLength.
	proto []int32
	// weight is, at a leaf, what feedback made of it, see Feedback; nil if
	// there was none.
	weight []int16
}

// term is one summand of a split on several columns.
type term struct {
	feature uint32
	coef    float32
}

// project is Σ coef · x[feature], in float32, each product rounded before it
// is added: fitting and both forms of scoring compute the same bits on every
// machine.
func project(terms []term, x []float32) float32 {
	var sum float32
	for _, t := range terms {
		sum += float32(t.coef * x[t.feature])
	}
	return sum
}

// harmonics returns c(n) for n = 0 … psi: the mean path length of an
// unsuccessful search in a binary search tree of n keys,
//
//	c(n) = 2 H(n−1) − 2 (n−1)/n
//
// (Liu et al. 2008, equation 1), with c(0) = c(1) = 0. H is summed, not taken
// as ln(n−1) + 0.5772: for the small n of most leaves the estimate is poor
// (c(3) = 1.21 where 1.67 is right), and sums round alike on every machine.
func harmonics(psi int) []float64 {
	c := make([]float64, psi+1)
	h := 0.0 // H(n−1)
	for n := 2; n <= psi; n++ {
		h += 1 / float64(n-1)
		c[n] = float64(2*h) - float64(2*float64(n-1)/float64(n))
	}
	return c
}

// leafPath is h of a row that ends in a leaf of n training rows at this depth.
// It is rounded to the float32 that the flat form holds, so that both forms
// agree to the last bit.
func leafPath(depth int, n int32, c []float64) float64 {
	return float64(float32(float64(depth) + c[n]))
}

// leastPath is the shortest path that feedback leaves, so that no score is 1.
const leastPath = 1. / 1024

// fillMeans computes mean from the leaves up.
func (t *tree) fillMeans(c []float64) {
	t.mean = make([]float64, len(t.nodes))
	t.fillMean(0, 0, c)
}

func (t *tree) fillMean(i int32, depth int, c []float64) {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		t.mean[i] = leafPath(depth, n.size, c)
		if t.weight != nil {
			h := t.mean[i] - float64(leafWeight(t.weight[i])*c[len(c)-1])
			t.mean[i] = float64(float32(max(leastPath, h)))
		}
		return
	}
	l, r := i+1, n.right
	t.fillMean(l, depth+1, c)
	t.fillMean(r, depth+1, c)
	// An empty leaf weighs nothing: no ordinary row is expected there.
	wl, wr := float64(t.nodes[l].size), float64(t.nodes[r].size)
	if wl+wr == 0 {
		wl, wr = 1, 1 // only bytes that no Fit wrote split nothing
	}
	t.mean[i] = (float64(wl*t.mean[l]) + float64(wr*t.mean[r])) / (wl + wr)
}

// columns is how many terms a split has, 1 where it has none but a feature.
func (t *tree) columns() int {
	if t.terms == nil {
		return 1
	}
	return len(t.terms) / len(t.nodes)
}

// split returns the terms of node i.
func (t *tree) split(i int32) []term {
	k := int32(t.columns())
	return t.terms[i*k : (i+1)*k]
}

// child is where x goes from node i.
func (t *tree) child(i int32, x []float32) int32 {
	n := &t.nodes[i]
	var v float32
	if t.terms != nil {
		v = project(t.split(i), x)
	} else {
		v = x[n.feature]
	}
	if v > n.threshold {
		return n.right
	}
	return i + 1
}

// leaf walks x to its leaf.
func (t *tree) leaf(x []float32) int32 {
	i := int32(0)
	for t.nodes[i].feature != isLeaf {
		i = t.child(i, x)
	}
	return i
}

// height is the depth of the deepest leaf.
func (t *tree) height() int { return t.heightAt(0) }

func (t *tree) heightAt(i int32) int {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		return 0
	}
	return 1 + max(t.heightAt(i+1), t.heightAt(n.right))
}
