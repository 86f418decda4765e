package features

import (
	"encoding/binary"
	"math/bits"
)

// FNV-1a, for what is hashed once in a call.
const (
	hashBasis = 14695981039346656037
	hashPrime = 1099511628211
)

// The hash of a word is over its bytes with bit 5 set, which is what tells capitals from small letters, sixteen at a time, which is nearly all words at once; the
// last sixteen are filled up with spaces. It is known to all, as the words of the lexicon are; what is kept of words is drawn from it with the workload's salt.
const (
	wordBasis = 0x2d358dccaa6c78a5
	wordOther = 0x8bb84b93962eacc9
)

// Bits of each of eight bytes. Of the bytes of words, digits have neither bit 7 nor 6, capitals neither 7 nor 5, and what is beyond ASCII has bit 7.
const (
	bit5 = 0x2020202020202020
	bit6 = 0x4040404040404040
	bit7 = 0x8080808080808080
)

// fold adds sixteen bytes to a hash. Both halves of the product of 128 bits bear on it, so that any of its bits serves.
func fold(h, lo, hi uint64) uint64 {
	a, b := bits.Mul64((lo|bit5)^h, (hi|bit5)^wordOther)
	return a ^ b
}

// head is what keeps of eight bytes the first few.
var head = [9]uint64{0, 0xff, 0xffff, 0xffffff, 0xffffffff, 0xffffffffff, 0xffffffffffff, 0xffffffffffffff, 0xffffffffffffffff}

// spelling is how a word is spelt, and its hash.
type spelling struct {
	hash   uint64
	others uint64 // 0 if the word is all digits
	digits uint64 // 0 if the word has no digits
	smalls uint64 // 0 if the word is all capitals
}

// add adds the first n of sixteen bytes.
func (s *spelling) add(lo, hi uint64, n int) {
	m0, m1 := head[min(n, 8)], head[max(n, 8)-8]
	lo, hi = lo&m0, hi&m1
	s.hash = fold(s.hash, lo, hi)
	s.others |= (lo | hi) & (bit7 | bit6)
	s.digits |= (m0&^(lo|lo>>1) | m1&^(hi|hi>>1)) & bit6
	s.smalls |= (lo | hi) & (bit7 | bit5)
}

// spell spells a word that shows wholly.
func spell(word []byte) spelling {
	s := spelling{hash: wordBasis}
	for ; len(word) >= 16; word = word[16:] {
		s.add(binary.LittleEndian.Uint64(word), binary.LittleEndian.Uint64(word[8:]), 16)
	}
	switch n := len(word); {
	case n > 8:
		// The last eight bytes hold what the first eight do not.
		s.add(binary.LittleEndian.Uint64(word), binary.LittleEndian.Uint64(word[n-8:])>>(8*(16-n)), n)
	case n > 0:
		var lo uint64
		for i, c := range word {
			lo |= uint64(c) << (8 * i)
		}
		s.add(lo, 0, n)
	}
	return s
}

// hashAt returns the hash of the word b[begin:end].
func hashAt(b []byte, begin, end int) uint64 {
	if n := end - begin; n <= 8 && begin+8 <= len(b) {
		return fold(wordBasis, binary.LittleEndian.Uint64(b[begin:])&head[n], 0)
	}
	s := spell(b[begin:end])
	return s.hash
}

// speller spells a word that comes in pieces.
type speller struct {
	spelling
	length int
	rest   [16]byte
}

func newSpeller() speller { return speller{spelling: spelling{hash: wordBasis}} }

// add adds a byte of a word.
func (s *speller) add(c byte) {
	s.rest[s.length%16] = c
	if s.length++; s.length%16 == 0 {
		s.spelling.add(binary.LittleEndian.Uint64(s.rest[:]), binary.LittleEndian.Uint64(s.rest[8:]), 16)
	}
}

// end returns the spelling of the word.
func (s *speller) end() spelling {
	if n := s.length % 16; n > 0 {
		s.spelling.add(binary.LittleEndian.Uint64(s.rest[:]), binary.LittleEndian.Uint64(s.rest[8:]), n)
	}
	return s.spelling
}
