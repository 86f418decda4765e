package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/capture"
)

type failingResolver struct{}

func (failingResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// server is a plain TCP stand-in for the world; h owns the connection until it returns.
func (r *rig) tcp(t *testing.T, port uint16, h func(*net.TCPConn)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			h(c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	r.at(port, l.Addr().String())
}

func TestTunnelTLS(t *testing.T) {
	r := newRig(t)
	cert := r.world.server(t, tunnelHost)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "package") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	r.at(443, s.Listener.Addr().String())

	// The caller sees the server's own certificate: nothing was read.
	c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.world.pool(), ServerName: tunnelHost})
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+tunnelHost+"\r\nConnection: close\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if got := readAll(t, res); got != "package" {
		t.Errorf("%q", got)
	}
	must(t, c.Close())
	rec := r.records.next(t)
	want := policy.Destination{Kind: policy.DestinationPassthrough, Scheme: "tls", Host: tunnelHost, Port: 443, Address: worldAddr}
	if rec.Destination != want || rec.ResponseBytes == 0 || rec.Outcome != telemetry.OutcomeReleased {
		t.Errorf("record %+v", rec)
	}
}

func TestTunnelHalfClose(t *testing.T) {
	r := newRig(t)
	r.dialled("198.51.100.7:5432")
	r.tcp(t, 5432, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "the server speaks first\n")
		b, _ := io.ReadAll(c) // until the caller's end has come through
		_, _ = c.Write(b)
	})
	c := r.connect(t)
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || line != "the server speaks first\n" {
		t.Fatalf("%q %v", line, err)
	}
	body := strings.Repeat("0123456789", 100_000)
	_, err := io.WriteString(c, body)
	must(t, err)
	must(t, c.CloseWrite())
	if got, err := io.ReadAll(in); err != nil || string(got) != body {
		t.Errorf("%d bytes came back (%v)", len(got), err)
	}
	rec := r.records.next(t)
	if rec.Destination.Kind != policy.DestinationPassthrough || rec.Destination.Scheme != "tcp" || rec.Destination.Host != "198.51.100.7" || rec.ResponseBytes != int64(len(body))+24 || rec.UpstreamError != "" {
		t.Errorf("record %+v", rec)
	}
}

func TestTunnelHTTP(t *testing.T) {
	r := newRig(t)
	r.dialled(worldAddr + ":80")
	r.tcp(t, 80, func(c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+req.Host)
	})
	c := r.connect(t)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: Registry.Example:80\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if got := readAll(t, res); got != "Registry.Example:80" {
		t.Errorf("%q", got)
	}
	must(t, c.Close())
	if rec := r.records.next(t); rec.Destination.Host != tunnelHost || rec.Destination.Scheme != "http" || rec.Destination.Kind != policy.DestinationPassthrough {
		t.Errorf("record %+v", rec)
	}
}

func TestRefusedTunnels(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Timeouts.Peek = 200 * time.Millisecond })
	r.gate.decide = func(q *gate.Request) bool { return q.Destination.Kind == policy.DestinationPassthrough }
	hello := func(name string) string {
		return string(helloBytes(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
	}
	alert := string(alertAccessDenied)
	for name, tc := range map[string]struct {
		dialled, send string
		kind          policy.DestinationKind
		scheme, host  string
		answer        string // its beginning; "" for a reset
	}{
		"other host by TLS":           {worldAddr + ":443", hello("evil.example"), policy.DestinationOther, "tls", "evil.example", alert},
		"no server name":              {worldAddr + ":443", hello(""), policy.DestinationUnknown, "tls", worldAddr, alert},
		"encrypted ClientHello":       {worldAddr + ":443", string(withExtension(t, []byte(hello(modelHost)), extensionECH, outerECH)), policy.DestinationUnknown, "tls", worldAddr, alert},
		"provider on another port":    {worldAddr + ":8443", hello(modelHost), policy.DestinationOther, "tls", modelHost, alert},
		"provider in the clear":       {worldAddr + ":443", "POST /v1/chat/completions HTTP/1.1\r\nHost: " + modelHost + ":443\r\n\r\n", policy.DestinationUnknown, "http", modelHost, "HTTP/1.1 403"},
		"provider in the clear, 80":   {worldAddr + ":80", "POST /v1/chat/completions HTTP/1.1\r\nHost: " + modelHost + "\r\n\r\n", policy.DestinationUnknown, "http", modelHost, "HTTP/1.1 403"},
		"other host by HTTP":          {worldAddr + ":80", "GET / HTTP/1.1\r\nhost:evil.example\r\n\r\n", policy.DestinationOther, "http", "evil.example", "HTTP/1.1 403"},
		"host with another port":      {worldAddr + ":80", "GET / HTTP/1.1\r\nHost: " + tunnelHost + ":81\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"two hosts":                   {worldAddr + ":80", "GET / HTTP/1.1\r\nHost: " + tunnelHost + "\r\nHost: evil.example\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"no host":                     {worldAddr + ":80", "GET / HTTP/1.0\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"host is an address":          {worldAddr + ":80", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"absolute form":               {worldAddr + ":80", "GET http://evil.example/ HTTP/1.1\r\nHost: " + tunnelHost + "\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"CONNECT":                     {worldAddr + ":80", "CONNECT " + tunnelHost + ":443 HTTP/1.1\r\nHost: " + tunnelHost + "\r\n\r\n", policy.DestinationUnknown, "http", worldAddr, "HTTP/1.1 403"},
		"folded header":               {worldAddr + ":80", "GET / HTTP/1.1\r\nX: 1\r\n Host: evil.example\r\nHost: " + tunnelHost + "\r\n\r\n", policy.DestinationUnknown, "tcp", worldAddr, ""},
		"HTTP/2 in the clear":         {worldAddr + ":80", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", policy.DestinationUnknown, "tcp", worldAddr, ""},
		"another protocol":            {worldAddr + ":22", "SSH-2.0-x\r\n", policy.DestinationUnknown, "tcp", worldAddr, ""},
		"silence":                     {worldAddr + ":3306", "", policy.DestinationUnknown, "tcp", worldAddr, ""},
		"half a ClientHello":          {worldAddr + ":443", hello(modelHost)[:40], policy.DestinationUnknown, "tcp", worldAddr, ""},
		"address rule, other port":    {"198.51.100.7:5433", "", policy.DestinationUnknown, "tcp", "198.51.100.7", ""},
		"no name in a ruled network":  {"198.51.101.200:443", hello(""), policy.DestinationUnknown, "tls", "198.51.101.200", alert},
		"address rule, other network": {"198.51.101.7:5432", "", policy.DestinationUnknown, "tcp", "198.51.101.7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.dialled(tc.dialled)
			c := r.connect(t)
			_, err := io.WriteString(c, tc.send)
			must(t, err)
			b, err := io.ReadAll(c)
			if tc.answer == "" && (err == nil || len(b) > 0) || !strings.HasPrefix(string(b), tc.answer) {
				t.Errorf("answered %q (%v), want %q", b, err, tc.answer)
			}
			_ = c.Close()
			rec := r.records.next(t)
			port := netip.MustParseAddrPort(tc.dialled)
			want := policy.Destination{Kind: tc.kind, Scheme: tc.scheme, Host: tc.host, Port: int(port.Port()), Address: port.Addr().String()}
			if rec.Destination != want || rec.Outcome != telemetry.OutcomeRefused {
				t.Errorf("destination %+v, want %+v (%s)", rec.Destination, want, rec.Outcome)
			}
			if strings.HasPrefix(tc.answer, "HTTP") && !strings.Contains(string(b), rec.ID) {
				t.Errorf("answer without the decision's id: %q", b)
			}
		})
	}
	r.records.none(t)
}

func TestAlertReachesTLSClient(t *testing.T) {
	r := newRig(t)
	r.gate.decide = func(*gate.Request) bool { return false }
	err := tls.Client(r.connect(t), &tls.Config{ServerName: "evil.example"}).Handshake()
	var a tls.AlertError
	if !strings.Contains(err.Error(), "access denied") && !errors.As(err, &a) {
		t.Errorf("handshake: %v", err)
	}
}

func TestReleasedTunnelIsNotDialledEverywhere(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Timeouts.Peek = 100 * time.Millisecond })
	r.p.connector.dial = func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("no")
	}
	for _, a := range []string{"169.254.169.254:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "127.0.0.1:80"} {
		r.dialled(a)
		c := r.connect(t)
		if b, err := io.ReadAll(c); err == nil || len(b) > 0 {
			t.Errorf("%s: answered %q %v", a, b, err)
		}
		if rec := r.records.next(t); rec.UpstreamError != "address_refused" {
			t.Errorf("%s: record %+v", a, rec)
		}
	}
}

func TestNotRedirectedIsDropped(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := newRig(t, func(o *Options) { o.Registerer = reg })
	r.dialled("")
	c, err := net.Dial("tcp", r.addr)
	if err == nil { // else the reset was there first
		_ = c.SetDeadline(time.Now().Add(patience))
		// A reset is told once, to whichever of the two comes after it.
		_, wrote := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+tunnelHost+"\r\n\r\n")
		if b, err := io.ReadAll(c); wrote == nil && err == nil || len(b) > 0 {
			t.Errorf("answered %q %v", b, err)
		}
		_ = c.Close()
	}
	want := `
# HELP sallyport_connections_total Captured connections by what became of them: model, tunnel, refused, unreachable, unauthorized, not_redirected, probe, gone, handshake_failed, panic.
# TYPE sallyport_connections_total counter
sallyport_connections_total{result="not_redirected"} 1
`
	must(t, testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_connections_total"))
	if n := len(r.gate.requests()); n != 0 {
		t.Errorf("judged %d times", n)
	}
}

func TestUntrustingCallerIsNotTunnelled(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	for range 3 {
		if err := tls.Client(r.connect(t), &tls.Config{ServerName: modelHost, RootCAs: r.world.pool()}).Handshake(); err == nil {
			t.Error("the caller was tunnelled to the provider")
		}
	}
}

func TestBeforeTheFirstSnapshot(t *testing.T) {
	r := newRig(t)
	r.p.view.Store(r.p.closed())
	r.gate.decide = func(q *gate.Request) bool { return !q.KillSwitch }
	if err := tls.Client(r.connect(t), &tls.Config{ServerName: modelHost, InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("served")
	}
	r.records.next(t)
}

func TestProbe(t *testing.T) {
	r := newRig(t)
	for probe, back := range map[netip.AddrPort]chan struct{}{capture.Probe4: r.p.probed4, capture.Probe6: r.p.probed6} {
		r.dialled(probe.String())
		for range 2 {
			if b, err := io.ReadAll(r.connect(t)); err != nil || len(b) > 0 {
				t.Errorf("answered %q %v", b, err)
			}
		}
		<-back
	}
	must(t, r.p.SelfTest(t.Context()))
}

func TestDrain(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		started, finish := make(chan struct{}), make(chan struct{})
		r.provider(t, providerH2, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			close(started)
			<-finish
			_, _ = io.WriteString(w, "b")
		})
		res, err := r.client(t, callerH2).Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		<-started
		drained := make(chan error, 1)
		go func() { drained <- r.p.Drain(t.Context()) }()
		// The listener closes at once; the call goes on.
		for {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				break
			}
			_ = c.Close()
		}
		select {
		case err := <-drained:
			t.Fatalf("drained under a call: %v", err)
		default:
		}
		close(finish)
		if got := readAll(t, res); got != "ab" {
			t.Errorf("%q", got)
		}
		must(t, <-drained)
		if len(r.records) != 1 {
			t.Errorf("%d records after draining", len(r.records))
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	r := newRig(t)
	started := make(chan struct{}, 1)
	r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		started <- struct{}{}
		<-req.Context().Done()
	})
	res, err := r.client(t, false).Do(post(t, t.Context(), strings.NewReader(`{}`)))
	must(t, err)
	<-started
	r.dialled("198.51.100.7:5432")
	r.tcp(t, 5432, func(c *net.TCPConn) {
		started <- struct{}{}
		_, _ = io.ReadAll(c)
	})
	tunnel := r.connect(t)
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.p.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v", err)
	}
	if len(r.records) != 2 {
		t.Errorf("%d records after draining, want the call's and the tunnel's", len(r.records))
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the cut call ended well")
	}
	if _, err := io.ReadAll(tunnel); err == nil {
		t.Error("the cut tunnel ended well")
	}
}
