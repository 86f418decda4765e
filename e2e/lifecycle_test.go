package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/e2e/harness"
)

var errNotYet = errors.New("not yet")

func TestInjectedPod(t *testing.T) {
	var pods struct {
		Items []struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
			Spec struct {
				InitContainers []struct{ Name, RestartPolicy string }
			}
		}
	}
	if err := env.Get(t.Context(), &pods, "-n", agents, "pods", "-l", agentPods); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) == 0 {
		t.Fatal("no agent pods")
	}
	for _, p := range pods.Items {
		c := p.Spec.InitContainers
		if len(c) < 2 || c[0].Name != "sallyport-init" || c[1].Name != "sallyport-proxy" || c[1].RestartPolicy != "Always" {
			t.Errorf("pod %s: init containers %+v", p.Metadata.Name, c)
		}
		if !json.Valid([]byte(p.Metadata.Annotations["sallyport.dev/status"])) {
			t.Errorf("pod %s: status annotation %q", p.Metadata.Name, p.Metadata.Annotations["sallyport.dev/status"])
		}
	}
	eventually(t, 20*time.Second, "an Event that says so", func() error {
		r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "events", "-o", "jsonpath={.items[*].reason}")
		if r.Err == nil && !strings.Contains(r.Out, "Injected") {
			return errors.New(r.Out)
		}
		return r.Err
	})
}

func TestRefusedPods(t *testing.T) {
	pod := func(name, annotations, spec, container string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, annotations: {%s}}
spec:
  %s
  containers: [{name: agent, image: "%s/agent:latest", %s}]
`, name, agents, annotations, spec, env.Registry, container)
	}
	for _, tc := range []struct{ name, manifest, says string }{
		{"unknown annotation", pod("p1", `sallyport.dev/exclude-ports: "443"`, "", ""), "sallyport.dev/exclude-ports"},
		{"host network", pod("p2", "", "hostNetwork: true", ""), "hostNetwork"},
		{"the proxy's uid", pod("p3", "", "", "securityContext: {runAsUser: 2113}"), "2113"},
		{"NET_ADMIN", pod("p4", "", "", "securityContext: {capabilities: {add: [NET_ADMIN]}}"), "NET_ADMIN"},
		{"privileged", pod("p5", "", "", "securityContext: {privileged: true}"), "privileged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := env.Apply(t.Context(), tc.manifest)
			if err == nil {
				t.Fatal("admitted")
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("the refusal does not name %q: %v", tc.says, err)
			}
		})
	}
}

func TestJobCompletes(t *testing.T) {
	apply(t, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: errand, namespace: %s}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: agent, image: "%s/agent:latest", args: [work, -tasks=3, -pause=0s]}
`, agents, env.Registry))
	if r := env.Kubectl(t.Context(), nil, "-n", agents, "wait", "--for=condition=complete", "job/errand", "--timeout=120s"); r.Err != nil {
		t.Error(r.Err)
		t.Log(env.Kubectl(t.Context(), nil, "-n", agents, "logs", "job/errand", "--all-containers", "--tail=20").Out)
	}
}

func TestPolicyChangeWithoutRestart(t *testing.T) {
	const frozen = "gpt-4o-mini"
	if s := run(t, "task", "openai", "plain"); !s.OK {
		t.Fatalf("before the change: %+v", s)
	}
	before := restarts(t)
	apply(t, `
apiVersion: sallyport.dev/v1alpha1
kind: ClusterPolicyBundle
metadata: {name: e2e-freeze}
spec:
  modules:
    freeze.rego: |
      package sallyport.bundle.e2e_freeze

      # METADATA
      # title: Frozen model
      # custom:
      #   labels:
      #     rule: E2E-001
      deny contains {"rule": "E2E-001", "message": "This model is frozen."} if input.call.model == "`+frozen+`"
`)
	waitProgrammed(t, "e2e-freeze")
	s := run(t, "task", "openai", "plain")
	if s.OK || !strings.Contains(s.Error, "E2E-001") {
		t.Errorf("after the change: %+v", s)
	}
	if after := restarts(t); after != before {
		t.Errorf("restart counts %q, before %q", after, before)
	}
}

func TestBrokenBundleKeepsTheLastGood(t *testing.T) {
	bundle := func(body string) string {
		return fmt.Sprintf(`
apiVersion: sallyport.dev/v1alpha1
kind: ClusterPolicyBundle
metadata: {name: e2e-broken}
spec:
  modules:
    rule.rego: |
      package sallyport.bundle.e2e_broken

      %s
`, body)
	}
	apply(t, bundle(`deny contains {"rule": "E2E-002", "message": "no"} if input.call.model == "model-two"`))
	digest := waitProgrammed(t, "e2e-broken")

	for name, body := range map[string]string{
		"syntax error":      `deny contains {"rule": if`,
		"forbidden builtin": `deny contains {"rule": "X", "message": "x"} if http.send({"method": "GET", "url": "https://example.com"}).status_code == 200`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := env.Apply(t.Context(), bundle(body)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, "the refusal in the status", func() error {
				var b bundleStatus
				if err := env.Get(t.Context(), &b, "clusterpolicybundle", "e2e-broken"); err != nil {
					return err
				}
				if s, message := b.condition("Accepted"); s != "False" || !strings.Contains(message, "rule.rego:") || b.Status.ObservedGeneration != b.Metadata.Generation {
					return fmt.Errorf("Accepted %s: %s (generation %d of %d)", s, message, b.Status.ObservedGeneration, b.Metadata.Generation)
				}
				if b.Status.Digest != digest {
					return fmt.Errorf("digest %s, want the last good %s", b.Status.Digest, digest)
				}
				return nil
			})
			if s := run(t, "task", "openai", "plain", "model-two"); s.OK || !strings.Contains(s.Error, "E2E-002") {
				t.Errorf("the last good rule is not in force: %+v", s)
			}
			if s := run(t, "task", "openai", "plain"); !s.OK {
				t.Errorf("an ordinary call: %+v", s)
			}
		})
	}
}

func TestControllerGone(t *testing.T) {
	scaleController(t, 0)
	if s := run(t, "task", "openai", "plain"); !s.OK {
		t.Errorf("an ordinary call: %+v", s)
	}
	if s := run(t, "task", "openai", "plain", "gpt-4.5-preview"); s.OK || !strings.Contains(s.Error, "MODEL-001") {
		t.Errorf("a model that is not allowed: %+v", s)
	}
	t.Run("no pod comes up without a gate", func(t *testing.T) {
		err := env.Apply(t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: unguarded, namespace: %s}
spec: {containers: [{name: agent, image: "%s/agent:latest"}]}
`, agents, env.Registry))
		if err == nil {
			env.Kubectl(t.Context(), nil, "-n", agents, "delete", "pod", "unguarded", "--wait=false")
			t.Error("a pod was admitted while the webhook is gone")
		}
	})
	t.Run("a new controller learns what the sidecars run", func(t *testing.T) {
		scaleController(t, 1)
		waitProgrammed(t, "baseline")
	})
}

// A pod that was injected but starts while the controller cannot be reached waits: its agent does not run before the gate does.
func TestPodWaitsForItsFirstPolicy(t *testing.T) {
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: early, namespace: %s}
spec:
  schedulingGates: [{name: sallyport.dev/e2e}]
  terminationGracePeriodSeconds: 1
  containers: [{name: agent, image: "%s/agent:latest", args: [work, -pause=1h]}]
`, agents, env.Registry))
	scaleController(t, 0)
	if r := env.Kubectl(t.Context(), nil, "-n", agents, "patch", "pod", "early", "--type=json", "-p", `[{"op":"remove","path":"/spec/schedulingGates"}]`); r.Err != nil {
		t.Fatal(r.Err)
	}
	state := func(path string) string {
		return env.Kubectl(t.Context(), nil, "-n", agents, "get", "pod", "early", "-o", "jsonpath="+path).Out
	}
	const (
		proxyRunning = `{.status.initContainerStatuses[?(@.name=="sallyport-proxy")].state.running.startedAt}`
		proxyStarted = `{.status.initContainerStatuses[?(@.name=="sallyport-proxy")].started}`
		agentRunning = `{.status.containerStatuses[?(@.name=="agent")].state.running.startedAt}`
	)
	eventually(t, time.Minute, "the sidecar runs", func() error {
		if state(proxyRunning) == "" {
			return errNotYet
		}
		return nil
	})
	// The startup probe has failed at least once, so the sidecar had its chance to report itself started.
	eventually(t, time.Minute, "a failed startup probe", func() error {
		r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "events", "--field-selector=involvedObject.name=early", "-o", "jsonpath={.items[*].message}")
		if r.Err == nil && !strings.Contains(r.Out, "Startup probe failed") {
			return errNotYet
		}
		return r.Err
	})
	if s := state(proxyStarted); s == "true" {
		t.Error("the sidecar reports itself started without a policy")
	}
	if s := state(agentRunning); s != "" {
		t.Errorf("the agent runs since %s, unguarded", s)
	}
	scaleController(t, 1)
	eventually(t, 2*time.Minute, "the agent runs once the controller is back", func() error {
		if state(agentRunning) == "" {
			return errNotYet
		}
		return nil
	})
}

// The sidecar is killed while the agent tries to get out all the time, and while there is no controller to ask.
func TestSidecarRestartLeavesNoUnguardedMoment(t *testing.T) {
	if !env.Own() {
		t.Skip("killing a container takes the node of the cluster, which KUBECONFIG does not give")
	}
	scaleController(t, 0)
	pod := strings.TrimSpace(env.Kubectl(t.Context(), nil, "-n", agents, "get", "pods", "-l", agentPods, "-o", "jsonpath={.items[0].metadata.name}").Out)
	count := func() string {
		return env.Kubectl(t.Context(), nil, "-n", agents, "get", "pod", pod, "-o", `jsonpath={.status.initContainerStatuses[?(@.name=="sallyport-proxy")].restartCount}`).Out
	}
	before, arrived := count(), len(received(t))
	type outcome struct {
		s   harness.Scenario
		err error
	}
	hammered := make(chan outcome, 1)
	go func() {
		s, err := env.RunIn(t.Context(), agents, "pod/"+pod, "hammer", "https://"+harness.OtherHost+"/restart", "25s")
		hammered <- outcome{s, err}
	}()
	if err := env.KillContainer(t.Context(), agents, pod, "sallyport-proxy"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the sidecar restarts", func() error {
		if count() == before {
			return errNotYet
		}
		return nil
	})
	o := <-hammered
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.s.OK {
		t.Errorf("while the sidecar restarted, %s", o.s.Text)
	}
	for _, r := range received(t)[arrived:] {
		if r.Path == "/restart" {
			t.Errorf("reached a host past the gate: %+v", r)
		}
	}
	eventually(t, time.Minute, "calls are released again", func() error {
		s, err := env.RunIn(t.Context(), agents, "pod/"+pod, "task", "openai", "plain")
		if err == nil && !s.OK {
			err = errors.New(s.Error)
		}
		return err
	})
}

// restarts of the agents' sidecars, as one comparable string.
func restarts(t *testing.T) string {
	t.Helper()
	r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "pods", "-l", agentPods, "-o",
		`jsonpath={range .items[*]}{.metadata.name}{range .status.initContainerStatuses[*]} {.name}={.restartCount}{end}{"\n"}{end}`)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r.Out
}
