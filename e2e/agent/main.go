// Command agent is the agent of the demo and of the end-to-end tests: written with the official SDKs, with their default base URLs, no
// proxy setting and no API key. It knows nothing of Sallyport.
//
//	agent work              does its job, one task after the other, until it is stopped
//	agent run SCENARIO …    does one thing and prints a JSON line that says what came of it
//
// The scenarios are in scenarios.go.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{"work"}
	}
	switch args[0] {
	case "work":
		flags := flag.NewFlagSet("work", flag.ContinueOnError)
		pause := flags.Duration("pause", 200*time.Millisecond, "rest between two tasks")
		tasks := flags.Int("tasks", 0, "end after so many tasks; 0 goes on")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return work(ctx, *pause, *tasks)
	case "run":
		if len(args) < 2 || scenarios[args[1]] == nil {
			return fmt.Errorf("run wants one of the scenarios %s", scenarioNames())
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		begin := time.Now()
		result := scenarios[args[1]](ctx, args[2:])
		result.Scenario, result.Millis = args[1], time.Since(begin).Milliseconds()
		return json.NewEncoder(os.Stdout).Encode(result)
	default:
		return fmt.Errorf("unknown command %q; the commands are work and run", args[0])
	}
}

// work does tasks with both providers in turn, some of them streamed. A task that fails is said and the next one begun, as an
// agent's supervisor would.
func work(ctx context.Context, pause time.Duration, tasks int) error {
	backends := []backend{newOpenAI(), newAnthropic()}
	failed := 0
	for n := 0; tasks == 0 || n < tasks; n++ {
		if _, err := backends[n%2].do(ctx, taskFor(n), options{stream: n%3 == 0}); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // to be stopped is no failure
			}
			failed++
			fmt.Fprintf(os.Stderr, "task %d: %v\n", n, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d tasks failed", failed, tasks)
	}
	return nil
}
