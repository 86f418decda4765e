package standin

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// anthropic registers Anthropic's API.
func (s *Server) anthropic() {
	d := s.anthropicDialect()
	s.handle("POST /v1/messages", d, surface{"anthropic.messages", readMessages, writeMessages})
	s.handle("POST /v1/messages/count_tokens", d, surface{"anthropic.count_tokens", readMessages, func(e *exchange) {
		in, _ := e.usage()
		e.json(object{"input_tokens": in})
	}})
	s.handle("POST /v1/messages/batches", d, surface{"anthropic.batches", nil, func(e *exchange) {
		e.json(object{"id": "msgbatch_standin", "type": "message_batch", "processing_status": "in_progress", "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
			"request_counts": object{"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}})
	}})
}

func (s *Server) anthropicDialect() dialect {
	// A key is taken as a bearer token, too.
	byHeader, byBearer := header("X-Api-Key", s.opts.AnthropicKey), bearer(s.opts.AnthropicKey)
	authorized := func(r *http.Request, b []byte) bool { return byHeader(r, b) || byBearer(r, b) }
	return dialect{authorized: authorized, fail: func(w http.ResponseWriter, status int, message string) {
		kind := "api_error"
		switch status {
		case http.StatusUnauthorized:
			kind, message = "authentication_error", "invalid x-api-key"
		case http.StatusBadRequest:
			kind = "invalid_request_error"
		case http.StatusTooManyRequests:
			kind = "rate_limit_error"
		case 529:
			kind = "overloaded_error"
		}
		writeJSON(w, status, object{"type": "error", "error": object{"type": kind, "message": message}})
	}}
}

func readMessages(e *exchange) error {
	var req struct {
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
	if err := e.decode(&req); err != nil {
		return err
	}
	t := &e.turn
	t.Model, t.Stream = req.Model, req.Stream
	for _, m := range req.Messages {
		if m.Role != "user" {
			continue
		}
		var blocks []struct {
			Type    string          `json:"type"`
			Content json.RawMessage `json:"content"`
			Source  struct {
				MediaType string `json:"media_type"`
				Data      string `json:"data"`
				URL       string `json:"url"`
			} `json:"source"`
		}
		if json.Unmarshal(m.Content, &blocks) != nil {
			blocks = nil
		}
		results := false
		for _, b := range blocks {
			if b.Type == "tool_result" {
				t.ToolResults = append(t.ToolResults, plainText(b.Content))
				results = true
			}
			t.attach(b.Source.URL)
			if data, err := base64.StdEncoding.DecodeString(b.Source.Data); err == nil && len(data) > 0 {
				t.Attachments = append(t.Attachments, Attachment{b.Source.MediaType, data})
			}
		}
		if !results && t.Task == "" {
			t.Task = plainText(m.Content)
		}
	}
	for _, tl := range req.Tools {
		t.Tools = append(t.Tools, Tool{tl.Name, tl.InputSchema.Required})
	}
	return nil
}

func writeMessages(e *exchange) {
	if !e.turn.Stream {
		e.json(message(e))
		return
	}
	e.w.Header().Set("Content-Type", "text/event-stream")
	messageEvents(e, e.typed)
}

func message(e *exchange) object {
	in, out := e.usage()
	content, stop := any(object{"type": "text", "text": e.reply.Text}), "end_turn"
	if e.reply.Tool != "" {
		content, stop = object{"type": "tool_use", "id": e.id("toolu_"), "name": e.reply.Tool, "input": json.RawMessage(e.reply.Arguments)}, "tool_use"
	}
	return object{
		"id": e.id("msg_standin_"), "type": "message", "role": "assistant", "model": e.turn.Model, "content": []any{content}, "stop_reason": stop, "stop_sequence": nil,
		"usage": object{"input_tokens": in, "output_tokens": out, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
	}
}

// messageEvents sends a message event by event.
func messageEvents(e *exchange, send func(object)) {
	in, out := e.usage()
	begun := message(e)
	stop := begun["stop_reason"]
	begun["content"], begun["stop_reason"] = []any{}, nil
	begun["usage"] = object{"input_tokens": in, "output_tokens": 1}
	send(object{"type": "message_start", "message": begun})
	if e.calls() {
		send(object{"type": "content_block_start", "index": 0, "content_block": object{"type": "tool_use", "id": e.id("toolu_"), "name": e.reply.Tool, "input": object{}}})
		send(object{"type": "content_block_delta", "index": 0, "delta": object{"type": "input_json_delta", "partial_json": e.reply.Arguments}})
	} else {
		stop = "end_turn"
		send(object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}})
		for i, piece := range e.pieces() {
			if !e.pace.next(e.r, i) {
				return
			}
			send(object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": e.pace.text(piece)}})
		}
	}
	send(object{"type": "content_block_stop", "index": 0})
	send(object{"type": "message_delta", "delta": object{"stop_reason": stop, "stop_sequence": nil}, "usage": object{"output_tokens": out}})
	send(object{"type": "message_stop"})
}
