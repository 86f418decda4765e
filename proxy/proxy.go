package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/capture"
)

// judge decides on calls and tunnels. It is satisfied by *gate.Gate.
type judge interface {
	Judge(ctx context.Context, r *gate.Request) *gate.Verdict
	JudgeResponse(ctx context.Context, v *gate.Verdict, reply llm.Reply, status int) gate.ResponseVerdict
}

// emitter takes decision records. It is satisfied by *telemetry.Recorder.
type emitter interface {
	Emit(r *telemetry.Record)
}

// minter makes certificates for hosts. It is satisfied by *certs.Minter.
type minter interface {
	Leaf(ctx context.Context, host string) (*tls.Certificate, error)
}

// Timeouts bound how long the proxy waits. A field that is not positive takes its default.
type Timeouts struct {
	CallTimeouts

	// Peek is how long a connection may take to say where it wants to go; then it is an unknown destination. Default 5 s.
	Peek time.Duration
	// Handshake bounds the TLS handshake with the caller. Default 10 s.
	Handshake time.Duration
	// KeepAlive is how long a caller's connection may wait for its next call. Default 5 min.
	KeepAlive time.Duration
	// Close is how long the other end of a WebSocket may take to agree on closing it. Default 5 s.
	Close time.Duration
}

// CallTimeouts bound how long the proxy waits in a call. There is none for a whole call: a stream may last as long as it moves.
type CallTimeouts struct {
	// RequestBody bounds the arrival of a request's body, and how long it may wait for memory. Default 2 min.
	RequestBody time.Duration
	// Connect bounds resolving and dialling, and the TLS handshake with the provider by itself. Default 10 s.
	Connect time.Duration
	// FirstByte is how long the provider may think before its response begins. Default 10 min.
	FirstByte time.Duration
	// Idle is how long a response, or both ends of a WebSocket, may pause. Default 10 min.
	Idle time.Duration
	// Hold is how long a caller hears nothing while its response is held; then it is sent what keeps it waiting, where the stream's form has such
	// a thing. Default 10 s.
	Hold time.Duration
}

// defaultTimeouts are in force where nobody says otherwise.
var defaultTimeouts = Timeouts{
	CallTimeouts: CallTimeouts{RequestBody: 2 * time.Minute, Connect: 10 * time.Second, FirstByte: 10 * time.Minute, Idle: 10 * time.Minute, Hold: 10 * time.Second},
	Peek:         5 * time.Second, Handshake: 10 * time.Second, KeepAlive: 5 * time.Minute, Close: 5 * time.Second,
}

func (t Timeouts) withDefaults() Timeouts {
	or := func(d, def time.Duration) time.Duration { return cmp.Or(max(d, 0), def) }
	return Timeouts{
		CallTimeouts: t.CallTimeouts.or(defaultTimeouts.CallTimeouts),
		Peek:         or(t.Peek, defaultTimeouts.Peek),
		Handshake:    or(t.Handshake, defaultTimeouts.Handshake),
		KeepAlive:    or(t.KeepAlive, defaultTimeouts.KeepAlive),
		Close:        or(t.Close, defaultTimeouts.Close),
	}
}

// or is t with others where it has none.
func (t CallTimeouts) or(others CallTimeouts) CallTimeouts {
	or := func(d, def time.Duration) time.Duration { return cmp.Or(max(d, 0), def) }
	return CallTimeouts{
		RequestBody: or(t.RequestBody, others.RequestBody),
		Connect:     or(t.Connect, others.Connect),
		FirstByte:   or(t.FirstByte, others.FirstByte),
		Idle:        or(t.Idle, others.Idle),
		Hold:        or(t.Hold, others.Hold),
	}
}

// Options are what a Proxy is made of. Gate, Recorder, Minter and Registerer are required.
type Options struct {
	Gate       judge
	Recorder   emitter
	Minter     minter
	Registerer prometheus.Registerer
	// Log is told of what is wrong with the proxy, not of calls; silent if nil.
	Log *zap.Logger
	// Timeouts bound how long is waited, where a Snapshot does not say otherwise.
	Timeouts Timeouts
	// Limits bound what is kept in memory, where a Snapshot does not say otherwise.
	Limits Limits
	// MaxConnections is how many captured connections are served at once; further ones wait to be accepted. Default 8192.
	MaxConnections int
	// Resolver resolves the names of destinations; by default the system's name servers are asked, without the C library.
	Resolver Resolver
	// ExplicitToken is what the callers of ServeExplicit must show: as the password of the user "sallyport" in Proxy-Authorization (Basic), or as the
	// first segment of a base URL's path. Empty asks for none; then only those may reach the listener whose calls these are. It is
	// of letters, digits, "-" and "_".
	ExplicitToken string
	// MaxConcurrentStreams is how many calls one HTTP/2 connection may have at once. Default 250.
	MaxConcurrentStreams int
}

// Proxy is the data plane. It refuses everything until its first Update.
type Proxy struct {
	gate     judge
	recorder emitter
	minter   minter
	log      *zap.Logger
	timeouts Timeouts
	limits   Limits
	token    *explicitToken // nil where nobody is asked
	metrics  *metrics
	slots    chan struct{}

	view     atomic.Pointer[view]
	updating sync.Mutex

	tls      *tls.Config
	captured *front // reads the connections to providers
	explicit *front // reads what callers ask of the explicit proxy

	probed4, probed6 chan struct{} // closed when a probe has come back
	probeOnce4       sync.Once
	probeOnce6       sync.Once

	mu        sync.Mutex // guards what follows
	idle      *sync.Cond // told when working comes to 0
	working   int        // connections before they are handed to server, tunnels, and calls
	listeners []net.Listener
	open      map[net.Conn]struct{} // connections that no front knows of
	serving   bool                  // the fronts have begun
	draining  bool

	// What tests replace.
	originalDst func(net.Conn) (netip.AddrPort, error)
	connector   *connector
	now         func() time.Time
}

// New makes a proxy.
func New(o Options) (*Proxy, error) {
	if o.Gate == nil || o.Recorder == nil || o.Minter == nil || o.Registerer == nil {
		return nil, errors.New("proxy: gate, recorder, minter and registerer are required")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	token, err := newExplicitToken(o.ExplicitToken)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	t := o.Timeouts.withDefaults()
	p := &Proxy{
		gate: o.Gate, recorder: o.Recorder, minter: o.Minter, log: cmp.Or(o.Log, zap.NewNop()), timeouts: t, metrics: m,
		slots:  make(chan struct{}, cmp.Or(max(o.MaxConnections, 0), 8192)),
		limits: o.Limits.withDefaults(), token: token, open: map[net.Conn]struct{}{},
		probed4: make(chan struct{}), probed6: make(chan struct{}),
		originalDst: originalDst, now: time.Now,
		connector: &connector{
			resolver: o.Resolver,
			dial:     (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}}).DialContext,
		},
	}
	if p.connector.resolver == nil {
		p.connector.resolver = &net.Resolver{PreferGo: true}
	}
	p.idle = sync.NewCond(&p.mu)
	p.view.Store(p.closed())
	p.tls = &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host, err := canonicalHost(hello.ServerName)
			if err != nil {
				return nil, err
			}
			return p.minter.Leaf(hello.Context(), host)
		},
	}
	p.captured, p.explicit = p.newFront(o), p.newFront(o)
	// Only here may HTTP/2 come without TLS: a captured connection shows by its first request where it goes, and HTTP/2 says that too late.
	p.explicit.server.Protocols.SetUnencryptedHTTP2(true)
	return p, nil
}

// front is an HTTP server for connections that come from this process.
type front struct {
	server *http.Server
	conns  *handoff      // on their way to server
	served chan struct{} // closed when server has ended
}

func (p *Proxy) newFront(o Options) *front {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &front{conns: newHandoff(), served: make(chan struct{}), server: &http.Server{
		Protocols:         protocols,
		Handler:           http.HandlerFunc(p.serve),
		ReadHeaderTimeout: 30 * time.Second,
		// An answer to "OPTIONS *" is not ours to give.
		DisableGeneralOptionsHandler: true,
		IdleTimeout:                  p.timeouts.KeepAlive,
		MaxHeaderBytes:               256 << 10,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: cmp.Or(o.MaxConcurrentStreams, 250)},
		ErrorLog:                     log.New(logWriter{p.log}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			if r, ok := c.(*replay); ok && r.dest != nil {
				return context.WithValue(ctx, destinationKey{}, r.dest)
			}
			return ctx
		},
	}}
}

// serve serves until stop.
func (f *front) serve() {
	defer close(f.served)
	_ = f.server.Serve(f.conns) // nothing but stop ends it
}

// stop takes no more connections and waits for the calls of those it has, until ctx is done.
func (f *front) stop(ctx context.Context, began bool) error {
	_ = f.conns.Close()
	err := f.server.Shutdown(ctx)
	if began {
		<-f.served
	}
	return err
}

// logWriter takes net/http's complaints, which are about callers and so no news.
type logWriter struct{ log *zap.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug("connection", zap.ByteString("says", b))
	return len(b), nil
}

func originalDst(c net.Conn) (netip.AddrPort, error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, capture.ErrNotRedirected
	}
	return capture.OriginalDst(t)
}

// Update puts a snapshot in force for the calls that begin after it. A snapshot that cannot be understood changes nothing and
// is reported. It may be called at any time.
func (p *Proxy) Update(s Snapshot) error {
	p.updating.Lock()
	defer p.updating.Unlock()
	before := p.view.Load()
	v, err := p.compile(&s, before)
	if err != nil {
		return fmt.Errorf("update proxy: %w", err)
	}
	p.view.Store(v)
	for name, at := range v.byProvider {
		if u, ok := at.credential.broken(); ok {
			p.log.Warn("the calls of a provider fail: its credential is unusable", zap.String("provider", name), zap.Error(u.err))
		}
	}
	for id, u := range before.upstreams {
		if v.upstreams[id] == nil {
			u.transport.CloseIdleConnections() // those in use close when their calls end
		}
	}
	if v.plain != before.plain {
		before.plain.transport.CloseIdleConnections()
	}
	return nil
}

// Serve accepts captured connections until Drain. It returns nil after Drain, and otherwise what went wrong with the listener.
func (p *Proxy) Serve(l net.Listener) error { return p.accept(l, p.handle) }

// accept hands each connection to handle, which owns it.
func (p *Proxy) accept(l net.Listener, handle func(net.Conn)) error {
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return l.Close()
	}
	p.listeners = append(p.listeners, l)
	if !p.serving {
		p.serving = true
		go p.captured.serve()
		go p.explicit.serve()
	}
	p.mu.Unlock()

	backoff := time.Duration(0)
	for {
		p.slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			<-p.slots
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			var ne net.Error
			if !errors.As(err, &ne) {
				return fmt.Errorf("accept connection: %w", err)
			}
			// Out of descriptors, or the caller is gone already: go on, but do not spin.
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			p.log.Warn("accept", zap.Error(err), zap.Duration("again_in", backoff))
			<-time.After(backoff)
			continue
		}
		backoff = 0
		if !p.enter(c) {
			_ = c.Close()
			<-p.slots
			continue
		}
		go func() {
			defer p.end()
			handle(c)
		}()
	}
}

// enter takes a connection into account, unless the proxy drains.
func (p *Proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return false
	}
	p.open[c] = struct{}{}
	p.working++
	p.metrics.open.Inc()
	return true
}

// begin and end frame what Drain waits for.
func (p *Proxy) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working++
}

func (p *Proxy) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.working--; p.working == 0 {
		p.idle.Broadcast()
	}
}

// leave closes a connection unless it was handed on, and gives its slot back.
func (p *Proxy) leave(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	_ = c.Close()
	p.metrics.open.Dec()
	<-p.slots
}

// handle leads one captured connection to where it belongs. It owns the connection until it is handed to the HTTP server.
func (p *Proxy) handle(c net.Conn) {
	handed := false
	defer func() {
		if v := recover(); v != nil {
			p.metrics.connections.WithLabelValues("panic").Inc()
			p.log.Error("connection given up", zap.Any("panic", v), zap.Stack("stack"))
		}
		if !handed {
			p.leave(c)
		}
	}()

	orig, err := p.originalDst(c)
	if err != nil {
		p.metrics.connections.WithLabelValues("not_redirected").Inc()
		reset(c)
		return
	}
	if orig == capture.Probe4 || orig == capture.Probe6 {
		p.metrics.connections.WithLabelValues("probe").Inc()
		p.probed(orig)
		return
	}
	v := p.view.Load()
	ctx := context.Background()
	var pk peeked
	if v.unread(orig) {
		pk.protocol = protocolTCP
	} else if pk, err = peek(ctx, c, p.now().Add(p.timeouts.Peek)); err != nil {
		p.metrics.connections.WithLabelValues("gone").Inc()
		return
	}
	dest := destine(v, pk, orig)
	if !dest.model {
		p.tunnel(ctx, c, pk, dest, v)
		return
	}
	handed = p.readHere(ctx, &replay{Conn: c, read: pk.read, dest: dest}, sync.OnceFunc(func() { p.metrics.open.Dec(); <-p.slots }))
}

// readHere ends TLS, unless the provider is spoken to without it, and hands the connection to the HTTP server, which closes it; closed is then
// called. It says whether it did: otherwise the connection is still the caller's to close.
func (p *Proxy) readHere(ctx context.Context, rc *replay, closed func()) bool {
	var c net.Conn = rc
	if rc.dest.scheme == "https" {
		tc := tls.Server(rc, p.tls)
		ctx, cancel := context.WithTimeout(ctx, p.timeouts.Handshake)
		err := tc.HandshakeContext(ctx)
		cancel()
		if err != nil {
			// A caller that does not trust the leaf is never tunnelled for it.
			p.metrics.connections.WithLabelValues("handshake_failed").Inc()
			p.log.Debug("TLS handshake with the caller", zap.String("host", rc.dest.host), zap.Error(err))
			return false
		}
		c = tc
	}
	p.metrics.connections.WithLabelValues("model").Inc()
	p.mu.Lock()
	delete(p.open, rc.Conn) // from here on it is the server's to close
	p.mu.Unlock()
	rc.closed = closed
	if !p.captured.conns.give(c) {
		rc.closed = nil
		return false
	}
	return true
}

// destination is where a connection wants to go.
type destination struct {
	// orig is what the caller dialled; without an address where it asked for a name by the explicit proxy.
	orig netip.AddrPort
	host string // canonical name; "" where there is none
	// model says that the host is a provider's, so that what is said is read here.
	model bool
	// byName says to resolve the name; else the tunnel goes to the address that the caller dialled.
	byName bool
	kind   policy.DestinationKind
	scheme string
}

type destinationKey struct{}

// destine finds a connection's destination:
//
//	protocol  name                   destination
//	TLS       a provider's, its port model: TLS is ended here
//	HTTP      the same, plaintext    model
//	TLS, HTTP these the other way    unknown: a provider is spoken to in one way
//	HTTP      a provider's           unknown: nor on another port in the clear
//	any       passthrough by name    passthrough, to the name
//	any       none, provider's port  unknown: it may be a provider that is not named
//	any       any, passthrough CIDR  passthrough, to the address
//	any       another                other, to the name
//	any       none                   unknown
func destine(v *view, pk peeked, orig netip.AddrPort) *destination {
	d := newDestination(pk.protocol, "", orig)
	switch pk.protocol {
	case protocolTLS:
		if host, err := canonicalHost(pk.authority); err == nil {
			d.host = host
		}
	case protocolHTTP:
		if host, port, err := canonicalAuthority(pk.authority, 80); err == nil && port == orig.Port() {
			d.host = host
		}
	}
	d.settle(v, pk.protocol)
	return d
}

// newDestination is one of which nothing is known but what is said here.
func newDestination(proto protocol, host string, orig netip.AddrPort) *destination {
	return &destination{orig: orig, host: host, scheme: string(proto), kind: policy.DestinationUnknown}
}

// settle finds the kind of a destination whose name and address are known.
func (d *destination) settle(v *view, proto protocol) {
	at := v.provider(d.host, d.orig.Port())
	switch {
	case at != nil && at.protocol() == proto:
		d.model, d.scheme, d.kind = true, at.scheme(), policy.DestinationModel
	case at != nil:
	case proto == protocolHTTP && v.isProviderHost(d.host):
	case v.byName(d.host, d.orig.Port()):
		d.byName, d.kind = true, policy.DestinationPassthrough
	case d.host == "" && v.isProviderPort(d.orig.Port()):
	case v.byAddress(d.orig):
		d.kind = policy.DestinationPassthrough
	case d.host != "":
		d.byName, d.kind = true, policy.DestinationOther
	}
}

// judged is the destination as policy sees it.
func (d *destination) judged() policy.Destination {
	address := ""
	if d.orig.Addr().IsValid() {
		address = d.orig.Addr().String()
	}
	host := d.host
	if host == "" {
		host = address
	}
	return policy.Destination{Kind: d.kind, Scheme: d.scheme, Host: host, Port: int(d.orig.Port()), Address: address}
}

// defaultPort is the port of a Host header that names none.
func (d *destination) defaultPort() uint16 {
	if d.scheme == "http" {
		return 80
	}
	return 443
}

// request begins a request to the gate.
func (p *Proxy) request(v *view, start time.Time) *gate.Request {
	return &gate.Request{
		ID: newID(), Time: start, Mode: v.mode, KillSwitch: v.killSwitch, Workload: v.workload, MaxBytes: v.maxBytes,
		Salt: v.salt, Canaries: v.canaries, RefuseCold: v.refuseCold,
	}
}

// newID makes a decision id: it sorts by time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// judge asks the gate. A gate that panics refuses.
func (p *Proxy) judge(ctx context.Context, r *gate.Request) (v *gate.Verdict) {
	defer func() {
		if e := recover(); e != nil {
			p.log.Error("the gate panicked; the call is refused", zap.String("id", r.ID), zap.Any("panic", e), zap.Stack("stack"))
			v = &gate.Verdict{Record: &telemetry.Record{
				ID: r.ID, Time: r.Time, Workload: r.Workload, Destination: r.Destination, TraceID: r.TraceID, SpanID: r.SpanID, Fault: "gate_panic",
			}}
			refuse(v, "FAULT-GATE-PANIC", "The call could not be judged, so it is refused.")
		}
	}()
	return p.gate.Judge(ctx, r)
}

// judgeResponse asks the gate about a response. A gate that panics withholds it.
func (p *Proxy) judgeResponse(ctx context.Context, v *gate.Verdict, reply llm.Reply, status int) (rv gate.ResponseVerdict) {
	defer func() {
		if e := recover(); e != nil {
			p.log.Error("the gate panicked; the response is withheld", zap.String("id", v.Record.ID), zap.Any("panic", e), zap.Stack("stack"))
			rv = withhold(v, "FAULT-GATE-PANIC", "The response could not be judged, so it is withheld.")
		}
	}()
	return p.gate.JudgeResponse(ctx, v, reply, status)
}

// withhold is the denial of a response for a reason that no setting relaxes.
func withhold(v *gate.Verdict, rule, message string) gate.ResponseVerdict {
	rec := v.Record
	rec.Outcome = telemetry.OutcomeCut
	if rec.ResponseAction != policy.ActionDeny {
		rec.ResponseAction, rec.ResponseRule, rec.ResponseReasons = policy.ActionDeny, rule, []policy.Reason{{Rule: rule, Message: message}}
	}
	return gate.ResponseVerdict{Refusal: llm.Refusal{DecisionID: rec.ID, Rule: rule, Message: message}}
}

// refuse turns a verdict into a refusal for a reason that no setting relaxes.
func refuse(v *gate.Verdict, rule, message string) {
	v.Release = false
	v.Refusal.DecisionID, v.Refusal.Rule, v.Refusal.Message = v.Record.ID, rule, message
	v.Record.Outcome, v.Record.Action, v.Record.Rule = telemetry.OutcomeRefused, policy.ActionDeny, rule
	v.Record.Reasons = append(v.Record.Reasons, policy.Reason{Rule: rule, Message: message})
}

// probed notes that a probe came back.
func (p *Proxy) probed(orig netip.AddrPort) {
	if orig == capture.Probe4 {
		p.probeOnce4.Do(func() { close(p.probed4) })
	} else {
		p.probeOnce6.Do(func() { close(p.probed6) })
	}
}

// SelfTest checks that the capture rules are in force: it dials the probe destinations, which the rules redirect to this proxy, and
// waits until they have come back, at most until ctx is done. A pod without a route for IPv6 is not tested for it, since nothing of it can leave.
func (p *Proxy) SelfTest(ctx context.Context) error {
	if err := selfTest(ctx, capture.Probe4, p.probed4); err != nil {
		return err
	}
	if !routed(ctx, capture.Probe6) {
		return nil
	}
	return selfTest(ctx, capture.Probe6, p.probed6)
}

// routed says whether there is a route to addr. Connecting a datagram socket looks it up and sends nothing. It does not wait either: that
// ctx is done must not pass for having no route.
func routed(ctx context.Context, addr netip.AddrPort) bool {
	c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), "udp", addr.String())
	if err != nil {
		for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT} {
			if errors.Is(err, none) {
				return false
			}
		}
		return true // anything else does not say that there is no way out, so the way is tested
	}
	_ = c.Close()
	return true
}

func selfTest(ctx context.Context, probe netip.AddrPort, back <-chan struct{}) error {
	select {
	case <-back:
		return nil
	default:
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", probe.String())
	if err != nil {
		return fmt.Errorf("capture is not in force: probe %s: %w", probe, err)
	}
	defer func() { _ = c.Close() }()
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("capture is not in force: probe %s went elsewhere", probe)
	}
}

// Drain stops accepting, waits for calls and tunnels to end, and ends those that are left when ctx is done. When it returns, every
// record was emitted. It returns ctx's error if anything had to be cut.
func (p *Proxy) Drain(ctx context.Context) error {
	p.mu.Lock()
	p.draining = true
	listeners, serving := p.listeners, p.serving
	p.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	stopped := make(chan error)
	for _, f := range []*front{p.captured, p.explicit} {
		go func() { stopped <- f.stop(ctx, serving) }()
	}
	err := cmp.Or(<-stopped, <-stopped)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.mu.Lock()
		defer p.mu.Unlock()
		for p.working > 0 {
			p.idle.Wait()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
		_ = p.explicit.server.Close()
		_ = p.captured.server.Close()
		p.mu.Lock()
		for c := range p.open {
			reset(c)
		}
		p.mu.Unlock()
		<-done
	}
	v := p.view.Load()
	for _, u := range v.upstreams {
		u.transport.CloseIdleConnections()
	}
	v.plain.transport.CloseIdleConnections()
	return err
}

// handoff is a listener whose connections come from this process.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff { return &handoff{conns: make(chan net.Conn), done: make(chan struct{})} }

// give hands a connection over; it says whether somebody took it.
func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept is part of net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close is part of net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is part of net.Listener.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "handoff", Net: "unix"} }

// reset closes a connection so that the other end sees an error, not an end.
func reset(c net.Conn) {
	if t, ok := inner(c).(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
