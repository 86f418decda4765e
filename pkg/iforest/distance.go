package iforest

import "math"

// maxInverse bounds 1/deviation, so that no distance between finite float32
// overflows what Explain can divide.
const maxInverse = 1e30

// squared is the square of the standardised difference. Its float64 neither
// overflows nor is fused with the sum it goes into.
func squared(v, p, inverse float32) float64 {
	d := float64(float64(v)-float64(p)) * float64(inverse)
	return float64(d * d)
}

// distance is the Euclidean distance of x from a prototype in standardised
// features. Four sums keep the processor busy; their order is part of what a
// score is.
func distance(x, prototype, inverse []float32) float64 {
	n := len(x)
	prototype, inverse = prototype[:n], inverse[:n]
	s0, s1, s2, s3 := sumSquares(x, prototype, inverse)
	for i := n &^ 3; i < n; i++ {
		s0 += squared(x[i], prototype[i], inverse[i])
	}
	return math.Sqrt(s0 + s1 + s2 + s3)
}

// addSquares adds to each of dst the square of that feature, times factor.
func addSquares(dst []float64, x, prototype, inverse []float32, factor float64) {
	n := len(x)
	dst, prototype, inverse = dst[:n], prototype[:n], inverse[:n]
	for i := addSquaresByFours(dst, x, prototype, inverse, factor); i < n; i++ {
		dst[i] += float64(squared(x[i], prototype[i], inverse[i]) * factor)
	}
}

// sumSquaresGo adds up the squares of four features at a time, those that are
// left over at the end not among them. All slices have the length of x.
func sumSquaresGo(x, prototype, inverse []float32) (s0, s1, s2, s3 float64) {
	for i := 0; i+4 <= len(x); i += 4 {
		x, p, w := x[i:i+4:i+4], prototype[i:i+4:i+4], inverse[i:i+4:i+4]
		s0 += squared(x[0], p[0], w[0])
		s1 += squared(x[1], p[1], w[1])
		s2 += squared(x[2], p[2], w[2])
		s3 += squared(x[3], p[3], w[3])
	}
	return s0, s1, s2, s3
}

// compact drops the prototypes that no leaf refers to and renumbers the others.
func (f *Forest) compact() {
	used := make([]int32, len(f.prototypes))
	for i := range f.trees {
		t := &f.trees[i]
		for n := range t.nodes {
			if t.nodes[n].feature == isLeaf {
				used[t.proto[n]] = 1
			}
		}
	}
	kept := make([][]float32, 0, len(f.prototypes))
	for p, yes := range used {
		if yes != 0 {
			used[p] = int32(len(kept))
			kept = append(kept, f.prototypes[p])
		}
	}
	f.prototypes = kept
	for i := range f.trees {
		t := &f.trees[i]
		for n := range t.proto {
			if t.nodes[n].feature == isLeaf {
				t.proto[n] = used[t.proto[n]]
			} else {
				t.proto[n] = 0
			}
		}
	}
}
