package features

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// Of each byte at each place of a block, the sets are those of setsOf.
func TestSetsOfBytes(t *testing.T) {
	eachPath(func() {
		for c := range 256 {
			for _, size := range []int{1, 63, 64, 65, chunkBytes - 1, chunkBytes} {
				for _, at := range []int{0, size / 2, size - 1} {
					text := slices.Repeat([]byte{','}, size)
					text[at] = byte(c)
					var got, want chunk
					var counts quads
					got.fill(text, &counts)
					var h histogram
					if counts.merge(&h, len(h)); int(h[c]) != 1+(size-1)*b2i(c == ',') || int(h[',']) != size-b2i(c != ',') {
						t.Fatalf("%#x at %d of %d: counted %d, and %d commas", c, at, size, h[c], h[','])
					}
					for set := range want {
						want[set][at/blockBytes] = setsOf[c] >> (8 * set) & 1 << (at % blockBytes)
					}
					for set := range want {
						if n := (size + blockBytes - 1) / blockBytes; !slices.Equal(got[set][:n], want[set][:n]) {
							t.Fatalf("set %d of %#x at %d of %d: %x, want %x", set, c, at, size, got[set][:n], want[set][:n])
						}
					}
				}
			}
		}
	})
}

func TestPlaces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	blocks := make([]uint64, chunkBlocks)
	var got [chunkBytes + 8]uint32
	eachPath(func() {
		for density := range 10 {
			var want []uint32
			for k := range blocks {
				blocks[k] = ^uint64(0)
				for range density {
					blocks[k] &= r.Uint64()
				}
				for x := blocks[k]; x != 0; x &= x - 1 {
					want = append(want, uint32(70_000+k*blockBytes+bits.TrailingZeros64(x)))
				}
			}
			if n := placesOf(got[:], blocks, 70_000); !slices.Equal(got[:n], want) {
				t.Errorf("places of %x: %d, want %d", blocks, got[:n], want)
			}
		}
		if n := placesOf(got[:], nil, 0); n != 0 {
			t.Errorf("%d places of nothing", n)
		}
	})
}

func TestEscapes(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for range 10_000 {
		x, before := r.Uint64()|r.Uint64(), r.Uint64()&1
		var want uint64
		open := before
		for k := range blockBytes {
			want |= open << k
			open = x >> k & 1 &^ open
		}
		if got, last := escapes(x, before); got != want || last != open {
			t.Fatalf("escapes of %x after %d: %x and %d, want %x and %d", x, before, got, last, want, open)
		}
	}
}

func TestGaps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for range 10_000 {
		x := r.Uint64() & r.Uint64() & r.Uint64() & r.Uint64()
		n := 1 + r.IntN(64)
		var long, near uint64
		for k := range blockBytes {
			before := x << (63 - k) << 1 // the bits before k, the last one the highest
			if x>>k&1 != 0 && k >= n && bits.LeadingZeros64(before) >= n {
				long |= 1 << k
			}
			if bits.TrailingZeros64(x>>k) < 10 {
				near |= 1 << k
			}
		}
		if got := afterLong(x, n); got != long {
			t.Fatalf("bits of %x after %d: %x, want %x", x, n, got, long)
		}
		if got := beforeShort(x); got != near {
			t.Fatalf("places before bits of %x: %x, want %x", x, got, near)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
