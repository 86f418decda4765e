package controlplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

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
	encoded, err := encodeModel(model)
	must(t, err)
	usual := learning{budget: model.Info().FalsePositivesPerMillion, minCalls: 64, minSessions: 8, retrainCalls: 1000, retrainInterval: time.Hour}
	trained := func(calls int, source v1alpha1.ModelSource, admitted uint64) *learned {
		return &learned{reservoir: of(calls, 40), model: encoded, source: source, admitted: admitted, trainedAt: now}
	}
	with := func(have *learned, change func(*learned)) *learned { change(have); return have }
	set := func(change func(*learning)) learning { s := usual; change(&s); return s }
	cluster := set(func(s *learning) { s.prior = v1alpha1.PriorCluster })
	within := set(func(s *learning) { s.prior = v1alpha1.PriorNamespace })
	prior := func(calls int, admitted uint64, of v1alpha1.PriorScope) *learned {
		return with(trained(calls, v1alpha1.ModelPrior, admitted), func(h *learned) { h.scope = of })
	}
	more := func(s *learning) { s.minCalls, s.minSessions = 500, 50 }
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
		"failed just now":           {usual, &learned{reservoir: of(64, 8), failed: failure{retryAt: now.Add(time.Second)}}, false, nothing},
		"failed a while ago":        {usual, &learned{reservoir: of(64, 8), failed: failure{retryAt: now}}, false, trainOwn},
		"being trained":             {usual, &learned{reservoir: of(64, 8), training: true}, false, nothing},
		"trained":                   {usual, trained(127, v1alpha1.ModelOwn, 64), false, nothing},
		"doubled":                   {usual, trained(128, v1alpha1.ModelOwn, 64), false, trainOwn},
		"retrainCalls":              {set(func(s *learning) { s.retrainCalls = 50 }), trained(150, v1alpha1.ModelOwn, 100), false, trainOwn},
		"old, and nothing new":      {usual, with(trained(64, v1alpha1.ModelOwn, 64), func(h *learned) { h.trainedAt = now.Add(-time.Hour) }), false, nothing},
		"old":                       {usual, with(trained(65, v1alpha1.ModelOwn, 64), func(h *learned) { h.trainedAt = now.Add(-time.Hour) }), false, trainOwn},
		"another budget":            {set(func(s *learning) { s.budget++ }), trained(64, v1alpha1.ModelOwn, 64), false, trainOwn},
		"labelled":                  {usual, with(trained(64, v1alpha1.ModelOwn, 64), func(h *learned) { h.spoken++ }), false, trainOwn},
		"no prior to be had":        {within, &learned{reservoir: of(5, 5)}, false, nothing},
		"a prior":                   {cluster, &learned{reservoir: of(0, 1)}, false, trainPrior},
		"a prior that is too small": {set(func(s *learning) { s.prior, s.minCalls = v1alpha1.PriorCluster, 500 }), &learned{reservoir: of(5, 5)}, false, nothing},
		"a prior and little new":    {cluster, prior(15, 0, v1alpha1.PriorCluster), false, nothing},
		"a prior and more":          {cluster, prior(16, 0, v1alpha1.PriorCluster), false, trainPrior},
		"a prior no more":           {usual, prior(16, 0, v1alpha1.PriorCluster), false, withdraw},
		"a prior of fewer":          {within, prior(5, 0, v1alpha1.PriorCluster), false, withdraw},
		"a prior of more":           {cluster, prior(5, 0, v1alpha1.PriorNamespace), false, trainPrior},
		"no more to be had":         {set(func(s *learning) { s.prior, s.minCalls = v1alpha1.PriorCluster, 500 }), prior(5, 0, v1alpha1.PriorNamespace), false, nothing},
		"more are wanted now":       {set(more), trained(64, v1alpha1.ModelOwn, 64), false, nothing},
		"and labelled":              {set(more), with(trained(64, v1alpha1.ModelOwn, 64), func(h *learned) { h.spoken++ }), false, trainOwn},
		"and with another budget":   {set(func(s *learning) { more(s); s.budget++ }), trained(64, v1alpha1.ModelOwn, 64), false, trainOwn},
		"its own at last":           {cluster, prior(64, 40, v1alpha1.PriorCluster), false, trainOwn},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
			l.workloads[w] = tt.have
			l.workloads[lending] = trained(100, v1alpha1.ModelOwn, 100)
			l.settings[w.Namespace] = tt.settings
			l.frozen[baselineOf(w)] = tt.frozen
			if got := l.due(w, tt.have); got != tt.want {
				t.Errorf("task %d, want %d", got, tt.want)
			}
		})
	}
}

// What waits is done in a fair order: labels before what has no model, that before what is only old, and nothing waits for ever.
func TestNext(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	l.settings["a"] = learning{budget: 10_000, minCalls: 16, minSessions: 2, retrainCalls: 16, retrainInterval: time.Hour}
	add := func(name string, change func(*learned)) {
		w := xds.Workload{Namespace: "a", Kind: "Deployment", Name: name}
		have := newLearned(w, now)
		for i := range 40 {
			have.reservoir.Add(detector.Row{Session: fmt.Sprint(i)}, detector.Admission{Released: true})
		}
		change(have)
		l.workloads[w] = have
	}
	model := &encodedModel{info: detector.Info{FalsePositivesPerMillion: 10_000}}
	owns := func(have *learned) {
		have.model, have.source, have.trainedAt, have.admitted = model, v1alpha1.ModelOwn, now, 40
	}
	done := func() string {
		w, have, what := l.next()
		if have == nil {
			return ""
		}
		if what != trainOwn && what != withdraw {
			t.Fatalf("task %d of %v", what, w)
		}
		delete(l.workloads, w)
		return w.Name
	}
	add("old", func(have *learned) { owns(have); have.admitted = 10 })
	if w, _, _ := l.next(); w.Name != "old" {
		t.Fatalf("%v is first", w)
	}
	now = now.Add(time.Minute)
	add("cold", func(*learned) {})
	add("labelled", func(have *learned) { owns(have); have.spoken = 1 })
	add("content", owns)
	add("withdrawn", func(have *learned) {
		*have = *newLearned(xds.Workload{}, now)
		have.model, have.source = model, v1alpha1.ModelPrior
	})
	for _, want := range []string{"withdrawn", "labelled", "cold"} {
		if got := done(); got != want {
			t.Errorf("%q is next, want %s", got, want)
		}
	}
	// What is old has its turn, however many come that are cold.
	_, _, _ = l.next()
	now = now.Add(coldFirst)
	add("cold again", func(*learned) {})
	for _, want := range []string{"old", "cold again", ""} {
		if got := done(); got != want {
			t.Errorf("%q is next, want %s", got, want)
		}
	}
}

// A training that fails is said to have, and is tried again, later each time, until it does not.
func TestTrainingFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	learner := l.learner(nil, &now)
	var reported []string
	learner.report = func(err error, what string) { reported = append(reported, what+": "+err.Error()) }
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	w := id.Workload()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 64 {
		learner.Record(id, record(random, i, func(r *telemetry.Record) { r.Session.ID = fmt.Sprint("session-", i%4) }))
	}
	for i := range 4 { // all that there was to learn from was an attack
		must(t, learner.label(w, said{fmt.Sprint(i), v1alpha1.LabelAttack}))
	}
	learner.configure(id.Namespace, learningOf(&quick))
	var waited []time.Duration
	for range 9 {
		if !learner.doOne(l.ctx) || learner.doOne(l.ctx) {
			t.Fatal("not tried, or twice")
		}
		s := learner.state(w)
		waited = append(waited, s.RetryAt.Sub(now))
		now = s.RetryAt
	}
	s := learner.state(w)
	if want := "[5m0s 10m0s 20m0s 40m0s 1h20m0s 2h40m0s 5h20m0s 6h0m0s 6h0m0s]"; fmt.Sprint(waited) != want || s.Failed != 9 || !strings.Contains(s.FailedFor, "too few calls") || len(reported) != 9 {
		t.Errorf("waited %v; %d failed, for %q; reported %q", waited, s.Failed, s.FailedFor, reported)
	}
	for i := 100; i < 200; i++ {
		learner.Record(id, record(random, i, func(r *telemetry.Record) { r.Session.ID = fmt.Sprint("new-", i%8) }))
	}
	for learner.doOne(l.ctx) {
	}
	if s := learner.state(w); s.Failed != 0 || s.Source != v1alpha1.ModelOwn || s.Unheard {
		t.Errorf("state %+v", s)
	}

	// Other settings are a reason to try at once.
	have := learner.workloads[w]
	have.fail(errPanicked, now)
	other := quick
	other.FalsePositivesPerMillion++
	learner.configure(id.Namespace, learningOf(&other))
	if learner.due(w, have) != trainOwn {
		t.Error("waits still")
	}
}

// A training that panics is one that fails.
func TestATrainingPanics(t *testing.T) {
	model, err := new(job).train(func([]detector.Row, detector.Options) (*detector.Model, error) { panic("no such bin") })
	if !errors.Is(err, errPanicked) || !strings.Contains(err.Error(), "no such bin") || model != nil {
		t.Errorf("model %v, %v", model, err)
	}
}

// A controller that is restarted in the middle of a training trains again: there are as many calls as there were.
func TestARestartWhileTraining(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	first := l.learner(nil, &now)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		first.Record(id, record(random, i, nil))
	}
	first.configure(id.Namespace, learningOf(&quick))
	first.workloads[id.Workload()].training = true // and does not come to an end
	if first.doOne(l.ctx) {
		t.Fatal("trained twice at a time")
	}
	first.flush(l.ctx, true)
	second := l.learner(nil, &now)
	must(t, second.restore(l.ctx, salted(0)))
	second.configure(id.Namespace, learningOf(&quick))
	for second.doOne(l.ctx) {
	}
	if s := second.state(id.Workload()); s.Source != v1alpha1.ModelOwn || s.TrainedOn != 80 {
		t.Errorf("state %+v", s)
	}
}

// A training is told what the model before says of itself, also of a leader before, so that its threshold does not rise by much at a time.
func TestATrainingKnowsTheModelBefore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	var told []detector.Info
	train := func(learner *Learner, calls int) {
		learner.fit = func(rows []detector.Row, o detector.Options) (*detector.Model, error) {
			told = append(told, o.Earlier)
			return detector.Train(rows, o)
		}
		learner.configure(id.Namespace, learningOf(&quick))
		for i := range calls {
			learner.Record(id, record(random, i, nil))
		}
		for learner.doOne(l.ctx) {
		}
	}
	first := l.learner(nil, &now)
	train(first, 64)
	info := first.workloads[id.Workload()].model.info
	second := l.learner(nil, &now)
	must(t, second.restore(l.ctx, salted(0)))
	train(second, 64)
	if len(told) != 2 || told[0] != (detector.Info{}) || told[1] != info || info.Threshold == 0 {
		t.Errorf("told %+v, the first model says %+v", told, info)
	}
}

// Who deletes a Baseline while a model is trained has it forgotten all the same, and the model is neither kept nor published.
func TestForgottenWhileTraining(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	published := false
	learner.publish = func(_ xds.Workload, m *xdsv1.DetectorModel) error { published = m != nil; return nil }
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		learner.Record(id, record(random, i, nil))
	}
	learner.configure(id.Namespace, learningOf(&quick))
	learner.fit = func(rows []detector.Row, o detector.Options) (*detector.Model, error) {
		must(t, learner.forget(l.ctx, id.Workload()))
		return detector.Train(rows, o)
	}
	for learner.doOne(l.ctx) {
	}
	all, _, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 0 || published || len(learner.known()) != 0 || learner.taken() != 0 {
		t.Errorf("%d kept, published %v, known %v, %d bytes", len(all), published, learner.known(), learner.taken())
	}
}
