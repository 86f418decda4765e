package iforest

// node is a node of a tree as it was grown and as it is stored: in depth-first
// order, the left child following its parent. Explain and the encoding read
// this form; scoring reads the flat one.
type node struct {
	threshold float32 // x[feature] > threshold goes right
	feature   int32   // isLeaf at a leaf
	size      int32   // training rows that came here
	right     int32   // index of the right child
}

const isLeaf = -1

// tree holds the nodes and, for each, the mean path length of the training
// rows that came by it. At a leaf that is the path length h itself.
type tree struct {
	nodes []node
	mean  []float64
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

// fillMeans computes mean from the leaves up.
func (t *tree) fillMeans(c []float64) {
	t.mean = make([]float64, len(t.nodes))
	t.fillMean(0, 0, c)
}

func (t *tree) fillMean(i int32, depth int, c []float64) {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		t.mean[i] = leafPath(depth, n.size, c)
		return
	}
	l, r := i+1, n.right
	t.fillMean(l, depth+1, c)
	t.fillMean(r, depth+1, c)
	// An empty leaf weighs nothing: no ordinary row is expected there.
	wl, wr := float64(t.nodes[l].size), float64(t.nodes[r].size)
	t.mean[i] = (float64(wl*t.mean[l]) + float64(wr*t.mean[r])) / (wl + wr)
}

// child is where a row whose feature has value v goes from node i.
func (t *tree) child(i int32, v float32) int32 {
	if n := &t.nodes[i]; v > n.threshold {
		return n.right
	}
	return i + 1
}

// leaf walks x to its leaf.
func (t *tree) leaf(x []float32) int32 {
	i := int32(0)
	for t.nodes[i].feature != isLeaf {
		i = t.child(i, x[t.nodes[i].feature])
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
