package controlplane

import (
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
)

// drift is how the calls of late differ from those that a model learned from.
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
