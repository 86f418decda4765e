package controlplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

// quick are settings by which a few calls are enough.
var quick = v1alpha1.DetectorSpec{MinCalls: 64, MinSessions: 4, FalsePositivesPerMillion: 50_000}

func (l *lab) profile(detector v1alpha1.DetectorSpec) *v1alpha1.EgressProfile {
	l.t.Helper()
	p := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}, Spec: v1alpha1.EgressProfileSpec{Detector: detector}}
	l.create(p)
	return p
}

func anything(xdsclient.Snapshot) bool { return true }

// record is the decision record of a benign call, with a workload that is not the sender's.
func record(random *rand.Rand, i int, change func(*telemetry.Record)) []byte {
	r := telemetry.Record{ID: fmt.Sprint(i), Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow, Schema: features.SchemaID, Features: make([]float32, features.Size)}
	for f := range r.Features {
		r.Features[f] = float32(random.NormFloat64())
	}
	r.Workload = policy.Workload{Namespace: "kube-system", Kind: "Deployment", Name: "forged"}
	r.Session.ID = fmt.Sprintf("session-%d", i%40)
	if change != nil {
		change(&r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return b
}

// learner learns by itself, of records that it is handed, at the time that now has.
func (l *lab) learner(k *keeper, now *time.Time) *Learner {
	l.t.Helper()
	if k == nil {
		k = &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	}
	return newLearner(func(xds.Workload, *xdsv1.DetectorModel) error { return nil }, k, func() time.Time { return *now }, func() {}, func() {}, newMetrics(), func(err error, what string) {
		l.t.Error(what, err)
	})
}

// salted gives every workload the same salt.
func salted(salt uint64) func(xds.Workload) uint64 { return func(xds.Workload) uint64 { return salt } }

// exceeding is the record of a call that a model found unusual and the baseline refused.
func exceeding(random *rand.Rand, i int, model string) []byte {
	return record(random, i, func(r *telemetry.Record) {
		r.Outcome, r.Action = telemetry.OutcomeRefused, policy.ActionDeny
		r.Reasons = []policy.Reason{{Rule: "ANOM-001", Message: "unlike"}}
		r.Session.ID = fmt.Sprint("odd-", i)
		r.Anomaly = policy.Anomaly{Ready: true, Exceeds: true, ModelDigest: model}
	})
}

// evidenceOf is the evidence of a call that says this.
func evidenceOf(text string) []byte {
	m := llm.Message{Role: llm.RoleUser}
	m.Parts = append(m.Parts, llm.Part{Kind: llm.PartText, Text: []byte(text)})
	var e features.Evidence
	var v features.Vector
	features.Extract(&v, &e, &llm.Call{Model: "m", Messages: []llm.Message{m}}, nil, &features.Context{Salt: 7, Destination: "api.model.test:443"})
	return e.Encoded()
}

// wordy is the evidence of a call of three hundred words, as a tool's result may have.
func wordy(random *rand.Rand) []byte {
	var text strings.Builder
	for range 300 {
		fmt.Fprintf(&text, "w%c%c%c ", 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(8)))
	}
	return evidenceOf(text.String())
}

// wordyTexts are the evidence of calls that have no text in common, more of it than zipping looks back.
func wordyTexts(random *rand.Rand) [][]byte {
	out := make([][]byte, 300)
	for i := range out {
		out[i] = wordy(random)
	}
	return out
}

func TestAModelIsLearnedAndSurvivesARestart(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.create(&v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}, Spec: v1alpha1.EgressProfileSpec{
		Detector: v1alpha1.DetectorSpec{MinCalls: 64, MinSessions: 4, FalsePositivesPerMillion: 50_000},
	}})
	r := l.start()
	pod := l.pod(namespace, "agent")
	s := l.sidecar(r, pod, "")
	s.next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	l.until("there is a Baseline", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase == v1alpha1.BaselineLearning
	})

	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		s.SendRecord(record(random, i, nil))
	}
	s.SendRecord(record(random, 81, func(r *telemetry.Record) { r.Outcome = telemetry.OutcomeRefused }))
	s.SendRecord(record(random, 82, func(r *telemetry.Record) { r.Outcome = telemetry.OutcomeRelaxed }))
	s.SendRecord(record(random, 83, func(r *telemetry.Record) { r.Session.Tainted = true }))
	s.SendRecord(record(random, 84, func(r *telemetry.Record) { r.Schema = "of tomorrow" }))
	s.SendRecord([]byte("not json"))
	got := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	model, err := detector.Load(got.Model.GetModel())
	must(t, err)
	if model.Digest() != got.Model.GetDigest() || got.Model.GetSchema() != features.SchemaID {
		t.Errorf("digest %s, schema %s", got.Model.GetDigest(), got.Model.GetSchema())
	}
	l.until("the Baseline is ready", func() bool {
		l.get(baseline)
		return baseline.Status.Phase == v1alpha1.BaselineReady && baseline.Status.ModelDigest == model.Digest()[:12] && baseline.Status.Calls == 80 && baseline.Status.Rejected == 3
	})
	if known := r.learner.known(); len(known) != 1 || known[0] != (xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}) {
		t.Errorf("learned of %v", known)
	}

	// Another budget sets another threshold.
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}}
	l.get(profile)
	l.update(profile, func() { profile.Spec.Detector.FalsePositivesPerMillion = 200_000 })
	got = s.next(t, "a model for the new budget", func(s xdsclient.Snapshot) bool { return s.Model.GetDigest() != model.Digest() })
	if model, err = detector.Load(got.Model.GetModel()); err != nil || model.Info().FalsePositivesPerMillion != 200_000 {
		t.Fatalf("budget %d, %v", model.Info().FalsePositivesPerMillion, err)
	}

	// While it is frozen nothing is learned.
	l.update(baseline, func() { baseline.Spec.Freeze = true })
	l.until("the Baseline is frozen", func() bool { l.get(baseline); return baseline.Status.Phase == v1alpha1.BaselineFrozen })
	s.SendRecord(record(random, 90, nil))
	l.until("the record has arrived", func() bool { return s.Stats().Queued == 0 })

	r.stop()
	r = l.start()
	again := l.sidecar(r, pod, "")
	after := again.next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	if after.Model.GetDigest() != model.Digest() || !bytes.Equal(after.Model.GetModel(), got.Model.GetModel()) {
		t.Errorf("after a restart the model is %q", after.Model.GetDigest())
	}
	state := r.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"})
	if !state.Frozen || state.Calls != 80 {
		t.Errorf("after a restart: %+v", state)
	}
	if stats := s.Stats(); len(s.snapshots) != 0 {
		t.Errorf("the connected sidecar was sent %d snapshots though nothing changed; %+v", len(s.snapshots), stats)
	}

	// Deleting the Baseline forgets, and begins anew.
	must(t, l.client.Delete(l.ctx, baseline))
	again.next(t, "no model", func(s xdsclient.Snapshot) bool { return s.Model == nil })
	l.until("learning begins anew", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase == v1alpha1.BaselineLearning && baseline.Status.Calls == 0
	})
}

// A workload that never called is forgotten some time after its last sidecar went, and what was kept of it as well.
func TestMeet(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	published := map[xds.Workload]bool{}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	learner.publish = func(w xds.Workload, m *xdsv1.DetectorModel) error { published[w] = m != nil; return nil }
	spec := quick
	spec.SharedPrior = true
	learner.configure("agents", learningOf(&spec))
	busy, quiet := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "busy"}, xds.Workload{Namespace: "agents", Kind: "Job", Name: "quiet"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		learner.Record(busy, record(random, i, nil))
	}
	must(t, learner.meet(l.ctx, []xds.Workload{quiet}))
	for learner.doOne(l.ctx) {
	}
	if !published[quiet] || learner.state(quiet).Source != v1alpha1.ModelPrior {
		t.Fatalf("no prior: %+v", learner.state(quiet))
	}
	for range 3 {
		now = now.Add(forgottenAfter)
		must(t, learner.meet(l.ctx, []xds.Workload{quiet}))
	}
	must(t, learner.meet(l.ctx, nil))
	if len(learner.known()) != 2 {
		t.Error("forgotten at once")
	}
	now = now.Add(forgottenAfter + time.Second)
	must(t, learner.meet(l.ctx, nil))
	if known := learner.known(); len(known) != 1 || known[0] != busy.Workload() || published[quiet] {
		t.Errorf("known %v, published %v", known, published)
	}
	if all, _, err := k.load(l.ctx, keptBaseline); err != nil || len(all) != 1 {
		t.Errorf("%d are kept, %v", len(all), err)
	}
}

func TestSalts(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	r := l.start()
	one := l.sidecar(r, l.pod(namespace, "one"), "").next(t, "anything", anything).Config.GetFeatureSalt()
	two := l.sidecar(r, l.pod(namespace, "two"), "").next(t, "anything", anything).Config.GetFeatureSalt()
	if one == 0 || two == 0 || one == two {
		t.Errorf("salts %d and %d", one, two)
	}
	var secret corev1.Secret
	must(t, l.client.Get(l.ctx, client.ObjectKey{Namespace: l.namespace, Name: saltSecret}, &secret))
	if len(secret.Data[saltKey]) != 32 || len(secret.Data) != 1 {
		t.Errorf("secret of %d bytes", len(secret.Data[saltKey]))
	}
	r.stop()
	r = l.start()
	if again := l.sidecar(r, &corev1.Pod{ObjectMeta: l.podMeta(namespace, "one")}, "").next(t, "anything", anything).Config.GetFeatureSalt(); again != one {
		t.Errorf("salt %d after a restart, %d before", again, one)
	}
	r.stop()
	// Bytes that are not ours are neither used nor replaced.
	secret.Data[saltKey] = []byte("short")
	must(t, l.client.Update(l.ctx, &secret))
	r = l.start()
	if none := l.sidecar(r, &corev1.Pod{ObjectMeta: l.podMeta(namespace, "one")}, "").next(t, "anything", anything).Config.GetFeatureSalt(); none != 0 {
		t.Errorf("salt %d of a broken secret", none)
	}
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-one"}}
	l.until("the Baseline says so", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && condition(baseline.Status.Conditions, v1alpha1.ConditionLearning, baseline.Generation).Reason == reasonWordless
	})
	if salted := saltOf(make([]byte, 32)); salted(xds.Workload{Namespace: "a", Kind: "b", Name: "c"}) == salted(xds.Workload{Namespace: "a", Kind: "b", Name: "d"}) {
		t.Error("two workloads have one salt")
	}
}

func (l *lab) podMeta(namespace, name string) metav1.ObjectMeta {
	l.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	l.get(pod)
	return pod.ObjectMeta
}
