package controlplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
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

// exceeding is the record of a call that a model found unusual and the baseline refused.
func exceeding(random *rand.Rand, i int, model string) []byte {
	return record(random, i, func(r *telemetry.Record) {
		r.Outcome, r.Action = telemetry.OutcomeRefused, policy.ActionDeny
		r.Reasons = []policy.Reason{{Rule: "ANOM-001", Message: "unlike"}}
		r.Session.ID = fmt.Sprint("odd-", i)
		r.Anomaly = policy.Anomaly{Ready: true, Exceeds: true, ModelDigest: model}
	})
}

func TestFeedback(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	strict := quick
	strict.FalsePositivesPerMillion = 1000 // which so few calls cannot vouch for
	l.profile(strict)
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	s.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		s.SendRecord(record(random, i, nil))
	}
	first := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil }).Model.GetDigest()
	for i := 100; i < 104; i++ {
		s.SendRecord(exceeding(random, i, first))
	}
	for i := 110; i < 116; i++ {
		s.SendRecord(record(random, i, func(r *telemetry.Record) { r.Anomaly = policy.Anomaly{Ready: true, ModelDigest: first} }))
	}
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	l.until("the calls are counted", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.FalsePositives != nil && baseline.Status.FalsePositives.Calls == 10
	})
	if got := baseline.Status; got.FalsePositives.Exceeded != 4 || got.FalsePositives.Share != "40.00% of 10" || got.ModelSource != v1alpha1.ModelOwn ||
		len(got.Exceeded) != 4 || got.Exceeded[0].ID != "103" || got.Rejected != 4 {
		t.Errorf("status %+v, %+v", got, got.FalsePositives)
	}
	say := func(annotation, reason string, notes ...string) {
		t.Helper()
		l.get(baseline)
		l.update(baseline, func() { baseline.Annotations = map[string]string{v1alpha1.FeedbackAnnotation: annotation} })
		l.until("an Event "+reason, func() bool {
			var list eventsv1.EventList
			must(t, l.client.List(l.ctx, &list, client.InNamespace(namespace)))
			return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
				return e.Reason == reason && e.Regarding.Name == baseline.Name && !slices.ContainsFunc(notes, func(n string) bool { return !strings.Contains(e.Note, n) })
			})
		})
		l.get(baseline)
		if _, there := baseline.Annotations[v1alpha1.FeedbackAnnotation]; there {
			t.Errorf("the annotation %q is still there", annotation)
		}
	}
	say("100 is fine", "FeedbackRefused", `"100 is fine" is no label`, "accepted is ID=false-positive or ID=attack")
	say("100=false-positive, 101=attack,nobody=attack", "FeedbackUnknownCall", "100 is labelled false-positive", "Not known: nobody", "the last 128 calls")
	if f := baseline.Status.Feedback; f == nil || f.FalsePositives != 1 || f.Attacks != 1 || !strings.Contains(f.Last, "Not known: nobody") {
		t.Errorf("feedback %+v", f)
	}
	s.next(t, "a model with the labels", func(s xdsclient.Snapshot) bool { return s.Model.GetDigest() != first })
	say("102=attack", "FeedbackApplied", "102 is labelled attack")
	l.until("a model is trained with all that was said", func() bool {
		r.learner.mu.Lock()
		defer r.learner.mu.Unlock()
		have := r.learner.workloads[xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}]
		return have.spoken == 3 && have.heard == 3
	})
	// Of a session that attacked, nothing is learned: neither what comes nor what came.
	s.SendRecord(record(random, 120, func(r *telemetry.Record) { r.Session.ID = "odd-102" }))
	l.until("it is turned away", func() bool {
		return r.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}).Rejected == 5
	})

	// Somebody made a Baseline of a workload that there is not.
	none := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "deployment-none", Annotations: map[string]string{v1alpha1.FeedbackAnnotation: "a=attack"}}}
	l.create(none)
	l.until("it is told", func() bool {
		l.get(none)
		return len(none.Annotations) == 0 && none.Status.Feedback != nil && strings.Contains(none.Status.Feedback.Last, "nothing is known of this workload")
	})

	// Labels outlive the controller.
	r.stop()
	r = l.start()
	if state := r.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}); state.Attacks != 2 || state.FalsePositives != 1 || len(state.LastExceeded) != 4 || state.LastExceeded[1].Label != v1alpha1.LabelAttack {
		t.Errorf("after a restart: %+v", state)
	}
}

func TestASharedPrior(t *testing.T) {
	l := newLab(t)
	namespace, other := l.agents(nil), l.agents(nil)
	spec := quick
	spec.SharedPrior, spec.PriorScope = true, v1alpha1.PriorNamespace
	profile := l.profile(spec)
	r := l.start()
	busy := l.sidecar(r, l.pod(namespace, "busy"), "")
	busy.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		busy.SendRecord(record(random, i, nil))
	}
	busy.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })

	// One that never called has the others' model; one in another namespace has it when the scope is the cluster.
	quiet := l.sidecar(r, l.pod(namespace, "quiet"), "")
	prior := quiet.next(t, "the prior", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-quiet"}}
	l.until("the Baseline says so", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.ModelSource == v1alpha1.ModelPrior
	})
	if s := baseline.Status; s.Phase != v1alpha1.BaselineLearning || s.TrainedOn != 0 || s.PriorRows != 64 || !strings.HasPrefix(prior.Model.GetDigest(), s.ModelDigest) {
		t.Errorf("status %+v", s)
	}
	far := l.sidecar(r, l.pod(other, "far"), "")
	far.next(t, "anything", anything)
	l.update(profile, func() { profile.Spec.Detector.PriorScope = v1alpha1.PriorCluster })
	// Its own calls take the others' place, and then its own model theirs.
	for i := range 32 {
		quiet.SendRecord(record(random, i, func(r *telemetry.Record) { r.Features[0] += 100 }))
	}
	l.until("some of it is its own", func() bool { // how many depends on how they arrive
		l.get(baseline)
		s := baseline.Status
		return s.ModelSource == v1alpha1.ModelPrior && s.TrainedOn >= youngest && s.TrainedOn+s.PriorRows == 64
	})
	for i := 32; i < 80; i++ {
		quiet.SendRecord(record(random, i, func(r *telemetry.Record) { r.Features[0] += 100 }))
	}
	l.until("all of it is its own", func() bool {
		l.get(baseline)
		s := baseline.Status
		return s.ModelSource == v1alpha1.ModelOwn && s.Phase == v1alpha1.BaselineReady && s.TrainedOn >= 64 && s.PriorRows == 0
	})

	// A prior outlives the controller, also where nobody has called yet.
	before := far.next(t, "the prior", func(s xdsclient.Snapshot) bool { return s.Model != nil }).Model.GetDigest()
	r.stop()
	r = l.startAt(r.discovery, strings.TrimPrefix(r.bundles, "https://"))
	if again := l.sidecar(r, &corev1.Pod{ObjectMeta: l.podMeta(other, "far")}, "").next(t, "anything", anything); again.Model.GetDigest() != before {
		t.Errorf("after a restart the prior is %q, not %s", again.Model.GetDigest(), before)
	}
	l.until("the sidecars are back", func() bool { return len(r.Plane.discovery.Sidecars()) == 3 })

	// Without the setting, a prior is taken back, and a model of one's own stays.
	l.update(profile, func() { profile.Spec.Detector.SharedPrior = false })
	far.next(t, "no model", func(s xdsclient.Snapshot) bool { return s.Model == nil })
	if s := r.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "quiet"}); s.Source != v1alpha1.ModelOwn {
		t.Errorf("state %+v", s)
	}
}

// A workload that never called is forgotten some time after its last sidecar went, and what was kept of it as well.
func TestMeet(t *testing.T) {
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	published := map[xds.Workload]bool{}
	learner := newLearner(func(w xds.Workload, m *xdsv1.DetectorModel) error { published[w] = m != nil; return nil }, k, func() time.Time { return now }, func() {}, func() {}, newMetrics(), func(err error, what string) { t.Error(what, err) })
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

// Of the workloads that lend, each gives as much as the others as far as it has it, and never its evidence.
func TestMixed(t *testing.T) {
	lend := func(name string, calls int) lender {
		have := &learned{reservoir: detector.NewReservoir(reservoirCapacity, 1), source: v1alpha1.ModelOwn}
		for i := range calls {
			have.reservoir.Add(detector.Row{Session: fmt.Sprint("s", i%50), Evidence: evidenceOf(name)}, detector.Admission{Released: true})
		}
		return lender{xds.Workload{Namespace: "a", Kind: "Deployment", Name: name}, have}
	}
	for _, tt := range []struct {
		calls []int
		most  int
		want  int
	}{
		{[]int{100, 100}, 60, 60}, {[]int{10, 500, 500}, 1000, 1000}, {[]int{10, 20}, 100, 30}, {[]int{40}, 0, 0},
	} {
		var pool []lender
		for i, n := range tt.calls {
			pool = append(pool, lend(fmt.Sprint("w", i), n))
		}
		rows := mixed(pool, tt.most)
		if len(rows) != tt.want {
			t.Errorf("%v: %d rows, want %d", tt.calls, len(rows), tt.want)
		}
		of := map[string]int{}
		for _, row := range rows {
			if row.Evidence != nil {
				t.Fatalf("%v: evidence crosses workloads", tt.calls)
			}
			from, _, _ := strings.Cut(row.Session, "/")
			of[from]++
		}
		if len(rows) > 0 && len(of) != len(tt.calls) {
			t.Errorf("%v: of %v", tt.calls, of)
		}
	}
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

// crashing cuts a controller off from the API, as if it had died.
type crashing struct {
	dead *atomic.Bool
	next http.RoundTripper
}

func (c crashing) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.dead.Load() {
		return nil, errors.New("dead")
	}
	return c.next.RoundTrip(r)
}

// Two controllers: when the leader dies, the other goes on with the same models and salts.
func TestALeaderDies(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	var dead atomic.Bool
	first := l.candidate(func(c *rest.Config) {
		c.Wrap(func(next http.RoundTripper) http.RoundTripper { return crashing{&dead, next} })
	})
	first.wait()
	second := l.candidate(nil)
	pod := l.pod(namespace, "agent")
	s := l.sidecar(first.running, pod, "")
	s.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		s.SendRecord(record(random, i, nil))
	}
	before := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	select {
	case <-second.listening:
		t.Fatal("both lead")
	default:
	}
	dead.Store(true)
	s.stop()
	second.wait()
	began := time.Now()
	again := l.connect(second.running, s, "")
	l.until("the new leader has the sidecar", func() bool { return len(second.Plane.discovery.Sidecars()) == 1 })
	t.Logf("with the new leader after %s", time.Since(began))
	state := second.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"})
	if state.Model != before.Model.GetDigest() || state.Source != v1alpha1.ModelOwn || state.Calls < 64 {
		t.Errorf("state %+v, digest before %s", state, before.Model.GetDigest())
	}
	// A sidecar that starts with nothing is sent what the other had.
	fresh := l.sidecar(second.running, pod, "").next(t, "the model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	if fresh.Model.GetDigest() != before.Model.GetDigest() || fresh.Config.GetFeatureSalt() != before.Config.GetFeatureSalt() || before.Config.GetFeatureSalt() == 0 {
		t.Errorf("model %s and salt %d, before %s and %d", fresh.Model.GetDigest(), fresh.Config.GetFeatureSalt(), before.Model.GetDigest(), before.Config.GetFeatureSalt())
	}
	// What is learned from here on counts.
	for i := 80; i < 400; i++ {
		again.SendRecord(record(random, i, nil))
	}
	again.next(t, "a further model", func(s xdsclient.Snapshot) bool {
		return s.Model != nil && s.Model.GetDigest() != before.Model.GetDigest()
	})
	first.abandon()
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

// What was learned under another salt is not taken up: its words would all be new.
func TestAnotherSalt(t *testing.T) {
	w := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}
	b, err := encodeLearned(w, 7, &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w))})
	must(t, err)
	if _, _, err := decodeLearned(b, salted(7)); err != nil {
		t.Error(err)
	}
	if _, _, err := decodeLearned(b, salted(8)); err == nil {
		t.Error("accepted")
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

// When a model is trained, of what, and when it is taken back.
func TestDue(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	w := xds.Workload{Namespace: "agents", Kind: "Deployment", Name: "web"}
	lending := xds.Workload{Namespace: "other", Kind: "Deployment", Name: "lender"}
	of := func(calls, sessions int) *detector.Reservoir {
		r := detector.NewReservoir(reservoirCapacity, 1)
		for i := range calls {
			r.Add(detector.Row{Session: fmt.Sprint(i % sessions)}, detector.Admission{Released: true})
		}
		return r
	}
	rows := of(64, 8)
	model, err := detector.Train(rows.Rows(), detector.Options{MinCalls: 1, MinSessions: 1})
	must(t, err)
	usual := learning{budget: model.Info().FalsePositivesPerMillion, minCalls: 64, minSessions: 8, retrainCalls: 1000, retrainInterval: time.Hour}
	trained := func(calls int, source v1alpha1.ModelSource, admitted uint64) *learned {
		return &learned{reservoir: of(calls, 40), model: model, source: source, admitted: admitted, trainedAt: now}
	}
	with := func(have *learned, change func(*learned)) *learned { change(have); return have }
	set := func(change func(*learning)) learning { s := usual; change(&s); return s }
	cluster := set(func(s *learning) { s.prior = v1alpha1.PriorCluster })
	for name, tt := range map[string]struct {
		settings learning
		have     *learned
		frozen   bool
		want     task
	}{
		"too few calls":             {usual, &learned{reservoir: of(63, 8)}, false, nothing},
		"too few sessions":          {usual, &learned{reservoir: of(64, 7)}, false, nothing},
		"enough":                    {usual, &learned{reservoir: of(64, 8)}, false, trainOwn},
		"frozen":                    {usual, &learned{reservoir: of(64, 8)}, true, nothing},
		"failed just now":           {usual, &learned{reservoir: of(64, 8), retryAt: now.Add(time.Second)}, false, nothing},
		"failed a while ago":        {usual, &learned{reservoir: of(64, 8), retryAt: now}, false, trainOwn},
		"being trained":             {usual, &learned{reservoir: of(64, 8), training: true}, false, nothing},
		"trained":                   {usual, trained(127, v1alpha1.ModelOwn, 64), false, nothing},
		"doubled":                   {usual, trained(128, v1alpha1.ModelOwn, 64), false, trainOwn},
		"retrainCalls":              {set(func(s *learning) { s.retrainCalls = 50 }), trained(150, v1alpha1.ModelOwn, 100), false, trainOwn},
		"old, and nothing new":      {usual, with(trained(64, v1alpha1.ModelOwn, 64), func(h *learned) { h.trainedAt = now.Add(-time.Hour) }), false, nothing},
		"old":                       {usual, with(trained(65, v1alpha1.ModelOwn, 64), func(h *learned) { h.trainedAt = now.Add(-time.Hour) }), false, trainOwn},
		"another budget":            {set(func(s *learning) { s.budget++ }), trained(64, v1alpha1.ModelOwn, 64), false, trainOwn},
		"labelled":                  {usual, with(trained(64, v1alpha1.ModelOwn, 64), func(h *learned) { h.spoken++ }), false, trainOwn},
		"no prior to be had":        {set(func(s *learning) { s.prior = v1alpha1.PriorNamespace }), &learned{reservoir: of(5, 5)}, false, nothing},
		"a prior":                   {cluster, &learned{reservoir: of(0, 1)}, false, trainPrior},
		"a prior that is too small": {set(func(s *learning) { s.prior, s.minCalls = v1alpha1.PriorCluster, 500 }), &learned{reservoir: of(5, 5)}, false, nothing},
		"a prior and little new":    {cluster, trained(15, v1alpha1.ModelPrior, 0), false, nothing},
		"a prior and more":          {cluster, trained(16, v1alpha1.ModelPrior, 0), false, trainPrior},
		"a prior no more":           {usual, trained(16, v1alpha1.ModelPrior, 0), false, withdraw},
		"its own at last":           {cluster, trained(64, v1alpha1.ModelPrior, 40), false, trainOwn},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
			l.workloads[w] = tt.have
			l.workloads[lending] = trained(100, v1alpha1.ModelOwn, 100)
			l.settings[w.Namespace] = tt.settings
			l.frozen[w] = tt.frozen
			if got := l.due(w, tt.have); got != tt.want {
				t.Errorf("task %d, want %d", got, tt.want)
			}
		})
	}
}

// A workload whose calls become others is said to drift, with the features that moved.
func TestDrift(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	learner := newLearner(func(xds.Workload, *xdsv1.DetectorModel) error { return nil }, k, func() time.Time { return now }, func() {}, func() {}, newMetrics(), func(err error, what string) { t.Error(what, err) })
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: 512, MinSessions: 20}))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 512 {
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
	if s, n := status(50, true); s.Phase != v1alpha1.BaselineDrifting || len(s.Drift.Features) == 0 || s.Drift.Features[0].Name != features.Schema[3].Name || n != 1 {
		t.Errorf("shifted: %s, %+v", s.Phase, s.Drift)
	}
}

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
		"moved a little":      {with(func(s *LearnedState) { s.Drift = &drift{calls: 300} }), v1alpha1.BaselineReady, metav1.ConditionTrue, reasonReady},
		"drifting":            {with(func(s *LearnedState) { s.Drift = &drift{calls: 300, drifting: true} }), v1alpha1.BaselineDrifting, metav1.ConditionTrue, reasonDrifting},
		"frozen":              {with(func(s *LearnedState) { s.Frozen = true; s.Drift = &drift{drifting: true} }), v1alpha1.BaselineFrozen, metav1.ConditionTrue, reasonFrozen},
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

func TestParseFeedback(t *testing.T) {
	for annotation, want := range map[string]string{
		"a=attack":                          "[{a attack}]",
		" a = attack , b=false-positive, ,": "[{a attack} {b false-positive}]",
		"a=attack,a=attack":                 "[{a attack}]",
		"0198e7a4-aaaa-7bbb-8ccc-0d=attack": "[{0198e7a4-aaaa-7bbb-8ccc-0d attack}]",
		"":                                  "nothing is labelled; accepted is",
		",":                                 "nothing is labelled; accepted is",
		"a":                                 `"a" is no label; accepted is`,
		"a=Attack":                          `"a=Attack" is no label; accepted is`,
		"a=attack=b":                        "is no label; accepted is",
		"=attack":                           "is no label; accepted is",
		"a b=attack":                        "is no label; accepted is",
		"a=attack,a=false-positive":         "a is said to be both; accepted is",
		strings.Repeat("a", 65) + "=attack": "is no label; accepted is",
		strings.Repeat("x=attack,", 1000):   "bytes are too many; accepted is",
	} {
		got, err := parseFeedback(annotation)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("%.40q: %s, want %s", annotation, text, want)
		}
	}
}

// What counts for the false-positive rate, and what is remembered of calls.
func TestRecent(t *testing.T) {
	const model = "m"
	judged := policy.Anomaly{Ready: true, ModelDigest: model}
	over := policy.Anomaly{Ready: true, ModelDigest: model, Exceeds: true}
	deny := func(rules ...string) []policy.Reason {
		var out []policy.Reason
		for _, r := range rules {
			out = append(out, policy.Reason{Rule: r})
		}
		return out
	}
	for name, tt := range map[string]struct {
		anomaly policy.Anomaly
		reasons []policy.Reason
		tainted bool
		want    tally
	}{
		"released":                   {judged, nil, false, tally{1, 0}},
		"released though over":       {over, nil, false, tally{1, 1}},
		"refused for its score":      {over, deny("ANOM-001"), false, tally{1, 1}},
		"refused by a bundle's own":  {over, deny("mine"), false, tally{1, 1}},
		"refused for more than that": {over, deny("ANOM-001", "TOOL-002"), false, tally{}},
		"refused by the system":      {over, deny("SYS-001"), false, tally{}},
		"refused for something else": {judged, deny("TOOL-002"), false, tally{}},
		"in a tainted session":       {over, deny("ANOM-001"), true, tally{}},
		"judged by the model before": {policy.Anomaly{Ready: true, ModelDigest: "old"}, nil, false, tally{}},
		"before there was a model":   {policy.Anomaly{}, nil, false, tally{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := telemetry.Record{ID: "x", Action: policy.ActionAllow, Outcome: telemetry.OutcomeReleased, Anomaly: tt.anomaly, Reasons: tt.reasons}
			if len(tt.reasons) > 0 {
				r.Action, r.Outcome = policy.ActionDeny, telemetry.OutcomeRefused
			}
			var c recent
			c.note(&r, detector.Row{Session: "s"}, detector.Admission{Released: len(tt.reasons) == 0, Exceeds: tt.anomaly.Exceeds, Tainted: tt.tainted}, model, time.Now())
			if c.tally != tt.want {
				t.Errorf("tally %+v, want %+v", c.tally, tt.want)
			}
			if call := c.find("x"); call == nil {
				t.Error("not remembered")
			} else if call.counted {
				c.relabel(call, v1alpha1.LabelAttack)
				if c.tally != (tally{}) {
					t.Errorf("an attack counts: %+v", c.tally)
				}
				c.relabel(call, v1alpha1.LabelAttack)
				c.relabel(call, v1alpha1.LabelFalsePositive)
				if c.tally != tt.want {
					t.Errorf("no attack after all, and %+v", c.tally)
				}
			}
		})
	}
	var c recent
	for i := range 3000 {
		r := telemetry.Record{ID: fmt.Sprint(i), Action: policy.ActionAllow, Anomaly: judged}
		r.Anomaly.Exceeds = i%10 == 0
		c.note(&r, detector.Row{Session: "s", Evidence: make([]byte, 4<<10)}, detector.Admission{Released: true, Exceeds: r.Anomaly.Exceeds}, model, time.Unix(0, 0).Add(time.Duration(i)*windowEvery/2))
	}
	if len(c.exceeded) != maxExceeded || len(c.others) != maxSampled || len(c.window) != maxWindow || c.find("2990") == nil || c.find("0") != nil {
		t.Errorf("%d exceeded, %d others, %d in the window", len(c.exceeded), len(c.others), len(c.window))
	}
	size := 0
	for _, call := range append(slices.Clone(c.exceeded), c.others...) {
		size += len(call.row.Evidence)
	}
	if size > 2*maxRecentEvidence {
		t.Errorf("%d bytes of evidence", size)
	}
}

func FuzzFeedbackAnnotation(f *testing.F) {
	f.Add("a=attack,b=false-positive")
	f.Add("==,=")
	f.Fuzz(func(t *testing.T, annotation string) {
		got, err := parseFeedback(annotation)
		if err == nil && (len(got) == 0 || len(got) > maxFeedback) {
			t.Errorf("%d labels", len(got))
		}
		for _, s := range got {
			if !callID.MatchString(s.id) || s.label != v1alpha1.LabelAttack && s.label != v1alpha1.LabelFalsePositive {
				t.Errorf("label %+v", s)
			}
		}
	})
}

func FuzzCalls(f *testing.F) {
	f.Add(appendCalls(nil, []recentCall{{id: "a", label: "attack", counted: true, row: detector.Row{Session: "s", Evidence: evidenceOf("")}}, {id: "b"}}))
	f.Add([]byte{1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		calls, rest, err := decodeCalls(b, maxExceeded)
		if err != nil {
			return
		}
		again, left, err := decodeCalls(append(appendCalls(nil, calls), rest...), maxExceeded)
		if err != nil || len(again) != len(calls) || len(left) != len(rest) {
			t.Errorf("%d calls, read again %d: %v", len(calls), len(again), err)
		}
	})
}

// A workload of the longest texts has a baseline that can be kept all the same.
func TestABaselineIsBounded(t *testing.T) {
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	largest := 0
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace, wrote: func(_ string, n int) { largest = max(largest, n) }}
	learner := newLearner(func(xds.Workload, *xdsv1.DetectorModel) error { return nil }, k, func() time.Time { return now }, func() {}, func() {}, newMetrics(), func(err error, what string) { t.Error(what, err) })
	learner.salt = salted(7)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "wordy"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: reservoirCapacity}))
	random := rand.New(rand.NewPCG(1, 2))
	var texts [64][]byte
	for i := range texts {
		for range 14 {
			texts[i] = append(texts[i], fmt.Sprintf("%x ", random.Uint64())...)
			for range 300 {
				texts[i] = fmt.Appendf(texts[i], "w%c%c%c ", 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)))
			}
		}
		texts[i] = evidenceOf(string(texts[i]))
	}
	for i := range 2000 {
		learner.Record(id, record(random, i, func(r *telemetry.Record) {
			r.Session.ID, r.Evidence = fmt.Sprint("session-", i/12), texts[i%len(texts)]
		}))
		now = now.Add(5 * time.Second)
		learner.flush(l.ctx, false)
	}
	t.Logf("evidence of %d bytes a call; %.1f MB written at most", len(texts[0]), float64(largest)/1e6)
	if have := learner.workloads[id.Workload()]; have.bytes > 2*maxBaselineBytes {
		t.Errorf("%d bytes", have.bytes)
	}
}

// What one busy workload has written in an hour, to within what its calls look like.
func TestWhatIsWrittenInAnHour(t *testing.T) {
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	written, writes := 0, 0
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace, wrote: func(_ string, n int) { written, writes = written+n, writes+1 }}
	learner := newLearner(func(xds.Workload, *xdsv1.DetectorModel) error { return nil }, k, func() time.Time { return now }, func() {}, func() {}, newMetrics(), func(err error, what string) { t.Error(what, err) })
	learner.salt = salted(7)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "busy"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{}))
	random := rand.New(rand.NewPCG(1, 2))
	var evidence []byte
	for hour := range 3 {
		written, writes = 0, 0
		for second := range 3600 {
			r := telemetry.Record{}
			must(t, json.Unmarshal(record(random, hour*3600+second, nil), &r))
			r.Session.ID = fmt.Sprint("session-", (hour*3600+second)/12)
			evidence = wordy(random)
			r.Evidence = evidence
			b, err := json.Marshal(r)
			must(t, err)
			learner.Record(id, b)
			now = now.Add(time.Second)
			if second%10 == 0 {
				learner.flush(l.ctx, false)
				for learner.doOne(l.ctx) {
				}
			}
		}
		t.Logf("hour %d, a call a second of %d bytes of evidence: %d writes, %.1f MB", hour+1, len(evidence), writes, float64(written)/1e6)
		if writes > 6 || written > 8<<20 {
			t.Errorf("hour %d: %d writes, %d bytes", hour+1, writes, written)
		}
	}
}
