package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"sallyport.dev/sallyport/pkg/policy"
)

// forward sends exactly what was judged and passes the response on: as it arrives where it is observed, and as far as it is judged where the
// policy asks for more.
func (c *call) forward(body *payload) {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	if c.screens() {
		// What is compressed cannot be cut into frames. The caller reads what is not compressed whatever it asked for.
		c.r.Header = c.r.Header.Clone()
		c.r.Header.Set("Accept-Encoding", "identity")
	}
	out, err := c.outgoing(ctx, body.bytes)
	if err != nil {
		c.fail(err)
		return
	}
	body.attach(out, c.trailer())
	res, err := c.roundTrip(out)
	if err != nil {
		c.fail(err)
		return
	}
	body.responded()
	res.Request = nil
	defer func() { _ = res.Body.Close() }()
	c.respond(ctx, cancel, res)
}

// trailer is what of the request's trailers goes on: as with the headers, all but the hop's own and what names the caller. Nor do those that have
// no meaning there, or would have one that is known before the body only.
func (c *call) trailer() http.Header {
	if len(c.r.Trailer) == 0 {
		return nil
	}
	out := http.Header{}
	for name, values := range c.r.Trailer {
		if len(values) > 0 && httpguts.ValidTrailerHeader(name) {
			out[name] = slices.Clone(values)
		}
	}
	dropNamed(out, c.r.Header.Values("Connection"))
	dropHopByHop(out)
	dropCallers(out, c.provider.api)
	return out
}

// screens says whether the policy asks for more than to observe the response.
func (c *call) screens() bool {
	return c.verdict.Response != "" && c.verdict.Response != policy.ResponseObserve
}

// roundTrip sends a request and waits for the head of the response. Early hints (RFC 8297) are passed on while it waits.
func (c *call) roundTrip(out *http.Request) (*http.Response, error) {
	if c.r.ProtoAtLeast(1, 1) {
		var mu sync.Mutex // the transport says hints from a goroutine of its own
		over := false
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			over = true
		}()
		out = out.WithContext(httptrace.WithClientTrace(out.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, hints textproto.MIMEHeader) error {
				mu.Lock()
				defer mu.Unlock()
				if !over && code == http.StatusEarlyHints {
					c.hint(http.Header(hints))
				}
				return nil
			},
		}))
	}
	res, err := c.provider.upstream.transport.RoundTrip(out)
	if err == nil {
		c.verdict.Record.FirstByteMicros = c.p.now().Sub(c.start).Microseconds()
		return res, nil
	}
	if c.r.Context().Err() != nil {
		err = context.Canceled // whatever else broke because of it
	}
	return nil, err
}

// hint passes early hints on.
func (c *call) hint(hints http.Header) {
	dropHopByHop(hints)
	h := c.w.Header()
	for name, values := range hints {
		h[name] = values
	}
	c.w.WriteHeader(http.StatusEarlyHints)
	clear(h) // they are not those of the response
}

// respond passes a response on.
func (c *call) respond(ctx context.Context, cancel context.CancelCauseFunc, res *http.Response) {
	rec := c.verdict.Record
	if c.r.Context().Err() != nil {
		// A provider that sees its connection end may still answer before it has ended.
		rec.UpstreamError = classify(context.Canceled)
		panic(http.ErrAbortHandler)
	}
	rec.Status = res.StatusCode
	idle := time.AfterFunc(c.view.timeouts.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	var trailers map[string]bool
	var err error
	if c.screens() && hasBody(c.r.Method, res) {
		s := newScreened(c, res, idle)
		defer s.end()
		if err = s.run(); errors.Is(err, errCut) {
			cancel(nil)
			return
		}
		trailers = s.trailers
	} else {
		if c.verdict.Row != nil {
			arguments := 0
			if c.verdict.JudgesResponse() {
				arguments = c.view.limits.HeldToolCalls
			}
			c.watch = watch(c.verdict.Row, res.Header, arguments, c.verdict.Answered)
		}
		trailers = c.begin(res)
		err = c.stream(res, idle)
	}
	if err == nil && res.ContentLength < 0 && c.r.Context().Err() != nil {
		err = context.Canceled // likewise; the caller was not told that this is the end
	}
	if err != nil {
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

// hasBody says whether a response has a body that is to be read: one to HEAD, or without content, has none.
func hasBody(method string, res *http.Response) bool {
	return method != http.MethodHead && res.StatusCode != http.StatusNoContent && res.StatusCode != http.StatusNotModified && res.ContentLength != 0
}

// begin sends the head of the response on, and says which trailers were announced.
func (c *call) begin(res *http.Response) map[string]bool {
	h := c.w.Header()
	c.head(h, res)
	if len(res.Trailer) > 0 && c.r.ProtoMajor == 1 {
		h.Del("Content-Length") // HTTP/1 has trailers only after chunks
	}
	announced := make(map[string]bool, len(res.Trailer))
	for name := range res.Trailer {
		announced[name] = true
		h.Add("Trailer", name)
	}
	c.w.WriteHeader(res.StatusCode)
	return announced
}

// head makes h the header of the response, without what belongs to the hop.
func (c *call) head(h http.Header, res *http.Response) {
	dropHopByHop(res.Header)
	res.Header.Del("Alt-Svc") // it invites to QUIC, which the capture refuses
	maps.Copy(h, res.Header)  // nobody else has it
	h.Set(decisionHeader, c.verdict.Record.ID)
	if _, ok := h["Date"]; !ok {
		h["Date"] = nil // not ours to add
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // nor to guess
	}
}

// stream copies the response's body as it arrives. A response whose length is not known is flushed at each piece, any other at its end: what is left to do
// of a call, its record above all, does not keep the caller waiting. In HTTP/2 the end is said when all is done.
func (c *call) stream(res *http.Response, idle *time.Timer) error {
	rc := http.NewResponseController(c.w)
	pieces := res.ContentLength < 0 || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	whole := !pieces && c.r.ProtoMajor == 1 && len(res.Trailer) == 0
	if pieces {
		if err := rc.Flush(); err != nil { // the head alone may be awaited
			return err
		}
	}
	p, n := newPiece(), 0
	defer p.end()
	for {
		buf := p.next(n)
		var rerr error
		n, rerr = res.Body.Read(buf)
		idle.Reset(c.view.timeouts.Idle)
		if n > 0 {
			if c.watch != nil { // first: the caller's next call may come as soon as it has the last of this
				c.watch.write(buf[:n])
			}
			if _, err := c.w.Write(buf[:n]); err != nil {
				return fmt.Errorf("%w: %w", context.Canceled, err)
			}
			if pieces || whole && rerr == io.EOF {
				if err := rc.Flush(); err != nil {
					return fmt.Errorf("%w: %w", context.Canceled, err)
				}
			}
			c.verdict.Record.ResponseBytes += int64(n)
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
