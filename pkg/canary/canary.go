// Package canary finds strings that must never appear in a call: canary tokens, put where only a thief looks.
package canary

import (
	"bytes"
	"fmt"
	"slices"
)

// Token is a string that must not be in a call, and the name that it is reported by.
type Token struct{ Name, Value string }

// Set is the tokens to look for. It never changes and is safe for concurrent use; nil finds nothing.
type Set struct{ tokens []Token }

// New returns the set of the tokens.
func New(tokens []Token) (*Set, error) {
	for i, t := range tokens {
		if t.Name == "" || t.Value == "" {
			return nil, fmt.Errorf("canary %d has no name or no value", i)
		}
	}
	return &Set{slices.Clone(tokens)}, nil
}

// Find returns the names of the tokens in body, sorted, each once; nil where there are none.
func (s *Set) Find(body []byte) []string {
	var found []string
	if s == nil {
		return nil
	}
	for _, t := range s.tokens {
		if bytes.Contains(body, []byte(t.Value)) {
			found = append(found, t.Name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
