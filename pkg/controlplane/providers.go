package controlplane

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
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
		if _, problem = p.credential(ctx, &provider.Spec); problem != nil && !isUnusable(problem) {
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
	if apis := v1alpha1.ModelProviderAPIs(); !slices.Contains(apis, spec.API) {
		return unusablef("api %q is none of %s", spec.API, joined(apis))
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
	if spec.Plaintext && portOf(spec) == defaultPort {
		return unusablef("a plaintext provider needs a port of its own, such as 80 or 8000: %d is that of TLS", defaultPort)
	}
	if spec.Plaintext && spec.CABundle != "" {
		return unusablef("a plaintext provider has no certificate that caBundle could be for")
	}
	if spec.BasePath != "" && !basePath.MatchString(spec.BasePath) {
		return unusablef("basePath %q must begin with a slash, end with none, and have neither empty nor dot segments, escapes, parameters or a query", spec.BasePath)
	}
	for i, a := range spec.Addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			return unusablef("address %q is no IP address of one host", a)
		}
		if slices.Contains(spec.Addresses[:i], a) {
			return unusablef("address %s is given twice", a)
		}
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

// basePath is the form of one: segments that cannot be read in two ways, none of them beginning with a dot.
var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)+$`)

// joined lists names for a sentence.
func joined[S ~string](names []S) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

// checkCredential says what is wrong with a secret, without repeating any of it. The sidecar knows more of it: whether a private key is one, say.
func checkCredential(api v1alpha1.ModelProviderAPI, value []byte) error {
	var needed []string
	switch api {
	case v1alpha1.APIBedrock:
		needed = []string{"accessKeyId", "secretAccessKey"}
	case v1alpha1.APIVertexAI:
		needed = []string{"type", "client_email", "private_key"}
	}
	if needed != nil && value[0] == '{' {
		var members map[string]string
		if err := json.Unmarshal(value, &members); err != nil {
			return errors.New("begins as JSON and is no object of strings")
		}
		for _, n := range needed {
			if members[n] == "" {
				return fmt.Errorf("lacks %q", n)
			}
		}
		return nil
	}
	// It becomes the value of a header.
	if slices.ContainsFunc(value, func(b byte) bool { return b < 0x21 || b > 0x7e }) {
		return errors.New("holds something that cannot stand in a header")
	}
	return nil
}

// checkHost wants an exact DNS name, lower case, without port and trailing dot; an address is none.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return unusablef("host %s is an address, not a name", host)
	}
	if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
		return unusablef("host %q is no exact DNS name in lower case, without port: %s", host, strings.Join(problems, "; "))
	}
	// What follows no sidecar would take: it would refuse all that came together with it.
	labels := strings.Split(host, ".")
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return unusablef("host %s ends in a number, which resolvers take for an address", host)
	}
	if slices.ContainsFunc(labels, func(l string) bool { return len(l) > 63 }) {
		return unusablef("host %s has a label of more than 63 characters", host)
	}
	if strings.Contains(host, "xn--") {
		if a, err := idna.Lookup.ToASCII(host); err != nil || a != host {
			return unusablef("host %s is not valid by IDNA", host)
		}
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
