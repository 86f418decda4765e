package surface

import (
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The provider APIs that the table knows: the values of spec.api of a ModelProvider.
const (
	APIOpenAI    = "openai"
	APIAnthropic = "anthropic"
)

// api is one provider API.
type api struct {
	provider string // gen_ai.provider.name
	rows     []llm.Row
	// dialect answers where no row matches.
	dialect llm.Row
}

// table holds the surfaces that can be read, by API.
var table = map[string]api{
	APIOpenAI:    {openai.Provider, openai.Rows, openai.Dialect},
	APIAnthropic: {anthropic.Provider, anthropic.Rows, anthropic.Dialect},
}

// Match is a row of the table with what its path's variables matched.
type Match struct {
	*llm.Row
	// API is the provider API that was asked for.
	API string
	// Vars are what the variables of the row's path matched, in their order.
	Vars []string
}

// APIs returns the names of the provider APIs, sorted.
func APIs() []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Rows returns the rows of an API, in the order in which they are matched.
func Rows(name string) []llm.Row { return slices.Clone(table[name].rows) }

// Lookup returns the row of the surface at method and path of an API. The path is the canonical path of the request
// without its query, below the provider's base path. It is matched byte for byte, for nobody can say what a provider makes of a path that is nearly one it
// knows: "/v1/chat/completions/", "//v1/messages" and "/V1/messages" are unknown.
//
// Where no row matches, the row is of llm.SurfaceUnknown. Its Decode reads nothing, so that a call has the
// surface and the size of its body and no findings; it is for policy to refuse it.
func Lookup(name, method, path string) Match {
	a, ok := table[name]
	for i := range a.rows {
		if row := &a.rows[i]; row.Method == method {
			if vars, ok := match(row.Path, path); ok {
				return Match{row, name, vars}
			}
		}
	}
	unknown := a.dialect
	if !ok {
		unknown = openai.Dialect // OpenAI's form of an error is the one that most clients read
	}
	unknown.Surface, unknown.Class, unknown.Operation = llm.SurfaceUnknown, llm.ClassUnknown, llm.OperationUnknown
	unknown.Decode = func(r *llm.Request, _ llm.Limits) *llm.Call {
		return &llm.Call{Provider: a.provider, Surface: llm.SurfaceUnknown, Class: llm.ClassUnknown, Operation: llm.OperationUnknown, BodyBytes: len(r.Body)}
	}
	return Match{Row: &unknown, API: name}
}

// match matches a path with a pattern, segment by segment.
func match(pattern, path string) (vars []string, ok bool) {
	if !strings.Contains(pattern, "{") {
		return nil, pattern == path
	}
	for {
		p, patternRest, patternMore := strings.Cut(pattern, "/")
		s, pathRest, pathMore := strings.Cut(path, "/")
		if patternMore != pathMore {
			return nil, false
		}
		switch before, after, isVar := strings.Cut(p, "{"); {
		case !isVar:
			if p != s {
				return nil, false
			}
		default:
			_, suffix, _ := strings.Cut(after, "}")
			v, ok := strings.CutPrefix(s, before)
			if !ok {
				return nil, false
			}
			if v, ok = strings.CutSuffix(v, suffix); !ok || v == "" || strings.Contains(suffix, ":") && strings.Contains(v, ":") {
				return nil, false
			}
			vars = append(vars, v)
		}
		if !patternMore {
			return vars, true
		}
		pattern, path = patternRest, pathRest
	}
}
