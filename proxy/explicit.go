package proxy

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// ServeExplicit accepts connections of callers that know of the proxy, until Drain. It returns as Serve does, and both may be served at once. A
// caller may ask in three ways:
//
//	CONNECT host:port            as HTTPS_PROXY has it; what follows is treated as a captured connection to that host, which it must also name itself
//	GET http://host/path         as HTTP_PROXY has it; a plaintext provider is judged in full, others as a tunnel is
//	GET /<provider>/path         as a base URL has it: http://listener/<provider> stands for the first host of the provider, with its scheme and port
//
// HTTP/2 is spoken here too, without TLS, by callers that begin with it: by base URLs, and to plaintext providers, whose host is then the request's
// authority. It does not say a request's scheme to a server as absolute form does, and so leads nowhere else; nor is there CONNECT in it.
//
// With Options.ExplicitToken a caller must show the token: in Proxy-Authorization, as http://sallyport:<token>@listener in HTTPS_PROXY and HTTP_PROXY
// has it, or in the path, as http://listener/<token>/<provider> has it. Without one nobody is asked who they are, and the listener must be one
// that only those can reach whose calls these are.
func (p *Proxy) ServeExplicit(l net.Listener) error { return p.accept(l, p.handleExplicit) }

// handleExplicit hands a connection to the HTTP server.
func (p *Proxy) handleExplicit(c net.Conn) {
	rc := &replay{Conn: c, closed: sync.OnceFunc(func() { p.metrics.open.Dec(); <-p.slots })}
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	if !p.explicit.conns.give(rc) {
		p.leave(c)
	}
}

// serve is the handler of every request that is read here.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	if r.Context().Value(destinationKey{}) != nil {
		p.serveCall(w, r)
		return
	}
	p.begin()
	defer p.end()
	if r.ProtoMajor == 2 && r.Method != http.MethodConnect && strings.HasPrefix(r.RequestURI, "/") && !named(r) {
		// HTTP/2 has one form of target: whether it is meant for this proxy, the authority says.
		r.RequestURI = "http://" + r.Host + r.RequestURI
	}
	if !p.authorize(w, r) {
		return
	}
	switch {
	case r.ProtoMajor == 2 && r.Method == http.MethodConnect:
		decline(w, http.StatusNotImplemented, "CONNECT is served over HTTP/1.1 only. "+accepted)
	case r.Method == http.MethodConnect:
		p.serveConnect(w, r)
	case strings.HasPrefix(r.RequestURI, "/"):
		p.serveRoute(w, r)
	default:
		p.serveAbsolute(w, r)
	}
}

// explicitToken is what callers of the explicit proxy show, in its two forms.
type explicitToken struct{ segment, basic string }

// newExplicitToken wants a token that can stand in a path and in a URL's user part as it is. It returns nil for the empty one.
func newExplicitToken(token string) (*explicitToken, error) {
	if token == "" {
		return nil, nil
	}
	for _, c := range []byte(token) {
		if !isTokenByte(c) {
			return nil, errors.New("the token of the explicit proxy may have letters, digits, hyphens and underscores only")
		}
	}
	return &explicitToken{token, base64.StdEncoding.EncodeToString([]byte(explicitUser + ":" + token))}, nil
}

// isTokenByte says whether a byte may be in the token of the explicit proxy.
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// explicitUser is the user that the token is the password of.
const explicitUser = "sallyport"

// authorize says whether the caller has shown the token, and answers one that has not. The token is taken out of the request: nothing that is made of
// it has it.
func (p *Proxy) authorize(w http.ResponseWriter, r *http.Request) bool {
	t := p.token
	if t == nil {
		return true
	}
	shown := r.Header.Values("Proxy-Authorization")
	r.Header.Del("Proxy-Authorization")
	const how = "The explicit proxy serves only those who show its token: "
	if r.Method != http.MethodConnect && strings.HasPrefix(r.RequestURI, "/") {
		segment, rest, _ := strings.Cut(r.RequestURI[1:], "/")
		if !same(segment, t.segment) {
			p.metrics.connections.WithLabelValues("unauthorized").Inc()
			decline(w, http.StatusForbidden, how+"http://<this address>/<token>/<provider>/<path>. The base URL that was set for this command has it.\n")
			return false
		}
		r.RequestURI, r.URL = "/"+rest, &url.URL{Path: "/"} // serveAs reads the target
		return true
	}
	if len(shown) == 1 {
		if scheme, value, ok := strings.Cut(shown[0], " "); ok && strings.EqualFold(scheme, "Basic") && same(strings.TrimSpace(value), t.basic) {
			return true
		}
	}
	p.metrics.connections.WithLabelValues("unauthorized").Inc()
	w.Header().Set("Proxy-Authenticate", `Basic realm="sallyport"`)
	decline(w, http.StatusProxyAuthRequired, how+"http://"+explicitUser+":<token>@<this address>. The proxy URL that was set for this command has it.\n")
	return false
}

// same compares in constant time.
func same(shown, want string) bool {
	return subtle.ConstantTimeCompare([]byte(shown), []byte(want)) == 1
}

// accepted says what the explicit proxy takes, for those who ask otherwise.
const accepted = "Accepted are CONNECT host:port, http:// requests in absolute form, and /<provider>/<path> with the name of a ModelProvider.\n"

// decline answers a request that is no call, in plain text.
func decline(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// declineRefused answers a tunnel that was refused.
func declineRefused(w http.ResponseWriter, r llm.Refusal) {
	w.Header().Set(decisionHeader, r.DecisionID)
	decline(w, http.StatusForbidden, refusalText(r))
}

// refusalText is a refusal for those who are not in a call.
func refusalText(r llm.Refusal) string {
	return r.Message + " (rule " + r.Rule + ", decision " + r.DecisionID + ")\n"
}

// parseAuthority reads whom a caller asks for: a canonical name, or else an address.
func parseAuthority(s string, defaultPort uint16) (string, netip.AddrPort, error) {
	host, port, err := canonicalAuthority(s, defaultPort)
	a := netip.Addr{}
	if errors.Is(err, errIsAddress) {
		literal := s
		if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
			literal = s[:i]
		}
		bracketed := strings.HasPrefix(literal, "[") && strings.HasSuffix(literal, "]")
		if a, err = netip.ParseAddr(strings.Trim(literal, "[]")); err == nil && (a.Zone() != "" || a.Is6() != bracketed) {
			err = errors.New("the address is malformed")
		}
		a = a.Unmap()
	}
	if err == nil && port == 0 {
		err = errors.New("the authority lacks a port")
	}
	return host, netip.AddrPortFrom(a, port), err
}

// serveRoute takes a base URL's path: the first segment names the provider, the rest is the call's own target.
func (p *Proxy) serveRoute(w http.ResponseWriter, r *http.Request) {
	// A page in a browser on the same machine can reach the listener, too, under a name of its own or across sites: it must not get at the credentials.
	if !named(r) || crossSite(r) {
		decline(w, http.StatusForbidden, "The request names another host than this proxy, or comes from a page of another site. "+accepted)
		return
	}
	v := p.view.Load()
	name, rest, _ := strings.Cut(r.RequestURI[1:], "/")
	at := v.byProvider[name]
	if at == nil {
		known := strings.Join(slices.Sorted(maps.Keys(v.byProvider)), ", ")
		decline(w, http.StatusNotFound, fmt.Sprintf("There is no provider %q here; known are: %s. %s", name, known, accepted))
		return
	}
	d := newDestination(at.protocol(), at.at.host, netip.AddrPortFrom(netip.Addr{}, at.at.port))
	d.settle(v, at.protocol())
	p.serveAs(w, r, d, "/"+rest)
}

// crossSite says whether a browser made a request for a page of another site.
func crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "none" && site != "same-origin"
}

// named says whether a request names this proxy: by the address it came in at, or as the local host.
func named(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return false
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return a.IsLoopback() || local != nil && local.AddrPort().Addr().Unmap() == a.Unmap()
}

// serveAs serves a request as if it had been made to the destination.
func (p *Proxy) serveAs(w http.ResponseWriter, r *http.Request, d *destination, target string) {
	out := r.WithContext(context.WithValue(r.Context(), destinationKey{}, d))
	out.RequestURI, out.Host = target, net.JoinHostPort(d.host, strconv.Itoa(int(d.orig.Port())))
	if u, err := url.ParseRequestURI(target); err == nil { // else the call is refused for its target
		out.URL = u
	}
	p.serveCall(w, out)
}

// serveAbsolute takes a request for an http:// URL.
func (p *Proxy) serveAbsolute(w http.ResponseWriter, r *http.Request) {
	const prefix = "http://"
	if len(r.RequestURI) < len(prefix) || !strings.EqualFold(r.RequestURI[:len(prefix)], prefix) {
		decline(w, http.StatusBadRequest, "The target is no http:// URL; for https:// use CONNECT. "+accepted)
		return
	}
	authority := r.RequestURI[len(prefix):]
	target := "/"
	if i := strings.IndexAny(authority, "/?"); i >= 0 {
		target, authority = authority[i:], authority[:i]
		if target[0] == '?' {
			target = "/" + target
		}
	}
	host, orig, err := parseAuthority(authority, 80)
	if err != nil {
		decline(w, http.StatusBadRequest, "The target's authority is refused: "+err.Error()+". "+accepted)
		return
	}
	v := p.view.Load()
	d := newDestination(protocolHTTP, host, orig)
	d.settle(v, protocolHTTP)
	if d.model {
		p.serveAs(w, r, d, target)
		return
	}
	if r.ProtoMajor == 2 {
		// Were https asked for, it could not be seen, and what the caller takes for encrypted would go out in the clear.
		decline(w, http.StatusBadRequest, "Over HTTP/2, only plaintext providers and base URLs are served. "+accepted)
		return
	}
	p.forwardPlain(w, r, d, v, target)
}

// forwardPlain sends a request on to a destination that is no provider: unread, as a tunnel would be, but one by one.
func (p *Proxy) forwardPlain(w http.ResponseWriter, r *http.Request, d *destination, v *view, target string) {
	verdict, emit := p.judgeTunnel(r.Context(), d, v)
	defer emit()
	if !verdict.Release {
		declineRefused(w, verdict.Refusal)
		return
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		decline(w, http.StatusBadRequest, "The target is malformed. "+accepted)
		return
	}
	host := d.host
	if host == "" {
		host = d.orig.Addr().String()
	}
	u.Scheme, u.Host = "http", net.JoinHostPort(host, strconv.Itoa(int(d.orig.Port())))
	record := verdict.Record
	(&httputil.ReverseProxy{
		Transport: v.plain.transport, FlushInterval: -1, ErrorLog: log.New(logWriter{p.log}, "", 0),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = u
			pr.Out.Host = u.Host
			if d.orig.Port() == 80 {
				pr.Out.Host = strings.TrimSuffix(u.Host, ":80")
			}
		},
		ModifyResponse: func(res *http.Response) error {
			record.Status = res.StatusCode
			res.Header.Set(decisionHeader, record.ID)
			if res.StatusCode != http.StatusSwitchingProtocols {
				res.Body = counted{res.Body, &record.ResponseBytes}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { p.declineUnreachable(w, record, err) },
	}).ServeHTTP(w, r)
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	n *int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	*c.n += int64(n)
	return n, err
}

// declineUnreachable says that a destination that was released cannot be reached.
func (p *Proxy) declineUnreachable(w http.ResponseWriter, record *telemetry.Record, err error) {
	if record.UpstreamError == "" {
		record.UpstreamError = classify(err)
		p.metrics.upstream.WithLabelValues(record.UpstreamError).Inc()
	}
	record.Status = http.StatusBadGateway
	if strings.HasSuffix(record.UpstreamError, "timeout") {
		record.Status = http.StatusGatewayTimeout
	}
	w.Header().Set(decisionHeader, record.ID)
	decline(w, record.Status, "The destination could not be reached ("+record.UpstreamError+").\n")
}

// serveConnect takes a CONNECT. What is asked for by name is reached by that name; what then goes through must name the same host:
//
//	asked for              decided on
//	a provider, its port   after the first bytes, as a captured connection is: another name in them is an unknown destination
//	another                before the answer, with the scheme "tcp" since nothing of it is known; refused after it where the first bytes name another host
func (p *Proxy) serveConnect(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		decline(w, http.StatusBadRequest, "A CONNECT has no body. "+accepted)
		return
	}
	host, orig, err := parseAuthority(r.RequestURI, 0)
	if err != nil {
		decline(w, http.StatusBadRequest, "The authority is refused: "+err.Error()+". "+accepted)
		return
	}
	v := p.view.Load()
	if v.provider(host, orig.Port()) != nil {
		p.connectProvider(w, v, host, orig)
		return
	}
	d := newDestination(protocolTCP, host, orig)
	d.settle(v, protocolTCP)
	verdict, emit := p.judgeTunnel(r.Context(), d, v)
	defer emit()
	if !verdict.Release {
		declineRefused(w, verdict.Refusal)
		return
	}
	up, err := p.reach(r.Context(), v, d, verdict.Record)
	if err != nil {
		p.declineUnreachable(w, verdict.Record, err)
		return
	}
	defer p.release(up)
	t := p.establish(w)
	if t == nil {
		return
	}
	defer t.close()
	pk := peeked{protocol: protocolTCP}
	if !v.unread(orig) {
		if pk, err = peek(context.Background(), t.rest, p.now().Add(p.timeouts.Peek)); err != nil {
			p.metrics.connections.WithLabelValues("gone").Inc()
			return
		}
	}
	if !d.agrees(pk) {
		p.metrics.connections.WithLabelValues("refused").Inc()
		refuse(verdict, "PROXY-HOST-MISMATCH", "What goes through the tunnel names another host than it was asked for.")
		verdict.Record.Call.Findings = append(verdict.Record.Call.Findings, string(FindingHostMismatch))
		p.refuseTunnel(t.conn, pk.protocol, verdict.Refusal)
		return
	}
	p.relay(t.conn, up, t.first(pk), verdict.Record)
}

// agrees says whether the first bytes of a tunnel name the host that it was asked for. One to an address was not read.
func (d *destination) agrees(pk peeked) bool {
	host, port, err := d.host, d.orig.Port(), error(nil)
	switch pk.protocol {
	case protocolTLS:
		host, err = canonicalHost(pk.authority)
	case protocolHTTP:
		host, port, err = canonicalAuthority(pk.authority, 80)
	}
	return err == nil && host == d.host && port == d.orig.Port()
}

// connectProvider treats what follows a CONNECT to a provider as a captured connection to it.
func (p *Proxy) connectProvider(w http.ResponseWriter, v *view, host string, orig netip.AddrPort) {
	t := p.establish(w)
	if t == nil {
		return
	}
	defer t.close()
	ctx := context.Background()
	pk, err := peek(ctx, t.rest, p.now().Add(p.timeouts.Peek))
	if err != nil {
		p.metrics.connections.WithLabelValues("gone").Inc()
		return
	}
	pk.read = t.first(pk)
	d := destine(v, pk, orig)
	if !d.model || d.host != host {
		d = newDestination(pk.protocol, host, orig) // and of unknown kind
		p.tunnel(ctx, t.conn, pk, d, v)
		return
	}
	if p.readHere(ctx, &replay{Conn: t.conn, read: pk.read, dest: d}, t.outer.closed) {
		t.outer = nil
	}
}

// established is a tunnel to a caller.
type established struct {
	p     *Proxy
	outer *replay  // what the HTTP server gave away; nil when somebody else closes it
	conn  net.Conn // below it
	rest  *replay  // conn after what the server had read ahead
}

// establish answers a CONNECT and takes the connection over. It returns nil where the caller is gone.
func (p *Proxy) establish(w http.ResponseWriter) *established {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.log.Error("take over a connection", zap.Error(err))
		decline(w, http.StatusInternalServerError, "The connection cannot be taken over.\n")
		return nil
	}
	outer, ok := c.(*replay)
	if !ok {
		_ = c.Close() // cannot be: the server has no others in the clear
		return nil
	}
	ahead, _ := buf.Reader.Peek(buf.Reader.Buffered())
	t := &established{p: p, outer: outer, conn: outer.Conn, rest: &replay{Conn: outer.Conn, read: bytes.Clone(ahead)}}
	p.hold(t.conn)
	if _, err := io.WriteString(t.conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		t.close()
		return nil
	}
	return t
}

// first is all that was read of the caller: by peek, and by the server beyond it.
func (t *established) first(pk peeked) []byte { return append(pk.read, t.rest.read...) }

// close ends the tunnel, unless it was handed on.
func (t *established) close() {
	if t.outer == nil {
		return
	}
	t.p.release(t.conn)
	_ = t.outer.Close()
}
