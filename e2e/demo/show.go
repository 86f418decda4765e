package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport.dev/sallyport/e2e/harness"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// row is a line of the closing table.
type row struct {
	what, became, rule, score, id, took string
	asExpected                          bool
}

// show tries things and keeps what came of them.
type show struct {
	ctx  context.Context
	e    *harness.Env
	rows []row
}

// learn waits until the workload's baseline is ready and both sidecars have its model.
func (s *show) learn() error {
	var said string
	return s.e.Eventually(s.ctx, 5*time.Minute, "a trained baseline", func() error {
		var b struct {
			Status struct {
				Phase           string
				Calls, Sessions int64
				ModelDigest     string
			}
		}
		if err := s.e.Get(s.ctx, &b, "-n", agents, "baseline", "deployment-agent"); err != nil {
			return err
		}
		line := fmt.Sprintf("    baseline deployment-agent: %s, %d calls of %d sessions", b.Status.Phase, b.Status.Calls/32*32, b.Status.Sessions)
		if b.Status.ModelDigest != "" {
			line += ", model " + b.Status.ModelDigest
		}
		if line != said {
			fmt.Println(line)
			said = line
		}
		if b.Status.Phase != "Ready" && b.Status.Phase != "Drifting" {
			return errors.New("the baseline is " + b.Status.Phase)
		}
		_, err := s.e.Decision(s.ctx, agents, "app=agent", func(r *telemetry.Record) bool { return r.Anomaly.Ready })
		return err
	})
}

// expectation is what should come of an attempt.
type expectation int

const (
	released expectation = iota
	refused
)

// try runs a scenario, finds its decision and prints both.
func (s *show) try(what, ns string, want expectation, scenario ...string) error {
	fmt.Printf("\n  • %s\n", what)
	r, err := s.e.Run(s.ctx, ns, scenario...)
	if err != nil {
		return err
	}
	begun := time.Now().Add(-time.Duration(r.Millis)*time.Millisecond - time.Second)
	out := row{what: what, became: "released", took: fmt.Sprintf("%d ms", r.Millis), asExpected: r.OK == (want == released)}
	if r.OK {
		fmt.Printf("      the agent got: %s\n", shorten(r.Text, 110))
	} else {
		out.became = "refused"
		fmt.Printf("      the agent saw: %s\n", shorten(r.Error+r.Text, 420))
	}
	if ns == agents {
		d, err := s.decision(r, begun)
		switch {
		case strings.Contains(r.Error, "operation not permitted"):
			out.rule = "capture"
			fmt.Println("      refused by the capture rules in the pod's network namespace, before the proxy: there is no decision to record")
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		default:
			out.rule, out.id = d.Rule, d.ID
			out.score = describe(d)
			fmt.Printf("      decision %s: %s%s, %s; judged in %d µs (decode %d, features %d, forest %d, policy %d)\n",
				d.ID, d.Outcome, ruleOf(d), describe(d), d.JudgeMicros, d.DecodeMicros, d.FeaturesMicros, d.ScoreMicros, d.PolicyMicros)
			if len(d.Anomaly.TopFeatures) > 0 && d.Anomaly.Exceeds {
				fmt.Printf("      top features: %s\n", features(d))
			}
		}
	} else {
		out.became, out.rule = "left alone", "–"
		if r.Issuer != "" {
			fmt.Printf("      certificate issued by: %s\n", r.Issuer)
		}
	}
	if !out.asExpected {
		fmt.Println("      NOT AS EXPECTED")
	}
	s.rows = append(s.rows, out)
	return nil
}

// decision finds the record of a scenario: by the id that the response carried, else the newest tunnel decided since it began.
func (s *show) decision(r harness.Scenario, since time.Time) (*telemetry.Record, error) {
	var found *telemetry.Record
	err := s.e.Eventually(s.ctx, 3*time.Second, "decision record", func() error {
		d, err := s.e.Decision(s.ctx, agents, "app=agent", func(d *telemetry.Record) bool {
			if r.DecisionID != "" {
				return d.ID == r.DecisionID
			}
			return d.Destination.Method == "" && d.Time.After(since)
		})
		found = d
		return err
	})
	return found, err
}

func (s *show) calls() error {
	ip, err := s.serviceIPs()
	if err != nil {
		return err
	}
	attempts := []struct {
		what string
		ns   string
		want expectation
		run  []string
	}{
		{"a task with OpenAI, plain", agents, released, []string{"task", "openai", "plain"}},
		{"a task with OpenAI, streamed", agents, released, []string{"task", "openai", "stream"}},
		{"a task with Anthropic, plain", agents, released, []string{"task", "anthropic", "plain"}},
		{"a task with Anthropic, streamed", agents, released, []string{"task", "anthropic", "stream"}},
		{"a model that the policy does not allow", agents, refused, []string{"task", "openai", "plain", "gpt-4.5-preview"}},
		{"a tool result that hijacks the agent", agents, refused, []string{"hijack", "openai"}},
		{"a host that is no model provider", agents, refused, []string{"get", "https://" + harness.OtherHost + "/upload"}},
		{"the provider by IP literal, without a name", agents, refused, []string{"ip", ip.v4}},
		{"the provider on another port", agents, refused, []string{"get", "https://api.openai.com:8443/v1/models"}},
		{"UDP 443 (QUIC)", agents, refused, []string{"udp", ip.v4 + ":443"}},
	}
	if ip.v6 != "" {
		attempts = append(attempts, struct {
			what string
			ns   string
			want expectation
			run  []string
		}{"the provider over IPv6", agents, refused, []string{"ip", "[" + ip.v6 + "]"}})
	}
	for _, a := range attempts {
		if err := s.try(a.what, a.ns, a.want, a.run...); err != nil {
			return err
		}
	}
	// Without a key of its own, the agent in the unlabelled namespace reaches the provider and is told so.
	return s.try("the same agent in an unlabelled namespace (no sidecar, so no key: the provider's own 401)", unlabelled, refused,
		"post", "https://api.openai.com/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}`)
}

type addresses struct{ v4, v6 string }

func (s *show) serviceIPs() (addresses, error) {
	var svc struct {
		Spec struct{ ClusterIPs []string }
	}
	var a addresses
	if err := s.e.Get(s.ctx, &svc, "-n", harness.ProviderNamespace, "service", harness.ProvidersService); err != nil {
		return a, err
	}
	for _, ip := range svc.Spec.ClusterIPs {
		if strings.Contains(ip, ":") {
			a.v6 = ip
		} else {
			a.v4 = ip
		}
	}
	return a, nil
}

// noAnthropic is the change that the demo makes to the policy.
const noAnthropic = `
apiVersion: sallyport.dev/v1alpha1
kind: ClusterPolicyBundle
metadata: {name: demo-freeze}
spec:
  modules:
    freeze.rego: |
      package sallyport.bundle.demo_freeze

      # METADATA
      # title: No calls to Anthropic for the time being
      # custom:
      #   labels:
      #     rule: FREEZE-001
      deny contains {"rule": "FREEZE-001", "message": "Calls to Anthropic are frozen for the time being."} if {
        input.destination.provider == "anthropic"
      }
`

func (s *show) operations() error {
	fmt.Println("\n  • kubectl apply: a ClusterPolicyBundle that freezes one provider")
	restarts, err := s.restarts()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := s.e.Apply(s.ctx, noAnthropic); err != nil {
		return err
	}
	var line string
	if err := s.e.Eventually(s.ctx, time.Minute, "every sidecar at the new digest", func() error {
		var b struct {
			Status struct {
				Digest   string
				Sidecars struct{ Total, Current, Stale int }
			}
		}
		if err := s.e.Get(s.ctx, &b, "clusterpolicybundle", "demo-freeze"); err != nil {
			return err
		}
		c := b.Status.Sidecars
		line = fmt.Sprintf("%d of %d sidecars at digest %s", c.Current, c.Total, shorten(b.Status.Digest, 19))
		if c.Total == 0 || c.Current != c.Total {
			return errors.New(line)
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Printf("      %s after %s\n", line, time.Since(begun).Round(100*time.Millisecond))
	if now, err := s.restarts(); err != nil || now != restarts {
		return fmt.Errorf("a sidecar restarted meanwhile: restart counts %q, before %q (%w)", now, restarts, err)
	}
	if err := s.try("the task with Anthropic again, under the changed policy", agents, refused, "task", "anthropic", "plain"); err != nil {
		return err
	}
	if r := s.e.Kubectl(s.ctx, nil, "delete", "clusterpolicybundle", "demo-freeze"); r.Err != nil {
		return r.Err
	}

	fmt.Println("\n  • kubectl scale: no controller at all")
	scale := func(n string) error {
		if r := s.e.Kubectl(s.ctx, nil, "-n", harness.SystemNamespace, "scale", "deployment/sallyport-controller", "--replicas="+n); r.Err != nil {
			return r.Err
		}
		return s.e.Rollout(s.ctx, harness.SystemNamespace, "deployment/sallyport-controller")
	}
	if err := s.e.Eventually(s.ctx, time.Minute, "the freeze lifted", func() error {
		r, err := s.e.Run(s.ctx, agents, "task", "anthropic", "plain")
		if err == nil && !r.OK {
			err = errors.New(r.Error)
		}
		return err
	}); err != nil {
		return err
	}
	if err := scale("0"); err != nil {
		return err
	}
	if err := s.e.Eventually(s.ctx, time.Minute, "controller's pods gone", func() error {
		r := s.e.Kubectl(s.ctx, nil, "-n", harness.SystemNamespace, "get", "pods", "-l", "app.kubernetes.io/name=sallyport-controller", "-o", "name")
		if r.Err == nil && strings.TrimSpace(r.Out) != "" {
			return errors.New(r.Out)
		}
		return r.Err
	}); err != nil {
		return err
	}
	if err := s.try("a task while there is no controller", agents, released, "task", "openai", "plain"); err != nil {
		return err
	}
	if err := s.try("a refused model while there is no controller", agents, refused, "task", "openai", "plain", "gpt-4.5-preview"); err != nil {
		return err
	}
	fmt.Println("\n  • the controller comes back")
	return scale("1")
}

// restarts of the sidecars, as one comparable string.
func (s *show) restarts() (string, error) {
	r := s.e.Kubectl(s.ctx, nil, "-n", agents, "get", "pods", "-l", "app=agent", "-o",
		`jsonpath={range .items[*]}{.metadata.name}{range .status.initContainerStatuses[*]}{.name}{.restartCount}{end}{"\n"}{end}`)
	return r.Out, r.Err
}

// end prints the table and says what to try next. It fails when something was not as it should be.
func (s *show) end() error {
	fmt.Println("\nWhat happened")
	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  \twhat\tbecame\trule\tanomaly\tdecision\ttook")
	wrong := 0
	for _, r := range s.rows {
		mark := "✓"
		if !r.asExpected {
			mark = "✗"
			wrong++
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", mark, r.what, r.became, r.rule, r.score, r.id, r.took)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d attempts did not come out as they should", wrong, len(s.rows))
	}
	fmt.Printf(`
The cluster stays up. Try this next (make demo-down removes everything):

  eval "$(make -s cluster-env)"
  kubectl get clusterpolicybundles,modelproviders,egressprofiles
  kubectl get baselines -A
  kubectl -n %[1]s get pods
  kubectl -n %[1]s logs deploy/agent -c sallyport-proxy --tail=3
  kubectl -n %[1]s exec deploy/agent -c agent -- /agent run hijack anthropic
  kubectl -n %[1]s get events
`, agents)
	return nil
}

func ruleOf(d *telemetry.Record) string {
	if d.Rule == "" {
		return ""
	}
	return " by " + d.Rule
}

// describe says what the detector made of the call.
func describe(d *telemetry.Record) string {
	switch {
	case d.Destination.Method == "":
		return "not a model call"
	case !d.Anomaly.Ready:
		return "detector still learning"
	default:
		return fmt.Sprintf("score %.3f, percentile %.4f", d.Anomaly.Score, d.Anomaly.Percentile)
	}
}

func features(d *telemetry.Record) string {
	parts := make([]string, len(d.Anomaly.TopFeatures))
	for i, f := range d.Anomaly.TopFeatures {
		parts[i] = fmt.Sprintf("%s=%.2f (%+.2f)", f.Name, f.Value, f.Contribution)
	}
	return strings.Join(parts, ", ")
}

func shorten(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
