package standin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// openAI registers the text surfaces of OpenAI's API, which many other servers have as well.
func (s *Server) openAI() {
	d := s.openAIDialect()
	s.handle("POST /v1/chat/completions", d, surface{"openai.chat_completions", readChat, writeChat})
	s.handle("POST /v1/completions", d, surface{"openai.completions", readCompletion, writeCompletion})
}

// azure registers what Azure OpenAI has below the path of a deployment, which names the model.
func (s *Server) azure() {
	d := s.openAIDialect()
	d.authorized = header("Api-Key", s.opts.AzureKey)
	deployed := func(read func(*exchange) error) func(*exchange) error {
		return func(e *exchange) error {
			err := read(e)
			e.turn.Model = e.r.PathValue("deployment")
			return err
		}
	}
	s.handle("POST /openai/deployments/{deployment}/chat/completions", d, surface{"openai.chat_completions", deployed(readChat), writeChat})
	s.handle("POST /openai/deployments/{deployment}/embeddings", d, surface{"openai.embeddings", deployed(readInput), writeEmbeddings})
}

func (s *Server) openAIDialect() dialect {
	return dialect{
		authorized: bearer(s.opts.OpenAIKey),
		fail: func(w http.ResponseWriter, status int, message string) {
			kind, code := "invalid_request_error", any(nil)
			switch {
			case status == http.StatusUnauthorized:
				message, code = "Incorrect API key provided.", "invalid_api_key"
			case status == http.StatusTooManyRequests:
				kind, code = "requests", "rate_limit_exceeded"
			case status >= 500:
				kind = "server_error"
			}
			writeJSON(w, status, object{"error": object{"message": message, "type": kind, "param": nil, "code": code}})
		},
	}
}

type schema struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
}

func readChat(e *exchange) error {
	var req struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
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
	if err := e.decode(&req); err != nil {
		return err
	}
	t := &e.turn
	t.Model, t.Stream = req.Model, req.Stream
	for _, m := range req.Messages {
		switch text := plainText(m.Content); {
		case m.Role == "user" && t.Task == "":
			t.Task = text
			var parts []struct {
				Image struct {
					URL string `json:"url"`
				} `json:"image_url"`
			}
			_ = json.Unmarshal(m.Content, &parts) // a string has no parts
			for _, p := range parts {
				t.attach(p.Image.URL)
			}
		case m.Role == "tool":
			t.ToolResults = append(t.ToolResults, text)
		}
	}
	for _, tl := range req.Tools {
		t.Tools = append(t.Tools, Tool{tl.Function.Name, tl.Function.Parameters.Required})
	}
	return nil
}

// attach takes a data URL, or what another URL points at, which the stand-in does not fetch.
func (t *Turn) attach(url string) {
	media, data, ok := strings.Cut(strings.TrimPrefix(url, "data:"), ";base64,")
	switch b, err := base64.StdEncoding.DecodeString(data); {
	case url == "":
	case ok && err == nil:
		t.Attachments = append(t.Attachments, Attachment{media, b})
	default:
		t.Attachments = append(t.Attachments, Attachment{MediaType: "text/uri-list", Bytes: []byte(url)})
	}
}

func writeChat(e *exchange) {
	id := e.id("chatcmpl-standin-")
	in, out := e.usage()
	usage := object{
		"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out,
		"prompt_tokens_details":     object{"cached_tokens": 0, "audio_tokens": 0},
		"completion_tokens_details": object{"reasoning_tokens": 0, "audio_tokens": 0},
	}
	call := object{"id": "call_" + id[len(id)-8:], "type": "function", "function": object{"name": e.reply.Tool, "arguments": e.reply.Arguments}}
	finish := "stop"
	if e.reply.Tool != "" {
		finish = "tool_calls"
	}
	created := time.Now().Unix()
	if !e.turn.Stream {
		message := object{"role": "assistant", "content": e.reply.Text, "refusal": nil}
		if e.reply.Tool != "" {
			message["content"], message["tool_calls"] = nil, []any{call}
		}
		e.json(object{
			"id": id, "object": "chat.completion", "created": created, "model": e.turn.Model,
			"choices": []any{object{"index": 0, "message": message, "logprobs": nil, "finish_reason": finish}},
			"usage":   usage,
		})
		return
	}

	e.w.Header().Set("Content-Type", "text/event-stream")
	chunk := func(delta object, finish any) {
		sse(e.w, "", object{
			"id": id, "object": "chat.completion.chunk", "created": created, "model": e.turn.Model,
			"choices": []any{object{"index": 0, "delta": delta, "finish_reason": finish}},
		})
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	if e.calls() {
		call["index"] = 0
		chunk(object{"tool_calls": []any{call}}, nil)
	} else {
		finish = "stop"
		for i, piece := range e.pieces() {
			if !e.pace.next(e.r, i) {
				return
			}
			chunk(object{"content": e.pace.text(piece)}, nil)
		}
	}
	chunk(object{}, finish)
	var options struct {
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	_ = e.decode(&options) // it was read before
	if options.StreamOptions.IncludeUsage {
		sse(e.w, "", object{"id": id, "object": "chat.completion.chunk", "created": created, "model": e.turn.Model, "choices": []any{}, "usage": usage})
	}
	_, _ = fmt.Fprint(e.w, "data: [DONE]\n\n")
}

func readCompletion(e *exchange) error {
	var req struct {
		Model  string          `json:"model"`
		Prompt json.RawMessage `json:"prompt"`
		Stream bool            `json:"stream"`
	}
	err := e.decode(&req)
	e.turn.Model, e.turn.Stream, e.turn.Task = req.Model, req.Stream, words(req.Prompt)
	return err
}

func writeCompletion(e *exchange) {
	in, out := e.usage()
	answer := func(text string, finish any) object {
		return object{
			"id": e.id("cmpl-standin-"), "object": "text_completion", "created": time.Now().Unix(), "model": e.turn.Model,
			"choices": []any{object{"index": 0, "text": text, "logprobs": nil, "finish_reason": finish}},
		}
	}
	if !e.turn.Stream {
		a := answer(e.reply.Text, "stop")
		a["usage"] = object{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out}
		e.json(a)
		return
	}
	e.w.Header().Set("Content-Type", "text/event-stream")
	for i, piece := range e.pieces() {
		if !e.pace.next(e.r, i) {
			return
		}
		sse(e.w, "", answer(e.pace.text(piece), nil))
	}
	sse(e.w, "", answer("", "stop"))
	_, _ = fmt.Fprint(e.w, "data: [DONE]\n\n")
}

// words reads a string or a list of strings.
func words(raw json.RawMessage) string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one
	}
	var many []string
	_ = json.Unmarshal(raw, &many) // lists of tokens have no words
	return strings.Join(many, " ")
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
