package proxy

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/canary"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/policy"
)

// DefaultMaxRequestBytes is the largest body that is judged where the configuration says nothing.
const DefaultMaxRequestBytes = 16 << 20

// LargestMaxRequestBytes is how large the configuration may let a body be: it is kept whole while it is judged.
const LargestMaxRequestBytes = 64 << 20

// Snapshot is what the proxy is to do, as the control plane says it. The zero value refuses everything.
type Snapshot struct {
	// Workload is whose calls these are.
	Workload policy.Workload
	// Mode is "observe" or, whatever else it says, enforce.
	Mode string
	// KillSwitch refuses every call.
	KillSwitch bool
	// Passthrough lists destinations that are tunnelled unread, where policy allows it.
	Passthrough []Passthrough
	// MaxRequestBytes is the largest body that is judged; 0 means DefaultMaxRequestBytes. More than LargestMaxRequestBytes is refused.
	MaxRequestBytes int64
	// Timeouts bound how long is waited in the calls that begin while the snapshot is in force. A field that is 0 is as the Options have it; a
	// negative one is refused.
	Timeouts CallTimeouts
	// Limits bound what is kept of those calls. A field that is 0 is as the Options have it; a negative one is refused. Calls that are under way when
	// Limits.Memory changes keep what they have beside it.
	Limits Limits
	// Providers are the model providers that the workload knows.
	Providers []Provider
	// Credentials are the providers' API keys by the name that Provider.Credential has.
	Credentials map[string][]byte
	// Salt is the workload's feature salt; see gate.Request.
	Salt uint64
	// Canaries are strings that no call may hold; nil where there are none.
	Canaries *canary.Set
	// RefuseCold refuses the calls that the detector would judge, while there is none.
	RefuseCold bool
}

// Passthrough is a destination by name or by address; exactly one of the two is set.
type Passthrough struct {
	Host string
	CIDR string
	// Ports are the TCP ports; empty means all.
	Ports []uint16
}

// Provider is a model provider.
type Provider struct {
	Name string
	// API is the wire format: a name of the table of surfaces, such as "openai".
	API   string
	Hosts []string
	Port  uint16
	// BasePath is the path under which the hosts have the API's own paths, such as "/openai"; "" for the root.
	BasePath string
	// Plaintext says that the hosts are spoken to without TLS, as is usual inside a cluster. It is the only way to be spoken to then.
	Plaintext bool
	// Addresses are dialled instead of those that the hosts' names resolve to. They may be ones that no name may resolve to, such as the
	// loopback address, since somebody wrote them down.
	Addresses []string
	// Credential names the API key, or what else the API wants, in Snapshot.Credentials. Where it is empty, the caller's own credential is forwarded.
	Credential string
	// CABundle is PEM of roots that the provider's certificate may chain to, besides the system's.
	CABundle string
}

// endpoint is a host with its port.
type endpoint struct {
	host string
	port uint16
}

// provider is a Provider that was checked.
type provider struct {
	name, api  string
	at         endpoint // its first host
	basePath   string
	plaintext  bool
	credential *credential
	upstream   *upstream
}

// scheme is that of the provider's URLs.
func (p *provider) scheme() string {
	if p.plaintext {
		return "http"
	}
	return "https"
}

// protocol is what a connection to the provider must speak.
func (p *provider) protocol() protocol {
	if p.plaintext {
		return protocolHTTP
	}
	return protocolTLS
}

// view is a Snapshot that was checked and indexed. It does not change.
type view struct {
	workload    policy.Workload
	mode        string
	killSwitch  bool
	maxBytes    int64
	timeouts    CallTimeouts
	limits      Limits
	memory      *budget
	plain       *upstream // for what is forwarded in the clear to no provider
	providers   map[endpoint]*provider
	byProvider  map[string]*provider // by name
	passthrough []passthrough
	upstreams   map[[sha256.Size]byte]*upstream
	credentials map[[sha256.Size]byte]*credential
	salt        uint64
	canaries    *canary.Set
	refuseCold  bool
}

type passthrough struct {
	host   string
	prefix netip.Prefix
	ports  []uint16
}

func (r *passthrough) hasPort(port uint16) bool {
	return len(r.ports) == 0 || slices.Contains(r.ports, port)
}

// closed is the view before the first snapshot.
func (p *Proxy) closed() *view {
	v := &view{mode: modeEnforce, killSwitch: true, maxBytes: DefaultMaxRequestBytes, timeouts: p.timeouts.CallTimeouts, limits: p.limits}
	v.memory, v.plain = newBudget(v.limits.Memory), newUpstream(p.connector, nil, nil, v.timeouts)
	return v
}

// modeEnforce is every mode but gate.ModeObserve.
const modeEnforce = "enforce"

// compile checks a snapshot. Of the view before, upstreams are taken over with their connections where roots, addresses and timeouts are the
// same, and credentials with the tokens made from them where the secret is the same.
func (p *Proxy) compile(s *Snapshot, before *view) (*view, error) {
	v := &view{
		workload: s.Workload, mode: modeEnforce, killSwitch: s.KillSwitch, maxBytes: cmp.Or(s.MaxRequestBytes, DefaultMaxRequestBytes),
		providers: map[endpoint]*provider{}, byProvider: map[string]*provider{},
		upstreams: map[[sha256.Size]byte]*upstream{}, credentials: map[[sha256.Size]byte]*credential{},
		salt: s.Salt, canaries: s.Canaries, refuseCold: s.RefuseCold,
	}
	if s.Mode == gate.ModeObserve {
		v.mode = gate.ModeObserve
	}
	if v.maxBytes < 0 || v.maxBytes > LargestMaxRequestBytes {
		return nil, fmt.Errorf("the largest request is %d bytes; it may be %d at most", v.maxBytes, LargestMaxRequestBytes)
	}
	if t := s.Timeouts; min(t.RequestBody, t.Connect, t.FirstByte, t.Idle, t.Hold) < 0 {
		return nil, fmt.Errorf("a timeout is negative: %+v", t)
	}
	if l := s.Limits; l.Memory < 0 || l.HeldToolCalls < 0 || l.HeldResponse < 0 {
		return nil, fmt.Errorf("a limit is negative: %+v", l)
	}
	v.settle(s, before, p)
	connect := func(roots *x509.CertPool, addresses []netip.Addr) *upstream {
		return newUpstream(p.connector, roots, addresses, v.timeouts)
	}
	for _, at := range s.Providers {
		if err := v.addProvider(&at, s.Credentials, before, connect); err != nil {
			return nil, fmt.Errorf("provider %q: %w", at.Name, err)
		}
	}
	for i, r := range s.Passthrough {
		rule := passthrough{ports: r.Ports}
		var err error
		switch {
		case (r.Host == "") == (r.CIDR == ""):
			err = errors.New("exactly one of host and cidr must be set")
		case r.Host != "":
			rule.host, err = canonicalHost(r.Host)
		default:
			rule.prefix, err = netip.ParsePrefix(r.CIDR)
		}
		if err != nil {
			return nil, fmt.Errorf("passthrough rule %d: %w", i, err)
		}
		v.passthrough = append(v.passthrough, rule)
	}
	return v, nil
}

// settle finds the timeouts and limits, and what depends on them alone. Of the view before, what has the same is taken over.
func (v *view) settle(s *Snapshot, before *view, p *Proxy) {
	v.timeouts = s.Timeouts.or(p.timeouts.CallTimeouts)
	v.limits = s.Limits.or(p.limits)
	if v.memory = before.memory; v.memory.size != v.limits.Memory {
		v.memory = newBudget(v.limits.Memory)
	}
	if v.plain = before.plain; !v.timeouts.connectsAs(before.timeouts) {
		v.plain = newUpstream(p.connector, nil, nil, v.timeouts)
	}
}

// connectsAs says whether an upstream made for the one serves the other.
func (t CallTimeouts) connectsAs(other CallTimeouts) bool {
	return t.Connect == other.Connect && t.FirstByte == other.FirstByte
}

func (v *view) addProvider(p *Provider, credentials map[string][]byte, before *view, make func(*x509.CertPool, []netip.Addr) *upstream) error {
	if p.Name == "" || len(p.Hosts) == 0 || p.Port == 0 {
		return errors.New("name, hosts and port must be set")
	}
	if v.byProvider[p.Name] != nil {
		return errors.New("the name is given twice")
	}
	if err := checkBasePath(p.BasePath); err != nil {
		return err
	}
	out := &provider{name: p.Name, api: p.API, basePath: p.BasePath, plaintext: p.Plaintext}
	addresses, err := parseAddresses(p.Addresses)
	if err != nil {
		return err
	}
	hosts := slices.Clone(p.Hosts)
	for i, h := range p.Hosts {
		if hosts[i], err = canonicalHost(h); err != nil {
			return fmt.Errorf("host %q: %w", h, err)
		}
	}
	if p.Credential != "" {
		out.credential = v.addCredential(p.API, credentials[p.Credential], hosts, before)
	}
	id := sha256.Sum256(fmt.Append(nil, addresses, v.timeouts.Connect, v.timeouts.FirstByte, p.CABundle))
	switch {
	case v.upstreams[id] != nil:
		out.upstream = v.upstreams[id]
	case before.upstreams[id] != nil:
		out.upstream = before.upstreams[id]
	default:
		roots, err := systemRootsWith(p.CABundle)
		if err != nil {
			return err
		}
		out.upstream = make(roots, addresses)
	}
	v.upstreams[id] = out.upstream
	for _, host := range hosts {
		at := endpoint{host, p.Port}
		if other := v.providers[at]; other != nil && other != out {
			return fmt.Errorf("host %q with port %d is provider %q's", host, p.Port, other.name)
		}
		v.providers[at] = out
	}
	out.at = endpoint{hosts[0], p.Port}
	v.byProvider[p.Name] = out
	return nil
}

// addCredential takes a credential over where its secret is the same. One that is missing or unusable is found out when a call needs it: the other
// providers go on.
func (v *view) addCredential(api string, secret []byte, hosts []string, before *view) *credential {
	id := sha256.Sum256(fmt.Appendf(nil, "%q %q %s", api, hosts, secret))
	c := v.credentials[id]
	if c == nil {
		c = before.credentials[id]
	}
	if c == nil {
		var err error
		if c, err = newCredential(api, secret, hosts); err != nil {
			c = &credential{api: api, add: unusable{err}}
		}
	}
	v.credentials[id] = c
	return c
}

// checkBasePath wants a path that can be read in one way only, as a prefix of others: "/openai", "/api/v2".
func checkBasePath(base string) error {
	if base == "" {
		return nil
	}
	if path, query, err := canonicalTarget(base, false); err != nil || query != "" || path != base || strings.HasSuffix(base, "/") || strings.ContainsAny(base, "%;?") {
		return fmt.Errorf("base path %q: it must begin with a slash, end with none, and have neither empty nor dot segments, escapes or parameters", base)
	}
	return nil
}

// parseAddresses reads addresses that somebody wrote down. What nothing can listen on is refused.
func parseAddresses(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("address %q: it must be the IP address of one host", s)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

func systemRootsWith(pemBundle string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // an image without roots: the provider's own must do
	}
	if strings.TrimSpace(pemBundle) != "" && !roots.AppendCertsFromPEM([]byte(pemBundle)) {
		return nil, errors.New("the CA bundle holds no certificate")
	}
	return roots, nil
}

// provider returns the provider at a host and port, nil where there is none.
func (v *view) provider(host string, port uint16) *provider { return v.providers[endpoint{host, port}] }

// isProviderHost says whether any provider has the host, whatever the port.
func (v *view) isProviderHost(host string) bool {
	for e := range v.providers {
		if e.host == host {
			return true
		}
	}
	return false
}

// byName says whether a rule lets the name be tunnelled to.
func (v *view) byName(host string, port uint16) bool {
	return host != "" && slices.ContainsFunc(v.passthrough, func(r passthrough) bool { return r.host == host && r.hasPort(port) })
}

// byAddress says whether a rule lets the address be tunnelled to.
func (v *view) byAddress(a netip.AddrPort) bool {
	return slices.ContainsFunc(v.passthrough, func(r passthrough) bool { return r.prefix.Contains(a.Addr()) && r.hasPort(a.Port()) })
}

// unread says whether a connection is tunnelled by its address alone, so that there is nothing to wait for: protocols in which the
// server speaks first need that. Ports of providers are always read.
func (v *view) unread(a netip.AddrPort) bool { return !v.isProviderPort(a.Port()) && v.byAddress(a) }

// isProviderPort says whether any provider has the port, whatever the host.
func (v *view) isProviderPort(port uint16) bool {
	for e := range v.providers {
		if e.port == port {
			return true
		}
	}
	return false
}
