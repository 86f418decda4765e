package mcp_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/mcp"
)

var base = llm.Request{Method: http.MethodPost, Path: "/mcp"}

func TestDecode(t *testing.T) { golden.Requests(t, "testdata/requests", mcp.Decode, base) }

func TestWatch(t *testing.T) { golden.Replies(t, "testdata/responses", mcp.Watch) }

// Every row matches its path alone, reads what it reads as its own surface, objects to what does not belong there, watches and refuses.
func TestRows(t *testing.T) {
	for _, row := range mcp.Rows {
		name := row.Method + " " + row.Path
		for _, path := range []string{"", "/", "/mcp", "/mcp/", "/token", "/mcp/x", "//"} {
			if _, ok := row.Match(row.Method, path); ok != (path == row.Path) {
				t.Errorf("%s matches %q: %v", name, path, ok)
			}
		}
		call := row.Decode(&llm.Request{Method: row.Method, Path: row.Path}, llm.DefaultLimits())
		if call.Surface != row.Surface || call.Class != row.Class || call.Operation != row.Operation || call.Provider != mcp.Provider || (len(call.Findings) == 0) != (row.Method != http.MethodPost) {
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

// A stream ends with an error for the request that was answered last, or for nobody's.
func TestRefusal(t *testing.T) {
	type message struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   struct {
			Code    int
			Message string
		}
	}
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	parse := func(text []byte) (m message) {
		t.Helper()
		if err := json.Unmarshal(text, &m); err != nil || m.Version != "2.0" || !strings.Contains(m.Error.Message, "Rule R-1, decision d-1") || m.Error.Code == 0 {
			t.Fatalf("%s: %v", text, err)
		}
		return m
	}
	if m := parse(mcp.Refuse(refusal).Body); m.ID != nil {
		t.Errorf("the id is %s", m.ID)
	}
	for sent, id := range map[string]string{
		"": "",
		"data: {\"jsonrpc\":\"2.0\",\"id\":\"a\\\"b\",\"result\":{}}\n\n":            `"a\"b"`,
		"data: {\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":1}}\n\n":            `7`,
		"data: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":{}}\n\n": "",
	} {
		w := mcp.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
		w.Write([]byte(sent))
		text, ok := strings.CutPrefix(string(w.End(refusal)), "event: message\ndata: ")
		if m := parse([]byte(text)); string(m.ID) != id || !ok {
			t.Errorf("after %q: the id is %s", sent, m.ID)
		}
	}
	if end := mcp.Watch(llm.WatchOptions{ContentType: "application/json"}).End(refusal); end != nil {
		t.Errorf("one JSON text ends with %q", end)
	}
}

func FuzzDecode(f *testing.F) { golden.FuzzDecode(f, "testdata/requests", mcp.Decode, base) }

// FuzzHeaders reads a message with any headers that repeat what it says.
func FuzzHeaders(f *testing.F) {
	for _, r := range golden.RequestFiles(f, "testdata/requests", base) {
		f.Add(r.Body, r.Header.Get("Mcp-Method"), r.Header.Get("Mcp-Name"))
	}
	f.Fuzz(func(t *testing.T, body []byte, method, name string) {
		r := base
		r.ContentType, r.Body, r.Header = "application/json", body, http.Header{"Mcp-Method": {method}, "Mcp-Name": {name}}
		call := mcp.Decode(&r, llm.DefaultLimits())
		golden.CheckCall(t, call, body)
		if len(call.Findings) == 0 && call.RPCMethod != method {
			t.Errorf("the header says %q, the call %q", method, call.RPCMethod)
		}
	})
}

func FuzzWatch(f *testing.F) { golden.FuzzWatch(f, "testdata/responses", mcp.Watch) }
