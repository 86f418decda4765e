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

// Every row matches its path, reads what it reads as its own surface, objects to what does not belong there, watches and refuses.
func TestRows(t *testing.T) {
	for _, row := range a2a.Rows {
		name := row.Method + " " + row.Path
		if _, ok := row.Match(row.Method, row.Path); !ok {
			t.Errorf("%s does not match its path", name)
		}
		call := row.Decode(&llm.Request{Method: row.Method, Path: row.Path}, llm.DefaultLimits())
		if call.Surface != row.Surface || call.Class != row.Class || call.Operation != row.Operation || call.Provider != a2a.Provider || (len(call.Findings) == 0) != (row.Method == http.MethodGet) {
			t.Errorf("%s: %+v", name, call)
		}
		call = row.Decode(&llm.Request{Method: row.Method, Path: row.Path, Query: "x=1", ContentType: "application/json", Body: []byte(`{"x":1}`)}, llm.DefaultLimits())
		if len(call.Findings) == 0 || len(call.UnknownFields) == 0 || call.BodyBytes != 7 {
			t.Errorf("%s with a body: %+v", name, call)
		}
		if row.Watch(llm.WatchOptions{}) == nil || row.Refuse(llm.Refusal{}).Status != http.StatusForbidden {
			t.Errorf("%s does not watch or refuse", name)
		}
	}
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
