package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// alertAccessDenied is a fatal TLS alert, access_denied, as a server may send before its ServerHello.
var alertAccessDenied = []byte{21, 3, 3, 0, 2, 2, 49}

// tunnel judges a connection that is not read, and joins it with its destination or refuses it. The caller closes c.
func (p *Proxy) tunnel(ctx context.Context, c net.Conn, pk peeked, dest *destination, v *view) {
	verdict, emit := p.judgeTunnel(ctx, dest, v)
	defer emit()
	if !verdict.Release {
		p.refuseTunnel(c, pk.protocol, verdict.Refusal)
		return
	}

	up, err := p.reach(ctx, v, dest, verdict.Record)
	if err != nil {
		reset(c)
		return
	}
	defer p.release(up)
	p.relay(c, up, pk.read, verdict.Record)
}

// judgeTunnel asks the gate for a destination that is not read, and returns what emits its record.
func (p *Proxy) judgeTunnel(ctx context.Context, d *destination, v *view) (verdict *gate.Verdict, emit func()) {
	start := p.now()
	req := p.request(v, start)
	req.Destination = d.judged()
	verdict = p.judge(ctx, req)
	if !verdict.Release {
		p.metrics.connections.WithLabelValues("refused").Inc()
	}
	return verdict, func() {
		verdict.Record.TotalMicros = p.now().Sub(start).Microseconds()
		p.recorder.Emit(verdict.Record)
	}
}

// reach dials a destination that is not read. What goes wrong is in the record.
func (p *Proxy) reach(ctx context.Context, v *view, dest *destination, record *telemetry.Record) (up net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, v.timeouts.Connect)
	defer cancel()
	if dest.byName || !dest.orig.Addr().IsValid() {
		up, err = p.connector.connectName(ctx, dest.host, dest.orig.Port())
	} else {
		up, err = p.connector.connectAddress(ctx, dest.orig)
	}
	if err != nil {
		p.metrics.connections.WithLabelValues("unreachable").Inc()
		record.UpstreamError = classify(err)
		p.metrics.upstream.WithLabelValues(record.UpstreamError).Inc()
		return nil, err
	}
	p.hold(up)
	return up, nil
}

// hold and release frame the life of a connection that Drain may have to cut.
func (p *Proxy) hold(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
}

func (p *Proxy) release(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	_ = c.Close()
}

// relay joins a caller with its destination until both have ended. first is what was read of the caller.
func (p *Proxy) relay(c, up net.Conn, first []byte, record *telemetry.Record) {
	p.metrics.connections.WithLabelValues("tunnel").Inc()
	var err error
	if record.ResponseBytes, err = join(c, up, first); err != nil {
		record.UpstreamError = classify(err)
		p.metrics.upstream.WithLabelValues(record.UpstreamError).Inc()
	}
}

// refuseTunnel tells a caller in its own protocol, as far as that is known.
func (p *Proxy) refuseTunnel(c net.Conn, proto protocol, r llm.Refusal) {
	var b []byte
	switch proto {
	case protocolTLS:
		b = alertAccessDenied
	case protocolHTTP:
		text := refusalText(r)
		b = []byte("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(text)) +
			"\r\n" + decisionHeader + ": " + r.DecisionID + "\r\nConnection: close\r\n\r\n" + text)
	default:
		reset(c)
		return
	}
	_ = c.SetDeadline(p.now().Add(refusalPatience))
	if _, err := c.Write(b); err != nil {
		return
	}
	// Closing with unread data would reset the connection, and the reset overtake the answer: read on until the caller has seen it.
	if t, ok := c.(*net.TCPConn); ok && t.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c, maxHeadBytes))
	}
}

// refusalPatience is how long a refused caller may take to read why.
const refusalPatience = 5 * time.Second

// join copies both ways until both have ended, each end carried over by itself; an error on either side ends both at once. It returns how many
// bytes came back.
func join(caller, up net.Conn, first []byte) (back int64, err error) {
	if _, err := up.Write(first); err != nil {
		reset(caller)
		return 0, err
	}
	there := make(chan error, 1)
	go func() {
		_, err := pipe(up, caller)
		there <- err
	}()
	back, err = pipe(caller, up)
	if terr := <-there; err == nil {
		err = terr
	}
	return back, err
}

// pipe copies from one connection to the other and carries the end over.
func pipe(to, from net.Conn) (int64, error) {
	n, err := io.Copy(to, from) // between TCP connections the kernel does it
	if err == nil {
		if t, ok := to.(*net.TCPConn); ok {
			err = t.CloseWrite()
		}
	}
	if err != nil {
		reset(to)
		reset(from)
		if errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "not connected") {
			err = nil // the other direction's error, which it reports
		}
	}
	return n, err
}
