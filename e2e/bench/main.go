// Command bench measures what the gate costs: the proxy with everything on (capture, TLS on both sides, decode, features, a forest of 100
// trees, Rego, decision record) against the floor, a bare TLS-terminating httputil.ReverseProxy that reads the body, in one run
// on one machine. Compare the rows of one run; the absolute times mean little.
//
// The caller and the proxy under test are in one network namespace, the stand-in for the provider in another. Proxy and floor have a
// core to themselves (GOMAXPROCS=1, pinned); load and stand-in share another.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Names and addresses of the two namespaces.
const (
	podNS, webNS   = "sallyport-bench-pod", "sallyport-bench-web"
	podLink        = "spb-pod"
	webLink        = "spb-web"
	podIP, webIP   = "10.213.7.1", "10.213.7.2"
	modelHost      = "api.openai.com"
	floorAddress   = podIP + ":9443"
	capturePort    = 15001
	providerPort   = "443"
	proxyCore      = 1
	loadCore       = 0
	agentUID       = 1000
	proxyUID       = 2113
	patience       = 20 * time.Second
	recordLineFile = "records.jsonl"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		if err := role(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	seconds := flag.Int("seconds", 6, "length of each measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := bench(ctx, time.Duration(*seconds)*time.Second)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// subject is a way from the caller to the stand-in.
type subject struct {
	name    string
	address string // that the caller dials
}

// child is a process of the benchmark. err may be read once ended is closed.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// measurement is one kind of load.
type measurement struct {
	name string
	load load
	// figures to print, in order, taken from the result.
	figures []figure
}

type figure struct {
	name  string
	of    func(result) float64
	ratio bool // to the floor, rather than the difference
	unit  string
}

func micros(d func(result) time.Duration) func(result) float64 {
	return func(r result) float64 { return float64(d(r).Nanoseconds()) / 1e3 }
}

func measurements(each time.Duration) []measurement {
	p50 := figure{"p50", micros(func(r result) time.Duration { return r.P50 }), false, "µs"}
	p99 := figure{"p99", micros(func(r result) time.Duration { return r.P99 }), false, "µs"}
	first := figure{"first byte p50", micros(func(r result) time.Duration { return r.FirstP50 }), false, "µs"}
	perSecond := figure{"calls/s", func(r result) float64 { return r.PerSecond }, true, ""}
	return []measurement{
		{"1 KB, 16 connections", load{Bytes: 1 << 10, Connections: 16, For: each}, []figure{perSecond}},
		{"1 KB, 1 connection", load{Bytes: 1 << 10, Connections: 1, For: each}, []figure{p50}},
		{"1 KB, 500 calls/s", load{Bytes: 1 << 10, Connections: 16, PerSecond: 500, For: each}, []figure{p50, p99}},
		{"900 KB, 1 connection", load{Bytes: 900 << 10, Connections: 1, For: each}, []figure{p50}},
		{"stream of 20 events, 1 connection", load{Bytes: 1 << 10, Connections: 1, Stream: true, For: each}, []figure{first}},
	}
}

func bench(ctx context.Context, each time.Duration) error {
	if os.Getuid() != 0 {
		return errors.New("run as root: the benchmark makes network namespaces")
	}
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	down, err := namespaces(ctx)
	defer down()
	if err != nil {
		return err
	}
	if err := credentials(dir); err != nil {
		return err
	}
	var children []*child
	defer func() {
		for _, c := range children {
			_ = c.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is fine
			<-c.ended
		}
	}()
	start := func(ns, name string) (*child, error) {
		c := &child{cmd: inNamespace(ctx, ns, name, dir), ended: make(chan struct{})}
		c.cmd.Stdout, c.cmd.Stderr = os.Stderr, os.Stderr
		if err := c.cmd.Start(); err != nil {
			return nil, err
		}
		go func() { c.err = c.cmd.Wait(); close(c.ended) }()
		children = append(children, c)
		return c, nil
	}
	if _, err := start(webNS, "provider"); err != nil {
		return err
	}
	if _, err := start(podNS, "floor"); err != nil {
		return err
	}
	gate, err := start(podNS, "gate")
	if err != nil {
		return err
	}
	subjects := []subject{
		{"direct", "direct"}, // past both, as the proxy's own uid
		{"floor", floorAddress},
		{"sallyport", net443(modelHost)},
	}
	for _, s := range subjects {
		if err := until(ctx, patience, func() error {
			select {
			case <-gate.ended:
				return fmt.Errorf("the gate ended: %w", gate.err)
			default:
			}
			_, err := runLoad(ctx, dir, s, load{Bytes: 1 << 10, Connections: 1, Calls: 1})
			return err
		}); err != nil {
			return fmt.Errorf("%s does not answer: %w", s.name, err)
		}
	}
	idle := rss(gate.cmd.Process.Pid)

	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\tfigure\tdirect\tfloor\tsallyport\tagainst the floor\t")
	errs := 0
	for _, m := range measurements(each) {
		results := make([]result, len(subjects))
		for i, s := range subjects {
			fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, s.name)
			if results[i], err = runLoad(ctx, dir, s, m.load); err != nil {
				return fmt.Errorf("%s, %s: %w", m.name, s.name, err)
			}
			if results[i].Errors > 0 {
				fmt.Fprintf(os.Stderr, "%d errors, the last: %s\n", results[i].Errors, results[i].LastError)
			}
			errs += results[i].Errors
		}
		for _, f := range m.figures {
			direct, floor, gate := f.of(results[0]), f.of(results[1]), f.of(results[2])
			against := fmt.Sprintf("%+.0f %s", gate-floor, f.unit)
			if f.ratio {
				against = fmt.Sprintf("%.2f ×", gate/floor)
			}
			fmt.Fprintf(w, "%s\t%s\t%.0f %s\t%.0f %s\t%.0f %s\t%s\t\n", m.name, f.name, direct, f.unit, floor, f.unit, gate, f.unit, against)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("errors: %d; proxy RSS: %.1f MB after the first call, %.1f MB after all\n", errs, idle, rss(gate.cmd.Process.Pid))
	if errs > 0 {
		return errors.New("there were errors under load")
	}
	return nil
}

func net443(host string) string { return host + ":" + providerPort }

// namespaces makes the two network namespaces and a link between them, and returns what removes them.
func namespaces(ctx context.Context) (down func(), err error) {
	down = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, ns := range []string{podNS, webNS} {
			_ = exec.CommandContext(ctx, "ip", "netns", "del", ns).Run() // gone already is fine
			_ = os.RemoveAll(filepath.Join("/etc/netns", ns))
		}
	}
	down()
	for _, line := range []string{
		"netns add " + podNS,
		"netns add " + webNS,
		"link add " + podLink + " netns " + podNS + " type veth peer name " + webLink + " netns " + webNS,
		"-n " + podNS + " addr add " + podIP + "/24 dev " + podLink,
		"-n " + webNS + " addr add " + webIP + "/24 dev " + webLink,
		"-n " + podNS + " link set lo up",
		"-n " + webNS + " link set lo up",
		"-n " + podNS + " link set " + podLink + " up",
		"-n " + webNS + " link set " + webLink + " up",
		"-n " + podNS + " route add default via " + webIP,
	} {
		if text, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return down, fmt.Errorf("ip %s: %w: %s", line, err, text)
		}
	}
	// ip netns exec mounts what is here over /etc.
	etc := filepath.Join("/etc/netns", podNS)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return down, err
	}
	hosts := "127.0.0.1 localhost\n" + webIP + " " + modelHost + "\n"
	if err := os.WriteFile(filepath.Join(etc, "hosts"), []byte(hosts), 0o644); err != nil {
		return down, err
	}
	return down, os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+webIP+"\n"), 0o644)
}

// inNamespace runs a role of this program in a namespace.
func inNamespace(ctx context.Context, ns, name string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns, self, "role", name}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd
}

func runLoad(ctx context.Context, dir string, s subject, l load) (result, error) {
	var r result
	arg, err := json.Marshal(l)
	if err != nil {
		return r, err
	}
	cmd := inNamespace(ctx, podNS, "load", dir, s.address, string(arg))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return r, json.Unmarshal(out, &r)
}

func until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// rss is a process's resident memory in MB.
func rss(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	var kb float64
	if _, after, ok := strings.Cut(string(b), "VmRSS:"); ok {
		_, _ = fmt.Sscan(after, &kb)
	}
	return kb / 1024
}

func certificate(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if block, _ := pem.Decode(b); block == nil || !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}
