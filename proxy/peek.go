package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// Bounds of what is read of a connection before its destination is known.
const (
	maxHelloBytes = 64 << 10
	maxHeadBytes  = 32 << 10
)

// extensionECH is encrypted_client_hello: the name that can be read is not the one that is meant.
const extensionECH = 0xfe0d

// protocol is what a connection speaks, as far as its first bytes say.
type protocol string

const (
	protocolTLS  protocol = "tls"
	protocolHTTP protocol = "http"
	protocolTCP  protocol = "tcp" // anything else, or nothing
)

// peeked is what the first bytes of a connection say.
type peeked struct {
	protocol protocol
	// authority is the server name of a ClientHello or the Host of a request, as sent; "" where there is none, or where it cannot be trusted
	// to be what is meant.
	authority string
	// read are all bytes read so far.
	read []byte
}

// peek reads as much of a connection as tells its destination, until the deadline at most. It returns an error only where the
// connection ended or failed; what is not understood, or silent, is protocolTCP.
func peek(ctx context.Context, c net.Conn, deadline time.Time) (peeked, error) {
	if err := c.SetReadDeadline(deadline); err != nil {
		return peeked{}, err
	}
	r := &recorder{conn: c}
	p, err := r.peek(ctx)
	p.read = r.read
	if err != nil {
		return p, err
	}
	return p, c.SetReadDeadline(time.Time{})
}

// recorder keeps what is read of a connection.
type recorder struct {
	conn net.Conn
	read []byte
	at   int   // what a second reader has seen of read
	max  int   // of read
	err  error // of the connection
}

var errTooLong = errors.New("too long")

// more reads from the connection once.
func (r *recorder) more() error {
	if len(r.read) >= r.max {
		return errTooLong
	}
	if r.err != nil {
		return r.err
	}
	r.read = slices.Grow(r.read, 2048)
	n, err := r.conn.Read(r.read[len(r.read):min(cap(r.read), r.max)])
	r.read = r.read[:len(r.read)+n]
	r.err = err
	if n > 0 {
		return nil
	}
	return err
}

// Read gives a TLS server what was recorded, and then what comes.
func (r *recorder) Read(b []byte) (int, error) {
	if r.at == len(r.read) {
		if err := r.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.read[r.at:])
	r.at += n
	return n, nil
}

// gone says whether the connection, rather than the protocol or the patience, came to an end.
func (r *recorder) gone() error {
	var ne net.Error
	if r.err == nil || errors.As(r.err, &ne) && ne.Timeout() {
		return nil
	}
	if errors.Is(r.err, io.EOF) && len(r.read) > 0 {
		return nil // half closed: what was sent may still be answered
	}
	return r.err
}

func (r *recorder) peek(ctx context.Context) (peeked, error) {
	r.max = maxHelloBytes
	if err := r.more(); err != nil {
		return peeked{protocol: protocolTCP}, r.gone()
	}
	switch {
	case r.read[0] == 0x16: // a TLS record of type handshake
		return r.peekTLS(ctx), r.gone()
	case isToken(r.read[0]):
		r.max = maxHeadBytes
		return r.peekHTTP(), r.gone()
	default:
		return peeked{protocol: protocolTCP}, r.gone()
	}
}

// peekTLS reads the ClientHello with the parser that would also end TLS, so that there cannot be two readings of it.
func (r *recorder) peekTLS(ctx context.Context) peeked {
	var hello *tls.ClientHelloInfo
	stop := errors.New("seen")
	server := tls.Server(mute{r.conn, r}, &tls.Config{
		MinVersion: tls.VersionTLS10, // what is tunnelled may be old; what is ended is not
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hello = h
			return nil, stop
		},
	})
	_ = server.HandshakeContext(ctx)
	if hello == nil {
		return peeked{protocol: protocolTCP}
	}
	p := peeked{protocol: protocolTLS, authority: hello.ServerName}
	if slices.Contains(hello.Extensions, extensionECH) {
		p.authority = ""
	}
	return p
}

// mute is a connection that reads from a recorder and never writes.
type mute struct {
	net.Conn
	r io.Reader
}

func (m mute) Read(b []byte) (int, error) { return m.r.Read(b) }
func (mute) Write(b []byte) (int, error)  { return len(b), nil }
func (mute) Close() error                 { return nil }

func (mute) SetDeadline(time.Time) error      { return nil }
func (mute) SetReadDeadline(time.Time) error  { return nil }
func (mute) SetWriteDeadline(time.Time) error { return nil }

// peekHTTP reads the head of a first request.
func (r *recorder) peekHTTP() peeked {
	for {
		if i := bytes.Index(r.read, []byte("\r\n\r\n")); i >= 0 {
			return parseHead(string(r.read[:i]))
		}
		if !plausibleHead(r.read) || r.more() != nil {
			return peeked{protocol: protocolTCP}
		}
	}
}

// plausibleHead says whether bytes may be the beginning of a request: a method, a space, and no control character in the line.
func plausibleHead(b []byte) bool {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	for i, c := range line {
		if c == ' ' {
			return i > 0 && !bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\r' })
		}
		if !isToken(c) || i > 32 {
			return false
		}
	}
	return len(line) == len(b) // still in the method
}

// parseHead reads a request's head far enough to know its authority. A head that two readers could read in two ways has none.
func parseHead(head string) peeked {
	unknown := peeked{protocol: protocolTCP}
	lines := strings.Split(head, "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || parts[0] == "" || strings.IndexFunc(parts[0], func(c rune) bool { return c > 0x7f || !isToken(byte(c)) }) >= 0 ||
		parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return unknown
	}
	p := peeked{protocol: protocolHTTP}
	hosts := 0
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(l, "\r\n\x00") {
			return unknown
		}
		if strings.EqualFold(name, "Host") {
			hosts++
			p.authority = strings.Trim(value, " \t")
		}
	}
	// CONNECT names another destination than the connection's, and so may a target in absolute form.
	if hosts != 1 || parts[0] == "CONNECT" || !strings.HasPrefix(parts[1], "/") && parts[1] != "*" {
		p.authority = ""
	}
	return p
}

// isToken says whether a byte may be in a token of RFC 9110, such as a method.
func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// replay is a connection whose first bytes were read already. It carries its destination, which is nil for one of the explicit proxy.
type replay struct {
	net.Conn
	read   []byte
	dest   *destination
	closed func() // told of Close, where it is set; it may be told twice
}

func (c *replay) Read(b []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(b, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// inner is the connection that a replay wraps.
func inner(c net.Conn) net.Conn {
	if r, ok := c.(*replay); ok {
		return r.Conn
	}
	return c
}

// Close is part of net.Conn.
func (c *replay) Close() error {
	err := c.Conn.Close()
	if c.closed != nil {
		c.closed()
	}
	return err
}
