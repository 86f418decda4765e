package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
)

// alertAccessDenied is a fatal TLS alert, access_denied, as a server may send before its ServerHello.
var alertAccessDenied = []byte{21, 3, 3, 0, 2, 2, 49}

// tunnel judges a connection that is not read, and joins it with its destination or refuses it. The caller closes c.
func (p *Proxy) tunnel(ctx context.Context, c net.Conn, pk peeked, dest *destination, v *view) {
	start := p.now()
	req := p.request(v, start)
	req.Destination = dest.judged()
	verdict := p.judge(ctx, req)
	record := verdict.Record
	defer func() {
		record.TotalMicros = p.now().Sub(start).Microseconds()
		p.recorder.Emit(record)
	}()
	if !verdict.Release {
		p.metrics.connections.WithLabelValues("refused").Inc()
		p.refuseTunnel(c, pk.protocol, verdict.Refusal)
		return
	}

	var up net.Conn
	var err error
	if dest.byName {
		up, err = p.connector.connectName(ctx, dest.host, dest.orig.Port())
	} else {
		up, err = p.connector.connectAddress(ctx, dest.orig)
	}
	if err != nil {
		p.metrics.connections.WithLabelValues("unreachable").Inc()
		record.UpstreamError = classify(err)
		p.metrics.upstream.WithLabelValues(record.UpstreamError).Inc()
		reset(c)
		return
	}
	p.mu.Lock()
	p.open[up] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.open, up)
		p.mu.Unlock()
		_ = up.Close()
	}()
	p.metrics.connections.WithLabelValues("tunnel").Inc()
	if record.ResponseBytes, err = join(c, up, pk.read); err != nil {
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
		text := r.Message + " (rule " + r.Rule + ", decision " + r.DecisionID + ")\n"
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
