package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/policy"
)

// verdictOf remembers what came of checking a source, which runs its tests and is not done again for the same text.
type verdictOf struct {
	content string
	err     error
}

// setupPolicyBundles judges a ClusterPolicyBundle when it or a ConfigMap that it refers to changes, and counts anew when sidecars report.
func (p *Plane) setupPolicyBundles(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("clusterpolicybundle").
		For(&v1alpha1.ClusterPolicyBundle{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(p.policiesThatReferTo)).
		WatchesRawSource(p.policyChanged.source(p.everyPolicy)).
		Complete(p.gated(p.reconcilePolicyBundle))
}

func (p *Plane) everyPolicy(ctx context.Context) []reconcile.Request {
	return p.policies(ctx, func(*v1alpha1.ClusterPolicyBundle) bool { return true })
}

func (p *Plane) policiesThatReferTo(ctx context.Context, configMap client.Object) []reconcile.Request {
	return p.policies(ctx, func(b *v1alpha1.ClusterPolicyBundle) bool {
		return slices.ContainsFunc(b.Spec.ConfigMapRefs, func(ref corev1.LocalObjectReference) bool { return ref.Name == configMap.GetName() })
	})
}

func (p *Plane) policies(ctx context.Context, want func(*v1alpha1.ClusterPolicyBundle) bool) []reconcile.Request {
	var list v1alpha1.ClusterPolicyBundleList
	if err := p.client.List(ctx, &list); err != nil {
		p.report(err, "ClusterPolicyBundles are not listed")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if want(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
		}
	}
	return requests
}

func (p *Plane) reconcilePolicyBundle(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	bundle := &v1alpha1.ClusterPolicyBundle{}
	err := p.client.Get(ctx, request.NamespacedName, bundle)
	if apierrors.IsNotFound(err) {
		changed, err := p.sources.remove(ctx, request.Name)
		if changed {
			p.sourcesChanged.poke()
		}
		p.mu.Lock()
		delete(p.verdicts, request.Name)
		p.mu.Unlock()
		p.metrics.refusedPolicies.DeleteLabelValues(request.Name)
		return reconcile.Result{}, err
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	changed, refused, keepErr := p.judge(ctx, bundle)
	if changed {
		p.sourcesChanged.poke()
	}
	if refused != nil && !isUnusable(refused.err) {
		return reconcile.Result{}, refused.err
	}
	if err := p.writeStatus(ctx, bundle, func() { p.policyStatus(bundle, refused) }); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, keepErr
}

// refusal is why a spec was not put in force.
type refusal struct {
	reason string
	err    error
}

// judge checks what the spec says and puts it in force if it is good; if it is not, what was in force stays so. keepErr is why what is in
// force could not be kept for a restart.
func (p *Plane) judge(ctx context.Context, bundle *v1alpha1.ClusterPolicyBundle) (changed bool, refused *refusal, keepErr error) {
	candidate := accepted{Name: bundle.Name, UID: string(bundle.UID), Selector: bundle.Spec.NamespaceSelector}
	// The last good of an object that was deleted is no longer in force for another of its name.
	if old, ok := p.sources.get(bundle.Name); ok && old.UID != candidate.UID {
		if changed, keepErr = p.sources.remove(ctx, bundle.Name); keepErr != nil {
			return changed, nil, keepErr
		}
	}
	refused = p.check(ctx, bundle, &candidate)
	if refused != nil {
		p.metrics.refusedPolicies.WithLabelValues(bundle.Name).Set(1)
		return changed, refused, nil
	}
	p.metrics.refusedPolicies.WithLabelValues(bundle.Name).Set(0)
	put, keepErr := p.sources.accept(ctx, candidate)
	return changed || put, nil, keepErr
}

// check gathers the candidate's modules and checks them.
func (p *Plane) check(ctx context.Context, bundle *v1alpha1.ClusterPolicyBundle, candidate *accepted) *refusal {
	if bundle.Spec.NamespaceSelector != nil {
		if _, err := metav1.LabelSelectorAsSelector(bundle.Spec.NamespaceSelector); err != nil {
			return &refusal{reasonInvalid, unusablef("namespaceSelector: %v", err)}
		}
	}
	modules, refused := p.modules(ctx, bundle)
	if refused != nil {
		return refused
	}
	candidate.Modules = modules
	text, err := json.Marshal(modules)
	if err != nil {
		return &refusal{reasonInvalid, err}
	}
	p.mu.Lock()
	known, ok := p.verdicts[bundle.Name]
	p.mu.Unlock()
	if !ok || known.content != string(text) {
		known = verdictOf{content: string(text), err: policy.Check(candidate.source())}
		p.mu.Lock()
		p.verdicts[bundle.Name] = known
		p.mu.Unlock()
	}
	if known.err != nil {
		return &refusal{reasonRefused, unusable{known.err.Error()}}
	}
	return nil
}

// modules are the inline modules and those of the ConfigMaps that the spec refers to. One file name cannot come from two places.
func (p *Plane) modules(ctx context.Context, bundle *v1alpha1.ClusterPolicyBundle) (map[string]string, *refusal) {
	modules := map[string]string{}
	origin := map[string]string{}
	add := func(from string, files map[string]string) *refusal {
		for file, text := range files {
			if origin[file] != "" {
				return &refusal{reasonInvalid, unusablef("module %s is given twice: %s and %s", file, origin[file], from)}
			}
			origin[file], modules[file] = from, text
		}
		return nil
	}
	if refused := add("modules", bundle.Spec.Modules); refused != nil {
		return nil, refused
	}
	for _, ref := range bundle.Spec.ConfigMapRefs {
		var configMap corev1.ConfigMap
		err := p.client.Get(ctx, client.ObjectKey{Namespace: p.config.Namespace, Name: ref.Name}, &configMap)
		if apierrors.IsNotFound(err) {
			return nil, &refusal{reasonModuleMissing, unusablef("there is no ConfigMap %s in namespace %s", ref.Name, p.config.Namespace)}
		}
		if err != nil {
			return nil, &refusal{reasonModuleMissing, err}
		}
		if refused := add("ConfigMap "+ref.Name, configMap.Data); refused != nil {
			return nil, refused
		}
	}
	return modules, nil
}

// policyStatus says what became of the spec.
func (p *Plane) policyStatus(bundle *v1alpha1.ClusterPolicyBundle, refused *refusal) {
	s := &bundle.Status
	s.ObservedGeneration = bundle.Generation
	inForce, has := p.sources.get(bundle.Name)
	s.Digest = inForce.digest

	s.Sidecars = v1alpha1.SidecarCounts{}
	var complaints []string
	for _, sidecar := range p.discovery.Sidecars() {
		if !p.bundles.Selects(sidecar.Namespace, bundle.Name) {
			continue
		}
		s.Sidecars.Total++
		state, _ := p.service.Policy(sidecar.PodUID)
		if has && p.bundles.SourceIn(state.Revision, bundle.Name) == inForce.digest {
			s.Sidecars.Current++
			continue
		}
		s.Sidecars.Stale++
		if state.Error != "" && len(complaints) < 3 {
			complaints = append(complaints, sidecar.Namespace+"/"+sidecar.Pod+": "+state.Error)
		}
	}

	if refused == nil {
		setCondition(&s.Conditions, bundle.Generation, v1alpha1.ConditionAccepted, true, reasonAccepted, "")
	} else {
		setCondition(&s.Conditions, bundle.Generation, v1alpha1.ConditionAccepted, false, refused.reason, refused.err.Error())
	}
	programmed := func(ok bool, reason, message string) {
		setCondition(&s.Conditions, bundle.Generation, v1alpha1.ConditionProgrammed, ok, reason, message)
	}
	switch {
	case refused != nil && has:
		programmed(false, reasonLastGood, "the last good spec is in force, digest "+inForce.digest)
	case refused != nil:
		programmed(false, reasonNotInForce, "no spec of this object has been accepted: nothing of it is in force")
	case s.Sidecars.Total == 0:
		programmed(true, reasonNoSidecars, "no sidecar in scope is connected")
	case s.Sidecars.Stale == 0:
		programmed(true, reasonProgrammed, "")
	case len(complaints) > 0:
		programmed(false, reasonSidecarRefused, strings.Join(complaints, "; "))
	default:
		programmed(false, reasonPending, fmt.Sprintf("%d of %d sidecars run another digest", s.Sidecars.Stale, s.Sidecars.Total))
	}
	setReady(&s.Conditions, bundle.Generation)
}
