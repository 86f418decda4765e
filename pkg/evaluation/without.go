package evaluation

import (
	"fmt"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/features"
)

// Lexicon names the features that rest on a list of words or were made to find how injections are written.
const Lexicon = "lexicon"

// lexical says which those are.
func lexical(name string) bool {
	return strings.HasPrefix(name, "data.") && name != "data.invisible" || name == "tool.side_effects"
}

// Groups returns the names that Mask accepts besides those of single features.
func Groups() []string {
	out := []string{Lexicon}
	for _, f := range features.Schema {
		if group, _, ok := strings.Cut(f.Name, "."); ok && !slices.Contains(out, group) {
			out = append(out, group)
		}
	}
	return out
}

// Mask sets features of a vector to 0. The zero value sets none.
type Mask struct{ features []int }

// NewMask returns a mask for features named by group (the part of their names before the dot, or Lexicon) or one by one.
func NewMask(names ...string) (Mask, error) {
	var m Mask
	for _, name := range names {
		found := false
		for i, f := range features.Schema {
			if f.Name == name || strings.HasPrefix(f.Name, name+".") || name == Lexicon && lexical(f.Name) {
				found = true
				if !slices.Contains(m.features, i) {
					m.features = append(m.features, i)
				}
			}
		}
		if !found {
			return Mask{}, fmt.Errorf("no features %.64q; accepted are the groups %s, and the names of single features", name, strings.Join(Groups(), ", "))
		}
	}
	if len(m.features) == features.Size {
		return Mask{}, fmt.Errorf("no feature is left")
	}
	slices.Sort(m.features)
	return m, nil
}

// Names returns the features that are set to 0.
func (m Mask) Names() []string {
	var out []string
	for _, i := range m.features {
		out = append(out, features.Schema[i].Name)
	}
	return out
}

// Apply sets the features to 0.
func (m Mask) Apply(v *features.Vector) {
	for _, i := range m.features {
		v[i] = 0
	}
}
