package execute

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// pool is where the made-up addresses come from: RFC 2544's range for benchmarks, which nobody routes.
var pool = netip.MustParsePrefix("198.18.0.0/16")

// names answers the sealed command's questions for addresses without asking anybody: each name gets an address of its own, which tells the
// capture nothing, since the proxy resolves the name that the connection says. Names that the command makes up to carry
// something outside therefore carry it nowhere.
type names struct {
	mu    sync.Mutex
	known map[string]netip.Addr
	last  netip.Addr
}

func newNames() *names { return &names{known: map[string]netip.Addr{}, last: pool.Addr()} }

// maxNames bounds the table; beyond it the last address stands for all further names.
const maxNames = 1 << 14

func (n *names) address(name string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.known[name]; ok {
		return a
	}
	if len(n.known) < maxNames {
		n.last = n.last.Next()
		n.known[name] = n.last
	}
	return n.last
}

// answer answers one query. It returns nil for what is no query.
func (n *names) answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	h.Response, h.Authoritative, h.RecursionAvailable, h.Truncated = true, false, true, false
	h.RCode = dnsmessage.RCodeSuccess
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	err = errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	// A question of another type gets no answer, and no error either: the name exists.
	if err == nil && q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET {
		err = b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, dnsmessage.AResource{A: n.address(q.Name.String()).As4()})
	}
	if err != nil {
		return nil
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// servePackets answers datagrams until the connection is closed.
func (n *names) servePackets(c net.PacketConn) {
	b := make([]byte, 4096)
	for {
		size, from, err := c.ReadFrom(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if out := n.answer(b[:size]); out != nil {
			_, _ = c.WriteTo(out, from)
		}
	}
}

// serveStreams answers connections until the listener is closed.
func (n *names) serveStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go n.serveStream(c)
	}
}

func (n *names) serveStream(c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		out := n.answer(query)
		if out == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}
