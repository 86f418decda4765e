package detector

import (
	"errors"
	"math"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
	"sallyport.dev/sallyport/pkg/policy"
)

// Errors that callers of Load branch on.
var (
	// ErrSchema says that the model is of another feature schema than this program extracts.
	ErrSchema = errors.New("model of another feature schema")
	// ErrCorrupt says that the bytes are no model, or one of a version that is not known, or damaged.
	ErrCorrupt = errors.New("not a valid model")
)

// Judge names features above the percentile explainFrom and the score of explainPart of the threshold: below, the names would be of interest to nobody and cost
// three times the score. Of a workload whose calls are all but alike, an ordinary one is beyond any percentile by a hair.
const (
	explainFrom = 0.9
	explainPart = 0.5
)

// topFeatures is how many features Judge names.
const topFeatures = 5

// Model is what was learned of one workload: a forest, the distribution of its scores over calls it had not seen, and the
// threshold that the false-positive budget allows. It never changes and is safe for concurrent use.
type Model struct {
	forest      *iforest.Forest
	calibration *iforest.Calibration
	reference   *iforest.Reference
	cleared     []features.Vector  // calls that people said were all right, scaled
	baseline    *features.Baseline // nil where the words of calls were not kept
	like        *likeness          // to labelled attacks; nil where there is none
	info        Info
	most        float64 // the largest distance among the calibration's scores
	threshold   float64
	encoded     []byte
	digest      string
}

// Info is what a model says of itself.
type Info struct {
	// Schema is the feature schema's id.
	Schema string
	// Calls and Sessions are how many the model learned from.
	Calls, Sessions int
	// PriorRows are those of the calls that are of other workloads, FeedbackRows the calls that people had judged.
	PriorRows, FeedbackRows int
	// Words says that the model has a baseline: that enough of the calls had evidence, see Row.
	Words bool
	// Threshold is the score above which a call exceeds.
	Threshold float64
	// FalsePositivesPerMillion is the budget asked for. With PriorRows, the threshold is set for a tenth of it.
	FalsePositivesPerMillion int
	// SpentPerMillion is the part of the budget that calls left out of training had spent; see Options.Trimmed.
	SpentPerMillion int
	// Supported says that there were enough calls to find a threshold for the budget. If there were not, the threshold lies beyond the largest
	// score that any of the calls got out of fold, which one in Calls+1 benign calls is expected to exceed: by as much as the distances of other agents' calls thin out, which
	// may not hold for these.
	Supported bool
	// Ceiling is the distance beyond which the threshold may not be, for the sake of earlier models; 0 for none. See Options.Earlier.
	Ceiling float64
	// Held says that the threshold is the ceiling's, and that the budget would have it higher.
	Held bool
}

// lentCaution is by how much a model that learned from other workloads' calls as well keeps under its budget, which holds for workloads like those, and lentMargin by how much farther away
// a call may be besides. Of recorded agents, each judged by what the others had lent and 0, 40 or 150 calls of its own, 0 to 15 % of the benign calls exceeded without the former, 0 to 11 % without
// the latter and 0 to 6 % with both; first exposed calls found were 1.00, and with both 0.90 to 1.00.
const (
	lentCaution = 10
	lentMargin  = 1.2
	// leastLimit is the least distance that a threshold is set at. Calls that are all the same do not say how much ordinary calls may differ, and one that is a byte longer is none to refuse. In a
	// constructed agent that always has the same document, one with another number in it is at 0.01, with a few other words at 1.1 to 1.5, and with an order at 2 and more.
	leastLimit = 0.5
)

// newModel completes a model from its parts.
func newModel(forest *iforest.Forest, calibration *iforest.Calibration, reference *iforest.Reference, cleared []features.Vector, baseline *features.Baseline, like *likeness, info Info) *Model {
	info.Words = baseline != nil
	m := &Model{forest: forest, calibration: calibration, reference: reference, cleared: cleared, baseline: baseline, like: like, info: info}
	m.most = distanceAt(calibration.Quantile(0), forest.CreditUnit())
	budget, spent := float64(info.FalsePositivesPerMillion)/1e6, float64(info.SpentPerMillion)/1e6
	if info.PriorRows > 0 {
		budget, spent = budget/lentCaution, spent/lentCaution
	}
	_, m.info.Supported = calibration.Threshold(budget)
	// Of a million calls, those that spent some of the budget are not among the scores; the rest of it is for those that are. Were the threshold raised beyond all of them for
	// what was spent, whoever sends calls that are refused would raise it.
	limit := distanceAt(calibration.Quantile((budget-spent)/(1-spent)), forest.CreditUnit())
	if alone := budget * float64(calibration.Size()+1); info.PriorRows > 0 {
		limit *= lentMargin
	} else if alone < 1 {
		limit = m.most * math.Pow(alone, -1./tailPower)
	}
	if info.Ceiling > 0 && limit > max(info.Ceiling, leastLimit) {
		limit, m.info.Held = info.Ceiling, true
	}
	limit = max(limit, leastLimit)
	m.threshold = scoreAt(limit, ordinary)
	m.info.Threshold = m.threshold
	return m
}

// Baseline is what the model knows of the workload: what features.Extract wants of a call that it is to judge. It is nil for a nil model and
// where too few rows of its training had evidence, see Row.
func (m *Model) Baseline() *features.Baseline {
	if m == nil {
		return nil
	}
	return m.baseline
}

// Digest is the SHA-256 of the model's binary form, in hex; "" for a nil model.
func (m *Model) Digest() string {
	if m == nil {
		return ""
	}
	return m.digest
}

// Info returns what the model says of itself; zero for a nil model.
func (m *Model) Info() Info {
	if m == nil {
		return Info{}
	}
	return m.info
}

// Judge scores a call's features. It names the features that raised the score only where the percentile is above 0.9 and the score above half of the threshold, which
// keeps the common call free of allocations.
//
// A nil model has learned nothing: its verdict is not ready. Features that are not all finite numbers get score 1 and exceed.
func (m *Model) Judge(v *features.Vector) policy.Anomaly {
	a := m.judge(v)
	if a.Percentile > explainFrom && a.Score > explainPart*a.Threshold {
		a.TopFeatures = m.top(v)
	}
	return a
}

// Explain is Judge with the features named whatever the score.
func (m *Model) Explain(v *features.Vector) policy.Anomaly {
	a := m.judge(v)
	if a.Ready {
		a.TopFeatures = m.top(v)
	}
	return a
}

func (m *Model) judge(v *features.Vector) policy.Anomaly {
	if m == nil || m.forest == nil {
		return policy.Anomaly{TopFeatures: []policy.Feature{}}
	}
	a := policy.Anomaly{Ready: true, Threshold: m.threshold, ModelDigest: m.digest, TopFeatures: []policy.Feature{}}
	if !finite(v) {
		a.Score, a.Percentile, a.Exceeds = 1, 1-rarest, true
		return a
	}
	var row features.Vector
	scaledBy(&row, v, m.scale())
	relative, distance := m.place(&row)
	a.Score = scoreAt(distance, ordinary)
	if a.Score > m.threshold {
		if near := m.clear(&row, distance); near < distance {
			distance, relative, a.Score = near, scoreAt(near, m.forest.CreditUnit()), scoreAt(near, ordinary)
		}
	}
	a.Percentile = m.percentile(relative, distance)
	a.Exceeds = !(a.Score <= m.threshold)
	return a
}

// maxCleared is how many calls a model keeps that people said were all right: the latest.
const maxCleared = 256

// percentile is conformal as far as the calibration's scores go. Beyond, where that would be the same for all, what is left of it is taken to thin out as distances do.
func (m *Model) percentile(relative, distance float64) float64 {
	if distance <= m.most {
		return m.calibration.Percentile(relative)
	}
	return 1 - max(rarest, thinned(distance, m.most)/float64(m.calibration.Size()+1))
}

// clear returns the distance of a row that exceeds, less where a call that was cleared is nearer. Only what is about as near as
// ordinary calls are to each other is let pass by that.
func (m *Model) clear(row *features.Vector, distance float64) float64 {
	for i := range m.cleared {
		sum := 0.0
		for f, x := range m.cleared[i] {
			d := float64(row[f] - x)
			sum += float64(d * d)
		}
		distance = min(distance, math.Sqrt(sum))
	}
	return distance
}

// scale is by what the forest's features are multiplied.
func (m *Model) scale() *[features.Size]float32 { return scaleFor(m.baseline, m.info.PriorRows > 0) }

// top returns the features that raised the score most.
func (m *Model) top(v *features.Vector) []policy.Feature {
	out := []policy.Feature{}
	if !finite(v) {
		return out // a verdict is encoded as JSON, which has no NaN
	}
	var row features.Vector
	scaledBy(&row, v, m.scale())
	var most []iforest.Contribution
	if m.like != nil {
		most = m.explain(v)
	} else {
		most = m.forest.ExplainTop(row[:], topFeatures)
	}
	for _, c := range most {
		if len(out) == topFeatures || !(c.Credit > 0) {
			break
		}
		out = append(out, feature(c, v))
	}
	return out
}

// Contributions returns what each feature did to the score, the one that raised it most first. Features that were not asked have no part and
// come with contribution 0. Contributions are in distance: they add up to how much farther than an ordinary call this one is from the calls that were learned.
func (m *Model) Contributions(v *features.Vector) []policy.Feature {
	if m == nil || m.forest == nil {
		return nil
	}
	out := make([]policy.Feature, 0, features.Size)
	var asked [features.Size]bool
	negative := 0 // where those that lowered the score begin
	for _, c := range m.explain(v) {
		asked[c.Feature] = true
		if c.Credit >= 0 {
			negative++
		}
		out = append(out, feature(c, v))
	}
	lowered := append([]policy.Feature(nil), out[negative:]...)
	out = out[:negative]
	for i, yes := range asked {
		if !yes {
			out = append(out, policy.Feature{Name: features.Schema[i].Name, Value: float64(v[i])})
		}
	}
	return append(out, lowered...)
}

// Unit is the distance of an ordinary call, against which contributions are to be seen; 0 for a nil model.
func (m *Model) Unit() float64 {
	if m == nil || m.forest == nil {
		return 0
	}
	return m.forest.CreditUnit()
}

func (m *Model) explain(v *features.Vector) []iforest.Contribution {
	var row features.Vector
	scaledBy(&row, v, m.scale())
	credits := m.forest.Explain(row[:])
	if m.like != nil {
		distance := distanceAt(m.forest.Score(row[:]), m.forest.CreditUnit())
		m.like.credit(credits, row[:], m.like.raised(distance, row[:])-distance)
	}
	return credits
}

func feature(c iforest.Contribution, v *features.Vector) policy.Feature {
	return policy.Feature{Name: features.Schema[c.Feature].Name, Value: float64(v[c.Feature]), Contribution: c.Credit}
}
