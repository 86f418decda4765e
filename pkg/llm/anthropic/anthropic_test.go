package anthropic_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// hosted reads a body as Vertex AI's streamRawPredict does.
func hosted(r *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: "host", Surface: "host.messages", Class: llm.ClassModel, Operation: llm.OperationChat, Model: "claude-opus-4-5", Stream: true}
	anthropic.DecodeHosted(call, r, lim)
	return call
}

var surfaces = []struct {
	dir    string
	decode golden.Decode
	base   llm.Request
}{
	{"messages", anthropic.Decode, llm.Request{Method: http.MethodPost, Path: "/v1/messages"}},
	{"count_tokens", anthropic.DecodeCountTokens, llm.Request{Method: http.MethodPost, Path: "/v1/messages/count_tokens"}},
	{"batches", anthropic.DecodeBatch, llm.Request{Method: http.MethodPost, Path: "/v1/messages/batches"}},
	{"files", anthropic.DecodeFile, llm.Request{Method: http.MethodPost, Path: "/v1/files"}},
	{"skills", anthropic.DecodeSkill, llm.Request{Method: http.MethodPost, Path: "/v1/skills"}},
	{"hosted", hosted, llm.Request{Method: http.MethodPost}},
}

func TestDecode(t *testing.T) {
	for _, s := range surfaces {
		t.Run(s.dir, func(t *testing.T) { golden.Requests(t, "testdata/"+s.dir+"/requests", s.decode, s.base) })
	}
}

func TestWatch(t *testing.T) {
	for _, dir := range []string{"messages", "batches"} {
		t.Run(dir, func(t *testing.T) { golden.Replies(t, "testdata/"+dir+"/responses", anthropic.Watch) })
	}
}

func TestRows(t *testing.T) {
	vars := strings.NewReplacer("{id}", "id_1", "{version}", "2", "{model}", "claude")
	golden.Rows(t, anthropic.Rows, anthropic.Provider, vars, func(row llm.Row) bool {
		return row.Method == http.MethodPost && !strings.HasSuffix(row.Path, "/cancel")
	})
}

// A stream that is cut ends with its open text closed, an open tool call left open, and an error.
func TestEnd(t *testing.T) {
	body := golden.Files(t, "testdata/messages/responses", "tool_use.sse")["tool_use"]
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	for _, c := range []struct{ name, upTo, want string }{
		{"nothing was sent", "", "event: error\n"},
		{"in a text", `é"}}`, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: error\n"},
		{"in a tool call", `"{\"path\":"}}`, "event: error\n"},
	} {
		w := anthropic.Watch(llm.WatchOptions{Framing: llm.FramingSSE})
		n := 0
		if c.upTo != "" {
			n = bytes.Index(body, []byte(c.upTo)) + len(c.upTo)
			n += bytes.Index(body[n:], []byte("\n\n")) + 2
		}
		w.Write(body[:n])
		end := string(w.End(refusal))
		if !strings.HasPrefix(end, c.want) || !strings.Contains(end, `data: {"type":"error","error":{"type":"permission_error","message":"`) || !strings.HasSuffix(end, "\n\n") {
			t.Errorf("%s: %q", c.name, end)
		}
	}
	w := anthropic.Watch(llm.WatchOptions{ContentType: "application/json"})
	if end := w.End(refusal); end != nil {
		t.Errorf("one JSON text ends with %q", end)
	}
}

// Calls that cannot be told in full are told nevertheless, and said to be incomplete; nothing of them is kept beyond the bound.
func TestIncompleteCalls(t *testing.T) {
	for _, response := range []string{
		`{"type":"message","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":"` + strings.Repeat("x", 2000) + `"}}]}`,
		`{"type":"message","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":"` + strings.Repeat("x", 100) + `"}}]}`,
		`{"type":"message","content":[{"type":"tool_use","id":"t","input":{}}]}`,
		`{"type":"message","content":[{"type":"tool_use","id":"t","name":"` + strings.Repeat("x", 2000) + `","input":{}}]}`,
	} {
		w := anthropic.Watch(llm.WatchOptions{ContentType: "application/json", Arguments: 64})
		w.Write([]byte(response))
		calls := w.Reply().ToolCalls
		if len(calls) != 1 || !calls[0].Truncated || !calls[0].Done || len(calls[0].Arguments) > 64 {
			t.Errorf("%+v", calls)
		}
	}
}

func FuzzDecode(f *testing.F) {
	golden.FuzzDecode(f, "testdata/messages/requests", anthropic.Decode, surfaces[0].base)
}

func FuzzDecodeBatch(f *testing.F) {
	golden.FuzzDecode(f, "testdata/batches/requests", anthropic.DecodeBatch, surfaces[2].base)
}

func FuzzDecodeFile(f *testing.F) {
	golden.FuzzDecode(f, "testdata/files/requests", anthropic.DecodeFile, surfaces[3].base)
}

func FuzzDecodeHosted(f *testing.F) {
	golden.FuzzDecode(f, "testdata/hosted/requests", hosted, llm.Request{})
}

func FuzzWatch(f *testing.F) { golden.FuzzWatch(f, "testdata/messages/responses", anthropic.Watch) }
