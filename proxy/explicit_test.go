package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

const (
	plainHost = "vllm.models.svc"
	plainPort = 8000
)

// explicit starts the explicit proxy beside the capture listener and returns its address. The rig also gets a provider in the clear.
func (r *rig) explicit(t testing.TB) string {
	t.Helper()
	r.snap.Providers = append(r.snap.Providers, Provider{Name: "plain", API: "openai", Hosts: []string{plainHost}, Port: plainPort, Plaintext: true, BasePath: "/base"})
	must(t, r.p.Update(r.snap))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- r.p.ServeExplicit(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.p.Drain(ctx)
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

// viaProxy is an agent's HTTP client that knows of the proxy.
func (r *rig) viaProxy(t testing.TB, addr string, h2 bool) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // of the proxy itself
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		Proxy:           func(*http.Request) (*url.URL, error) { return url.Parse("http://" + addr) },
		TLSClientConfig: &tls.Config{RootCAs: r.root.pool()}, Protocols: protocols, DisableCompression: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// plainServer is a stand-in for the provider in the clear.
func (r *rig) plainServer(t testing.TB, port uint16, h http.HandlerFunc) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	r.at(port, s.Listener.Addr().String())
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Seen", strings.TrimSpace(r.Host+" "+r.RequestURI+" "+r.Header.Get("Authorization")))
	_, _ = w.Write(b)
}

func TestExplicitConnect(t *testing.T) {
	versions(t, func(t *testing.T, caller, provider bool) {
		r := newRig(t)
		addr := r.explicit(t)
		r.provider(t, provider, echo)
		client := r.viaProxy(t, addr, caller)
		for range 2 { // the second on the same connection
			body := bigBody(100_000)
			res, err := client.Do(post(t, t.Context(), strings.NewReader(body)))
			must(t, err)
			if got := readAll(t, res); got != body || res.Header.Get("X-Seen") != modelHost+" /v1/chat/completions?beta=1&beta=2 Bearer "+apiKey {
				t.Errorf("%d: %d bytes, seen %q", res.StatusCode, len(got), res.Header.Get("X-Seen"))
			}
			if caller != (res.ProtoMajor == 2) {
				t.Errorf("spoke %s", res.Proto)
			}
			rec := r.records.next(t)
			want := policy.Destination{Kind: policy.DestinationModel, Provider: "model", Scheme: "https", Host: modelHost, Port: 443, Method: "POST", Path: "/v1/chat/completions"}
			if rec.Destination != want || rec.ID != res.Header.Get(decisionHeader) {
				t.Errorf("record %+v", rec)
			}
		}
		r.records.none(t)
	})
}

func TestExplicitTunnel(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "package") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{r.world.server(t, tunnelHost)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	r.at(443, s.Listener.Addr().String())

	client := r.viaProxy(t, addr, false)
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = r.world.pool() // nothing was read
	res, err := client.Get("https://" + tunnelHost + "/")
	must(t, err)
	if got := readAll(t, res); got != "package" {
		t.Errorf("%q", got)
	}
	client.CloseIdleConnections()
	rec := r.records.next(t)
	want := policy.Destination{Kind: policy.DestinationPassthrough, Scheme: "tcp", Host: tunnelHost, Port: 443}
	if rec.Destination != want || rec.ResponseBytes == 0 || rec.Outcome != telemetry.OutcomeReleased {
		t.Errorf("record %+v", rec)
	}
}

// Callers may speak at once, before the answer to their CONNECT.
func TestExplicitPipelinedConnect(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.tcp(t, 5432, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(b)
	})
	for _, authority := range []string{"198.51.100.7:5432", tunnelHost + ":5432"} {
		c := dialTest(t, addr)
		text := strings.Repeat("\x01\x02", 40_000)
		_, err := io.WriteString(c, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n"+text)
		must(t, err)
		must(t, c.CloseWrite())
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"})
		must(t, err)
		if got, err := io.ReadAll(in); err != nil || string(got) != text || res.StatusCode != 200 {
			t.Errorf("%s: %d, %d bytes came back (%v)", authority, res.StatusCode, len(got), err)
		}
		if rec := r.records.next(t); rec.Destination.Kind != policy.DestinationPassthrough || rec.ResponseBytes != int64(len(text)) || rec.UpstreamError != "" {
			t.Errorf("record %+v", rec)
		}
	}
}

func TestExplicitAbsoluteForm(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.plainServer(t, plainPort, echo)
	client := r.viaProxy(t, addr, false)
	for range 2 {
		res, err := client.Post("http://VLLM.models.svc:8000/base/v1/chat/completions?a=b", "application/json", strings.NewReader(`{"model":"m"}`))
		must(t, err)
		if got := readAll(t, res); got != `{"model":"m"}` || res.Header.Get("X-Seen") != plainHost+":8000 /base/v1/chat/completions?a=b" {
			t.Errorf("%q, seen %q", got, res.Header.Get("X-Seen"))
		}
		rec := r.records.next(t)
		want := policy.Destination{Kind: policy.DestinationModel, Provider: "plain", Scheme: "http", Host: plainHost, Port: plainPort, Method: "POST", Path: "/base/v1/chat/completions"}
		if rec.Destination != want {
			t.Errorf("record %+v", rec)
		}
		if q := r.gate.requests(); q[len(q)-1].BasePath != "/base" || string(q[len(q)-1].Body) != `{"model":"m"}` {
			t.Errorf("asked %+v", q[len(q)-1])
		}
	}

	// To no provider: judged as a tunnel is, and passed on.
	r.plainServer(t, 80, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Proxy-Connection")+q.Header.Get("X-Forwarded-For")+q.Header.Get("Via") != "" {
			t.Errorf("head %v", q.Header)
		}
		echo(w, q)
	})
	for url, want := range map[string]policy.Destination{
		"http://" + tunnelHost + "/a//b?c;d=%zz": {Kind: policy.DestinationPassthrough, Scheme: "http", Host: tunnelHost, Port: 80},
		"http://other.example/a//b?c;d=%zz":      {Kind: policy.DestinationOther, Scheme: "http", Host: "other.example", Port: 80},
		"http://198.51.101.200/a//b?c;d=%zz":     {Kind: policy.DestinationPassthrough, Scheme: "http", Host: "198.51.101.200", Port: 80, Address: "198.51.101.200"},
	} {
		res, err := client.Post(url, "text/plain", strings.NewReader("hello"))
		must(t, err)
		if got := readAll(t, res); got != "hello" || res.Header.Get("X-Seen") != want.Host+" /a//b?c;d=%zz" {
			t.Errorf("%s: %q, seen %q", url, got, res.Header.Get("X-Seen"))
		}
		if rec := r.records.next(t); rec.Destination != want || rec.ResponseBytes != 5 || rec.Status != 200 || rec.ID != res.Header.Get(decisionHeader) {
			t.Errorf("%s: record %+v", url, rec)
		}
	}
	r.records.none(t)
}

func TestExplicitRoute(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.provider(t, true, echo)
	r.plainServer(t, plainPort, echo)
	for path, want := range map[string]string{
		"/model/v1/chat/completions?x=1":     modelHost + " /v1/chat/completions?x=1 Bearer " + apiKey,
		"/plain/base/v1/chat/completions?/?": plainHost + ":8000 /base/v1/chat/completions?/?",
	} {
		for _, host := range []string{addr, "localhost:15002", "[::1]", "127.0.0.1"} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+path, strings.NewReader(`{"model":"m"}`))
			must(t, err)
			req.Host = host
			res, err := http.DefaultTransport.RoundTrip(req)
			must(t, err)
			if got := readAll(t, res); got != `{"model":"m"}` || res.Header.Get("X-Seen") != want {
				t.Errorf("%s: %d %q, seen %q", path, res.StatusCode, got, res.Header.Get("X-Seen"))
			}
			if rec := r.records.next(t); rec.Destination.Kind != policy.DestinationModel || rec.Destination.Path != strings.SplitN(path, "/", 3)[2:][0] && !strings.HasPrefix(path[6:], rec.Destination.Path) {
				t.Errorf("record %+v", rec)
			}
		}
	}
	// A refusal is in the dialect of the call.
	r.gate.decide = func(*gate.Request) bool { return false }
	res, err := http.Post("http://"+addr+"/model/v1/chat/completions", "application/json", strings.NewReader(`{}`))
	must(t, err)
	if got := readAll(t, res); res.StatusCode != 403 || !strings.Contains(got, decidedRule) || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", res.StatusCode, got)
	}
	r.records.next(t)
	r.records.none(t)
}

func dialTest(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// Whoever asks for what there is not is told what there is.
func TestExplicitRefusals(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.gate.decide = func(q *gate.Request) bool {
		return q.Destination.Kind == policy.DestinationModel || q.Destination.Kind == policy.DestinationPassthrough
	}
	connect := func(authority string) string {
		return "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
	}
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" }
	for name, tc := range map[string]struct {
		send   string
		status int
		text   string
		kind   policy.DestinationKind // of the record; "" for none
	}{
		"CONNECT to another":               {connect("evil.example:443"), 403, decidedRule, policy.DestinationOther},
		"CONNECT to a provider elsewhere":  {connect(modelHost + ":8443"), 403, decidedRule, policy.DestinationOther},
		"CONNECT to an address":            {connect("203.0.113.10:443"), 403, decidedRule, policy.DestinationUnknown},
		"CONNECT to an address by v6":      {connect("[2001:db8::1]:443"), 403, decidedRule, policy.DestinationUnknown},
		"CONNECT to a mapped address":      {connect("[::ffff:198.51.101.200]:443"), 403, decidedRule, policy.DestinationUnknown},
		"CONNECT to itself":                {connect("127.0.0.1:15002"), 403, decidedRule, policy.DestinationUnknown},
		"CONNECT without a port":           {connect(modelHost), 400, "Accepted are", ""},
		"CONNECT to port 0":                {connect(modelHost + ":0"), 400, "Accepted are", ""},
		"CONNECT to a number":              {connect("2130706433:443"), 400, "Accepted are", ""},
		"CONNECT to an address with zone":  {connect("[fe80::1%25eth0]:443"), 400, "", ""},
		"CONNECT to a v6 without brackets": {connect("2001:db8::1:443"), 400, "", ""},
		"CONNECT with a body":              {"CONNECT " + tunnelHost + ":443 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 400, "no body", ""},
		"CONNECT to a path":                {"CONNECT /model/v1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Accepted are", ""},
		"unreachable":                      {connect(tunnelHost + ":9999"), 502, "could not be reached (connect)", policy.DestinationPassthrough},
		"absolute to another":              {get("http://evil.example/"), 403, decidedRule, policy.DestinationOther},
		"absolute to a provider of TLS":    {get("http://" + modelHost + "/v1/models"), 403, decidedRule, policy.DestinationUnknown},
		"absolute, its TLS port":           {get("http://" + modelHost + ":443/v1/models"), 403, decidedRule, policy.DestinationUnknown},
		"absolute to an address":           {get("http://203.0.113.10/"), 403, decidedRule, policy.DestinationUnknown},
		"absolute with a user":             {get("http://u:p@" + tunnelHost + "/"), 400, "Accepted are", ""},
		"absolute without a host":          {get("http:///x"), 400, "", ""},
		"absolute, unreachable":            {get("http://" + tunnelHost + ":9999/"), 502, "could not be reached", policy.DestinationPassthrough},
		"https in absolute form":           {get("https://" + modelHost + "/v1/models"), 400, "use CONNECT", ""},
		"another scheme":                   {get("ftp://" + tunnelHost + "/"), 400, "Accepted are", ""},
		"asterisk":                         {"OPTIONS * HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 400, "Accepted are", ""},
		"unknown route":                    {get("/openai/v1/models"), 404, "known are: model, plain", ""},
		"root":                             {get("/"), 404, "known are: model, plain", ""},
		"route by another name":            {"GET /model/v1/models HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403, "another host", ""},
		"route from a page":                {"GET /model/v1/models HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403, "another site", ""},
		"route with a dot segment":         {get("/model/../plain"), 400, "dot segment", policy.DestinationModel},
		"route with an empty segment":      {get("/model//v1"), 400, "empty segment", policy.DestinationModel},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, addr)
			_, err := io.WriteString(c, tc.send)
			must(t, err)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			must(t, err)
			if got := readAll(t, res); res.StatusCode != tc.status || !strings.Contains(got, tc.text) {
				t.Errorf("%d %s, want %d with %q", res.StatusCode, got, tc.status, tc.text)
			}
			if tc.kind == "" {
				r.records.none(t)
				return
			}
			if rec := r.records.next(t); rec.Destination.Kind != tc.kind || rec.ID != res.Header.Get(decisionHeader) {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// What goes through a tunnel must name the host that the tunnel was asked for.
func TestExplicitMismatch(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.gate.decide = func(q *gate.Request) bool {
		return q.Destination.Kind == policy.DestinationModel || q.Destination.Kind == policy.DestinationPassthrough
	}
	for _, port := range []uint16{80, 443} {
		r.tcp(t, port, func(c *net.TCPConn) {
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("%q was sent on", b)
			}
		})
	}
	hello := func(name string) string {
		return string(helloBytes(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
	}
	ech := string(withExtension(t, []byte(hello(modelHost)), extensionECH, outerECH))
	for name, tc := range map[string]struct {
		authority, send string
		answer          string
		rule            string
	}{
		"a provider, another name":              {modelHost + ":443", hello("evil.example"), string(alertAccessDenied), decidedRule},
		"a provider, no name":                   {modelHost + ":443", hello(""), string(alertAccessDenied), decidedRule},
		"a provider, encrypted name":            {modelHost + ":443", ech, string(alertAccessDenied), decidedRule},
		"a provider in the clear":               {modelHost + ":443", "GET / HTTP/1.1\r\nHost: " + modelHost + ":443\r\n\r\n", "HTTP/1.1 403", decidedRule},
		"a provider, no HTTP":                   {modelHost + ":443", "SSH-2.0-x\r\n\r\n", "", decidedRule},
		"a plaintext provider by TLS":           {plainHost + ":8000", hello(plainHost), string(alertAccessDenied), decidedRule},
		"a plaintext provider by HTTP/2":        {plainHost + ":8000", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", decidedRule},
		"a plaintext provider, another's":       {plainHost + ":8000", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403", decidedRule},
		"passthrough, a provider's name":        {tunnelHost + ":443", hello(modelHost), string(alertAccessDenied), "PROXY-HOST-MISMATCH"},
		"passthrough, another name":             {tunnelHost + ":443", hello("evil.example"), string(alertAccessDenied), "PROXY-HOST-MISMATCH"},
		"passthrough, no name":                  {tunnelHost + ":443", hello(""), string(alertAccessDenied), "PROXY-HOST-MISMATCH"},
		"passthrough, another host":             {tunnelHost + ":80", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403", "PROXY-HOST-MISMATCH"},
		"passthrough, two hosts":                {tunnelHost + ":80", "GET / HTTP/1.1\r\nHost: " + tunnelHost + "\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403", "PROXY-HOST-MISMATCH"},
		"passthrough, a proxy behind the proxy": {tunnelHost + ":80", "CONNECT evil.example:443 HTTP/1.1\r\nHost: " + tunnelHost + "\r\n\r\n", "HTTP/1.1 403", "PROXY-HOST-MISMATCH"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, addr)
			_, err := io.WriteString(c, "CONNECT "+tc.authority+" HTTP/1.1\r\nHost: x\r\n\r\n")
			must(t, err)
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"})
			must(t, err)
			if res.StatusCode != 200 {
				t.Fatalf("status %d", res.StatusCode)
			}
			_, _ = io.WriteString(c, tc.send) // what is refused by a reset may be so before all of it is sent
			_ = c.CloseWrite()
			got, err := io.ReadAll(in)
			if !strings.HasPrefix(string(got), tc.answer) || (tc.answer == "") != (len(got) == 0) {
				t.Errorf("%q (%v), want %q", got, err, tc.answer)
			}
			rec := r.records.next(t)
			host, _, _ := net.SplitHostPort(tc.authority)
			if rec.Rule != tc.rule || rec.Outcome != telemetry.OutcomeRefused || rec.Destination.Host != host {
				t.Errorf("record %+v", rec)
			}
		})
	}
	r.records.none(t)
}

// In a mode that relaxes, an unknown destination is reached by the name that was asked for.
func TestExplicitUnknownReleased(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.tcp(t, 443, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	c := dialTest(t, addr)
	_, err := io.WriteString(c, "CONNECT "+modelHost+":443 HTTP/1.1\r\nHost: x\r\n\r\n\x01hello")
	must(t, err)
	must(t, c.CloseWrite())
	in := bufio.NewReader(c)
	_, err = http.ReadResponse(in, &http.Request{Method: "CONNECT"})
	must(t, err)
	if got, err := io.ReadAll(in); string(got) != "\x01hello" {
		t.Errorf("%q %v", got, err)
	}
	if rec := r.records.next(t); rec.Destination.Kind != policy.DestinationUnknown || rec.Destination.Host != modelHost {
		t.Errorf("record %+v", rec)
	}
}

func TestExplicitDrain(t *testing.T) {
	r := newRig(t)
	addr := r.explicit(t)
	r.tcp(t, 5432, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	c := dialTest(t, addr)
	_, err := io.WriteString(c, "CONNECT 198.51.100.7:5432 HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	in := bufio.NewReader(c)
	_, err = http.ReadResponse(in, &http.Request{Method: "CONNECT"})
	must(t, err)
	_, err = io.WriteString(c, "x")
	must(t, err)
	if b, err := in.ReadByte(); b != 'x' {
		t.Fatal(err)
	}
	idle := dialTest(t, addr) // says nothing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.p.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r.records.next(t)
	for _, c := range []net.Conn{c, idle} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlives the proxy")
		}
	}
	if err := r.p.ServeExplicit(&net.TCPListener{}); err == nil {
		t.Error("a drained proxy serves a listener that is none")
	}
}

// A plaintext provider's captured connections are judged in full, and only there.
func TestPlaintextProvider(t *testing.T) {
	r := newRig(t)
	r.explicit(t)
	r.dialled(worldAddr + ":8000")
	r.plainServer(t, plainPort, echo)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	for range 2 {
		res, err := client.Post("http://"+plainHost+":8000/base/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m"}`))
		must(t, err)
		if got := readAll(t, res); got != `{"model":"m"}` || res.Header.Get("X-Seen") != plainHost+":8000 /base/v1/chat/completions" {
			t.Errorf("%q, seen %q", got, res.Header.Get("X-Seen"))
		}
		want := policy.Destination{Kind: policy.DestinationModel, Provider: "plain", Scheme: "http", Host: plainHost, Port: plainPort, Method: "POST", Path: "/base/v1/chat/completions", Address: worldAddr}
		if rec := r.records.next(t); rec.Destination != want {
			t.Errorf("record %+v", rec)
		}
	}
	// The second request of a connection may not go elsewhere, and a proxy's form of request is none of a server's.
	for send, status := range map[string]int{
		"GET /base/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n":                                        421,
		"GET http://" + plainHost + ":8000/base/v1/models HTTP/1.1\r\nHost: " + plainHost + ":8000\r\n\r\n": 400,
		"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n":                               421,
		"GET /base/v1/models HTTP/1.1\r\nHost: " + plainHost + "\r\n\r\n":                                   421,
		"GET /base//v1/models HTTP/1.1\r\nHost: " + plainHost + ":8000\r\n\r\n":                             400,
	} {
		c := r.connect(t)
		in := bufio.NewReader(c)
		_, err := io.WriteString(c, "GET /base/v1/models HTTP/1.1\r\nHost: "+plainHost+":8000\r\n\r\n"+send)
		must(t, err)
		for _, want := range []int{200, status} {
			res, err := http.ReadResponse(in, nil)
			must(t, err)
			if text := readAll(t, res); res.StatusCode != want {
				t.Errorf("%q: %d %s, want %d", send, res.StatusCode, text, want)
			}
			r.records.next(t)
		}
	}
	r.gate.decide = func(q *gate.Request) bool { return q.Destination.Kind == policy.DestinationModel }
	for name, send := range map[string]string{
		"by TLS":          string(helloBytes(t, &tls.Config{ServerName: plainHost, InsecureSkipVerify: true})),
		"by HTTP/2":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"by no protocol":  "\x00\x01",
		"in a proxy form": "GET http://" + plainHost + ":8000/ HTTP/1.1\r\nHost: " + plainHost + ":8000\r\n\r\n",
	} {
		c := r.connect(t)
		_, err := io.WriteString(c, send)
		must(t, err)
		_ = c.CloseWrite() // it may be refused by a reset already
		_, _ = io.ReadAll(c)
		if rec := r.records.next(t); rec.Destination.Kind != policy.DestinationUnknown || rec.Outcome != telemetry.OutcomeRefused {
			t.Errorf("%s: record %+v", name, rec)
		}
	}
}

// Addresses that somebody wrote down are dialled, whatever they are; names that resolve to such are not.
func TestNamedAddresses(t *testing.T) {
	r := newRig(t)
	r.p.connector.resolver = failingResolver{}
	s := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	r.p.connector.dial = (&net.Dialer{}).DialContext
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	r.snap.Providers = []Provider{{Name: "local", API: "ollama", Hosts: []string{"localhost"}, Port: at.Port(), Plaintext: true, Addresses: []string{"127.0.0.1"}}}
	addr := r.explicit(t)
	res, err := r.viaProxy(t, addr, false).Post("http://localhost.:"+s.URL[strings.LastIndexByte(s.URL, ':')+1:]+"/api/chat", "application/json", strings.NewReader(`{}`))
	must(t, err)
	if got := readAll(t, res); res.StatusCode != 200 || got != "{}" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	if rec := r.records.next(t); rec.Destination.Host != "localhost" || rec.Destination.Kind != policy.DestinationModel {
		t.Errorf("record %+v", rec)
	}
	r.p.connector.resolver = fixedResolver{netip.MustParseAddr("127.0.0.1")}
	r.snap.Providers[0].Addresses = nil
	must(t, r.p.Update(r.snap))
	res, err = http.Post("http://"+addr+"/local/api/chat", "application/json", strings.NewReader(`{}`))
	must(t, err)
	if got := readAll(t, res); res.StatusCode != 502 || !strings.Contains(got, "address_refused") {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	r.records.next(t)
}

func TestExplicitCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl on this machine: net/http alone speaks for real clients here")
		return
	}
	r := newRig(t)
	addr := r.explicit(t)
	r.provider(t, true, echo)
	r.plainServer(t, plainPort, echo)
	ca := t.TempDir() + "/ca.pem"
	must(t, os.WriteFile(ca, []byte(r.root.pem()), 0o600))
	for name, args := range map[string][]string{
		"h1":     {"--http1.1", "-x", "http://" + addr, "https://" + modelHost + "/v1/chat/completions"},
		"h2":     {"--http2", "-x", "http://" + addr, "https://" + modelHost + "/v1/chat/completions"},
		"tunnel": {"-p", "-x", "http://" + addr, "http://" + plainHost + ":8000/base/v1/chat/completions"},
		"plain":  {"-x", "http://" + addr, "http://" + plainHost + ":8000/base/v1/chat/completions"},
		"route":  {"http://" + addr + "/model/v1/chat/completions"},
		"h2c":    {"--http2-prior-knowledge", "http://" + addr + "/model/v1/chat/completions"},
	} {
		out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--noproxy", "", "--cacert", ca, "-H", "Content-Type: application/json", "-d", `{"model":"m"}`, "-m", "20"}, args...)...).CombinedOutput()
		if err != nil || string(out) != `{"model":"m"}` {
			t.Errorf("%s: %s %v", name, out, err)
		}
		if rec := r.records.next(t); rec.Destination.Kind != policy.DestinationModel {
			t.Errorf("%s: record %+v", name, rec)
		}
	}
	r.gate.mu.Lock() // nothing orders this before a call of another process
	r.gate.decide = func(*gate.Request) bool { return false }
	r.gate.mu.Unlock()
	out, err := exec.CommandContext(t.Context(), "curl", "-sS", "-m", "20", "-x", "http://"+addr, "https://evil.example/").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "403") {
		t.Errorf("refused: %s %v", out, err)
	}
	r.records.next(t)
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a.example:443", "A.example.", "[::1]:443", "[::ffff:127.0.0.1]:80", "10.0.0.1", "10.0.0.1:80", "127.1:80", "fe80::1%eth0", "[fe80::1%25eth0]:1", "u@a:1", ":1", "[a.example]:1", "[10.0.0.1]:1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, at, err := parseAuthority(s, 80)
		if err != nil {
			return
		}
		if (host == "") != at.Addr().IsValid() || at.Port() == 0 || at.Addr().Is4In6() || at.Addr().Zone() != "" {
			t.Fatalf("%q is %q at %s", s, host, at)
		}
		// Whoever else reads it reads the same.
		u, err := url.Parse("http://" + s + "/")
		if err != nil {
			t.Fatalf("%q is no authority of a URL: %v", s, err)
		}
		if host != "" {
			if again, err := canonicalHost(u.Hostname()); err != nil || again != host {
				t.Errorf("%q is %q, read by another as %q", s, host, u.Hostname())
			}
		} else if a, err := netip.ParseAddr(u.Hostname()); err != nil || a.Unmap() != at.Addr() {
			t.Errorf("%q is %s, read by another as %q", s, at.Addr(), u.Hostname())
		}
	})
}

// Where there is a token, nothing arrives of those who do not show it, and nobody beyond the proxy ever sees it.
func TestExplicitToken(t *testing.T) {
	const token = "t0k-en_OF-the_run"
	right := "Basic " + base64.StdEncoding.EncodeToString([]byte("sallyport:"+token))
	for name, tc := range map[string]struct {
		head   string
		status string // "" for one that arrives
	}{
		"CONNECT, none":              {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\n", "407"},
		"CONNECT, wrong":             {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("sallyport:other")) + "\r\n", "407"},
		"CONNECT, another user":      {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("root:"+token)) + "\r\n", "407"},
		"CONNECT, another scheme":    {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer " + token + "\r\n", "407"},
		"CONNECT, twice":             {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eA==\r\nProxy-Authorization: " + right + "\r\n", "407"},
		"CONNECT, elsewhere":         {"CONNECT " + modelHost + ":443 HTTP/1.1\r\nHost: x\r\nAuthorization: " + right + "\r\n", "407"},
		"tunnel, none":               {"CONNECT " + tunnelHost + ":443 HTTP/1.1\r\nHost: x\r\n", "407"},
		"absolute, none":             {"GET http://" + plainHost + ":8000/base/v1/models HTTP/1.1\r\nHost: x\r\n", "407"},
		"absolute, path":             {"GET http://" + plainHost + ":8000/" + token + "/base/v1/models HTTP/1.1\r\nHost: x\r\n", "407"},
		"asterisk":                   {"OPTIONS * HTTP/1.1\r\nHost: x\r\n", "407"},
		"route, none":                {"GET /plain/base/v1/models HTTP/1.1\r\nHost: localhost\r\n", "403"},
		"route, a part":              {"GET /" + token[:5] + "/plain/base/v1/models HTTP/1.1\r\nHost: localhost\r\n", "403"},
		"route, escaped":             {"GET /%74" + token[1:] + "/plain/base/v1/models HTTP/1.1\r\nHost: localhost\r\n", "403"},
		"route, by a header":         {"GET /plain/base/v1/models HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: " + right + "\r\n", "403"},
		"route, another site's page": {"GET /" + token + "/plain/base/v1/models HTTP/1.1\r\nHost: evil.example\r\n", "403"},
		"route":                      {"GET /" + token + "/plain/base/v1/models?a=b HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: " + right + "\r\n", ""},
		"absolute":                   {"GET http://" + plainHost + ":8000/base/v1/models?a=b HTTP/1.1\r\nHost: x\r\nproxy-authorization: bASIC  " + strings.TrimPrefix(right, "Basic ") + "\r\n", ""},
		"another plain host":         {"GET http://other.example:8000/base/v1/models?a=b HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + right + "\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.ExplicitToken = token })
			addr := r.explicit(t)
			r.provider(t, false, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
			r.plainServer(t, plainPort, func(w http.ResponseWriter, req *http.Request) {
				if said := fmt.Sprint(req.Host, req.RequestURI, req.Header); tc.status != "" || strings.Contains(said, token) || strings.Contains(said, right[6:]) || req.RequestURI != "/base/v1/models?a=b" {
					t.Errorf("arrived: %s", said)
				}
			})
			c := dialTest(t, addr)
			_, err := io.WriteString(c, tc.head+"Connection: close\r\n\r\n")
			must(t, err)
			b, err := io.ReadAll(c)
			must(t, err)
			if tc.status != "" {
				if !strings.HasPrefix(string(b), "HTTP/1.1 "+tc.status) || (tc.status == "407") != strings.Contains(string(b), "Proxy-Authenticate: Basic realm=") {
					t.Errorf("%s", b)
				}
				r.records.none(t)
				return
			}
			rec := r.records.next(t)
			if !strings.HasPrefix(string(b), "HTTP/1.1 200") || strings.Contains(fmt.Sprintf("%+v", rec), token) {
				t.Errorf("%s, record %+v", b, rec)
			}
			for _, asked := range r.gate.requests() {
				if said := fmt.Sprint(asked.Destination, asked.Query, asked.Header); strings.Contains(said, token) || strings.Contains(said, right[6:]) {
					t.Errorf("the gate was told: %s", said)
				}
			}
		})
	}
	t.Run("CONNECT", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.ExplicitToken = token })
		addr := r.explicit(t)
		r.provider(t, true, echo)
		client := r.viaProxy(t, "sallyport:"+token+"@"+addr, true)
		res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if got := readAll(t, res); got != `{}` {
			t.Errorf("%d %q", res.StatusCode, got)
		}
	})
	for _, bad := range []string{"a/b", "a b", "ä", "a%20", "a:b", "a@b"} {
		if _, err := New(Options{Gate: &stubGate{}, Recorder: records(nil), Minter: certs.NewMinter(), Registerer: prometheus.NewRegistry(), ExplicitToken: bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
