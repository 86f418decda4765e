package controlplane

import (
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
)

// LearnedState is where learning of a workload stands.
type LearnedState struct {
	Frozen     bool
	RefuseCold bool
	// MinCalls and MinSessions are what a model of the workload's own takes; 0 where the namespace is not known yet.
	MinCalls, MinSessions int
	// NoRoom says that nothing is learned, as all that may be learned is of other workloads; Limited that something was given up for them, and Held how many calls are left.
	NoRoom, Limited bool
	Held            int
	// Wordless says that the workload has no salt, so that nothing is learned of words.
	Wordless bool
	// NoPrior says that there is no model to be had of others' calls.
	NoPrior bool
	// Failed is how many trainings failed, one after the other; FailedFor why the last did, and RetryAt when the next is.
	Failed    int
	FailedFor string
	RetryAt   time.Time

	Calls     int64
	Sessions  int64
	Rejected  int64
	Model     string
	Source    v1alpha1.ModelSource
	TrainedOn int64
	PriorRows int64
	TrainedAt time.Time
	// Budget is the model's, in calls per million; Few says that its calls are too few for it, and ThresholdHeld that its threshold is lower than the budget would have it, as it may rise by
	// little in one training.
	Budget             int
	Few, ThresholdHeld bool
	// Judged and Exceeded count calls since the model is in use.
	Judged, Exceeded int64
	Drift            *drift // nil where there are too few calls to tell
	// FalsePositives and Attacks count labels; Unheard says that the model has not been trained with all of them.
	FalsePositives, Attacks int64
	Unheard                 bool
	Said                    string
	// LastExceeded are calls that exceeded, the latest first.
	LastExceeded []v1alpha1.ExceededCall
}

// state says where learning of a workload stands.
func (l *Learner) state(w xds.Workload) LearnedState {
	l.lookForDrift(w)
	l.mu.Lock()
	defer l.mu.Unlock()
	settings := l.settings[w.Namespace]
	s := LearnedState{
		Frozen: l.isFrozen(w), RefuseCold: settings.refuseCold, MinCalls: settings.minCalls, MinSessions: settings.minSessions, NoRoom: l.room.turnedAway[w], Wordless: l.salt(w) == 0,
		NoPrior: settings.prior == "" || l.lent(w, settings) < settings.minCalls,
	}
	have := l.workloads[w]
	if have == nil {
		return s
	}
	counts := have.reservoir.Counts()
	s.Calls, s.Sessions, s.Rejected, s.Held, s.Limited = int64(counts.Seen), int64(counts.Sessions), int64(counts.Refused), counts.Calls, have.limited || l.full()
	if m := have.model; m != nil {
		s.Model, s.Source, s.TrainedOn, s.PriorRows, s.TrainedAt = m.digest, have.source, int64(have.own), int64(have.lent), have.trainedAt
		s.Budget, s.Few, s.ThresholdHeld = m.info.FalsePositivesPerMillion, !m.info.Supported, m.info.Held
		s.Judged, s.Exceeded = have.recent.tally.Judged, have.recent.tally.Exceeded
		if have.drift != nil {
			d := *have.drift
			s.Drift = &d
		}
	}
	s.Failed, s.FailedFor, s.RetryAt = have.failed.times, have.failed.message, have.failed.retryAt
	for i := range have.labels.list {
		if have.labels.list[i].label == v1alpha1.LabelAttack {
			s.Attacks++
		} else {
			s.FalsePositives++
		}
	}
	s.Unheard, s.Said = have.spoken != have.heard, have.said
	exceeded := &have.recent.exceeded
	for k := len(exceeded.list) - 1; k >= 0 && len(s.LastExceeded) < shownExceeded; k-- {
		call := &exceeded.list[exceeded.index(k)]
		s.LastExceeded = append(s.LastExceeded, v1alpha1.ExceededCall{ID: call.id, Label: call.label})
	}
	return s
}

// lookForDrift compares a workload's calls of late with what its model learned from, where enough have come since that was done last. What an earlier leader found stands until this one
// has seen as much.
func (l *Learner) lookForDrift(w xds.Workload) {
	l.mu.Lock()
	have := l.workloads[w]
	if have == nil || have.model == nil {
		l.mu.Unlock()
		return
	}
	model, taken := have.model, have.recent.taken
	var window []detector.Row
	if n := have.recent.window.Len(); n >= minWindow && (have.driftAt == 0 || taken-have.driftAt >= lookAgain) {
		window = have.recent.window.All()
	}
	l.mu.Unlock()
	var found *drift
	if window != nil {
		var err error
		if found, err = driftOf(model, window); err != nil {
			l.report(err, "drift of "+workloadName(w)+" is not known")
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if have.model != model {
		return
	}
	before := have.drift.beyond()
	if found != nil {
		have.drift, have.driftAt = found, taken
	}
	if have.drift != nil {
		have.drift.Exceeds = have.recent.tally.beyond(model.info.FalsePositivesPerMillion)
	}
	if have.drift.beyond() != before {
		have.dirty, have.keptAt = true, time.Time{} // soon, so that another leader says the same
	}
}
