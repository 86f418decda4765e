package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is the nftables table, of family inet, that Install owns. No other table is touched.
const TableName = "sallyport"

// natPriority puts the redirect before a service mesh's, which is at dstnat (-100): who comes first gets the connection.
const natPriority = -110

// The probe destinations: addresses reserved for documentation, which the rules redirect for every user, the proxy's included. The proxy
// connects to them to see that the rules are in force.
var (
	Probe4 = netip.MustParseAddrPort("192.0.2.1:2113")
	Probe6 = netip.MustParseAddrPort("[2001:db8::1]:2113")
)

// Options say what to capture.
type Options struct {
	// Port is where TCP connections are redirected to, on the loopback address.
	Port uint16
	// UID is the proxy's user, whose own traffic is not captured. It must not be 0, unless Sealed.
	UID uint32
	// Sealed says that the proxy is outside the namespace, so that nobody's traffic is exempt.
	Sealed bool
	// Resolvers are the name servers that everybody may ask, on port 53 by UDP and TCP.
	Resolvers []netip.Addr
	// NetNS is a descriptor of the network namespace; 0 means the caller's own.
	NetNS int
}

// Errors of Install that callers tell apart.
var (
	// ErrPermission says that the caller may not change the namespace's rules.
	ErrPermission = errors.New("not permitted: the init container needs CAP_NET_ADMIN")
	// ErrUnsupported says that the kernel lacks what the rules need.
	ErrUnsupported = errors.New("the kernel lacks nftables, or one of its modules nf_tables, nft_chain_nat, nft_redir, nft_ct, nft_reject_inet")
)

// Install puts the rules in force, in one transaction that also replaces those of an earlier Install. In nft's own words:
//
//	table inet sallyport {
//	  chain output_nat {
//	    type nat hook output priority -110; policy accept
//	    ip daddr 192.0.2.1 tcp dport 2113 redirect to :15001      # the probes, for every uid
//	    ip6 daddr 2001:db8::1 tcp dport 2113 redirect to :15001
//	    meta skuid 2113 return
//	    oifname "lo" return
//	    ip daddr RESOLVER tcp dport 53 return
//	    meta l4proto tcp redirect to :15001
//	  }
//	  chain output_filter {
//	    type filter hook output priority filter; policy accept
//	    meta skuid 2113 accept
//	    oifname "lo" accept
//	    ct state established,related accept                       # began inside these rules, or came from outside
//	    ip daddr RESOLVER udp dport 53 accept                     # and tcp
//	    icmpv6 type { 130-137, 143 } accept                       # neighbour and multicast listener discovery
//	    meta l4proto tcp ct status dnat accept                    # was redirected
//	    reject with icmpx admin-prohibited
//	  }
//	}
//
// The last rule refuses everything else, so that QUIC falls back to TCP at once instead of waiting: UDP, ICMP, SCTP, and TCP
// that connection tracking did not see and the redirect therefore missed.
func Install(o Options) error {
	if o.Port == 0 || (o.UID == 0) != o.Sealed {
		return errors.New("install capture rules: port and uid must be set, and the uid must not be root's; a sealed namespace has no uid")
	}
	var opts []nftables.ConnOption
	if o.NetNS != 0 {
		opts = append(opts, nftables.WithNetNSFd(o.NetNS))
	}
	conn, err := nftables.New(opts...)
	if err != nil {
		return fmt.Errorf("install capture rules: open netlink: %w", classify(err))
	}
	compose(conn, o)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("install capture rules: %w", classify(err))
	}
	return nil
}

// classify adds the likely cause to what the kernel says.
func classify(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (%w)", ErrPermission, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (%w)", ErrUnsupported, err)
	default:
		return err
	}
}

func compose(conn *nftables.Conn, o Options) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	// Deleting a table that is not there would fail the transaction: add it first, which does nothing where it exists.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)

	nat := conn.AddChain(&nftables.Chain{
		Name: "output_nat", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(natPriority),
	})
	filter := conn.AddChain(&nftables.Chain{
		Name: "output_filter", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	add := func(c *nftables.Chain, parts ...[]expr.Any) {
		var exprs []expr.Any
		for _, p := range parts {
			exprs = append(exprs, p...)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: exprs})
	}
	accept, ret := verdict(expr.VerdictAccept), verdict(expr.VerdictReturn)
	redirect := []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(o.Port)},
		&expr.Redir{RegisterProtoMin: 1},
	}

	for _, probe := range []netip.AddrPort{Probe4, Probe6} {
		add(nat, daddr(probe.Addr()), dport(unix.IPPROTO_TCP, probe.Port()), redirect)
	}
	if !o.Sealed {
		add(nat, skuid(o.UID), ret)
	}
	add(nat, loopback(), ret)
	for _, r := range o.Resolvers {
		add(nat, daddr(r), dport(unix.IPPROTO_TCP, 53), ret)
	}
	add(nat, l4proto(unix.IPPROTO_TCP), redirect)

	if !o.Sealed {
		add(filter, skuid(o.UID), accept)
	}
	add(filter, loopback(), accept)
	add(filter, ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	for _, r := range o.Resolvers {
		add(filter, daddr(r), dport(unix.IPPROTO_UDP, 53), accept)
		add(filter, daddr(r), dport(unix.IPPROTO_TCP, 53), accept)
	}
	add(filter, icmp6Types(130, 137), accept)
	add(filter, icmp6Types(143, 143), accept)
	add(filter, l4proto(unix.IPPROTO_TCP), ctBits(expr.CtKeySTATUS, ctStatusDNAT), accept)
	add(filter, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
}

// ctStatusDNAT is IPS_DST_NAT of the kernel's enum ip_conntrack_status.
const ctStatusDNAT = 1 << 5

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func equal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func skuid(uid uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1}, equal(binaryutil.NativeEndian.PutUint32(uid))}
}

func loopback() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(name)}
}

func l4proto(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

func dport(proto byte, port uint16) []expr.Any {
	return append(l4proto(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, port)))
}

// daddr matches a destination address, and by it the family.
func daddr(a netip.Addr) []expr.Any {
	a = a.Unmap()
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if a.Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	b := a.AsSlice()
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(b))}, equal(b),
	}
}

func icmp6Types(from, to byte) []expr.Any {
	return append(l4proto(unix.IPPROTO_ICMPV6),
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{unix.NFPROTO_IPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{from}, ToData: []byte{to}})
}

// ctBits matches where connection tracking has any of the bits set. It does not match a packet that is not tracked.
func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
