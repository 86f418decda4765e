package canary

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Bounds on tokens.
const (
	// MinValue is the least number of characters of a token, white space left out: shorter ones are found by chance.
	MinValue = 8
	// MaxValue is the largest.
	MaxValue = 256
	// MaxTokens is how many there may be in a set.
	MaxTokens = 1024
)

// Token is a string that must not be in a call, and the name that it is reported by.
type Token struct{ Name, Value string }

// Set is the tokens to look for. It never changes and is safe for concurrent use; nil finds nothing.
type Set struct {
	names  []string // sorted, each once
	tokens []token
	plain  index // by four bytes, with bit 5 set
	sixes  index // by four signs of base64, 24 bits
}

type token struct {
	name   int    // in Set.names
	folded []byte // the value in small letters, without white space
}

// place is a token that an entry of an index stands for.
type place struct {
	token int
	at    int // how far into the token the entry begins: in bytes, for base64 in bits
}

// index finds places by a number. The filter, a bit for each hash, answers for most numbers.
type index struct {
	filter []uint64 // a power of two
	shift  uint
	places map[uint32][]place
}

func (x *index) has(key uint32) bool {
	h := key * 0x9e3779b1 >> x.shift
	return x.filter[h/64]>>(h%64)&1 != 0
}

func (x *index) add(key uint32, p place) {
	if x.places == nil {
		x.places = map[uint32][]place{}
	}
	if !slices.Contains(x.places[key], p) {
		x.places[key] = append(x.places[key], p)
	}
}

// seal makes the filter: at least 32 bits for each number, so that one in 32 is looked up in vain.
func (x *index) seal() {
	x.shift = 32 - 15
	for x.shift > 32-20 && 32*len(x.places) > 1<<(32-x.shift) {
		x.shift--
	}
	x.filter = make([]uint64, 1<<(32-x.shift)/64)
	for key := range x.places {
		h := key * 0x9e3779b1 >> x.shift
		x.filter[h/64] |= 1 << (h % 64)
	}
}

// New returns the set of the tokens. Values are printable ASCII of MinValue to MaxValue characters, white space not counted. Several tokens may have one
// name.
func New(tokens []Token) (*Set, error) {
	if len(tokens) > MaxTokens {
		return nil, fmt.Errorf("%d canary tokens, more than %d", len(tokens), MaxTokens)
	}
	s := &Set{}
	for _, t := range tokens {
		s.names = append(s.names, t.Name)
	}
	slices.Sort(s.names)
	s.names = slices.Compact(s.names)
	for i, t := range tokens {
		folded, err := fold(t)
		if err != nil {
			return nil, fmt.Errorf("canary token %d, %.64q: %w", i+1, t.Name, err)
		}
		name, _ := slices.BinarySearch(s.names, t.Name)
		s.tokens = append(s.tokens, token{name, folded})
		s.enter(i, folded)
	}
	s.plain.seal()
	s.sixes.seal()
	return s, nil
}

func fold(t Token) ([]byte, error) {
	if t.Name == "" {
		return nil, errors.New("no name")
	}
	folded := make([]byte, 0, MaxValue)
	for i := range len(t.Value) {
		c := t.Value[i]
		switch {
		case blank[c]:
			continue
		case c < ' ' || c >= 0x7f:
			return nil, errors.New("the value is not printable ASCII")
		case len(folded) == MaxValue:
			return nil, fmt.Errorf("the value has more than %d characters", MaxValue)
		}
		folded = append(folded, small(c))
	}
	if len(folded) < MinValue {
		return nil, fmt.Errorf("the value has fewer than %d characters", MinValue)
	}
	return folded, nil
}

// bit5 is what tells capitals from small letters, in four bytes.
const bit5 = 0x20202020

// enter makes the token found by the indexes. A text is looked at at every fourth byte: one of four windows of the token is there, of base64 one of
// twelve, as it may begin at any even bit.
func (s *Set) enter(i int, v []byte) {
	n := len(v)
	for at := n - 7; at <= n-4; at++ {
		s.plain.add(binary.LittleEndian.Uint32(v[at:])|bit5, place{i, at})
	}
	for at := 8*n - 24 - 22; at <= 8*n-24; at += 2 {
		first, last := at/8, (at+23)/8
		for capitals := range 1 << (last + 1 - first) {
			window := uint64(0)
			for k, c := range v[first : last+1] {
				if capitals>>k&1 != 0 && c >= 'a' && c <= 'z' {
					c -= 'a' - 'A'
				}
				window = window<<8 | uint64(c)
			}
			s.sixes.add(uint32(window>>(8*(last+1)-at-24))&(1<<24-1), place{i, at})
		}
	}
}

func small(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Find returns the names of the tokens in text, sorted, each once; nil where there are none.
func (s *Set) Find(text []byte) []string {
	if s == nil || len(s.tokens) == 0 || len(text) < MinValue {
		return nil
	}
	x := pool.Get().(*search) //nolint:forcetypeassert // the pool holds nothing else
	x.begin(s)
	x.all(text)
	var found []string
	if x.any {
		for i, name := range s.names {
			if x.found[i] {
				found = append(found, name)
			}
		}
	}
	x.set = nil
	pool.Put(x)
	return found
}
