package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// errIsAddress is returned for a host that is an address: that is no name.
var errIsAddress = errors.New("the host is an address")

// canonicalHost returns a host name in the form that everything compares: lower case, without a trailing dot, every label well-formed, and
// internationalised labels ("xn--…") valid.
func canonicalHost(s string) (string, error) {
	host := strings.TrimSuffix(s, ".")
	if host == "" || len(host) > 253 {
		return "", errors.New("the host is empty or too long")
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }) {
		return "", errors.New("the host is not ASCII") // before lowering, which turns the Kelvin sign into a k
	}
	host = strings.ToLower(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "", errIsAddress
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", errors.New("the host has a malformed label")
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", errors.New("the host has a character that no host name has")
			}
		}
	}
	// 127.1, 0x7f.1, 2130706433: resolvers take them for addresses.
	if last := host[strings.LastIndexByte(host, '.')+1:]; last[0] >= '0' && last[0] <= '9' {
		return "", errors.New("the host ends in a number")
	}
	if strings.Contains(host, "xn--") {
		if a, err := idna.Lookup.ToASCII(host); err != nil || a != host {
			return "", errors.New("the host is not valid by IDNA")
		}
	}
	return host, nil
}

// canonicalAuthority splits an authority as in a Host header into its canonical host and its port, which is defaultPort where none is named.
func canonicalAuthority(s string, defaultPort uint16) (string, uint16, error) {
	host, port := s, defaultPort
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		p, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || p == 0 || s[i+1] == '0' {
			return "", 0, errors.New("the authority has a malformed port")
		}
		host, port = s[:i], uint16(p)
	}
	host, err := canonicalHost(host)
	return host, port, err
}

// canonicalTarget checks a request target in origin form and splits it into path and query. Nothing is normalised: what has more
// than one spelling is refused, so that the provider cannot read another path than was judged. An escaped slash is let through where
// slashes says so: in an API whose names hold slashes, as the model ARNs of Bedrock do.
func canonicalTarget(target string, slashes bool) (path, query string, err error) {
	if target == "" || target[0] != '/' {
		return "", "", errors.New("the target is not a path")
	}
	for i := range len(target) {
		switch c := target[i]; {
		case c <= ' ' || c >= 0x7f:
			return "", "", errors.New("the target has a control character, a space or a byte that is not ASCII")
		case c == '#' || c == '\\':
			return "", "", fmt.Errorf("the target has a %q", c)
		}
	}
	path, query, _ = strings.Cut(target, "?")
	if strings.Contains(path, "//") {
		return "", "", errors.New("the path has an empty segment")
	}
	for seg := range strings.SplitSeq(path, "/") {
		// A parameter does not make "." another segment for every server: "..;x" is ".." to some.
		if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
			return "", "", errors.New("the path has a dot segment")
		}
	}
	for rest := path; ; {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			break
		}
		if len(rest) < i+3 {
			return "", "", errors.New("the path has a broken escape")
		}
		c, err := strconv.ParseUint(rest[i+1:i+3], 16, 8)
		if err != nil {
			return "", "", errors.New("the path has a broken escape")
		}
		switch b := byte(c); {
		case b < ' ' || b == 0x7f:
			return "", "", errors.New("the path has an escaped control character")
		case b == '/' && slashes:
		case b == '/' || b == '\\' || b == '%':
			return "", "", fmt.Errorf("the path has an escaped %q", b)
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte("-._~", b) >= 0:
			return "", "", errors.New("the path has an escape that it does not need")
		}
		rest = rest[i+3:]
	}
	if slashes {
		// Whoever takes the escaped slashes for slashes must not get to another path by it.
		plain := strings.ReplaceAll(strings.ReplaceAll(path, "%2F", "/"), "%2f", "/")
		if _, _, err := canonicalTarget(plain, false); err != nil {
			return "", "", err
		}
	}
	// What is sent on is made from a URL; it must come out as it went in.
	if u, err := url.ParseRequestURI(target); err != nil || u.RequestURI() != target {
		return "", "", errors.New("the target is not a URL's")
	}
	return path, query, nil
}
