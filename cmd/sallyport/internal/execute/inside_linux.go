package execute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/proxy/capture"
)

// insidePort is where the namespace's connections are redirected to.
const insidePort = 15001

// newInside returns the hidden command that sets the namespaces up and becomes the command.
func newInside() *cobra.Command {
	return &cobra.Command{
		Use: insideCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return inside(os.NewFile(3, "control"))
		},
	}
}

// inside is the life of this program in the namespaces. It returns only when something is wrong.
func inside(control *os.File) error {
	// What a thread may do is the thread's own; the one that gives its capabilities up must be the one that becomes the command.
	runtime.LockOSThread()
	p, err := hear(control)
	if err != nil {
		return err
	}
	program, err := exec.LookPath(p.Argv[0])
	if err != nil {
		_, _ = control.Write([]byte(err.Error()))
		return err
	}
	fds, err := setUp(p)
	if err != nil {
		_, _ = control.Write([]byte(err.Error()))
		return err
	}
	if err := unix.Sendmsg(int(control.Fd()), []byte(ready), unix.UnixRights(fds...), nil, 0); err != nil {
		return fmt.Errorf("hand the listeners out: %w", err)
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	b := make([]byte, len(ready)+1)
	if n, err := control.Read(b); err != nil || string(b[:n]) != ready {
		return errors.Join(errors.New("the gate has ended before the command began"), err)
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	_ = control.Close()
	err = unix.Exec(program, p.Argv, p.Env)
	return fmt.Errorf("run %s: %w", program, err)
}

// hear reads the plan.
func hear(control *os.File) (p plan, err error) {
	var all []byte
	b := make([]byte, maxMessage)
	for {
		n, err := control.Read(b)
		if err != nil {
			return p, fmt.Errorf("hear the plan: %w", err)
		}
		if all = append(all, b[:n]...); n < maxMessage {
			break
		}
	}
	if err := json.Unmarshal(all, &p); err != nil {
		return p, fmt.Errorf("hear the plan: %w", err)
	}
	if len(p.Argv) == 0 {
		return p, errors.New("hear the plan: no command")
	}
	return p, nil
}

// setUp makes the namespace's network and returns the listeners' descriptors.
func setUp(p plan) ([]int, error) {
	six, err := routes()
	if err != nil {
		return nil, fmt.Errorf("make the namespace's network: %w", err)
	}
	if err := capture.Install(capture.Options{Port: insidePort, Sealed: true}); err != nil {
		return nil, err
	}
	if err := mountResolvConf(p.ResolvConf); err != nil {
		return nil, err
	}
	ctx, config := context.Background(), &net.ListenConfig{}
	config.SetMultipathTCP(false) // its sockets know no original destination
	var files []*os.File
	add := func(f *os.File, err error) error {
		if err == nil {
			files = append(files, f)
		}
		return err
	}
	listen := func(network, address string) error {
		l, err := config.Listen(ctx, network, address)
		if err != nil {
			return err
		}
		return add(l.(*net.TCPListener).File()) //nolint:forcetypeassert // of a TCP network
	}
	if err := listen("tcp4", fmt.Sprintf("127.0.0.1:%d", insidePort)); err != nil {
		return nil, fmt.Errorf("listen inside: %w", err)
	}
	if six {
		if err := listen("tcp6", fmt.Sprintf("[::1]:%d", insidePort)); err != nil {
			return nil, fmt.Errorf("listen inside: %w", err)
		}
	}
	packets, err := config.ListenPacket(ctx, "udp4", "127.0.0.1:53")
	if err == nil {
		err = add(packets.(*net.UDPConn).File()) //nolint:forcetypeassert // of a UDP network
	}
	if err == nil {
		err = listen("tcp4", "127.0.0.1:53")
	}
	if err != nil {
		return nil, fmt.Errorf("serve names inside: %w", err)
	}
	if err := probe(ctx); err != nil {
		return nil, err
	}
	var fds []int
	for _, f := range files {
		// Without this the descriptor would be closed with its file, some time.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("hand the listeners out: %w", err)
		}
		fds = append(fds, fd)
		_ = f.Close()
	}
	return fds, nil
}

// probe checks that the rules are in force: an address that nobody has must be answered, by the listener inside.
func probe(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", capture.Probe4.String())
	if err != nil {
		return fmt.Errorf("the capture is not in force: %w", err)
	}
	return c.Close()
}

// The addresses that packets seem to come from. Nothing is at the other end of the link: what is not redirected ends there.
var (
	inside4 = netip.MustParsePrefix("198.19.255.254/32")
	inside6 = netip.MustParsePrefix("fd00:5a11:1::1/128")
)

// routes brings up the loopback interface and a link that leads nowhere, with the default routes, so that connections can be begun
// at all. It says whether there is IPv6.
func routes() (six bool, err error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return false, err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return false, err
	}
	if err := nowhere(); err != nil {
		return false, err
	}
	link, err := netlink.LinkByName("nowhere")
	if err != nil {
		return false, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return false, err
	}
	route := func(p netip.Prefix, family int) error {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if family == netlink.FAMILY_V6 {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Family: family, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: make(net.IP, p.Addr().BitLen()/8), Mask: net.CIDRMask(0, p.Addr().BitLen())}})
	}
	if err := route(inside4, netlink.FAMILY_V4); err != nil {
		return false, err
	}
	return route(inside6, netlink.FAMILY_V6) == nil, nil // without IPv6 there is nothing to capture of it
}

// nowhere makes the link: a dummy, or where the kernel has none, a pair of which one end stays down the line.
func nowhere() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "nowhere"
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if err == nil {
		return nil
	}
	pair := netlink.NewVeth(attrs)
	pair.PeerName = "nobody"
	if verr := netlink.LinkAdd(pair); verr != nil {
		return errors.Join(err, verr)
	}
	peer, err := netlink.LinkByName("nobody")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(peer)
}

// mountResolvConf puts a file in the place of the name servers' addresses, in this mount namespace alone.
func mountResolvConf(file string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if errors.Is(err, os.ErrNotExist) {
		return nil // the resolver then asks 127.0.0.1, which is what the file would say
	}
	if err == nil {
		err = unix.Mount(file, target, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("mount over /etc/resolv.conf: %w", err)
	}
	return nil
}

// dropCapabilities leaves the command without what could undo the capture: no capability in these namespaces, and none to be had by
// loading a program, of root or with the set-user-id bit.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	drop := []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_MODULE, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SETPCAP}
	if os.Getuid() != 0 {
		drop = drop[:0]
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			drop = append(drop, c)
		}
	}
	for _, c := range drop {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if os.Getuid() == 0 {
		if err := unix.Capget(&header, &data[0]); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		for _, c := range drop {
			bit := uint32(1) << (c % 32)
			data[c/32].Effective &^= bit
			data[c/32].Permitted &^= bit
			data[c/32].Inheritable &^= bit
		}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
