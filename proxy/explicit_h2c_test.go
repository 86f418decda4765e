package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// inTheClear is a client that speaks HTTP/2 alone, without TLS, to the explicit proxy, whatever the URL's host.
func inTheClear(t testing.TB, addr string) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols, DisableCompression: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// oneConnection is such a client with one connection, for all that it is asked.
func oneConnection(t testing.TB, addr string) *http.Client {
	t.Helper()
	client := inTheClear(t, addr)
	c, err := client.Transport.(*http.Transport).NewClientConn(t.Context(), "http", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	client.Transport = c
	return client
}

// What comes over HTTP/2 in the clear is judged and forwarded as it came, request by request.
func TestExplicitHTTP2(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.provider(t, true, echo)
	r.plainServer(t, plainPort, echo)
	client := inTheClear(t, addr)
	tls := policy.Destination{Kind: policy.DestinationModel, Provider: "model", Scheme: "https", Host: modelHost, Port: 443, Method: "POST", Path: "/v1/chat/completions"}
	plain := policy.Destination{Kind: policy.DestinationModel, Provider: "plain", Scheme: "http", Host: plainHost, Port: plainPort, Method: "POST", Path: "/base/v1/chat/completions"}
	for name, tc := range map[string]struct {
		url, seen string
		dest      policy.Destination
	}{
		"base URL":                     {"http://" + addr + "/model/v1/chat/completions?x=1&x=2", modelHost + " /v1/chat/completions?x=1&x=2 Bearer " + apiKey, tls},
		"base URL, the local host":     {"http://localhost:15002/model/v1/chat/completions", modelHost + " /v1/chat/completions Bearer " + apiKey, tls},
		"base URL, plaintext provider": {"http://" + addr + "/plain/base/v1/chat/completions?/?", plainHost + ":8000 /base/v1/chat/completions?/?", plain},
		"plaintext provider itself":    {"http://VLLM.models.svc:8000/base/v1/chat/completions?a=b", plainHost + ":8000 /base/v1/chat/completions?a=b", plain},
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{`{"model":"m"}`, bigBody(300_000)} {
				res, err := client.Post(tc.url, "application/json", strings.NewReader(body))
				must(t, err)
				if got := readAll(t, res); res.StatusCode != 200 || got != body || res.Header.Get("X-Seen") != tc.seen || res.ProtoMajor != 2 {
					t.Errorf("%d over %s: %d bytes, seen %q", res.StatusCode, res.Proto, len(got), res.Header.Get("X-Seen"))
				}
				asked := r.gate.requests()
				if got := asked[len(asked)-1]; string(got.Body) != body {
					t.Errorf("judged were %d bytes", len(got.Body))
				}
				if rec := r.records.next(t); rec.Destination != tc.dest || rec.ID != res.Header.Get(decisionHeader) || rec.Outcome != telemetry.OutcomeReleased {
					t.Errorf("record %+v", rec)
				}
			}
		})
	}
	r.records.none(t)
}

// Two calls are in hand on one connection at once; one is refused, in its dialect, and the other goes on.
func TestExplicitHTTP2AtOnce(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	arrived, goOn := make(chan string), make(chan struct{})
	r.provider(t, true, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		_ = http.NewResponseController(w).Flush()
		arrived <- string(b)
		<-goOn
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	r.gate.decide = func(q *gate.Request) bool { return !bytes.Contains(q.Body, []byte("forbidden")) }
	client := oneConnection(t, addr)
	send := func(body string) *http.Response {
		res, err := client.Post("http://"+addr+"/model/v1/chat/completions", "application/json", strings.NewReader(body))
		must(t, err)
		return res
	}
	var streams []*http.Response
	for _, body := range []string{`{"model":"a","stream":true}`, `{"model":"b","stream":true}`} {
		res := send(body)
		first := make([]byte, len("data: one\n\n"))
		_, err := io.ReadFull(res.Body, first) // while the provider holds the rest back
		must(t, err)
		if got := <-arrived; got != body || string(first) != "data: one\n\n" {
			t.Errorf("%q arrived, the stream begins with %q", got, first)
		}
		streams = append(streams, res)
	}
	res := send(`{"model":"forbidden"}`)
	want := surface.Lookup("openai", "POST", "/v1/chat/completions").Row.Refuse(llm.Refusal{DecisionID: res.Header.Get(decisionHeader), Rule: decidedRule, Message: "The test refuses this."})
	if got := readAll(t, res); res.StatusCode != want.Status || got != string(want.Body) || res.Header.Get("Content-Type") != want.ContentType {
		t.Errorf("refused by %d %q, want %q", res.StatusCode, got, want.Body)
	}
	if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeRefused {
		t.Errorf("record %+v", rec)
	}
	close(goOn)
	for _, res := range streams {
		if rest := readAll(t, res); rest != "data: [DONE]\n\n" {
			t.Errorf("the rest of the stream is %q", rest)
		}
		r.records.next(t)
	}
	r.records.none(t)
}

// Whoever asks over HTTP/2 for what there is not, is told; nothing goes anywhere.
func TestExplicitHTTP2Refusals(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("the provider was reached") })
	r.plainServer(t, 80, func(http.ResponseWriter, *http.Request) { t.Error("another was reached in the clear") })
	for name, tc := range map[string]struct {
		method, url string
		host, site  string
		status      int
		text        string
		kind        policy.DestinationKind // of the record; "" for none
	}{
		"CONNECT to a provider":       {method: "CONNECT", url: "http://" + modelHost + ":443", status: 501, text: "HTTP/1.1 only"},
		"CONNECT to another":          {method: "CONNECT", url: "http://" + tunnelHost + ":443", status: 501, text: "HTTP/1.1 only"},
		"a provider of TLS":           {url: "http://" + modelHost + "/v1/models", status: 400, text: "only plaintext providers"},
		"a provider of TLS, its port": {url: "http://" + modelHost + ":443/v1/models", status: 400, text: "only plaintext providers"},
		"a host passed through":       {url: "http://" + tunnelHost + "/", status: 400, text: "only plaintext providers"},
		"an address":                  {url: "http://203.0.113.10/", status: 400, text: "only plaintext providers"},
		"a plaintext provider's name": {url: "http://" + plainHost + "/base/v1/models", status: 400, text: "only plaintext providers"},
		"a number for a host":         {url: "http://2130706433/", status: 400, text: "Accepted are"},
		"asterisk":                    {method: "OPTIONS", url: "http://" + addr + "*", status: 400, text: "Accepted are"},
		"root":                        {url: "http://" + addr + "/", status: 404, text: "known are: model, plain"},
		"unknown route":               {url: "http://" + addr + "/openai/v1/models", status: 404, text: "known are: model, plain"},
		"route by another name":       {url: "http://" + addr + "/model/v1/models", host: "rebound.example", status: 400, text: "only plaintext providers"},
		"route from a page":           {url: "http://" + addr + "/model/v1/models", site: "cross-site", status: 403, text: "another site"},
		"route with a dot segment":    {url: "http://" + addr + "/model/../plain", status: 400, text: "dot segment", kind: policy.DestinationModel},
	} {
		t.Run(name, func(t *testing.T) {
			client := inTheClear(t, addr)
			u, err := url.Parse(strings.TrimSuffix(tc.url, "*"))
			must(t, err)
			if u.Path == "" && tc.method == "OPTIONS" {
				u.Opaque = "*"
			}
			req := (&http.Request{Method: tc.method, URL: u, Host: tc.host, Header: http.Header{}}).WithContext(t.Context())
			if tc.site != "" {
				req.Header.Set("Sec-Fetch-Site", tc.site)
			}
			res, err := client.Do(req)
			must(t, err)
			if got := readAll(t, res); res.StatusCode != tc.status || !strings.Contains(got, tc.text) || res.ProtoMajor != 2 {
				t.Errorf("%s %d %s, want %d with %q", res.Proto, res.StatusCode, got, tc.status, tc.text)
			}
			if tc.kind == "" {
				r.records.none(t)
			} else if rec := r.records.next(t); rec.Destination.Kind != tc.kind {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// The token is asked for with each request, not with each connection, and goes no further.
func TestExplicitHTTP2Token(t *testing.T) {
	const token = "t0k-en_OF-the_run"
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("sallyport:"+password))
	}
	r := newRig(t, func(o *Options) { o.ExplicitToken = token })
	addr := r.explicit(t)
	r.plainServer(t, plainPort, echo)
	client := oneConnection(t, addr)

	goOn := make(chan struct{})
	r.provider(t, true, func(w http.ResponseWriter, q *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-goOn
		echo(w, q)
	})
	right, err := client.Post("http://"+addr+"/"+token+"/model/v1/chat/completions", "application/json", strings.NewReader(`{}`))
	must(t, err)
	// On the connection that has shown the token:
	res, err := client.Post("http://"+addr+"/model/v1/chat/completions", "application/json", strings.NewReader(`{}`))
	must(t, err)
	if got := readAll(t, res); res.StatusCode != 403 {
		t.Errorf("%d %s", res.StatusCode, got)
	}
	close(goOn) // what was in hand is served to its end
	if got := readAll(t, right); right.StatusCode != 200 || got != "{}" {
		t.Errorf("%d %q", right.StatusCode, got)
	}
	r.records.next(t)

	client = inTheClear(t, addr) // a wrong token ends a connection
	for name, tc := range map[string]struct {
		method, url, auth string
		status            int
	}{
		"route, none":          {"GET", "http://" + addr + "/plain/base/v1/models", "", 403},
		"route, another":       {"GET", "http://" + addr + "/" + token + "x/plain/base/v1/models", "", 403},
		"route, by a header":   {"GET", "http://" + addr + "/plain/base/v1/models", basic(token), 403},
		"route":                {"GET", "http://" + addr + "/" + token + "/plain/base/v1/models", basic("other"), 200},
		"provider, none":       {"GET", "http://" + plainHost + ":8000/base/v1/models", "", 407},
		"provider, in a path":  {"GET", "http://" + plainHost + ":8000/" + token + "/base/v1/models", "", 407},
		"provider, another":    {"GET", "http://" + plainHost + ":8000/base/v1/models", basic("other"), 407},
		"provider":             {"GET", "http://" + plainHost + ":8000/base/v1/models", basic(token), 200},
		"CONNECT, none":        {"CONNECT", "http://" + modelHost + ":443", "", 407},
		"CONNECT, the right":   {"CONNECT", "http://" + modelHost + ":443", basic(token), 501},
		"another, none":        {"GET", "http://other.example/" + token + "/x", "", 407},
		"another, a right one": {"GET", "http://other.example/x", basic(token), 400},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, tc.url, nil)
			must(t, err)
			if tc.auth != "" {
				req.Header.Set("Proxy-Authorization", tc.auth)
			}
			res, err := client.Do(req)
			must(t, err)
			if got := readAll(t, res); res.StatusCode != tc.status || strings.Contains(res.Header.Get("X-Seen")+got, token) {
				t.Errorf("%d %s, seen %q", res.StatusCode, got, res.Header.Get("X-Seen"))
			}
			if tc.status != 200 {
				r.records.none(t)
				return
			}
			r.records.next(t)
			for _, asked := range r.gate.requests() {
				if said := fmt.Sprint(asked.Destination, asked.Query, asked.Header); strings.Contains(said, token) || asked.Header.Get("Proxy-Authorization") != "" {
					t.Errorf("the gate was told: %s", said)
				}
			}
		})
	}
}

// A connection of HTTP/2 ends with the proxy, but not before its calls.
func TestExplicitHTTP2Drain(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	r.provider(t, true, func(w http.ResponseWriter, q *http.Request) {
		close(arrived)
		<-goOn
		echo(w, q)
	})
	client := inTheClear(t, addr)
	answered := make(chan string)
	go func() {
		res, err := client.Post("http://"+addr+"/model/v1/chat/completions", "application/json", strings.NewReader(`{}`))
		if err != nil {
			answered <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		answered <- string(b)
	}()
	<-arrived
	drained := make(chan error)
	go func() { drained <- r.p.Drain(context.Background()) }()
	close(goOn)
	if got := <-answered; got != "{}" {
		t.Errorf("%q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	r.records.next(t)
}
