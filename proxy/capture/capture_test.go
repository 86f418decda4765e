package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

const (
	testPort = 15001
	testUID  = 2113
	// patience is how long a test waits for what must happen; nothing is measured against it.
	patience = 20 * time.Second
)

// The test's network: a pod and the world, joined by a veth pair.
const (
	pod4, world4, other4 = "198.18.77.2", "198.18.77.1", "198.18.77.9"
	pod6, world6         = "fd77:18::2", "fd77:18::1"
)

// namespace is a network namespace made by the test.
type namespace struct {
	name string
	fd   int
}

func newNamespace(t *testing.T, suffix string) *namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces and must run as root")
	}
	n := &namespace{name: fmt.Sprintf("sallyport-test-%d-%s", os.Getpid(), suffix)}
	run(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", n.name) })
	fd, err := unix.Open("/var/run/netns/"+n.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	n.fd = fd
	n.ip(t, "link", "set", "lo", "up")
	return n
}

func (n *namespace) ip(t *testing.T, args ...string) {
	t.Helper()
	run(t, "ip", append([]string{"-n", n.name}, args...)...)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// do runs f on a thread inside the namespace, as the given user. The thread ends with f: it is never given back. Sockets keep the
// namespace and the user they were made with.
func (n *namespace) do(t *testing.T, uid int, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace: %w", err)
			}
			if uid != 0 {
				// The raw call changes this thread's user alone.
				if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
					return fmt.Errorf("become user %d: %w", uid, e)
				}
			}
			return f()
		}()
	}()
	return <-done
}

// network makes the pod and the world.
func network(t *testing.T) (pod, world *namespace) {
	t.Helper()
	pod, world = newNamespace(t, "pod"), newNamespace(t, "world")
	pod.ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world.name)
	for _, x := range []struct {
		n     *namespace
		addrs []string
	}{{pod, []string{pod4 + "/24", pod6 + "/64"}}, {world, []string{world4 + "/24", other4 + "/24", world6 + "/64"}}} {
		for _, a := range x.addrs {
			args := []string{"addr", "add", a, "dev", "eth0"}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			x.n.ip(t, args...)
		}
		x.n.ip(t, "link", "set", "eth0", "up")
	}
	pod.ip(t, "route", "add", "default", "via", world4)
	pod.ip(t, "-6", "route", "add", "default", "via", world6)
	return pod, world
}

// capturing installs the rules and accepts what they redirect.
func capturing(t *testing.T, pod *namespace) <-chan *net.TCPConn {
	t.Helper()
	if err := Install(Options{Port: testPort, UID: testUID, Resolvers: []netip.Addr{netip.MustParseAddr(world4)}, NetNS: pod.fd}); err != nil {
		t.Fatal(err)
	}
	var l *net.TCPListener
	if err := pod.do(t, testUID, func() (err error) { l, err = Listen(testPort); return err }); err != nil {
		t.Fatal(err)
	}
	return accepting(t, l)
}

func accepting(t *testing.T, l *net.TCPListener) <-chan *net.TCPConn {
	conns := make(chan *net.TCPConn, 16)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-stopped
		close(conns)
		for c := range conns {
			_ = c.Close()
		}
	})
	return conns
}

func next(t *testing.T, conns <-chan *net.TCPConn) *net.TCPConn {
	t.Helper()
	select {
	case c := <-conns:
		t.Cleanup(func() { _ = c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("no connection arrived")
		return nil
	}
}

func (n *namespace) dial(t *testing.T, uid int, network, addr string) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	err := n.do(t, uid, func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial(network, addr)
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func (n *namespace) listen(t *testing.T, addr string) <-chan *net.TCPConn {
	t.Helper()
	var l net.Listener
	if err := n.do(t, 0, func() (err error) { l, err = net.Listen("tcp", addr); return err }); err != nil {
		t.Fatal(err)
	}
	return accepting(t, l.(*net.TCPListener))
}

func (n *namespace) listenUDP(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	if err := n.do(t, 0, func() (err error) { c, err = net.ListenPacket("udp", addr); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCapture(t *testing.T) {
	pod, world := network(t)
	conns := capturing(t, pod)

	for _, tc := range []struct {
		name string
		uid  int
		dst  string
	}{
		{"v4 as root", 0, world4 + ":443"},
		{"v4 as a user", 1000, world4 + ":8000"},
		{"v6 as a user", 1000, "[" + world6 + "]:443"},
		{"v4 that nobody answers", 1000, "203.0.113.99:11434"},
		{"v6 that nobody answers", 1000, "[2001:db8:77::9]:443"},
		{"DNS by TCP to a server that is no resolver", 1000, other4 + ":53"},
		{"another port of the resolver", 1000, world4 + ":853"},
		{"probe v4 as the proxy", testUID, Probe4.String()},
		{"probe v6 as the proxy", testUID, Probe6.String()},
		{"probe v4 as a user", 1000, Probe4.String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := pod.dial(t, tc.uid, "tcp", tc.dst)
			if err != nil {
				t.Fatal(err)
			}
			got, err := OriginalDst(next(t, conns))
			if err != nil || got.String() != tc.dst {
				t.Errorf("original destination %v (%v), want %s", got, err, tc.dst)
			}
			_ = c.Close()
		})
	}

	for _, tc := range []struct {
		name, dst string
		uid       int
	}{
		{"the proxy's own v4", world4 + ":9443", testUID},
		{"the proxy's own v6", "[" + world6 + "]:9443", testUID},
		{"DNS by TCP to the resolver", world4 + ":53", 1000},
	} {
		t.Run(tc.name+" passes", func(t *testing.T) {
			outside := world.listen(t, tc.dst)
			c, err := pod.dial(t, tc.uid, "tcp", tc.dst)
			if err != nil {
				t.Fatal(err)
			}
			far := next(t, outside)
			if got, want := far.RemoteAddr().String(), c.LocalAddr().String(); got != want {
				t.Errorf("arrived from %s, sent from %s", got, want)
			}
			// Data goes both ways, and the end is carried over: later packets of a connection are let through too.
			for _, x := range [][2]net.Conn{{c, far}, {far, c}} {
				if _, err := x[0].Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				_ = x[1].SetReadDeadline(time.Now().Add(patience))
				b := make([]byte, 5)
				if _, err := io.ReadFull(x[1], b); err != nil || string(b) != "hello" {
					t.Errorf("read %q (%v)", b, err)
				}
			}
			_ = c.(*net.TCPConn).CloseWrite()
			if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("read %d, %v at the end", n, err)
			}
		})
	}

	t.Run("loopback is not captured", func(t *testing.T) {
		inside := pod.listen(t, "127.0.0.1:8000")
		if _, err := pod.dial(t, 1000, "tcp", "127.0.0.1:8000"); err != nil {
			t.Fatal(err)
		}
		next(t, inside)
	})

	for _, dst := range []string{"127.0.0.1:15001", "[::1]:15001", pod4 + ":15001", "[" + pod6 + "]:15001"} {
		t.Run("not redirected: "+dst, func(t *testing.T) {
			if _, err := pod.dial(t, 1000, "tcp", dst); err != nil {
				t.Fatal(err)
			}
			if got, err := OriginalDst(next(t, conns)); !errors.Is(err, ErrNotRedirected) {
				t.Errorf("original destination %v (%v), want ErrNotRedirected", got, err)
			}
		})
	}
	t.Run("not redirected: from outside", func(t *testing.T) {
		if _, err := world.dial(t, 0, "tcp", pod4+":15001"); err != nil {
			t.Fatal(err)
		}
		if got, err := OriginalDst(next(t, conns)); !errors.Is(err, ErrNotRedirected) {
			t.Errorf("original destination %v (%v), want ErrNotRedirected", got, err)
		}
	})
	t.Run("incoming connections are answered", func(t *testing.T) {
		inside := pod.listen(t, pod4+":8080")
		c, err := world.dial(t, 0, "tcp", pod4+":8080")
		if err != nil {
			t.Fatal(err)
		}
		near := next(t, inside)
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}

// refused sends a datagram and wants an error at once: from the sending, or from the socket right after it.
func refused(c net.Conn) error {
	_, err := c.Write([]byte("x"))
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		return errors.New("not refused")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("not refused: %w", err)
	}
	return nil
}

func TestNonTCPRefused(t *testing.T) {
	pod, world := network(t)
	capturing(t, pod)

	for _, dst := range []string{world4 + ":443", "[" + world6 + "]:443", other4 + ":53", world4 + ":5353", "[" + world6 + "]:53"} {
		t.Run("udp "+dst, func(t *testing.T) {
			there := world.listenUDP(t, dst)
			c, err := pod.dial(t, 1000, "udp", dst)
			if err != nil {
				return // refused on the way to the first byte
			}
			if err := refused(c); err != nil {
				t.Error(err)
			}
			// What arrives next is what a permitted sender sends: nothing came before.
			ok, err := pod.dial(t, testUID, "udp", dst)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ok.Write([]byte("proxy")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 16)
			_ = there.SetReadDeadline(time.Now().Add(patience))
			if n, _, err := there.ReadFrom(b); err != nil || string(b[:n]) != "proxy" {
				t.Errorf("%q arrived (%v)", b[:n], err)
			}
		})
	}
	t.Run("DNS to the resolver passes", func(t *testing.T) {
		there := world.listenUDP(t, world4+":53")
		c, err := pod.dial(t, 1000, "udp", world4+":53")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("query")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		_ = there.SetReadDeadline(time.Now().Add(patience))
		n, from, err := there.ReadFrom(b)
		if err != nil || string(b[:n]) != "query" {
			t.Fatalf("%q arrived (%v)", b[:n], err)
		}
		if _, err := there.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err = c.Read(b); err != nil || string(b[:n]) != "answer" {
			t.Errorf("answer %q (%v)", b[:n], err)
		}
	})
	for _, x := range [][2]string{{"ip4:icmp", world4}, {"ip6:ipv6-icmp", world6}, {"ip4:132", world4}, {"ip4:253", world4}} {
		t.Run("raw "+x[0], func(t *testing.T) {
			var c net.Conn
			// A raw socket needs a capability that a captured container should not have; even with it, nothing leaves.
			if err := pod.do(t, 0, func() (err error) { c, err = net.Dial(x[0], x[1]); return err }); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			echo := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
			if strings.HasPrefix(x[0], "ip6") {
				echo[0] = 128
			}
			if _, err := c.Write(echo); err == nil {
				t.Error("sent")
			}
		})
	}
	t.Run("raw TCP that is not tracked", func(t *testing.T) {
		var c net.Conn
		if err := pod.do(t, 0, func() (err error) { c, err = net.Dial("ip4:tcp", world4); return err }); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// SYN and FIN at once is no state of connection tracking: the redirect never sees it.
		seg := []byte{0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x03, 0xff, 0xff, 0, 0, 0, 0}
		if _, err := c.Write(seg); err == nil {
			t.Error("sent")
		}
	})
}

func TestInstallAgain(t *testing.T) {
	pod, _ := network(t)
	// A table of somebody else's, which must survive.
	other, err := nftables.New(nftables.WithNetNSFd(pod.fd))
	if err != nil {
		t.Fatal(err)
	}
	other.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "mesh"})
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	rules := func() (n int) {
		chains, err := other.ListChains()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chains {
			rs, err := other.GetRules(c.Table, c)
			if err != nil {
				t.Fatal(err)
			}
			n += len(rs)
		}
		return n
	}
	o := Options{Port: testPort, UID: testUID, Resolvers: []netip.Addr{netip.MustParseAddr(world4)}, NetNS: pod.fd}
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	first := rules()
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	if again := rules(); again != first || first == 0 {
		t.Errorf("%d rules, then %d", first, again)
	}
	tables, err := other.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tb := range tables {
		names = append(names, tb.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"mesh", TableName}) {
		t.Errorf("tables %q", names)
	}
}

func TestInstallErrors(t *testing.T) {
	pod := newNamespace(t, "perm")
	err := pod.do(t, 1000, func() error { return Install(Options{Port: testPort, UID: testUID}) })
	if !errors.Is(err, ErrPermission) {
		t.Errorf("as a user: %v, want ErrPermission", err)
	}
	for _, o := range []Options{{Port: testPort}, {UID: testUID}} {
		if err := Install(o); err == nil {
			t.Errorf("installed %+v", o)
		}
	}
	if err := classify(unix.EOPNOTSUPP); !errors.Is(err, ErrUnsupported) || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("classified as %v", err)
	}
}

func TestListenWithoutIPv6(t *testing.T) {
	pod := newNamespace(t, "v4")
	run(t, "ip", "netns", "exec", pod.name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")
	var l *net.TCPListener
	if err := pod.do(t, 0, func() (err error) { l, err = Listen(testPort); return err }); err != nil {
		t.Fatal(err)
	}
	conns := accepting(t, l)
	if _, err := pod.dial(t, 0, "tcp", "127.0.0.1:15001"); err != nil {
		t.Fatal(err)
	}
	next(t, conns)
}

func TestOriginalDstUnredirected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := accepting(t, l.(*net.TCPListener))
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := OriginalDst(next(t, conns)); !errors.Is(err, ErrNotRedirected) {
		t.Errorf("original destination %v (%v), want ErrNotRedirected", got, err)
	}
}

func TestResolvers(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want string
	}{
		"cluster":  {"search a.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", "[10.96.0.10]"},
		"both":     {"nameserver 10.96.0.10\nnameserver fd00::a\n", "[10.96.0.10 fd00::a]"},
		"twice":    {"nameserver 10.0.0.1\nnameserver ::ffff:10.0.0.1\n", "[10.0.0.1]"},
		"scoped":   {"nameserver fe80::1%eth0\n", "[fe80::1]"},
		"comments": {"# nameserver 1.1.1.1\n;nameserver 1.1.1.1\n\tnameserver\t1.0.0.1 # x\n", "[1.0.0.1]"},
		"broken":   {"nameserver\nnameserver dns.example\nnameserver 999.0.0.1\n", "[]"},
		"empty":    {"", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Resolvers(strings.NewReader(tc.in))
			if err != nil || fmt.Sprint(got) != tc.want {
				t.Errorf("%v (%v), want %s", got, err, tc.want)
			}
		})
	}
}

func FuzzResolvers(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\n"))
	f.Add([]byte("nameserver fe80::1%lo\nsearch x\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _ := Resolvers(bytes.NewReader(b))
		for _, a := range got {
			if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				t.Errorf("%q gave %v", b, a)
			}
		}
	})
}
