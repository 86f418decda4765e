package standin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"
)

// openAIMedia registers the surfaces of OpenAI's API that are no conversations.
func (s *Server) openAIMedia() {
	d := s.openAIDialect()
	s.handle("POST /v1/embeddings", d, surface{"openai.embeddings", readInput, writeEmbeddings})
	s.handle("POST /v1/moderations", d, surface{"openai.moderations", readInput, func(e *exchange) {
		e.json(object{"id": e.id("modr-"), "model": e.turn.Model, "results": []any{object{
			"flagged": false, "categories": object{"violence": false}, "category_scores": object{"violence": 0.01}, "category_applied_input_types": object{"violence": []string{"text"}}}}})
	}})
	s.handle("POST /v1/images/generations", d, surface{"openai.images.generations", readInput, func(e *exchange) {
		e.json(object{"created": time.Now().Unix(), "data": []any{object{"b64_json": base64.StdEncoding.EncodeToString(Picture)}},
			"usage": object{"input_tokens": 5, "output_tokens": 272, "total_tokens": 277, "input_tokens_details": object{"text_tokens": 5, "image_tokens": 0}}})
	}})
	s.handle("POST /v1/images/edits", d, surface{"openai.images.edits", readForm, func(e *exchange) {
		e.json(object{"created": time.Now().Unix(), "data": []any{object{"b64_json": base64.StdEncoding.EncodeToString(Picture)}}})
	}})
	s.handle("POST /v1/audio/speech", d, surface{"openai.audio.speech", readInput, func(e *exchange) {
		e.w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = e.w.Write(Sound)
	}})
	for _, p := range []string{"transcriptions", "translations"} {
		s.handle("POST /v1/audio/"+p, d, surface{"openai.audio." + p, readForm, func(e *exchange) {
			e.json(object{"text": e.reply.Text, "usage": object{"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}})
		}})
	}
	s.handle("GET /v1/models", d, surface{"openai.models", nil, func(e *exchange) {
		e.json(object{"object": "list", "data": []any{object{"id": "gpt-4o-mini", "object": "model", "created": 1721172741, "owned_by": "system"}}})
	}})
	// Files are one path for two providers; Anthropic's callers say which version they speak.
	file := surface{"files", readForm, func(e *exchange) {
		if e.r.Header.Get("Anthropic-Version") != "" {
			e.json(object{"id": e.id("file_"), "type": "file", "filename": "notes.txt", "mime_type": "text/plain", "size_bytes": len(e.body), "created_at": "2026-01-01T00:00:00Z", "downloadable": false})
			return
		}
		e.json(object{"id": e.id("file-"), "object": "file", "bytes": len(e.body), "created_at": time.Now().Unix(), "filename": "notes.txt", "purpose": "user_data", "status": "processed"})
	}}
	s.mux.HandleFunc("POST /v1/files", func(w http.ResponseWriter, r *http.Request) {
		of := d
		if r.Header.Get("Anthropic-Version") != "" {
			of = s.anthropicDialect()
		}
		s.exchange(w, r, of, file)
	})
	s.handle("GET /v1/files", d, surface{"openai.files", nil, func(e *exchange) {
		e.json(object{"object": "list", "data": []any{}, "has_more": false})
	}})
}

func writeEmbeddings(e *exchange) {
	in, _ := e.usage()
	e.json(object{"object": "list", "model": e.turn.Model, "usage": object{"prompt_tokens": in, "total_tokens": in},
		"data": []any{object{"object": "embedding", "index": 0, "embedding": e.embedding()}}})
}

// Sound and Picture are what the stand-in makes of every request for one: the smallest MP3 frame header that players accept, and a PNG of one pixel.
var (
	Sound   = append([]byte{0xff, 0xfb, 0x90, 0x64}, make([]byte, 413)...)
	Picture = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa7\x35\x81\x84\x00\x00\x00\x00IEND\xaeB`\x82")
)

// embedding is a vector of the text, in the form that the caller asked for.
func (e *exchange) embedding() any {
	vector := []float64{0.25, -0.5, 0.125, 0.0625}
	var req struct {
		EncodingFormat string `json:"encoding_format"`
	}
	if _ = e.decode(&req); req.EncodingFormat != "base64" { // it was read before
		return vector
	}
	return base64.StdEncoding.EncodeToString([]byte{0, 0, 0x80, 0x3e, 0, 0, 0, 0xbf, 0, 0, 0, 0x3e, 0, 0, 0x80, 0x3d})
}

// readInput reads a request that is a text and settings.
func readInput(e *exchange) error {
	var req struct {
		Model  string          `json:"model"`
		Input  json.RawMessage `json:"input"`
		Prompt string          `json:"prompt"`
	}
	err := e.decode(&req)
	e.turn.Model, e.turn.Task = req.Model, req.Prompt+words(req.Input)
	return err
}

// readForm reads multipart/form-data: its values are text, its files attachments.
func readForm(e *exchange) error {
	_, params, err := mime.ParseMediaType(e.r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	form := multipart.NewReader(bytes.NewReader(e.body), params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		switch {
		case part.FileName() != "":
			e.turn.Attachments = append(e.turn.Attachments, Attachment{part.Header.Get("Content-Type"), b})
		case part.FormName() == "model":
			e.turn.Model = string(b)
		default:
			e.turn.Task += string(b) + " "
		}
	}
}
