package controlplane

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

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
