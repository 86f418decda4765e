package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sallyport.dev/sallyport/e2e/cluster/host"
)

// sysctls are what routing between pods needs. The bridge's calls matter because a
// Service's answer from a pod on the same bridge would otherwise miss the translation
// back.
var sysctls = map[string]string{
	"net/ipv4/ip_forward":                 "1",
	"net/ipv6/conf/all/forwarding":        "1",
	"net/bridge/bridge-nf-call-iptables":  "1",
	"net/bridge/bridge-nf-call-ip6tables": "1",
}

// rules keep the cluster to itself: nothing is forwarded between the bridge and any
// other interface. The API server listens on the bridge's address, where pods can
// reach it; the first chain lets clients on this machine use 127.0.0.1 all the same.
const rules = `table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain output {
		type nat hook output priority -150;
		ip daddr 127.0.0.1 tcp dport %[3]s dnat ip to %[4]s:%[3]s
	}
	chain forward {
		type filter hook forward priority 0;
		iifname "%[2]s" oifname != "%[2]s" reject
		iifname != "%[2]s" oifname "%[2]s" drop
	}
}
`

// setUpNetwork makes the bridges, their routes and rules, and turns forwarding on. It may
// be called again on a network that is set up.
func (n Node) setUpNetwork(ctx context.Context) error {
	if err := n.setSysctls(); err != nil {
		return err
	}
	for _, name := range []string{bridge, serviceLink} {
		if _, err := net.InterfaceByName(name); err != nil {
			if err := run(ctx, "ip", "link", "add", name, "type", "bridge"); err != nil {
				return err
			}
		}
	}
	for _, args := range [][]string{
		{"address", "replace", bridgeIPv4 + "/24", "dev", bridge},
		{"address", "replace", bridgeIPv6 + "/64", "dev", bridge, "nodad"},
		{"link", "set", bridge, "up"},
		// Without these a machine that has no default route could not reach Services.
		// They must not lead to the pods' bridge: a pod that calls a Service without
		// endpoints would then be sent a redirect before it is refused, and wait.
		{"link", "set", serviceLink, "up"},
		{"route", "replace", serviceIPv4, "dev", serviceLink, "src", bridgeIPv4},
		{"-6", "route", "replace", serviceIPv6, "dev", serviceLink, "src", bridgeIPv6},
	} {
		if err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return runInput(ctx, fmt.Sprintf(rules, nftTable, bridge, apiPort, bridgeIPv4), "nft", "-f", "-")
}

// setSysctls changes what differs and notes down, once, what it was before.
func (n Node) setSysctls() error {
	before, err := n.savedSysctls()
	if err != nil {
		return err
	}
	for name, value := range sysctls {
		file := filepath.Join("/proc/sys", name)
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w", name, err)
		}
		have := strings.TrimSpace(string(content))
		if have == value {
			continue
		}
		if _, saved := before[name]; !saved {
			before[name] = have
		}
		content, err = json.Marshal(before)
		if err != nil {
			return err
		}
		if err := os.WriteFile(n.in("sysctls.json"), content, 0o644); err != nil {
			return fmt.Errorf("note down the sysctls: %w", err)
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl %s: %w", name, err)
		}
	}
	return nil
}

func (n Node) savedSysctls() (map[string]string, error) {
	saved := map[string]string{}
	content, err := os.ReadFile(n.in("sysctls.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return saved, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &saved)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sysctls noted down: %w", err)
	}
	return saved, nil
}

// tearDownNetwork takes back what setUpNetwork and kube-proxy did.
func (n Node) tearDownNetwork(ctx context.Context) error {
	var problems []error
	if nft, err := host.Find("nft"); err == nil {
		for _, table := range []string{"inet " + nftTable, "ip kube-proxy", "ip6 kube-proxy"} {
			// Naming the table first makes deleting one that is not there no error.
			problems = append(problems, runInput(ctx, fmt.Sprintf("table %[1]s\ndelete table %[1]s\n", table), nft, "-f", "-"))
		}
	}
	for _, name := range []string{bridge, serviceLink} {
		if _, err := net.InterfaceByName(name); err == nil {
			problems = append(problems, run(ctx, "ip", "link", "delete", name))
		}
	}
	saved, err := n.savedSysctls()
	problems = append(problems, err)
	for name, value := range saved {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
			problems = append(problems, fmt.Errorf("restore sysctl %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

func run(ctx context.Context, program string, args ...string) error {
	return runInput(ctx, "", program, args...)
}

// runInput runs a program to its end; its output is part of the error if it fails.
func runInput(ctx context.Context, input, program string, args ...string) error {
	path, err := host.Find(program)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
