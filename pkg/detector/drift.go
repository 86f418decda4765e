package detector

import (
	"math"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// Report says how far calls have moved from those that a model learned from.
type Report struct {
	// Calls is how many were compared.
	Calls int
	// Score is the shift of the scores.
	Score iforest.Shift
	// Ordinary is the share of the calls that score no more than half of the calls did that the model learned from: about 0.5 where nothing has moved, and more where calls have become plainer.
	Ordinary float64
	// Features are the shifts of the features that have drifted, the largest PSI first.
	Features []FeatureShift
}

// FeatureShift is the shift of one feature.
type FeatureShift struct {
	Name string
	iforest.Shift
}

// Drifted reports whether the scores have: whether calls as a whole are less usual, or more, than the model's threshold was made for. Features may drift without, as where the agent was given
// another model of the same habits.
func (r Report) Drifted() bool { return r.Score.Drifted() }

// driftHalf is the share of calls whose scores are told apart for drift. How ordinary the more ordinary half is says nothing: where calls repeat each other, it changes with the last bit
// of a surprise.
const driftHalf = 0.5

// Drift compares rows with those that the model learned from: calls since then, all of them or a fair sample, in which those that exceeded are not left out. Features that come of a
// comparison with the baseline are what the vector has, as they were when the call was judged; scores are those of the rows by this model. Rows whose features are not all
// finite numbers are left out. For a nil model nothing has moved.
func (m *Model) Drift(rows []Row) Report {
	d, ordinary := m.shifts(rows)
	r := Report{Calls: d.Rows, Score: d.Score}
	if d.Rows > 0 {
		r.Ordinary = float64(ordinary) / float64(d.Rows)
	}
	for _, f := range d.Top() {
		r.Features = append(r.Features, FeatureShift{features.Schema[f].Name, d.Features[f]})
	}
	return r
}

// Shifts says of the scores and of every feature, drifted or not, what Drift says of those that have; the features are in the order of features.Schema. Of a nil model, or no
// rows, it is zero.
func (m *Model) Shifts(rows []Row) iforest.Drift {
	d, _ := m.shifts(rows)
	return d
}

// shifts says besides how many of the rows score no more than the more ordinary half did.
func (m *Model) shifts(rows []Row) (d iforest.Drift, ordinary int) {
	if m == nil || m.forest == nil {
		return iforest.Drift{}, 0
	}
	w := m.reference.NewWindow()
	floor, by := m.calibration.Quantile(driftHalf), m.scale()
	var row features.Vector
	for i := range rows {
		if finite(&rows[i].Vector) {
			scaledBy(&row, &rows[i].Vector, by)
			score, _ := m.place(&row)
			if score <= floor {
				ordinary++
			}
			w.Add(row[:], max(score, floor))
		}
	}
	d = w.Drift()
	if math.IsInf(d.Score.PSIChance, 0) { // of no calls
		return iforest.Drift{}, 0
	}
	return d, ordinary
}
