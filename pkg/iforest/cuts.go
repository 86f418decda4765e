package iforest

import (
	"math"
	"slices"
)

// The cuts of the options beyond the paper: on several columns, and by gain.

// varying draws up to g.columns distinct features that vary in idx into
// node i's terms, with random coefficients, and returns the first of them.
// Features found constant move to the front of g.features, as in classicCut.
func (g *grower) varying(idx []int32, constant, i int) (feature, nowConstant int, ok bool) {
	picked := 0
	for picked < g.columns && constant+picked < g.dims {
		k := constant + picked + g.below(g.dims-constant-picked)
		f := g.features[k]
		if lo, hi := g.bounds(idx, int(f)); lo == hi {
			first := constant + picked
			g.features[k], g.features[first] = g.features[first], f
			g.features[first], g.features[constant] = g.features[constant], f
			constant++
			continue
		}
		at := constant + picked
		g.features[k], g.features[at] = g.features[at], f
		if picked == 0 {
			feature = int(f)
		}
		if g.columns > 1 {
			g.terms[i*g.columns+picked] = term{uint32(f), g.coefficient(int(f))}
		}
		picked++
	}
	if picked == 0 {
		return 0, constant, false
	}
	if g.columns > 1 {
		terms := g.terms[i*g.columns : (i+1)*g.columns]
		for k := picked; k < len(terms); k++ {
			terms[k] = terms[0] // fewer vary than are wanted
		}
	}
	return feature, constant, true
}

// coefficient draws the coefficient of a feature: from about a normal
// distribution (a sum of four uniform ones, as a logarithm may round
// differently from machine to machine), over the feature's deviation.
func (g *grower) coefficient(f int) float32 {
	u := g.unit() + g.unit() + g.unit() + g.unit() - 2
	c := u / g.dev[f]
	return float32(max(-maxInverse, min(maxInverse, c)))
}

// projected fills g.z with what node i compares, and returns its bounds. It is
// not ok where they are not finite.
func (g *grower) projected(idx []int32, feature, i int) (z []float32, lo, hi float32, ok bool) {
	z = g.z[:0]
	for _, r := range idx {
		z = append(z, g.at(g.rows[r], feature, i))
	}
	g.z = z
	lo, hi = z[0], z[0]
	for _, v := range z {
		if v-v != 0 {
			return nil, 0, 0, false
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	return z, lo, hi, true
}

// planeCut draws a hyperplane over features that vary in idx, and a threshold
// that leaves neither side empty.
func (g *grower) planeCut(idx []int32, constant, i int) (feature int, threshold float32, nowConstant int, ok bool) {
	_, constant, ok = g.varying(idx, constant, i)
	if !ok {
		return 0, 0, constant, false
	}
	_, lo, hi, ok := g.projected(idx, 0, i)
	if !ok || lo == hi {
		return 0, 0, constant, false
	}
	t := float32(float64(lo) + float64(g.unit()*(float64(hi)-float64(lo))))
	if t < lo || t >= hi { // rounded out of the range
		t = lo
	}
	return 0, t, constant, true
}

// randomCut is extendedCut for hyperplanes, over any features. The plane's
// reach is that of its standardised features put together.
func (g *grower) randomCut(idx []int32, depth, i int) (feature int, threshold float32, ok bool) {
	if g.columns == 1 {
		feature, threshold = g.extendedCut(idx, depth)
		return feature, threshold, true
	}
	terms := g.terms[i*g.columns : (i+1)*g.columns]
	reach := 0.0
	for k := range terms {
		f := g.below(g.dims)
		for range 16 { // distinct, if it can be had cheaply
			if !slices.ContainsFunc(terms[:k], func(t term) bool { return t.feature == uint32(f) }) {
				break
			}
			f = g.below(g.dims)
		}
		terms[k] = term{uint32(f), g.coefficient(f)}
		r := float64(terms[k].coef) * g.dev[f]
		reach += float64(r * r)
	}
	_, lo, hi, ok := g.projected(idx, 0, i)
	if !ok {
		return 0, 0, false
	}
	e := math.Ldexp(float64(math.Sqrt(reach)*g.extension), -depth)
	from := float64(lo) - e
	to := float64(hi) + e
	t := from + float64(g.unit()*(to-from))
	return 0, float32(max(-math.MaxFloat32, min(math.MaxFloat32, t))), true
}

// gainCut draws candidate splits over features that vary in idx and takes the
// one, and its threshold, of the largest gain.
func (g *grower) gainCut(idx []int32, constant, i int) (feature int, threshold float32, nowConstant int, ok bool) {
	var chosen [MaxColumns]term
	most := math.Inf(-1)
	terms := g.terms[min(len(g.terms), i*g.columns):]
	for range g.candidates {
		var f int
		var varies bool
		if f, constant, varies = g.varying(idx, constant, i); !varies {
			break
		}
		z, lo, hi, finite := g.projected(idx, f, i)
		if !finite || lo == hi {
			continue
		}
		slices.Sort(z)
		if gain, t := bestThreshold(z, g.gain); gain > most {
			most, feature, threshold, ok = gain, f, t, true
			copy(chosen[:], terms)
		}
	}
	copy(terms, chosen[:])
	if g.columns > 1 {
		feature = 0
	}
	return feature, threshold, constant, ok
}

// bestThreshold returns the threshold that divides z, which ascends and
// varies, with the largest gain
//
//	pooled:   1 − (n_l σ_l + n_r σ_r) / (n σ)
//	averaged: 1 − (σ_l + σ_r) / 2σ
//
// of standard deviations: Cortes 2021, section 3; Liu et al. 2010, equation 1.
func bestThreshold(z []float32, kind Gain) (gain float64, threshold float32) {
	n := float64(len(z))
	mean := 0.0
	for _, v := range z {
		mean += float64(v)
	}
	mean /= n
	sum, squares := 0.0, 0.0 // of what is right of the threshold
	for _, v := range z {
		d := float64(v) - mean
		sum += d
		squares += float64(d * d)
	}
	sigma := func(n, sum, squares float64) float64 {
		m := sum / n
		return math.Sqrt(max(0, squares/n-float64(m*m)))
	}
	all := sigma(n, sum, squares)
	gain = math.Inf(-1)
	left, leftSquares := 0.0, 0.0
	for i := range len(z) - 1 {
		d := float64(z[i]) - mean
		q := float64(d * d)
		left, leftSquares = left+d, leftSquares+q
		sum, squares = sum-d, squares-q
		if z[i] == z[i+1] {
			continue
		}
		nl, nr := float64(i+1), n-float64(i+1)
		sl, sr := sigma(nl, left, leftSquares), sigma(nr, sum, squares)
		lost := float64(sl+sr) / 2
		if kind == GainPooled {
			lost = (float64(nl*sl) + float64(nr*sr)) / n
		}
		g := -lost
		if all > 0 {
			g = 1 - lost/all
		}
		if g > gain {
			gain = g
			threshold = float32(float64(float64(z[i])+float64(z[i+1])) / 2)
			if threshold >= z[i+1] {
				threshold = z[i]
			}
		}
	}
	return gain, threshold
}
