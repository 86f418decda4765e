package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/webhook"
)

// build is "kubectl kustomize".
func build(t *testing.T, dir string) resmap.ResMap {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("build %s: %v", dir, err)
	}
	return m
}

// object finds the one resource of a kind and name, decoded strictly: a field that is not there is a typing error.
func object[T any](t *testing.T, m resmap.ResMap, kind, name string) *T {
	t.Helper()
	var found *T
	for _, r := range m.Resources() {
		if r.GetKind() != kind || r.GetName() != name {
			continue
		}
		if found != nil {
			t.Fatalf("%s %s is there twice", kind, name)
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		found = new(T)
		if err := yaml.UnmarshalStrict(text, found); err != nil {
			t.Fatalf("%s %s: %v", kind, name, err)
		}
	}
	if found == nil {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return found
}

func TestOverlaysBuild(t *testing.T) {
	for _, dir := range []string{"crds", "base", "overlays/demo", "overlays/production", "components/network-policy"} {
		t.Run(dir, func(t *testing.T) {
			if build(t, dir).Size() == 0 {
				t.Error("empty")
			}
		})
	}
}

// Of every API that a provider may speak there is one ready to use, but for those that have no hosts that everybody knows.
func TestProvidersBuild(t *testing.T) {
	dirs, err := filepath.Glob("components/providers/*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[v1alpha1.ModelProviderAPI]bool{v1alpha1.APIMCP: true, v1alpha1.APIA2A: true}
	hosts := map[string]string{}
	for _, file := range dirs {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			m := build(t, filepath.Dir(file))
			provider := object[v1alpha1.ModelProvider](t, m, "ModelProvider", name)
			seen[provider.Spec.API] = true
			if m.Size() != 1 {
				t.Errorf("%d resources", m.Size())
			}
			if c := provider.Spec.Credential; (c == nil) != provider.Spec.Plaintext || c != nil && (c.SecretRef.Name != "providers" || c.SecretRef.Key != name) {
				t.Errorf("credential %+v", c)
			}
			for _, h := range provider.Spec.Hosts {
				if hosts[h] != "" {
					t.Errorf("host %s is also %s's", h, hosts[h])
				}
				hosts[h] = name
			}
		})
	}
	for _, api := range v1alpha1.ModelProviderAPIs() {
		if !seen[api] {
			t.Errorf("no provider is ready for %s", api)
		}
	}
}

func TestWebhook(t *testing.T) {
	m := build(t, "base")
	service := object[corev1.Service](t, m, "Service", "sallyport-controller")
	config := object[admissionregistrationv1.MutatingWebhookConfiguration](t, m, "MutatingWebhookConfiguration", "sallyport")
	if got := config.Annotations["cert-manager.io/inject-ca-from"]; got != "sallyport-system/sallyport-serving" {
		t.Errorf("the CA is injected from %q", got)
	}
	for _, w := range config.Webhooks {
		t.Run(w.Name, func(t *testing.T) {
			if *w.ClientConfig.Service.Path != webhook.MutatePath {
				t.Errorf("path %s, want %s", *w.ClientConfig.Service.Path, webhook.MutatePath)
			}
			if w.ClientConfig.Service.Name != service.Name || w.ClientConfig.Service.Namespace != service.Namespace ||
				!slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *w.ClientConfig.Service.Port }) {
				t.Errorf("service %+v is not ours", w.ClientConfig.Service)
			}
			if *w.FailurePolicy != admissionregistrationv1.Fail || *w.SideEffects != admissionregistrationv1.SideEffectClassNone ||
				*w.ReinvocationPolicy != admissionregistrationv1.IfNeededReinvocationPolicy || *w.TimeoutSeconds != 5 {
				t.Errorf("failurePolicy %s, sideEffects %s, reinvocationPolicy %s, timeoutSeconds %d", *w.FailurePolicy, *w.SideEffects, *w.ReinvocationPolicy, *w.TimeoutSeconds)
			}
			excluded := ""
			for _, e := range w.NamespaceSelector.MatchExpressions {
				if e.Key == "kubernetes.io/metadata.name" && e.Operator == "NotIn" {
					excluded = strings.Join(e.Values, " ")
				}
			}
			for _, ns := range []string{"kube-system", "kube-public", "kube-node-lease", "cert-manager", "sallyport-system"} {
				if !strings.Contains(excluded, ns) {
					t.Errorf("namespace %s is not excluded", ns)
				}
			}
		})
	}
}

// TestGuardNames holds the expressions of the guard, which know no constants, to the constants.
func TestGuardNames(t *testing.T) {
	m := build(t, "base")
	for _, name := range []string{"sallyport-pods", "sallyport-pod-updates"} {
		policy := object[admissionregistrationv1.ValidatingAdmissionPolicy](t, m, "ValidatingAdmissionPolicy", name)
		binding := object[admissionregistrationv1.ValidatingAdmissionPolicyBinding](t, m, "ValidatingAdmissionPolicyBinding", name)
		if binding.Spec.PolicyName != name || !slices.Contains(binding.Spec.ValidationActions, admissionregistrationv1.Deny) {
			t.Errorf("%s is not bound", name)
		}
		if *policy.Spec.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("%s fails open", name)
		}
		var all strings.Builder
		for _, v := range policy.Spec.Variables {
			all.WriteString(v.Expression + "\n")
		}
		for _, v := range policy.Spec.Validations {
			all.WriteString(v.Expression + "\n")
		}
		text := all.String()
		for _, want := range []string{
			"'" + v1alpha1.InitContainerName + "'", "'" + v1alpha1.ProxyContainerName + "'",
			"'" + v1alpha1.TokenVolume + "'", "'" + v1alpha1.StateVolume + "'", "'" + v1alpha1.TrustVolume + "'",
			strconv.FormatInt(v1alpha1.ProxyUID, 10),
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not speak of %s", name, want)
			}
		}
		for _, word := range regexp.MustCompile(`'(sallyport[a-z-]*)'`).FindAllStringSubmatch(text, -1) {
			known := []string{v1alpha1.InitContainerName, v1alpha1.ProxyContainerName, v1alpha1.TokenVolume, v1alpha1.StateVolume, v1alpha1.TrustVolume, v1alpha1.TokenAudience}
			if !slices.Contains(known, word[1]) {
				t.Errorf("%s speaks of %q, which nothing is called", name, word[1])
			}
		}
		for _, list := range regexp.MustCompile(`(?s)in\s+\['ALL',.*?\]`).FindAllString(text, -1) {
			var got []string
			for _, c := range regexp.MustCompile(`'([A-Z_]+)'`).FindAllStringSubmatch(list, -1) {
				got = append(got, c[1])
			}
			if want := webhook.CapabilitiesRefused(); !slices.Equal(got, want) {
				t.Errorf("%s refuses the capabilities %v, the webhook %v", name, got, want)
			}
		}
	}
}

func TestController(t *testing.T) {
	for _, overlay := range []string{"base", "overlays/demo", "overlays/production"} {
		t.Run(overlay, func(t *testing.T) {
			m := build(t, overlay)
			deployment := object[appsv1.Deployment](t, m, "Deployment", "sallyport-controller")
			service := object[corev1.Service](t, m, "Service", "sallyport-controller")
			c := deployment.Spec.Template.Spec.Containers[0]
			ports := map[string]int32{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			if ports["discovery"] != v1alpha1.DiscoveryPort || ports["bundles"] != v1alpha1.BundlePort {
				t.Errorf("ports %v", ports)
			}
			for _, p := range service.Spec.Ports {
				if _, ok := ports[p.TargetPort.StrVal]; !ok {
					t.Errorf("the service's port %s leads nowhere", p.Name)
				}
			}
			for label, value := range service.Spec.Selector {
				if deployment.Spec.Template.Labels[label] != value {
					t.Errorf("the service does not select the controller: %s=%s", label, value)
				}
			}
			sc := c.SecurityContext
			if *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
				!*deployment.Spec.Template.Spec.SecurityContext.RunAsNonRoot {
				t.Error("the controller is not restricted")
			}
			// The image of the sidecar follows "images" like that of the controller.
			at := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "SALLYPORT_PROXY_IMAGE" })
			registry, _, _ := strings.Cut(c.Image, "sallyport-controller")
			if at < 0 || !strings.HasPrefix(c.Env[at].Value, registry+"sallyport-proxy") {
				t.Errorf("images %s and %v are not from one registry", c.Image, c.Env[at].Value)
			}
		})
	}
}

// TestSecretsStayAtHome: the controller reads Secrets in its own namespace and nowhere else.
func TestSecretsStayAtHome(t *testing.T) {
	role := object[rbacv1.ClusterRole](t, build(t, "base"), "ClusterRole", "sallyport-controller")
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			if resource == "secrets" || resource == "configmaps" || resource == "*" {
				t.Errorf("the controller may %v %s in every namespace", rule.Verbs, resource)
			}
		}
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("a rule without bounds: %+v", rule)
		}
	}
}

// TestBaselineIsComplete: a module that lies in the directory and is not listed would silently not be installed.
func TestBaselineIsComplete(t *testing.T) {
	m := build(t, "base")
	bundle := object[v1alpha1.ClusterPolicyBundle](t, m, "ClusterPolicyBundle", "baseline")
	modules := object[corev1.ConfigMap](t, m, "ConfigMap", bundle.Spec.ConfigMapRefs[0].Name)
	files, err := filepath.Glob("policy/baseline/*.rego")
	if err != nil || len(files) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal([]byte(modules.Data[filepath.Base(file)]), want) {
			t.Errorf("%s is not in ConfigMap %s, or differs", file, modules.Name)
		}
	}
	object[v1alpha1.EgressProfile](t, m, "EgressProfile", v1alpha1.DefaultProfile)
}
