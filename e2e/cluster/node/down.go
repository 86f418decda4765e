package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/e2e/cluster/process"
)

// grace is how long a program may take to end before it is killed. It is short because
// nothing that a program would still write is kept.
const grace = time.Second

// Down ends everything and removes every trace but the cache. It goes on after a
// failure, so that one thing that is stuck does not keep the rest.
func (n Node) Down(ctx context.Context) error {
	if _, err := os.Stat(n.State); errors.Is(err, fs.ErrNotExist) {
		n.say("nothing is up")
		return nil
	}
	unlock, err := n.lock()
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()

	// The kubelet goes first, so that nothing starts pods again; pods go while the
	// network is still there; what the others write to goes last.
	names, err := n.group().Names()
	problems := []error{err}
	stop := func(name string) { problems = append(problems, n.group().Stop(name, grace)) }
	stop("kubelet")
	problems = append(problems, n.killPods(ctx))
	for _, name := range []string{"containerd", "kube-proxy", "kube-scheduler", "kube-controller-manager"} {
		stop(name)
	}
	for _, name := range names {
		stop(name)
	}
	problems = append(problems,
		n.unmountAll(),
		n.tearDownNetwork(ctx),
		removeCgroups(),
		n.removeStrays(),
	)
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("the state directory is kept for another try: %w", err)
	}
	if err := os.RemoveAll(n.State); err != nil {
		return fmt.Errorf("remove the state directory: %w", err)
	}
	n.say("everything is down after %.1f s", time.Since(start).Seconds())
	return nil
}

// killPods kills the containers' processes and the shims above them. A shim is known by
// the address of our containerd among its arguments, so that it is found even when
// containerd is gone.
func (n Node) killPods(ctx context.Context) error {
	for {
		// Killing once more finds what a dying parent handed on to its shim meanwhile.
		killed, err := process.KillTrees("containerd-shim-runc-v2", n.runtimeSocket())
		if err != nil || killed == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// unmountAll unmounts everything below the state directory, the innermost first. The
// network namespaces of pods go with their mounts.
func (n Node) unmountAll() error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	defer file.Close()
	var points []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if point, ok := mountPoint(scanner.Text()); ok && strings.HasPrefix(point, n.State+"/") {
			points = append(points, point)
		}
	}
	var problems []error
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			problems = append(problems, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(problems...)
}

// mountPoint returns the fifth field of a line of mountinfo, with its octal escapes
// undone.
func mountPoint(line string) (string, bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return "", false
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4]), true
}

// removeCgroups removes the kubelet's cgroups, which are empty by now, in every
// hierarchy.
func removeCgroups() error {
	var problems []error
	for _, pattern := range []string{"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/*/kubepods"} {
		roots, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, root := range roots {
			var dirs []string
			err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil // a directory that went meanwhile is no problem
			})
			problems = append(problems, err)
			for _, dir := range slices.Backward(dirs) {
				if err := removeCgroup(dir); err != nil {
					problems = append(problems, fmt.Errorf("remove cgroup: %w", err))
				}
			}
		}
	}
	return errors.Join(problems...)
}

// removeCgroup removes one cgroup; killed processes stay in it for a moment.
func removeCgroup(dir string) error {
	var err error
	for range 50 {
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// removeStrays removes the few files that containerd and the kubelet put outside the
// state directory and that nobody else can be using.
func (n Node) removeStrays() error {
	var strays []string
	// The socket of each shim; its address lies in the shim's directory.
	shims, err := filepath.Glob(n.in("run", "containerd", "io.containerd.runtime.v2.task", "k8s.io", "*", "bootstrap.json"))
	if err != nil {
		return err
	}
	for _, file := range shims {
		if content, err := os.ReadFile(file); err == nil {
			if socket, ok := shimSocket(content); ok {
				strays = append(strays, socket)
			}
		}
	}
	results, err := filepath.Glob("/var/lib/cni/results/" + cniNetwork + "-*")
	if err != nil {
		return err
	}
	strays = append(strays, results...)
	// Links to the logs of containers, which lie below the state directory.
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, n.State+"/") {
			strays = append(strays, link)
		}
	}
	var problems []error
	for _, stray := range strays {
		if err := os.Remove(stray); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("remove what was left: %w", err))
		}
	}
	return errors.Join(problems...)
}

// shimSocket reads the path of a shim's socket from what the shim told containerd when
// it started. A socket that is not where containerd puts them is none of ours.
func shimSocket(content []byte) (string, bool) {
	var bootstrap struct {
		Address string `json:"address"`
	}
	if json.Unmarshal(content, &bootstrap) != nil {
		return "", false
	}
	path, ok := strings.CutPrefix(bootstrap.Address, "unix://")
	return path, ok && filepath.Dir(path) == "/run/containerd/s"
}
