package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm/coding"
)

// arrival is a request as the provider got it.
type arrival struct {
	method, target string
	header         http.Header
	length         int64
	body           []byte
	trailer        http.Header
}

// arrivals makes the provider note what arrives, and answer with a body that says how much it was.
func (r *rig) arrivals(t testing.TB, h2 bool) chan arrival {
	t.Helper()
	seen := make(chan arrival, 16)
	r.provider(t, h2, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("the body at the provider: %v", err)
		}
		seen <- arrival{req.Method, req.RequestURI, req.Header, req.ContentLength, b, req.Trailer}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"got":%d}`, len(b))
	})
	return seen
}

// What arrives is what was sent, byte by byte, however the caller sends it.
func TestBodiesArriveAsSent(t *testing.T) {
	plain := []byte(" \n" + bigBody(200<<10) + "\r\n\t")
	bodies := map[string][]byte{"": plain, "identity": plain}
	for _, c := range []string{"gzip", "deflate", "br", "zstd", "gzip, zstd"} {
		b, err := coding.Encode(c, plain)
		must(t, err)
		bodies[c] = b
	}
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		seen := r.arrivals(t, providerH2)
		client := r.client(t, callerH2)
		for _, how := range []string{"length", "chunked", "trailers", "expect"} {
			for _, c := range slices.Sorted(maps.Keys(bodies)) {
				t.Run(how+" "+c, func(t *testing.T) {
					body := bodies[c]
					in := io.Reader(bytes.NewReader(body))
					if how == "chunked" || how == "trailers" {
						in = io.MultiReader(in) // hides the length
					}
					req := post(t, t.Context(), in)
					if c != "" {
						req.Header.Set("Content-Encoding", c)
					}
					switch how {
					case "expect":
						req.Header.Set("Expect", "100-continue")
					case "trailers":
						req.Trailer = http.Header{"X-Sum": {"1"}}
					}
					res, err := client.Do(req)
					must(t, err)
					if got := readAll(t, res); got != fmt.Sprintf(`{"got":%d}`, len(body)) {
						t.Errorf("%d %q", res.StatusCode, got)
					}
					a := <-seen
					length, sum := int64(len(body)), ""
					if how == "trailers" {
						length, sum = -1, "1"
					}
					if !bytes.Equal(a.body, body) || a.length != length || a.trailer.Get("X-Sum") != sum || a.header.Get("Content-Encoding") != c {
						t.Errorf("%d bytes of length %d arrived, %v", len(a.body), a.length, a.header)
					}
					asked := r.gate.requests()
					if q := asked[len(asked)-1]; !bytes.Equal(q.Body, body) || q.ContentEncoding != c {
						t.Error("what was judged is not what was sent")
					}
				})
			}
		}
	})
}

// Trailers of a request go on as headers do: but for the hop's own, what names the caller, and what is no trailer.
func TestTrailersOfRequests(t *testing.T) {
	sent := http.Header{
		"X-Sum": {"1", "2"}, "X-Empty": {""}, "X-Amz-Meta": {"kept where it means nothing"},
		"X-Api-Key": {"caller"}, "Api-Key": {"caller"}, "X-Goog-Api-Key": {"caller"}, "Cookie": {"caller"}, "Proxy-Connection": {"x"}, "Upgrade": {"x"}, "X-Hop": {"x"},
	}
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		for _, size := range []int{0, 10, 100_000} {
			for _, edited := range []bool{false, true} {
				r := newRig(t)
				seen := r.arrivals(t, providerH2)
				if edited {
					r.gate.edit = func(*gate.Request) []byte { return []byte("{}") }
				}
				req := post(t, t.Context(), io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
				req.Trailer = maps.Clone(sent)
				if !callerH2 {
					req.Header.Set("Connection", "X-Hop")
				} else { // HTTP/2 has no such fields
					for _, name := range []string{"X-Hop", "Upgrade", "Proxy-Connection"} {
						delete(req.Trailer, name)
					}
				}
				res, err := r.client(t, callerH2).Do(req)
				must(t, err)
				readAll(t, res)
				a := <-seen
				want := "map[X-Amz-Meta:[kept where it means nothing] X-Empty:[] X-Sum:[1 2]]"
				if edited {
					want = "map[]"
				}
				if fmt.Sprint(a.trailer) != want || !edited && len(a.body) != size || a.header.Get("Authorization") != "Bearer "+apiKey || a.header.Get("X-Sum") != "" {
					t.Errorf("%d bytes, edited %v: %d bytes arrived with %v and %v", size, edited, len(a.body), a.trailer, a.header)
				}
			}
		}
	})
	t.Run("not announced", func(t *testing.T) {
		r := newRig(t)
		seen := r.arrivals(t, true)
		r.raw(t, "POST /v1/embeddings HTTP/1.1\r\nHost: "+modelHost+"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer caller\r\nContent-Type: text/html\r\nHost: evil.example\r\n\r\n")
		if a := <-seen; fmt.Sprint(a.trailer) != "map[X-Sum:[1]]" || string(a.body) != "{}" {
			t.Errorf("%q with %v", a.body, a.trailer)
		}
	})
	t.Run("signed", func(t *testing.T) {
		h := http.Header{"X-Amz-Security-Token": {"caller"}, "X-Sum": {"1"}}
		if dropCallers(h, apiBedrock); len(h) != 1 {
			t.Errorf("%v", h)
		}
	})
}

// The headers that arrive are those that were sent, but for the hop's own, the credential and the trace.
func TestHeadersArriveAsSent(t *testing.T) {
	sent := http.Header{
		"Content-Type": {"application/json; charset=utf-8"}, "Accept": {"text/event-stream"}, "Accept-Encoding": {"gzip, br"}, "User-Agent": {"agent/1.0"},
		"Anthropic-Beta": {"a-1", "b-2"}, "Openai-Organization": {"org"}, "X-Stainless-Lang": {"python"}, "Idempotency-Key": {"k"}, "X-Empty": {""},
		"X-Non-Ascii": {"caf\xc3\xa9"}, "Cache-Control": {"no-store"}, "Via": {"1.1 another"}, "X-Forwarded-For": {"192.0.2.1"}, "Accept-Language": {"*"},
	}
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		seen := r.arrivals(t, providerH2)
		req := post(t, t.Context(), strings.NewReader(`{}`))
		maps.Copy(req.Header, sent)
		req.Header.Set("X-Api-Key", "caller")
		res, err := r.client(t, callerH2).Do(req)
		must(t, err)
		readAll(t, res)
		got := (<-seen).header
		for name, values := range sent {
			if !slices.Equal(got[name], values) {
				t.Errorf("%s: %q arrived", name, got[name])
			}
		}
		for name := range got {
			if _, ok := sent[name]; !ok && name != "Authorization" && name != "Content-Length" {
				t.Errorf("%s: %q was added", name, got[name])
			}
		}
	})
}

// Nothing of a call, not even a connection, is at the provider before the decision.
func TestNothingBeforeTheDecision(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2 ", h2), func(t *testing.T) {
			r := newRig(t)
			judging, decide := make(chan struct{}), make(chan bool)
			r.gate.decide = func(*gate.Request) bool {
				judging <- struct{}{}
				return <-decide
			}
			seen := r.arrivals(t, h2)
			var dialled atomic.Int32
			dial := r.p.connector.dial
			r.p.connector.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dialled.Add(1)
				return dial(ctx, network, address)
			}
			got := make(chan int, 1)
			client := r.client(t, h2)
			for _, allowed := range []bool{false, true} {
				go func() {
					res, err := client.Do(post(t, t.Context(), strings.NewReader(bigBody(100<<10))))
					if err != nil {
						got <- 0
						return
					}
					_ = res.Body.Close()
					got <- res.StatusCode
				}()
				<-judging
				if n := dialled.Load(); n != 0 || len(seen) != 0 {
					t.Errorf("%d connections and %d calls before the decision", n, len(seen))
				}
				decide <- allowed
				if status := <-got; (status == 200) != allowed {
					t.Errorf("status %d", status)
				}
			}
			if dialled.Load() != 1 || len(seen) != 1 {
				t.Errorf("%d connections and %d calls", dialled.Load(), len(seen))
			}
		})
	}
}

// Requests that come before the answer to the one before are answered in their order, each judged.
func TestPipelining(t *testing.T) {
	r := newRig(t)
	r.gate.decide = func(q *gate.Request) bool { return !bytes.Contains(q.Body, []byte("2")) }
	seen := r.arrivals(t, true)
	c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost, NextProtos: []string{"http/1.1"}})
	const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: " + modelHost + "\r\n"
	_, err := io.WriteString(c, head+"Content-Length: 3\r\n\r\n[1]"+head+"Content-Length: 3\r\n\r\n[2]"+head+"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n2;x=y\r\n3]\r\n0\r\nX-Sum: 1\r\n\r\n"+"GET /v1/models HTTP/1.1\r\nHost: "+modelHost+"\r\n\r\n")
	must(t, err)
	in := bufio.NewReader(c)
	for i, want := range []int{200, 403, 200, 200} {
		res, err := http.ReadResponse(in, nil)
		must(t, err)
		readAll(t, res)
		if res.StatusCode != want {
			t.Errorf("answer %d: %d", i, res.StatusCode)
		}
	}
	for _, want := range []struct {
		body   string
		length int64
	}{{"[1]", 3}, {"[3]", -1 /* it has a trailer */}, {"", 0}} {
		if a := <-seen; string(a.body) != want.body || a.length != want.length {
			t.Errorf("%q of length %d arrived, want %+v", a.body, a.length, want)
		}
	}
	if len(r.gate.requests()) != 4 {
		t.Errorf("%d were judged", len(r.gate.requests()))
	}
}

// Bodies that two readers could cut in two ways are not read at all.
func TestSmuggling(t *testing.T) {
	for name, head := range map[string]string{
		"length and chunks":        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":              "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"signed length":            "Content-Length: +2\r\n\r\n{}",
		"unknown coding":           "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"stacked coding":           "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"folded header":            "Content-Length: 2\r\nX-A: b\r\n c\r\n\r\n{}",
		"space before colon":       "Content-Length : 2\r\n\r\n{}",
		"chunk length with a sign": "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			seen := r.arrivals(t, false)
			c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost, NextProtos: []string{"http/1.1"}})
			_, err := io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\n"+head)
			must(t, err)
			must(t, c.CloseWrite())
			_, _ = io.ReadAll(c)
			select {
			case a := <-seen:
				// net/http reads some of these in one way, and we forward what it read: with one length, and no other framing.
				if a.header.Get("Transfer-Encoding") != "" || a.length != int64(len(a.body)) || name != "length and chunks" && name != "folded header" {
					t.Errorf("%q arrived, %v", a.body, a.header)
				}
			default:
			}
		})
	}
}

// Responses go on as they come: head, trailers, early hints, and without a body where they have none, in every mode.
func TestResponsesGoOnAsTheyCome(t *testing.T) {
	type response struct {
		method  string
		answer  http.HandlerFunc
		status  int
		body    string
		length  int64 // as said; -1 where it is not
		trailer string
		hints   string
	}
	for name, tc := range map[string]response{
		"length":  {"POST", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, reply) }, 200, reply, int64(len(reply)), "", ""},
		"HEAD":    {"HEAD", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "77") }, 200, "", 77, "", ""},
		"204":     {"DELETE", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, "", 0, "", ""},
		"304":     {"GET", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"e"`); w.WriteHeader(304) }, 304, "", 0, "", ""},
		"nothing": {"POST", func(w http.ResponseWriter, _ *http.Request) {}, 200, "", 0, "", ""},
		"error": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"error":{"message":"slow down"}}`)
		}, 429, `{"error":{"message":"slow down"}}`, 33, "", ""},
		"redirect": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://evil.example/")
			w.WriteHeader(307)
		}, 307, "", 0, "", ""},
		"trailers": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, reply)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set("X-Sum", "1")
		}, 200, reply, -1, "1", ""},
		"unannounced trailers": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, reply)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "2")
		}, 200, reply, -1, "2", ""},
		"early hints": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, reply)
		}, 200, reply, int64(len(reply)), "", "</a>; rel=preload"},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, callerH2, providerH2 bool) {
				for _, mode := range allModes {
					r := newRig(t)
					r.gate.mode = mode
					r.provider(t, providerH2, func(w http.ResponseWriter, req *http.Request) {
						w.Header()["Date"] = []string{"Mon, 01 Jan 2001 00:00:00 GMT"}
						w.Header().Set("Content-Type", "application/json")
						w.Header()["X-Ratelimit-Remaining"] = []string{"1", "2"}
						w.Header().Set("Server", "provider")
						tc.answer(w, req)
					})
					client := r.client(t, callerH2)
					client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
					for range 2 { // the second one over the same connection
						hints := ""
						req := post(t, httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
							if code == http.StatusEarlyHints {
								hints = h.Get("Link")
							}
							return nil
						}}), strings.NewReader(`{}`))
						req.Method = tc.method
						if tc.method != "POST" {
							req.Body, req.ContentLength = nil, 0
						}
						res, err := client.Do(req)
						must(t, err)
						body := readAll(t, res)
						h := res.Header
						if res.StatusCode != tc.status || body != tc.body || res.ContentLength != tc.length && (tc.length != 0 || res.ContentLength != -1 || !callerH2) || res.Trailer.Get("X-Sum") != tc.trailer || hints != tc.hints {
							t.Errorf("%s: %d %q of length %d, trailers %v, hints %q", mode, res.StatusCode, body, res.ContentLength, res.Trailer, hints)
						}
						if h.Get("Date") != "Mon, 01 Jan 2001 00:00:00 GMT" || !slices.Equal(h["X-Ratelimit-Remaining"], []string{"1", "2"}) || h.Get("Server") != "provider" || h.Get("Link") != "" ||
							tc.status == 429 && h.Get("Retry-After") != "3" || tc.status == 304 && h.Get("Etag") != `"e"` {
							t.Errorf("%s: headers %v", mode, h)
						}
						if rec := r.records.next(t); rec.Status != tc.status || rec.ResponseBytes != int64(len(tc.body)) || rec.UpstreamError != "" {
							t.Errorf("%s: record %+v", mode, rec)
						}
					}
				}
			})
		})
	}
}

// A body that the policy edited goes on as edited, with its own length.
func TestEditedBody(t *testing.T) {
	r := newRig(t)
	r.gate.edit = func(q *gate.Request) []byte { return bytes.ReplaceAll(q.Body, []byte("4111 1111"), []byte("[card]")) }
	seen := r.arrivals(t, true)
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{"x":"4111 1111"}`)))
	must(t, err)
	readAll(t, res)
	if a := <-seen; string(a.body) != `{"x":"[card]"}` || a.length != int64(len(a.body)) {
		t.Errorf("%q of length %d arrived", a.body, a.length)
	}
}

// Where a retry cannot help, nobody is invited to one.
func TestRetriesAreInvitedOnlyWhereTheyHelp(t *testing.T) {
	r := newRig(t)
	r.gate.decide = func(*gate.Request) bool { return false }
	r.arrivals(t, true)
	res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	readAll(t, res)
	if res.Header.Get("Retry-After") != "" || res.StatusCode >= 500 || res.StatusCode == 429 || res.StatusCode == 408 || res.StatusCode == 409 {
		t.Errorf("a refusal: %d %v", res.StatusCode, res.Header)
	}
	r.gate.decide = nil
	r.p.connector.resolver = fixedResolver{addr("127.0.0.1")}
	r.p.view.Load().provider(modelHost, 443).upstream.transport.CloseIdleConnections()
	res, err = r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	readAll(t, res)
	if res.StatusCode != 502 || res.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("an address that may not be dialled: %d %v", res.StatusCode, res.Header)
	}
}
