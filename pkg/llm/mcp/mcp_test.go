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

func TestRows(t *testing.T) {
	golden.Rows(t, mcp.Rows, mcp.Provider, strings.NewReplacer(), func(row llm.Row) bool { return row.Method == http.MethodPost })
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
