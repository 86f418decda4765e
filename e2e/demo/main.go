// Command demo shows the whole way: it brings up a real cluster, installs Sallyport, starts stand-in model providers and an agent, and
// tries what the agent may do and what it may not. It ends with a table of what happened and leaves the cluster up; -down removes
// everything it made.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sallyport.dev/sallyport/e2e/harness"
)

// Namespaces of the demo.
const (
	agents     = "agents"     // labelled
	unlabelled = "unlabelled" // the same agent, left alone
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	down := flag.Bool("down", false, "remove everything the demo made")
	flag.Parse()
	run := demo
	if *down {
		run = remove
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// remove takes down the demo's own cluster, or what the demo made in another one.
func remove(ctx context.Context) error {
	named, err := harness.Named(ctx)
	if err != nil {
		return err
	}
	if named {
		e, err := harness.Connect(ctx, os.Stdout)
		if err != nil {
			return err
		}
		return e.Uninstall(ctx, agents, unlabelled)
	}
	root, err := harness.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", ".", "down")
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(root, "e2e", "cluster"), os.Stdout, os.Stderr
	return cmd.Run()
}

// chapters number the steps and time them.
type chapters struct {
	n, of int
	begun time.Time
}

func (c *chapters) next(title string) {
	c.n++
	fmt.Printf("\n[%d/%d] %s  (%s since the start)\n", c.n, c.of, title, time.Since(c.begun).Round(time.Second))
}

func demo(ctx context.Context) error {
	c := &chapters{of: 8, begun: time.Now()}

	c.next("A real Kubernetes cluster")
	e, err := harness.Connect(ctx, os.Stdout)
	if err != nil {
		return err
	}
	c.next("Binaries and images")
	if err := e.Build(ctx); err != nil {
		return err
	}
	c.next("Sallyport: kubectl apply -k deploy/overlays/demo")
	if err := e.Install(ctx); err != nil {
		return err
	}
	c.next("Stand-in providers behind api.openai.com and api.anthropic.com")
	if err := e.Providers(ctx); err != nil {
		return err
	}
	c.next("An agent in a labelled namespace, and the same in an unlabelled one")
	if err := e.Agent(ctx, agents, true, 2, 100*time.Millisecond); err != nil {
		return err
	}
	if err := e.Agent(ctx, unlabelled, false, 1, time.Hour); err != nil {
		return err
	}
	s := &show{ctx: ctx, e: e}
	c.next("The agent works; the detector learns its calls")
	if err := s.learn(); err != nil {
		return err
	}
	c.next("Through both doors, and not")
	if err := s.calls(); err != nil {
		return err
	}
	c.next("Another policy, no restart; then no controller")
	if err := s.operations(); err != nil {
		return err
	}
	return s.end()
}
