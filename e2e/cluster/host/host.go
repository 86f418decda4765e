package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// sbin are directories that hold administrators' programs and are not in everybody's PATH.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// A Need is a file or program that the cluster uses, and the Debian package it is in.
type Need struct {
	// What is a program's name, or the absolute path of a file.
	What string
	// Package is the Debian package.
	Package string
}

// Needs returns everything that must be installed.
func Needs() []Need {
	needs := []Need{
		{"runc", "runc"}, // one built with go install lacks seccomp, and pods then fail
		{"ip", "iproute2"},
		{"nft", "nftables"},
		{"mount", "mount"},
		{"/etc/ssl/certs/ca-certificates.crt", "ca-certificates"},
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback"} {
		needs = append(needs, Need{"/usr/lib/cni/" + plugin, "containernetworking-plugins"})
	}
	return needs
}

// Missing returns the needs that this machine does not meet.
func Missing() []Need {
	var missing []Need
	for _, need := range Needs() {
		if _, err := Find(need.What); err != nil {
			missing = append(missing, need)
		}
	}
	return missing
}

// Find returns the path of a program, looking where administrators' programs are too.
func Find(what string) (string, error) {
	if filepath.IsAbs(what) {
		_, err := os.Stat(what)
		return what, err
	}
	if path, err := exec.LookPath(what); err == nil {
		return path, nil
	}
	for _, dir := range sbin {
		if path, err := exec.LookPath(filepath.Join(dir, what)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", what, exec.ErrNotFound)
}

// Describe says in one message which needs are not met and how to meet them; it is
// empty when there are none.
func Describe(missing []Need) string {
	if len(missing) == 0 {
		return ""
	}
	var b strings.Builder
	for _, need := range missing {
		fmt.Fprintf(&b, "%s is missing: it is in the Debian package %s\n", need.What, need.Package)
	}
	fmt.Fprintf(&b, "install with the verb deps, or: apt-get install %s", strings.Join(packages(missing), " "))
	return b.String()
}

// packages returns the packages of the needs, each once, sorted.
func packages(needs []Need) []string {
	var names []string
	for _, need := range needs {
		names = append(names, need.Package)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Check returns an error that names everything this machine lacks.
func Check() error {
	if runtime.GOOS != "linux" {
		return errors.New("the cluster runs on Linux only")
	}
	if os.Geteuid() != 0 {
		return errors.New("the cluster needs root: it makes network namespaces, mounts and cgroups")
	}
	var problems []error
	if text := Describe(Missing()); text != "" {
		problems = append(problems, errors.New(text))
	}
	return errors.Join(append(problems, checkKernel())...)
}

// checkKernel looks for the kernel features that are not certain to be there.
func checkKernel() error {
	var problems []error
	if nft, err := Find("nft"); err == nil {
		if out, err := exec.Command(nft, "list", "tables").CombinedOutput(); err != nil {
			problems = append(problems, fmt.Errorf("the kernel has no nftables (CONFIG_NF_TABLES_INET): %s", strings.TrimSpace(string(out))))
		}
	}
	for _, need := range []struct{ path, module, option string }{
		{"/proc/sys/net/bridge/bridge-nf-call-iptables", "br_netfilter", "CONFIG_BRIDGE_NETFILTER"},
		{"/proc/sys/net/ipv6/conf/all/forwarding", "ipv6", "CONFIG_IPV6"},
	} {
		if _, err := os.Stat(need.path); err == nil {
			continue
		}
		if modprobe, err := Find("modprobe"); err == nil {
			_ = exec.Command(modprobe, need.module).Run() // what counts is whether the path is there afterwards
		}
		if _, err := os.Stat(need.path); err != nil {
			problems = append(problems, fmt.Errorf("the kernel lacks %s (module %s, %s)", need.path, need.module, need.option))
		}
	}
	if content, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6"); err == nil && strings.TrimSpace(string(content)) == "1" {
		problems = append(problems, errors.New("IPv6 is turned off (sysctl net.ipv6.conf.all.disable_ipv6): the cluster is dual-stack"))
	}
	if content, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(content), "\toverlay\n") {
		modprobe, err := Find("modprobe")
		if err != nil || exec.Command(modprobe, "overlay").Run() != nil {
			problems = append(problems, errors.New("the kernel has no overlay file system (module overlay, CONFIG_OVERLAY_FS)"))
		}
	}
	if content, err := os.ReadFile("/proc/mounts"); err == nil && !strings.Contains(string(content), " /sys/fs/cgroup") {
		problems = append(problems, errors.New("no cgroups are mounted at /sys/fs/cgroup"))
	}
	return errors.Join(problems...)
}

// Install installs the Debian packages of what is missing. Package lists are only
// fetched when the packages are not known yet. It does nothing when nothing is missing.
func Install(ctx context.Context, log io.Writer) error {
	names := packages(Missing())
	if len(names) == 0 {
		fmt.Fprintln(log, "deps: everything is installed")
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("installing %s needs root", strings.Join(names, ", "))
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = log, log
		return cmd.Run()
	}
	install := append([]string{"install", "--yes", "--no-install-recommends"}, names...)
	fmt.Fprintf(log, "deps: installing %s\n", strings.Join(names, " "))
	if err := apt(install...); err != nil {
		fmt.Fprintln(log, "deps: fetching the package lists and trying again")
		if err := apt("update"); err != nil {
			return fmt.Errorf("fetch the package lists: %w", err)
		}
		if err := apt(install...); err != nil {
			return fmt.Errorf("install %s: %w", strings.Join(names, ", "), err)
		}
	}
	if text := Describe(Missing()); text != "" {
		return fmt.Errorf("after installing, something is missing still:\n%s", text)
	}
	return nil
}
