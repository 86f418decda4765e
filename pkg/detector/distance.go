package detector

import "math"

// ordinary is the distance that a model scores 0.5: about that of an ordinary call from the nearest that is known (recorded agents: 1.5 to 2.5; see scale for what 1 is). It is the same for all
// models, as scale is: against one line for all folds, or for all agents, distances are easier to compare than what they are relative to each workload's own. Of a banking, an office and
// an airline agent's attacks a line that 1 % of the benign calls exceed finds 0.82, 0.69 and 1.00 by distance, and 0.70, 0.47 and 1.00 relative to each forest's ordinary row.
const ordinary = 2

// scoreAt is the score of a distance where unit is what scores 0.5.
func scoreAt(distance, unit float64) float64 { return 1 - unit/(distance+unit) }

// distanceAt is the distance of such a score.
func distanceAt(score, unit float64) float64 {
	if score >= 1 {
		return math.Inf(1)
	}
	return unit * score / (1 - score)
}

// tailPower says how distances thin out beyond the largest that training saw: a call twice as far is this power of two as rare. The held-out benign calls of recorded agents that
// lie beyond are farther by a factor of e^0.14 to e^0.26 on average, which is a power of 4 to 7, and so are the upper tenths of their distances.
const tailPower = 4

// rarest is the least share of calls that a percentile tells of.
const rarest = 1e-6

// thinned is the share of those beyond distance least that are beyond this one.
func thinned(distance, least float64) float64 { return math.Pow(least/distance, tailPower) }
