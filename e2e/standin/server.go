package standin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Headers by which a request sets how it is answered. An unmodified agent sends none of them.
const (
	// HeaderFirstByte is a duration before the response begins.
	HeaderFirstByte = "X-Standin-First-Byte"
	// HeaderGap is a duration between the events of a stream.
	HeaderGap = "X-Standin-Gap"
	// HeaderEvents is the number of text events of a stream.
	HeaderEvents = "X-Standin-Events"
	// HeaderStamp makes each text event of a stream the time, in Unix nanoseconds, at which it was sent.
	HeaderStamp = "X-Standin-Stamp"
)

// maxBody bounds what is read of a request.
const maxBody = 64 << 20

// keptRequests bounds what Server remembers.
const keptRequests = 4096

// Options set a Server.
type Options struct {
	// These are the credentials that calls must carry; calls without get the provider's answer to that. An empty one is not asked for.
	OpenAIKey, AzureKey, AnthropicKey, GeminiKey, VertexToken, CohereKey, OllamaKey, MCPToken, A2AToken string
	// AWSAccessKey and AWSSecretKey are what calls to Bedrock must be signed with.
	AWSAccessKey, AWSSecretKey string
	// Think answers; nil is the script that the demo's agent works with.
	Think Brain
	// KeepBodies is how many bytes of each body are kept; 0 keeps none.
	KeepBodies int
	// FirstByte and Gap are the delays where a request sets none.
	FirstByte, Gap time.Duration
}

// Received is what Server remembers of a request.
type Received struct {
	Host     string      `json:"host"`
	Method   string      `json:"method"`
	Path     string      `json:"path"`
	Protocol string      `json:"protocol"`
	Header   http.Header `json:"header"`
	Bytes    int         `json:"bytes"`
	// Body is the body as it came, its content coding included, up to Options.KeepBodies. What came over a WebSocket is in Messages.
	Body     []byte   `json:"body,omitempty"`
	Messages []string `json:"messages,omitempty"`
	SHA256   string   `json:"sha256"`
	Status   int      `json:"status"`
	// Gone says that the caller went away before the response was complete.
	Gone bool `json:"gone"`
}

// Server is the stand-in. Create it with New.
type Server struct {
	opts Options
	mux  *http.ServeMux

	mu       sync.Mutex
	inHand   int // requests that are being answered
	received []Received
	changed  chan struct{} // closed and replaced when received changes
}

// New returns a stand-in.
func New(opts Options) *Server {
	s := &Server{opts: opts, mux: http.NewServeMux(), changed: make(chan struct{})}
	s.openAI()
	s.openAIMedia()
	s.azure()
	s.responses()
	s.realtime()
	s.anthropic()
	s.google()
	s.bedrock()
	s.cohere()
	s.ollama()
	s.mcp()
	s.a2a()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "stand-in: you reached me\n")
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.inHand++
	s.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	sum := sha256.Sum256(body)
	got := Received{
		Host: r.Host, Method: r.Method, Path: r.RequestURI, Protocol: r.Proto,
		Header: r.Header.Clone(), Bytes: len(body), SHA256: hex.EncodeToString(sum[:]), Gone: err != nil,
		Body: bytes.Clone(body[:min(len(body), s.opts.KeepBodies)]),
	}
	tracked := &tracker{ResponseWriter: w, received: &got}
	defer func() {
		got.Status = tracked.status
		got.Gone = got.Gone || r.Context().Err() != nil
		s.remember(got)
	}()
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// Google takes two slashes for one here, and its library for JavaScript writes two.
	if strings.HasPrefix(r.URL.Path, "//ws/") {
		r.URL.Path = r.URL.Path[1:]
	}
	s.mux.ServeHTTP(tracked, r)
}

// Admin serves what a test asks of the stand-in: GET /received is a JSON list of the requests so far.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /received", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Received())
	})
	return mux
}

// Received returns the requests so far, oldest first.
func (s *Server) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received{}, s.received...)
}

// Settle waits until no request is being answered.
func (s *Server) Settle(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, changed := s.inHand, s.changed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d requests are still being answered: %w", n, ctx.Err())
		}
	}
}

// Changed returns a channel that is closed when the next request is complete.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Server) remember(r Received) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.received) == keptRequests {
		s.received = s.received[1:]
	}
	s.received = append(s.received, r)
	s.inHand--
	close(s.changed)
	s.changed = make(chan struct{})
}

// pace is how one request wants to be answered.
type pace struct {
	firstByte, gap time.Duration
	events         int
	stamp          bool
	hold           <-chan struct{}
}

// next waits for the time at which the i-th piece of a stream, from 0, is to be sent. It reports false when the caller has gone.
func (p pace) next(r *http.Request, i int) bool {
	if i == 1 && p.hold != nil {
		select {
		case <-p.hold:
		case <-r.Context().Done():
			return false
		}
	}
	return wait(r, p.gap)
}

func (s *Server) pace(r *http.Request) (pace, error) {
	p := pace{firstByte: s.opts.FirstByte, gap: s.opts.Gap, stamp: r.Header.Get(HeaderStamp) != ""}
	for _, f := range []struct {
		header string
		to     *time.Duration
	}{{HeaderFirstByte, &p.firstByte}, {HeaderGap, &p.gap}} {
		if v := r.Header.Get(f.header); v != "" {
			d, err := time.ParseDuration(v)
			if err != nil {
				return p, fmt.Errorf("header %s: %w", f.header, err)
			}
			*f.to = d
		}
	}
	if v := r.Header.Get(HeaderEvents); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 10000 {
			return p, fmt.Errorf("header %s: %q is no number from 1 to 10000", HeaderEvents, v)
		}
		p.events = n
	}
	return p, nil
}

// wait plays the time that a model takes. It reports false when the caller has gone.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// events are the texts of a stream.
func (p pace) texts(text string) []string {
	if p.events == 0 {
		return pieces(text, 8)
	}
	out := make([]string, p.events)
	for i := range out {
		out[i] = fmt.Sprintf("event %d of %d. ", i+1, p.events)
	}
	return out
}

// text is what one event says: its piece, or the time at which it is sent.
func (p pace) text(piece string) string {
	if p.stamp {
		return strconv.FormatInt(time.Now().UnixNano(), 10) + " "
	}
	return piece
}

// tracker remembers the status of a response and passes flushes on.
type tracker struct {
	http.ResponseWriter
	received *Received
	status   int
}

func (t *tracker) WriteHeader(code int) {
	if t.status == 0 {
		t.status = code
	}
	t.ResponseWriter.WriteHeader(code)
}

func (t *tracker) Write(b []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return t.ResponseWriter.Write(b)
}

func (t *tracker) Flush() { _ = http.NewResponseController(t.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the writer below.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// sse writes one server-sent event and flushes it.
func sse(w http.ResponseWriter, event string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err) // only maps of plain values are given
	}
	if event != "" {
		_, _ = fmt.Fprintf(w, "event: %s\n", event)
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", b)
	_ = http.NewResponseController(w).Flush()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
