//go:build !amd64 || purego

package iforest

func sumSquares(x, prototype, inverse []float32) (s0, s1, s2, s3 float64) {
	return sumSquaresGo(x, prototype, inverse)
}

func addSquaresByFours([]float64, []float32, []float32, []float32, float64) int { return 0 }
