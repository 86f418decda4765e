package controlplane

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

// shortDigest is how much of a model's digest a Baseline shows.
const shortDigest = 12

// shownFeatures is how many drifting features a Baseline names.
const shownFeatures = 5

// shownExceeded is how many calls that exceeded a Baseline names.
const shownExceeded = 16

// setupBaselines keeps a Baseline for each workload that has a sidecar. Deleting one forgets what was learned.
func (p *Plane) setupBaselines(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("baseline").
		For(&v1alpha1.Baseline{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(p.baselinesChanged.source(p.everyBaseline)).
		WatchesRawSource(p.callsCounted.source(p.everyBaseline)).
		Complete(p.gated(p.reconcileBaseline))
}

// everyBaseline names the Baseline of each workload that is connected or learned of.
func (p *Plane) everyBaseline(ctx context.Context) []reconcile.Request {
	var connected []xds.Workload
	for _, sidecar := range p.discovery.Sidecars() {
		connected = append(connected, sidecar.Workload())
	}
	if err := p.learner.meet(ctx, connected); err != nil {
		p.report(err, "workloads that are gone are not forgotten")
	}
	workloads := append(p.learner.known(), connected...)
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := make([]reconcile.Request, 0, len(workloads))
	for _, w := range workloads {
		name := types.NamespacedName{Namespace: w.Namespace, Name: baselineName(w)}
		p.workloads[name] = w
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

// primeBaselines freezes what is to be frozen before anything is learned.
func (p *Plane) primeBaselines(ctx context.Context) error {
	p.everyBaseline(ctx)
	var list v1alpha1.BaselineList
	if err := p.client.List(ctx, &list); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range list.Items {
		name := types.NamespacedName{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name}
		if w, ok := p.workloads[name]; ok {
			p.seen[name] = true
			p.learner.freeze(w, list.Items[i].Spec.Freeze)
		}
	}
	p.baselinesChanged.poke()
	return nil
}

func (p *Plane) reconcileBaseline(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	p.mu.Lock()
	w, known := p.workloads[request.NamespacedName]
	seen := p.seen[request.NamespacedName]
	p.mu.Unlock()
	if !known {
		return reconcile.Result{}, p.deaf(ctx, request.NamespacedName)
	}
	baseline := &v1alpha1.Baseline{}
	err := p.client.Get(ctx, request.NamespacedName, baseline)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, p.missingBaseline(ctx, request.NamespacedName, w, seen)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	p.mu.Lock()
	p.seen[request.NamespacedName] = true
	p.mu.Unlock()
	p.learner.freeze(w, baseline.Spec.Freeze)
	if err := p.hear(ctx, baseline, w); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, p.writeStatus(ctx, baseline, func() { baselineStatus(baseline, p.learner.state(w)) })
}

// missingBaseline forgets what was learned where the Baseline was there and is not any more, then makes one if the workload has a sidecar.
func (p *Plane) missingBaseline(ctx context.Context, name types.NamespacedName, w xds.Workload, seen bool) error {
	if seen {
		if err := p.learner.forget(ctx, w); err != nil {
			return err
		}
	}
	connected := false
	for _, sidecar := range p.discovery.Sidecars() {
		connected = connected || sidecar.Workload() == w
	}
	p.mu.Lock()
	delete(p.seen, name)
	if !connected && seen {
		delete(p.workloads, name)
	}
	p.mu.Unlock()
	if !connected {
		return nil
	}
	err := p.client.Create(ctx, &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}})
	switch {
	case err == nil, apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		p.baselinesChanged.poke()
		return nil
	case apierrors.IsNotFound(err): // the namespace is gone
		return nil
	}
	return err
}

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
	s.Drift = nil
	if d := state.Drift; d != nil {
		s.Drift = &v1alpha1.DriftStatus{Calls: int64(d.calls), ScorePSI: fmt.Sprintf("%.2f", d.scorePSI)}
		for _, f := range d.features[:min(len(d.features), shownFeatures)] {
			s.Drift.Features = append(s.Drift.Features, v1alpha1.FeatureDrift{Name: f.name, PSI: fmt.Sprintf("%.2f", f.psi)})
		}
	}
	s.Feedback = nil
	if state.FalsePositives+state.Attacks > 0 || state.Said != "" {
		s.Feedback = &v1alpha1.FeedbackStatus{FalsePositives: state.FalsePositives, Attacks: state.Attacks, Last: state.Said}
	}
	s.Exceeded = state.LastExceeded

	var reason, message string
	switch {
	case state.Frozen:
		s.Phase, reason = v1alpha1.BaselineFrozen, reasonFrozen
		if state.Model == "" {
			message = "frozen before there was a model"
		}
	case state.Source == v1alpha1.ModelOwn && state.Drift != nil && state.Drift.drifting:
		s.Phase, reason = v1alpha1.BaselineDrifting, reasonDrifting
		message = "the calls of late are not distributed as those that the model learned from, and more exceed than the budget allows"
	case state.Source == v1alpha1.ModelOwn:
		s.Phase, reason = v1alpha1.BaselineReady, reasonReady
	case state.Source == v1alpha1.ModelPrior:
		s.Phase, reason = v1alpha1.BaselineLearning, reasonPrior
		message = fmt.Sprintf("judged by other workloads' calls; of its own there are %d of %d sessions so far", state.Calls, state.Sessions)
	default:
		s.Phase, reason = v1alpha1.BaselineLearning, reasonLearning
		message = fmt.Sprintf("%d calls of %d sessions so far", state.Calls, state.Sessions)
		if state.RefuseCold {
			message += "; since the profile's detector.cold is Deny, calls are refused, and nothing is learned of them"
		}
	}
	setCondition(&s.Conditions, baseline.Generation, v1alpha1.ConditionReady, state.Model != "", reason, message)
}
