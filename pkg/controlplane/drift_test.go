package controlplane

import (
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
)

// A workload whose calls become others is said to drift, with the features that moved.
func TestDrift(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	learner := l.learner(k, &now)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: 256, MinSessions: 20}))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 256 {
		learner.Record(id, record(random, i, nil))
	}
	for learner.doOne(l.ctx) {
	}
	model := learner.state(id.Workload()).Model
	status := func(shift float32, exceed bool) (v1alpha1.BaselineStatus, int) {
		for i := range maxWindow {
			now = now.Add(windowEvery)
			learner.Record(id, record(random, 1000+i, func(r *telemetry.Record) {
				r.Features[3] += shift
				r.Anomaly = policy.Anomaly{Ready: true, ModelDigest: model, Exceeds: exceed && i%8 == 0}
			}))
		}
		var b v1alpha1.Baseline
		baselineStatus(&b, learner.state(id.Workload()))
		return b.Status, learner.phases()["drifting"]
	}
	if s, n := status(0, false); s.Phase != v1alpha1.BaselineReady || s.Drift == nil || s.Drift.Calls != maxWindow || len(s.Drift.Features) != 0 || n != 0 {
		t.Errorf("as before: %s, %+v", s.Phase, s.Drift)
	}
	if s, n := status(50, false); s.Phase != v1alpha1.BaselineReady || len(s.Drift.Features) == 0 || n != 0 {
		t.Errorf("shifted, and within the budget: %s, %+v", s.Phase, s.Drift)
	}
	if s, n := status(50, true); s.Phase != v1alpha1.BaselineDrifting || len(s.Drift.Features) == 0 || s.Drift.Features[0].Name != features.Schema[3].Name || n != 1 || s.Drift.Scores != v1alpha1.ScoresHigher {
		t.Errorf("shifted: %s, %+v", s.Phase, s.Drift)
	}

	// It is kept soon, so that the next leader says the same, before it has seen as much.
	learner.flush(l.ctx, false)
	next := l.learner(nil, &now)
	must(t, next.restore(l.ctx, salted(0)))
	next.configure(id.Namespace, learner.settings[id.Namespace])
	var b v1alpha1.Baseline
	if baselineStatus(&b, next.state(id.Workload())); b.Status.Phase != v1alpha1.BaselineDrifting || b.Status.Drift.Calls != maxWindow || next.phases()["drifting"] != 1 {
		t.Errorf("the next leader says %s, %+v", b.Status.Phase, b.Status.Drift)
	}
	// A model that learned from the new calls begins anew.
	for i := range 512 {
		next.Record(id, record(random, 2000+i, func(r *telemetry.Record) { r.Features[3] += 50 }))
	}
	for next.doOne(l.ctx) {
	}
	if baselineStatus(&b, next.state(id.Workload())); b.Status.Phase != v1alpha1.BaselineReady || b.Status.Drift != nil {
		t.Errorf("with another model %s, %+v", b.Status.Phase, b.Status.Drift)
	}
}

// A workload that does simpler things than it did is no alarm, and is reported.
func TestScoresSink(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLab(t)
	learner := l.learner(nil, &now)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: 512, MinSessions: 20}))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 512 {
		learner.Record(id, record(random, i, nil))
	}
	for learner.doOne(l.ctx) {
	}
	model := learner.state(id.Workload()).Model
	for i := range minWindow {
		now = now.Add(windowEvery)
		learner.Record(id, record(random, 1000+i, func(r *telemetry.Record) {
			for f := range r.Features {
				r.Features[f] /= 3
			}
			r.Anomaly = policy.Anomaly{Ready: true, ModelDigest: model}
		}))
	}
	var b v1alpha1.Baseline
	baselineStatus(&b, learner.state(id.Workload()))
	if c := condition(b.Status.Conditions, v1alpha1.ConditionDrifted, 0); b.Status.Phase != v1alpha1.BaselineReady || c.Status != metav1.ConditionTrue || c.Reason != reasonScoresSank || b.Status.Drift.Scores != v1alpha1.ScoresLower {
		t.Errorf("%s, %+v, %+v", b.Status.Phase, c, b.Status.Drift)
	}
}
