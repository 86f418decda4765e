package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// cohere registers version 2 of Cohere's API.
func (s *Server) cohere() {
	d := dialect{bearer(s.opts.CohereKey), func(w http.ResponseWriter, status int, message string) {
		writeJSON(w, status, object{"id": "standin", "message": message})
	}}
	s.handle("POST /v2/chat", d, surface{"cohere.chat", readChat, func(e *exchange) {
		in, out := e.usage()
		usage := object{"billed_units": object{"input_tokens": in, "output_tokens": out}, "tokens": object{"input_tokens": in, "output_tokens": out}}
		call := object{"id": e.id("call_"), "type": "function", "function": object{"name": e.reply.Tool, "arguments": e.reply.Arguments}}
		if !e.turn.Stream {
			m, finish := object{"role": "assistant", "content": []any{object{"type": "text", "text": e.reply.Text}}}, "COMPLETE"
			if e.calls() {
				m, finish = object{"role": "assistant", "tool_calls": []any{call}, "tool_plan": "I will look it up."}, "TOOL_CALL"
			}
			e.json(object{"id": e.id("standin-"), "finish_reason": finish, "message": m, "usage": usage})
			return
		}
		e.w.Header().Set("Content-Type", "text/event-stream")
		send := func(kind string, delta object) { sse(e.w, kind, object{"type": kind, "index": 0, "delta": delta}) }
		sse(e.w, "message-start", object{"id": e.id("standin-"), "type": "message-start", "delta": object{"message": object{"role": "assistant", "content": []any{}, "tool_plan": "", "tool_calls": []any{}, "citations": []any{}}}})
		finish := "COMPLETE"
		if e.calls() {
			finish = "TOOL_CALL"
			send("tool-call-start", object{"message": object{"tool_calls": call}})
			send("tool-call-end", object{})
		} else {
			send("content-start", object{"message": object{"content": object{"type": "text", "text": ""}}})
			for i, piece := range e.pieces() {
				if !e.pace.next(e.r, i) {
					return
				}
				send("content-delta", object{"message": object{"content": object{"text": piece}}})
			}
			send("content-end", object{})
		}
		send("message-end", object{"finish_reason": finish, "usage": usage})
	}})
	s.handle("POST /v2/embed", d, surface{"cohere.embed", readInput, func(e *exchange) {
		e.json(object{"id": e.id("standin-"), "embeddings": object{"float": []any{[]float64{0.25, -0.5}}}, "texts": []string{e.turn.Task}, "meta": object{"billed_units": object{"input_tokens": 3}}})
	}})
	s.handle("POST /v2/rerank", d, surface{"cohere.rerank", readInput, func(e *exchange) {
		e.json(object{"id": e.id("standin-"), "results": []any{object{"index": 0, "relevance_score": 0.9}}, "meta": object{"billed_units": object{"search_units": 1}}})
	}})
}

// ollama registers Ollama's own API; what it has of OpenAI's is that.
func (s *Server) ollama() {
	d := dialect{bearer(s.opts.OllamaKey), func(w http.ResponseWriter, status int, message string) {
		writeJSON(w, status, object{"error": message})
	}}
	stream := func(e *exchange) error {
		// A stream is what Ollama does unless it is told otherwise.
		var req struct {
			Stream *bool `json:"stream"`
		}
		err := e.decode(&req)
		e.turn.Stream = req.Stream == nil || *req.Stream
		return err
	}
	answer := func(name string, of func(e *exchange, text string) any) func(*exchange) {
		return func(e *exchange) {
			in, out := e.usage()
			line := func(text string, done bool) object {
				l := object{"model": e.turn.Model, "created_at": time.Now().UTC().Format(time.RFC3339Nano), name: of(e, text), "done": done}
				if done {
					l["done_reason"], l["prompt_eval_count"], l["eval_count"] = "stop", in, out
				}
				return l
			}
			if !e.turn.Stream {
				e.json(line(e.reply.Text, true))
				return
			}
			e.w.Header().Set("Content-Type", "application/x-ndjson")
			for i, piece := range e.pieces() {
				if !e.pace.next(e.r, i) {
					return
				}
				_ = json.NewEncoder(e.w).Encode(line(piece, false)) // a caller that has gone is seen at the next piece
				_ = http.NewResponseController(e.w).Flush()
			}
			_ = json.NewEncoder(e.w).Encode(line("", true))
		}
	}
	s.handle("POST /api/chat", d, surface{"ollama.chat", func(e *exchange) error {
		if err := readChat(e); err != nil {
			return err
		}
		var req struct {
			Messages []struct {
				Images [][]byte `json:"images"`
			} `json:"messages"`
		}
		if err := e.decode(&req); err != nil {
			return err
		}
		for _, m := range req.Messages {
			for _, b := range m.Images {
				e.turn.Attachments = append(e.turn.Attachments, Attachment{http.DetectContentType(b), b})
			}
		}
		return stream(e)
	}, answer("message", func(e *exchange, text string) any {
		if e.calls() {
			return object{"role": "assistant", "content": "", "tool_calls": []any{object{"function": object{"name": e.reply.Tool, "arguments": json.RawMessage(e.reply.Arguments)}}}}
		}
		return object{"role": "assistant", "content": text}
	})})
	s.handle("POST /api/generate", d, surface{"ollama.generate", func(e *exchange) error {
		if err := readInput(e); err != nil {
			return err
		}
		return stream(e)
	}, answer("response", func(_ *exchange, text string) any { return text })})
	s.handle("POST /api/embed", d, surface{"ollama.embed", readInput, func(e *exchange) {
		e.json(object{"model": e.turn.Model, "embeddings": []any{[]float64{0.25, -0.5}}, "prompt_eval_count": 3})
	}})
}

// rpc is a JSON-RPC request.
type rpc struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name            string          `json:"name"`
		ProtocolVersion string          `json:"protocolVersion"`
		Arguments       json.RawMessage `json:"arguments"`
		Message         struct {
			Parts []struct {
				Text string `json:"text"`
			} `json:"parts"`
		} `json:"message"`
	} `json:"params"`
}

func rpcError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, object{"jsonrpc": "2.0", "id": nil, "error": object{"code": -32000, "message": message}})
}

// mcp registers an MCP server over streamable HTTP, with one tool.
func (s *Server) mcp() {
	d := dialect{bearer(s.opts.MCPToken), rpcError}
	s.handle("POST /mcp", d, surface{"mcp", func(e *exchange) error {
		var req rpc
		err := e.decode(&req)
		e.turn.Task = string(req.Params.Arguments)
		return err
	}, func(e *exchange) {
		var req rpc
		_ = e.decode(&req) // it was read before
		result := object{}
		switch req.Method {
		case "initialize":
			e.w.Header().Set("Mcp-Session-Id", "standin-session")
			result = object{"protocolVersion": req.Params.ProtocolVersion, "capabilities": object{"tools": object{}}, "serverInfo": object{"name": "standin", "version": "1"}}
		case "tools/list":
			result["tools"] = []any{object{"name": "lookup", "description": "Look something up.",
				"inputSchema": object{"type": "object", "properties": object{"query": object{"type": "string"}}, "required": []string{"query"}}}}
		case "tools/call":
			result["content"] = []any{object{"type": "text", "text": e.reply.Text}}
		}
		if len(req.ID) == 0 {
			e.w.WriteHeader(http.StatusAccepted)
			return
		}
		answer := object{"jsonrpc": "2.0", "id": req.ID, "result": result}
		if req.Method == "tools/call" {
			e.w.Header().Set("Content-Type", "text/event-stream")
			sse(e.w, "message", answer)
			return
		}
		e.json(answer)
	}})
	s.mux.HandleFunc("GET /mcp", func(w http.ResponseWriter, _ *http.Request) {
		rpcError(w, http.StatusMethodNotAllowed, "This server sends nothing unasked.")
	})
	s.mux.HandleFunc("DELETE /mcp", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

// a2a registers an agent of the A2A protocol.
func (s *Server) a2a() {
	d := dialect{bearer(s.opts.A2AToken), rpcError}
	s.handle("GET /.well-known/agent-card.json", d, surface{"a2a.card", nil, func(e *exchange) {
		e.json(object{"supportedInterfaces": []any{object{"url": "https://" + e.r.Host + "/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}},
			"protocolVersion": "0.3.0", "name": "standin", "description": "A stand-in.", "url": "https://" + e.r.Host + "/a2a", "version": "1",
			"capabilities": object{"streaming": true}, "defaultInputModes": []string{"text/plain"}, "defaultOutputModes": []string{"text/plain"}, "skills": []any{}})
	}})
	rpcs := surface{"a2a", func(e *exchange) error {
		var req rpc
		err := e.decode(&req)
		for _, p := range req.Params.Message.Parts {
			e.turn.Task += p.Text
		}
		e.turn.Stream = req.Method == "message/stream" || req.Method == "SendStreamingMessage"
		return err
	}, func(e *exchange) {
		var req rpc
		_ = e.decode(&req) // it was read before
		answer := func(n int, text string) object {
			result := object{"kind": "message", "role": "agent", "messageId": fmt.Sprint(e.id("m-"), n), "parts": []any{object{"kind": "text", "text": text}}}
			switch req.Method { // version 1.0 has names of its own
			case "SendMessage":
				result = object{"message": object{"role": "ROLE_AGENT", "messageId": e.id("m-"), "parts": []any{object{"text": text}}}}
			case "SendStreamingMessage":
				result = object{"artifactUpdate": object{"taskId": e.id("t-"), "contextId": e.id("c-"), "append": n > 0, "artifact": object{"artifactId": "answer", "parts": []any{object{"text": text}}}}}
			}
			return object{"jsonrpc": "2.0", "id": req.ID, "result": result}
		}
		if !e.turn.Stream {
			e.json(answer(0, e.reply.Text))
			return
		}
		e.w.Header().Set("Content-Type", "text/event-stream")
		for i, piece := range e.pieces() {
			if !e.pace.next(e.r, i) {
				return
			}
			sse(e.w, "", answer(i, piece))
		}
	}}
	s.handle("POST /a2a", d, rpcs)
	s.handle("POST /{$}", d, rpcs)
}
