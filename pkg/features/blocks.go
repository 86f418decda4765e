package features

import (
	"math/bits"
	"strings"
)

// Texts are read in blocks of 64 bytes, of which sets of bytes are numbers of 64 bits, and in chunks of blocks. Words are found between two bits, so that what is done
// for each byte asks nothing of it, and what is done for each word asks little: a processor that guesses wrong loses the time of ten bytes.
const (
	blockBytes  = 64
	chunkBlocks = 32
	chunkBytes  = chunkBlocks * blockBytes
)

// The sets that a byte can be in, by their place in a chunk and in the entries of setsOf.
const (
	inWord      = iota // letters, digits and what is beyond ASCII
	inEncoded          // the base64 alphabet
	inBlank            // space, tab, line feed, carriage return
	inSentence         // ends of sentences and of lines: what follows begins one
	inRare             // what is looked at by itself: other control characters, what opens a marker, first bytes of what may not show
	inBackslash        // what takes the next byte's meaning away
	inBreaks           // what ends a line after a backslash
	inSecret           // what a credential begins with
	sets
)

// setsOf has, for each byte, a 1 in the byte of each set that it is in.
var setsOf = func() (of [256]uint64) {
	for c := range 256 {
		in := func(set int) { of[c] |= 1 << (8 * set) }
		switch classOf[c] {
		case word, high:
			in(inWord)
		case space:
			in(inBlank)
		case newline:
			in(inBlank)
			in(inSentence)
		case control:
			in(inRare)
		}
		if inBase64[c] {
			in(inEncoded)
		}
		switch c {
		case '.', '!', '?', ':', ';':
			in(inSentence)
		case '<', '[', '#', 0xc2, 0xe2, 0xef, 0xf3:
			in(inRare)
		case '\\':
			in(inBackslash)
		case 'n', 'r', 't':
			in(inBreaks)
		}
		if secondOf[c] != 0 {
			in(inSecret)
		}
	}
	return
}()

// chunk is a stretch of text by its sets of bytes: of each set and each block a bit for each byte, the first byte's the lowest.
type chunk [sets][chunkBlocks]uint64

// fill sets the chunk to the bytes of b, at most chunkBytes, and counts them. What is missing of the last block is in no set.
func (c *chunk) fill(b []byte, t *quads) {
	whole := len(b) / blockBytes
	if whole > 0 {
		c.sort(0, b[:whole*blockBytes], t)
	}
	if rest := b[whole*blockBytes:]; len(rest) > 0 {
		last := noSets
		n := copy(last[:], rest)
		c.sort(whole, last[:], t)
		t[0][noSets[0]] -= uint32(blockBytes - n) // which are among those of all four; what is below zero here is as much too high there
	}
}

// noSets is a block of bytes that are in no set.
var noSets = [blockBytes]byte([]byte(strings.Repeat(",", blockBytes)))

// sort sets the blocks from one on to the bytes of b, which has whole blocks, and counts them.
func (c *chunk) sort(block int, b []byte, t *quads) {
	if kernels {
		setsKernel(c, block, &b[0], len(b)/blockBytes, t)
		return
	}
	for ; len(b) >= blockBytes; block++ {
		var eights [8]uint64
		for i := range eights {
			eight := (*[8]byte)(b[8*i:])
			// From the last to the first, so that each shift is an addition.
			k := eight[7]
			of := setsOf[k]
			t[3][k]++
			k = eight[6]
			of += of + setsOf[k]
			t[2][k]++
			k = eight[5]
			of += of + setsOf[k]
			t[1][k]++
			k = eight[4]
			of += of + setsOf[k]
			t[0][k]++
			k = eight[3]
			of += of + setsOf[k]
			t[3][k]++
			k = eight[2]
			of += of + setsOf[k]
			t[2][k]++
			k = eight[1]
			of += of + setsOf[k]
			t[1][k]++
			k = eight[0]
			of += of + setsOf[k]
			t[0][k]++
			eights[i] = of
		}
		b = b[blockBytes:]
		c.transpose(block&(chunkBlocks-1), &eights)
	}
}

// transpose sets a block to the sets of its eights of bytes: the i-th byte of a set is that of the i-th eight.
func (c *chunk) transpose(block int, m *[8]uint64) {
	const fours, twos, ones = 0x00000000ffffffff, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff
	a0, a4 := exchange(m[0], m[4], 32, fours)
	a1, a5 := exchange(m[1], m[5], 32, fours)
	a2, a6 := exchange(m[2], m[6], 32, fours)
	a3, a7 := exchange(m[3], m[7], 32, fours)
	a0, a2 = exchange(a0, a2, 16, twos)
	a1, a3 = exchange(a1, a3, 16, twos)
	a4, a6 = exchange(a4, a6, 16, twos)
	a5, a7 = exchange(a5, a7, 16, twos)
	c[0][block], c[1][block] = exchange(a0, a1, 8, ones)
	c[2][block], c[3][block] = exchange(a2, a3, 8, ones)
	c[4][block], c[5][block] = exchange(a4, a5, 8, ones)
	c[6][block], c[7][block] = exchange(a6, a7, 8, ones)
}

// exchange swaps the bits of a mask in b with those of a that are so much higher.
func exchange(a, b uint64, by uint, mask uint64) (uint64, uint64) {
	x := (a>>by ^ b) & mask
	return a ^ x<<by, b ^ x
}

// quads counts bytes in four histograms by turns, so that a byte that comes twice in a row does not wait for itself.
type quads [4]histogram

// placesOf writes where the bits of some blocks are, of which the first begins at a place in the text, and returns how many there are. It may write eight more.
func placesOf(places []uint32, blocks []uint64, at int) int {
	if kernels && len(blocks) > 0 {
		return placesKernel(&places[0], &blocks[0], len(blocks), uint32(at), &bitsOf)
	}
	total := 0
	for _, x := range blocks {
		n := bits.OnesCount64(x)
		// Four at a time, as the processor would have to guess when to stop.
		for i := total; i < total+n; i += 4 {
			four := (*[4]uint32)(places[i:])
			four[0] = uint32(at + bits.TrailingZeros64(x))
			x &= x - 1
			four[1] = uint32(at + bits.TrailingZeros64(x))
			x &= x - 1
			four[2] = uint32(at + bits.TrailingZeros64(x))
			x &= x - 1
			four[3] = uint32(at + bits.TrailingZeros64(x))
			x &= x - 1
		}
		total += n
		at += blockBytes
	}
	return total
}

// bitsOf has, for each byte, the places of its bits, the lowest first.
var bitsOf = func() (of [256]uint64) {
	for c := range of {
		for k, x := 0, c; x != 0; x &= x - 1 {
			of[c] |= uint64(bits.TrailingZeros(uint(x))) << k
			k += 8
		}
	}
	return
}()

// wordsOf sets blocks to which bytes of b are of words, and returns how many blocks there are.
func wordsOf(blocks *[chunkBlocks]uint64, b []byte) int {
	n := len(b) / blockBytes
	if n > 0 {
		wordsKernel(&blocks[0], &b[0], n)
	}
	if rest := b[n*blockBytes:]; len(rest) > 0 {
		blocks[n] = wordBits(rest)
		n++
	}
	return n
}

// wordBits returns which of the bytes of b, at most blockBytes, are of words.
func wordBits(b []byte) (words uint64) {
	at := 0
	for ; len(b) >= 8; at += 8 {
		eight := (*[8]byte)(b)
		b = b[8:]
		of := setsOf[eight[7]]
		of += of + setsOf[eight[6]]
		of += of + setsOf[eight[5]]
		of += of + setsOf[eight[4]]
		of += of + setsOf[eight[3]]
		of += of + setsOf[eight[2]]
		of += of + setsOf[eight[1]]
		of += of + setsOf[eight[0]]
		words |= of & 0xff << at
	}
	for k, c := range b {
		words |= setsOf[c] & 1 << (at + k)
	}
	return words
}

// spread returns the members of at and what follows each of them without a gap in within.
func spread(at, within uint64) uint64 {
	for n := 1; n < 64; n *= 2 {
		at |= within & (at << n)
		within &= within << n
	}
	return at
}

// escapes returns which bytes of a block backslashes take the meaning of, and whether the last one of the block takes that of the next block's first: 1 or 0, as it was with the block before.
// Of backslashes in a row, every other one is escaped by the one before it, which an addition with carries finds for all of them.
func escapes(backslashes, before uint64) (escaped, last uint64) {
	const odd = 0xaaaaaaaaaaaaaaaa
	open := backslashes &^ before
	ends := ((open<<1 | odd) - open) ^ odd
	return ends ^ (backslashes | before), (ends & backslashes) >> 63
}

// afterLong returns those bits of x that come after n bits or more that are none, n being 1 to 64. Where fewer bits come before the first one, it is none of them.
func afterLong(x uint64, n int) uint64 {
	gap := ^x
	for have := 1; have < n; {
		more := min(have, n-have)
		gap &= gap << (more & 63)
		have += more
	}
	return x & (gap << 1)
}

// beforeShort returns those places from which at most nine bytes come before a bit of x.
func beforeShort(x uint64) uint64 {
	x |= x >> 1
	x |= x >> 2
	x |= x >> 4
	return x | x>>2
}

// gapStart returns where the gap begins that the bit k of x ends; before where that is no place in the block, which is at a place in the text.
func gapStart(x uint64, k, at, before int) int {
	if x &= 1<<k - 1; x != 0 {
		return at + 64 - bits.LeadingZeros64(x)
	}
	return before
}

// window finds where flags are dense: the most among any few in a row.
type window struct {
	past uint64 // the latest flags, the last one the highest
	most int
}

// add adds n flags, 64 at most and the first one the lowest bit; those after them are not set. The width is the number in a row, at most 32.
func (w *window) add(flags uint64, n, width int) {
	past := w.past
	w.past = past>>(n-1)>>1 | flags<<((64-n)&63)
	if bits.OnesCount64(past>>((65-width)&63))+bits.OnesCount64(flags) <= w.most {
		return // no window that ends among these has more
	}
	// A window that ends one later has one flag more and one less.
	gone := past>>((64-width)&63) | flags<<(width&63)
	count, most := bits.OnesCount64(past>>((64-width)&63)), w.most
	for range 16 {
		at := &slopes[flags&15|gone&15<<4]
		most = max(most, count+int(at.peak))
		count += int(at.sum)
		flags >>= 4
		gone >>= 4
	}
	w.most = most
}

// slopes has, for four flags that come, the lower half of its index, and four that go, what that adds to a count: at most on the way, and in the end.
var slopes = func() (of [256]struct{ peak, sum int8 }) {
	for i := range of {
		of[i].peak = -1
		for k := range 4 {
			of[i].sum += int8(i>>k&1 - i>>(4+k)&1)
			of[i].peak = max(of[i].peak, of[i].sum)
		}
	}
	return
}()

// of returns how often a byte came.
func (t *quads) of(c byte) int { return int(t[0][c] + t[1][c] + t[2][c] + t[3][c]) }

// merge adds the first counts of the four histograms in h, of which the others stay as they are.
func (t *quads) merge(h *histogram, counts int) {
	a, b, c, d := t[0][:counts], t[1][:counts], t[2][:counts], t[3][:counts]
	for i := range h[:counts] {
		h[i] = a[i] + b[i] + c[i] + d[i]
	}
}

// before returns the last place before text[i] that has a bit, of the chunk's blocks at from; earlier where there is none in it.
func before(blocks *[chunkBlocks]uint64, from, i, earlier int) int {
	if i <= from {
		return earlier
	}
	k := (i - from) / blockBytes
	x := uint64(0)
	if k < chunkBlocks {
		x = blocks[k] & (1<<((i-from)%blockBytes) - 1)
	} else {
		k = chunkBlocks
	}
	for x == 0 {
		if k--; k < 0 {
			return earlier
		}
		x = blocks[k]
	}
	return from + k*blockBytes + 63 - bits.LeadingZeros64(x)
}
