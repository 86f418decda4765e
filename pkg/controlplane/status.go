package controlplane

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// What a Baseline shows.
const (
	shortDigest   = 12 // digits of a model's digest
	shownFeatures = 5  // drifting features
	shownExceeded = 16 // calls that exceeded
)

// baselineStatus says where learning stands.
func baselineStatus(baseline *v1alpha1.Baseline, state LearnedState) {
	s := &baseline.Status
	s.Calls, s.Sessions, s.Rejected = state.Calls, state.Sessions, state.Rejected
	s.ModelDigest, s.ModelSource, s.TrainedOn, s.PriorRows, s.TrainedAt = "", state.Source, state.TrainedOn, state.PriorRows, nil
	if state.Model != "" {
		s.ModelDigest = state.Model[:min(shortDigest, len(state.Model))]
		at := metav1.NewTime(state.TrainedAt).Rfc3339Copy()
		s.TrainedAt = &at
	}
	s.FalsePositives = nil
	if state.Judged > 0 {
		s.FalsePositives = &v1alpha1.FalsePositives{
			Calls: state.Judged, Exceeded: state.Exceeded, Share: fmt.Sprintf("%.2f%% of %d", 100*float64(state.Exceeded)/float64(state.Judged), state.Judged),
		}
	}
	s.Drift = driftStatus(state.Drift)
	s.Feedback = nil
	if state.FalsePositives+state.Attacks > 0 || state.Said != "" {
		s.Feedback = &v1alpha1.FeedbackStatus{FalsePositives: state.FalsePositives, Attacks: state.Attacks, Last: state.Said}
	}
	s.Exceeded = state.LastExceeded

	var reason, message string
	s.Phase, reason, message = state.ready()
	setCondition(&s.Conditions, baseline.Generation, v1alpha1.ConditionReady, state.Model != "", reason, message)
	learning, reason, message := state.learning()
	setCondition(&s.Conditions, baseline.Generation, v1alpha1.ConditionLearning, learning, reason, message)
	if state.Model == "" {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionDrifted)
		return
	}
	drifted, reason, message := state.drifted()
	setCondition(&s.Conditions, baseline.Generation, v1alpha1.ConditionDrifted, drifted, reason, message)
}

func driftStatus(d *drift) *v1alpha1.DriftStatus {
	if d == nil {
		return nil
	}
	out := &v1alpha1.DriftStatus{Calls: int64(d.Calls), ScorePSI: fmt.Sprintf("%.2f", d.ScorePSI)}
	switch {
	case !d.Moved:
	case d.Sank:
		out.Scores = v1alpha1.ScoresLower
	default:
		out.Scores = v1alpha1.ScoresHigher
	}
	for _, f := range d.Features {
		out.Features = append(out.Features, v1alpha1.FeatureDrift{Name: f.Name, PSI: fmt.Sprintf("%.2f", f.PSI)})
	}
	return out
}

// ready says by what the workload's calls are judged.
func (state *LearnedState) ready() (phase v1alpha1.BaselinePhase, reason, message string) {
	switch {
	case state.Frozen && state.Model == "":
		return v1alpha1.BaselineFrozen, reasonFrozen, "frozen before there was a model: calls are not judged"
	case state.Frozen:
		return v1alpha1.BaselineFrozen, reasonFrozen, "judged by the model that there was when it was frozen"
	case state.Source == v1alpha1.ModelOwn && state.Drift.beyond():
		return v1alpha1.BaselineDrifting, reasonDrifting, "the calls of late are not distributed as those that the model learned from, and more exceed than the budget allows"
	case state.Source == v1alpha1.ModelOwn && state.Few:
		return v1alpha1.BaselineReady, reasonFewCalls, fmt.Sprintf("judged by a model of %d calls of the workload's own, too few to tell a threshold for a budget of %d in a million: "+
			"more calls may exceed it than that, or fewer", state.TrainedOn, state.Budget)
	case state.Source == v1alpha1.ModelOwn && state.ThresholdHeld:
		return v1alpha1.BaselineReady, reasonThresholdHeld, "judged by a model of the workload's own calls, with a threshold that is lower than its budget would have it: it rises by little in one training, " +
			"so that nobody who sends calls to be learned from raises it at once. Where the workload itself has changed, more of its calls exceed until then"
	case state.Source == v1alpha1.ModelOwn:
		return v1alpha1.BaselineReady, reasonReady, "judged by a model of the workload's own calls"
	case state.Source == v1alpha1.ModelPrior:
		return v1alpha1.BaselineLearning, reasonPrior, "judged by other workloads' calls; of its own there are " + state.soFar()
	case state.NoRoom:
		return v1alpha1.BaselineLearning, reasonNoRoom, "calls are not judged: there is no room to learn of them"
	case state.RefuseCold && state.NoPrior:
		return v1alpha1.BaselineLearning, reasonColdDeny, "since the profile's detector.cold is Deny and there is no shared prior, calls are refused, and nothing is learned of them: " +
			"set it to Abstain until there is a model, or allow a shared prior"
	}
	return v1alpha1.BaselineLearning, reasonLearning, state.soFar()
}

// soFar says how far the workload is from a model of its own.
func (state *LearnedState) soFar() string {
	out := fmt.Sprintf("%d calls of %d sessions so far", state.Calls, state.Sessions)
	if state.MinCalls > 0 {
		out += fmt.Sprintf(", and %d of %d are wanted", state.MinCalls, state.MinSessions)
	}
	return out
}

// learning says whether anything is learned of the workload's calls, and if not, why.
func (state *LearnedState) learning() (ok bool, reason, message string) {
	switch {
	case state.Frozen && state.Unheard:
		return false, reasonFrozen, "spec.freeze is set; labels wait until it is not"
	case state.Frozen:
		return false, reasonFrozen, "spec.freeze is set"
	case state.NoRoom:
		return false, reasonNoRoom, "all that the controller may learn is of other workloads, and those have given up what they can; this one is learned as soon as there is room"
	case state.Failed > 0:
		return false, reasonTrainingFailed, fmt.Sprintf("%s; tried %s, and again after %s", state.FailedFor, times(state.Failed), state.RetryAt.UTC().Format(time.RFC3339))
	case state.Model == "" && state.RefuseCold && state.NoPrior:
		return false, reasonColdDeny, "calls are refused as there is no model, and nothing is learned of refused calls"
	case state.Wordless:
		return true, reasonWordless, "calls are learned without their words: Secret " + saltSecret + " of the controller's namespace is not what it should be; the controller's log says why"
	case state.Limited:
		return true, reasonLimited, fmt.Sprintf("there is little room: some of what had been learned was given up for other workloads, so that %d calls are held, and not the words of all", state.Held)
	case state.Unheard:
		return true, reasonLabelsWait, "labels have been given that no model was trained with yet"
	}
	return true, reasonAdmitting, "released calls are learned from"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// drifted says how the calls of late are like those that the model learned from.
func (state *LearnedState) drifted() (yes bool, reason, message string) {
	d := state.Drift
	if d == nil {
		return false, reasonTooFewCalls, fmt.Sprintf("fewer than %d calls, %s apart at least, since the model is in use", minWindow, windowEvery)
	}
	compared := fmt.Sprintf("%d calls of late were compared", d.Calls)
	switch {
	case d.beyond():
		return true, reasonDrifting, compared + ": their scores are not distributed as those that the model learned from, and more exceed than the budget allows"
	case d.sank():
		return true, reasonScoresSank, compared + ": many more score low than of those that the model learned from, so that the workload does something simpler, or less, than it did. " +
			"What it did then is let pass still; delete the Baseline if it will not come back"
	case d.Moved:
		return false, reasonWithinBudget, compared + ": their scores have moved, and no more exceed than the budget allows"
	}
	return false, reasonAsLearned, compared
}

// warnings are reasons for which an Event is one.
var warnings = map[string]bool{
	reasonDrifting: true, reasonNoRoom: true, reasonColdDeny: true, reasonTrainingFailed: true, reasonWordless: true, reasonLimited: true,
}

// tellOfChanges makes an Event of each condition that has another reason than before. Of a Baseline that is new only what is wrong is told, and of one that is not drifting not every reason why.
func (p *Plane) tellOfChanges(baseline *v1alpha1.Baseline, before []metav1.Condition) {
	told := map[string]bool{} // a reason may be that of two
	for i := range baseline.Status.Conditions {
		now := &baseline.Status.Conditions[i]
		old := meta.FindStatusCondition(before, now.Type)
		kind := corev1.EventTypeNormal
		if warnings[now.Reason] {
			kind = corev1.EventTypeWarning
		}
		if old != nil && old.Reason == now.Reason || told[now.Reason] {
			continue
		}
		if kind == corev1.EventTypeNormal && (old == nil || now.Type == v1alpha1.ConditionDrifted && old.Status == now.Status) {
			continue
		}
		told[now.Reason] = true
		p.events.Eventf(baseline, nil, kind, now.Reason, "Learn", "%s: %s", now.Type, shortened(now.Message))
	}
}
