package policy

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reads are the fields of the input that compiled modules read, by their names joined with dots; "" is the whole input.
type reads map[string]bool

var bundlesRef = ast.MustParseRef("data." + bundlePackage)

// of adds what a compiled module of a bundle reads. What does not say which field it reads, as input[x] or walk(input) do not, reads
// all fields below, and so does what leaves the bundles: nobody looks there.
func (r reads) of(m *ast.Module) {
	for _, rule := range m.Rules {
		ast.WalkTerms(rule, r.term)
		for ; rule != nil; rule = rule.Else {
			for _, t := range rule.Head.Ref()[1:] {
				ast.WalkTerms(t, r.term)
			}
		}
	}
}

// term adds what a term reads, and says whether the terms in it have been looked at.
func (r reads) term(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		if v.Equal(ast.InputRootDocument.Value) || v.Equal(ast.DefaultRootDocument.Value) {
			r[""] = true
		}
	case ast.Ref:
		switch {
		case v.HasPrefix(ast.InputRootRef):
			r[fieldPath(v)] = true
		case v.HasPrefix(ast.DefaultRootRef) && !v.HasPrefix(bundlesRef):
			r[""] = true
		}
		for _, below := range v[1:] { // what stands in brackets may be a reference itself
			ast.WalkTerms(below, r.term)
		}
		return true
	}
	return false
}

// fieldPath is the part of a reference to the input that is known before an evaluation.
func fieldPath(ref ast.Ref) string {
	var names []string
	for _, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		names = append(names, string(name))
	}
	return strings.Join(names, ".")
}

// has says whether the field at path, something in it or something around it is read.
func (r reads) has(path string) bool {
	for read := range r {
		if read == "" || read == path || strings.HasPrefix(read, path+".") || strings.HasPrefix(path, read+".") {
			return true
		}
	}
	return false
}

// members are those of the document that are read.
func (r reads) members(of []member) []member {
	var out []member
	for _, m := range of {
		name := string(m.key.Value.(ast.String)) //nolint:forcetypeassert // every key is one
		if !r.has(name) {
			continue
		}
		if m.members != nil {
			below := reads{}
			for read := range r {
				if rest, ok := strings.CutPrefix(read, name+"."); ok {
					below[rest] = true
				} else if read == name || read == "" {
					below[""] = true
				}
			}
			m.members = below.members(m.members)
		}
		out = append(out, m)
	}
	return out
}
