package execute

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideCommand is the hidden subcommand that this program runs itself as, inside the namespaces.
const insideCommand = "exec-inside"

// What the inside tells the outside of what it has set up, in one message whose control data are the descriptors.
const (
	ready = "ready"
	// descriptors are: the capture listener for IPv4, the one for IPv6 if there is IPv6, the name server's datagram socket and its listener.
	minDescriptors, maxDescriptors = 3, 4
)

// plan is what the inside is told, on descriptor 3.
type plan struct {
	Argv []string
	Env  []string
	// ResolvConf is mounted over /etc/resolv.conf.
	ResolvConf string
}

// sealed is a command that was started in namespaces of its own and waits for leave to begin.
type sealed struct {
	cmd      *exec.Cmd
	control  *os.File
	captured []net.Listener
	packets  net.PacketConn
	streams  net.Listener
}

// seal starts a command in namespaces of its own. What it returns must be released or abandoned. An error means that the namespaces
// could not be made or not be closed off; the command was not run.
func seal(ctx context.Context, p plan, stdin io.Reader, stdout, stderr io.Writer) (*sealed, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer func() { _ = theirs.Close() }()

	uids, gids, err := mappings()
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	// wait tells the command of the end of ctx by a signal that it can heed: its end must not be a kill.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/proc/self/exe", insideCommand)
	cmd.Args[0] = "sallyport"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: uids, GidMappings: gids, GidMappingsEnableSetgroups: os.Getuid() == 0,
		// Somebody who is not root loses the namespaces' capabilities when the program is loaded, unless they are ambient.
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP},
	}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	s := &sealed{cmd: cmd, control: ours}
	if err := s.receive(p); err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

// receive tells the inside what to set up and takes the descriptors that it made.
func (s *sealed) receive(p plan) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	if err := send(s.control, b); err != nil {
		return err
	}
	fd := int(s.control.Fd())
	msg, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, oobn, _, _, err := unix.Recvmsg(fd, msg, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return errors.Join(errors.New("set up the namespaces: the program inside has ended"), err)
	}
	if said := string(msg[:n]); said != ready {
		return errors.New(said)
	}
	controls, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(controls) != 1 {
		return fmt.Errorf("descriptors from inside: %d messages, %w", len(controls), err)
	}
	fds, err := unix.ParseUnixRights(&controls[0])
	if err != nil || len(fds) < minDescriptors || len(fds) > maxDescriptors {
		return fmt.Errorf("descriptors from inside: %d, %w", len(fds), err)
	}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "inside")
		if i == len(fds)-2 {
			s.packets, err = net.FilePacketConn(f)
		} else {
			var l net.Listener
			if l, err = net.FileListener(f); i == len(fds)-1 {
				s.streams = l
			} else if err == nil {
				s.captured = append(s.captured, l)
			}
		}
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("descriptors from inside: %w", err)
		}
	}
	return nil
}

// maxMessage is what a message of a socket pair may hold; what is longer goes in pieces, of which the last is shorter.
const maxMessage = 64 << 10

func send(f *os.File, b []byte) error {
	for {
		n := min(len(b), maxMessage)
		if _, err := f.Write(b[:n]); err != nil {
			return fmt.Errorf("tell the inside: %w", err)
		}
		if b = b[n:]; n < maxMessage {
			return nil
		}
	}
}

// release lets the command begin.
func (s *sealed) release() error {
	_, err := s.control.Write([]byte(ready))
	_ = s.control.Close()
	return err
}

// abandon ends the inside before the command has begun.
func (s *sealed) abandon() {
	_ = s.control.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.close()
}

// close closes what came from inside.
func (s *sealed) close() {
	for _, l := range s.captured {
		_ = l.Close()
	}
	if s.packets != nil {
		_ = s.packets.Close()
	}
	if s.streams != nil {
		_ = s.streams.Close()
	}
}

// mappings are who is who inside: root has everybody it has outside, anybody else only himself.
func mappings() (uids, gids []syscall.SysProcIDMap, err error) {
	if os.Getuid() != 0 {
		return []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			[]syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}, nil
	}
	if uids, err = identity("/proc/self/uid_map"); err != nil {
		return nil, nil, err
	}
	gids, err = identity("/proc/self/gid_map")
	return uids, gids, err
}

// identity maps every id that a map of this process has to itself.
func identity(file string) (out []syscall.SysProcIDMap, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err // names the file
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: %q is no mapping", file, lines.Text())
		}
		first, err1 := strconv.ParseInt(fields[0], 10, 64)
		size, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, syscall.SysProcIDMap{ContainerID: int(first), HostID: int(first), Size: int(size)})
	}
	return out, lines.Err()
}

// hide keeps other processes of the same user, the command among them, from reading the credentials out of this one. The kernel would not
// let this process set up namespaces afterwards.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide the credentials from other processes: %w", err)
	}
	return nil
}
