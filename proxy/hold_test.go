package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// allModes are the response modes, in the order of their strictness.
var allModes = []policy.ResponseMode{policy.ResponseObserve, policy.ResponseCut, policy.ResponseHoldToolCalls, policy.ResponseHoldAll}

// chunk is an event of OpenAI's chat completions.
func chunk(delta string, more ...string) string {
	finish := "null"
	if len(more) > 0 {
		finish = `"` + more[0] + `"`
	}
	return `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}` + "\n\n"
}

func textChunk(text string) string { return chunk(`{"content":` + quote(text) + `}`) }

func toolChunk(index int, name, arguments string) string {
	head := ""
	if name != "" {
		head = fmt.Sprintf(`"id":"call_%d","type":"function",`, index)
	}
	f := `"arguments":` + quote(arguments)
	if name != "" {
		f = `"name":` + quote(name) + `,` + f
	}
	return chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,%s"function":{%s}}]}`, index, head, f))
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// The events of a stream that says something, asks for two tools, and says how much it cost.
var (
	saying    = textChunk("Let me see – ") + textChunk("one moment 🙂.")
	asking    = toolChunk(0, "read_file", "") + toolChunk(0, "", `{"path":`) + toolChunk(0, "", `"/etc/passwd"}`) + toolChunk(1, "send_mail", `{"to":"x@`) + toolChunk(1, "", `y.example"}`)
	finishing = chunk(`{}`, "tool_calls") + `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":20,"total_tokens":23}}` + "\n\ndata: [DONE]\n\n"
)

// bench is a proxy without network, for a response that comes as a test says.
func bench(t testing.TB, g *stubGate, mode policy.ResponseMode) *Proxy {
	t.Helper()
	p, err := New(Options{Gate: g, Recorder: make(records, 16), Minter: certs.NewMinter(), Registerer: prometheus.NewRegistry()})
	must(t, err)
	g.mode = mode
	return p
}

// respondWith passes a response on to a recorder, as a call to the row's surface would.
func respondWith(t testing.TB, p *Proxy, row *llm.Row, mode policy.ResponseMode, contentType string, body io.Reader) (*httptest.ResponseRecorder, *telemetry.Record, bool) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/", nil)
	rec := &telemetry.Record{ID: "d-1", Outcome: telemetry.OutcomeReleased}
	c := &call{p: p, w: w, r: r, start: time.Now(), view: p.view.Load(), provider: &provider{api: "openai"}, verdict: &gate.Verdict{Release: true, Row: row, Record: rec, Response: mode}}
	res := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(body)}
	broken := func() (broken bool) {
		defer func() {
			switch e := recover().(type) {
			case nil:
			case error:
				if !errors.Is(e, http.ErrAbortHandler) {
					panic(e)
				}
				broken = true
			default:
				panic(e)
			}
		}()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		c.respond(ctx, cancel, res)
		return false
	}()
	return w, rec, broken
}

// Wherever the network cuts a stream, and whatever the mode, the caller gets the bytes that the provider sent.
func TestWhatIsAllowedIsUnchanged(t *testing.T) {
	type stream struct {
		name, contentType string
		row               *llm.Row
		body              []byte
	}
	streams := []stream{
		{"chat", "text/event-stream", surface.Lookup("openai", "POST", "/v1/chat/completions").Row, []byte(saying + asking + finishing)},
		{"chat, carriage returns", "text/event-stream; charset=utf-8", surface.Lookup("openai", "POST", "/v1/chat/completions").Row, []byte(strings.ReplaceAll(": hello\n\n"+saying+asking+finishing, "\n", "\r\n"))},
		{"chat, without its end", "text/event-stream", surface.Lookup("openai", "POST", "/v1/chat/completions").Row, []byte(strings.TrimRight(saying+asking, "\n"))},
		{"chat, whole", "application/json", surface.Lookup("openai", "POST", "/v1/chat/completions").Row, []byte(reply)},
		{"no stream at all", "text/event-stream", surface.Lookup("openai", "POST", "/v1/chat/completions").Row, []byte(reply)},
		{"sound", "audio/mpeg", surface.Lookup("openai", "POST", "/v1/audio/speech").Row, bytes.Repeat([]byte{0xff, 0xfb, 0, '\n'}, 100)},
	}
	// The streams among the codecs' own fixtures.
	for _, f := range []struct{ api, path, files, contentType string }{
		{"openai", "/v1/chat/completions", "openai/testdata/chat_completions/responses/*.sse", "text/event-stream"},
		{"openai", "/v1/responses", "openai/testdata/responses/responses/*.sse", "text/event-stream"},
		{"anthropic", "/v1/messages", "anthropic/testdata/messages/responses/*.sse", "text/event-stream"},
		{"gemini", "/v1beta/models/m:streamGenerateContent", "google/testdata/stream_generate_content/responses/*.sse", "text/event-stream"},
		{"gemini", "/v1beta/models/m:streamGenerateContent", "google/testdata/stream_generate_content/responses/*.array.json", "application/json"},
		{"bedrock", "/model/m/converse-stream", "bedrock/testdata/converse/responses/*.eventstream", "application/vnd.amazon.eventstream"},
		{"cohere", "/v1/chat", "cohere/testdata/chat_v1/responses/*.ndjson", "application/stream+json"},
	} {
		files, err := filepath.Glob(filepath.Join("..", "pkg", "llm", f.files))
		must(t, err)
		if len(files) == 0 {
			t.Errorf("no fixtures %s", f.files)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			must(t, err)
			if strings.HasSuffix(file, ".eventstream") {
				body = eventStream(body)
			}
			streams = append(streams, stream{f.api + " " + filepath.Base(file), f.contentType, surface.Lookup(f.api, "POST", f.path).Row, body})
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range streams {
		for _, mode := range allModes {
			t.Run(s.name+" "+string(mode), func(t *testing.T) {
				p := bench(t, &stubGate{}, mode)
				run := func(how string, body io.Reader) {
					t.Helper()
					w, rec, broken := respondWith(t, p, s.row, mode, s.contentType, body)
					if !bytes.Equal(w.Body.Bytes(), s.body) || broken || rec.Outcome != telemetry.OutcomeReleased || rec.ResponseBytes != int64(len(s.body)) {
						t.Fatalf("%s: %q, broken %v, record %+v", how, w.Body, broken, rec)
					}
				}
				run("whole", bytes.NewReader(s.body))
				run("byte by byte", iotest.OneByteReader(bytes.NewReader(s.body)))
				for range 20 {
					run("at random", chopped(s.body, random))
				}
			})
		}
	}
}

// eventStream makes frames of AWS's event stream of the text that stands for them in the codecs' fixtures: headers, an empty line, a payload in one line.
func eventStream(text []byte) []byte {
	var out []byte
	for len(bytes.TrimSpace(text)) > 0 {
		head, rest, _ := bytes.Cut(text, []byte("\n\n"))
		payload, rest, _ := bytes.Cut(rest, []byte("\n"))
		text = bytes.TrimLeft(rest, "\n")
		var headers []byte
		for line := range strings.SplitSeq(string(head)+"\n:content-type: application/json\n:message-type: event", "\n") {
			name, value, _ := strings.Cut(line, ": ")
			if strings.Contains(string(head), ":message-type") && name == ":message-type" && value == "event" {
				continue
			}
			headers = append(append(append(headers, byte(len(name))), name...), 7)
			headers = append(binary.BigEndian.AppendUint16(headers, uint16(len(value))), value...)
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(16+len(headers)+len(payload)))
		frame = binary.BigEndian.AppendUint32(frame, uint32(len(headers)))
		frame = binary.BigEndian.AppendUint32(frame, crc32.ChecksumIEEE(frame))
		frame = append(append(frame, headers...), payload...)
		out = append(out, binary.BigEndian.AppendUint32(frame, crc32.ChecksumIEEE(frame))...)
	}
	return out
}

// chopped gives a body in random pieces.
func chopped(body []byte, random *rand.Rand) io.Reader {
	var pieces []io.Reader
	for len(body) > 0 {
		n := min(len(body), 1+random.IntN(40))
		pieces, body = append(pieces, bytes.NewReader(body[:n])), body[n:]
	}
	return io.MultiReader(pieces...)
}

// deny refuses replies that ask for a tool.
func denyTool(name string) func(llm.Reply, int) bool {
	return func(r llm.Reply, _ int) bool {
		for _, c := range r.ToolCalls {
			if c.Name == name {
				return false
			}
		}
		return true
	}
}

func TestWhatIsDeniedIsWithheld(t *testing.T) {
	chat := surface.Lookup("openai", "POST", "/v1/chat/completions").Row
	refused := func(w *httptest.ResponseRecorder) bool {
		return strings.Contains(w.Body.String(), decidedRule) && strings.Contains(w.Body.String(), "d-1")
	}
	for name, tc := range map[string]struct {
		mode        policy.ResponseMode
		contentType string
		body        string
		decide      func(llm.Reply, int) bool
		passed      string // what comes before the refusal
		status      int
	}{
		"observe":                   {policy.ResponseObserve, "text/event-stream", saying + asking + finishing, denyTool("send_mail"), saying + asking + finishing, 200},
		"cut":                       {policy.ResponseCut, "text/event-stream", saying + asking + finishing, denyTool("send_mail"), saying + asking, 200},
		"cut at the first tool":     {policy.ResponseCut, "text/event-stream", saying + asking + finishing, denyTool("read_file"), saying + toolChunk(0, "read_file", "") + toolChunk(0, "", `{"path":`) + toolChunk(0, "", `"/etc/passwd"}`), 200},
		"hold tool calls":           {policy.ResponseHoldToolCalls, "text/event-stream", saying + asking + finishing, denyTool("send_mail"), saying, 200},
		"hold all":                  {policy.ResponseHoldAll, "text/event-stream", saying + asking + finishing, denyTool("send_mail"), "", 403},
		"hold, stream without end":  {policy.ResponseHoldToolCalls, "text/event-stream", saying + asking, denyTool("send_mail"), saying, 200},
		"hold, frame without end":   {policy.ResponseHoldToolCalls, "text/event-stream", saying + strings.TrimRight(toolChunk(0, "send_mail", "{}"), "\n"), denyTool("send_mail"), saying, 200},
		"hold, labelled as plain":   {policy.ResponseHoldToolCalls, "text/plain", toolCallReply, denyTool("send_mail"), "", 403},
		"cut, whole":                {policy.ResponseCut, "application/json", toolCallReply, denyTool("send_mail"), "", 403},
		"hold tool calls, whole":    {policy.ResponseHoldToolCalls, "application/json", toolCallReply, denyTool("send_mail"), "", 403},
		"hold all, whole":           {policy.ResponseHoldAll, "application/json", toolCallReply, denyTool("send_mail"), "", 403},
		"cut for who answers":       {policy.ResponseCut, "text/event-stream", saying + finishing, func(r llm.Reply, _ int) bool { return r.Model != "m-1" }, "", 200},
		"cut for why it ends":       {policy.ResponseCut, "text/event-stream", saying + finishing, func(r llm.Reply, _ int) bool { return r.FinishReason == "" }, saying, 200},
		"hold, the second response": {policy.ResponseHoldToolCalls, "text/event-stream", saying + toolChunk(0, "read_file", "{}") + toolChunk(1, "send_mail", "{}") + finishing, denyTool("send_mail"), saying, 200},
	} {
		t.Run(name, func(t *testing.T) {
			for how, body := range map[string]io.Reader{"whole": strings.NewReader(tc.body), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.body))} {
				g := &stubGate{decideReply: tc.decide}
				w, rec, broken := respondWith(t, bench(t, g, tc.mode), chat, tc.mode, tc.contentType, body)
				got := w.Body.String()
				if tc.mode == policy.ResponseObserve {
					if got != tc.passed || rec.Outcome != telemetry.OutcomeReleased {
						t.Errorf("%s: %q, %s", how, got, rec.Outcome)
					}
					continue
				}
				if broken || w.Code != tc.status || rec.Status != tc.status || rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != decidedRule {
					t.Errorf("%s: status %d, broken %v, record %+v", how, w.Code, broken, rec)
				}
				if !strings.HasPrefix(got, tc.passed) || !refused(w) || strings.Contains(got[len(tc.passed):], "finish_reason\":\"tool_calls") {
					t.Errorf("%s: the caller got %q, want %q and the refusal", how, got, tc.passed)
				}
				if rest := strings.TrimPrefix(got, tc.passed); tc.status == 200 && (!strings.HasPrefix(rest, "data: ") || strings.Contains(rest, "y.example")) {
					t.Errorf("%s: the stream ends with %q", how, rest)
				}
			}
		})
	}
}

const toolCallReply = `{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"send_mail","arguments":"{\"to\":\"x@y.example\"}"}}]}}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`

// What the policy is shown of a tool call is what the model wrote, once it is complete.
func TestWhatIsShownToThePolicy(t *testing.T) {
	chat := surface.Lookup("openai", "POST", "/v1/chat/completions").Row
	for _, mode := range allModes[1:] {
		g := &stubGate{}
		respondWith(t, bench(t, g, mode), chat, mode, "text/event-stream", strings.NewReader(saying+asking+finishing))
		replies := g.judgedReplies()
		if len(replies) == 0 {
			t.Fatalf("%s: nothing was judged", mode)
		}
		for _, r := range replies {
			for _, c := range r.ToolCalls {
				if !c.Done || c.Truncated || !json.Valid(c.Arguments) {
					t.Errorf("%s: shown %+v", mode, c)
				}
			}
		}
		if last := replies[len(replies)-1]; len(last.ToolCalls) != 2 || string(last.ToolCalls[1].Arguments) != `{"to":"x@y.example"}` || last.FinishReason != "tool_calls" {
			t.Errorf("%s: the last is %+v", mode, last)
		}
	}
}

func TestWhatCannotBeHeldIsWithheld(t *testing.T) {
	chat := surface.Lookup("openai", "POST", "/v1/chat/completions").Row
	long := strings.Repeat(textChunk("x"), 200)
	many := &strings.Builder{}
	for i := range mostToolCalls {
		many.WriteString(toolChunk(i, "t", "{}"))
	}
	for name, tc := range map[string]struct {
		mode        policy.ResponseMode
		limits      Limits
		contentType string
		coding      string
		body        string
		rule        string
	}{
		"tool call too long":   {policy.ResponseHoldToolCalls, Limits{HeldToolCalls: 1000}, "text/event-stream", "", saying + toolChunk(0, "t", "") + strings.Repeat(toolChunk(0, "", "xxxxxxxxxx"), 100), ruleHeldTooLarge},
		"frame too long":       {policy.ResponseCut, Limits{HeldResponse: 1000}, "text/event-stream", "", saying + textChunk(strings.Repeat("x", 1000)), ruleHeldTooLarge},
		"stream too long":      {policy.ResponseHoldAll, Limits{HeldResponse: 1000}, "text/event-stream", "", long, ruleHeldTooLarge},
		"whole too long":       {policy.ResponseCut, Limits{HeldResponse: 100}, "application/json", "", reply, ruleHeldTooLarge},
		"no memory for stream": {policy.ResponseHoldAll, Limits{Memory: 1000}, "text/event-stream", "", long, ruleHeldMemory},
		"no memory for whole":  {policy.ResponseHoldAll, Limits{Memory: 1000}, "application/json", "", long, ruleHeldMemory},
		"too many tool calls":  {policy.ResponseCut, Limits{}, "text/event-stream", "", many.String(), ruleTooManyCalls},
		"unknown coding":       {policy.ResponseCut, Limits{}, "text/event-stream", "secret", saying, ruleHeldCoding},
		"broken coding":        {policy.ResponseCut, Limits{}, "text/event-stream", "gzip", saying, ruleHeldCoding},
		"no frames":            {policy.ResponseCut, Limits{HeldResponse: 1000}, "text/event-stream", "", "data: " + strings.Repeat("x", 2000), ruleHeldTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(Options{Gate: &stubGate{}, Recorder: make(records, 16), Minter: certs.NewMinter(), Registerer: prometheus.NewRegistry(), Limits: tc.limits})
			must(t, err)
			w := httptest.NewRecorder()
			rec := &telemetry.Record{ID: "d-1", Outcome: telemetry.OutcomeReleased}
			c := &call{p: p, w: w, r: httptest.NewRequest("POST", "/", nil), view: p.view.Load(), provider: &provider{api: "openai"}, verdict: &gate.Verdict{Release: true, Row: chat, Record: rec, Response: tc.mode}}
			res := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {tc.contentType}}, Body: io.NopCloser(strings.NewReader(tc.body))}
			if tc.coding != "" {
				res.Header.Set("Content-Encoding", tc.coding)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			c.respond(ctx, cancel, res)
			if rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != tc.rule || !strings.Contains(w.Body.String(), tc.rule) || ctx.Err() == nil {
				t.Errorf("%d %q, record %+v", w.Code, w.Body, rec)
			}
			if m := p.view.Load().memory; !m.sem.TryAcquire(m.size) {
				t.Error("memory was not given back")
			}
		})
	}
}

// Text goes on at once while tool calls are held, and the caller is kept waiting.
func TestTextFlowsAndTheCallerIsKeptWaiting(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t, func(o *Options) { o.Timeouts.Hold = 5 * time.Millisecond })
		r.gate.mode = policy.ResponseHoldToolCalls
		next := make(chan struct{})
		r.provider(t, providerH2, func(w http.ResponseWriter, req *http.Request) {
			if e := req.Header.Get("Accept-Encoding"); e != "identity" {
				t.Errorf("asked for %q", e)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			say := func(s string) {
				_, _ = io.WriteString(w, s)
				_ = http.NewResponseController(w).Flush()
			}
			for range 5 { // each only after the caller has the one before
				say(textChunk("hello"))
				<-next
			}
			say(toolChunk(0, "read_file", `{"path":`))
			<-next
			say(toolChunk(0, "", `"/tmp"}`) + finishing)
		})
		req := post(t, t.Context(), strings.NewReader(`{"stream":true}`))
		req.Header.Set("Accept-Encoding", "gzip, br")
		res, err := r.client(t, callerH2).Do(req)
		must(t, err)
		in := bufio.NewReader(res.Body)
		for range 5 {
			for range 2 {
				line, err := in.ReadString('\n')
				must(t, err)
				if line != "\n" && !strings.Contains(line, "hello") {
					t.Fatalf("got %q", line)
				}
			}
			next <- struct{}{}
		}
		for range 3 {
			if line, err := in.ReadString('\n'); err != nil || line != ": keep-alive\n" {
				t.Fatalf("while held: %q %v", line, err)
			}
		}
		next <- struct{}{}
		rest, err := io.ReadAll(in)
		must(t, err)
		if got := strings.ReplaceAll(string(rest), ": keep-alive\n", ""); got != toolChunk(0, "read_file", `{"path":`)+toolChunk(0, "", `"/tmp"}`)+finishing {
			t.Errorf("then %q", got)
		}
		if rec := r.records.next(t); rec.HeldToolCalls != 1 || rec.Usage.OutputTokens != 20 || fmt.Sprint(rec.ResponseToolCalls) != "[read_file]" {
			t.Errorf("record %+v", rec)
		}
	})
}

// A caller that leaves cancels the call at the provider, whatever the mode; so does a response that is cut.
func TestEveryModeCancels(t *testing.T) {
	for _, mode := range allModes {
		for _, who := range []string{"the caller leaves", "the policy"} {
			if who == "the policy" && mode == policy.ResponseObserve {
				continue
			}
			t.Run(string(mode)+" "+who, func(t *testing.T) {
				r := newRig(t)
				r.gate.mode = mode
				if who == "the policy" {
					r.gate.decideReply = denyTool("send_mail")
				}
				there, cancelled := make(chan struct{}), make(chan struct{})
				r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, saying+asking)
					if who == "the policy" {
						_, _ = io.WriteString(w, finishing)
					}
					_ = http.NewResponseController(w).Flush()
					close(there)
					if who == "the policy" && mode == policy.ResponseHoldAll {
						return // it is asked at the end
					}
					<-req.Context().Done()
					close(cancelled)
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if who == "the caller leaves" {
					go func() {
						<-there
						cancel()
					}()
				}
				res, err := r.client(t, true).Do(post(t, ctx, strings.NewReader(`{"stream":true}`)))
				if err == nil {
					_, err = io.ReadAll(res.Body)
				}
				if who == "the caller leaves" && !errors.Is(err, context.Canceled) || who == "the policy" && err != nil {
					t.Errorf("caller's error %v", err)
				}
				if who == "the caller leaves" || mode != policy.ResponseHoldAll {
					select {
					case <-cancelled:
					case <-time.After(patience):
						t.Fatal("the provider's request was not cancelled")
					}
				}
				rec := r.records.next(t)
				if who == "the caller leaves" && rec.UpstreamError != "caller_gone" || who == "the policy" && (rec.UpstreamError != "" || rec.Outcome != telemetry.OutcomeCut) {
					t.Errorf("record %+v", rec)
				}
				r.records.none(t)
			})
		}
	}
}

// What is held when the provider breaks off is not passed on, and not taken for whole.
func TestProviderBreaksOffWhileHeld(t *testing.T) {
	for _, mode := range allModes[1:] {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			r.gate.mode = mode
			r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, saying+toolChunk(0, "send_mail", `{"to":`))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
			if err == nil {
				var b []byte
				if b, err = io.ReadAll(res.Body); mode != policy.ResponseCut && bytes.Contains(b, []byte("send_mail")) {
					t.Errorf("the caller got %q", b)
				}
			}
			if err == nil {
				t.Error("the caller takes a part for the whole")
			}
			if rec := r.records.next(t); rec.UpstreamError != "broken" {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// A response that is compressed though nobody asked is judged all the same, and goes on as it came.
func TestCompressedThoughAskedNotTo(t *testing.T) {
	zip := func(s string) string {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return z.String()
	}
	for _, mode := range allModes[1:] {
		for _, tc := range []struct{ contentType, body string }{{"text/event-stream", saying + asking + finishing}, {"application/json", toolCallReply}} {
			for _, allowed := range []bool{true, false} {
				t.Run(fmt.Sprint(mode, tc.contentType, allowed), func(t *testing.T) {
					r := newRig(t)
					r.gate.mode = mode
					if !allowed {
						r.gate.decideReply = denyTool("send_mail")
					}
					r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Content-Type", tc.contentType)
						w.Header().Set("Content-Encoding", "gzip")
						w.Header().Set("Trailer", "X-Sum")
						_, _ = io.WriteString(w, zip(tc.body))
						w.Header().Set("X-Sum", "1")
					})
					res, err := r.client(t, false).Do(post(t, t.Context(), strings.NewReader(`{}`)))
					must(t, err)
					got := readAll(t, res)
					rec := r.records.next(t)
					switch {
					case allowed && (got != zip(tc.body) || res.Header.Get("Content-Encoding") != "gzip" || res.Trailer.Get("X-Sum") != "1"):
						t.Errorf("%v %v %q", res.Header, res.Trailer, got)
					case !allowed && (res.StatusCode != 403 || res.Header.Get("Content-Encoding") != "" || !strings.Contains(got, decidedRule) || rec.Outcome != telemetry.OutcomeCut || rec.Status != 403):
						t.Errorf("%d %v %q, record %+v", res.StatusCode, res.Header, got, rec)
					}
				})
			}
		}
	}
}

// A response that was passed on as it came is judged for the record.
func TestObservedResponsesAreRecorded(t *testing.T) {
	r := newRig(t)
	r.gate.decideReply = denyTool("send_mail")
	r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, toolCallReply)
	})
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	if got := readAll(t, res); got != toolCallReply {
		t.Errorf("%q", got)
	}
	if rec := r.records.next(t); rec.ResponseAction != policy.ActionDeny || rec.Outcome != telemetry.OutcomeReleased || cmp.Or(rec.ResponseToolCalls...) != "send_mail" {
		t.Errorf("record %+v", rec)
	}
}
