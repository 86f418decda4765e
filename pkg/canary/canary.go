package canary

import (
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
	tails  index // by their last four bytes
	quads  index // by three of their last five bytes, in each of three alignments and any case of letters, as base64 has them
}

type token struct {
	name   int    // in Set.names
	folded []byte // the value in small letters, without white space
}

// place is a token that an entry of an index stands for.
type place struct {
	token int
	after int // bytes of the token that follow those of the entry
}

// index finds places by a number. The filter, a bit for each hash, answers for most numbers.
type index struct {
	filter *[1 << filterBits / 64]uint64
	places map[uint32][]place
}

const filterBits = 15

func hash(x uint32) uint32 { return x * 0x9e3779b1 >> (32 - filterBits) }

func newIndex() index {
	return index{filter: new([1 << filterBits / 64]uint64), places: map[uint32][]place{}}
}

func (x *index) add(key uint32, p place) {
	h := hash(key)
	x.filter[h/64] |= 1 << (h % 64)
	if !slices.Contains(x.places[key], p) {
		x.places[key] = append(x.places[key], p)
	}
}

// New returns the set of the tokens. Values are printable ASCII of MinValue to MaxValue characters, white space not counted. Several tokens may have one
// name.
func New(tokens []Token) (*Set, error) {
	if len(tokens) > MaxTokens {
		return nil, fmt.Errorf("%d canary tokens, more than %d", len(tokens), MaxTokens)
	}
	s := &Set{tails: newIndex(), quads: newIndex()}
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

// enter makes the token found by the indexes.
func (s *Set) enter(i int, v []byte) {
	n := len(v)
	s.tails.add(uint32(v[n-4])<<24|uint32(v[n-3])<<16|uint32(v[n-2])<<8|uint32(v[n-1]), place{i, 0})
	for after := range 3 {
		three := v[n-3-after : n-after]
		for capitals := range 8 {
			key := uint32(0)
			for k, c := range three {
				if capitals>>k&1 != 0 && c >= 'a' && c <= 'z' {
					c -= 'a' - 'A'
				}
				key = key<<8 | uint32(c)
			}
			s.quads.add(key, place{i, after})
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
