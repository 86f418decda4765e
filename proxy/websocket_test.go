package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/websocket"
)

const realtime = "wss://" + modelHost + "/v1/realtime?model=gpt-realtime"

// accept makes the provider a WebSocket server.
func (r *rig) accept(t testing.TB, o *coder.AcceptOptions, serve func(ctx context.Context, c *coder.Conn, req *http.Request)) {
	t.Helper()
	r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
		c, err := coder.Accept(w, req, o)
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		c.SetReadLimit(1 << 22)
		defer func() { _ = c.CloseNow() }()
		serve(context.WithoutCancel(req.Context()), c, req)
	})
}

// socket makes the caller a WebSocket client.
func (r *rig) socket(t testing.TB, o *coder.DialOptions) *coder.Conn {
	t.Helper()
	if o == nil {
		o = &coder.DialOptions{}
	}
	o.HTTPClient = r.client(t, false)
	o.HTTPClient.Timeout = 0 // it would count for the connection
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, res, err := coder.Dial(ctx, realtime, o)
	if err != nil {
		t.Fatalf("dial: %v %v", err, res)
	}
	c.SetReadLimit(1 << 22)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func read(t testing.TB, c *coder.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	must(t, err)
	return string(b)
}

func say(t testing.TB, c *coder.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, c.Write(ctx, coder.MessageText, []byte(text)))
}

// echoMessages answers every message with itself.
func echoMessages(ctx context.Context, c *coder.Conn, _ *http.Request) {
	for {
		kind, b, err := c.Read(ctx)
		if err != nil {
			return
		}
		if err := c.Write(ctx, kind, b); err != nil {
			return
		}
	}
}

func event(text string) string {
	return `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":` + quote(text) + `}]}}`
}

// Every message reaches the other end as it was sent, whatever the ends agreed on, and each of the caller's was judged.
func TestWebSocketMessages(t *testing.T) {
	for _, compression := range []coder.CompressionMode{coder.CompressionDisabled, coder.CompressionNoContextTakeover, coder.CompressionContextTakeover} {
		for _, mode := range allModes[:3] {
			t.Run(fmt.Sprint(compression, " ", mode), func(t *testing.T) {
				r := newRig(t)
				r.gate.mode = mode
				r.accept(t, &coder.AcceptOptions{CompressionMode: compression, CompressionThreshold: 1}, echoMessages)
				c := r.socket(t, &coder.DialOptions{CompressionMode: compression, CompressionThreshold: 1})
				random := rand.New(rand.NewPCG(3, 4))
				var sent []string
				for i := range 40 {
					text := event(strings.Repeat(fmt.Sprint("word ", i%3, " é🙂 "), random.IntN(4000)))
					if i%10 == 0 {
						text = event("")
					}
					say(t, c, text)
					if got := read(t, c); got != text {
						t.Fatalf("message %d came back as %.100q", i, got)
					}
					sent = append(sent, text)
				}
				must(t, c.Close(coder.StatusNormalClosure, "done"))
				asked := r.gate.requests()
				if len(asked) != len(sent)+1 || asked[0].Message || asked[0].Destination.Method != "GET" {
					t.Fatalf("the gate was asked %d times", len(asked))
				}
				for i, text := range sent {
					if q := asked[i+1]; string(q.Body) != text || !q.Message || q.Destination.Path != "/v1/realtime" || q.ContentType != "application/json" || q.ID == asked[0].ID {
						t.Fatalf("message %d was judged as %.100q %+v", i, q.Body, q.Destination)
					}
				}
				for range sent {
					if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeReleased || rec.Status != 0 {
						t.Errorf("record of a message %+v", rec)
					}
				}
				if rec := r.records.next(t); rec.ID != asked[0].ID || rec.Status != 101 || rec.UpstreamError != "" || rec.ResponseBytes == 0 || rec.TotalMicros == 0 {
					t.Errorf("record of the connection %+v", rec)
				}
				r.records.none(t)
			})
		}
	}
}

// A message that is refused never reaches the provider; the connection goes on, and what follows can be read by both ends though it resembles what
// the provider never saw.
func TestWebSocketRefusedMessage(t *testing.T) {
	for _, compression := range []coder.CompressionMode{coder.CompressionDisabled, coder.CompressionContextTakeover} {
		t.Run(fmt.Sprint(compression), func(t *testing.T) {
			r := newRig(t)
			r.gate.decide = func(q *gate.Request) bool { return !bytes.Contains(q.Body, []byte("secret")) }
			reached := make(chan string, 16)
			r.accept(t, &coder.AcceptOptions{CompressionMode: compression, CompressionThreshold: 1}, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
				for {
					kind, b, err := c.Read(ctx)
					if err != nil {
						return
					}
					reached <- string(b)
					_ = c.Write(ctx, kind, b)
				}
			})
			c := r.socket(t, &coder.DialOptions{CompressionMode: compression, CompressionThreshold: 1})
			long := strings.Repeat("the customers of the shop in order of their names; ", 50)
			for range 3 {
				say(t, c, event("secret "+long))
				if got := read(t, c); !strings.Contains(got, decidedRule) || !strings.Contains(got, `"type":"error"`) {
					t.Fatalf("refused with %q", got)
				}
				say(t, c, event("public "+long))
				if got := read(t, c); got != event("public "+long) || <-reached != got {
					t.Fatalf("after a refusal: %.100q", got)
				}
			}
			must(t, c.Close(coder.StatusNormalClosure, ""))
			var refused int
			for range 7 {
				if rec := r.records.next(t); rec.Outcome == telemetry.OutcomeRefused {
					refused++
				}
			}
			if refused != 3 || len(reached) != 0 {
				t.Errorf("%d refused, %d too many reached the provider", refused, len(reached))
			}
		})
	}
}

func TestWebSocketHandshake(t *testing.T) {
	t.Run("headers", func(t *testing.T) {
		r := newRig(t)
		seen := make(chan http.Header, 1)
		r.accept(t, &coder.AcceptOptions{Subprotocols: []string{"realtime"}}, func(ctx context.Context, c *coder.Conn, req *http.Request) {
			seen <- req.Header
			echoMessages(ctx, c, req)
		})
		c := r.socket(t, &coder.DialOptions{Subprotocols: []string{"realtime", "openai-insecure-api-key.sk-of-the-caller", "openai-beta.realtime-v1"}, HTTPHeader: http.Header{"Authorization": {"Bearer caller"}, "Openai-Beta": {"realtime=v1"}}})
		h := <-seen
		if h.Get("Authorization") != "Bearer "+apiKey || h.Get("Openai-Beta") != "realtime=v1" || strings.Contains(fmt.Sprint(h), "sk-of-the-caller") || !strings.Contains(fmt.Sprint(h["Sec-Websocket-Protocol"]), "openai-beta.realtime-v1") {
			t.Errorf("headers %v", h)
		}
		if c.Subprotocol() != "realtime" {
			t.Errorf("sub-protocol %q", c.Subprotocol())
		}
	})
	dial := func(t *testing.T, r *rig, target string, edit ...string) *http.Response {
		t.Helper()
		head := "GET " + target + " HTTP/1.1\r\nHost: " + modelHost + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
		return r.raw(t, strings.NewReplacer(edit...).Replace(head))
	}
	t.Run("refused by the policy", func(t *testing.T) {
		r := newRig(t)
		r.gate.decide = func(*gate.Request) bool { return false }
		r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
		res := dial(t, r, "/v1/realtime?model=x")
		if b := readAll(t, res); res.StatusCode != 403 || !strings.Contains(b, decidedRule) || res.Header.Get("Retry-After") != "" {
			t.Errorf("%d %q", res.StatusCode, b)
		}
	})
	for name, tc := range map[string]struct {
		target string
		mode   policy.ResponseMode
		edit   []string
		status int
		rule   string
	}{
		"a surface without":    {"/v1/models", "", nil, 403, "PROXY-UPGRADE"},
		"hold all":             {"/v1/realtime/translations?model=x", policy.ResponseHoldAll, nil, 403, ruleHoldAll},
		"a body":               {"/v1/realtime?model=x", "", []string{"Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 2", "\r\n\r\n", "\r\n\r\n{}"}, 400, "PROXY-UPGRADE"},
		"another version":      {"/v1/realtime?model=x", "", []string{"Version: 13", "Version: 8"}, 400, "PROXY-UPGRADE"},
		"another method":       {"/v1/realtime?model=x", "", []string{"GET ", "PUT "}, 400, "PROXY-UPGRADE"},
		"another upgrade, too": {"/v1/realtime?model=x", "", []string{"Upgrade: websocket", "Upgrade: websocket, h2c"}, 400, "PROXY-UPGRADE"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.gate.mode = tc.mode
			r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
			res := dial(t, r, tc.target, tc.edit...)
			b := readAll(t, res)
			if rec := r.records.next(t); res.StatusCode != tc.status || !strings.Contains(b, tc.rule) || rec.Rule != tc.rule {
				t.Errorf("%d %q, rule %s", res.StatusCode, b, rec.Rule)
			}
		})
	}
	t.Run("the provider wants plain HTTP", func(t *testing.T) {
		r := newRig(t)
		r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusUpgradeRequired)
			_, _ = io.WriteString(w, `{"error":{}}`)
		})
		if res := dial(t, r, "/v1/realtime?model=x"); res.StatusCode != 426 || res.Header.Get("Retry-After") != "7" || readAll(t, res) != `{"error":{}}` {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
	})
	for name, answer := range map[string]string{
		"another key":            "Sec-WebSocket-Accept: x\r\n",
		"unoffered extension":    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
		"unoffered sub-protocol": "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: other\r\n",
	} {
		t.Run("the provider answers with "+name, func(t *testing.T) {
			r := newRig(t)
			r.provider(t, false, func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+answer+"\r\n")
					_ = c.Close()
				}
			})
			if res := dial(t, r, "/v1/realtime?model=x"); res.StatusCode != 502 {
				t.Errorf("%d", res.StatusCode)
			}
		})
	}
}

// wire is a WebSocket by hand.
type wire struct {
	t  testing.TB
	c  io.ReadWriter
	in *websocket.Reader
	r  *bufio.Reader
}

func (w wire) send(b []byte) {
	w.t.Helper()
	_, err := w.c.Write(b)
	must(w.t, err)
}

func (w wire) next() (websocket.Frame, string) {
	w.t.Helper()
	f, err := w.in.Next()
	must(w.t, err)
	p, err := w.in.Payload(nil)
	must(w.t, err)
	return f, string(p)
}

// ended reads until the connection ends and returns the close code before it, 0 where there was none.
func (w wire) ended() (code uint16, before string) {
	w.t.Helper()
	for {
		f, err := w.in.Next()
		if err != nil {
			return code, before
		}
		p, err := w.in.Payload(nil)
		if err != nil {
			return code, before
		}
		if f.Opcode == websocket.Close {
			if len(p) >= 2 {
				code = binary.BigEndian.Uint16(p)
			}
			w.send(websocket.AppendClose(nil, 1000, "", &[4]byte{1, 2, 3, 4}))
			continue
		}
		before += string(p)
	}
}

// byHand connects a caller and a provider that both write frames by hand.
func (r *rig) byHand(t testing.TB, extensions string, provider func(wire)) wire {
	t.Helper()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	done := make(chan struct{})
	r.provider(t, false, func(w http.ResponseWriter, req *http.Request) {
		defer close(done)
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(patience))
		answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + websocket.Accept(key) + "\r\n"
		if extensions != "" {
			answer += "Sec-WebSocket-Extensions: " + extensions + "\r\n"
		}
		_, _ = io.WriteString(c, answer+"\r\n")
		provider(wire{t, c, websocket.NewReader(buffered.Reader, websocket.Options{Masked: true, Deflate: extensions != ""}), buffered.Reader})
	})
	c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost, NextProtos: []string{"http/1.1"}})
	t.Cleanup(func() {
		_ = c.Close()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the provider's side did not end")
		}
	})
	offer := ""
	if extensions != "" {
		offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	_, err := io.WriteString(c, "GET /v1/realtime?model=x HTTP/1.1\r\nHost: "+modelHost+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+offer+"Sec-WebSocket-Key: "+key+"\r\n\r\n")
	must(t, err)
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	if res.StatusCode != 101 || res.Header.Get("Connection") != "Upgrade" || res.Header.Get(decisionHeader) == "" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	if extensions != "" && !strings.Contains(res.Header.Get("Sec-Websocket-Extensions"), "client_no_context_takeover") {
		t.Errorf("extensions %q", res.Header.Get("Sec-Websocket-Extensions"))
	}
	return wire{t, c, websocket.NewReader(in, websocket.Options{Deflate: extensions != ""}), in}
}

var maskKey = &[4]byte{9, 8, 7, 6}

// frame is a frame of a caller's.
func frame(op websocket.Opcode, fin bool, payload string) []byte {
	return websocket.AppendFrame(nil, websocket.Frame{Fin: fin, Opcode: op}, maskKey, []byte(payload))
}

// No frame of a message arrives before the message was judged; then they arrive as they were sent. What is said between them arrives at once.
func TestWebSocketFragments(t *testing.T) {
	r := newRig(t)
	judging, goOn := make(chan struct{}), make(chan struct{})
	r.gate.decide = func(q *gate.Request) bool {
		if q.Message {
			judging <- struct{}{}
			<-goOn
		}
		return true
	}
	arrived := make(chan string, 16)
	c := r.byHand(t, "", func(w wire) {
		for {
			f, err := w.in.Next()
			if err != nil {
				return
			}
			p, _ := w.in.Payload(nil)
			arrived <- fmt.Sprintf("%x %v %s", byte(f.Opcode), f.Fin, p)
		}
	})
	message := event("é") // cut inside the letter
	i := strings.Index(message, "é") + 1
	var all []byte
	all = append(all, frame(websocket.Text, false, message[:i])...)
	all = append(all, frame(websocket.Ping, true, "are you there")...)
	all = append(all, frame(websocket.Continuation, false, "")...)
	all = append(all, frame(websocket.Continuation, true, message[i:])...)
	for _, b := range all { // each byte in a record of its own
		c.send([]byte{b})
	}
	if got := <-arrived; got != "9 true are you there" {
		t.Errorf("first %q arrived", got)
	}
	<-judging
	select {
	case got := <-arrived:
		t.Errorf("%q arrived before the decision", got)
	default:
	}
	goOn <- struct{}{}
	for _, want := range []string{"1 false " + message[:i], "0 false ", "0 true " + message[i:]} {
		if got := <-arrived; got != want {
			t.Errorf("%q arrived, want %q", got, want)
		}
	}
	if q := r.gate.requests()[1]; string(q.Body) != message {
		t.Errorf("judged was %q", q.Body)
	}
}

// The provider's frames go on as they are, wherever the network cuts them.
func TestWebSocketProvidersFrames(t *testing.T) {
	for _, mode := range allModes[:3] {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			r.gate.mode = mode
			var all []byte
			server := func(f websocket.Frame, payload string) {
				all = websocket.AppendFrame(all, f, nil, []byte(payload))
			}
			server(websocket.Frame{Opcode: websocket.Text}, `{"type":"session.cr`)
			server(websocket.Frame{Opcode: websocket.Pong, Fin: true}, "pong")
			server(websocket.Frame{Opcode: websocket.Continuation, Fin: true}, `eated"}`)
			server(websocket.Frame{Opcode: websocket.Binary, Fin: true}, strings.Repeat("\x00", 300))
			server(websocket.Frame{Opcode: websocket.Text, Fin: true}, "")
			server(websocket.Frame{Opcode: websocket.Text, Fin: true}, `{"type":"response.done","response":{"id":"r","status":"completed","output":[],"usage":{"total_tokens":5,"input_tokens":2,"output_tokens":3}}}`)
			all = websocket.AppendClose(all, 4001, "enough", nil)
			c := r.byHand(t, "", func(w wire) {
				for _, b := range all {
					w.send([]byte{b})
				}
				if f, p := w.next(); f.Opcode != websocket.Close || p != "\x03\xe8bye" {
					t.Errorf("the answer to closing is %+v %q", f, p)
				}
			})
			got := make([]byte, 0, len(all))
			for len(got) < len(all) {
				b, err := c.r.ReadByte()
				must(t, err)
				got = append(got, b)
			}
			c.send(frame(websocket.Close, true, "\x03\xe8bye"))
			if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
				t.Errorf("then %x", rest)
			}
			if mode == policy.ResponseObserve && !bytes.Equal(got, all) {
				t.Errorf("got %x, sent was %x", got, all)
			}
			if len(got) != len(all) || !bytes.HasSuffix(got, all[len(all)-100:]) {
				t.Errorf("got %q", got)
			}
			if rec := r.records.next(t); rec.Usage.OutputTokens != 3 || rec.UpstreamError != "" {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestWebSocketBreaches(t *testing.T) {
	big := strings.Repeat("x", 2000)
	for name, tc := range map[string]struct {
		send     []byte
		code     uint16
		rule     string
		findings []string // that the gate has for it
	}{
		"binary":             {frame(websocket.Binary, true, "{}"), 1008, "PROXY-MESSAGE", nil},
		"not UTF-8":          {frame(websocket.Text, true, "{\"\xff\"}"), 1007, "PROXY-MESSAGE", nil},
		"half a letter":      {frame(websocket.Text, true, "{\"\xc3"), 1007, "PROXY-MESSAGE", nil},
		"unmasked":           {websocket.AppendFrame(nil, websocket.Frame{Fin: true, Opcode: websocket.Text}, nil, []byte("{}")), 1002, "PROXY-MESSAGE", nil},
		"reserved bits":      {append([]byte{0xb1}, frame(websocket.Text, true, "{}")[1:]...), 1002, "PROXY-MESSAGE", nil},
		"compressed":         {append([]byte{0xc1}, frame(websocket.Text, true, "{}")[1:]...), 1002, "PROXY-MESSAGE", nil},
		"nothing continued":  {frame(websocket.Continuation, true, "{}"), 1002, "PROXY-MESSAGE", nil},
		"too large":          {frame(websocket.Text, true, big), 1009, "PROXY-MESSAGE", nil},
		"too large together": {append(frame(websocket.Text, false, big[:600]), frame(websocket.Continuation, true, big[:600])...), 1009, "PROXY-MESSAGE", nil},
		"not JSON":           {frame(websocket.Text, true, "hello"), 1008, decidedRule, []string{"unparseable"}},
		"half a close":       {frame(websocket.Close, true, "\x03"), 1002, "PROXY-MESSAGE", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.snap.MaxRequestBytes = 1000
			must(t, r.p.Update(r.snap))
			r.gate.decide = func(q *gate.Request) bool { return !q.Message || string(q.Body) != "hello" }
			r.gate.findings = tc.findings
			c := r.byHand(t, "", func(w wire) {
				if f, err := w.in.Next(); err == nil && f.Opcode != websocket.Close {
					t.Errorf("a frame %+v reached the provider", f)
				}
			})
			c.send(tc.send)
			code, before := c.ended()
			if code != tc.code || !strings.Contains(before, tc.rule) {
				t.Errorf("closed with %d after %q", code, before)
			}
			if rec := r.records.next(t); rec.Rule != tc.rule || rec.Outcome != telemetry.OutcomeRefused {
				t.Errorf("record %+v", rec)
			}
			r.records.next(t) // the connection's
			r.records.none(t)
		})
	}
}

// A compressed message is judged as what it says, and its own bytes go on.
func TestWebSocketCompressedByHand(t *testing.T) {
	r := newRig(t)
	arrived := make(chan string, 4)
	c := r.byHand(t, "permessage-deflate", func(w wire) {
		for {
			f, err := w.in.Next()
			if err != nil || f.Opcode == websocket.Close {
				return
			}
			p, _ := w.in.Payload(nil)
			arrived <- fmt.Sprintf("%v %x", f.Compressed, p)
		}
	})
	// {"a":1} in a stored block, which no compressor would write.
	stored := "\x00\x07\x00\xf8\xff{\"a\":1}\x00"
	c.send(websocket.AppendFrame(nil, websocket.Frame{Fin: true, Compressed: true, Opcode: websocket.Text}, maskKey, []byte(stored)))
	if got := <-arrived; got != fmt.Sprintf("true %x", stored) {
		t.Errorf("%s arrived", got)
	}
	if q := r.gate.requests()[1]; string(q.Body) != `{"a":1}` {
		t.Errorf("judged was %q", q.Body)
	}
	c.send(websocket.AppendFrame(nil, websocket.Frame{Fin: true, Compressed: true, Opcode: websocket.Text}, maskKey, []byte("\xff\xff")))
	if code, _ := c.ended(); code != 1007 {
		t.Errorf("closed with %d", code)
	}
}

func item(kind, id, rest string) string {
	return `{"type":"` + kind + `","response_id":"resp_1","output_index":0,"item_id":"item_1","call_id":"` + id + `"` + rest + `}`
}

// The provider's messages while it asks for a tool.
var calling = []string{
	`{"type":"response.output_item.added","response_id":"resp_1","output_index":0,"item":{"id":"item_1","object":"realtime.item","type":"function_call","status":"in_progress","name":"send_mail","call_id":"c1","arguments":""}}`,
	item("response.function_call_arguments.delta", "c1", `,"delta":"{\"to\":"`),
	item("response.function_call_arguments.delta", "c1", `,"delta":"\"x\"}"`),
	item("response.function_call_arguments.done", "c1", `,"name":"send_mail","arguments":"{\"to\":\"x\"}"`),
	`{"type":"response.output_item.done","response_id":"resp_1","output_index":0,"item":{"id":"item_1","object":"realtime.item","type":"function_call","status":"completed","name":"send_mail","call_id":"c1","arguments":"{\"to\":\"x\"}"}}`,
}

func TestWebSocketToolCalls(t *testing.T) {
	for _, mode := range allModes[1:3] {
		for _, allowed := range []bool{true, false} {
			for _, compression := range []coder.CompressionMode{coder.CompressionDisabled, coder.CompressionContextTakeover} {
				t.Run(fmt.Sprint(mode, " ", allowed, " ", compression), func(t *testing.T) {
					r := newRig(t, func(o *Options) { o.Timeouts.Hold = 5 * time.Millisecond })
					r.gate.mode = mode
					if !allowed {
						r.gate.decideReply = denyTool("send_mail")
					}
					ponged, left := make(chan struct{}), make(chan struct{})
					r.accept(t, &coder.AcceptOptions{CompressionMode: compression, CompressionThreshold: 1, OnPongReceived: func(context.Context, []byte) {
						t.Error("the answer to our ping reached the provider")
					}}, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
						defer close(left)
						_, _, _ = c.Read(ctx)
						for i, m := range append([]string{`{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}`}, calling...) {
							if i == 3 && mode == policy.ResponseHoldToolCalls {
								<-ponged
							}
							_ = c.Write(ctx, coder.MessageText, []byte(m))
						}
						_, _, err := c.Read(ctx)
						for err == nil {
							_, _, err = c.Read(ctx)
						}
					})
					pings := 0
					c := r.socket(t, &coder.DialOptions{CompressionMode: compression, CompressionThreshold: 1, OnPingReceived: func(_ context.Context, p []byte) bool {
						if pings++; pings == 2 && string(p) == holdPing {
							close(ponged)
						}
						return true
					}})
					say(t, c, `{"type":"response.create"}`)
					if got := read(t, c); !strings.Contains(got, "response.created") {
						t.Fatalf("got %q", got)
					}
					var got []string
					var err error
					for len(got) < len(calling) {
						var b []byte
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						_, b, err = c.Read(ctx)
						cancel()
						if err != nil {
							break
						}
						got = append(got, string(b))
					}
					if allowed {
						if fmt.Sprint(got) != fmt.Sprint(calling) {
							t.Errorf("got %q %v", got, err)
						}
						must(t, c.Close(coder.StatusNormalClosure, ""))
					} else {
						var closed coder.CloseError
						if !errors.As(err, &closed) || closed.Code != coder.StatusPolicyViolation || len(got) == 0 || !strings.Contains(got[len(got)-1], decidedRule) {
							t.Errorf("got %q %v", got, err)
						}
						if mode == policy.ResponseHoldToolCalls && strings.Contains(strings.Join(got[:len(got)-1], ""), "send_mail") {
							t.Errorf("got %q", got)
						}
						if strings.Contains(strings.Join(got, ""), "output_item.done") {
							t.Errorf("the completed call came through: %q", got)
						}
					}
					select {
					case <-left:
					case <-time.After(patience):
						t.Fatal("the provider's connection was not ended")
					}
					r.records.next(t)
					rec := r.records.next(t)
					if allowed && rec.Outcome != telemetry.OutcomeReleased || !allowed && (rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != decidedRule) || fmt.Sprint(rec.ResponseToolCalls) != "[send_mail]" {
						t.Errorf("record %+v", rec)
					}
					if (rec.HeldToolCalls == 1) != (mode == policy.ResponseHoldToolCalls) {
						t.Errorf("%d held", rec.HeldToolCalls)
					}
				})
			}
		}
	}
}

// Where all of a response is held, what is none goes on at once, and each response when it has ended and was judged.
func TestWebSocketHoldAll(t *testing.T) {
	created := `{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}`
	saying := `{"type":"response.output_text.delta","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"Hello"}`
	done := `{"type":"response.done","response":{"id":"resp_1","status":"completed","output":[]}}`
	for _, compression := range []coder.CompressionMode{coder.CompressionDisabled, coder.CompressionContextTakeover} {
		t.Run(fmt.Sprint(compression), func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Timeouts.Hold = 5 * time.Millisecond })
			r.gate.mode = policy.ResponseHoldAll
			r.gate.decideReply = denyTool("send_mail")
			ponged := make(chan struct{})
			r.accept(t, &coder.AcceptOptions{CompressionMode: compression, CompressionThreshold: 1}, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
				say := func(messages ...string) {
					for _, m := range messages {
						_ = c.Write(ctx, coder.MessageText, []byte(m)) // the caller may have had enough
					}
				}
				say(`{"type":"session.created"}`)
				_, _, _ = c.Read(ctx)
				say(created, saying, saying, `{"type":"rate_limits.updated"}`)
				<-ponged // the caller has answered, and heard nothing yet
				say(done, `{"type":"rate_limits.updated"}`)
				_, _, _ = c.Read(ctx)
				say(slices.Concat([]string{created, saying}, calling, []string{done})...)
				_, _, _ = c.Read(ctx)
			})
			pings, answered := 0, make(chan struct{})
			c := r.socket(t, &coder.DialOptions{CompressionMode: compression, CompressionThreshold: 1, OnPingReceived: func(_ context.Context, p []byte) bool {
				if pings++; pings == 2 && string(p) == holdPing {
					close(answered)
				}
				return true
			}})
			if got := read(t, c); got != `{"type":"session.created"}` {
				t.Fatalf("got %q", got)
			}
			say(t, c, `{"type":"response.create"}`)
			first := make(chan string)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, b, err := c.Read(ctx)
				if err != nil {
					b = []byte(err.Error())
				}
				first <- string(b)
			}()
			select {
			case got := <-first:
				t.Fatalf("%q came before the response had ended", got)
			case <-answered:
				close(ponged)
			}
			got := []string{<-first}
			for len(got) < 6 {
				got = append(got, read(t, c))
			}
			limits := `{"type":"rate_limits.updated"}`
			if want := []string{created, saying, saying, limits, done, limits}; !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
			for _, reply := range r.gate.judgedReplies() {
				if len(reply.ToolCalls) > 0 {
					t.Errorf("judged was %+v", reply)
				}
			}
			say(t, c, `{"type":"response.create"}`)
			if got := read(t, c); !strings.Contains(got, decidedRule) || strings.Contains(got, "Hello") {
				t.Errorf("of the denied response came %q", got)
			}
			var closed coder.CloseError
			if _, _, err := c.Read(t.Context()); !errors.As(err, &closed) || closed.Code != coder.StatusPolicyViolation {
				t.Errorf("%v", err)
			}
			r.records.next(t)
			r.records.next(t)
			if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != decidedRule || rec.HeldToolCalls != 1 {
				t.Errorf("record %+v", rec)
			}
		})
	}
	t.Run("too long", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Limits.HeldResponse = 2000 })
		r.gate.mode = policy.ResponseHoldAll
		r.accept(t, nil, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
			for c.Write(ctx, coder.MessageText, []byte(saying)) == nil {
			}
		})
		c := r.socket(t, nil)
		if got := read(t, c); !strings.Contains(got, ruleHeldTooLarge) {
			t.Errorf("got %q", got)
		}
		if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != ruleHeldTooLarge {
			t.Errorf("record %+v", rec)
		}
	})
}

// A connection may have any number of tool calls, one after another, though a response may not.
func TestWebSocketManyToolCalls(t *testing.T) {
	const responses = 2*mostToolCalls + 10
	r := newRig(t)
	r.gate.mode = policy.ResponseHoldToolCalls
	r.gate.decideReply = func(reply llm.Reply, _ int) bool {
		return len(reply.ToolCalls) == 0 || string(reply.ToolCalls[len(reply.ToolCalls)-1].Arguments) != `{"to":"last"}`
	}
	message := func(i int, m string) string {
		n := fmt.Sprint(i)
		if i == responses-1 {
			m = strings.ReplaceAll(m, `"x\`, `"last\`)
		}
		return strings.NewReplacer("resp_1", "resp_"+n, "item_1", "item_"+n, "c1", "c"+n).Replace(m)
	}
	r.accept(t, nil, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
		for i := range responses {
			for _, m := range calling {
				if c.Write(ctx, coder.MessageText, []byte(message(i, m))) != nil {
					return
				}
			}
		}
		_, _, _ = c.Read(ctx)
	})
	c := r.socket(t, nil)
	for i := range responses - 1 {
		for _, m := range calling {
			if got := read(t, c); got != message(i, m) {
				t.Fatalf("response %d: %q", i, got)
			}
		}
	}
	if got := read(t, c); !strings.Contains(got, decidedRule) {
		t.Errorf("the last one: %q", got)
	}
	if _, _, err := c.Read(t.Context()); coder.CloseStatus(err) != coder.StatusPolicyViolation {
		t.Errorf("ended with %v", err)
	}
	if rec := r.records.next(t); rec.HeldToolCalls < responses { // one of which more is said after it was forgotten counts twice
		t.Errorf("%d held", rec.HeldToolCalls)
	}
}

// An end that goes away takes the other with it.
func TestWebSocketEndsTogether(t *testing.T) {
	t.Run("the caller", func(t *testing.T) {
		r := newRig(t)
		gone := make(chan error, 1)
		r.accept(t, nil, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
			_, _, err := c.Read(ctx)
			gone <- err
		})
		c := r.socket(t, nil)
		must(t, c.CloseNow())
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatal("the provider's connection is still there")
		}
		if rec := r.records.next(t); rec.UpstreamError != "caller_gone" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("the provider", func(t *testing.T) {
		r := newRig(t)
		r.accept(t, nil, func(_ context.Context, c *coder.Conn, _ *http.Request) { _ = c.CloseNow() })
		c := r.socket(t, nil)
		if _, _, err := c.Read(t.Context()); err == nil || coder.CloseStatus(err) == coder.StatusNormalClosure {
			t.Errorf("the caller sees %v", err)
		}
		if rec := r.records.next(t); rec.UpstreamError != "broken" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("close codes", func(t *testing.T) {
		r := newRig(t)
		seen := make(chan error, 1)
		r.accept(t, nil, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
			_, _, err := c.Read(ctx)
			seen <- err
		})
		c := r.socket(t, nil)
		must(t, c.Close(4321, "my reasons"))
		if err := <-seen; coder.CloseStatus(err) != 4321 || !strings.Contains(err.Error(), "my reasons") {
			t.Errorf("the provider sees %v", err)
		}
		if rec := r.records.next(t); rec.UpstreamError != "" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("nobody says anything", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Timeouts.Idle = 50 * time.Millisecond })
		r.accept(t, nil, echoMessages)
		c := r.socket(t, nil)
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Error("still there")
		}
		if rec := r.records.next(t); rec.UpstreamError != "idle_timeout" {
			t.Errorf("record %+v", rec)
		}
	})
}

// What holds for calls that begin now holds for messages on a connection that began before.
func TestWebSocketSettingsOfNow(t *testing.T) {
	r := newRig(t)
	r.gate.decide = func(q *gate.Request) bool { return !q.KillSwitch }
	r.accept(t, nil, echoMessages)
	c := r.socket(t, nil)
	say(t, c, event("a"))
	read(t, c)
	r.snap.KillSwitch = true
	must(t, r.p.Update(r.snap))
	say(t, c, event("b"))
	if got := read(t, c); !strings.Contains(got, decidedRule) {
		t.Errorf("with the kill switch: %q", got)
	}
	r.snap.KillSwitch, r.snap.Providers = false, nil
	must(t, r.p.Update(r.snap))
	say(t, c, event("c"))
	if got := read(t, c); !strings.Contains(got, "PROXY-MESSAGE") {
		t.Errorf("without the provider: %q", got)
	}
}

// A message that the policy edits goes on as it was edited.
func TestWebSocketEditedMessage(t *testing.T) {
	r := newRig(t)
	r.gate.edit = func(q *gate.Request) []byte {
		if !q.Message {
			return nil
		}
		return bytes.ReplaceAll(q.Body, []byte("4111"), []byte("****"))
	}
	r.accept(t, &coder.AcceptOptions{CompressionMode: coder.CompressionContextTakeover, CompressionThreshold: 1}, echoMessages)
	c := r.socket(t, &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover, CompressionThreshold: 1})
	for range 3 {
		say(t, c, event("card 4111"))
		if got := read(t, c); got != event("card ****") {
			t.Errorf("the provider got %q", got)
		}
	}
}
