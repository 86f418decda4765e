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
	patience       = time.Minute
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
	only := flag.String("only", "", "measure only loads whose name has this in it")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the gate to this file")
	memory := flag.String("memprofile", "", "write heap profiles of the gate and the floor, taken amid many streams, to this file with .gate and .floor after its name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := bench(ctx, time.Duration(*seconds)*time.Second, *only, *profile, *memory)
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
	process *child // what stands in between; nil for the direct way
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
	name     string
	of       func(result) float64
	ratio    bool // to the floor, rather than the difference
	unit     string
	decimals int
	indirect bool // there is none of the direct way
}

func micros(d func(result) time.Duration) func(result) float64 {
	return func(r result) float64 { return float64(d(r).Nanoseconds()) / 1e3 }
}

// sweep is the sizes of a body that are measured.
var sweep = []struct {
	name  string
	bytes int
}{{"1 KB", 1 << 10}, {"10 KB", 10 << 10}, {"100 KB", 100 << 10}, {"900 KB", 900 << 10}, {"2 MB", 2 << 20}}

// manyStreams is how many streams there are at once when memory is measured.
const manyStreams = 256

func measurements(each time.Duration) []measurement {
	p50 := figure{name: "p50", of: micros(func(r result) time.Duration { return r.P50 }), unit: "µs"}
	p99 := figure{name: "p99", of: micros(func(r result) time.Duration { return r.P99 }), unit: "µs"}
	first := figure{name: "first byte p50", of: micros(func(r result) time.Duration { return r.FirstP50 }), unit: "µs"}
	gap50 := figure{name: "gap between events p50", of: micros(func(r result) time.Duration { return r.GapP50 }), unit: "µs"}
	gap99 := figure{name: "gap between events p99", of: micros(func(r result) time.Duration { return r.GapP99 }), unit: "µs"}
	perSecond := figure{name: "calls/s", of: func(r result) float64 { return r.PerSecond }, ratio: true}
	cpu := figure{name: "CPU a call", of: func(r result) float64 { return r.CPUMicros }, ratio: true, unit: "µs", indirect: true}
	memory := figure{name: "RSS, the most", of: func(r result) float64 { return r.RSS }, unit: "MB", decimals: 1, indirect: true}

	var all []measurement
	for _, s := range sweep {
		all = append(all,
			measurement{s.name + ", 16 connections", load{Bytes: s.bytes, Connections: 16, For: each}, []figure{perSecond, cpu}},
			measurement{s.name + ", 1 connection", load{Bytes: s.bytes, Connections: 1, For: each}, []figure{p50}},
		)
	}
	return append(all,
		measurement{"1 KB, 500 calls/s", load{Bytes: 1 << 10, Connections: 16, PerSecond: 500, For: each}, []figure{p50, p99}},
		measurement{"stream, 20 events at once", load{Bytes: 1 << 10, Connections: 1, Stream: true, For: each}, []figure{first}},
		measurement{"stream, 20 events 10 ms apart", load{Bytes: 1 << 10, Connections: 4, Stream: true, Pace: 10 * time.Millisecond, For: each}, []figure{first, gap50, gap99}},
		measurement{fmt.Sprintf("%d streams, an event in 100 ms", manyStreams),
			load{Bytes: 1 << 10, Connections: manyStreams, Stream: true, Pace: 100 * time.Millisecond, For: max(each, 5*time.Second)}, []figure{gap50, gap99, memory}},
	)
}

func bench(ctx context.Context, each time.Duration, only, profile, memory string) error {
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
	start := func(ns, name string, args ...string) (*child, error) {
		c := &child{cmd: inNamespace(ctx, ns, name, append([]string{dir}, args...)...), ended: make(chan struct{})}
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
	floor, err := start(podNS, "floor", memory)
	if err != nil {
		return err
	}
	gate, err := start(podNS, "gate", profile, memory)
	if err != nil {
		return err
	}
	subjects := []subject{
		{"direct", "direct", nil}, // past both, as the proxy's own uid
		{"floor", floorAddress, floor},
		{"sallyport", net443(modelHost), gate},
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
		if !strings.Contains(m.name, only) {
			continue
		}
		results := make([]result, len(subjects))
		for i, s := range subjects {
			fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, s.name)
			watch := observe(s.process, memory != "" && m.load.Connections == manyStreams)
			results[i], err = runLoad(ctx, dir, s, m.load)
			watch.into(&results[i])
			if err != nil {
				return fmt.Errorf("%s, %s: %w", m.name, s.name, err)
			}
			if results[i].Errors > 0 {
				fmt.Fprintf(os.Stderr, "%d errors, the last: %s\n", results[i].Errors, results[i].LastError)
			}
			errs += results[i].Errors
		}
		for _, f := range m.figures {
			value := func(i int) string {
				if i == 0 && f.indirect {
					return "–"
				}
				return strings.TrimSpace(fmt.Sprintf("%.*f %s", f.decimals, f.of(results[i]), f.unit))
			}
			floor, gate := f.of(results[1]), f.of(results[2])
			against := fmt.Sprintf("%+.*f %s", f.decimals, gate-floor, f.unit)
			if f.ratio {
				against = fmt.Sprintf("%.2f ×", gate/floor)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", m.name, f.name, value(0), value(1), value(2), against)
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

// profileAt is how many tenths of a second into a measurement memory is profiled.
const profileAt = 30

// observation watches a process during a measurement. A nil one sees nothing.
type observation struct {
	pid    int
	cpu    time.Duration
	most   float64
	stop   chan struct{}
	ended  chan struct{}
	ticker *time.Ticker
}

// observe watches a process; profile asks it for a memory profile once its streams are under way.
func observe(c *child, profile bool) *observation {
	if c == nil {
		return nil
	}
	o := &observation{
		pid: c.cmd.Process.Pid, cpu: cpuTime(c.cmd.Process.Pid), stop: make(chan struct{}), ended: make(chan struct{}),
		ticker: time.NewTicker(100 * time.Millisecond),
	}
	go func() {
		defer close(o.ended)
		ticks := 0
		for {
			select {
			case <-o.stop:
				return
			case <-o.ticker.C:
				o.most = max(o.most, rss(o.pid))
				if ticks++; profile && ticks == profileAt {
					_ = syscall.Kill(o.pid, syscall.SIGUSR1) // one that has ended shows elsewhere
				}
			}
		}
	}()
	return o
}

// into ends the watching and adds what was seen.
func (o *observation) into(r *result) {
	if o == nil {
		return
	}
	o.ticker.Stop()
	close(o.stop)
	<-o.ended
	r.RSS = o.most
	if r.All > 0 {
		r.CPUMicros = float64((cpuTime(o.pid) - o.cpu).Microseconds()) / float64(r.All)
	}
}

// cpuTime is what a process has used so far, its own and the kernel's for it. The kernel counts ticks of 10 ms.
func cpuTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	_, _ = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
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
