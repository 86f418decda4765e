package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNotRedirected says that a connection came to the listener directly. To forward it would be to connect to oneself, again and again.
var ErrNotRedirected = errors.New("the connection was not redirected")

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which have the same value.
const soOriginalDst = 80

// OriginalDst returns the address that the other end of an accepted connection dialled, before the rules redirected it. It returns
// ErrNotRedirected where that is the listener itself, or where connection tracking knows nothing of it.
func OriginalDst(c *net.TCPConn) (netip.AddrPort, error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: local address: %w", err)
	}
	local = netip.AddrPortFrom(local.Addr().WithZone("").Unmap(), local.Port())
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	var orig netip.AddrPort
	var serr error
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			orig, serr = original4(int(fd))
		} else {
			orig, serr = original6(int(fd))
		}
	})
	if err == nil {
		err = serr
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) {
		return netip.AddrPort{}, ErrNotRedirected
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	if orig == local {
		return netip.AddrPort{}, ErrNotRedirected
	}
	return orig, nil
}

// original4 reads a sockaddr_in (16 bytes) through a getter for a larger structure, the usual way in Go: it begins with the family,
// then the port in network order, then the address.
func original4(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := v.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// original6 reads a sockaddr_in6, with which an ip6_mtuinfo begins.
func original6(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The port is in network order whatever the machine's is.
	port := binary.NativeEndian.AppendUint16(nil, v.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}

// Listen listens for redirected connections of both families, or of IPv4 alone where the pod has no IPv6.
func Listen(port uint16) (*net.TCPListener, error) {
	// A socket of Multipath TCP does not say where a connection was to go; a caller that speaks it falls back to TCP.
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	p := strconv.Itoa(int(port))
	l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort("::", p))
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6 here
		var err4 error
		if l, err4 = config.Listen(context.Background(), "tcp4", net.JoinHostPort("0.0.0.0", p)); err4 != nil {
			return nil, fmt.Errorf("listen for captured connections: %w", errors.Join(err, err4))
		}
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("listen for captured connections: %w", err)
	}
	return l.(*net.TCPListener), nil //nolint:forcetypeassert // what Listen returns for TCP
}
