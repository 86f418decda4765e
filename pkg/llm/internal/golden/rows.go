package golden

import (
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// Rows checks what holds for every row of a codec: it matches its own path, in which vars stand for the variables; it reads a request as its own
// surface, class and operation, and finds fault with one that has no body just where a body is wanted; it objects to a query
// that it does not have; it watches; and it refuses so that the official SDKs do not try again.
func Rows(t *testing.T, rows []llm.Row, provider string, vars *strings.Replacer, wantsBody func(row llm.Row) bool) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.Method+" "+row.Path, func(t *testing.T) {
			path := vars.Replace(row.Path)
			found, ok := row.Match(row.Method, path)
			if !ok {
				t.Fatalf("the row does not match %s", path)
			}
			call := row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: found}, llm.DefaultLimits())
			if call.Provider != provider || call.Surface != row.Surface || call.Class != row.Class || call.Operation != row.Operation {
				t.Errorf("%+v", call)
			}
			if clean := len(call.Findings)+len(call.UnknownFields) == 0; clean == wantsBody(row) {
				t.Errorf("without a body: findings %+v, unknown fields %q", call.Findings, call.UnknownFields)
			}
			body := []byte(`{"x":1}`)
			call = row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: found, Query: "y=1&x=2&x=3", ContentType: wire.JSON, Body: body}, llm.DefaultLimits())
			if len(call.Findings) == 0 || len(call.UnknownFields) == 0 || call.UnknownFields[0] != "?x" || call.BodyBytes != len(body) {
				t.Errorf("with a bad query: findings %+v, unknown fields %q", call.Findings, call.UnknownFields)
			}
			if row.Watch(llm.WatchOptions{}) == nil {
				t.Error("the row does not watch")
			}
			if status := row.Refuse(llm.Refusal{}).Status; status != http.StatusForbidden {
				t.Errorf("a refusal has status %d", status)
			}
		})
	}
}
