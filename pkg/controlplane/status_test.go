package controlplane

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// Every state that an operator may have to do something about has a reason of its own.
func TestPhases(t *testing.T) {
	own := LearnedState{Model: "0123456789abcdef", Source: v1alpha1.ModelOwn, Calls: 100, Sessions: 5, TrainedOn: 100, Budget: 10_000}
	with := func(change func(*LearnedState)) LearnedState { s := own; change(&s); return s }
	drifting := func(s *LearnedState) { s.Drift = &drift{Calls: 300, Moved: true, Exceeds: true} }
	failed := func(s *LearnedState) {
		s.Failed, s.FailedFor, s.RetryAt = 2, "too few calls", time.Date(2026, 11, 23, 8, 10, 0, 0, time.UTC)
	}
	const no, yes = metav1.ConditionFalse, metav1.ConditionTrue
	for name, tt := range map[string]struct {
		state    LearnedState
		phase    v1alpha1.BaselinePhase
		ready    metav1.ConditionStatus
		why      string
		learning string // and whether, by a sign before it
		drifted  string
		message  string // a part of any of the conditions'
	}{
		"nothing":              {LearnedState{MinCalls: 1000, MinSessions: 50}, v1alpha1.BaselineLearning, no, reasonLearning, "+Admitting", "", "0 calls of 0 sessions so far, and 1000 of 50 are wanted"},
		"no room":              {LearnedState{NoRoom: true}, v1alpha1.BaselineLearning, no, reasonNoRoom, "-NoRoom", "", "as soon as there is room"},
		"cold and denied":      {LearnedState{RefuseCold: true, NoPrior: true}, v1alpha1.BaselineLearning, no, reasonColdDeny, "-ColdDeny", "", "set it to Abstain"},
		"cold, and a prior":    {LearnedState{RefuseCold: true}, v1alpha1.BaselineLearning, no, reasonLearning, "+Admitting", "", ""},
		"denied before":        {with(func(s *LearnedState) { s.RefuseCold, s.NoPrior = true, true }), v1alpha1.BaselineReady, yes, reasonReady, "+Admitting", "-TooFewCalls", ""},
		"prior":                {with(func(s *LearnedState) { s.Source = v1alpha1.ModelPrior }), v1alpha1.BaselineLearning, yes, reasonPrior, "+Admitting", "-TooFewCalls", "judged by other workloads' calls; of its own there are 100 calls of 5 sessions"},
		"own":                  {own, v1alpha1.BaselineReady, yes, reasonReady, "+Admitting", "-TooFewCalls", "fewer than 128 calls"},
		"young":                {with(func(s *LearnedState) { s.Few = true }), v1alpha1.BaselineReady, yes, reasonFewCalls, "+Admitting", "-TooFewCalls", "a model of 100 calls of the workload's own, too few to tell a threshold for a budget of 10000"},
		"as ever":              {with(func(s *LearnedState) { s.Drift = &drift{Calls: 300} }), v1alpha1.BaselineReady, yes, reasonReady, "+Admitting", "-AsLearned", "300 calls"},
		"moved, and no alarm":  {with(func(s *LearnedState) { s.Drift = &drift{Calls: 300, Moved: true} }), v1alpha1.BaselineReady, yes, reasonReady, "+Admitting", "-WithinBudget", ""},
		"drifting":             {with(drifting), v1alpha1.BaselineDrifting, yes, reasonDrifting, "+Admitting", "+Drifting", ""},
		"sunk":                 {with(func(s *LearnedState) { s.Drift = &drift{Calls: 300, Moved: true, Sank: true} }), v1alpha1.BaselineReady, yes, reasonReady, "+Admitting", "+ScoresSank", "something simpler"},
		"sunk, and over":       {with(func(s *LearnedState) { s.Drift = &drift{Moved: true, Sank: true, Exceeds: true} }), v1alpha1.BaselineDrifting, yes, reasonDrifting, "+Admitting", "+Drifting", ""},
		"frozen":               {with(func(s *LearnedState) { s.Frozen = true; drifting(s) }), v1alpha1.BaselineFrozen, yes, reasonFrozen, "-Frozen", "+Drifting", ""},
		"held":                 {with(func(s *LearnedState) { s.ThresholdHeld = true }), v1alpha1.BaselineReady, yes, reasonThresholdHeld, "+Admitting", "-TooFewCalls", "lower than its budget would have it"},
		"frozen and labelled":  {with(func(s *LearnedState) { s.Frozen, s.Unheard = true, true }), v1alpha1.BaselineFrozen, yes, reasonFrozen, "-Frozen", "-TooFewCalls", "labels wait until it is not"},
		"frozen and ignorant":  {LearnedState{Frozen: true}, v1alpha1.BaselineFrozen, no, reasonFrozen, "-Frozen", "", "calls are not judged"},
		"failed at first":      {func() LearnedState { var s LearnedState; failed(&s); return s }(), v1alpha1.BaselineLearning, no, reasonLearning, "-TrainingFailed", "", "too few calls; tried 2 times, and again after 2026-11-23T08:10:00Z"},
		"failed to learn more": {with(failed), v1alpha1.BaselineReady, yes, reasonReady, "-TrainingFailed", "-TooFewCalls", ""},
		"without words":        {with(func(s *LearnedState) { s.Wordless = true }), v1alpha1.BaselineReady, yes, reasonReady, "+WithoutWords", "-TooFewCalls", "Secret sallyport-feature-salt"},
		"little room":          {with(func(s *LearnedState) { s.Limited, s.Held = true, 700 }), v1alpha1.BaselineReady, yes, reasonReady, "+LittleRoom", "-TooFewCalls", "700 calls are held"},
		"labelled":             {with(func(s *LearnedState) { s.Unheard = true }), v1alpha1.BaselineReady, yes, reasonReady, "+LabelsWait", "-TooFewCalls", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var b v1alpha1.Baseline
			baselineStatus(&b, tt.state)
			said := ""
			reason := func(kind string) string {
				c := condition(b.Status.Conditions, kind, 0)
				said += c.Message + "\n"
				return map[metav1.ConditionStatus]string{yes: "+", no: "-"}[c.Status] + c.Reason
			}
			if c := condition(b.Status.Conditions, v1alpha1.ConditionReady, 0); b.Status.Phase != tt.phase || c.Status != tt.ready || c.Reason != tt.why {
				t.Errorf("phase %s, condition %+v", b.Status.Phase, c)
			}
			if got := reason(v1alpha1.ConditionReady); got == "" {
				t.Error("not ready, and not otherwise")
			}
			if got := reason(v1alpha1.ConditionLearning); got != tt.learning {
				t.Errorf("learning %s, want %s", got, tt.learning)
			}
			if got := reason(v1alpha1.ConditionDrifted); got != tt.drifted {
				t.Errorf("drifted %s, want %s", got, tt.drifted)
			}
			if !strings.Contains(said, tt.message) {
				t.Errorf("said %q, want %q", said, tt.message)
			}
			for _, c := range b.Status.Conditions {
				if c.Message == "" {
					t.Errorf("nothing is said of %s", c.Type)
				}
			}
		})
	}
}

func TestTellOfChanges(t *testing.T) {
	const ready, learning, drifted = v1alpha1.ConditionReady, v1alpha1.ConditionLearning, v1alpha1.ConditionDrifted
	is := func(kind string, ok metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: ok, Reason: reason, Message: "since"}
	}
	const no, yes = metav1.ConditionFalse, metav1.ConditionTrue
	for name, tt := range map[string]struct {
		before, now []metav1.Condition
		want        []string
	}{
		"new":               {nil, []metav1.Condition{is(ready, no, reasonLearning), is(learning, yes, reasonAdmitting)}, nil},
		"new, and stuck":    {nil, []metav1.Condition{is(learning, no, reasonColdDeny)}, []string{"Warning ColdDeny Learning: since"}},
		"as before":         {[]metav1.Condition{is(ready, yes, reasonReady)}, []metav1.Condition{is(ready, yes, reasonReady)}, nil},
		"ready":             {[]metav1.Condition{is(ready, no, reasonLearning)}, []metav1.Condition{is(ready, yes, reasonReady)}, []string{"Normal Ready Ready: since"}},
		"drifting":          {[]metav1.Condition{is(ready, yes, reasonReady), is(drifted, no, reasonAsLearned)}, []metav1.Condition{is(ready, yes, reasonDrifting), is(drifted, yes, reasonDrifting)}, []string{"Warning Drifting Ready: since"}},
		"simpler":           {[]metav1.Condition{is(drifted, no, reasonAsLearned)}, []metav1.Condition{is(drifted, yes, reasonScoresSank)}, []string{"Normal ScoresSank Drifted: since"}},
		"a little, or more": {[]metav1.Condition{is(drifted, no, reasonAsLearned)}, []metav1.Condition{is(drifted, no, reasonWithinBudget)}, nil},
		"room again":        {[]metav1.Condition{is(learning, no, reasonNoRoom)}, []metav1.Condition{is(learning, yes, reasonAdmitting)}, []string{"Normal Admitting Learning: since"}},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := events.NewFakeRecorder(8)
			p := &Plane{events: recorder}
			var b v1alpha1.Baseline
			b.Status.Conditions = tt.now
			p.tellOfChanges(&b, tt.before)
			close(recorder.Events)
			var got []string
			for e := range recorder.Events {
				got = append(got, e)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("told %q, want %q", got, tt.want)
			}
		})
	}
}

// What goes wrong with learning is told as it happens, by an Event and in the status.
func TestNoRoomIsTold(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	r := l.start()
	r.learner.mu.Lock()
	r.learner.room.most, r.learner.room.bound = 0, func() int { return 0 }
	r.learner.mu.Unlock()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	s.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	s.SendRecord(record(random, 1, nil))
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	learning := func(reason string) bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil &&
			condition(baseline.Status.Conditions, v1alpha1.ConditionLearning, baseline.Generation).Reason == reason
	}
	l.until("the Baseline says so", func() bool { return learning(reasonNoRoom) })
	told := func(reason string) bool {
		var list eventsv1.EventList
		must(t, l.client.List(l.ctx, &list, client.InNamespace(namespace)))
		return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == reason && e.Regarding.Name == baseline.Name })
	}
	l.until("an Event says so", func() bool { return told(reasonNoRoom) })
	r.learner.mu.Lock()
	r.learner.room.most, r.learner.room.bound = math.MaxInt, func() int { return math.MaxInt }
	r.learner.mu.Unlock()
	s.SendRecord(record(random, 2, nil))
	l.until("it is learned after all", func() bool { return learning(reasonAdmitting) && baseline.Status.Calls == 1 })
	l.until("that is told as well", func() bool { return told(reasonAdmitting) })
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
