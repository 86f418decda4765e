package evaluation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// AUC is the probability that a positive scores higher than a negative, ties counting half: the area under the ROC curve. It is NaN where one side is
// empty.
func AUC(negatives, positives []float64) float64 {
	c := Comparison{Negatives: plain(negatives), Positives: plain(positives)}
	sum, n := 0., 0.
	newOrder(&c).place(nil, func(_ int, weight, below, _ float64) {
		sum += weight * below
		n += weight
	})
	return sum / n
}

// TPR is the share of positives above the score that at most a share fpr of the negatives exceed: the true-positive rate at that false-positive rate. It
// is NaN where one side is empty.
func TPR(negatives, positives []float64, fpr float64) float64 {
	c := Comparison{Negatives: plain(negatives), Positives: plain(positives)}
	found, n := 0., 0.
	newOrder(&c).place(nil, func(_ int, weight, _, atLeast float64) {
		if atLeast <= fpr+rounding {
			found += weight
		}
		n += weight
	})
	return found / n
}

// rounding is what shares of numbers of calls are compared within: 0.29 of 100 calls are 29.
const rounding = 1e-9

func plain(scores []float64) []Scored {
	out := make([]Scored, len(scores))
	for i, s := range scores {
		out[i].Score = s
	}
	return out
}

// Scored is the score of one call, or of one session.
type Scored struct {
	Score float64
	// Group is what belongs together for a reason that new traffic will not share, as the calls of one task do: resampling keeps it together.
	Group string
	// Family is that of the attack, in a positive.
	Family string
}

// Comparison holds what one model scored: each positive is compared with the negatives of its own comparison and with no others, as scores of another
// workload's model are on another scale.
type Comparison struct {
	// Agent is whose calls they are.
	Agent string
	// Seed counts repetitions with other folds: the same calls are in comparisons of each.
	Seed                 int
	Negatives, Positives []Scored
}

// order is a comparison with its scores in order.
type order struct {
	items []item // by score, highest first
	where *Comparison
}

type item struct {
	score    float64
	at       int // in Negatives or Positives
	positive bool
}

func newOrder(c *Comparison) *order {
	o := &order{items: make([]item, 0, len(c.Negatives)+len(c.Positives)), where: c}
	for i := range c.Negatives {
		o.items = append(o.items, item{score: known(c.Negatives[i].Score), at: i})
	}
	for i := range c.Positives {
		o.items = append(o.items, item{score: known(c.Positives[i].Score), at: i, positive: true})
	}
	slices.SortFunc(o.items, func(a, b item) int { return cmp.Compare(b.score, a.score) })
	return o
}

// known takes what has no score for the highest: what cannot be judged is not ordinary.
func known(score float64) float64 {
	if math.IsNaN(score) {
		return math.Inf(1)
	}
	return score
}

// place calls each with every positive of weight above 0: the share of negatives below it, ties counting half, and the share at least as high. weigh
// gives a call's weight; nil is 1 for all. Without negatives nothing is called.
func (o *order) place(weigh func(positive bool, at int) float64, each func(at int, weight, below, atLeast float64)) {
	if weigh == nil {
		weigh = func(bool, int) float64 { return 1 }
	}
	total := 0.
	for _, it := range o.items {
		if !it.positive {
			total += weigh(false, it.at)
		}
	}
	if total == 0 {
		return
	}
	above := 0.
	for i := 0; i < len(o.items); {
		equal, j := 0., i
		for ; j < len(o.items) && o.items[j].score == o.items[i].score; j++ {
			if !o.items[j].positive {
				equal += weigh(false, o.items[j].at)
			}
		}
		for _, it := range o.items[i:j] {
			if it.positive {
				if w := weigh(true, it.at); w > 0 {
					each(it.at, w, 1-(above+equal/2)/total, (above+equal)/total)
				}
			}
		}
		above += equal
		i = j
	}
}

// Interval is a confidence interval.
type Interval struct{ Low, High float64 }

// Wilson is the score interval of a rate that was seen in n trials: of Wilson (1927), which keeps its level for rates near 0 and 1 as well. It presumes that
// trials are independent; calls of one session are not, so that it is too narrow for them. With no trials it is 0 to 1.
func Wilson(rate float64, n int, confidence float64) Interval {
	if n <= 0 || math.IsNaN(rate) {
		return Interval{0, 1}
	}
	z := normalQuantile(0.5 + confidence/2)
	m := float64(n)
	centre := (rate + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(rate*(1-rate)/m+z*z/(4*m*m))
	return Interval{max(0, min(rate, centre-half)), min(1, max(rate, centre+half))}
}

// Newcombe is the interval of an AUC of so many positives and negatives, of Newcombe (2006, method 5): those values that are as far from the one seen as the variance of
// Hanley and McNeil at them allows, which keeps its level near 1 as well, where resampling sees nothing vary. It presumes that scores are independent, as Wilson does. With no
// positives or no negatives it is 0 to 1.
func Newcombe(auc float64, positives, negatives int, confidence float64) Interval {
	if positives <= 0 || negatives <= 0 || math.IsNaN(auc) {
		return Interval{0, 1}
	}
	z := normalQuantile(0.5 + confidence/2)
	m, n := float64(positives), float64(negatives)
	more := (m+n)/2 - 1
	beyond := func(x float64) bool {
		variance := x * (1 - x) * (1 + more*((1-x)/(2-x)+x/(1+x))) / (m * n)
		return (x-auc)*(x-auc) > z*z*variance
	}
	// The end that lies between what is within and what is beyond.
	end := func(within, out float64) float64 {
		for range 60 {
			if middle := (within + out) / 2; beyond(middle) {
				out = middle
			} else {
				within = middle
			}
		}
		return within
	}
	return Interval{end(auc, 0), end(auc, 1)}
}

// Figure is a number and what it may be: the ends of its confidence interval. All are NaN where there is nothing to compute it from.
type Figure struct{ Value, Low, High float64 }

// MarshalJSON implements json.Marshaler: what is not there is null.
func (f Figure) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(struct {
		Value *float64 `json:"value"`
		Low   *float64 `json:"low"`
		High  *float64 `json:"high"`
	}{orNil(f.Value), orNil(f.Low), orNil(f.High)})
	if err != nil {
		return nil, fmt.Errorf("encode a figure: %w", err)
	}
	return b, nil
}

func orNil(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// Line is what a detector did to the positives of one agent, of one family, or of all.
type Line struct {
	Name string `json:"name"`
	// Positives are how many there were, and Negatives how many benign calls of the same agents, each counted once however often it was scored.
	Positives int    `json:"positives"`
	Negatives int    `json:"negatives"`
	AUC       Figure `json:"auc"`
	// TPR holds the true-positive rate at each of the rates asked for.
	TPR []Figure `json:"tpr"`
}

// Table holds the lines of one question: of all, of each agent, of each family, and the mean over families, in which a family with few attacks counts as
// much as one with many.
type Table struct {
	All        Line   `json:"all"`
	FamilyMean Line   `json:"family_mean"`
	Agents     []Line `json:"agents"`
	Families   []Line `json:"families"`
	// AgentFamilies are the families of each agent, in the order of Agents, each in the order of Families; AgentFamilyMeans the means over them.
	AgentFamilies    [][]Line `json:"agent_families"`
	AgentFamilyMeans []Line   `json:"agent_family_means"`
	// ROC is the curve of all: the share of positives found where at most so many negatives are.
	ROC []Point `json:"roc"`
}

// Point is a point of a ROC curve.
type Point struct {
	FPR float64 `json:"fpr"`
	TPR float64 `json:"tpr"`
}

// Resampling says how intervals are found: by drawing groups with replacement, so often, and taking the quantiles of what comes of it. Each agent's
// groups are drawn from its own. The models stay as they are: what other training data would have made of them is not in the interval.
type Resampling struct {
	Samples    int
	Confidence float64
	Seed       uint64
}

// cell sums up the positives of one agent and family.
type cell struct {
	weight, auc float64
	found       []float64
}

// tally holds cells by agent and family.
type tally struct {
	families int
	cells    []cell
}

func newTally(agents, families, rates int) *tally {
	t := &tally{families: families, cells: make([]cell, agents*families)}
	for i := range t.cells {
		t.cells[i].found = make([]float64, rates)
	}
	return t
}

func (t *tally) clear() {
	for i := range t.cells {
		c := &t.cells[i]
		c.weight, c.auc = 0, 0
		clear(c.found)
	}
}

// figures of the positives of the cells that keep says: AUC and then each rate's TPR.
func (t *tally) figures(keep func(agent, family int) bool) []float64 {
	var sum cell
	sum.found = make([]float64, len(t.cells[0].found))
	for i := range t.cells {
		if c := &t.cells[i]; keep(i/t.families, i%t.families) {
			sum.weight += c.weight
			sum.auc += c.auc
			for r, f := range c.found {
				sum.found[r] += f
			}
		}
	}
	out := []float64{sum.auc / sum.weight}
	for _, f := range sum.found {
		out = append(out, f/sum.weight)
	}
	return out
}

// lines returns the figures of every line of a table, in the order of slots.
func (t *tally) lines(agents int) [][]float64 {
	var out [][]float64
	mean := func(of func(family int) []float64) []float64 {
		sum := make([]float64, 1+len(t.cells[0].found))
		n := 0.
		for f := range t.families {
			x := of(f)
			if math.IsNaN(x[0]) {
				continue // none of this family, here or in this sample
			}
			n++
			for i := range sum {
				sum[i] += x[i]
			}
		}
		for i := range sum {
			sum[i] /= n
		}
		return sum
	}
	ofFamily := func(f int) []float64 { return t.figures(func(_, g int) bool { return f == g }) }
	out = append(out, t.figures(func(int, int) bool { return true }), mean(ofFamily))
	for f := range t.families {
		out = append(out, ofFamily(f))
	}
	for a := range agents {
		out = append(out, t.figures(func(b, _ int) bool { return a == b }))
		one := func(f int) []float64 { return t.figures(func(b, g int) bool { return a == b && f == g }) }
		out = append(out, mean(one))
		for f := range t.families {
			out = append(out, one(f))
		}
	}
	return out
}

// Compare computes a table with TPR at each of the rates. A figure over several comparisons is the mean over their positives of what each
// is in its own: how much of its negatives it exceeds, for the AUC; whether it is above what at most so many of them exceed, for a TPR. The interval of a TPR is no
// narrower than Wilson's, and that of an AUC no narrower than Newcombe's.
func Compare(comparisons []Comparison, rates []float64, r Resampling) Table {
	agents, families := indices(comparisons, func(c *Comparison, yield func(string)) { yield(c.Agent) }), indices(comparisons, func(c *Comparison, yield func(string)) {
		for i := range c.Positives {
			yield(c.Positives[i].Family)
		}
	})
	t := Table{}
	if len(agents.names) == 0 || len(families.names) == 0 {
		none := Line{AUC: nothing, TPR: slices.Repeat([]Figure{nothing}, len(rates))}
		t.All, t.FamilyMean = none, none
		t.All.Name, t.FamilyMean.Name = "all", "mean over families"
		for i := range comparisons {
			if comparisons[i].Seed == 0 {
				t.All.Negatives += len(comparisons[i].Negatives)
			}
		}
		return t
	}

	orders := make([]*order, len(comparisons))
	groups := make([]drawn, len(agents.names))
	members := make([]struct{ negative, positive []int }, len(comparisons)) // each call's group
	family := make([][]int, len(comparisons))
	for i := range comparisons {
		c := &comparisons[i]
		orders[i] = newOrder(c)
		g := &groups[agents.of[c.Agent]]
		for j := range c.Negatives {
			members[i].negative = append(members[i].negative, g.index(c.Negatives[j].Group))
		}
		for j := range c.Positives {
			members[i].positive = append(members[i].positive, g.index(c.Positives[j].Group))
			family[i] = append(family[i], families.of[c.Positives[j].Family])
		}
	}

	sum := newTally(len(agents.names), len(families.names), len(rates))
	pass := func(weighted bool, each func(atLeast float64)) [][]float64 {
		sum.clear()
		for i, o := range orders {
			a := agents.of[o.where.Agent]
			var weigh func(bool, int) float64
			if weighted {
				times := groups[a].times
				weigh = func(positive bool, at int) float64 {
					if positive {
						return times[members[i].positive[at]]
					}
					return times[members[i].negative[at]]
				}
			}
			o.place(weigh, func(at int, weight, below, atLeast float64) {
				c := &sum.cells[a*sum.families+family[i][at]]
				c.weight += weight
				c.auc += weight * below
				for k, rate := range rates {
					if atLeast <= rate+rounding {
						c.found[k] += weight
					}
				}
				if each != nil {
					each(atLeast)
				}
			})
		}
		return sum.lines(len(agents.names))
	}

	var reached []float64
	values := pass(false, func(atLeast float64) { reached = append(reached, atLeast) })
	t.ROC = curve(reached)

	samples := make([][][]float64, len(values)) // line, figure, sample
	for i := range samples {
		samples[i] = make([][]float64, 1+len(rates))
	}
	rng := rand.New(rand.NewPCG(r.Seed, 0x626f6f74))
	for range r.Samples {
		for i := range groups {
			groups[i].draw(rng)
		}
		for i, line := range pass(true, nil) {
			for k, x := range line {
				if !math.IsNaN(x) {
					samples[i][k] = append(samples[i][k], x)
				}
			}
		}
	}
	figure := func(line, k int) Figure { return interval(values[line][k], samples[line][k], r.Confidence) }

	next := 0
	take := func(name string, keep func(agent, family string) bool) Line {
		l := Line{Name: name, AUC: figure(next, 0)}
		attacked := map[string]bool{}
		for i := range comparisons {
			c := &comparisons[i]
			for j := range c.Positives {
				if keep(c.Agent, c.Positives[j].Family) {
					attacked[c.Agent] = true
					if c.Seed == 0 {
						l.Positives++
					}
				}
			}
		}
		for i := range comparisons {
			if c := &comparisons[i]; c.Seed == 0 && attacked[c.Agent] {
				l.Negatives += len(c.Negatives)
			}
		}
		l.AUC = widened(l.AUC, Newcombe(l.AUC.Value, l.Positives, l.Negatives, r.Confidence))
		for k := range rates {
			f := figure(next, 1+k)
			l.TPR = append(l.TPR, widened(f, Wilson(f.Value, l.Positives, r.Confidence)))
		}
		next++
		return l
	}
	everything := func(string, string) bool { return true }
	t.All = take("all", everything)
	t.FamilyMean = take("mean over families", everything)
	for _, f := range families.names {
		t.Families = append(t.Families, take(f, func(_, g string) bool { return f == g }))
	}
	for _, a := range agents.names {
		t.Agents = append(t.Agents, take(a, func(b, _ string) bool { return a == b }))
		t.AgentFamilyMeans = append(t.AgentFamilyMeans, take("mean over families", func(b, _ string) bool { return a == b }))
		var of []Line
		for _, f := range families.names {
			of = append(of, take(f, func(b, g string) bool { return a == b && f == g }))
		}
		t.AgentFamilies = append(t.AgentFamilies, of)
	}
	return t
}

var nothing = Figure{math.NaN(), math.NaN(), math.NaN()}

// interval takes quantiles of samples around a value: Efron's bias-corrected ones, which are others than those of the level where the value is not in the middle
// of the samples. That is so for rates at a threshold that is one of the largest scores: without its call, which a third of the samples do not draw, the threshold
// is lower. With fewer than two samples there is no interval.
func interval(value float64, samples []float64, confidence float64) Figure {
	if len(samples) < 2 || math.IsNaN(value) {
		return Figure{value, math.NaN(), math.NaN()}
	}
	slices.Sort(samples)
	n := float64(len(samples))
	first, _ := slices.BinarySearch(samples, value-rounding)
	last, _ := slices.BinarySearch(samples, value+rounding)
	bias := normalQuantile(min(max(float64(first+last)/2, 0.5), n-0.5) / n)
	z := normalQuantile(0.5 + confidence/2)
	return Figure{value, min(value, quantile(samples, normal(2*bias-z))), max(value, quantile(samples, normal(2*bias+z)))}
}

// normal is the distribution function of the standard normal distribution, and normalQuantile its inverse.
func normal(z float64) float64         { return math.Erfc(-z/math.Sqrt2) / 2 }
func normalQuantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }

// quantile of sorted values, between them in proportion.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// curve is the ROC curve of positives that reach these shares of negatives, from (0, ·) to (1, 1).
func curve(atLeast []float64) []Point {
	slices.Sort(atLeast)
	out := []Point{{0, 0}}
	for i := 0; i < len(atLeast); {
		j := i
		for j < len(atLeast) && atLeast[j] == atLeast[i] {
			j++
		}
		p := Point{atLeast[i], float64(j) / float64(len(atLeast))}
		if last := &out[len(out)-1]; last.FPR == p.FPR {
			*last = p
		} else {
			out = append(out, p)
		}
		i = j
	}
	if last := out[len(out)-1]; last.FPR < 1 {
		out = append(out, Point{1, last.TPR})
	}
	return out
}

// at is the share of positives found at a rate.
func at(curve []Point, fpr float64) float64 {
	tpr := 0.
	for _, p := range curve {
		if p.FPR > fpr+rounding {
			break
		}
		tpr = p.TPR
	}
	return tpr
}

// index of names.
type index struct {
	names []string
	of    map[string]int
}

func indices(comparisons []Comparison, of func(*Comparison, func(string))) index {
	x := index{of: map[string]int{}}
	for i := range comparisons {
		of(&comparisons[i], func(name string) { x.of[name] = 0 })
	}
	for name := range x.of {
		x.names = append(x.names, name)
	}
	slices.Sort(x.names)
	for i, name := range x.names {
		x.of[name] = i
	}
	return x
}

// drawn is how often each group of an agent was drawn.
type drawn struct {
	of    map[string]int
	times []float64
}

func (d *drawn) index(group string) int {
	if d.of == nil {
		d.of = map[string]int{}
	}
	i, ok := d.of[group]
	if !ok {
		i = len(d.of)
		d.of[group] = i
		d.times = append(d.times, 1)
	}
	return i
}

func (d *drawn) draw(rng *rand.Rand) {
	clear(d.times)
	for range d.times {
		d.times[rng.IntN(len(d.times))]++
	}
}

// Counted is one benign call and how often, of the times it was judged, it was over a threshold.
type Counted struct {
	Agent, Group string
	Share        float64
}

// Realised is the share of calls that were over the threshold, with the interval that resampling groups gives it and that of Wilson, which is wider where
// groups are few or none of them was ever over.
func Realised(calls []Counted, r Resampling) Figure {
	if len(calls) == 0 {
		return nothing
	}
	type group struct{ n, over float64 }
	agents := map[string]int{}
	var groups []map[string]int
	var sums [][]group
	for _, c := range calls {
		a, ok := agents[c.Agent]
		if !ok {
			a = len(agents)
			agents[c.Agent] = a
			groups, sums = append(groups, map[string]int{}), append(sums, nil)
		}
		g, ok := groups[a][c.Group]
		if !ok {
			g = len(sums[a])
			groups[a][c.Group] = g
			sums[a] = append(sums[a], group{})
		}
		sums[a][g].n++
		sums[a][g].over += c.Share
	}
	n, over := 0., 0.
	for _, gs := range sums {
		for _, g := range gs {
			n += g.n
			over += g.over
		}
	}
	rng := rand.New(rand.NewPCG(r.Seed, 0x72617465))
	var samples []float64
	for range r.Samples {
		m, o := 0., 0.
		for _, gs := range sums {
			for range gs {
				g := gs[rng.IntN(len(gs))]
				m += g.n
				o += g.over
			}
		}
		samples = append(samples, o/m)
	}
	f := interval(over/n, samples, r.Confidence)
	return widened(f, Wilson(f.Value, len(calls), r.Confidence))
}

// widened is the figure with an interval that is no narrower than another, which samples fall short of where all are alike, as where all or none of the calls count.
func widened(f Figure, w Interval) Figure {
	switch {
	case math.IsNaN(f.Value):
		return f
	case math.IsNaN(f.Low):
		return Figure{f.Value, w.Low, w.High}
	}
	return Figure{f.Value, min(f.Low, w.Low), max(f.High, w.High)}
}
