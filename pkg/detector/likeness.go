package detector

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// likeness tells how much a call is like those that were labelled attacks, and brings it farther from what is ordinary by that: up to the threshold and a little beyond. What is an attack by
// itself it leaves alone. It is a direction in the forest's common scale, found by a logistic regression of the labels against the calls that were learned; most calls have nothing in it and
// keep their distance to the last bit. Distances never fall by it, and it is heard only as far as the distances that few ordinary calls exceed rise by no more than likenessTolerance,
// out of fold: so that what an attack that nobody labelled may lose is that tolerance.
type likeness struct {
	weight, middle features.Vector // of each feature of a scaled row, and what it is in an ordinary one
	// from is the likeness of calls up to which nothing is changed; at to, half of gain is added to a distance, and never more than gain times what it was.
	from, to, gain float64
	// line is the distance that was the threshold's. Beyond it, what is added shrinks: nothing is brought farther than likenessBeyond of it.
	line float64
}

const (
	// likenessTolerance is by how much labels of attacks may let the threshold, and what is watched beside it, rise: as much as leaves of the forest may.
	likenessTolerance = 0.02
	// likenessGain is by how much of itself a distance grows at most.
	likenessGain = 2
	// likenessBeyond is how far beyond the line a call is brought by its likeness, as a share of it: labels bring calls over the threshold, and those that are far beyond it stay ahead.
	likenessBeyond = 0.25
	// likenessDecay is what each label leaves of those before it, as in iforest.FeedbackOptions.
	likenessDecay = 0.99
	// fewestLabels is how many labels of attacks are needed to tell what they have in common.
	fewestLabels = 4
	// likenessWorth is the share of the labels below the line that has to come over it, out of fold: where fewer do, attacks are not told from ordinary calls, and of these too many come along.
	likenessWorth = 0.4
	// likenessRidge keeps weights small where little is known.
	likenessRidge = 0.005
)

// of is the likeness of a scaled row: above 0 that of the attacks.
func (l *likeness) of(row []float32) float64 {
	sum := 0.0
	for i, x := range row {
		sum += l.part(i, x)
	}
	return sum
}

// part is what one feature adds to it.
func (l *likeness) part(i int, x float32) float64 {
	return float64(l.weight[i]) * (float64(x) - float64(l.middle[i]))
}

// raised is the distance of a row with its likeness. l may be nil.
func (l *likeness) raised(distance float64, row []float32) float64 {
	if l == nil {
		return distance
	}
	return l.raise(distance, l.of(row))
}

func (l *likeness) raise(distance, like float64) float64 {
	over := (like - l.from) / (l.to - l.from)
	if !(over > 0) || distance >= l.line*(1+likenessBeyond) {
		return distance
	}
	far := distance * (1 + l.gain*(1-1/(1+over)))
	if far > l.line {
		beyond := (far - l.line) / (likenessBeyond * l.line)
		far = l.line * (1 + likenessBeyond*(1-1/(1+beyond)))
	}
	return max(distance, far)
}

// credit adds to the credits of features what the likeness added to the distance, to each by its part in what makes the call like the attacks. The credits stay in order.
func (l *likeness) credit(credits []iforest.Contribution, row []float32, added float64) {
	sum := 0.0
	for i, x := range row {
		sum += max(0, l.part(i, x))
	}
	if !(added > 0 && sum > 0) {
		return
	}
	for k := range credits {
		i := credits[k].Feature
		credits[k].Credit += added * max(0, l.part(i, row[i])) / sum
	}
	slices.SortStableFunc(credits, func(a, b iforest.Contribution) int {
		return cmp.Or(cmp.Compare(b.Credit, a.Credit), cmp.Compare(a.Feature, b.Feature))
	})
}

// likenessBytes is how many bytes a likeness takes.
const likenessBytes = 2*4*features.Size + 4*8

func (l *likeness) append(b []byte) []byte {
	for _, v := range [...]*features.Vector{&l.weight, &l.middle} {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	for _, x := range [...]float64{l.from, l.to, l.gain, l.line} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return b
}

// readLikeness reads what append wrote; nil of nothing.
func readLikeness(r *reader) *likeness {
	n := r.count(likenessBytes)
	if n == 0 {
		return nil
	}
	l := new(likeness)
	for _, v := range [...]*features.Vector{&l.weight, &l.middle} {
		for i := range v {
			v[i] = r.float32()
		}
	}
	for _, x := range [...]*float64{&l.from, &l.to, &l.gain, &l.line} {
		*x = r.float64()
	}
	if n != likenessBytes || !finite(&l.weight) || !finite(&l.middle) || !(l.from >= 0 && l.to > l.from && l.to <= math.MaxFloat32) ||
		!(l.gain > 0 && l.gain <= likenessGain) || !(l.line > 0 && l.line <= math.MaxFloat32) {
		r.fail("labels that cannot be")
	}
	return l
}

// heardRows are the ordinary rows that labels are heard beside: as they are where less is known, each with the fold it was dealt to and its distance by a forest that had not learned it.
type heardRows struct {
	rows      [][]float32
	fold      []int
	folds     int
	distances []float64
	budget    float64
}

// likenessOf learns what labelled attacks have in common, those heard last counting most. It is nil where there are too few, or where it could not bring them over the threshold without
// bringing ordinary calls along. distance is the model's without it. The likeness of each ordinary row, by what was learned of those of other folds, comes along.
func likenessOf(labels []label, distance func(row []float32) float64, with heardRows) (l *likeness, ordinary []float64) {
	var attacks [][]float32
	for i := range labels {
		if labels[i].attack {
			attacks = append(attacks, labels[i].row[:])
		}
	}
	if len(attacks) < fewestLabels {
		return nil, nil
	}
	weights, far := make([]float64, len(attacks)), make([]float64, len(attacks))
	w := 1.0
	for i, x := range slices.Backward(attacks) {
		weights[i], far[i] = w, distance(x)
		w *= likenessDecay
	}
	l = direction(with.rows, attacks, weights)
	ordinary = make([]float64, len(with.rows))
	shown := make([]float64, len(attacks))
	for k := range with.folds {
		var rest, others [][]float32
		var counting []float64
		for i, x := range with.rows {
			if with.fold[i] != k {
				rest = append(rest, x)
			}
		}
		for i, x := range attacks {
			if i%with.folds != k {
				others, counting = append(others, x), append(counting, weights[i])
			}
		}
		if len(rest) == 0 || len(others) == 0 {
			return nil, nil
		}
		by := direction(rest, others, counting)
		for i, x := range with.rows {
			if with.fold[i] == k {
				ordinary[i] = by.of(x)
			}
		}
		for i, x := range attacks {
			if i%with.folds == k {
				shown[i] = by.of(x)
			}
		}
	}
	if !finite(&l.weight) || !finite(&l.middle) || !l.place(with, ordinary, far, shown, weights) {
		return nil, nil
	}
	return l, ordinary
}

// listen makes the likeness that a forest's labels allow, and has it in the scores that the forest gives to rows out of fold.
func listen(labels []label, forest *iforest.Forest, with heardRows, scores []float64) *likeness {
	unit := forest.CreditUnit()
	with.distances = make([]float64, len(scores))
	for i, s := range scores {
		with.distances[i] = distanceAt(s, unit)
	}
	l, ordinary := likenessOf(labels, func(row []float32) float64 { return distanceAt(forest.Score(row), unit) }, with)
	for i, like := range ordinary {
		if far := l.raise(with.distances[i], like); far > with.distances[i] {
			scores[i] = scoreAt(far, unit)
		}
	}
	return l
}

// place returns how far a scaled row is from what was learned, its likeness to labelled attacks included: as a score against the forest's ordinary row, and as a distance.
func (m *Model) place(row *features.Vector) (relative, distance float64) {
	unit := m.forest.CreditUnit()
	relative = m.forest.Score(row[:])
	distance = distanceAt(relative, unit)
	if far := m.like.raised(distance, row[:]); far > distance {
		return scoreAt(far, unit), far
	}
	return relative, distance
}

// watchedShares are the shares of ordinary calls, in budgets, whose distances are watched.
var watchedShares = []float64{0.2, 0.5, 1, 2, 5, 10}

// place finds where the likeness begins to count, and how much, and says whether that is worth it.
func (l *likeness) place(with heardRows, ordinary, far, shown, weights []float64) bool {
	lines := func(distances []float64) []float64 {
		sorted := slices.Sorted(slices.Values(distances))
		out := make([]float64, len(watchedShares))
		for i, share := range watchedShares {
			above := int(share * with.budget * float64(len(sorted)))
			out[i] = sorted[len(sorted)-1-min(above, len(sorted)/2)]
		}
		return out
	}
	const budget = 2 // its place in watchedShares
	before := lines(with.distances)
	l.line = before[budget]
	if !(l.line > 0) {
		return false
	}
	over := func(line float64, heard bool) (share, near float64) {
		all := 0.0
		for i, w := range weights {
			d := far[i]
			if heard {
				d = l.raise(d, shown[i])
			}
			if d > line {
				share += w
			}
			near += float64(w * min(d/line, 1+likenessBeyond/2))
			all += w
		}
		return share / all, near / all
	}
	had, _ := over(l.line, false)
	starts, ends := slices.Sorted(slices.Values(ordinary)), slices.Sorted(slices.Values(shown))
	at := func(sorted []float64, q float64) float64 {
		return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
	}
	best, most, worth := *l, -1.0, false
	raised := make([]float64, len(ordinary))
	for _, gain := range []float64{likenessGain, likenessGain / 2, likenessGain / 4} {
		for _, start := range []float64{0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1} {
			for _, end := range []float64{0.1, 0.25, 0.5} {
				l.gain, l.from, l.to = gain, max(0, at(starts, start)), at(ends, end)
				l.from += 0.2 * (l.to - l.from)
				if !(l.to > l.from) {
					continue
				}
				for i, d := range with.distances {
					raised[i] = l.raise(d, ordinary[i])
				}
				after := lines(raised)
				if rises(before, after) {
					continue
				}
				if share, near := over(after[budget], true); near > most {
					best, most, worth = *l, near, share > had && share-had >= likenessWorth*(1-had)
				}
			}
		}
	}
	*l = best
	return worth
}

// rises says whether any of the lines rose by more than the tolerance.
func rises(before, after []float64) bool {
	for i, line := range before {
		if after[i] > line*(1+likenessTolerance) {
			return true
		}
	}
	return false
}

// direction is the logistic regression of attacks against ordinary rows, both counting the same in all, by Newton's method, with features in deviations of at least minDeviation.
func direction(ordinary, attacks [][]float32, weights []float64) *likeness {
	l := new(likeness)
	var middle, inverse [features.Size]float64
	for _, x := range ordinary {
		for f, v := range x {
			middle[f] += float64(v) / float64(len(ordinary))
		}
	}
	for _, x := range ordinary {
		for f, v := range x {
			d := float64(v) - middle[f]
			inverse[f] += float64(d*d) / float64(len(ordinary))
		}
	}
	var used []int // features in which attacks differ from the ordinary row, or ordinary rows from each other
	for f := range inverse {
		varies := inverse[f] > 0 || slices.ContainsFunc(attacks, func(x []float32) bool { return float64(x[f]) != middle[f] })
		inverse[f] = 1 / max(math.Sqrt(inverse[f]), minDeviation)
		if varies {
			used = append(used, f)
		}
	}
	total := 0.0
	for _, w := range weights {
		total += w
	}
	n := len(used)
	type example struct {
		x      []float64 // and 1
		attack float64
		weight float64
	}
	examples := make([]example, 0, len(ordinary)+len(attacks))
	add := func(row []float32, attack, weight float64) {
		x := make([]float64, n+1)
		for k, f := range used {
			x[k] = (float64(row[f]) - middle[f]) * inverse[f]
		}
		x[n] = 1
		examples = append(examples, example{x, attack, weight})
	}
	for _, x := range ordinary {
		add(x, 0, 1/float64(len(ordinary)))
	}
	for i, x := range attacks {
		add(x, 1, weights[i]/total)
	}
	const steps = 8
	w := make([]float64, n+1)
	gradient := make([]float64, n+1)
	curvature := make([][]float64, n+1)
	for i := range curvature {
		curvature[i] = make([]float64, i+1)
	}
	for range steps {
		for i := range w {
			gradient[i] = -float64(likenessRidge * w[i])
			clear(curvature[i])
			curvature[i][i] = likenessRidge
		}
		gradient[n], curvature[n][n] = 0, 1e-6
		for _, e := range examples {
			z := 0.0
			for i, x := range e.x {
				z += float64(w[i] * x)
			}
			p := 1 / (1 + math.Exp(-z))
			slope, bend := e.weight*(e.attack-p), e.weight*max(p*(1-p), 1e-3)
			for i, x := range e.x {
				if x == 0 {
					continue
				}
				gradient[i] += float64(slope * x)
				row, times := curvature[i], bend*x
				for j, y := range e.x[:i+1] {
					row[j] += float64(times * y)
				}
			}
		}
		solve(curvature, gradient)
		for i := range w {
			w[i] += gradient[i]
		}
	}
	for k, f := range used {
		l.weight[f], l.middle[f] = float32(w[k]*inverse[f]), float32(middle[f])
	}
	return l
}

// solve puts the solution of ax = b into b, by Cholesky's method; a is the lower half of a positive definite matrix, and is used up.
func solve(a [][]float64, b []float64) {
	for i := range a {
		for j := range i + 1 {
			s := a[i][j]
			for k := range j {
				s -= float64(a[i][k] * a[j][k])
			}
			if i == j {
				a[i][i] = math.Sqrt(s)
			} else {
				a[i][j] = s / a[j][j]
			}
		}
	}
	for i := range b {
		for k := range i {
			b[i] -= float64(a[i][k] * b[k])
		}
		b[i] /= a[i][i]
	}
	for i := len(b) - 1; i >= 0; i-- {
		for k := i + 1; k < len(b); k++ {
			b[i] -= float64(a[k][i] * b[k])
		}
		b[i] /= a[i][i]
	}
}
