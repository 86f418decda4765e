package a2a_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/a2a"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

var base = llm.Request{Method: http.MethodPost, Path: "/"}

func TestDecode(t *testing.T) { golden.Requests(t, "testdata/requests", a2a.Decode, base) }

func TestWatch(t *testing.T) { golden.Replies(t, "testdata/responses", a2a.Watch) }

func TestRows(t *testing.T) {
	golden.Rows(t, a2a.Rows, a2a.Provider, strings.NewReplacer(), func(row llm.Row) bool { return row.Method == http.MethodPost })
}

// A stream ends with an error for the request whose answers it brings.
func TestRefusal(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	check := func(text, id string) {
		t.Helper()
		var m struct {
			Version string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Error   struct {
				Code    int
				Message string
			}
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil || m.Version != "2.0" || string(m.ID) != id || m.Error.Code == 0 || !strings.Contains(m.Error.Message, "Rule R-1, decision d-1") {
			t.Errorf("%s: %v", text, err)
		}
	}
	check(string(a2a.Refuse(refusal).Body), "null")
	w := a2a.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
	check(strings.TrimPrefix(string(w.End(refusal)), "data: "), "null")
	w.Write([]byte("data: {\"jsonrpc\":\"2.0\",\"id\":\"r-1\",\"result\":{}}\n\n"))
	check(strings.TrimPrefix(string(w.End(refusal)), "data: "), `"r-1"`)
	if end := a2a.Watch(llm.WatchOptions{ContentType: "application/json"}).End(refusal); end != nil {
		t.Errorf("one JSON text ends with %q", end)
	}
}

func FuzzDecode(f *testing.F) { golden.FuzzDecode(f, "testdata/requests", a2a.Decode, base) }

func FuzzWatch(f *testing.F) { golden.FuzzWatch(f, "testdata/responses", a2a.Watch) }
