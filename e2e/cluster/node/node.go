package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport.dev/sallyport/e2e/cluster/build"
	"sallyport.dev/sallyport/e2e/cluster/host"
	"sallyport.dev/sallyport/e2e/cluster/process"
)

// A Node is the cluster on this machine.
type Node struct {
	Layout
	// Log receives one line per step.
	Log io.Writer
}

// Build builds what the cache lacks.
func (n Node) Build(ctx context.Context) (build.Set, error) {
	b := build.Builder{Source: filepath.Join(n.Source, "components"), Cache: filepath.Join(n.Cache, "bin"), Log: n.Log}
	return b.Ensure(ctx)
}

// Up brings the cluster up, or whatever of it is not up, and returns once it serves.
func (n Node) Up(ctx context.Context) error {
	start := time.Now()
	if err := host.Check(); err != nil {
		return err
	}
	set, err := n.Build(ctx)
	if err != nil {
		return err
	}
	unlock, err := n.lock()
	if err != nil {
		return err
	}
	defer unlock()

	for _, dir := range []string{n.State, n.in("programs"), n.in("run"), n.Logs(), n.in("logs", "pods"), n.in("registry")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare the state directory: %w", err)
		}
	}
	v := n.values()
	if v.Runc, err = host.Find("runc"); err != nil {
		return err
	}
	if err := errors.Join(n.linkPrograms(set), n.writePKI(), n.writeKubeconfigs(), n.writeConfigs(v)); err != nil {
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	if err := n.setUpNetwork(ctx); err != nil {
		return fmt.Errorf("set up the network: %w", err)
	}
	for _, spec := range n.programs(set) {
		began := time.Now()
		started, err := n.group().Ensure(ctx, spec)
		if err != nil {
			return err
		}
		if started {
			n.say("%s is ready after %.1f s", spec.Name, time.Since(began).Seconds())
		}
		if spec.Name == "registry" {
			if err := n.pushImages(ctx, set, &v, started); err != nil {
				return err
			}
		}
	}
	if err := n.applyAddons(ctx, set, v); err != nil {
		return err
	}
	n.say("the cluster is up after %.1f s; KUBECONFIG=%s", time.Since(start).Seconds(), n.Kubeconfig())
	return nil
}

// linkPrograms makes links to the programs in use, so that one directory in PATH is
// enough.
func (n Node) linkPrograms(set build.Set) error {
	if err := os.MkdirAll(n.Programs(), 0o755); err != nil {
		return err
	}
	for _, name := range set.Binaries() {
		link, target := filepath.Join(n.Programs(), name), set.Path(name)
		if have, err := os.Readlink(link); err == nil && have == target {
			continue
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

// A State is one program's row in the table of Status.
type State struct {
	Name string
	// PID is 0 when the program does not run.
	PID int
	// Health is "ok", "not running", or what the program's probe says.
	Health string
}

// Status looks at every program without changing anything.
func (n Node) Status(ctx context.Context) []State {
	var states []State
	for _, spec := range n.programs(build.Named()) {
		state := State{Name: spec.Name, Health: "not running"}
		if pid, ok := n.group().Running(spec.Name); ok {
			state.PID, state.Health = pid, "ok"
			if err := spec.Ready(ctx); err != nil {
				state.Health = err.Error()
			}
		}
		states = append(states, state)
	}
	return states
}

func (n Node) group() process.Group {
	return process.Group{Records: n.in("programs"), Logs: n.Logs()}
}

// lock keeps two commands from working on the cluster at once. The lock lies in the
// cache, because Down removes the state directory.
func (n Node) lock() (func(), error) {
	if err := os.MkdirAll(n.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("create the cache: %w", err)
	}
	return build.Lock(filepath.Join(n.Cache, ".cluster.lock"), func() { n.say("waiting for another command to finish") })
}

func (n Node) say(format string, args ...any) {
	fmt.Fprintf(n.Log, "cluster: "+format+"\n", args...)
}
