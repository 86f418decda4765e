package controlplane

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsserver"
)

// setupNamespaces composes each namespace anew when it, a provider, a profile, a credential or the policy in force changes.
func (p *Plane) setupNamespaces(mgr manager.Manager) error {
	labelsChanged := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return predicate.LabelChangedPredicate{}.Update(e)
	}}
	return builder.ControllerManagedBy(mgr).Named("namespace").
		For(&corev1.Namespace{}, builder.WithPredicates(labelsChanged)).
		Watches(&v1alpha1.ModelProvider{}, all(p.everyNamespace), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.EgressProfile{}, all(p.everyNamespace), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, all(p.everyNamespace)).
		WatchesRawSource(p.sourcesChanged.source(p.everyNamespace)).
		Complete(p.gated(p.reconcileNamespace))
}

func (p *Plane) everyNamespace(ctx context.Context) []reconcile.Request {
	var list corev1.NamespaceList
	if err := p.client.List(ctx, &list); err != nil {
		p.report(err, "namespaces are not listed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return requests
}

func (p *Plane) reconcileNamespace(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	namespace := &corev1.Namespace{}
	err := p.client.Get(ctx, request.NamespacedName, namespace)
	if apierrors.IsNotFound(err) {
		p.bundles.DeleteNamespace(request.Name)
		p.mu.Lock()
		delete(p.hosts, request.Name)
		p.mu.Unlock()
		if err := p.discovery.DeleteNamespace(request.Name); err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{}, p.learner.forgetNamespace(ctx, request.Name)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, p.compose(ctx, namespace)
}

// compose makes what the namespace's sidecars are served from what is in force.
func (p *Plane) compose(ctx context.Context, namespace *corev1.Namespace) error {
	var profiles v1alpha1.EgressProfileList
	if err := p.client.List(ctx, &profiles); err != nil {
		return err
	}
	var providers v1alpha1.ModelProviderList
	if err := p.client.List(ctx, &providers); err != nil {
		return err
	}
	profile := v1alpha1.SelectProfile(profiles.Items, namespace.Name, namespace.Labels)
	if profile == nil {
		profile = &v1alpha1.EgressProfile{}
	}
	p.learner.configure(namespace.Name, learningOf(&profile.Spec.Detector))

	resources := xdsserver.NamespaceResources{Config: workloadConfig(&profile.Spec), Secrets: map[string][]byte{}}
	var hosts []string
	for _, provider := range knownProviders(providers.Items, namespace.Labels) {
		resource := providerResource(provider)
		if resource.GetCredential() != "" {
			value, err := p.credential(ctx, &provider.Spec)
			switch {
			case err == nil:
				resources.Secrets[resource.GetCredential()] = value
			case !isUnusable(err):
				return err
			}
			// Without its credential the provider is sent all the same: the sidecar refuses its calls and says why.
		}
		resources.Providers = append(resources.Providers, resource)
		if !provider.Spec.Plaintext { // for which nobody needs a certificate
			hosts = append(hosts, provider.Spec.Hosts...)
		}
	}
	slices.Sort(hosts)
	p.mu.Lock()
	p.hosts[namespace.Name] = hosts
	p.mu.Unlock()

	p.bundles.SetNamespace(namespace.Name, p.sources.of(namespace.Labels))
	if err := p.discovery.SetNamespace(namespace.Name, resources); err != nil {
		return err
	}
	p.policyChanged.poke()
	p.providersChanged.poke()
	return nil
}

// workloadConfig is the part of a sidecar's configuration that its profile sets. A passthrough rule that is wrong is left out: what it meant to
// allow stays refused. So is a number that is wrong: the default takes its place.
func workloadConfig(spec *v1alpha1.EgressProfileSpec) *xdsv1.WorkloadConfig {
	mode := spec.Mode
	if mode != v1alpha1.ModeObserve {
		mode = v1alpha1.ModeEnforce
	}
	config := &xdsv1.WorkloadConfig{
		Mode: string(mode), KillSwitch: spec.KillSwitch, MaxRequestBytes: size(spec.MaxRequestBytes), Timeouts: timeouts(&spec.Timeouts), Limits: limits(spec),
		Canaries: canaries(&spec.Detector), RefuseCold: refusesCold(&spec.Detector),
	}
	for i := range spec.Passthrough {
		rule := &spec.Passthrough[i]
		if checkPassthrough(rule) != nil {
			continue
		}
		out := &xdsv1.Passthrough{Host: rule.Host, Cidr: rule.CIDR}
		for _, port := range rule.Ports {
			out.Ports = append(out.Ports, uint32(port))
		}
		config.Passthrough = append(config.Passthrough, out)
	}
	return config
}

// knownProviders are the providers that a namespace with these labels knows: those that are right and select it. Of two that claim one host and
// port there, the older has it and the younger is not known at all.
func knownProviders(providers []v1alpha1.ModelProvider, labels map[string]string) []*v1alpha1.ModelProvider {
	var known []*v1alpha1.ModelProvider
	taken := map[string]bool{}
	for _, provider := range byAge(providers) {
		if checkProvider(&provider.Spec) != nil {
			continue
		}
		if ok, err := v1alpha1.SelectsNamespace(provider.Spec.NamespaceSelector, labels); err != nil || !ok {
			continue
		}
		if slices.ContainsFunc(provider.Spec.Hosts, func(host string) bool { return taken[endpoint(host, &provider.Spec)] }) {
			continue
		}
		for _, host := range provider.Spec.Hosts {
			taken[endpoint(host, &provider.Spec)] = true
		}
		known = append(known, provider)
	}
	return known
}

// byAge sorts providers, the oldest first.
func byAge(providers []v1alpha1.ModelProvider) []*v1alpha1.ModelProvider {
	sorted := make([]*v1alpha1.ModelProvider, len(providers))
	for i := range providers {
		sorted[i] = &providers[i]
	}
	slices.SortFunc(sorted, func(a, b *v1alpha1.ModelProvider) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return sorted
}

// providerResource is a provider as sidecars are sent it.
func providerResource(provider *v1alpha1.ModelProvider) *xdsv1.ModelProvider {
	out := &xdsv1.ModelProvider{
		Name:       provider.Name,
		Api:        string(provider.Spec.API),
		Hosts:      provider.Spec.Hosts,
		Port:       uint32(portOf(&provider.Spec)),
		CaBundle:   provider.Spec.CABundle,
		BasePath:   provider.Spec.BasePath,
		Plaintext:  provider.Spec.Plaintext,
		Addresses:  provider.Spec.Addresses,
		Generation: provider.Generation,
	}
	if provider.Spec.Credential != nil {
		out.Credential = "credential/" + provider.Name
	}
	return out
}

// credential reads a provider's credential. An error that isUnusable recognises says that there is none to be had.
func (p *Plane) credential(ctx context.Context, spec *v1alpha1.ModelProviderSpec) ([]byte, error) {
	c := spec.Credential
	var secret corev1.Secret
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.config.Namespace, Name: c.SecretRef.Name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, unusablef("there is no Secret %s in namespace %s", c.SecretRef.Name, p.config.Namespace)
	}
	if err != nil {
		return nil, err
	}
	value := bytes.TrimSpace(secret.Data[c.SecretRef.Key])
	if len(value) == 0 {
		return nil, unusablef("Secret %s has no key %q, or it is empty", c.SecretRef.Name, c.SecretRef.Key)
	}
	if err := checkCredential(spec.API, value); err != nil {
		return nil, unusablef("key %q of Secret %s %v", c.SecretRef.Key, c.SecretRef.Name, err)
	}
	return value, nil
}
