package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/websocket"
)

// decisionHeader is the header of every response, of a refusal and of a provider's, that holds the decision's id.
const decisionHeader = "Sallyport-Decision-Id"

// What the proxy itself objects to, beside what decoding finds. No setting relaxes these.
const (
	FindingHostMismatch llm.FindingCode = "host_mismatch" // the request names another host than the ClientHello
	FindingTarget       llm.FindingCode = "target"        // the path has more than one reading
)

// hopByHop are the headers that belong to a connection and not to a call: RFC 9110, 7.6.1.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// call is one request on its way.
type call struct {
	p        *Proxy
	w        http.ResponseWriter
	r        *http.Request
	start    time.Time
	view     *view
	dest     *destination
	provider *provider
	path     string
	query    string
	trace    telemetry.TraceContext

	verdict *gate.Verdict // nil until it was judged
	watch   *sideReader   // nil where nothing is read on the side
	judged  bool          // the whole response was judged, or is not to be
}

// serveCall is the handler of every request whose TLS is ended here.
func (p *Proxy) serveCall(w http.ResponseWriter, r *http.Request) {
	p.begin()
	defer p.end()
	p.metrics.calls.Inc()
	defer p.metrics.calls.Dec()
	dest, ok := r.Context().Value(destinationKey{}).(*destination)
	if !ok {
		w.WriteHeader(http.StatusInternalServerError) // cannot be: such connections are not handed over
		return
	}
	c := &call{p: p, w: w, r: r, start: p.now(), view: p.view.Load(), dest: dest}
	defer c.finish()
	c.serve()
}

// finish emits the record of what was judged: exactly once, whatever happened.
func (c *call) finish() {
	if c.verdict == nil {
		return
	}
	rec := c.verdict.Record
	if c.watch != nil {
		reply := c.watch.reply()
		rec.Usage = reply.Usage
		for _, t := range reply.ToolCalls {
			rec.ResponseToolCalls = append(rec.ResponseToolCalls, t.Name)
		}
		if !c.judged { // for the record alone: what was passed on is not called back
			c.p.judgeResponse(context.WithoutCancel(c.r.Context()), c.verdict, reply, rec.Status)
		}
	}
	if rec.UpstreamError != "" {
		c.p.metrics.upstream.WithLabelValues(rec.UpstreamError).Inc()
	}
	rec.TotalMicros = c.p.now().Sub(c.start).Microseconds()
	c.p.recorder.Emit(rec)
}

func (c *call) serve() {
	c.trace = telemetry.Continue(strings.Join(c.r.Header.Values("Traceparent"), ","))

	c.provider = c.view.provider(c.dest.host, c.dest.orig.Port())
	if c.provider == nil || c.provider.scheme() != c.dest.scheme { // no longer one, since the connection began
		c.provider = &provider{}
		c.reject(http.StatusMisdirectedRequest, FindingHostMismatch, "The destination is no model provider any more.")
		return
	}
	host, port, err := canonicalAuthority(c.r.Host, c.dest.defaultPort())
	if err != nil || host != c.dest.host || port != c.dest.orig.Port() {
		c.reject(http.StatusMisdirectedRequest, FindingHostMismatch, "The request's host is not the one that the connection was made to.")
		return
	}
	path, query, err := c.target()
	if err != nil {
		c.reject(http.StatusBadRequest, FindingTarget, "The request's target is refused: "+err.Error()+".")
		return
	}
	c.path, c.query = path, query

	if websocket.IsUpgrade(c.r.Header) {
		c.serveWebSocket()
		return
	}

	body, err := c.readBody()
	defer body.end()
	switch {
	case err == nil:
	case errors.Is(err, errOversize):
		c.reject(http.StatusRequestEntityTooLarge, llm.FindingOversize, fmt.Sprintf("The request is larger than %d bytes.", min(c.view.maxBytes, c.view.memory.size)))
		return
	case errors.Is(err, errNoMemory):
		c.w.Header().Set("Retry-After", retryAfter)
		c.reject(http.StatusServiceUnavailable, FindingMemory, "Other calls use all the memory that there is for calls; this one may be made again later.")
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.p.metrics.abandoned.Inc()
		c.w.Header().Set("Connection", "close")
		c.w.WriteHeader(http.StatusRequestTimeout)
		return
	default:
		c.p.metrics.abandoned.Inc()
		panic(http.ErrAbortHandler)
	}

	c.verdict = c.p.judge(c.r.Context(), c.request(body.bytes))
	if !c.verdict.Release {
		c.refuse(0)
		return
	}
	if edited := c.verdict.Body; edited != nil {
		body.replace(edited)
		c.verdict.Body = nil
	}
	c.forward(body)
}

// target is the request's path and query. A path that begins with two slashes has an empty segment, which is refused, unless the table of surfaces
// has a row for that path as it is written.
func (c *call) target() (path, query string, err error) {
	target, slashes := c.r.RequestURI, c.provider.api == apiBedrock
	if written, _, _ := strings.Cut(target, "?"); strings.HasPrefix(written, "//") &&
		surface.Lookup(c.provider.api, c.r.Method, written).Surface != llm.SurfaceUnknown {
		path, query, err = canonicalTarget(target[1:], slashes)
		return "/" + path, query, err
	}
	return canonicalTarget(target, slashes)
}

// request is what the gate is asked.
func (c *call) request(body []byte) *gate.Request {
	req := c.p.request(c.view, c.start)
	req.Destination = c.dest.judged()
	req.Destination.Provider = c.provider.name
	req.Destination.Method = c.r.Method
	req.Destination.Path = c.path
	req.API, req.BasePath = c.provider.api, c.provider.basePath
	req.Query, req.Header = c.query, c.r.Header
	req.ContentType = strings.Join(c.r.Header.Values("Content-Type"), ", ")
	req.ContentEncoding = strings.Join(c.r.Header.Values("Content-Encoding"), ", ")
	req.Body = body
	req.TraceID, req.SpanID = c.trace.TraceID, c.trace.SpanID
	return req
}

// reject refuses a request that is not fit to be judged. It is still recorded as a decision, with the finding.
func (c *call) reject(status int, code llm.FindingCode, message string) {
	req := c.request(nil)
	req.Findings = []llm.Finding{{Code: code, Detail: message}}
	c.verdict = c.p.judge(c.r.Context(), req)
	refuse(c.verdict, "PROXY-"+strings.ToUpper(strings.ReplaceAll(string(code), "_", "-")), message)
	c.refuse(status)
}

// refuse answers in the provider's dialect. A status that is not 0 takes the dialect's place.
func (c *call) refuse(status int) {
	row := c.verdict.Row
	if row == nil {
		row = surface.Lookup(c.provider.api, "", "").Row
	}
	a := row.Refuse(c.verdict.Refusal)
	if status != 0 {
		a.Status = status
	}
	c.answer(a)
}

// answer is a whole response of the proxy's own.
func (c *call) answer(a llm.Answer) {
	c.verdict.Record.Status = a.Status
	h := c.w.Header()
	maps.Copy(h, a.Header)
	h.Set("Content-Type", a.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	h.Set(decisionHeader, c.verdict.Record.ID)
	c.w.WriteHeader(a.Status)
	_, _ = c.w.Write(a.Body)
}

// fail tells the caller that the provider could not be reached, in a form that the SDKs of all providers read. They may try again.
func (c *call) fail(err error) {
	class := classify(err)
	c.verdict.Record.UpstreamError = class
	if class == "caller_gone" {
		panic(http.ErrAbortHandler) // nobody is left to tell
	}
	status := http.StatusBadGateway
	if strings.HasSuffix(class, "timeout") {
		status = http.StatusGatewayTimeout
	}
	switch class {
	case "credential_missing", "address_refused", "tls":
		c.w.Header().Set("X-Should-Retry", "false") // the libraries of OpenAI and Anthropic heed it: nothing will have changed
	}
	c.answer(llm.Answer{Status: status, ContentType: "application/json", Body: fmt.Appendf(nil,
		`{"type":"error","error":{"type":"api_error","code":"upstream_%s","message":"The model provider could not be reached (%s)."}}`, class, class)})
}

// outgoing makes the request to the provider: the method, the target, the headers and the body as they came, the hop's own headers left out, the
// host in canonical form, the credential in its place. The body is given to be signed; it is not attached.
func (c *call) outgoing(ctx context.Context, body []byte) (*http.Request, error) {
	u, err := url.ParseRequestURI(c.r.RequestURI)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	u.Scheme = c.provider.scheme()
	u.Host = net.JoinHostPort(c.dest.host, strconv.Itoa(int(c.dest.orig.Port())))
	h := c.r.Header.Clone()
	dropHopByHop(h)
	h.Del("Expect") // answered here
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // else net/http names itself
	}
	// A trace is carried on, never begun towards the provider: what the caller did not send, the provider does not see.
	if telemetryTrace(h.Get("Traceparent")) == c.trace.TraceID {
		h.Set("Traceparent", c.trace.Header())
	}
	out := (&http.Request{
		Method: c.r.Method, URL: u, Header: h, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if c.dest.orig.Port() == c.dest.defaultPort() {
		out.Host = c.dest.host
	}
	if err := c.provider.credential.apply(out, body, c.p.now()); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	return out, nil
}

// telemetryTrace is the trace id of a traceparent, unchecked.
func telemetryTrace(traceparent string) string {
	if p := strings.Split(traceparent, "-"); len(p) >= 4 {
		return p[1]
	}
	return ""
}

// dropHopByHop takes off what belongs to the connection: the fixed headers and those that Connection names, but for those that say how the
// body is to be read. Without them it would be another call than the one that was judged.
func dropHopByHop(h http.Header) {
	dropNamed(h, h.Values("Connection"))
	for _, name := range hopByHop {
		delete(h, name) // it is in canonical form
	}
}

// dropNamed takes off what the values of a header Connection name.
func dropNamed(h http.Header, connection []string) {
	for _, v := range connection {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); httpguts.ValidHeaderFieldName(name) && !strings.HasPrefix(strings.ToLower(name), "content-") {
				h.Del(name)
			}
		}
	}
}
