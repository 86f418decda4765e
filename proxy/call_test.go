package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/canary"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/telemetry"
)

const reply = `{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`

func TestForward(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		type got struct {
			r    *http.Request
			body string
		}
		seen := make(chan got, 1)
		r.provider(t, providerH2, func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			seen <- got{req, string(b)}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", "r-1")
			w.Header().Set("Alt-Svc", `h3=":443"`)
			_, _ = io.WriteString(w, reply)
		})
		body := " \n" + bigBody(300<<10) + "\n"
		req := post(t, t.Context(), strings.NewReader(body))
		req.Header.Set("X-Api-Key", "also-of-the-caller")
		req.Header.Set("Openai-Beta", "x=1")
		req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		req.Header.Set("Tracestate", "a=b")
		res, err := r.client(t, callerH2).Do(req)
		must(t, err)
		if got := readAll(t, res); got != reply || res.StatusCode != 200 || res.Header.Get("X-Request-Id") != "r-1" || res.Header.Get("Alt-Svc") != "" {
			t.Errorf("response %d %q %v", res.StatusCode, got, res.Header)
		}
		if (res.ProtoMajor == 2) != callerH2 {
			t.Errorf("caller speaks %s", res.Proto)
		}

		up := <-seen
		if (up.r.ProtoMajor == 2) != providerH2 {
			t.Errorf("provider speaks %s", up.r.Proto)
		}
		if up.body != body || up.r.ContentLength != int64(len(body)) {
			t.Error("the body is not the one that was sent")
		}
		if up.r.Method != "POST" || up.r.RequestURI != "/v1/chat/completions?beta=1&beta=2" || up.r.Host != modelHost {
			t.Errorf("request %s %s to %s", up.r.Method, up.r.RequestURI, up.r.Host)
		}
		h := up.r.Header
		if h.Get("Authorization") != "Bearer "+apiKey || h.Get("X-Api-Key") != "" || h.Get("Openai-Beta") != "x=1" || h.Get("Content-Type") != "application/json" || h.Get("Tracestate") != "a=b" {
			t.Errorf("headers %v", h)
		}
		rec := r.records.next(t)
		if tp := telemetry.Continue(h.Get("Traceparent")); tp.TraceID != "0af7651916cd43dd8448eb211c80319c" || rec.TraceID != tp.TraceID || !strings.Contains(h.Get("Traceparent"), rec.SpanID) {
			t.Errorf("trace %q, record %q %q", h.Get("Traceparent"), rec.TraceID, rec.SpanID)
		}
		asked := r.gate.requests()
		if len(asked) != 1 || string(asked[0].Body) != body || asked[0].API != "openai" || asked[0].ContentType != "application/json" {
			t.Errorf("the gate was asked %d times", len(asked))
		}
		d := asked[0].Destination
		if fmt.Sprint(d) != "{model model https "+modelHost+" 443 POST /v1/chat/completions "+worldAddr+"}" {
			t.Errorf("destination %v", d)
		}
		if rec.Status != 200 || rec.ResponseBytes != int64(len(reply)) || rec.Usage.InputTokens != 11 || rec.Usage.OutputTokens != 7 || rec.TotalMicros < rec.FirstByteMicros || rec.FirstByteMicros == 0 {
			t.Errorf("record %+v", rec)
		}
		r.records.none(t)
	})
}

func TestRefusal(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2 ", h2), func(t *testing.T) {
			r := newRig(t)
			r.gate.decide = func(*gate.Request) bool { return false }
			r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("a refused call was forwarded") })
			res, err := r.client(t, h2).Do(post(t, t.Context(), strings.NewReader(bigBody(1000))))
			must(t, err)
			text := readAll(t, res)
			rec := r.records.next(t)
			if res.StatusCode < 400 || res.StatusCode >= 500 || res.Header.Get(decisionHeader) != rec.ID || !strings.Contains(text, decidedRule) || rec.Status != res.StatusCode {
				t.Errorf("%d %v %s", res.StatusCode, res.Header, text)
			}
			r.records.none(t)
		})
	}
}

func TestStreamEventByEvent(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		const events = 20
		seen := make(chan struct{}) // the caller has the event
		r.provider(t, providerH2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			for i := range events {
				select { // nothing is sent before the caller has all that was sent so far
				case <-seen:
				case <-time.After(patience):
					return
				}
				_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d\"}}]}\n\n", i)
				_ = http.NewResponseController(w).Flush()
			}
			<-seen
			_, _ = io.WriteString(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":20,\"total_tokens\":23}}\n\ndata: [DONE]\n\n")
		})
		res, err := r.client(t, callerH2).Do(post(t, t.Context(), strings.NewReader(`{"stream":true}`)))
		must(t, err)
		in := bufio.NewReader(res.Body)
		for i := range events {
			seen <- struct{}{}
			line, err := in.ReadString('\n')
			must(t, err)
			if !strings.Contains(line, fmt.Sprintf("%q", fmt.Sprint(i))) {
				t.Fatalf("event %d is %q", i, line)
			}
			if blank, err := in.ReadString('\n'); err != nil || blank != "\n" {
				t.Fatalf("after event %d: %q %v", i, blank, err)
			}
		}
		seen <- struct{}{}
		rest, err := io.ReadAll(in)
		if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
			t.Errorf("end %q %v", rest, err)
		}
		if rec := r.records.next(t); rec.Usage.OutputTokens != 20 || rec.UpstreamError != "" {
			t.Errorf("record %+v", rec)
		}
	})
}

// A whole response does not wait for its record.
func TestResponseBeforeItsRecord(t *testing.T) {
	taken := make(records) // by nobody, at first
	r := newRig(t, func(o *Options) { o.Recorder = taken })
	r.provider(t, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") })
	res, err := r.client(t, false).Do(post(t, t.Context(), strings.NewReader("{}")))
	must(t, err)
	if text := readAll(t, res); res.ContentLength != 6 || text != "answer" {
		t.Errorf("%d bytes: %q", res.ContentLength, text)
	}
	if rec := taken.next(t); rec.ResponseBytes != 6 || rec.Outcome != telemetry.OutcomeReleased {
		t.Errorf("record %+v", rec)
	}
}

func TestCallerGone(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		for _, phase := range []string{"before the response", "in the stream"} {
			t.Run(phase, func(t *testing.T) {
				r := newRig(t)
				there, cancelled := make(chan struct{}), make(chan struct{})
				r.provider(t, providerH2, func(w http.ResponseWriter, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
					if phase == "in the stream" {
						w.Header().Set("Content-Type", "text/event-stream")
						_, _ = io.WriteString(w, "data: 1\n\n")
						_ = http.NewResponseController(w).Flush()
					}
					close(there)
					<-req.Context().Done()
					close(cancelled)
				})
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-there
					cancel()
				}()
				res, err := r.client(t, callerH2).Do(post(t, ctx, strings.NewReader(`{}`)))
				if err == nil {
					_, err = io.ReadAll(res.Body)
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("caller's error %v", err)
				}
				select {
				case <-cancelled:
				case <-time.After(patience):
					t.Fatal("the provider's request was not cancelled")
				}
				if rec := r.records.next(t); rec.UpstreamError != "caller_gone" {
					t.Errorf("recorded as %q", rec.UpstreamError)
				}
				r.records.none(t)
			})
		}
	})
}

func TestProviderBreaksOff(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		r.provider(t, providerH2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		res, err := r.client(t, callerH2).Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("the caller takes %q for whole", b)
		}
		if rec := r.records.next(t); rec.UpstreamError != "broken" || rec.Status != 200 || rec.ResponseBytes != 9 {
			t.Errorf("record %+v", rec)
		}
		r.records.none(t)
	})
}

func TestHostMustBeTheServerName(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
	for _, host := range []string{"evil.example", tunnelHost, modelHost + ":8443", modelHost + ":0443", modelHost + ".evil.example", "user@" + modelHost, "[" + worldAddr + "]", worldAddr, ""} {
		t.Run("h1 "+host, func(t *testing.T) {
			res := r.raw(t, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 2\r\n\r\n{}")
			if host == "user@"+modelHost && res.StatusCode == 400 {
				return // net/http has refused it before us
			}
			if res.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("status %d", res.StatusCode)
			}
			if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeRefused || rec.Rule != "PROXY-HOST-MISMATCH" {
				t.Errorf("record %+v", rec)
			}
		})
	}
	t.Run("h2", func(t *testing.T) {
		req := post(t, t.Context(), strings.NewReader(`{}`))
		req.Host = "evil.example"
		res, err := r.client(t, true).Do(req)
		must(t, err)
		if res.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("status %d", res.StatusCode)
		}
		r.records.next(t)
	})
	t.Run("absolute form", func(t *testing.T) {
		res := r.raw(t, "POST https://evil.example/v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\nContent-Length: 2\r\n\r\n{}")
		if res.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("status %d", res.StatusCode)
		}
		r.records.next(t)
	})
	t.Run("two hosts", func(t *testing.T) {
		if res := r.raw(t, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}"); res.StatusCode != 400 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	r.records.none(t)
}

func TestHostSpellings(t *testing.T) {
	r := newRig(t)
	hosts := make(chan string, 8)
	r.provider(t, false, func(_ http.ResponseWriter, req *http.Request) { hosts <- req.Host })
	for _, host := range []string{modelHost, strings.ToUpper(modelHost), modelHost + ".", modelHost + ":443"} {
		if res := r.raw(t, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 2\r\n\r\n{}"); res.StatusCode != 200 {
			t.Errorf("%q: status %d", host, res.StatusCode)
			continue
		}
		if got := <-hosts; got != modelHost {
			t.Errorf("%q went on as %q", host, got)
		}
	}
}

func TestTargetsWithTwoReadings(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("%q forwarded", req.RequestURI) })
	for _, target := range []string{
		"/v1/files/../chat/completions", "/v1/./chat/completions", "/v1/%2e%2e/files", "/v1/%2E./files", "/v1%2Fchat%2Fcompletions", "/v1//chat/completions", "//" + modelHost + "/v1",
		"/v1/chat%5ccompletions", "/v1/ch%61t/completions", "/v1/chat/completions%00", "/v1/..;/files", "/v1/chat/completions%zz", "/v1/chat\\completions", "/v1/chat/completions#x", "/v1/%252e%252e/files",
	} {
		t.Run(target, func(t *testing.T) {
			res := r.raw(t, "POST "+target+" HTTP/1.1\r\nHost: "+modelHost+"\r\nContent-Length: 2\r\n\r\n{}")
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
	t.Run("asterisk", func(t *testing.T) {
		if res := r.raw(t, "OPTIONS * HTTP/1.1\r\nHost: "+modelHost+"\r\n\r\n"); res.StatusCode >= 500 || res.ContentLength > 1000 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
}

func TestOversize(t *testing.T) {
	r := newRig(t)
	r.snap.MaxRequestBytes = 1000
	must(t, r.p.Update(r.snap))
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
	for name, body := range map[string]func() io.Reader{
		"length said": func() io.Reader { return strings.NewReader(strings.Repeat("x", 1001)) },
		"chunked":     func() io.Reader { return io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))) },
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " h2 ", h2), func(t *testing.T) {
				res, err := r.client(t, h2).Do(post(t, t.Context(), body()))
				must(t, err)
				rec := r.records.next(t)
				if res.StatusCode != http.StatusRequestEntityTooLarge || rec.Call.Findings[0] != "oversize" || rec.Outcome != telemetry.OutcomeRefused {
					t.Errorf("%d %+v", res.StatusCode, rec)
				}
			})
		}
	}
	t.Run("just fits", func(t *testing.T) {
		r.provider(t, true, func(http.ResponseWriter, *http.Request) {})
		res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(strings.Repeat("x", 1000))))
		must(t, err)
		if res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
	})
}

func TestEachCallIsJudged(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2 ", h2), func(t *testing.T) {
			r := newRig(t)
			r.gate.decide = func(req *gate.Request) bool { return !bytes.Contains(req.Body, []byte("secret")) }
			var forwarded, connections atomic.Int32
			r.provider(t, true, func(_ http.ResponseWriter, _ *http.Request) { forwarded.Add(1) })
			client := r.client(t, h2)
			for i, want := range []int{200, 403, 200} {
				body := `{}`
				if i == 1 {
					body = `{"x":"secret"}`
				}
				req := post(t, t.Context(), strings.NewReader(body))
				req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
					if !i.Reused {
						connections.Add(1)
					}
				}}))
				res, err := client.Do(req)
				must(t, err)
				readAll(t, res)
				if (res.StatusCode == 200) != (want == 200) {
					t.Errorf("call %d: status %d", i, res.StatusCode)
				}
			}
			if forwarded.Load() != 2 || connections.Load() != 1 || len(r.gate.requests()) != 3 {
				t.Errorf("%d forwarded over %d connections, %d judged", forwarded.Load(), connections.Load(), len(r.gate.requests()))
			}
		})
	}
}

func TestRotationMidConnection(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2 ", h2), func(t *testing.T) {
			r := newRig(t)
			started, rotated := make(chan struct{}, 1), make(chan struct{}, 1)
			r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "a")
				_ = http.NewResponseController(w).Flush()
				started <- struct{}{}
				<-rotated
				_, _ = io.WriteString(w, "b")
			})
			client := r.client(t, h2)
			var leaves []string
			for i := range 3 {
				res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
				must(t, err)
				<-started
				if i == 0 {
					r.minter.SetAuthority(r.root.authority(t, modelHost))
				}
				rotated <- struct{}{}
				if got := readAll(t, res); got != "ab" {
					t.Errorf("call %d: %q", i, got)
				}
				leaves = append(leaves, res.TLS.PeerCertificates[1].SerialNumber.String())
				if i == 1 {
					client = r.client(t, h2) // a new connection
				}
			}
			if leaves[0] != leaves[1] || leaves[1] == leaves[2] {
				t.Errorf("intermediates by call: %v", leaves)
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	r := newRig(t)
	r.provider(t, false, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		_, _ = fmt.Fprintf(w, "%s %q", b, req.Header.Get("Expect"))
	})
	c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost})
	_, err := io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	must(t, err)
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q %v", line, err)
	}
	_, _ = in.ReadString('\n')
	_, err = io.WriteString(c, "{}")
	must(t, err)
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	if got := readAll(t, res); got != `{} ""` {
		t.Errorf("%q", got)
	}
}

func TestHeadersOfTheHop(t *testing.T) {
	r := newRig(t)
	seen := make(chan http.Header, 1)
	r.provider(t, false, func(_ http.ResponseWriter, req *http.Request) { seen <- req.Header })
	r.raw(t, "GET /v1/models HTTP/1.1\r\nHost: "+modelHost+"\r\nConnection: close, X-Hop, Content-Type\r\nContent-Type: application/json\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTe: trailers\r\nUpgrade: websocket\r\nProxy-Authorization: x\r\nX-Kept: 1\r\nX-Kept: 2\r\nCookie: session=caller\r\n\r\n")
	h := <-seen
	for _, name := range []string{"X-Hop", "Keep-Alive", "Te", "Upgrade", "Proxy-Authorization", "Connection", "Cookie", "User-Agent", "Accept-Encoding"} {
		if v, ok := h[name]; ok {
			t.Errorf("%s: %q went on", name, v)
		}
	}
	if fmt.Sprint(h["X-Kept"]) != "[1 2]" || h.Get("Content-Type") != "application/json" || h.Get("Authorization") != "Bearer "+apiKey {
		t.Errorf("headers %v", h)
	}
}

func TestCredentials(t *testing.T) {
	r := newRig(t)
	seen := make(chan http.Header, 1)
	r.provider(t, true, func(_ http.ResponseWriter, req *http.Request) { seen <- req.Header })
	call := func() *http.Response {
		t.Helper()
		req := post(t, t.Context(), strings.NewReader(`{}`))
		req.Header.Set("X-Api-Key", "caller")
		res, err := r.client(t, true).Do(req)
		must(t, err)
		readAll(t, res)
		return res
	}
	r.snap.Providers[0].API = "anthropic"
	must(t, r.p.Update(r.snap))
	call()
	if h := <-seen; h.Get("X-Api-Key") != apiKey || h.Get("Authorization") != "" {
		t.Errorf("anthropic: %v", h)
	}
	r.snap.Providers[0].Credential = ""
	must(t, r.p.Update(r.snap))
	call()
	if h := <-seen; h.Get("X-Api-Key") != "caller" || h.Get("Authorization") != "Bearer of-the-caller" {
		t.Errorf("the caller's own: %v", h)
	}
	r.snap.Providers[0].Credential = "absent"
	must(t, r.p.Update(r.snap))
	for range 2 {
		r.records.next(t)
	}
	if res := call(); res.StatusCode != http.StatusBadGateway {
		t.Errorf("without a key: status %d", res.StatusCode)
	}
	if rec := r.records.next(t); rec.UpstreamError != "credential_missing" {
		t.Errorf("without a key: %+v", rec)
	}
	r.snap.Credentials["absent"] = []byte("a\r\nX-Evil: 1")
	must(t, r.p.Update(r.snap)) // the other providers go on
	if res := call(); res.StatusCode != http.StatusBadGateway {
		t.Errorf("with a line break in the key: status %d", res.StatusCode)
	}
	if rec := r.records.next(t); rec.UpstreamError != "credential_unusable" {
		t.Errorf("with a line break in the key: %+v", rec)
	}
}

func TestUpstreamFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		class  string
		status int
		set    func(t *testing.T, r *rig)
	}{
		"nobody there":     {"connect", 502, func(*testing.T, *rig) {}},
		"name unknown":     {"resolve", 502, func(_ *testing.T, r *rig) { r.p.connector.resolver = failingResolver{} }},
		"loopback":         {"address_refused", 502, func(_ *testing.T, r *rig) { r.p.connector.resolver = fixedResolver{addr("127.0.0.1"), addr("::1")} }},
		"metadata service": {"address_refused", 502, func(_ *testing.T, r *rig) { r.p.connector.resolver = fixedResolver{addr("169.254.169.254")} }},
		"no address":       {"broken", 502, func(_ *testing.T, r *rig) { r.p.connector.resolver = fixedResolver{} }},
		"untrusted": {"tls", 502, func(t *testing.T, r *rig) {
			r.world = newTestRoot(t)
			r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
		}},
		"other name": {"tls", 502, func(t *testing.T, r *rig) {
			s := r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
			s.TLS.Certificates[0] = r.world.server(t, "evil.example")
		}},
		"silence": {"first_byte_timeout", 504, func(t *testing.T, r *rig) {
			r.provider(t, true, func(_ http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				<-req.Context().Done()
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Timeouts.FirstByte = 300 * time.Millisecond })
			tc.set(t, r)
			res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
			must(t, err)
			text := readAll(t, res)
			rec := r.records.next(t)
			if res.StatusCode != tc.status || rec.UpstreamError != tc.class || rec.Status != tc.status || !strings.Contains(text, tc.class) || res.Header.Get(decisionHeader) != rec.ID {
				t.Errorf("%d %q, record %q", res.StatusCode, text, rec.UpstreamError)
			}
			r.records.none(t)
		})
	}
}

func TestIdleStream(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Timeouts.Idle = 100 * time.Millisecond })
	r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the caller takes a part for the whole")
	}
	if rec := r.records.next(t); rec.UpstreamError != "idle_timeout" {
		t.Errorf("record %+v", rec)
	}
}

func TestGatePanicRefuses(t *testing.T) {
	r := newRig(t)
	r.gate.decide = func(*gate.Request) bool { panic("boom") }
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	readAll(t, res)
	if rec := r.records.next(t); res.StatusCode == 200 || rec.Outcome != telemetry.OutcomeRefused || rec.Fault != "gate_panic" {
		t.Errorf("%d %+v", res.StatusCode, rec)
	}
}

func TestSettingsReachTheGate(t *testing.T) {
	r := newRig(t)
	r.snap.Mode, r.snap.KillSwitch = "observe", true
	r.snap.Salt, r.snap.Canaries, r.snap.RefuseCold = 7, new(canary.Set), true
	must(t, r.p.Update(r.snap))
	r.provider(t, true, func(http.ResponseWriter, *http.Request) {})
	client := r.client(t, true)
	for range 2 {
		res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		readAll(t, res)
		r.snap.Mode, r.snap.KillSwitch = "whatever", false
		must(t, r.p.Update(r.snap)) // in force for the next call on the same connection
	}
	got := r.gate.requests()
	if got[0].Mode != "observe" || !got[0].KillSwitch || got[1].Mode != "enforce" || got[1].KillSwitch || got[0].Workload.Name != "agent" ||
		got[0].Salt != 7 || got[0].Canaries != r.snap.Canaries || !got[0].RefuseCold {
		t.Errorf("asked %+v", got)
	}
}

func TestProviderRemoved(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) {})
	client := r.client(t, true)
	res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	readAll(t, res)
	r.snap.Providers = nil
	must(t, r.p.Update(r.snap))
	res, err = client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestGzipAndTrailers(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		var z bytes.Buffer
		zw := gzip.NewWriter(&z)
		_, _ = io.WriteString(zw, reply)
		must(t, zw.Close())
		r.provider(t, providerH2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Trailer", "X-Sum")
			for _, b := range z.Bytes() { // in the smallest pieces
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
			w.Header().Set("X-Sum", "1")
		})
		res, err := r.client(t, callerH2).Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if got := readAll(t, res); got != z.String() {
			t.Error("the coded bytes changed")
		}
		if res.Trailer.Get("X-Sum") != "1" {
			t.Errorf("trailers %v", res.Trailer)
		}
		if rec := r.records.next(t); rec.Usage.InputTokens != 11 || rec.ResponseBytes != int64(z.Len()) {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestBrokenGzipOnTheSide(t *testing.T) {
	r := newRig(t)
	body := strings.Repeat("not gzip at all ", 10_000)
	r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, body)
	})
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	if readAll(t, res) != body {
		t.Error("the response was disturbed")
	}
}

func TestBodyBreaksOff(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
	raw := r.connect(t)
	c := tls.Client(raw, &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost})
	_, err := io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\nContent-Length: 100\r\n\r\n{")
	must(t, err)
	must(t, c.CloseWrite())
	if b, _ := io.ReadAll(c); len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 4") {
		t.Errorf("answered %q", b)
	}
	if n := len(r.gate.requests()); n != 0 {
		t.Errorf("judged %d times", n)
	}
	r.records.none(t)
}
