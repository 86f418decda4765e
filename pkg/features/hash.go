package features

import (
	"encoding/binary"
	"math/bits"
)

// The hash of a word is over its bytes in lower case, sixteen at a time, which is nearly all words at once. The last sixteen are filled with zeros. It is
// known to all, as the words of the lexicon are; what is kept of words is drawn from it with the workload's salt.
const (
	hashBasis = 14695981039346656037 // FNV-1a, for what is hashed once in a call
	hashPrime = 1099511628211
)

const (
	wordBasis = 0x2d358dccaa6c78a5
	wordOther = 0x8bb84b93962eacc9

	hashBytes = 16
)

// fold adds sixteen bytes to a hash. Both halves of the product of 128 bits bear on it, so that any of its bits serves.
func fold(h, lo, hi uint64) uint64 {
	a, b := bits.Mul64(lo^h, hi^wordOther)
	return a ^ b
}

// Each byte's bits of use, of eight bytes.
const (
	bit5 = 0x2020202020202020
	bit6 = 0x4040404040404040
	bit7 = 0x8080808080808080
)

// lower returns eight bytes of words in lower case. Of such bytes, digits have bits 7 and 6 clear, letters have bit 6 and not bit 7, and bit 5
// where they are small.
func lower(x uint64) uint64 { return x | x&^(x>>1)&bit6>>1 }

// others returns bit 6 of each of eight bytes of words that is no digit; padding, which is 0, has none either.
func others(x uint64) uint64 { return (x | x>>1) & bit6 }

// smalls returns bit 5 of each that is no capital.
func smalls(x uint64) uint64 { return (x | x>>2) & bit5 }

// head is what keeps of 16 bytes the first few.
var head = func() (masks [hashBytes + 1][2]uint64) {
	for n := range masks {
		for i := range n {
			masks[n][i/8] |= 0xff << (i % 8 * 8)
		}
	}
	return
}()

// spelling is how a word is spelt, bit by bit, and its hash.
type spelling struct {
	hash   uint64
	others uint64 // 0 if the word is all digits
	digits uint64 // 0 if the word has no digits
	smalls uint64 // 0 if the word is all capitals
	high   uint64 // 0 if the word is ASCII
}

// add adds the first n of sixteen bytes.
func (s *spelling) add(lo, hi uint64, n int) {
	m := &head[n]
	lo, hi = lo&m[0], hi&m[1]
	other0, other1 := others(lo), others(hi)
	s.others |= other0 | other1
	s.digits |= (other0 ^ m[0]&bit6) | (other1 ^ m[1]&bit6)
	s.smalls |= smalls(lo) | smalls(hi)
	s.high |= (lo | hi) & bit7
	s.hash = fold(s.hash, lower(lo), lower(hi))
}

// speller spells a word that comes in pieces.
type speller struct {
	spelling
	length int
	rest   [hashBytes]byte
}

func newSpeller() speller { return speller{spelling: spelling{hash: wordBasis}} }

// add adds bytes of a word, of any number.
func (s *speller) add(b []byte) {
	for len(b) > 0 {
		at := s.length % hashBytes
		n := copy(s.rest[at:], b)
		s.length += n
		b = b[n:]
		if at+n == hashBytes {
			s.spelling.add(binary.LittleEndian.Uint64(s.rest[:]), binary.LittleEndian.Uint64(s.rest[8:]), hashBytes)
		}
	}
}

// end returns the spelling of the word.
func (s *speller) end() spelling {
	if n := s.length % hashBytes; n > 0 {
		s.spelling.add(binary.LittleEndian.Uint64(s.rest[:]), binary.LittleEndian.Uint64(s.rest[8:]), n)
	}
	return s.spelling
}

// spell spells a word that shows wholly.
func spell(word []byte) spelling {
	s := spelling{hash: wordBasis}
	for ; len(word) >= hashBytes; word = word[hashBytes:] {
		s.add(binary.LittleEndian.Uint64(word), binary.LittleEndian.Uint64(word[8:]), hashBytes)
	}
	if len(word) > 0 {
		var rest [hashBytes]byte
		n := copy(rest[:], word)
		s.add(binary.LittleEndian.Uint64(rest[:]), binary.LittleEndian.Uint64(rest[8:]), n)
	}
	return s
}

// hashAt returns the hash of the word b[begin:end].
func hashAt(b []byte, begin, end int) uint64 {
	if n := end - begin; n <= hashBytes && begin+hashBytes <= len(b) {
		m := &head[n]
		return fold(wordBasis, lower(binary.LittleEndian.Uint64(b[begin:])&m[0]), lower(binary.LittleEndian.Uint64(b[begin+8:])&m[1]))
	}
	s := spell(b[begin:end])
	return s.hash
}
