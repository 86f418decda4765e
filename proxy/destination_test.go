package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/idna"
)

func TestCanonicalHost(t *testing.T) {
	for in, want := range map[string]string{
		"api.openai.com": "api.openai.com", "API.OpenAI.com": "api.openai.com", "api.openai.com.": "api.openai.com", "a_b.example": "a_b.example", "localhost": "localhost",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "XN--BCHER-KVA.example": "xn--bcher-kva.example",
		"": "", ".": "", "api..com": "", ".api.com": "", "api.openai.com..": "", "-a.com": "", "a-.com": "", "a b.com": "", "a/b": "", "a@b.com": "", "a:443": "", "bücher.example": "", "a\x00.com": "",
		"10.0.0.1": "", "::1": "", "[::1]": "", "127.1": "", "0x7f.1": "", "2130706433": "", "a.1": "", "fe80::1%eth0": "", "xn--a.example": "", "xn--.example": "", "\u212a.example": "", strings.Repeat("a.", 127) + "com": "",
	} {
		got, err := canonicalHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func TestCanonicalAuthority(t *testing.T) {
	for in, want := range map[string]string{
		"a.example": "a.example 443", "A.example.:8443": "a.example 8443", "a.example:443": "a.example 443",
		"a.example:": "", "a.example:0": "", "a.example:0443": "", "a.example:+443": "", "a.example:65536": "", "a.example:443:443": "", "[::1]:443": "", "[::1]": "", "u@a.example": "", "": "", ":443": "",
	} {
		host, port, err := canonicalAuthority(in, 443)
		got := ""
		if err == nil {
			got = host + " " + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]
		}
		if got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func TestCanonicalTarget(t *testing.T) {
	for _, in := range []string{"/", "/v1/chat/completions", "/v1/chat/completions?", "/v1/models/gpt-4:beta?x=%2F..//", "/v1/a%20b", "/v1/a;b=c/d", "/v1/%C3%A9", "/v1/..."} {
		path, _, err := canonicalTarget(in, false)
		if before, _, _ := strings.Cut(in, "?"); err != nil || path != before {
			t.Errorf("%q: %q %v", in, path, err)
		}
	}
	for _, in := range []string{"", "*", "v1", "http://a/", "//a/", "/a//b", "/./a", "/a/..", "/a/../b", "/..;a/b", "/%2e%2e/a", "/%2E/a", "/a%2fb", "/a%5Cb", "/a%00", "/a%7f", "/a%", "/a%2", "/a%zz",
		"/%61", "/a\\b", "/a#b", "/a b", "/a\tb", "/a\r\nb", "/é", "/a%25b", "/a?b c", "/a?b#c", "/a?\x7f"} {
		if _, _, err := canonicalTarget(in, false); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// An escaped slash is part of a name where the API has such names, and no way to another path.
func TestCanonicalTargetWithSlashes(t *testing.T) {
	for _, in := range []string{
		"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0/converse",
		"/model/arn:aws:bedrock:us-east-1:123456789012:provisioned-model%2fabc/invoke", "/model/anthropic.claude-3-haiku-20240307-v1:0/converse-stream",
	} {
		if path, _, err := canonicalTarget(in, true); err != nil || path != in {
			t.Errorf("%q: %q %v", in, path, err)
		}
	}
	for _, in := range []string{"/model/a%2F/converse", "/model/%2Fa/converse", "/model/a%2F%2Fb/converse", "/model/a%2F..%2Fb/converse", "/model/a%2f.%2fb/converse", "/a%2F..;x/b", "/a%252Fb", "/a%5Cb", "/%2Fa", "/a%2F%2e%2e/b"} {
		if _, _, err := canonicalTarget(in, true); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
	if _, _, err := canonicalTarget("/model/a%2Fb/converse", false); err == nil {
		t.Error("an escaped slash was taken where none belongs")
	}
}

func FuzzCanonicalTarget(f *testing.F) {
	for _, s := range []string{"/", "/v1/chat/completions?x=1", "/a/../b", "/%2e%2e/", "//", "/a%2Fb", "/a;b/..;/c", "/%zz", "/é", "/a?b#c", "/a%2F..%2Fb"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, slashes bool) {
		path, query, err := canonicalTarget(s, slashes)
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(s)
		if err != nil {
			t.Fatalf("%q is canonical and no URI: %v", s, err)
		}
		if u.RequestURI() != s || u.RawQuery != query || u.EscapedPath() != path || u.Host != "" {
			t.Errorf("%q goes on as %q", s, u.RequestURI())
		}
		// Whoever cleans or decodes the path again finds the same segments.
		if clean := u.JoinPath(); clean.EscapedPath() != path {
			t.Errorf("%q cleans to %q", path, clean.EscapedPath())
		}
		escaped := 0
		if slashes {
			escaped = strings.Count(strings.ToLower(path), "%2f")
		}
		if again, err := url.PathUnescape(u.Path); err != nil || again != u.Path || strings.Count(u.Path, "/") != strings.Count(path, "/")+escaped {
			t.Errorf("%q decodes to %q", path, u.Path)
		}
	})
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"api.openai.com", "API.openai.com.", "xn--bcher-kva.example", "10.0.0.1", "[::1]:443", "127.1", "a..b", "bücher.de"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := canonicalHost(s)
		if err != nil {
			return
		}
		if again, err := canonicalHost(host); err != nil || again != host {
			t.Errorf("%q is not canonical: %q %v", host, again, err)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			t.Errorf("%q is an address", host)
		}
		if u, err := url.Parse("https://" + host + "/"); err != nil || u.Host != host {
			t.Errorf("%q is no host of a URL", host)
		}
		if a, err := idna.ToASCII(host); err != nil || a != host {
			t.Errorf("%q becomes %q by IDNA", host, a)
		}
	})
}

func TestMayDial(t *testing.T) {
	for a, want := range map[string]bool{
		"203.0.113.10": true, "10.0.0.1": true, "192.168.0.1": true, "2001:db8:1::1": true, "fd12::1": true, "::ffff:203.0.113.10": true, "64:ff9b::cb00:710a": true,
		"127.0.0.1": false, "127.8.9.1": false, "::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "169.254.169.254": false, "169.254.0.1": false, "fe80::1": false, "fe80::1%eth0": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "fd00:ec2::254": false, "fd00:ec2::254%x": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, "::169.254.169.254": false,
	} {
		if got := mayDial(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if mayDial(netip.Addr{}) {
		t.Error("the zero address may be dialled")
	}
}

func TestConnectNamePassesOver(t *testing.T) {
	var dialled []string
	c := &connector{
		resolver: fixedResolver{addr("127.0.0.1"), addr("169.254.169.254"), addr("203.0.113.1"), addr("203.0.113.2"), addr("203.0.113.3")},
		dial: func(_ context.Context, _, a string) (net.Conn, error) {
			dialled = append(dialled, a)
			if a == "203.0.113.2:443" {
				client, server := net.Pipe()
				_ = server.Close()
				return client, nil
			}
			return nil, errors.New("unreachable")
		},
	}
	conn, err := c.connectName(t.Context(), "a.example", 443)
	must(t, err)
	_ = conn.Close()
	if strings.Join(dialled, " ") != "203.0.113.1:443 203.0.113.2:443" {
		t.Errorf("dialled %q", dialled)
	}
}

func TestUpdateRefuses(t *testing.T) {
	r := newRig(t)
	good := r.p.view.Load()
	for name, change := range map[string]func(*Snapshot){
		"host is an address": func(s *Snapshot) {
			s.Providers = []Provider{{Name: "x", API: "openai", Hosts: []string{"10.0.0.1"}, Port: 443}}
		},
		"no host": func(s *Snapshot) { s.Providers = []Provider{{Name: "x", API: "openai", Port: 443}} },
		"no port": func(s *Snapshot) { s.Providers = []Provider{{Name: "x", API: "openai", Hosts: []string{"a.example"}}} },
		"two of one host": func(s *Snapshot) {
			s.Providers = append([]Provider{{Name: "x", API: "openai", Hosts: []string{modelHost}, Port: 443}}, s.Providers...)
		},
		"roots": func(s *Snapshot) {
			s.Providers = []Provider{{Name: "x", API: "openai", Hosts: []string{"a.example"}, Port: 443, CABundle: "none"}}
		},
		"name twice": func(s *Snapshot) {
			s.Providers = append([]Provider{{Name: "model", API: "openai", Hosts: []string{"b.example"}, Port: 443}}, s.Providers...)
		},
		"base path":             func(s *Snapshot) { s.Providers[0].BasePath = "/a/" },
		"relative base":         func(s *Snapshot) { s.Providers[0].BasePath = "a" },
		"base with dots":        func(s *Snapshot) { s.Providers[0].BasePath = "/a/.." },
		"base with escapes":     func(s *Snapshot) { s.Providers[0].BasePath = "/a%20b" },
		"base with a query":     func(s *Snapshot) { s.Providers[0].BasePath = "/a?b" },
		"address":               func(s *Snapshot) { s.Providers[0].Addresses = []string{"a.example"} },
		"no host's address":     func(s *Snapshot) { s.Providers[0].Addresses = []string{"10.0.0.1", "0.0.0.0"} },
		"rule of nothing":       func(s *Snapshot) { s.Passthrough = []Passthrough{{}} },
		"rule of both":          func(s *Snapshot) { s.Passthrough = []Passthrough{{Host: "a.example", CIDR: "10.0.0.0/8"}} },
		"rule of a bad network": func(s *Snapshot) { s.Passthrough = []Passthrough{{CIDR: "10.0.0.0/33"}} },
		"negative size":         func(s *Snapshot) { s.MaxRequestBytes = -1 },
		"size beyond all":       func(s *Snapshot) { s.MaxRequestBytes = 64<<20 + 1 },
		"negative timeout":      func(s *Snapshot) { s.Timeouts.Idle = -time.Second },
		"negative limit":        func(s *Snapshot) { s.Limits.Memory = -1 },
	} {
		s := r.snap
		s.Providers = slices.Clone(s.Providers)
		change(&s)
		if err := r.p.Update(s); err == nil || r.p.view.Load() != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, r.p.Update(r.snap))
	for id, u := range r.p.view.Load().upstreams {
		if good.upstreams[id] != u {
			t.Error("an update dropped connections that it need not")
		}
	}
}

// helloBytes is a ClientHello as crypto/tls sends it.
func helloBytes(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() { _ = tls.Client(far, cfg).Handshake() }()
	must(t, near.SetDeadline(time.Now().Add(patience)))
	head := make([]byte, 5)
	_, err := io.ReadFull(near, head)
	must(t, err)
	rest := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err = io.ReadFull(near, rest)
	must(t, err)
	return append(head, rest...)
}

// outerECH is a well-formed encrypted_client_hello of a ClientHelloOuter: HKDF-SHA256, AES-128-GCM, a config id, an encapsulated key and a payload.
var outerECH = append(append([]byte{0, 0, 1, 0, 1, 7, 0, 32}, make([]byte, 32)...), append([]byte{0, 16}, make([]byte, 16)...)...)

// withExtension adds an extension at the end of a ClientHello in one record.
func withExtension(t testing.TB, hello []byte, id uint16, data []byte) []byte {
	t.Helper()
	ext := binary.BigEndian.AppendUint16(nil, id)
	ext = binary.BigEndian.AppendUint16(ext, uint16(len(data)))
	ext = append(ext, data...)
	out := append(append([]byte(nil), hello...), ext...)
	add16 := func(at int) {
		binary.BigEndian.PutUint16(out[at:], binary.BigEndian.Uint16(out[at:])+uint16(len(ext)))
	}
	add16(3) // record
	add16(7) // handshake: the lower two of three bytes
	// Past version and random come session id, cipher suites and compression methods, each with its length.
	at := 5 + 4 + 2 + 32
	at += 1 + int(out[at])
	at += 2 + int(binary.BigEndian.Uint16(out[at:]))
	at += 1 + int(out[at])
	add16(at)
	return out
}

// script is a connection that gives pieces, then an end or silence.
type script struct {
	net.Conn
	pieces [][]byte
	end    error
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, s.end
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *script) SetReadDeadline(time.Time) error { return nil }

type timeoutError struct{}

func (timeoutError) Error() string   { return "too late" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestPeekInPieces(t *testing.T) {
	hello := helloBytes(t, &tls.Config{ServerName: modelHost, NextProtos: []string{"h2"}, InsecureSkipVerify: true})
	head := []byte("POST /v1/x HTTP/1.1\r\nHost: " + tunnelHost + "\r\nX: y\r\n\r\nbody")
	for name, tc := range map[string]struct {
		in   []byte
		want protocol
		auth string
	}{"hello": {hello, protocolTLS, modelHost}, "head": {head, protocolHTTP, tunnelHost}} {
		for _, size := range []int{1, 2, 3, 7, 100, 10_000} {
			s := &script{end: timeoutError{}}
			for rest := tc.in; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				s.pieces = append(s.pieces, append([]byte(nil), rest[:min(size, len(rest))]...))
			}
			p, err := peek(t.Context(), s, time.Time{})
			if err != nil || p.protocol != tc.want || p.authority != tc.auth {
				t.Errorf("%s by %d: %v %q %v", name, size, p.protocol, p.authority, err)
			}
			rest, err := io.ReadAll(&replay{Conn: s, read: p.read})
			if string(rest) != string(tc.in) || !errors.Is(err, timeoutError{}) {
				t.Errorf("%s by %d: %d of %d bytes are handed on (%v)", name, size, len(rest), len(tc.in), err)
			}
		}
	}
	if _, err := peek(t.Context(), &script{end: io.EOF}, time.Time{}); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that ended at once: %v", err)
	}
	long := &script{pieces: [][]byte{[]byte("GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 20_000))}, end: timeoutError{}}
	if p, err := peek(t.Context(), long, time.Time{}); err != nil || p.protocol != protocolTCP || len(p.read) > maxHeadBytes {
		t.Errorf("an endless head: %v %v, %d bytes", p.protocol, err, len(p.read))
	}
}

func FuzzPeek(f *testing.F) {
	hello := helloBytes(f, &tls.Config{ServerName: modelHost, InsecureSkipVerify: true})
	f.Add(hello, 1)
	f.Add(withExtension(f, hello, extensionECH, outerECH), 50)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), 5)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 100)
	f.Add([]byte{0x16, 3, 1, 255, 255}, 2)
	f.Add([]byte("SSH-2.0-x\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(1, min(size, 4096))
		s := &script{end: timeoutError{}}
		for rest := b; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			s.pieces = append(s.pieces, append([]byte(nil), rest[:min(size, len(rest))]...))
		}
		p, err := peek(context.Background(), s, time.Time{})
		if err != nil {
			t.Fatalf("%v: a silent connection is no error", err)
		}
		if len(p.read) > maxHelloBytes || !strings.HasPrefix(string(b), string(p.read)) {
			t.Fatalf("%d bytes read are not those that were sent", len(p.read))
		}
		if p.authority != "" && p.protocol == protocolTCP {
			t.Errorf("%q has the authority %q without a protocol", b, p.authority)
		}
		if p.protocol == protocolHTTP && p.authority != "" && strings.Count(strings.ToLower(string(b)), "host") < 1 {
			t.Errorf("%q has the authority %q", b, p.authority)
		}
		d := destine(&view{}, p, netip.MustParseAddrPort("203.0.113.1:443"))
		if d.model || d.kind == "passthrough" || d.byName && d.host == "" {
			t.Errorf("%+v without a configuration", d)
		}
	})
}
