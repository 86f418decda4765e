package controlplane

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

func TestPhases(t *testing.T) {
	own := LearnedState{Model: "0123456789abcdef", Source: v1alpha1.ModelOwn, Calls: 100, Sessions: 5}
	with := func(change func(*LearnedState)) LearnedState { s := own; change(&s); return s }
	for name, tt := range map[string]struct {
		state LearnedState
		phase v1alpha1.BaselinePhase
		ready metav1.ConditionStatus
		why   string
	}{
		"nothing":             {LearnedState{}, v1alpha1.BaselineLearning, metav1.ConditionFalse, reasonLearning},
		"prior":               {with(func(s *LearnedState) { s.Source = v1alpha1.ModelPrior }), v1alpha1.BaselineLearning, metav1.ConditionTrue, reasonPrior},
		"own":                 {own, v1alpha1.BaselineReady, metav1.ConditionTrue, reasonReady},
		"moved a little":      {with(func(s *LearnedState) { s.Drift = &drift{Calls: 300} }), v1alpha1.BaselineReady, metav1.ConditionTrue, reasonReady},
		"drifting":            {with(func(s *LearnedState) { s.Drift = &drift{Calls: 300, Moved: true, Exceeds: true} }), v1alpha1.BaselineDrifting, metav1.ConditionTrue, reasonDrifting},
		"frozen":              {with(func(s *LearnedState) { s.Frozen = true; s.Drift = &drift{Moved: true, Exceeds: true} }), v1alpha1.BaselineFrozen, metav1.ConditionTrue, reasonFrozen},
		"frozen and ignorant": {LearnedState{Frozen: true}, v1alpha1.BaselineFrozen, metav1.ConditionFalse, reasonFrozen},
	} {
		t.Run(name, func(t *testing.T) {
			var b v1alpha1.Baseline
			baselineStatus(&b, tt.state)
			c := condition(b.Status.Conditions, v1alpha1.ConditionReady, 0)
			if b.Status.Phase != tt.phase || c.Status != tt.ready || c.Reason != tt.why {
				t.Errorf("phase %s, condition %+v", b.Status.Phase, c)
			}
		})
	}
}

func TestCanariesAndColdReachSidecars(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(v1alpha1.DetectorSpec{Cold: v1alpha1.ColdDeny, Canaries: []v1alpha1.Canary{{Name: "payroll", Value: "AKIA-not-a-key-4711"}}})
	r := l.start()
	c := l.sidecar(r, l.pod(namespace, "agent"), "").next(t, "anything", anything).Config
	if !c.GetRefuseCold() || len(c.GetCanaries()) != 1 || c.GetCanaries()[0].GetName() != "payroll" || string(c.GetCanaries()[0].GetValue()) != "AKIA-not-a-key-4711" {
		t.Errorf("config %v", c)
	}
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	l.until("the Baseline says what Deny means", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil &&
			strings.Contains(condition(baseline.Status.Conditions, v1alpha1.ConditionReady, baseline.Generation).Message, "nothing is learned of them")
	})
}
