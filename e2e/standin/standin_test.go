package standin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func say(t Turn) Reply {
	if strings.Contains(t.Task, "fail") {
		return Reply{Status: http.StatusTooManyRequests, RetryAfter: "7"}
	}
	return Reply{Text: "Hello to " + t.Task}
}

// TestSurfaces asks what no client of the matrix asks, and for each form of stream.
func TestSurfaces(t *testing.T) {
	s := New(Options{Think: say, KeepBodies: 1 << 10})
	server := httptest.NewServer(s)
	defer server.Close()
	for _, tc := range []struct {
		name, path, body string
		status           int
		contentType      string
		want             string
	}{
		{"cohere", "/v2/chat", `{"model":"command-a","messages":[{"role":"user","content":"Ada"}]}`, 200, "application/json", `"text":"Hello to Ada"`},
		{"cohere stream", "/v2/chat", `{"stream":true,"messages":[{"role":"user","content":"Ada"}]}`, 200, "text/event-stream", "event: message-end\n"},
		{"cohere embed", "/v2/embed", `{"texts":["x"]}`, 200, "application/json", `"float":[[`},
		{"cohere rerank", "/v2/rerank", `{"query":"x"}`, 200, "application/json", `"relevance_score"`},
		{"cohere error", "/v2/chat", `{"messages":[{"role":"user","content":"fail"}]}`, 429, "application/json", `"message":`},
		{"ollama", "/api/chat", `{"stream":false,"messages":[{"role":"user","content":"Ada"}]}`, 200, "application/json", `"done":true`},
		{"ollama stream", "/api/chat", `{"messages":[{"role":"user","content":"Ada"}]}`, 200, "application/x-ndjson", `"done":false`},
		{"ollama generate", "/api/generate", `{"prompt":"Ada","stream":false}`, 200, "application/json", `"response":"Hello to Ada"`},
		{"gemini array", "/v1beta/models/g:streamGenerateContent", `{"contents":[{"parts":[{"text":"Ada"}]}]}`, 200, "application/json; charset=UTF-8", `}]`},
		{"vertex", "/v1/projects/p/locations/l/publishers/google/models/g:generateContent", `{"contents":[{"parts":[{"text":"Ada"}]}]}`, 200, "application/json", "Hello to Ada"},
		{"vertex anthropic", "/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict", `{"messages":[{"role":"user","content":"Ada"}]}`, 200, "text/event-stream", "event: message_stop\n"},
		{"vertex error", "/v1/projects/p/locations/l/publishers/google/models/g:generateContent", `{"contents":[{"parts":[{"text":"fail"}]}]}`, 429, "application/json", "RESOURCE_EXHAUSTED"},
		{"a2a", "/a2a", `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"parts":[{"kind":"text","text":"Ada"}]}}}`, 200, "application/json", "Hello to Ada"},
		{"a2a stream", "/a2a", `{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{"parts":[{"text":"Ada"}]}}}`, 200, "text/event-stream", `"kind":"message"`},
		{"a2a 1.0", "/", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"parts":[{"text":"Ada"}]}}}`, 200, "application/json", `"message":{"messageId":`},
		{"a2a 1.0 stream", "/", `{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage","params":{"message":{"parts":[{"text":"Ada"}]}}}`, 200, "text/event-stream", `"artifactUpdate":`},
		{"azure", "/openai/deployments/d/chat/completions?api-version=1", `{"messages":[{"role":"user","content":"Ada"}]}`, 200, "application/json", `"model":"d"`},
		{"azure error", "/openai/deployments/d/chat/completions?api-version=1", `{"messages":[{"role":"user","content":"fail"}]}`, 429, "application/json", `"rate_limit_exceeded"`},
		{"completions stream", "/v1/completions", `{"prompt":"Ada","stream":true}`, 200, "text/event-stream", "data: [DONE]"},
		{"no JSON", "/v1/chat/completions", `{`, 400, "application/json", "invalid_request_error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := http.Post(server.URL+tc.path, "application/json", strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tc.status || res.Header.Get("Content-Type") != tc.contentType || !strings.Contains(string(b), tc.want) {
				t.Errorf("%d %q %v\n%s", res.StatusCode, res.Header.Get("Content-Type"), err, b)
			}
			if after := res.Header.Get("Retry-After"); (after == "7") != (tc.status == 429) {
				t.Errorf("Retry-After is %q", after)
			}
			if err := s.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := s.Received()
			if got := all[len(all)-1]; string(got.Body) != tc.body || got.Path != tc.path || got.Status != tc.status {
				t.Errorf("received %s %d %q", got.Path, got.Status, got.Body)
			}
		})
	}
}

func TestWebSockets(t *testing.T) {
	server := httptest.NewServer(New(Options{Think: say}))
	defer server.Close()
	for _, tc := range []struct{ name, path, send, last string }{
		{"responses", "/v1/responses", `{"type":"response.create","model":"m","input":"Ada"}`, `"response.completed"`},
		{"realtime", "/v1/realtime?model=m", `{"type":"response.create"}`, `"response.done"`},
		{"live", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", `{"realtimeInput":{"text":"Ada"}}`, `"turnComplete"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, _, err := websocket.Dial(ctx, server.URL+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }()
			if err := c.Write(ctx, websocket.MessageText, []byte(tc.send)); err != nil {
				t.Fatal(err)
			}
			for {
				_, b, err := c.Read(ctx)
				if err != nil || !json.Valid(b) {
					t.Fatalf("%q: %v", b, err)
				}
				if strings.Contains(string(b), tc.last) {
					return
				}
			}
		})
	}
}
