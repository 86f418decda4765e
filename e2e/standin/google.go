package standin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// google registers the Gemini API and Vertex AI, where Anthropic's models are, too.
func (s *Server) google() {
	gemini := dialect{func(r *http.Request, body []byte) bool {
		return r.URL.Query().Get("key") == s.opts.GeminiKey || header("X-Goog-Api-Key", s.opts.GeminiKey)(r, body)
	}, googleError}
	vertex := dialect{bearer(s.opts.VertexToken), googleError}
	actions := map[string]surface{
		"generateContent":       {"generate_content", readGemini, writeGemini},
		"streamGenerateContent": {"stream_generate_content", readGemini, writeGemini},
		"countTokens": {"count_tokens", readGemini, func(e *exchange) {
			in, _ := e.usage()
			e.json(object{"totalTokens": in})
		}},
		"embedContent": {"embed_content", readGemini, func(e *exchange) {
			e.json(object{"embedding": object{"values": []float64{0.25, -0.5, 0.125}}})
		}},
		"batchEmbedContents": {"batch_embed_contents", readGemini, func(e *exchange) {
			e.json(object{"embeddings": []any{object{"values": []float64{0.25, -0.5, 0.125}}}})
		}},
	}
	at := func(api string, d dialect) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			model, action, _ := strings.Cut(r.PathValue("call"), ":")
			f, known := actions[action]
			if !known {
				googleError(w, http.StatusNotFound, "The method is not known.")
				return
			}
			read := f.read
			f.name = api + "." + f.name
			f.read = func(e *exchange) error {
				e.turn.Model, e.turn.Stream = model, action == "streamGenerateContent"
				return read(e)
			}
			s.exchange(w, r, d, f)
		}
	}
	for _, version := range []string{"v1", "v1beta"} {
		s.mux.HandleFunc("POST /"+version+"/models/{call}", at("gemini", gemini))
	}
	for _, version := range []string{"v1", "v1beta1"} {
		publishers := "POST /" + version + "/projects/{project}/locations/{location}/publishers/"
		s.mux.HandleFunc(publishers+"google/models/{call}", at("vertex", vertex))
		s.mux.HandleFunc(publishers+"anthropic/models/{call}", func(w http.ResponseWriter, r *http.Request) {
			model, action, _ := strings.Cut(r.PathValue("call"), ":")
			s.exchange(w, r, vertex, surface{"vertex.anthropic_messages", func(e *exchange) error {
				err := readMessages(e)
				e.turn.Model, e.turn.Stream = model, action == "streamRawPredict"
				return err
			}, writeMessages})
		})
	}
	for _, version := range []string{"v1", "v1beta", "v1alpha"} {
		s.mux.HandleFunc("GET /ws/google.ai.generativelanguage."+version+".GenerativeService.BidiGenerateContent", func(w http.ResponseWriter, r *http.Request) {
			s.socket(w, r, gemini, s.live)
		})
	}
}

func googleError(w http.ResponseWriter, status int, message string) {
	name := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}[status]
	writeJSON(w, status, object{"error": object{"code": status, "message": message, "status": name}})
}

// geminiContent is one turn of a conversation.
type geminiContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text       string `json:"text"`
		InlineData struct {
			MIMEType string `json:"mimeType"`
			Data     string `json:"data"`
		} `json:"inlineData"`
		FunctionResponse struct {
			Response json.RawMessage `json:"response"`
		} `json:"functionResponse"`
	} `json:"parts"`
}

func (t *Turn) gemini(contents []geminiContent) {
	for _, c := range contents {
		for _, p := range c.Parts {
			if r := p.FunctionResponse.Response; len(r) > 0 {
				t.ToolResults = append(t.ToolResults, string(r))
			}
			if b, err := base64.StdEncoding.DecodeString(p.InlineData.Data); err == nil && len(b) > 0 {
				t.Attachments = append(t.Attachments, Attachment{p.InlineData.MIMEType, b})
			}
			if t.Task == "" && c.Role != "model" {
				t.Task = p.Text
			}
		}
	}
}

func readGemini(e *exchange) error {
	var req struct {
		Contents []geminiContent `json:"contents"`
		Content  geminiContent   `json:"content"`
		Requests []struct {
			Content geminiContent `json:"content"`
		} `json:"requests"`
		Tools []struct {
			Declarations []struct {
				Name       string `json:"name"`
				Parameters schema `json:"parameters"`
				JSONSchema schema `json:"parametersJsonSchema"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
	}
	if err := e.decode(&req); err != nil {
		return err
	}
	e.turn.gemini(append(req.Contents, req.Content))
	for _, r := range req.Requests {
		e.turn.gemini([]geminiContent{r.Content})
	}
	for _, tl := range req.Tools {
		for _, f := range tl.Declarations {
			e.turn.Tools = append(e.turn.Tools, Tool{f.Name, append(f.Parameters.Required, f.JSONSchema.Required...)})
		}
	}
	return nil
}

func writeGemini(e *exchange) {
	in, out := e.usage()
	answer := func(part object, finish string) object {
		candidate := object{"index": 0, "content": object{"role": "model", "parts": []any{part}}}
		if finish != "" {
			candidate["finishReason"] = finish
		}
		return object{"candidates": []any{candidate}, "modelVersion": e.turn.Model, "responseId": e.id("standin"),
			"usageMetadata": object{"promptTokenCount": in, "candidatesTokenCount": out, "totalTokenCount": in + out}}
	}
	whole := object{"text": e.reply.Text}
	if e.calls() {
		whole = object{"functionCall": object{"id": e.id("call_"), "name": e.reply.Tool, "args": json.RawMessage(e.reply.Arguments)}}
	}
	if !e.turn.Stream {
		e.json(answer(whole, "STOP"))
		return
	}
	chunks := []object{answer(whole, "STOP")}
	if !e.calls() {
		chunks = nil
		pieces := e.pieces()
		for i, piece := range pieces {
			finish := ""
			if i == len(pieces)-1 {
				finish = "STOP"
			}
			chunks = append(chunks, answer(object{"text": piece}, finish))
		}
	}
	events := e.r.URL.Query().Get("alt") == "sse"
	e.w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if events {
		e.w.Header().Set("Content-Type", "text/event-stream")
	}
	for i, c := range chunks {
		if !e.pace.next(e.r, i) {
			return
		}
		if events {
			sse(e.w, "", c)
			continue
		}
		b, err := json.Marshal(c)
		if err != nil {
			panic(err) // only maps of plain values are given
		}
		_, _ = fmt.Fprintf(e.w, "%s%s", map[bool]string{true: "[", false: ",\r\n"}[i == 0], b)
		_ = http.NewResponseController(e.w).Flush()
	}
	if !events {
		_, _ = io.WriteString(e.w, "]")
	}
}

// live leads a conversation of the Live API, text only.
func (s *Server) live(c *conversation) {
	turn := Turn{Surface: "gemini.live", Stream: true}
	for c.read() {
		var event struct {
			Setup *struct {
				Model string `json:"model"`
			} `json:"setup"`
			Content *struct {
				Turns []geminiContent `json:"turns"`
			} `json:"clientContent"`
			Input *struct {
				Text string `json:"text"`
			} `json:"realtimeInput"`
		}
		_ = json.Unmarshal(c.message, &event) // what is no event is not answered
		switch {
		case event.Setup != nil:
			turn.Model = strings.TrimPrefix(event.Setup.Model, "models/")
			c.send(object{"setupComplete": object{}})
			continue
		case event.Content != nil:
			turn.Task = ""
			turn.gemini(event.Content.Turns)
		case event.Input != nil:
			turn.Task = event.Input.Text
		default:
			continue
		}
		e := &exchange{body: c.message, turn: turn, reply: s.think(turn)}
		in, out := e.usage()
		for _, piece := range e.pieces() {
			c.send(object{"serverContent": object{"modelTurn": object{"role": "model", "parts": []any{object{"text": piece}}}}})
		}
		c.send(object{"serverContent": object{"turnComplete": true}, "usageMetadata": object{"promptTokenCount": in, "responseTokenCount": out, "totalTokenCount": in + out}})
	}
}
