package features

import (
	"encoding/binary"
	"math/bits"
)

// Texts are read in blocks of 64 bytes, of which sets of bytes are numbers of 64 bits, and in chunks of blocks. Words are found between two bits, so that what is done
// for each byte asks nothing of it, and what is done for each word asks little: a processor that guesses wrong loses the time of ten bytes.
const (
	blockBytes  = 64
	chunkBlocks = 16
	chunkBytes  = chunkBlocks * blockBytes
)

// The sets that a byte can be in, by the place of a set's byte in the entries of setsOf.
const (
	inWord     = 8 * iota // letters, digits and what is beyond ASCII
	inEncoded             // the base64 alphabet
	inBlank               // space, tab, line feed, carriage return
	inSentence            // ends of sentences and of lines: what follows begins one
	inRare                // what is looked at by itself: backslashes, other control characters, what opens a marker, first bytes of what may not show
	sets       = iota
)

// setsOf has, for each byte, a 1 at the place of each set that it is in.
var setsOf = func() (of [256]uint64) {
	for c := range 256 {
		switch classOf[c] {
		case word, high:
			of[c] |= 1 << inWord
		case space:
			of[c] |= 1 << inBlank
		case newline:
			of[c] |= 1<<inBlank | 1<<inSentence
		case control:
			of[c] |= 1 << inRare
		}
		if inBase64[c] {
			of[c] |= 1 << inEncoded
		}
		switch c {
		case '.', '!', '?', ':', ';':
			of[c] |= 1 << inSentence
		case '<', '[', '#', '\\', 0xc2, 0xe2, 0xef, 0xf3:
			of[c] |= 1 << inRare
		}
	}
	return
}()

// chunk is a stretch of text by its sets of bytes: of each set a bit for each byte, the first byte's the lowest.
type chunk [sets][chunkBytes / 8]byte

// quads counts bytes in four histograms by turns, so that a byte that comes twice in a row does not wait for itself.
type quads [4]histogram

// fill sets the chunk to the bytes of b, at most chunkBytes, and counts them.
func (c *chunk) fill(b []byte, t *quads) {
	i := 0
	for ; len(b) >= 8; i++ {
		eight := (*[8]byte)(b)
		b = b[8:]
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
		c.put(i, of)
	}
	if len(b) > 0 {
		var last uint64
		for k, x := range b {
			t[0][x]++
			last |= setsOf[x] << k
		}
		c.put(i, last)
		i++
	}
	for ; i%8 != 0; i++ {
		c.put(i, 0)
	}
}

// put sets the sets of eight bytes.
func (c *chunk) put(i int, sets uint64) {
	i &= chunkBytes/8 - 1
	c[inWord/8][i] = byte(sets >> inWord)
	c[inEncoded/8][i] = byte(sets >> inEncoded)
	c[inBlank/8][i] = byte(sets >> inBlank)
	c[inSentence/8][i] = byte(sets >> inSentence)
	c[inRare/8][i] = byte(sets >> inRare)
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

// block returns the bits of a set for one block.
func (c *chunk) block(set, i int) uint64 { return binary.LittleEndian.Uint64(c[set/8][i*8:]) }

// spread returns the members of at and what follows each of them without a gap in within.
func spread(at, within uint64) uint64 {
	for n := 1; n < 64; n *= 2 {
		at |= within & (at << n)
		within &= within << n
	}
	return at
}

// longGap is how long a gap between bits is that afterLong looks for.
const longGap = 10

// afterLong returns those bits of x that come after a gap of at least longGap, and the first, before which the gap may have begun in an earlier block.
func afterLong(x uint64) uint64 {
	gap := ^x
	gap &= gap << 1
	gap &= gap << 2
	gap &= gap << 4
	gap &= gap << 2
	return x & (gap<<1 | -x)
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

// add adds n flags, the first one the lowest bit. The width is the number in a row, at most 32.
func (w *window) add(flags uint64, n, width int) {
	past, most := w.past, w.most
	for ; n > 0; n -= 16 {
		k := min(n, 16)
		past = past>>(k&63) | flags<<((64-k)&63)
		flags >>= 16
		if bits.OnesCount64(past>>((64-15-width)&63)) <= most {
			continue // no window that ends among these has more
		}
		for ends := past >> (64 - 16); ends != 0; ends &= ends - 1 {
			end := 64 - 16 + bits.TrailingZeros64(ends)
			most = max(most, bits.OnesCount64(past<<((63-end)&63)>>((64-width)&63)))
		}
	}
	w.past, w.most = past, most
}

// of returns how often a byte came.
func (t *quads) of(c byte) int { return int(t[0][c] + t[1][c] + t[2][c] + t[3][c]) }

// merge returns the four histograms as one.
func (t *quads) merge() (h histogram) {
	for i := range h {
		h[i] = t[0][i] + t[1][i] + t[2][i] + t[3][i]
	}
	return h
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
