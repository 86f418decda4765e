package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

type openAIRequest struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name       string `json:"name"`
			Parameters schema `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
}

type schema struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
}

func (s *Server) openAIChat(w http.ResponseWriter, r *http.Request) {
	if s.opts.OpenAIKey != "" && r.Header.Get("Authorization") != "Bearer "+s.opts.OpenAIKey {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{
			"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": nil, "code": "invalid_api_key"}})
		return
	}
	var req openAIRequest
	p, err := s.pace(r)
	if err == nil {
		err = json.NewDecoder(r.Body).Decode(&req)
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": map[string]any{
			"message": err.Error(), "type": "invalid_request_error", "param": nil, "code": nil}})
		return
	}
	var t turn
	for _, m := range req.Messages {
		switch text := plainText(m.Content); {
		case m.Role == "user" && t.task == "":
			t.task = text
		case m.Role == "tool":
			t.toolResults = append(t.toolResults, text)
		}
	}
	for _, tl := range req.Tools {
		t.tools = append(t.tools, tool{name: tl.Function.Name, params: tl.Function.Parameters.Required})
	}
	answer := think(t)
	if !wait(r, p.firstByte) {
		return
	}

	id := fmt.Sprintf("chatcmpl-standin-%08x", hash(t.task+fmt.Sprint(len(t.toolResults))))
	in, out := tokens(string(mustJSON(req.Messages))), tokens(answer.text+answer.toolArgs)
	usage := map[string]any{
		"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out,
		"prompt_tokens_details":     map[string]any{"cached_tokens": 0, "audio_tokens": 0},
		"completion_tokens_details": map[string]any{"reasoning_tokens": 0, "audio_tokens": 0},
	}
	call := map[string]any{"id": "call_" + id[len(id)-8:], "type": "function", "function": map[string]any{"name": answer.toolName, "arguments": answer.toolArgs}}
	finish := "stop"
	if answer.toolName != "" {
		finish = "tool_calls"
	}
	if !req.Stream {
		message := map[string]any{"role": "assistant", "content": answer.text, "refusal": nil}
		if answer.toolName != "" {
			message["content"], message["tool_calls"] = nil, []any{call}
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"id": id, "object": "chat.completion", "created": time.Now().Unix(), "model": req.Model,
			"choices": []any{map[string]any{"index": 0, "message": message, "logprobs": nil, "finish_reason": finish}},
			"usage":   usage,
		})
		return
	}

	w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(delta map[string]any, finish any) {
		sse(w, "", map[string]any{
			"id": id, "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": req.Model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		})
	}
	chunk(map[string]any{"role": "assistant", "content": ""}, nil)
	if answer.toolName != "" && p.events == 0 {
		call["index"] = 0
		chunk(map[string]any{"tool_calls": []any{call}}, nil)
	} else {
		finish = "stop"
		for _, piece := range p.texts(answer.text) {
			if !wait(r, p.gap) {
				return
			}
			chunk(map[string]any{"content": p.text(piece)}, nil)
		}
	}
	chunk(map[string]any{}, finish)
	if req.StreamOptions.IncludeUsage {
		sse(w, "", map[string]any{"id": id, "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": req.Model, "choices": []any{}, "usage": usage})
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// plainText reads content that is a string or a list of blocks with text or content.
func plainText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var blocks []struct {
		Text    string          `json:"text"`
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(raw, &blocks) // anything else has no text
	for _, b := range blocks {
		s += b.Text
		if b.Content != nil {
			s += plainText(b.Content)
		}
	}
	return s
}

// tokens is the usual estimate of four bytes a token.
func tokens(s string) int { return len(s)/4 + 1 }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // what was decoded from JSON encodes
	}
	return b
}
