package standin

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// object is a JSON object to send.
type object = map[string]any

// dialect is how one API says who may call and what went wrong.
type dialect struct {
	// authorized reads the credential of a request.
	authorized func(r *http.Request, body []byte) bool
	fail       func(w http.ResponseWriter, status int, message string)
}

// exchange is one request on its way to its answer.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	body  []byte // without its content coding
	pace  pace
	turn  Turn
	reply Reply
}

// surface is one API shape: read fills in the turn of the exchange, write answers with its reply.
type surface struct {
	name  string
	read  func(e *exchange) error
	write func(e *exchange)
}

// handle registers a surface.
func (s *Server) handle(pattern string, d dialect, f surface) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.exchange(w, r, d, f) })
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request, d dialect, f surface) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	if !d.authorized(r, raw) {
		d.fail(w, http.StatusUnauthorized, "The credential is missing or not the provider's.")
		return
	}
	e := &exchange{w: w, r: r, turn: Turn{Surface: f.name}}
	if e.body, err = uncoded(r.Header.Get("Content-Encoding"), raw); err == nil {
		e.pace, err = s.pace(r)
	}
	if err == nil && f.read != nil {
		err = f.read(e)
	}
	if err != nil {
		d.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	e.reply = s.think(e.turn)
	e.pace.hold = e.reply.Hold
	if !wait(r, e.pace.firstByte) {
		return
	}
	if e.reply.Status != 0 {
		if e.reply.RetryAfter != "" {
			w.Header().Set("Retry-After", e.reply.RetryAfter)
		}
		d.fail(w, e.reply.Status, scriptedError)
		return
	}
	if c := e.reply.Coding; c != "" && strings.Contains(r.Header.Get("Accept-Encoding"), c) {
		coded := newCoded(w, c)
		defer coded.close()
		e.w = coded
	}
	f.write(e)
}

// scriptedError is what the provider says of an error that a Reply asks for.
const scriptedError = "The stand-in was told to fail."

func (s *Server) think(t Turn) Reply {
	if s.opts.Think != nil {
		return s.opts.Think(t)
	}
	return think(t)
}

// pieces are the texts that the answer is streamed in.
func (e *exchange) pieces() []string { return e.pace.texts(e.reply.Text) }

// calls says whether the answer is a tool call. A stream of a set number of events is always text.
func (e *exchange) calls() bool { return e.reply.Tool != "" && e.pace.events == 0 }

// id is an identifier that the same conversation always gets.
func (e *exchange) id(prefix string) string {
	return fmt.Sprintf("%s%08x", prefix, hash(e.turn.Task+fmt.Sprint(len(e.turn.ToolResults))))
}

// usage is what the call cost.
func (e *exchange) usage() (in, out int) {
	return tokens(string(e.body)), tokens(e.reply.Text + e.reply.Arguments)
}

// typed sends a server-sent event that is named after its type.
func (e *exchange) typed(event object) {
	kind, _ := event["type"].(string)
	sse(e.w, kind, event)
}

func (e *exchange) json(v any) { writeJSON(e.w, http.StatusOK, v) }

// bearer asks for an Authorization header; an empty token is not asked for.
func bearer(token string) func(*http.Request, []byte) bool {
	return func(r *http.Request, _ []byte) bool {
		return token == "" || r.Header.Get("Authorization") == "Bearer "+token
	}
}

// header asks for a header with a key of its own.
func header(name, key string) func(*http.Request, []byte) bool {
	return func(r *http.Request, _ []byte) bool { return key == "" || r.Header.Get(name) == key }
}

// uncoded takes a content coding off.
func uncoded(coding string, b []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch src := bytes.NewReader(b); coding {
	case "", "identity":
		return b, nil
	case "gzip":
		r, err = gzip.NewReader(src)
	case "deflate":
		r, err = zlib.NewReader(src)
	case "br":
		r = brotli.NewReader(src)
	case "zstd":
		r, err = zstd.NewReader(src, zstd.WithDecoderConcurrency(1))
	default:
		err = fmt.Errorf("the content coding %q is unknown", coding)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxBody))
}

// coded is a response in a content coding, flushed whenever the caller flushes.
type coded struct {
	http.ResponseWriter
	to interface {
		io.WriteCloser
		Flush() error
	}
}

func newCoded(w http.ResponseWriter, coding string) *coded {
	w.Header().Set("Content-Encoding", coding)
	c := &coded{ResponseWriter: w}
	switch coding {
	case "br":
		c.to = brotli.NewWriter(w)
	case "zstd":
		c.to, _ = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // the options are valid
	case "deflate":
		c.to = zlib.NewWriter(w)
	default:
		c.to, _ = gzip.NewWriterLevel(w, flate.BestSpeed) // the level is valid
	}
	return c
}

func (c *coded) Write(b []byte) (int, error) { return c.to.Write(b) }

// FlushError lets http.ResponseController flush.
func (c *coded) FlushError() error {
	if err := c.to.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

func (c *coded) close() { _ = c.to.Close() } // a caller that has gone is no fault

// decode reads a JSON body.
func (e *exchange) decode(v any) error {
	if err := json.Unmarshal(e.body, v); err != nil {
		return fmt.Errorf("the body is not the JSON that was expected: %w", err)
	}
	return nil
}
