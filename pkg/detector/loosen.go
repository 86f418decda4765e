package detector

import "math"

// How the threshold may rise from one training to the next. Calls that pass are learned from, and those that were sent to be learned from lie just below the threshold: as soon as they are as many as the
// budget has false positives, it is theirs that the threshold is set by, and it is out of fold, where they do not vouch for each other, that they are scored. Of recorded agents that were sent
// ten such calls a training, the threshold rose by three quarters in one step, to where what they prepared for passed; the distance of that had hardly changed.
const (
	// looseningPerTraining is the share by which the threshold's distance may be beyond that of the model before.
	looseningPerTraining = 0.02
	// looseningForgotten is what of an earlier, higher threshold is forgotten at each training: thresholds of a few hundred calls go up and down by a tenth by chance.
	looseningForgotten = 0.03
)

// allows is the ceiling for the model that comes after this one, trained with o on so many calls, with a baseline or without; 0 for none.
func (i Info) allows(o Options, calls int, words bool) float64 {
	if i.Calls == 0 || i.PriorRows > 0 || len(o.Prior) > 0 || i.Words != words || i.FalsePositivesPerMillion != o.FalsePositivesPerMillion || calls >= 2*i.Calls {
		return 0
	}
	ceiling := max((1+looseningPerTraining)*distanceAt(i.Threshold, ordinary), (1-looseningForgotten)*i.Ceiling)
	if !(ceiling >= 0 && ceiling <= math.MaxFloat32) {
		return 0 // a threshold that nothing was beyond
	}
	return ceiling
}
