package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
)

type anthropicRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Name        string `json:"name"`
		InputSchema schema `json:"input_schema"`
	} `json:"tools"`
}

func (s *Server) anthropicMessages(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, kind, message string) {
		writeJSON(w, status, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message}})
	}
	if s.opts.AnthropicKey != "" && r.Header.Get("X-Api-Key") != s.opts.AnthropicKey {
		fail(http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
		return
	}
	var req anthropicRequest
	p, err := s.pace(r)
	if err == nil {
		err = json.NewDecoder(r.Body).Decode(&req)
	}
	if err != nil {
		fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	var t turn
	for _, m := range req.Messages {
		if m.Role != "user" {
			continue
		}
		var blocks []struct {
			Type    string          `json:"type"`
			Text    string          `json:"text"`
			Content json.RawMessage `json:"content"`
		}
		if json.Unmarshal(m.Content, &blocks) != nil {
			blocks = nil
		}
		results := false
		for _, b := range blocks {
			if b.Type == "tool_result" {
				t.toolResults = append(t.toolResults, plainText(b.Content))
				results = true
			}
		}
		if !results && t.task == "" {
			t.task = plainText(m.Content)
		}
	}
	for _, tl := range req.Tools {
		t.tools = append(t.tools, tool{name: tl.Name, params: tl.InputSchema.Required})
	}
	answer := think(t)
	if !wait(r, p.firstByte) {
		return
	}

	id := fmt.Sprintf("msg_standin_%08x", hash(t.task+fmt.Sprint(len(t.toolResults))))
	in, out := tokens(string(mustJSON(req.Messages))), tokens(answer.text+answer.toolArgs)
	stop := "end_turn"
	if answer.toolName != "" {
		stop = "tool_use"
	}
	usage := map[string]any{"input_tokens": in, "output_tokens": out, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
	toolUse := map[string]any{"type": "tool_use", "id": "toolu_" + id[len(id)-8:], "name": answer.toolName}
	if !req.Stream {
		content := []any{map[string]any{"type": "text", "text": answer.text}}
		if answer.toolName != "" {
			toolUse["input"] = json.RawMessage(answer.toolArgs)
			content = []any{toolUse}
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"id": id, "type": "message", "role": "assistant", "model": req.Model, "content": content,
			"stop_reason": stop, "stop_sequence": nil, "usage": usage,
		})
		return
	}

	w.Header().Set("Content-Type", "text/event-stream")
	sse(w, "message_start", map[string]any{"type": "message_start", "message": map[string]any{
		"id": id, "type": "message", "role": "assistant", "model": req.Model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": map[string]any{"input_tokens": in, "output_tokens": 1},
	}})
	if answer.toolName != "" && p.events == 0 {
		toolUse["input"] = map[string]any{}
		sse(w, "content_block_start", map[string]any{"type": "content_block_start", "index": 0, "content_block": toolUse})
		sse(w, "content_block_delta", map[string]any{"type": "content_block_delta", "index": 0, "delta": map[string]any{"type": "input_json_delta", "partial_json": answer.toolArgs}})
	} else {
		stop = "end_turn"
		sse(w, "content_block_start", map[string]any{"type": "content_block_start", "index": 0, "content_block": map[string]any{"type": "text", "text": ""}})
		for _, piece := range p.texts(answer.text) {
			if !wait(r, p.gap) {
				return
			}
			sse(w, "content_block_delta", map[string]any{"type": "content_block_delta", "index": 0, "delta": map[string]any{"type": "text_delta", "text": p.text(piece)}})
		}
	}
	sse(w, "content_block_stop", map[string]any{"type": "content_block_stop", "index": 0})
	sse(w, "message_delta", map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": map[string]any{"output_tokens": out}})
	sse(w, "message_stop", map[string]any{"type": "message_stop"})
}
