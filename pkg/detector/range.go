package detector

import "sallyport.dev/sallyport/pkg/features"

// Range says how a feature was distributed in the calls that a model learned from. All are NaN where that is not known.
type Range struct {
	// Low, Middle and High are what about one call in sixteen, half of them and all but one in sixteen do not exceed; Most is the largest value there was.
	Low, Middle, High, Most float64
}

// Ranges returns how each feature was distributed, in the order of features.Schema; nil for a nil model.
func (m *Model) Ranges() []Range {
	if m == nil || m.reference == nil {
		return nil
	}
	by := m.scale()
	out := make([]Range, features.Size)
	for f := range out {
		at := func(p float64) float64 { return float64(m.reference.Quantile(f, p)) / float64(by[f]) } // NaN where the feature is not looked at
		out[f] = Range{at(1. / 16), at(1. / 2), at(15. / 16), at(1)}
	}
	return out
}
