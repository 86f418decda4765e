package controlplane

import (
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
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
