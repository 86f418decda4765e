package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// responses registers OpenAI's Responses API, over HTTP and over a WebSocket.
func (s *Server) responses() {
	d := s.openAIDialect()
	f := surface{"openai.responses", readResponse, func(e *exchange) {
		if !e.turn.Stream {
			e.json(response(e, "completed"))
			return
		}
		e.w.Header().Set("Content-Type", "text/event-stream")
		responseEvents(e, e.typed)
	}}
	s.handle("POST /v1/responses", d, f)
	s.mux.HandleFunc("GET /v1/responses", func(w http.ResponseWriter, r *http.Request) {
		s.socket(w, r, d, func(c *conversation) {
			for c.read() {
				e := &exchange{r: r.WithContext(c.ctx), body: c.message, turn: Turn{Surface: f.name}}
				if err := readResponse(e); err != nil {
					c.send(object{"type": "error", "status": 400, "error": object{"type": "invalid_request_error", "message": err.Error()}})
					continue
				}
				e.reply = s.think(e.turn)
				e.pace.hold = e.reply.Hold
				responseEvents(e, func(event object) { c.send(event) })
			}
		})
	})
}

func readResponse(e *exchange) error {
	var req struct {
		Model  string          `json:"model"`
		Stream bool            `json:"stream"`
		Input  json.RawMessage `json:"input"`
		Tools  []struct {
			Name       string `json:"name"`
			Parameters schema `json:"parameters"`
		} `json:"tools"`
	}
	if err := e.decode(&req); err != nil {
		return err
	}
	t := &e.turn
	t.Model, t.Stream, t.Task = req.Model, req.Stream, words(req.Input)
	var items []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
		Output  json.RawMessage `json:"output"`
	}
	_ = json.Unmarshal(req.Input, &items) // a string has no items
	for _, i := range items {
		switch {
		case i.Type == "function_call_output":
			t.ToolResults = append(t.ToolResults, plainText(i.Output))
		case i.Role == "user" && t.Task == "":
			t.Task = plainText(i.Content)
			var parts []struct {
				URL string `json:"image_url"`
			}
			_ = json.Unmarshal(i.Content, &parts) // a string has no parts
			for _, p := range parts {
				t.attach(p.URL)
			}
		}
	}
	for _, tl := range req.Tools {
		t.Tools = append(t.Tools, Tool{tl.Name, tl.Parameters.Required})
	}
	return nil
}

// item is what the answer consists of.
func item(e *exchange, text string) object {
	if e.calls() {
		return object{"type": "function_call", "id": e.id("fc_"), "call_id": e.id("call_"), "name": e.reply.Tool, "arguments": e.reply.Arguments, "status": "completed"}
	}
	return object{"type": "message", "id": e.id("msg_"), "status": "completed", "role": "assistant",
		"content": []any{object{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}}}
}

func response(e *exchange, status string) object {
	in, out := e.usage()
	r := object{
		"id": e.id("resp_"), "object": "response", "created_at": time.Now().Unix(), "status": status, "model": e.turn.Model, "output": []any{}, "error": nil,
		"incomplete_details": nil, "instructions": nil, "metadata": object{}, "parallel_tool_calls": true, "temperature": 1, "top_p": 1, "tool_choice": "auto", "tools": []any{}, "usage": nil,
	}
	if status == "completed" {
		r["output"] = []any{item(e, e.reply.Text)}
		r["usage"] = object{"input_tokens": in, "input_tokens_details": object{"cached_tokens": 0}, "output_tokens": out,
			"output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": in + out}
	}
	return r
}

// responseEvents sends a response event by event.
func responseEvents(e *exchange, send func(object)) {
	n := 0
	event := func(kind string, fields object) {
		fields["type"], fields["sequence_number"] = kind, n
		n++
		send(fields)
	}
	event("response.created", object{"response": response(e, "in_progress")})
	event("response.in_progress", object{"response": response(e, "in_progress")})
	done := item(e, e.reply.Text)
	begun := item(e, "")
	begun["status"] = "in_progress"
	if e.calls() {
		begun["arguments"] = ""
		event("response.output_item.added", object{"output_index": 0, "item": begun})
		event("response.function_call_arguments.delta", object{"output_index": 0, "item_id": done["id"], "delta": e.reply.Arguments})
		event("response.function_call_arguments.done", object{"output_index": 0, "item_id": done["id"], "name": e.reply.Tool, "arguments": e.reply.Arguments})
	} else {
		begun["content"] = []any{}
		at := func(fields object) object {
			fields["item_id"], fields["output_index"], fields["content_index"] = done["id"], 0, 0
			return fields
		}
		part := func(text string) object {
			return at(object{"part": object{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}})
		}
		event("response.output_item.added", object{"output_index": 0, "item": begun})
		event("response.content_part.added", part(""))
		for i, piece := range e.pieces() {
			if !e.pace.next(e.r, i) {
				return
			}
			event("response.output_text.delta", at(object{"delta": e.pace.text(piece), "logprobs": []any{}}))
		}
		event("response.output_text.done", at(object{"text": e.reply.Text, "logprobs": []any{}}))
		event("response.content_part.done", part(e.reply.Text))
	}
	event("response.output_item.done", object{"output_index": 0, "item": done})
	event("response.completed", object{"response": response(e, "completed")})
}

// realtime registers OpenAI's Realtime API, text only.
func (s *Server) realtime() {
	d := s.openAIDialect()
	s.mux.HandleFunc("GET /v1/realtime", func(w http.ResponseWriter, r *http.Request) {
		model := r.URL.Query().Get("model")
		s.socket(w, r, d, func(c *conversation) {
			session := object{"type": "realtime", "id": "sess_standin", "object": "realtime.session", "model": model, "output_modalities": []string{"text"}}
			c.send(object{"type": "session.created", "event_id": "event_0", "session": session})
			turn := Turn{Surface: "openai.realtime", Model: model, Stream: true}
			for n := 1; c.read(); n++ {
				id := fmt.Sprint("event_", n)
				var event struct {
					Type string `json:"type"`
					Item struct {
						ID      string          `json:"id"`
						Content json.RawMessage `json:"content"`
					} `json:"item"`
				}
				_ = json.Unmarshal(c.message, &event) // what is no event is answered with an error
				switch event.Type {
				case "session.update":
					c.send(object{"type": "session.updated", "event_id": id, "session": session})
				case "conversation.item.create":
					turn.Task = plainText(event.Item.Content)
					c.send(object{"type": "conversation.item.added", "event_id": id, "item": object{"id": "item_user", "type": "message", "role": "user"}})
				case "response.create":
					e := &exchange{r: r.WithContext(c.ctx), turn: turn, body: c.message}
					e.reply = s.think(e.turn)
					in, out := e.usage()
					c.send(object{"type": "response.created", "event_id": id, "response": object{"id": e.id("resp_"), "object": "realtime.response", "status": "in_progress", "output": []any{}}})
					for _, piece := range e.pieces() {
						c.send(object{"type": "response.output_text.delta", "event_id": id, "response_id": e.id("resp_"), "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": piece})
					}
					c.send(object{"type": "response.done", "event_id": id, "response": object{"id": e.id("resp_"), "object": "realtime.response", "status": "completed",
						"output": []any{object{"id": "item_1", "type": "message", "role": "assistant", "status": "completed", "content": []any{object{"type": "output_text", "text": e.reply.Text}}}},
						"usage":  object{"total_tokens": in + out, "input_tokens": in, "output_tokens": out}}})
				default:
					c.send(object{"type": "error", "event_id": id, "error": object{"type": "invalid_request_error", "message": "The event is not known."}})
				}
			}
		})
	})
}

// socketSubprotocols are those that SDKs ask for.
var socketSubprotocols = []string{"realtime"}

// socket takes a WebSocket over and leads a conversation on it, whose messages are remembered.
func (s *Server) socket(w http.ResponseWriter, r *http.Request, d dialect, lead func(*conversation)) {
	if !d.authorized(r, nil) {
		d.fail(w, http.StatusUnauthorized, "The credential is missing or not the provider's.")
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: socketSubprotocols, InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return // it was answered
	}
	conn.SetReadLimit(maxBody)
	defer func() { _ = conn.CloseNow() }()
	c := &conversation{s: s, conn: conn, ctx: r.Context()}
	if t, ok := w.(*tracker); ok {
		c.received = t.received
	}
	lead(c)
	_ = conn.Close(websocket.StatusNormalClosure, "") // the other end may have gone
}

// conversation is an open WebSocket.
type conversation struct {
	s        *Server
	conn     *websocket.Conn
	ctx      context.Context
	received *Received
	message  []byte
}

// read waits for the next message. It reports false when there is none.
func (c *conversation) read() bool {
	_, b, err := c.conn.Read(c.ctx)
	if err != nil {
		return false
	}
	c.message = b
	if c.received != nil {
		c.received.Messages = append(c.received.Messages, string(b))
	}
	return true
}

func (c *conversation) send(v object) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps of plain values are given
	}
	_ = c.conn.Write(c.ctx, websocket.MessageText, b) // the next read says that the other end has gone
}
