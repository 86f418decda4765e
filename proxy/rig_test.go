package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/capture"
)

const (
	// patience is how long a test waits for what must happen; nothing is measured against it.
	patience = 20 * time.Second

	modelHost   = "api.model.example"
	tunnelHost  = "registry.example"
	apiKey      = "sk-of-the-provider"
	worldAddr   = "203.0.113.10" // where every name resolves to
	decidedRule = "TEST-DENY"
)

// testRoot is an authority that signs what it is asked to.
type testRoot struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestRoot(t testing.TB) *testRoot {
	t.Helper()
	key, err := certs.GenerateKey()
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	return &testRoot{sign(t, tmpl, tmpl, key.Public(), key), key}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

func (r *testRoot) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw}))
}

func (r *testRoot) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(r.cert)
	return p
}

func (r *testRoot) server(t testing.TB, host string) tls.Certificate {
	t.Helper()
	key, err := certs.GenerateKey()
	must(t, err)
	c := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotBefore: r.cert.NotBefore, NotAfter: r.cert.NotAfter}, r.cert, key.Public(), r.key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (r *testRoot) authority(t testing.TB, hosts ...string) *certs.Authority {
	t.Helper()
	key, err := certs.GenerateKey()
	must(t, err)
	der, err := certs.IntermediateRequest(key, "sallyport sidecar test/test", hosts)
	must(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	must(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	must(t, err)
	c := sign(t, &x509.Certificate{SerialNumber: serial, Subject: csr.Subject, NotBefore: r.cert.NotBefore, NotAfter: r.cert.NotAfter,
		ExtraExtensions: csr.Extensions, SubjectKeyId: serial.Bytes()}, r.cert, csr.PublicKey, r.key)
	a, err := certs.NewAuthority([]*x509.Certificate{c}, key)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stubGate decides as the test says and remembers what it was asked.
type stubGate struct {
	mu     sync.Mutex
	asked  []gate.Request
	decide func(*gate.Request) bool // nil releases

	mode        policy.ResponseMode       // of every verdict
	decideReply func(llm.Reply, int) bool // nil releases
	replies     []llm.Reply
	edit        func(*gate.Request) []byte // nil leaves bodies as they are
	findings    []string                   // of every message
}

func (g *stubGate) Judge(_ context.Context, r *gate.Request) *gate.Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := *r
	seen.Body = bytes.Clone(r.Body)
	g.asked = append(g.asked, seen)
	rec := &telemetry.Record{ID: r.ID, Time: r.Time, Destination: r.Destination, Workload: r.Workload, TraceID: r.TraceID, SpanID: r.SpanID,
		Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow}
	for _, f := range r.Findings {
		rec.Call.Findings = append(rec.Call.Findings, string(f.Code))
	}
	v := &gate.Verdict{Release: g.decide == nil || g.decide(r), Record: rec, Response: cmp.Or(g.mode, policy.ResponseObserve)}
	if g.edit != nil {
		v.Body = g.edit(r)
	}
	if r.Message {
		rec.Call.Findings = append(rec.Call.Findings, g.findings...)
	}
	if r.Destination.Method != "" {
		v.Row = surface.Lookup(r.API, r.Destination.Method, r.Destination.Path).Row
	}
	if !v.Release {
		rec.Outcome, rec.Action, rec.Rule = telemetry.OutcomeRefused, policy.ActionDeny, decidedRule
		v.Refusal = llm.Refusal{DecisionID: r.ID, Rule: decidedRule, Message: "The test refuses this."}
	}
	return v
}

// JudgeResponse is part of judge.
func (g *stubGate) JudgeResponse(_ context.Context, v *gate.Verdict, reply llm.Reply, status int) gate.ResponseVerdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replies = append(g.replies, reply)
	if g.decideReply == nil || g.decideReply(reply, status) {
		v.Record.ResponseAction = policy.ActionAllow
		return gate.ResponseVerdict{Release: true}
	}
	v.Record.ResponseAction, v.Record.ResponseRule = policy.ActionDeny, decidedRule
	if v.Response == policy.ResponseObserve {
		return gate.ResponseVerdict{Release: true}
	}
	v.Record.Outcome = telemetry.OutcomeCut
	return gate.ResponseVerdict{Refusal: llm.Refusal{DecisionID: v.Record.ID, Rule: decidedRule, Message: "The test withholds this."}}
}

// judgedReplies are the replies that were judged.
func (g *stubGate) judgedReplies() []llm.Reply {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.replies)
}

func (g *stubGate) requests() []gate.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]gate.Request(nil), g.asked...)
}

// records takes what is emitted.
type records chan telemetry.Record

func (r records) Emit(rec *telemetry.Record) { r <- *rec }

func (r records) next(t testing.TB) telemetry.Record {
	t.Helper()
	select {
	case rec := <-r:
		return rec
	case <-time.After(patience):
		t.Fatal("no record was emitted")
		return telemetry.Record{}
	}
}

func (r records) none(t testing.TB) {
	t.Helper()
	select {
	case rec := <-r:
		t.Errorf("one record too many: %+v", rec)
	default:
	}
}

// fixedResolver knows one address.
type fixedResolver []netip.Addr

func (f fixedResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return f, nil
}

// rig is a proxy between a caller and a stand-in for the world.
type rig struct {
	p       *Proxy
	gate    *stubGate
	records records
	root    *testRoot // what the caller trusts
	world   *testRoot // what the proxy trusts
	minter  *certs.Minter
	addr    string // of the proxy's listener
	served  chan error
	snap    Snapshot

	mu   sync.Mutex
	orig netip.AddrPort    // what captured connections were made to
	to   map[uint16]string // where the world's ports really are
}

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{gate: &stubGate{}, records: make(records, 1024), root: newTestRoot(t), world: newTestRoot(t), minter: certs.NewMinter(),
		orig: netip.MustParseAddrPort(worldAddr + ":443"), to: map[uint16]string{}, served: make(chan error, 1)}
	r.minter.SetAuthority(r.root.authority(t, modelHost))
	o := Options{Gate: r.gate, Recorder: r.records, Minter: r.minter, Registerer: prometheus.NewRegistry()}
	for _, c := range change {
		c(&o)
	}
	p, err := New(o)
	must(t, err)
	r.p = p
	p.originalDst = func(net.Conn) (netip.AddrPort, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.orig.IsValid() {
			return r.orig, capture.ErrNotRedirected
		}
		return r.orig, nil
	}
	p.connector.resolver = fixedResolver{netip.MustParseAddr(worldAddr)}
	p.connector.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		a := netip.MustParseAddrPort(address)
		r.mu.Lock()
		to := r.to[a.Port()]
		r.mu.Unlock()
		if to == "" {
			return nil, &net.OpError{Op: "dial", Err: errors.New("nobody is there")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	r.snap = Snapshot{
		Workload:    policy.Workload{Namespace: "agents", Kind: "Deployment", Name: "agent"},
		Mode:        "enforce",
		Providers:   []Provider{{Name: "model", API: "openai", Hosts: []string{modelHost}, Port: 443, Credential: "key", CABundle: r.world.pem()}},
		Credentials: map[string][]byte{"key": []byte(apiKey + "\n")},
		Passthrough: []Passthrough{{Host: tunnelHost}, {CIDR: "198.51.100.0/24", Ports: []uint16{5432}}, {CIDR: "198.51.101.200/32"}},
	}
	must(t, p.Update(r.snap))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r.addr = l.Addr().String()
	go func() { r.served <- p.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Drain(ctx)
		if err := <-r.served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

func (r *rig) dialled(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orig = netip.AddrPort{}
	if addr != "" {
		r.orig = netip.MustParseAddrPort(addr)
	}
}

func (r *rig) at(port uint16, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to[port] = addr
}

// provider starts a stand-in for the provider.
func (r *rig) provider(t testing.TB, h2 bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{r.world.server(t, modelHost)}}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	r.at(443, s.Listener.Addr().String())
	return s
}

// client is an agent's HTTP client; its connections are captured.
func (r *rig) client(t testing.TB, h2 bool) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: r.root.pool()}, Protocols: protocols, DisableCompression: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func (r *rig) connect(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// raw speaks HTTP/1.1 by hand over TLS.
func (r *rig) raw(t testing.TB, request string) *http.Response {
	t.Helper()
	c := tls.Client(r.connect(t), &tls.Config{RootCAs: r.root.pool(), ServerName: modelHost, NextProtos: []string{"http/1.1"}})
	_, err := io.WriteString(c, request)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func post(t testing.TB, ctx context.Context, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", "https://"+modelHost+"/v1/chat/completions?beta=1&beta=2", body)
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer of-the-caller")
	return req
}

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	return string(b)
}

// versions runs a test for each pair of protocols of caller and provider.
func versions(t *testing.T, f func(t *testing.T, caller, provider bool)) {
	name := map[bool]string{false: "h1", true: "h2"}
	for _, caller := range []bool{false, true} {
		for _, provider := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s to %s", name[caller], name[provider]), func(t *testing.T) { f(t, caller, provider) })
		}
	}
}

func bigBody(n int) string {
	return `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x<&>\u00e9", n/6) + `"}]}`
}
