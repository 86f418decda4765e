package controlplane

import (
	"context"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// setupProfiles writes an EgressProfile's status when it changes. What it sets is carried out by compose.
func (p *Plane) setupProfiles(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("egressprofile").
		For(&v1alpha1.EgressProfile{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(p.gated(p.reconcileProfile))
}

func (p *Plane) reconcileProfile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	profile := &v1alpha1.EgressProfile{}
	if err := p.client.Get(ctx, request.NamespacedName, profile); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	return reconcile.Result{}, p.writeStatus(ctx, profile, func() {
		s := &profile.Status
		s.ObservedGeneration = profile.Generation
		if err := checkProfile(&profile.Spec); err != nil {
			setCondition(&s.Conditions, profile.Generation, v1alpha1.ConditionAccepted, false, reasonInvalid, err.Error())
		} else {
			setCondition(&s.Conditions, profile.Generation, v1alpha1.ConditionAccepted, true, reasonAccepted, "")
		}
		setReady(&s.Conditions, profile.Generation)
	})
}

// checkProfile says what is wrong with a spec. What is wrong is not carried out, the rest is: a rule with an error allows nothing, an unknown mode enforces.
func checkProfile(spec *v1alpha1.EgressProfileSpec) error {
	switch spec.Mode {
	case "", v1alpha1.ModeEnforce, v1alpha1.ModeObserve:
	default:
		return unusablef("mode %q is none of enforce, observe; enforce is in force", spec.Mode)
	}
	if spec.NamespaceSelector != nil {
		if _, err := metav1.LabelSelectorAsSelector(spec.NamespaceSelector); err != nil {
			return unusablef("namespaceSelector: %v; it selects nothing", err)
		}
	}
	for i := range spec.Passthrough {
		if err := checkPassthrough(&spec.Passthrough[i]); err != nil {
			return unusablef("passthrough[%d]: %v; this rule allows nothing", i, err)
		}
	}
	if err := checkSettings(spec); err != nil {
		return err
	}
	return checkDetector(&spec.Detector)
}

// checkPassthrough wants exactly one of host and cidr.
func checkPassthrough(rule *v1alpha1.PassthroughRule) error {
	switch {
	case (rule.Host == "") == (rule.CIDR == ""):
		return unusablef("exactly one of host and cidr must be set")
	case rule.Host != "":
		if err := checkHost(rule.Host); err != nil {
			return err
		}
	default:
		prefix, err := netip.ParsePrefix(rule.CIDR)
		if err != nil {
			return unusablef("cidr: %v", err)
		}
		if prefix != prefix.Masked() {
			return unusablef("cidr %s has bits set beyond its length: %s was meant?", rule.CIDR, prefix.Masked())
		}
	}
	for _, port := range rule.Ports {
		if port < 1 || port > 65_535 {
			return unusablef("port %d is none", port)
		}
	}
	return nil
}
