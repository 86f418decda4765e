package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// command is the CLI as a user runs it against the cluster.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(env.Root, "bin", "sallyport"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.Kubeconfig)
	return cmd
}

// sallyport runs the CLI to its end.
func sallyport(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := command(t.Context(), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestTailFollowsTheSidecars(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := command(ctx, "tail", "-n", agents, "--outcome", "refused", "--rule", "MODEL-*", "-o", "json")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It shows what is decided from when it follows on, which nothing announces: so calls are made until one shows.
	calls := make(chan string)
	go func() {
		defer close(calls)
		for ctx.Err() == nil {
			if s, err := env.RunIn(ctx, agents, "deployment/agent", "task", "openai", "plain", "gpt-4.5-preview"); err == nil {
				select {
				case calls <- s.DecisionID:
				case <-ctx.Done():
				}
			}
		}
	}()
	made := map[string]bool{}
	records := make(chan telemetry.Record)
	go func() {
		defer close(records)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			var r telemetry.Record
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Errorf("line %s: %v", lines.Text(), err)
			}
			select {
			case records <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	shown := false
	for !shown || len(made) == 0 {
		select {
		case id, ok := <-calls:
			if !ok {
				t.Fatalf("nothing was shown of %d calls", len(made))
			}
			made[id] = true
		case r, ok := <-records:
			if !ok {
				t.Fatal("tail ended")
			}
			if r.Outcome != telemetry.OutcomeRefused || !strings.HasPrefix(r.Rule, "MODEL-") || r.Workload.Namespace != agents {
				t.Errorf("a record that the filters leave out: %+v", r)
			}
			shown = true
		}
	}
	cancel()
	for range calls { // until what makes them has ended
	}
	for range records {
	}
	_ = cmd.Wait() // it was interrupted
}

func TestExplainFindsADecision(t *testing.T) {
	s := run(t, "task", "openai", "plain", "gpt-4.5-preview")
	record(t, s.DecisionID)
	out, errs, err := sallyport(t, "explain", "-n", agents, s.DecisionID)
	if err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	for _, want := range []string{s.DecisionID, "MODEL-001", "gpt-4.5-preview"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	out, errs, err = sallyport(t, "explain", "-n", agents, "--input", s.DecisionID)
	if err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	var in policy.Input
	if _, rest, ok := strings.Cut(out, "{"); !ok || json.NewDecoder(strings.NewReader("{"+rest)).Decode(&in) != nil || in.ID != s.DecisionID || in.Call.Model != "gpt-4.5-preview" {
		t.Errorf("no input document of the decision in:\n%s", out)
	}
	if _, errs, err = sallyport(t, "explain", "-n", agents, "no-such-decision"); err == nil || !strings.Contains(errs, "no-such-decision") {
		t.Errorf("an unknown id: %v: %s", err, errs)
	}
}
