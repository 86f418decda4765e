package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// What the agent's Baseline says, as "kubectl get" has it.
func TestBaselineColumns(t *testing.T) {
	waitLearned(t)
	r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "baselines")
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	header, _, _ := strings.Cut(r.Out, "\n")
	if got := strings.Join(strings.Fields(header), " "); got != "NAME PHASE LEARNING CALLS SESSIONS MODEL SOURCE OVER AGE" {
		t.Errorf("columns %s", got)
	}
	b := learned(t)
	t.Logf("%s\ndrift %+v, false positives %+v", r.Out, b.Status.Drift, b.Status.FalsePositives)
	if s := b.Status; s.ModelSource != v1alpha1.ModelOwn || len(s.ModelDigest) != 12 || s.TrainedOn < 1000 || s.PriorRows != 0 {
		t.Errorf("status %+v", s)
	}
}

func learned(t *testing.T) *v1alpha1.Baseline {
	t.Helper()
	b := &v1alpha1.Baseline{}
	if err := env.Get(t.Context(), b, "-n", agents, "baseline", baseline); err != nil {
		t.Fatal(err)
	}
	return b
}

// A person says what a call was, by the command and by the annotation, and the next model has learned it.
func TestFeedback(t *testing.T) {
	waitLearned(t)
	s := run(t, "hijack", "openai")
	d := record(t, s.DecisionID)
	if !d.Anomaly.Exceeds {
		t.Fatalf("the call does not exceed: %+v", d.Anomaly)
	}
	before := learned(t).Status
	eventually(t, time.Minute, "the label", func() error {
		// The controller knows the call as soon as its record has arrived.
		out, errs, err := sallyport(t, "feedback", "-n", agents, "--attack", s.DecisionID)
		if err != nil {
			return fmt.Errorf("%w: %s", err, errs)
		}
		if !strings.Contains(out, s.DecisionID+" is labelled attack") {
			return fmt.Errorf("said %q", out)
		}
		return nil
	})
	eventually(t, 2*time.Minute, "a model that was trained with it", func() error {
		if now := learned(t).Status; now.ModelDigest == before.ModelDigest || now.Feedback == nil || now.Feedback.Attacks == 0 {
			return fmt.Errorf("status %+v", now)
		}
		return nil
	})
	if r := env.Kubectl(t.Context(), nil, "-n", agents, "annotate", "--overwrite", "baseline", baseline, v1alpha1.FeedbackAnnotation+"=0198e7a4-0000-7000-8000-000000000000=attack"); r.Err != nil {
		t.Fatal(r.Err)
	}
	eventually(t, time.Minute, "an Event that says what can be labelled", func() error {
		r := env.Kubectl(t.Context(), nil, "-n", agents, "get", "events", "--field-selector", "involvedObject.name="+baseline, "-o", "jsonpath={.items[*].reason}{.items[*].message}")
		if r.Err != nil {
			return r.Err
		}
		for _, want := range []string{"FeedbackApplied", "FeedbackUnknownCall", "what can be labelled are the last"} {
			if !strings.Contains(r.Out, want) {
				return fmt.Errorf("events %s", r.Out)
			}
		}
		if _, there := learned(t).Annotations[v1alpha1.FeedbackAnnotation]; there {
			return fmt.Errorf("the annotation is still there")
		}
		return nil
	})
	waitLearned(t)
	if again := record(t, run(t, "hijack", "openai").DecisionID); !again.Anomaly.Exceeds {
		t.Errorf("the same attack is let pass: %+v", again.Anomaly)
	}
}
