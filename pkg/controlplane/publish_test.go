package controlplane

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// A prior that is withdrawn while it is being kept is not published after all.
func TestWithdrawnWhileKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	learner := l.learner(k, &now)
	lending, quiet := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "lending"}, xds.Workload{Namespace: "others", Kind: "Deployment", Name: "quiet"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		learner.Record(lending, record(random, i, nil))
	}
	learner.configure(lending.Namespace, learningOf(&quick))
	for learner.doOne(l.ctx) {
	}
	published := make(chan bool, 4)
	learner.publish = func(_ xds.Workload, m *xdsv1.DetectorModel) error { published <- m != nil; return nil }
	withdrawn := make(chan struct{})
	k.wrote = func(string, int) {
		k.wrote = nil
		learner.configure(quiet.Namespace, learningOf(&quick))
		go func() {
			defer close(withdrawn)
			learner.doOne(l.ctx)
		}()
		l.until("the prior is withdrawn", func() bool { return learner.state(quiet).Model == "" })
	}
	shared := quick
	shared.SharedPrior = true
	learner.configure(quiet.Namespace, learningOf(&shared))
	must(t, learner.meet(l.ctx, []xds.Workload{quiet}))
	if !learner.doOne(l.ctx) {
		t.Fatal("no prior was due")
	}
	<-withdrawn
	close(published)
	last := true
	for one := range published {
		last = one
	}
	if last {
		t.Error("what was withdrawn is published")
	}
	sum := 0
	for _, w := range learner.known() {
		sum += learner.workloads[w].bytes
		learner.weigh(learner.workloads[w])
	}
	if sum != learner.taken() {
		t.Errorf("%d bytes are counted, %d are taken", sum, learner.taken())
	}
}

// What is learned anew while the old is forgotten is not withdrawn with it.
func TestLearnedAnewWhileForgotten(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	learner := l.learner(nil, &now)
	w := xds.Workload{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	learn := func() {
		for i := range 80 {
			learner.Record(xds.Identity{Namespace: w.Namespace, Kind: w.Kind, Name: w.Name}, record(random, i, nil))
		}
		for learner.doOne(l.ctx) {
		}
	}
	learner.configure(w.Namespace, learningOf(&quick))
	learn()
	there := false
	learner.publish = func(_ xds.Workload, m *xdsv1.DetectorModel) error { there = m != nil; return nil }
	unlock := learner.keeping.lock(w) // as while something is kept
	forgotten := make(chan error)
	go func() { forgotten <- learner.forget(l.ctx, w) }()
	learned := make(chan struct{})
	go func() {
		defer close(learned)
		l.until("it is forgotten", func() bool { return learner.state(w).Model == "" })
		learn()
	}()
	unlock()
	must(t, <-forgotten)
	<-learned
	if is := learner.state(w).Model != ""; is != there || !is {
		t.Errorf("learned %v, published %v", is, there)
	}
}

// failing is a client that fails to write for a while.
type failing struct {
	client.Client
	err error
}

func (f *failing) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	if f.err != nil {
		return f.err
	}
	return f.Client.Create(ctx, o, options...)
}

// What could not be kept is tried again soon, and not only when it would be written anyhow.
func TestKeptAfterAFailure(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	broken := &failing{l.client, errors.New("not now")}
	k := &keeper{client: broken, reader: l.client, namespace: l.namespace}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	reported := 0
	learner.report = func(error, string) { reported++ }
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		learner.Record(id, record(random, i, nil))
	}
	learner.configure(id.Namespace, learningOf(&quick))
	for learner.doOne(l.ctx) {
	}
	if s := learner.state(id.Workload()); s.Source != v1alpha1.ModelOwn || reported != 1 {
		t.Fatalf("%+v, %d reported", s, reported)
	}
	learner.flush(l.ctx, false)
	if reported != 1 {
		t.Error("tried again at once")
	}
	broken.err = nil
	now = now.Add(keepAgain)
	learner.flush(l.ctx, false)
	if all, _, err := k.load(l.ctx, keptBaseline); err != nil || len(all) != 1 {
		t.Errorf("%d are kept, %v", len(all), err)
	}
}
