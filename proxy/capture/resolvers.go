package capture

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// Resolvers reads the name servers of a resolv.conf, each once, in order. Lines that are no name server, and name servers that
// are no address, are passed over as a resolver passes them over; a scope ("%eth0") is dropped, since rules match addresses.
func Resolvers(r io.Reader) ([]netip.Addr, error) {
	var out []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(fields[1])
		if err != nil {
			continue
		}
		if a = a.WithZone("").Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	return out, nil
}
