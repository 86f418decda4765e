package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// errAddressRefused says that a name resolved to nothing that may be dialled.
var errAddressRefused = errors.New("the address may not be dialled")

// Resolver resolves names. It is satisfied by *net.Resolver. Names end in a dot, so that no search domain applies.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// connector makes the proxy's own connections: it resolves, refuses what must not be reached, and dials what it resolved. How long that may take
// is the context's to say.
type connector struct {
	resolver Resolver
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// metadata6 is the address of the instance metadata service of EC2 by IPv6.
var metadata6 = netip.MustParseAddr("fd00:ec2::254")

// forbidden are ranges beside those that netip has names for: "this network", the carrier's metadata services, benchmarking of the translated
// prefixes that embed an IPv4 address.
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour   = netip.MustParsePrefix("2002::/16")
	compatible  = netip.MustParsePrefix("::/96")
)

// mayDial says whether an address may be dialled at all: not the pod itself, not the link with its metadata services, not many at once. An IPv4
// address inside an IPv6 address is judged as itself.
func mayDial(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a), compatible.Contains(a) && a != netip.IPv6Loopback() && a != netip.IPv6Unspecified():
			return mayDial(netip.AddrFrom4([4]byte(b[12:])))
		case sixToFour.Contains(a):
			return mayDial(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		!a.IsInterfaceLocalMulticast() && !thisNetwork.Contains(a) && a != metadata6 && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// connectName resolves a canonical name and dials the addresses it may, in the resolver's order.
func (c *connector) connectName(ctx context.Context, host string, port uint16) (net.Conn, error) {
	// The final dot keeps the resolver from trying the pod's search domains: the name is whole.
	addrs, err := c.resolver.LookupNetIP(ctx, "ip", host+".")
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var allowed []netip.Addr
	var errs []error
	for _, a := range addrs {
		if !mayDial(a) {
			errs = append(errs, fmt.Errorf("%s: %w", a, errAddressRefused))
			continue
		}
		allowed = append(allowed, a)
	}
	return c.dialAny(ctx, host, allowed, port, errs)
}

// connectNamed dials addresses that the configuration names, whatever they are.
func (c *connector) connectNamed(ctx context.Context, host string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	return c.dialAny(ctx, host, addrs, port, nil)
}

// dialAny dials one address after the other. errs are what is wrong already.
func (c *connector) dialAny(ctx context.Context, host string, addrs []netip.Addr, port uint16, errs []error) (net.Conn, error) {
	for i, a := range addrs {
		conn, err := c.dialOne(ctx, netip.AddrPortFrom(a.Unmap(), port), len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("no address"))
	}
	return nil, fmt.Errorf("connect to %s: %w", host, errors.Join(errs...))
}

// connectAddress dials an address as the caller did.
func (c *connector) connectAddress(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	if !mayDial(a.Addr()) {
		return nil, fmt.Errorf("connect to %s: %w", a.Addr(), errAddressRefused)
	}
	return c.dialOne(ctx, a, 1)
}

// dialOne leaves time for the addresses that follow.
func (c *connector) dialOne(ctx context.Context, a netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return c.dial(ctx, "tcp", a.String())
}

// upstream sends requests to providers that share their roots and addresses.
type upstream struct{ transport *http.Transport }

// newUpstream makes a transport that speaks HTTP/2 where the provider does, follows nothing, decodes nothing, and gets its connections
// from the connector: to the addresses, or where there are none, to those that the name resolves to.
func newUpstream(c *connector, roots *x509.CertPool, addresses []netip.Addr, t CallTimeouts) *upstream {
	return &upstream{&http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.Connect)
			defer cancel()
			host, p, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			port, err := strconv.ParseUint(p, 10, 16)
			if err != nil {
				return nil, err
			}
			if a, err := netip.ParseAddr(host); err == nil { // never a provider's
				return c.connectAddress(ctx, netip.AddrPortFrom(a, uint16(port)))
			}
			if len(addresses) > 0 {
				return c.connectNamed(ctx, host, addresses, uint16(port))
			}
			return c.connectName(ctx, host, uint16(port))
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:   t.Connect,
		ResponseHeaderTimeout: t.FirstByte,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   64,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
		// A connection that died silently is found out while a stream waits for its next event.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}}
}

var (
	errNoCredential  = errors.New("the provider's credential is missing")
	errBadCredential = errors.New("the provider's credential is unusable")
	errIdle          = errors.New("nothing arrived for too long")
)

// classify names why a provider could not be reached or stopped answering, for records and metrics.
func classify(err error) string {
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		rec  tls.RecordHeaderError
		al   tls.AlertError
		op   *net.OpError
		ne   net.Error
	)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errNoCredential):
		return "credential_missing"
	case errors.Is(err, errBadCredential):
		return "credential_unusable"
	case errors.Is(err, errIdle):
		return "idle_timeout"
	case errors.Is(err, context.Canceled):
		return "caller_gone"
	case errors.Is(err, errAddressRefused):
		return "address_refused"
	case errors.As(err, &dns):
		return "resolve"
	case errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &al), strings.Contains(err.Error(), "tls: "):
		return "tls"
	case strings.Contains(err.Error(), "timeout awaiting response headers"):
		return "first_byte_timeout"
	case errors.As(err, &op) && op.Op == "dial":
		return "connect"
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "connect_timeout"
	default:
		return "broken"
	}
}
