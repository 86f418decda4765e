package xds_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
	"sallyport.dev/sallyport/pkg/xds/xdsserver"
)

// everyone takes a token for the pod's name.
type everyone struct{}

func (everyone) Authenticate(_ context.Context, token string) (xds.Identity, error) {
	id := identity("agents", token)
	id.Name = token[:strings.IndexByte(token, '-')]
	return id, nil
}

// BenchmarkSidecars has sidecars of twenty workloads connect and send a record each, and then changes their namespace's configuration and the workloads' models, of 50 KB. It says what a sidecar takes
// of the server's memory, garbage not counted, and how long it is until all have what is new. The sidecars are in a process of their own, and compete with the server for the processors.
func BenchmarkSidecars(b *testing.B) {
	const sidecars, workloads = 1000, 20
	a := newAuthority(b)
	records := make(chan struct{}, sidecars)
	server := newServer(b, a, nil, func(c *xdsserver.Config) {
		c.Authenticator = everyone{}
		c.OnRecord = func(xds.Identity, []byte) { records <- struct{}{} }
	})
	for b.Loop() {
		must := func(err error) {
			b.Helper()
			if err != nil {
				b.Fatal(err)
			}
		}
		version := 0
		publish := func() {
			version++
			must(server.SetNamespace("agents", xdsserver.NamespaceResources{Config: &xdsv1.WorkloadConfig{MaxRequestBytes: int64(version)}}))
			for i := range workloads {
				id := identity("agents", "")
				w := id.Workload()
				w.Name = fmt.Sprint("w", i)
				must(server.SetModel(w, &xdsv1.DetectorModel{Digest: fmt.Sprint(version), Model: make([]byte, 50<<10)}))
			}
		}
		publish()
		address, stop := serve(b, server, "")
		before := inUse()
		began := time.Now()
		clients := sidecarsElsewhere(b, a, address, sidecars, workloads)
		must(clients.have(version))
		for range sidecars {
			<-records
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/connect")
		b.ReportMetric(float64(inUse()-before)/sidecars/1024, "KB/sidecar")
		began = time.Now()
		publish()
		must(clients.have(version))
		b.ReportMetric(time.Since(began).Seconds(), "s/change")
		clients.stop()
		stop()
	}
}

// inUse is the memory of what is reachable, and of stacks.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// elsewhere is a process with sidecars.
type elsewhere struct {
	said *bufio.Scanner
	stop func()
}

// have waits until all sidecars have this version of everything.
func (e *elsewhere) have(version int) error {
	for e.said.Scan() {
		if e.said.Text() == fmt.Sprint("all have ", version) {
			return nil
		}
	}
	return errors.Join(errors.New("the sidecars ended"), e.said.Err())
}

const sidecarsVariable = "SALLYPORT_TEST_SIDECARS"

func sidecarsElsewhere(b *testing.B, a *authority, address string, sidecars, workloads int) *elsewhere {
	b.Helper()
	executable, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), a.pem, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", sidecarsVariable, dir, address, sidecars, workloads))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			b.Errorf("the sidecars: %v", err)
		}
	})
	b.Cleanup(stop)
	return &elsewhere{bufio.NewScanner(out), stop}
}

// TestMain is the process of BenchmarkSidecars' sidecars where that asks for it.
func TestMain(m *testing.M) {
	if arguments := strings.Fields(os.Getenv(sidecarsVariable)); len(arguments) > 0 {
		if err := runSidecars(arguments); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runSidecars runs sidecars until the input ends. The arguments are a directory, an address, and how many sidecars there are of how many workloads.
func runSidecars(arguments []string) error {
	var dir, address string
	var sidecars, workloads int
	if _, err := fmt.Sscan(strings.Join(arguments, " "), &dir, &address, &sidecars, &workloads); err != nil {
		return err
	}
	anchors, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var mu sync.Mutex
	have := map[int64]int{}
	for i := range sidecars {
		token := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(token, fmt.Appendf(nil, "w%d-%d", i%workloads, i), 0o600); err != nil {
			return err
		}
		last := int64(0)
		client, err := xdsclient.Dial(xdsclient.Config{
			Address: address, ServerName: "controller.test", TrustAnchors: anchors, TokenPath: token, NodeID: "bench",
			OnSnapshot: func(s xdsclient.Snapshot) error {
				version := s.Config.GetMaxRequestBytes()
				if s.Model.GetDigest() != strconv.FormatInt(version, 10) || version == last {
					return nil
				}
				last = version
				mu.Lock()
				defer mu.Unlock()
				if have[version]++; have[version] == sidecars {
					fmt.Println("all have", version)
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
		client.SendRecord([]byte("{}"))
		running.Go(func() { _ = client.Run(ctx) })
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
