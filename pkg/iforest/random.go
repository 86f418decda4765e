package iforest

import (
	"math/bits"
	"math/rand/v2"
)

// random is a stream of random numbers. What is drawn from PCG is written out
// here, so that a forest does not depend on how a library derives numbers.
type random struct {
	pcg *rand.PCG
}

// newRandom returns stream i of a seed. Streams of neighbouring seeds and
// indices have nothing in common.
func newRandom(seed, i uint64) random {
	return random{rand.NewPCG(mix(seed), mix(seed^mix(i)))}
}

// below returns a number in [0, n). Its bias, n in 2⁶⁴, is beyond notice.
func (r random) below(n int) int {
	hi, _ := bits.Mul64(r.pcg.Uint64(), uint64(n))
	return int(hi)
}

// unit returns a number in [0, 1).
func (r random) unit() float64 { return float64(r.pcg.Uint64()>>11) / (1 << 53) }

// mix is the finaliser of SplitMix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
