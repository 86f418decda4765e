package surface_test

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

// Any request to any row: it is not touched, and judged twice it is judged the same.
func FuzzRows(f *testing.F) {
	var all []llm.Row
	for _, api := range surface.APIs() {
		all = append(all, surface.Rows(api)...)
	}
	first := map[llm.Surface]int{}
	for i, row := range all {
		if _, ok := first[row.Surface]; !ok {
			first[row.Surface] = i
		}
	}
	for s, requests := range fixtureRequests(f) {
		r := requests[0]
		f.Add(first[s], r.Method == llm.MethodMessage, r.Query, r.ContentType, r.Body)
	}
	f.Fuzz(func(t *testing.T, n int, message bool, query, contentType string, body []byte) {
		row := all[uint(n)%uint(len(all))]
		path, vars := example(row.Path)
		r := &llm.Request{Method: row.Method, Path: path, Vars: vars, Query: query, ContentType: contentType, Body: body}
		if message && row.RefuseMessage != nil {
			r.Method = llm.MethodMessage
		}
		again := *r
		again.Body, again.Vars = bytes.Clone(body), slices.Clone(vars)
		call := row.Decode(r, llm.DefaultLimits())
		if !bytes.Equal(r.Body, again.Body) || !slices.Equal(r.Vars, again.Vars) || r.Query != again.Query {
			t.Fatal("the request was changed")
		}
		if call.Surface != row.Surface || call.Provider == "" || call.Class == "" || call.Operation == "" {
			t.Errorf("%+v", call)
		}
		golden.CheckCall(t, call, body)
		if second := row.Decode(&again, llm.DefaultLimits()); !reflect.DeepEqual(call, second) {
			t.Errorf("read twice:\n%+v\n%+v", call, second)
		}
	})
}

// Whatever a path is, the row that is found for it matches it.
func FuzzLookup(f *testing.F) {
	for _, api := range surface.APIs() {
		for _, row := range surface.Rows(api) {
			path, _ := example(row.Path)
			f.Add(api, row.Method, path)
		}
	}
	f.Fuzz(func(t *testing.T, api, method, path string) {
		m := surface.Lookup(api, method, path)
		if m.Surface == llm.SurfaceUnknown {
			for _, row := range surface.Rows(api) {
				if _, ok := row.Match(method, path); ok {
					t.Errorf("%s %q is unknown, and %s matches it", method, path, row.Path)
				}
			}
			return
		}
		if vars, ok := m.Match(method, path); !ok || !slices.Equal(vars, m.Vars) || m.API != api {
			t.Errorf("%s %q is said to be of %s %s", method, path, m.Method, m.Path)
		}
	})
}
