// Package e2e tests Sallyport in a real Kubernetes cluster: see harness.Connect for which. The tests share one installation and one
// agent, and run one after the other in the order of the files.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/e2e/harness"
	"sallyport.dev/sallyport/pkg/telemetry"
)

const (
	agents     = "e2e-agents"
	unlabelled = "e2e-unlabelled"
	agentPods  = "app=agent"
	baseline   = "deployment-agent"
)

var env *harness.Env

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := setUp(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: set-up:", err)
		os.Exit(1)
	}
	code := m.Run()
	for _, ns := range []string{agents, unlabelled} {
		env.Kubectl(ctx, nil, "delete", "namespace", ns, "--wait=false", "--ignore-not-found")
	}
	os.Exit(code)
}

func setUp(ctx context.Context) (err error) {
	if env, err = harness.Connect(ctx, os.Stderr); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		env.Build, env.Install, env.Providers,
		func(ctx context.Context) error { return env.Agent(ctx, agents, true, 2, 100*time.Millisecond) },
		func(ctx context.Context) error { return env.Agent(ctx, unlabelled, false, 1, time.Hour) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run runs a scenario in the guarded agent.
func run(t *testing.T, scenario ...string) harness.Scenario {
	t.Helper()
	return runIn(t, agents, "deployment/agent", scenario...)
}

func runIn(t *testing.T, ns, what string, scenario ...string) harness.Scenario {
	t.Helper()
	s, err := env.RunIn(t.Context(), ns, what, scenario...)
	if err != nil {
		t.Fatalf("scenario %v: %v", scenario, err)
	}
	return s
}

// eventually fails the test when a check does not pass in time.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	if err := env.Eventually(t.Context(), limit, what, check); err != nil {
		t.Fatal(err)
	}
}

// apply applies a manifest and removes it when the test ends.
func apply(t *testing.T, manifest string) {
	t.Helper()
	if err := env.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if r := env.Kubectl(ctx, []byte(manifest), "delete", "--ignore-not-found", "--wait=true", "-f", "-"); r.Err != nil {
			t.Error(r.Err)
		}
	})
}

// record waits for the decision record with an id.
func record(t *testing.T, id string) *telemetry.Record {
	t.Helper()
	if id == "" {
		t.Fatal("the response carries no decision id")
	}
	var found *telemetry.Record
	eventually(t, 20*time.Second, "record of decision "+id, func() (err error) {
		found, err = env.Decision(t.Context(), agents, agentPods, func(r *telemetry.Record) bool { return r.ID == id })
		return err
	})
	return found
}

// tunnel waits for the record of a tunnel to a host or address that was decided since a time.
func tunnel(t *testing.T, since time.Time, match func(*telemetry.Record) bool) *telemetry.Record {
	t.Helper()
	var found *telemetry.Record
	eventually(t, 20*time.Second, "record of the attempt", func() (err error) {
		found, err = env.Decision(t.Context(), agents, agentPods, func(r *telemetry.Record) bool {
			return !r.Time.Before(since) && match(r)
		})
		return err
	})
	return found
}

// waitLearned waits until the agent's baseline is trained and judges calls.
func waitLearned(t *testing.T) {
	t.Helper()
	eventually(t, 4*time.Minute, "a trained baseline", func() error {
		r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "baseline", baseline, "-o", "jsonpath={.status.phase} {.status.calls} {.status.sessions}")
		if r.Err != nil {
			return r.Err
		}
		if !strings.HasPrefix(r.Out, "Ready") && !strings.HasPrefix(r.Out, "Drifting") { // tests call as the agent never would
			return errors.New("baseline: " + r.Out)
		}
		s, err := env.Run(t.Context(), agents, "task", "openai", "plain")
		if err != nil {
			return err
		}
		d, err := env.Decision(t.Context(), agents, agentPods, func(r *telemetry.Record) bool { return r.ID == s.DecisionID })
		if err != nil {
			return err
		}
		if !d.Anomaly.Ready {
			return errors.New("the sidecar has no model yet")
		}
		return nil
	})
}

// bundleStatus is the part of a ClusterPolicyBundle's status that the tests look at.
type bundleStatus struct {
	Metadata struct{ Generation int64 }
	Status   struct {
		ObservedGeneration int64
		Digest             string
		Sidecars           struct{ Total, Current, Stale int }
		Conditions         []struct{ Type, Status, Reason, Message string }
	}
}

func (b *bundleStatus) condition(kind string) (status, message string) {
	for _, c := range b.Status.Conditions {
		if c.Type == kind {
			return c.Status, c.Message
		}
	}
	return "", ""
}

// waitProgrammed waits until every sidecar in scope runs a bundle, and returns its digest.
func waitProgrammed(t *testing.T, name string) string {
	t.Helper()
	var digest string
	eventually(t, time.Minute, "bundle "+name+" programmed", func() error {
		var b bundleStatus
		if err := env.Get(t.Context(), &b, "clusterpolicybundle", name); err != nil {
			return err
		}
		if s, _ := b.condition("Programmed"); s != "True" || b.Status.Sidecars.Total == 0 || b.Status.ObservedGeneration != b.Metadata.Generation {
			return fmt.Errorf("status %+v", b.Status)
		}
		digest = b.Status.Digest
		return nil
	})
	return digest
}

// scaleController sets the number of controllers and waits until it is so. It is set back to 1 when the test ends.
func scaleController(t *testing.T, n int) {
	t.Helper()
	set := func(ctx context.Context, n int) error {
		if r := env.Kubectl(ctx, nil, "-n", harness.SystemNamespace, "scale", "deployment/sallyport-controller", fmt.Sprintf("--replicas=%d", n)); r.Err != nil {
			return r.Err
		}
		if n > 0 {
			return env.Rollout(ctx, harness.SystemNamespace, "deployment/sallyport-controller")
		}
		return env.Eventually(ctx, time.Minute, "no controller", func() error {
			r := env.Kubectl(ctx, nil, "-n", harness.SystemNamespace, "get", "pods", "-l", "app.kubernetes.io/name=sallyport-controller", "-o", "name")
			if r.Err == nil && strings.TrimSpace(r.Out) != "" {
				return errors.New("still there: " + r.Out)
			}
			return r.Err
		})
	}
	if err := set(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := set(ctx, 1); err != nil {
			t.Error(err)
		}
	})
}
