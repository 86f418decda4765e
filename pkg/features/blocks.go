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
		x := binary.LittleEndian.Uint64(b)
		b = b[8:]
		c0, c1, c2, c3, c4, c5, c6, c7 := byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56)
		t[0][c0]++
		t[1][c1]++
		t[2][c2]++
		t[3][c3]++
		t[0][c4]++
		t[1][c5]++
		t[2][c6]++
		t[3][c7]++
		c.put(i, setsOf[c0]|setsOf[c1]<<1|setsOf[c2]<<2|setsOf[c3]<<3|setsOf[c4]<<4|setsOf[c5]<<5|setsOf[c6]<<6|setsOf[c7]<<7)
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
		x := binary.LittleEndian.Uint64(b)
		b = b[8:]
		eight := setsOf[byte(x)] | setsOf[byte(x>>8)]<<1 | setsOf[byte(x>>16)]<<2 | setsOf[byte(x>>24)]<<3 |
			setsOf[byte(x>>32)]<<4 | setsOf[byte(x>>40)]<<5 | setsOf[byte(x>>48)]<<6 | setsOf[x>>56]<<7
		words |= eight & 0xff << at
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

// add adds n flags, 1 to 64, the first one the lowest bit. The width is the number in a row, at most 64.
func (w *window) add(flags uint64, n, width int) {
	past := w.past
	w.past = past>>n | flags<<(64-n)
	if bits.OnesCount64(past>>(65-width))+bits.OnesCount64(flags) <= w.most {
		return
	}
	for x := flags; x != 0; x &= x - 1 {
		k := bits.TrailingZeros64(x)
		// Of the window that ends here, what of it is new and what is past.
		w.most = max(w.most, bits.OnesCount64(flags<<(63-k)>>(64-width))+bits.OnesCount64(past>>(65-width+k)))
	}
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
