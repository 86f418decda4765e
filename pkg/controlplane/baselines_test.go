package controlplane

import (
	"math/rand/v2"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

// Who deletes a Baseline while nobody leads has what was learned forgotten all the same, also where there is another of its name by then.
func TestDeletedWhileNobodyLeads(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	pod := l.pod(namespace, "agent")
	w := xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	random := rand.New(rand.NewPCG(1, 2))
	learn := func(r *running) {
		s := l.sidecar(r, pod, "")
		for i := range 80 {
			s.SendRecord(record(random, i, nil))
		}
		s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
		l.until("the Baseline says so", func() bool {
			return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase == v1alpha1.BaselineReady
		})
		s.stop()
		r.stop()
	}
	r := l.start()
	learn(r)
	r = l.start()
	if r.learner.state(w).Model == "" {
		t.Fatal("nothing was kept")
	}
	r.stop()

	must(t, l.client.Delete(l.ctx, baseline))
	r = l.start()
	if s := r.learner.state(w); s.Model != "" || s.Calls != 0 {
		t.Errorf("of a Baseline that was deleted there is %+v", s)
	}
	learn(r)
	must(t, l.client.Delete(l.ctx, baseline))
	baseline = &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}, Spec: v1alpha1.BaselineSpec{Freeze: true}}
	l.create(baseline)
	r = l.start()
	if s := r.learner.state(w); s.Model != "" || s.Calls != 0 || !s.Frozen {
		t.Errorf("of a Baseline that was made anew there is %+v", s)
	}
}

// A Baseline that somebody made before its workload first called, to be frozen, is frozen from the first call on.
func TestFrozenBeforehand(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	r := l.start()
	l.create(&v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}, Spec: v1alpha1.BaselineSpec{Freeze: true}})
	w := xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}
	l.until("that is known", func() bool { return r.learner.state(w).Frozen })
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 10 {
		s.SendRecord(record(random, i, nil))
	}
	l.until("the calls have arrived", func() bool { return len(r.learner.known()) == 1 && s.Stats().Queued == 0 })
	if s := r.learner.state(w); s.Calls != 0 || !s.Frozen {
		t.Errorf("%d calls are learned: %+v", s.Calls, s)
	}
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	l.until("its Baseline says so", func() bool { l.get(baseline); return baseline.Status.Phase == v1alpha1.BaselineFrozen })
	l.update(baseline, func() { baseline.Spec.Freeze = false })
	l.until("that is known", func() bool { return !r.learner.state(w).Frozen })
	s.SendRecord(record(random, 11, nil))
	l.until("it is learned", func() bool { return r.learner.state(w).Calls > 0 })
}

// The Baseline of a workload that is forgotten, as it is gone and others want its room, says so, and takes no memory of the controller's.
func TestTheBaselineOfWhatIsGone(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(v1alpha1.DetectorSpec{})
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	random := rand.New(rand.NewPCG(1, 2))
	s.SendRecord(record(random, 1, nil))
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	calls := func(n int64) bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase != "" && baseline.Status.Calls == n
	}
	l.until("it is learned", func() bool { return calls(1) })
	s.stop()
	l.until("the sidecar is gone", func() bool { return len(r.Plane.discovery.Sidecars()) == 0 })
	must(t, r.learner.forget(l.ctx, xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}))
	l.until("its Baseline says so", func() bool { return calls(0) })
	l.until("nothing is left", func() bool {
		r.Plane.mu.Lock()
		defer r.Plane.mu.Unlock()
		return len(r.Plane.workloads)+len(r.Plane.seen) == 0
	})
}
