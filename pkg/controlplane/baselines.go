package controlplane

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

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
	for _, w := range workloads {
		p.workloads[baselineOf(w)] = w
	}
	requests := make([]reconcile.Request, 0, len(p.workloads))
	for name := range p.workloads { // such as are gone, too, once: their Baselines are to say so
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

// primeBaselines freezes what is to be frozen, and forgets what Baselines were deleted of, before anything is learned.
func (p *Plane) primeBaselines(ctx context.Context) error {
	p.everyBaseline(ctx)
	var list v1alpha1.BaselineList
	if err := p.client.List(ctx, &list); err != nil {
		return err
	}
	there := make(map[types.NamespacedName]types.UID, len(list.Items))
	p.mu.Lock()
	for i := range list.Items {
		name := client.ObjectKeyFromObject(&list.Items[i])
		there[name] = list.Items[i].UID
		p.learner.freeze(name, list.Items[i].Spec.Freeze)
		if _, ok := p.workloads[name]; ok {
			p.seen[name] = true
		}
	}
	p.mu.Unlock()
	for _, w := range p.learner.known() {
		if err := p.outlived(ctx, w, there[baselineOf(w)]); err != nil {
			return err
		}
	}
	p.baselinesChanged.poke()
	return nil
}

// outlived forgets what was learned of a workload whose Baseline was deleted while nobody looked. There is this Baseline now, or "" for none, as far as the cache has it, which may be late.
func (p *Plane) outlived(ctx context.Context, w xds.Workload, now types.UID) error {
	before := p.learner.belongs(w, now)
	if before == "" {
		return nil
	}
	live := &v1alpha1.Baseline{}
	if err := p.reader.Get(ctx, baselineOf(w), live); client.IgnoreNotFound(err) != nil {
		return err
	}
	if live.UID == before {
		return nil
	}
	return p.learner.forget(ctx, w)
}

func (p *Plane) reconcileBaseline(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	p.mu.Lock()
	w, known := p.workloads[request.NamespacedName]
	seen := p.seen[request.NamespacedName]
	p.mu.Unlock()
	baseline := &v1alpha1.Baseline{}
	err := p.client.Get(ctx, request.NamespacedName, baseline)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	there := err == nil
	p.learner.freeze(request.NamespacedName, there && baseline.Spec.Freeze)
	switch {
	case !known && there:
		return reconcile.Result{}, p.deaf(ctx, baseline)
	case !known:
		return reconcile.Result{}, nil
	case !there:
		return reconcile.Result{}, p.missingBaseline(ctx, request.NamespacedName, w, seen)
	}
	p.mu.Lock()
	p.seen[request.NamespacedName] = true
	p.mu.Unlock()
	if err := p.outlived(ctx, w, baseline.UID); err != nil {
		return reconcile.Result{}, err
	}
	before := slices.Clone(baseline.Status.Conditions)
	if err := p.hear(ctx, baseline, w); err != nil {
		return reconcile.Result{}, err
	}
	gone := !p.discovery.Connected(w) && !p.learner.knows(w) // which the status says then
	if err := p.writeStatus(ctx, baseline, func() { baselineStatus(baseline, p.learner.state(w)) }); err != nil {
		return reconcile.Result{}, err
	}
	p.tellOfChanges(baseline, before)
	if gone {
		p.part(request.NamespacedName)
	}
	return reconcile.Result{}, nil
}

// part drops what is known of a Baseline whose workload is gone.
func (p *Plane) part(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.workloads, name)
	delete(p.seen, name)
}

// missingBaseline forgets what was learned where the Baseline was there and is not any more, then makes one if the workload has a sidecar.
func (p *Plane) missingBaseline(ctx context.Context, name types.NamespacedName, w xds.Workload, seen bool) error {
	if seen {
		if err := p.learner.forget(ctx, w); err != nil {
			return err
		}
	} else if err := p.outlived(ctx, w, ""); err != nil {
		return err
	}
	if !p.discovery.Connected(w) {
		if !p.learner.knows(w) {
			p.part(name)
		}
		return nil
	}
	p.mu.Lock()
	delete(p.seen, name)
	p.mu.Unlock()
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
