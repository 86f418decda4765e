package controlplane

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

const defaultPort = 443

// setupProviders writes the status of every ModelProvider when one of them, a credential or a namespace changes, or a sidecar reports: one may be in
// another's way.
func (p *Plane) setupProviders(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("modelprovider").
		Watches(&v1alpha1.ModelProvider{}, all(p.everyProvider), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Secret{}, all(p.everyProvider)).
		WatchesRawSource(p.providersChanged.source(p.everyProvider)).
		Complete(p.gated(p.reconcileProvider))
}

func (p *Plane) everyProvider(ctx context.Context) []reconcile.Request {
	var list v1alpha1.ModelProviderList
	if err := p.client.List(ctx, &list); err != nil {
		p.report(err, "ModelProviders are not listed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return requests
}

func (p *Plane) reconcileProvider(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	provider := &v1alpha1.ModelProvider{}
	if err := p.client.Get(ctx, request.NamespacedName, provider); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	reason, problem := reasonInvalid, checkProvider(&provider.Spec)
	if problem == nil {
		reason = reasonHostConflict
		var err error
		if problem, err = p.conflict(ctx, provider); err != nil {
			return reconcile.Result{}, err
		}
	}
	if problem == nil && provider.Spec.Credential != nil {
		reason = reasonCredentialMissing
		if _, problem = p.credential(ctx, provider.Spec.Credential); problem != nil && !isUnusable(problem) {
			return reconcile.Result{}, problem
		}
	}
	return reconcile.Result{}, p.writeStatus(ctx, provider, func() { p.providerStatus(provider, reason, problem) })
}

// conflict says in which namespace an older provider has one of the provider's hosts.
func (p *Plane) conflict(ctx context.Context, provider *v1alpha1.ModelProvider) (problem, err error) {
	var providers v1alpha1.ModelProviderList
	if err := p.client.List(ctx, &providers); err != nil {
		return nil, err
	}
	var namespaces corev1.NamespaceList
	if err := p.client.List(ctx, &namespaces); err != nil {
		return nil, err
	}
	for i := range namespaces.Items {
		labels := namespaces.Items[i].Labels
		if ok, err := v1alpha1.SelectsNamespace(provider.Spec.NamespaceSelector, labels); err != nil || !ok {
			continue
		}
		known := knownProviders(providers.Items, labels)
		if slices.ContainsFunc(known, func(k *v1alpha1.ModelProvider) bool { return k.Name == provider.Name }) {
			continue
		}
		for _, k := range known {
			for _, host := range provider.Spec.Hosts {
				if portOf(&k.Spec) == portOf(&provider.Spec) && slices.Contains(k.Spec.Hosts, host) {
					return unusablef("ModelProvider %s, which is older, has host %s in namespace %s; there this one is not known", k.Name, host, namespaces.Items[i].Name), nil
				}
			}
		}
	}
	return nil, nil
}

// providerStatus says what became of the spec.
func (p *Plane) providerStatus(provider *v1alpha1.ModelProvider, reason string, problem error) {
	s := &provider.Status
	s.ObservedGeneration = provider.Generation
	s.Sidecars = v1alpha1.SidecarCounts{}
	var complaints []string
	for _, sidecar := range p.discovery.Sidecars() {
		version, ok := p.discovery.Current(sidecar.Identity, xds.TypeProvider)[provider.Name]
		if !ok {
			continue
		}
		s.Sidecars.Total++
		if sidecar.Runs(xds.TypeProvider, provider.Name, version) {
			s.Sidecars.Current++
			continue
		}
		s.Sidecars.Stale++
		if nack := sidecar.Types[xds.TypeProvider].Nack; nack != "" && len(complaints) < 3 {
			complaints = append(complaints, sidecar.Namespace+"/"+sidecar.Pod+": "+nack)
		}
	}
	if problem == nil {
		setCondition(&s.Conditions, provider.Generation, v1alpha1.ConditionAccepted, true, reasonAccepted, "")
	} else {
		setCondition(&s.Conditions, provider.Generation, v1alpha1.ConditionAccepted, false, reason, problem.Error())
	}
	programmed := func(ok bool, reason, message string) {
		setCondition(&s.Conditions, provider.Generation, v1alpha1.ConditionProgrammed, ok, reason, message)
	}
	switch {
	case problem != nil && reason == reasonInvalid:
		programmed(false, reasonNotInForce, "a provider whose spec is invalid is not known to any sidecar")
	case s.Sidecars.Total == 0:
		programmed(true, reasonNoSidecars, "no sidecar that knows this provider is connected")
	case s.Sidecars.Stale == 0:
		programmed(true, reasonProgrammed, "")
	case len(complaints) > 0:
		programmed(false, reasonSidecarRefused, strings.Join(complaints, "; "))
	default:
		programmed(false, reasonPending, fmt.Sprintf("%d of %d sidecars have not acknowledged it", s.Sidecars.Stale, s.Sidecars.Total))
	}
	setReady(&s.Conditions, provider.Generation)
}

// checkProvider says what is wrong with a spec.
func checkProvider(spec *v1alpha1.ModelProviderSpec) error {
	if spec.API != v1alpha1.APIOpenAI && spec.API != v1alpha1.APIAnthropic {
		return unusablef("api %q is none of openai, anthropic", spec.API)
	}
	if len(spec.Hosts) == 0 {
		return unusablef("no host")
	}
	for i, host := range spec.Hosts {
		if err := checkHost(host); err != nil {
			return err
		}
		if slices.Contains(spec.Hosts[:i], host) {
			return unusablef("host %s is given twice", host)
		}
	}
	if spec.Port < 0 || spec.Port > 65_535 {
		return unusablef("port %d is none", spec.Port)
	}
	if spec.NamespaceSelector != nil {
		if _, err := metav1.LabelSelectorAsSelector(spec.NamespaceSelector); err != nil {
			return unusablef("namespaceSelector: %v", err)
		}
	}
	if c := spec.Credential; c != nil && (c.SecretRef.Name == "" || c.SecretRef.Key == "") {
		return unusablef("credential.secretRef needs a name and a key")
	}
	return checkCABundle(spec.CABundle)
}

// checkHost wants an exact DNS name, lower case, without port and trailing dot; an address is none.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return unusablef("host %s is an address, not a name", host)
	}
	if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
		return unusablef("host %q is no exact DNS name in lower case, without port: %s", host, strings.Join(problems, "; "))
	}
	return nil
}

func checkCABundle(text string) error {
	rest := []byte(text)
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if strings.TrimSpace(string(rest)) != "" {
				return unusablef("caBundle: text that is no PEM")
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return unusablef("caBundle: a PEM block %q, want CERTIFICATE", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return unusablef("caBundle: %v", err)
		}
	}
	return nil
}

func portOf(spec *v1alpha1.ModelProviderSpec) int32 {
	if spec.Port == 0 {
		return defaultPort
	}
	return spec.Port
}

func endpoint(host string, spec *v1alpha1.ModelProviderSpec) string {
	return host + ":" + strconv.Itoa(int(portOf(spec)))
}
