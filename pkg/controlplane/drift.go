package controlplane

import (
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
)

// drift is how the calls of late differ from those that a model learned from. A workload is said to be drifting where the scores have moved and more calls exceed than the budget
// allows: rates and the time of day move the scores of any workload, and tell nothing as long as the threshold holds.
type drift struct {
	calls    int
	scorePSI float64
	drifting bool
	features []driftedFeature // most first
}

type driftedFeature struct {
	name string
	psi  float64
}

// driftOf compares calls with what the model learned from.
func driftOf(model *detector.Model, window []features.Vector) *drift {
	rows := make([]detector.Row, len(window))
	for i := range window {
		rows[i].Vector = window[i]
	}
	r := model.Drift(rows)
	d := &drift{calls: r.Calls, scorePSI: r.Score.PSI, drifting: r.Drifted()}
	for _, f := range r.Features {
		d.features = append(d.features, driftedFeature{f.Name, f.PSI})
	}
	return d
}
