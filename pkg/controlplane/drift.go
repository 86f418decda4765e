package controlplane

import (
	"fmt"
	"math"

	"sallyport.dev/sallyport/pkg/detector"
)

// lookAgain is how many calls come into the window before drift is looked for again, for which the model is decoded.
const lookAgain = 32

// drift is how the calls of late differ from those that a model learned from. A workload is said to be drifting where the scores have moved and more calls exceed than the budget
// allows: rates and the time of day move the scores of any workload, and tell nothing as long as the threshold holds.
type drift struct {
	Calls    int              `json:"calls"`
	ScorePSI float64          `json:"scorePSI"`
	Moved    bool             `json:"moved,omitempty"`    // the scores have, beyond chance
	Sank     bool             `json:"sank,omitempty"`     // and they are lower than they were
	Exceeds  bool             `json:"exceeds,omitempty"`  // more calls exceed than the budget allows
	Features []driftedFeature `json:"features,omitempty"` // most first
}

type driftedFeature struct {
	Name string  `json:"name"`
	PSI  float64 `json:"psi"`
}

// beyond says whether the workload is drifting.
func (d *drift) beyond() bool { return d != nil && d.Moved && d.Exceeds }

// sank says whether its calls have become plainer, and exceed no more often than they may.
func (d *drift) sank() bool { return d != nil && d.Moved && d.Sank && !d.Exceeds }

// plainer is by how much more than half of the calls must score in what was the lower half, besides what chance explains.
const plainer = 0.1

// driftOf compares calls with what the model learned from.
func driftOf(encoded *encodedModel, window []detector.Row) (*drift, error) {
	model, err := detector.Load(encoded.encoded)
	if err != nil {
		return nil, fmt.Errorf("find drift: %w", err)
	}
	r := model.Drift(window)
	d := &drift{Calls: r.Calls, ScorePSI: finite(r.Score.PSI), Moved: r.Drifted()}
	d.Sank = r.Ordinary > 0.5+plainer+3*math.Sqrt(0.25/float64(max(1, r.Calls)))
	for _, f := range r.Features[:min(len(r.Features), shownFeatures)] {
		d.Features = append(d.Features, driftedFeature{f.Name, finite(f.PSI)})
	}
	return d, nil
}

// finite is a number that JSON has.
func finite(x float64) float64 { return max(-math.MaxFloat64, min(math.MaxFloat64, x)) }
