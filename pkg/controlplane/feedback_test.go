package controlplane

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

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
	say("100=benign", "FeedbackRefused", `"100=benign" is no label`)
	say(many(maxFeedback+1), "FeedbackRefused", "65 labels are too many: at most 64 at a time")
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

// many are so many labels.
func many(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint(i, "=attack"))
	}
	return strings.Join(out, ",")
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
		many(maxFeedback + 1):               "65 labels are too many: at most 64 at a time",
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

// Of a session that attacked nothing is learned, also when its label is no more among those that are kept.
func TestOldLabels(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range maxLabels + 20 {
		session := func(r *telemetry.Record) { r.Session.ID = fmt.Sprint("session-", i) }
		l.Record(id, record(random, 2*i, session))
		l.Record(id, record(random, 2*i+1, func(r *telemetry.Record) { session(r); r.Anomaly = policy.Anomaly{Ready: true, Exceeds: true} }))
		must(t, l.label(id.Workload(), said{fmt.Sprint(2*i + 1), v1alpha1.LabelAttack}))
	}
	have := l.workloads[id.Workload()]
	if j := l.job(id.Workload(), have, trainOwn, learningOf(&quick)); len(j.rows) != 0 || len(j.options.Feedback) != maxLabels {
		t.Errorf("%d calls are learned, with %d labels", len(j.rows), len(j.options.Feedback))
	}
	// What somebody takes back is learned from.
	must(t, l.label(id.Workload(), said{fmt.Sprint(2*(maxLabels+19) + 1), v1alpha1.LabelFalsePositive}))
	if j := l.job(id.Workload(), have, trainOwn, learningOf(&quick)); len(j.rows) != 1 {
		t.Errorf("%d calls are learned", len(j.rows))
	}
}
