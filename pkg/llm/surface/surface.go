package surface

import (
	"maps"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// api is one provider API.
type api struct {
	provider string // gen_ai.provider.name
	rows     []llm.Row
	// dialect answers where no row matches.
	dialect llm.Row
}

// index is an api that is ready for Lookup.
type index struct {
	rows []llm.Row
	// fixed are the rows whose path has no variables, by method and path.
	fixed map[target]*llm.Row
	// variable are the other rows, by method; of two that match the same path the one with more literal bytes comes first.
	variable map[string][]*llm.Row
	unknown  llm.Row
}

type target struct{ method, path string }

func newIndex(a api) *index {
	x := &index{rows: a.rows, fixed: map[target]*llm.Row{}, variable: map[string][]*llm.Row{}, unknown: a.dialect}
	for i := range a.rows {
		row := &a.rows[i]
		if strings.Contains(row.Path, "{") {
			x.variable[row.Method] = append(x.variable[row.Method], row)
		} else {
			x.fixed[target{row.Method, row.Path}] = row
		}
	}
	for _, rows := range x.variable {
		slices.SortStableFunc(rows, func(a, b *llm.Row) int { return literals(b.Path) - literals(a.Path) })
	}
	x.unknown.Surface, x.unknown.Class, x.unknown.Operation = llm.SurfaceUnknown, llm.ClassUnknown, llm.OperationUnknown
	x.unknown.Decode = func(r *llm.Request, _ llm.Limits) *llm.Call {
		return &llm.Call{Provider: a.provider, Surface: llm.SurfaceUnknown, Class: llm.ClassUnknown, Operation: llm.OperationUnknown, BodyBytes: len(r.Body)}
	}
	return x
}

// literals returns how many bytes of a pattern are not variables.
func literals(pattern string) int {
	n := 0
	for {
		before, after, ok := strings.Cut(pattern, "{")
		n += len(before)
		if !ok {
			return n
		}
		_, pattern, _ = strings.Cut(after, "}")
	}
}

var indexes = func() map[string]*index {
	m := map[string]*index{}
	for name, a := range table {
		m[name] = newIndex(a)
	}
	return m
}()

// nobody answers for an API that there is not. OpenAI's form of an error is the one that most clients read.
var nobody = newIndex(api{dialect: openai.Dialect})

// Match is a row of the table with what its path's variables matched.
type Match struct {
	*llm.Row
	// API is the provider API that was asked for.
	API string
	// Vars are what the variables of the row's path matched, in their order.
	Vars []string
}

// APIs returns the names of the provider APIs, sorted.
func APIs() []string { return slices.Sorted(maps.Keys(table)) }

// Rows returns the rows of an API in the order in which its codec has them, which means nothing: where two of them match the same method and path, the one
// counts whose path has more literal bytes.
func Rows(name string) []llm.Row { return slices.Clone(table[name].rows) }

// Provider returns the gen_ai.provider.name of an API, "" where there is none of the name.
func Provider(name string) string { return table[name].provider }

// Lookup returns the row of the surface at method and path of an API. The path is the canonical path of the request
// without its query, below the provider's base path. It is matched byte for byte, for nobody can say what a provider makes of a path that is nearly one it
// knows: "/v1/chat/completions/", "//v1/messages" and "/V1/messages" are unknown. It allocates only where the row's path has variables.
//
// Where no row matches, the row is of llm.SurfaceUnknown. Its Decode reads nothing, so that a call has the
// surface and the size of its body and no findings; it is for policy to refuse it.
func Lookup(name, method, path string) Match {
	x, ok := indexes[name]
	if !ok {
		return Match{Row: &nobody.unknown, API: name}
	}
	if row, ok := x.fixed[target{method, path}]; ok {
		return Match{Row: row, API: name}
	}
	for _, row := range x.variable[method] {
		if vars, ok := row.Match(method, path); ok {
			return Match{Row: row, API: name, Vars: vars}
		}
	}
	return Match{Row: &x.unknown, API: name}
}
