package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/telemetry"
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
	path, query, err := canonicalTarget(c.r.RequestURI, c.provider.api == apiBedrock)
	if err != nil {
		c.reject(http.StatusBadRequest, FindingTarget, "The request's target is refused: "+err.Error()+".")
		return
	}
	c.path, c.query = path, query

	body, oversize, err := c.readBody()
	if err != nil {
		c.p.metrics.abandoned.Inc()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.w.Header().Set("Connection", "close")
			c.w.WriteHeader(http.StatusRequestTimeout)
			return
		}
		panic(http.ErrAbortHandler)
	}
	if oversize {
		c.reject(http.StatusRequestEntityTooLarge, llm.FindingOversize, fmt.Sprintf("The request is larger than %d bytes.", c.view.maxBytes))
		return
	}

	c.verdict = c.p.judge(c.r.Context(), c.request(body))
	if !c.verdict.Release {
		c.refuse(0)
		return
	}
	c.forward(body)
}

// readBody reads the whole body up to the limit. The body is the call's own: nobody else keeps it.
func (c *call) readBody() (body []byte, oversize bool, err error) {
	most := c.view.maxBytes
	if c.r.ContentLength > most {
		return nil, true, nil
	}
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return nil, false, nil
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(c.p.now().Add(c.p.timeouts.RequestBody))
	var buf bytes.Buffer
	if c.r.ContentLength > 0 {
		buf.Grow(int(c.r.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(c.r.Body, most+1))
	if err != nil {
		return nil, false, err
	}
	_ = rc.SetReadDeadline(time.Time{})
	if n > most {
		return nil, true, nil
	}
	return buf.Bytes(), false, nil
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
	c.answer(llm.Answer{Status: status, ContentType: "application/json", Body: fmt.Appendf(nil,
		`{"type":"error","error":{"type":"api_error","code":"upstream_%s","message":"The model provider could not be reached (%s)."}}`, class, class)})
}

// forward sends exactly what was judged and streams the response back.
func (c *call) forward(body []byte) {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	out, err := c.outgoing(ctx, body)
	if err != nil {
		c.fail(err)
		return
	}
	res, err := c.provider.upstream.transport.RoundTrip(out)
	if err != nil {
		if c.r.Context().Err() != nil {
			err = context.Canceled // whatever else broke because of it
		}
		c.fail(err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	rec := c.verdict.Record
	rec.FirstByteMicros = c.p.now().Sub(c.start).Microseconds()
	rec.Status = res.StatusCode
	if c.verdict.Row != nil {
		c.watch = watch(c.verdict.Row, res.Header)
	}

	trailers := c.begin(res)
	idle := time.AfterFunc(c.p.timeouts.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	if err := c.stream(res, idle); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		rec.UpstreamError = classify(err)
		// The head is out: all that is left is to break off, so that the caller cannot take a part for the whole.
		panic(http.ErrAbortHandler)
	}
	for name, values := range res.Trailer {
		if !trailers[name] {
			name = http.TrailerPrefix + name
		}
		c.w.Header()[name] = values
	}
}

// outgoing makes the request to the provider: the method, the target, the headers and the body as they came, the hop's own headers left out, the
// host in canonical form, the credential in its place.
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
	if h.Get("Traceparent") == "" || telemetryTrace(h.Get("Traceparent")) != c.trace.TraceID {
		h.Del("Tracestate") // it belongs to a trace that was not carried on
	}
	h.Set("Traceparent", c.trace.Header())
	out := (&http.Request{
		Method: c.r.Method, URL: u, Header: h, Host: u.Host, ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if c.dest.orig.Port() == c.dest.defaultPort() {
		out.Host = c.dest.host
	}
	if err := c.provider.credential.apply(out, body, c.p.now()); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
		// A connection that the provider closed before it read anything may be replaced by another.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
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
	for _, v := range h.Values("Connection") {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); httpguts.ValidHeaderFieldName(name) && !strings.HasPrefix(strings.ToLower(name), "content-") {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// begin sends the head of the response on, and says which trailers were announced.
func (c *call) begin(res *http.Response) map[string]bool {
	h := c.w.Header()
	dropHopByHop(res.Header)
	res.Header.Del("Alt-Svc") // it invites to QUIC, which the capture refuses
	for name, values := range res.Header {
		h[name] = slices.Clone(values)
	}
	h.Set(decisionHeader, c.verdict.Record.ID)
	if _, ok := h["Date"]; !ok {
		h["Date"] = nil // not ours to add
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // nor to guess
	}
	announced := make(map[string]bool, len(res.Trailer))
	for name := range res.Trailer {
		announced[name] = true
		h.Add("Trailer", name)
	}
	c.w.WriteHeader(res.StatusCode)
	return announced
}

// stream copies the response's body as it arrives. A response whose length is not known is flushed at each piece.
func (c *call) stream(res *http.Response, idle *time.Timer) error {
	flush := func() error { return nil }
	if res.ContentLength < 0 || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		rc := http.NewResponseController(c.w)
		flush = rc.Flush
		if err := flush(); err != nil { // the head alone may be awaited
			return err
		}
	}
	buf := make([]byte, 32<<10)
	for {
		n, rerr := res.Body.Read(buf)
		idle.Reset(c.p.timeouts.Idle)
		if n > 0 {
			if _, err := c.w.Write(buf[:n]); err != nil {
				return fmt.Errorf("%w: %w", context.Canceled, err)
			}
			if err := flush(); err != nil {
				return fmt.Errorf("%w: %w", context.Canceled, err)
			}
			c.verdict.Record.ResponseBytes += int64(n)
			if c.watch != nil {
				c.watch.write(buf[:n])
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
