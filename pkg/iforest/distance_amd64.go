//go:build !purego

package iforest

import "golang.org/x/sys/cpu"

// vectors says that the processor has what distance_amd64.s is written in. The
// lanes there are the four sums of the code in Go, and nothing is fused, so that
// both compute the same bits (FuzzVectors). A distance of 61 features takes a
// quarter of the time.
var vectors = cpu.X86.HasAVX2

// sumSquares is sumSquaresGo.
func sumSquares(x, prototype, inverse []float32) (s0, s1, s2, s3 float64) {
	if !vectors || len(x) < 4 {
		return sumSquaresGo(x, prototype, inverse)
	}
	return sumSquaresAVX2(&x[0], &prototype[0], &inverse[0], len(x)&^3)
}

// addSquaresByFours is addSquares up to the feature that it returns.
func addSquaresByFours(dst []float64, x, prototype, inverse []float32, factor float64) int {
	n := len(x) &^ 3
	if !vectors || n == 0 {
		return 0
	}
	addSquaresAVX2(&dst[0], &x[0], &prototype[0], &inverse[0], n, factor)
	return n
}

// sumSquaresAVX2 reads n features, a multiple of 4.
//
//go:noescape
func sumSquaresAVX2(x, prototype, inverse *float32, n int) (s0, s1, s2, s3 float64)

// addSquaresAVX2 reads and adds to n features, a multiple of 4.
//
//go:noescape
func addSquaresAVX2(dst *float64, x, prototype, inverse *float32, n int, factor float64)
