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

// resolver resolves names. It is satisfied by *net.Resolver.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// connector makes the proxy's own connections: it resolves, refuses what must not be reached, and dials what it resolved.
type connector struct {
	resolver resolver
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	timeout  time.Duration
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
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// The final dot keeps the resolver from trying the pod's search domains: the name is whole.
	addrs, err := c.resolver.LookupNetIP(ctx, "ip", host+".")
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var errs []error
	for i, a := range addrs {
		if !mayDial(a) {
			errs = append(errs, fmt.Errorf("%s: %w", a, errAddressRefused))
			continue
		}
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
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
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

// upstream sends requests to providers that share their roots.
type upstream struct{ transport *http.Transport }

// newUpstream makes a transport that speaks HTTP/2 where the provider does, follows nothing, decodes nothing, and gets its connections
// from the connector.
func newUpstream(c *connector, roots *x509.CertPool, t Timeouts) *upstream {
	return &upstream{&http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, p, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			port, err := strconv.ParseUint(p, 10, 16)
			if err != nil {
				return nil, err
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

// credential is an API key and the header that carries it.
type credential struct {
	header, value string // value is empty where the key is missing
}

// callerCredentials are the headers by which callers name themselves to providers. They are taken off where a credential is added.
var callerCredentials = []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Cookie"}

func newCredential(api string, key []byte) (*credential, error) {
	k := strings.TrimSpace(string(key))
	if strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("the credential has a character that no header may have")
	}
	c := &credential{value: k}
	switch api {
	case "anthropic":
		c.header = "X-Api-Key"
	case "openai":
		c.header = "Authorization"
		if k != "" {
			c.value = "Bearer " + k
		}
	default:
		return nil, fmt.Errorf("API %q: not known how a credential is sent", api)
	}
	return c, nil
}

// apply puts the credential in the place of the caller's own. It fails where there is no key.
func (c *credential) apply(h http.Header) error {
	if c == nil {
		return nil
	}
	if c.value == "" {
		return errNoCredential
	}
	for _, name := range callerCredentials {
		h.Del(name)
	}
	h.Set(c.header, c.value)
	return nil
}

var (
	errNoCredential = errors.New("the provider's credential is missing")
	errIdle         = errors.New("nothing arrived for too long")
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
