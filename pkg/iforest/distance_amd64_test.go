//go:build !purego

package iforest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzVectors holds the assembly against the code in Go, to the last bit: for
// any floats, of rows of any length.
func FuzzVectors(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 0))
	for _, dims := range []int{0, 1, 3, 4, 5, 8, 61, 64, 127} {
		random := make([]byte, 12*dims)
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		f.Add(random, 1.5)
		ordinary := make([]byte, 0, 12*dims)
		for range 3 * dims {
			ordinary = binary.LittleEndian.AppendUint32(ordinary, math.Float32bits(float32(r.NormFloat64())))
		}
		f.Add(ordinary, 0.01)
	}
	f.Fuzz(func(t *testing.T, b []byte, factor float64) {
		if !vectors {
			t.Skip("the processor has no AVX2")
		}
		n := len(b) / 12
		part := func(k int) []float32 {
			out := make([]float32, n)
			for i := range out {
				out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*(k*n+i):]))
			}
			return out
		}
		x, p, w := part(0), part(1), part(2)
		s0, s1, s2, s3 := sumSquares(x, p, w)
		w0, w1, w2, w3 := sumSquaresGo(x, p, w)
		if !same(s0, w0) || !same(s1, w1) || !same(s2, w2) || !same(s3, w3) {
			t.Errorf("sums %v %v %v %v, in Go %v %v %v %v", s0, s1, s2, s3, w0, w1, w2, w3)
		}

		dst, want := make([]float64, n+1), make([]float64, n+1)
		for i := range dst {
			dst[i] = float64(i) * factor
			want[i] = dst[i]
		}
		addSquares(dst, x, p, w, factor)
		for i := range x {
			want[i] += float64(squared(x[i], p[i], w[i]) * factor)
		}
		for i := range dst {
			if !same(dst[i], want[i]) {
				t.Errorf("credit %d: %v, in Go %v", i, dst[i], want[i])
			}
		}
	})
}

// same says whether two numbers are the same to the last bit; NaNs have several
// forms.
func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}
