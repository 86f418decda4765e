package webhook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

func testConfig(t testing.TB) *Config {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	config := &Config{
		ProxyImage:       "registry.example.com/sallyport-proxy:1",
		DiscoveryAddress: "sallyport-controller.sallyport-system.svc:15012",
		BundleURL:        "https://sallyport-controller.sallyport-system.svc:15013",
		TrustAnchors:     read("trust-anchors.txt"),
		BundleKeys:       read("bundle.pub"),
		Version:          "v0.0.0-test",
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	return config
}

var labelled = Target{Namespace: "agents", Labels: map[string]string{v1alpha1.InjectLabel: v1alpha1.InjectEnabled}}

func plainPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "plain", Namespace: "agents"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "example.com/agent:1"}}},
	}
}

// TestDecide walks the truth table beside the function.
func TestDecide(t *testing.T) {
	const none = "-"
	tests := []struct {
		namespace, pod string
		allowOptOut    bool
		result         Result
		reason         Reason
	}{
		{"enabled", none, false, Injected, ReasonInjected},
		{"enabled", none, true, Injected, ReasonInjected},
		{"enabled", "enabled", false, Injected, ReasonInjected},
		{"enabled", "enabled", true, Injected, ReasonInjected},
		{"enabled", "disabled", true, Skipped, ReasonOptOut},
		{"enabled", "disabled", false, Refused, ReasonOptOutNotAllowed},
		{none, none, false, Skipped, ReasonNamespaceNotLabelled},
		{"disabled", none, true, Skipped, ReasonNamespaceNotLabelled},
		{"true", none, false, Skipped, ReasonNamespaceNotLabelled},
		{none, "enabled", false, Injected, ReasonInjected},
		{"disabled", "enabled", true, Injected, ReasonInjected},
		{none, "disabled", false, Skipped, ReasonOptOut},
		{none, "disabled", true, Skipped, ReasonOptOut},
		{"enabled", "true", true, Refused, ReasonInvalidLabel},
		{"enabled", "", false, Refused, ReasonInvalidLabel},
		{none, "Enabled", false, Refused, ReasonInvalidLabel},
	}
	config := testConfig(t)
	for _, tt := range tests {
		t.Run(tt.namespace+"/"+tt.pod, func(t *testing.T) {
			target := Target{Namespace: "agents", Profile: &v1alpha1.EgressProfile{Spec: v1alpha1.EgressProfileSpec{AllowOptOut: tt.allowOptOut}}}
			if tt.namespace != none {
				target.Labels = map[string]string{v1alpha1.InjectLabel: tt.namespace}
			}
			pod := plainPod()
			if tt.pod != none {
				pod.Labels = map[string]string{v1alpha1.InjectLabel: tt.pod}
			}
			out, report := Inject(pod, target, config)
			if report.Result != tt.result || report.Reason != tt.reason {
				t.Errorf("Inject = %s, %s; want %s, %s", report.Result, report.Reason, tt.result, tt.reason)
			}
			if report.Message == "" {
				t.Error("the report has no message")
			}
			if report.Result != Injected && out != pod {
				t.Error("a pod that is not injected was changed")
			}
		})
	}
	t.Run("without a profile nobody opts out", func(t *testing.T) {
		pod := plainPod()
		pod.Labels = map[string]string{v1alpha1.InjectLabel: v1alpha1.InjectDisabled}
		if _, report := Inject(pod, labelled, config); report.Reason != ReasonOptOutNotAllowed {
			t.Errorf("reason %s, want %s", report.Reason, ReasonOptOutNotAllowed)
		}
	})
}

func TestRefused(t *testing.T) {
	type edit func(*corev1.Pod)
	security := func(f func(*corev1.SecurityContext)) edit {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{}
			f(p.Spec.Containers[0].SecurityContext)
		}
	}
	mount := func(m corev1.VolumeMount) edit {
		return func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{m} }
	}
	volume := func(name string, s corev1.VolumeSource) edit {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: name, VolumeSource: s}} }
	}
	annotation := func(key, value string) edit {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{key: value} }
	}
	tests := []struct {
		name   string
		edit   edit
		reason Reason // empty means that the pod is accepted
		field  string
	}{
		{"hostNetwork", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, ReasonHostNetwork, "spec.hostNetwork"},
		{"hostPID", func(p *corev1.Pod) { p.Spec.HostPID = true }, ReasonHostPID, "spec.hostPID"},
		{"shared processes", func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(true) }, ReasonSharedProcesses, "spec.shareProcessNamespace"},
		{"processes not shared", func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(false) }, "", ""},
		{"Windows", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, ReasonWindows, "spec.os.name"},
		{"Linux", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} }, "", ""},
		{"Windows nodes", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"} }, ReasonWindows, "spec.nodeSelector[kubernetes.io/os]"},
		{"Windows host process", security(func(s *corev1.SecurityContext) {
			s.WindowsOptions = &corev1.WindowsSecurityContextOptions{HostProcess: new(true)}
		}), ReasonWindows, "spec.containers[0].securityContext.windowsOptions.hostProcess"},
		{"static pod", annotation(corev1.MirrorPodAnnotationKey, "x"), ReasonMirrorPod, "metadata.annotations[kubernetes.io/config.mirror]"},
		{"pod runs as the proxy", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(v1alpha1.ProxyUID)}
		}, ReasonReservedUID, "spec.securityContext.runAsUser"},
		{"pod has the proxy's group", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{1, v1alpha1.ProxyUID}}
		}, ReasonReservedUID, "spec.securityContext.supplementalGroups[1]"},
		{"container runs as the proxy", security(func(s *corev1.SecurityContext) { s.RunAsUser = new(v1alpha1.ProxyUID) }), ReasonReservedUID, "spec.containers[0].securityContext.runAsUser"},
		{"container runs with the proxy's group", security(func(s *corev1.SecurityContext) { s.RunAsGroup = new(v1alpha1.ProxyUID) }), ReasonReservedUID, "spec.containers[0].securityContext.runAsGroup"},
		{"container runs as another", security(func(s *corev1.SecurityContext) { s.RunAsUser = new(v1alpha1.ProxyUID + 1) }), "", ""},
		{"privileged", security(func(s *corev1.SecurityContext) { s.Privileged = new(true) }), ReasonPrivileged, "spec.containers[0].securityContext.privileged"},
		{"NET_ADMIN", security(func(s *corev1.SecurityContext) {
			s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}
		}), ReasonCapability, "spec.containers[0].securityContext.capabilities.add[0]"},
		{"a capability in another spelling", security(func(s *corev1.SecurityContext) {
			s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"CHOWN", "cap_sys_ptrace"}}
		}), ReasonCapability, "spec.containers[0].securityContext.capabilities.add[1]"},
		{"all capabilities", security(func(s *corev1.SecurityContext) {
			s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"ALL"}}
		}), ReasonCapability, "spec.containers[0].securityContext.capabilities.add[0]"},
		{"a harmless capability", security(func(s *corev1.SecurityContext) {
			s.Capabilities = &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}}
		}), "", ""},
		{"an init container is looked at too", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}
		}, ReasonPrivileged, "spec.initContainers[0].securityContext.privileged"},
		{"a container with our name", func(p *corev1.Pod) { p.Spec.Containers[0].Name = v1alpha1.ProxyContainerName }, ReasonReservedContainer, "spec.containers[0].name"},
		{"an init container with our name", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: v1alpha1.InitContainerName}}
		}, ReasonReservedContainer, "spec.initContainers[0].name"},
		{"a volume with our name", volume(v1alpha1.TrustVolume, corev1.VolumeSource{}), ReasonReservedVolume, "spec.volumes[0].name"},
		{"our token mounted", mount(corev1.VolumeMount{Name: v1alpha1.TokenVolume, MountPath: "/t", ReadOnly: true}), ReasonReservedVolume, "spec.containers[0].volumeMounts[0].name"},
		{"our state mounted", mount(corev1.VolumeMount{Name: v1alpha1.StateVolume, MountPath: "/s"}), ReasonReservedVolume, "spec.containers[0].volumeMounts[0].name"},
		{"our trust mounted for writing", mount(corev1.VolumeMount{Name: v1alpha1.TrustVolume, MountPath: "/t"}), ReasonReservedVolume, "spec.containers[0].volumeMounts[0].readOnly"},
		{"our trust mounted elsewhere for reading", mount(corev1.VolumeMount{Name: v1alpha1.TrustVolume, MountPath: "/etc/ssl/certs/ca-certificates.crt", SubPath: "bundle.crt", ReadOnly: true}), "", ""},
		{"something else where trust belongs", mount(corev1.VolumeMount{Name: "mine", MountPath: "/etc/sallyport/trust/x"}), ReasonReservedPath, "spec.containers[0].volumeMounts[0].mountPath"},
		{"something else beside it", mount(corev1.VolumeMount{Name: "mine", MountPath: "/etc/sallyport/trusty"}), "", ""},
		{"hostPath", volume("node", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}), ReasonHostPath, "spec.volumes[0].hostPath"},
		{"a token that speaks for the proxy", volume("t", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: v1alpha1.TokenAudience}},
		}}}), ReasonReservedAudience, "spec.volumes[0].projected.sources[0].serviceAccountToken.audience"},
		{"a token for another", volume("t", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault"}},
		}}}), "", ""},
		{"our port", func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: v1alpha1.HealthPort}}
		}, ReasonReservedPort, "spec.containers[0].ports[0].containerPort"},
		{"unknown annotation", annotation("sallyport.dev/include-ports", "1"), ReasonUnknownAnnotation, "metadata.annotations[sallyport.dev/include-ports]"},
		{"an annotation of somebody else", annotation("other.sallyport.dev/x", "1"), "", ""},
		{"unknown label", func(p *corev1.Pod) { p.Labels = map[string]string{"sallyport.dev/x": "y"} }, ReasonUnknownLabel, "metadata.labels[sallyport.dev/x]"},
		{"no quantity", annotation(v1alpha1.ProxyMemoryLimitAnnotation, "much"), ReasonInvalidAnnotation, "metadata.annotations[sallyport.dev/proxy-memory-limit]"},
		{"nothing", annotation(v1alpha1.ProxyMemoryLimitAnnotation, "0"), ReasonInvalidAnnotation, "metadata.annotations[sallyport.dev/proxy-memory-limit]"},
		{"request above limit", annotation(v1alpha1.ProxyMemoryRequestAnnotation, "4Gi"), ReasonInvalidResources, "metadata.annotations"},
		{"no container", func(p *corev1.Pod) { p.Spec.Containers = nil }, ReasonNoContainers, "spec.containers"},
		{"a claim to be injected excuses no container", func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.StatusAnnotation: "{}"}
			p.Spec.Containers[0].Name = v1alpha1.ProxyContainerName
		}, ReasonReservedContainer, "spec.containers[0].name"},
		{"nor our volumes without our containers", func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.StatusAnnotation: "{}"}
			p.Spec.Volumes = []corev1.Volume{{Name: v1alpha1.StateVolume}}
		}, ReasonReservedVolume, "spec.volumes[0].name"},
	}
	config := testConfig(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := plainPod()
			tt.edit(pod)
			_, report := Inject(pod, labelled, config)
			if tt.reason == "" {
				if report.Result != Injected {
					t.Fatalf("refused: %s", report.Message)
				}
				return
			}
			if report.Result != Refused || report.Reason != tt.reason {
				t.Fatalf("Inject = %s, %s; want refused, %s", report.Result, report.Reason, tt.reason)
			}
			if len(report.Findings) != 1 || report.Findings[0].Field != tt.field {
				t.Errorf("findings %+v, want one about %s", report.Findings, tt.field)
			}
			if !strings.Contains(report.Message, "accepted") && tt.reason != ReasonNoContainers {
				t.Errorf("the message does not say what is accepted: %s", report.Message)
			}
		})
	}
}

// TestReinvocation is about another webhook that comes after ours: what it added gets its trust, what it did to
// ours is undone, and ours are first again.
func TestReinvocation(t *testing.T) {
	config := testConfig(t)
	once, _ := Inject(plainPod(), labelled, config)
	touched := once.DeepCopy()
	touched.Spec.InitContainers = append([]corev1.Container{{Name: "mesh-init", Image: "mesh"}}, touched.Spec.InitContainers...)
	touched.Spec.InitContainers[2].Env = append(touched.Spec.InitContainers[2].Env, corev1.EnvVar{Name: "HTTPS_PROXY", Value: "http://elsewhere"})
	touched.Spec.Containers = append(touched.Spec.Containers, corev1.Container{Name: "mesh", Image: "mesh"})

	out, report := Inject(touched, labelled, config)
	if report.Result != Injected || report.Reason != ReasonAlreadyInjected {
		t.Fatalf("Inject = %s, %s: %s", report.Result, report.Reason, report.Message)
	}
	var names []string
	for _, c := range out.Spec.InitContainers {
		names = append(names, c.Name)
	}
	if want := []string{v1alpha1.InitContainerName, v1alpha1.ProxyContainerName, "mesh-init"}; !slices.Equal(names, want) {
		t.Errorf("init containers %v, want %v", names, want)
	}
	if !equality.Semantic.DeepEqual(out.Spec.InitContainers[:2], once.Spec.InitContainers) {
		t.Error("ours differ from the template")
	}
	for _, c := range []corev1.Container{out.Spec.InitContainers[2], out.Spec.Containers[1]} {
		if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "SSL_CERT_FILE" && e.Value == v1alpha1.TrustPath+"/"+v1alpha1.BundleFile
		}) ||
			!slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v1alpha1.TrustVolume && m.ReadOnly }) {
			t.Errorf("container %s was added later and lacks its trust", c.Name)
		}
	}
	checkPatch(t, touched, out)
	again, _ := Inject(out, labelled, config)
	if operations := Patch(out, again); len(operations) != 0 {
		t.Errorf("injecting again changed something: %v", operations)
	}
}

// TestKeepsClusterDefaults is about built-in admission plugins, which act on our containers between two calls.
func TestKeepsClusterDefaults(t *testing.T) {
	config := testConfig(t)
	once, _ := Inject(plainPod(), labelled, config)
	touched := once.DeepCopy()
	for i := range touched.Spec.InitContainers {
		c := &touched.Spec.InitContainers[i]
		c.ImagePullPolicy = corev1.PullAlways                               // AlwaysPullImages
		c.Resources.Limits[corev1.ResourceCPU] = resource.MustParse("500m") // LimitRanger
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "kube-api-access-x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"})
	}
	out, _ := Inject(touched, labelled, config)
	for _, c := range out.Spec.InitContainers {
		if c.ImagePullPolicy != corev1.PullAlways {
			t.Errorf("%s: pull policy %s", c.Name, c.ImagePullPolicy)
		}
		if got := c.Resources.Limits[corev1.ResourceCPU]; got.String() != "500m" {
			t.Errorf("%s: CPU limit %s", c.Name, got.String())
		}
		if got := c.Resources.Limits[corev1.ResourceMemory]; got.String() != "512Mi" {
			t.Errorf("%s: memory limit %s", c.Name, got.String())
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "kube-api-access-x" }) {
			t.Errorf("%s has a token for the API server, which it does not need", c.Name)
		}
	}
	if out.Annotations[v1alpha1.StatusAnnotation] != once.Annotations[v1alpha1.StatusAnnotation] {
		t.Error("the status depends on what other plugins did")
	}
}

func TestResourcesFieldByField(t *testing.T) {
	config := testConfig(t)
	profile := &v1alpha1.EgressProfile{Spec: v1alpha1.EgressProfileSpec{Proxy: v1alpha1.ProxySpec{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("70m")},
		Limits:   corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")},
	}}}}
	pod := plainPod()
	pod.Annotations = map[string]string{v1alpha1.ProxyMemoryLimitAnnotation: "1Gi"}
	got, findings := proxyResources(pod.Annotations, profile, config)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	want := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("70m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")},
	}
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("resources %v, want %v", got, want)
	}
	if !equality.Semantic.DeepEqual(config.Resources, corev1.ResourceRequirements{}) {
		t.Error("the configuration was changed")
	}
}

func TestWorkload(t *testing.T) {
	owner := func(kind, name string, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: name, Controller: new(true)}}}}
	}
	tests := []struct {
		name   string
		pod    *corev1.Pod
		target Target
		want   string
	}{
		{"Deployment", owner("ReplicaSet", "web-5d4", map[string]string{"pod-template-hash": "5d4"}), Target{}, "Deployment/web"},
		{"ReplicaSet", owner("ReplicaSet", "web", nil), Target{}, "ReplicaSet/web"},
		{"ReplicaSet with somebody else's hash", owner("ReplicaSet", "web", map[string]string{"pod-template-hash": "5d4"}), Target{}, "ReplicaSet/web"},
		{"Job", owner("Job", "nightly-1", nil), Target{}, "Job/nightly-1"},
		{"named pod", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, Target{}, "Pod/p"},
		{"unnamed pod", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"}}, Target{}, "Pod/p"},
		{"the caller knows better", owner("ReplicaSet", "web", nil), Target{Workload: "Deployment/x"}, "Deployment/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := workload(tt.pod, tt.target); got != tt.want {
				t.Errorf("workload = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCanChangeUserWarning(t *testing.T) {
	drop := func(c ...corev1.Capability) *corev1.SecurityContext {
		return &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: c}}
	}
	addBack := drop("ALL")
	addBack.Capabilities.Add = []corev1.Capability{"SETUID"}
	tests := []struct {
		name string
		pod  *corev1.PodSecurityContext
		c    *corev1.SecurityContext
		want bool
	}{
		{"nothing said", nil, nil, true},
		{"drops all", nil, drop("ALL"), false},
		{"drops the one", nil, drop("CAP_SETUID"), false},
		{"drops all and takes one back", nil, addBack, true},
		{"another user who may escalate", &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}, nil, true},
		{"another user who may not", &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}, &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}, false},
		{"some user who may not", &corev1.PodSecurityContext{RunAsNonRoot: new(true)}, &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}, false},
		{"root by the container", &corev1.PodSecurityContext{RunAsUser: new(int64(1000))}, &corev1.SecurityContext{RunAsUser: new(int64(0)), AllowPrivilegeEscalation: new(false)}, true},
	}
	config := testConfig(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := plainPod()
			pod.Spec.SecurityContext, pod.Spec.Containers[0].SecurityContext = tt.pod, tt.c
			_, report := Inject(pod, labelled, config)
			got := slices.ContainsFunc(report.Warnings, func(f Finding) bool { return f.Reason == ReasonCanChangeUser })
			if got != tt.want {
				t.Errorf("warned: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	good := testConfig(t)
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"good", func(*Config) {}, ""},
		{"no image", func(c *Config) { c.ProxyImage = "" }, "proxy image"},
		{"no port", func(c *Config) { c.DiscoveryAddress = "host" }, "discovery address"},
		{"plain HTTP", func(c *Config) { c.BundleURL = "http://host:1" }, "bundle URL"},
		{"no anchors", func(c *Config) { c.TrustAnchors = "" }, "trust anchors"},
		{"a private key among the anchors", func(c *Config) {
			c.TrustAnchors += "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
		}, "PRIVATE KEY"},
		{"text after the anchors", func(c *Config) { c.TrustAnchors += "and more" }, "after the last"},
		{"an anchor that does not parse", func(c *Config) {
			c.TrustAnchors = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		}, "trust anchors"},
		{"certificates for keys", func(c *Config) { c.BundleKeys = c.TrustAnchors }, "bundle keys"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := *good
			tt.edit(&c)
			err := c.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Validate = %v, want something about %q", err, tt.want)
			}
		})
	}
}

// checkPatch requires that the patch does to the JSON what Inject did to the pod.
func checkPatch(t *testing.T, before, after *corev1.Pod) {
	t.Helper()
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	got := &corev1.Pod{}
	if err := json.Unmarshal(applyPatch(t, text, before, after), got); err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(got, after) {
		t.Errorf("the patched pod differs from the injected one")
	}
}

func applyPatch(t *testing.T, text []byte, before, after *corev1.Pod) []byte {
	t.Helper()
	operations := Patch(before, after)
	if len(operations) == 0 {
		return text
	}
	encoded, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := p.Apply(text)
	if err != nil {
		t.Fatalf("%v; patch: %s", err, encoded)
	}
	return patched
}

// FuzzInject: whatever pod comes, Inject does not panic, does not change its argument, gives a patch that does what
// it did, puts ours first, and changes nothing the second time.
func FuzzInject(f *testing.F) {
	for _, pod := range goldenPods(f) {
		f.Add([]byte(pod.raw))
	}
	f.Add([]byte(`{"metadata":{},"spec":{"initContainers":[{"name":"sallyport-proxy"},{"name":"sallyport-proxy"}],"containers":[{}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"sallyport.dev/status":"x"}},"spec":{"volumes":[{"name":"sallyport-state"},{"name":"sallyport-state"}],"initContainers":[{"name":"sallyport-proxy"},{"name":"a"},{"name":"sallyport-proxy"}],"containers":[{"env":[],"volumeMounts":[],"securityContext":{"capabilities":{"drop":[]}}}]}}`))
	config := testConfig(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		pod := &corev1.Pod{}
		if err := json.Unmarshal(raw, pod); err != nil {
			return
		}
		before := pod.DeepCopy()
		out, report := Inject(pod, labelled, config)
		if !equality.Semantic.DeepEqual(pod, before) {
			t.Fatal("Inject changed its argument")
		}
		if report.Result != Injected {
			if report.Reason == "" || report.Message == "" {
				t.Fatalf("no reason: %+v", report)
			}
			return
		}
		if out.Spec.InitContainers[0].Name != v1alpha1.InitContainerName || out.Spec.InitContainers[1].Name != v1alpha1.ProxyContainerName {
			t.Fatal("ours are not first")
		}
		if want := len(before.Spec.Containers); len(out.Spec.Containers) != want {
			t.Fatalf("%d containers, want %d", len(out.Spec.Containers), want)
		}
		checkPatch(t, pod, out)
		again, report := Inject(out, labelled, config)
		if report.Result != Injected {
			t.Fatalf("the injected pod is not accepted: %s", report.Message)
		}
		if operations := Patch(out, again); len(operations) > 0 {
			t.Fatalf("injecting twice changed something: %v", operations)
		}
	})
}

func BenchmarkInject(b *testing.B) {
	config := testConfig(b)
	for _, p := range goldenPods(b) {
		if p.file != "plain.yaml" && p.file != "busy.yaml" {
			continue
		}
		pod := &corev1.Pod{}
		if err := json.Unmarshal(p.raw, pod); err != nil {
			b.Fatal(err)
		}
		b.Run(strings.TrimSuffix(p.file, ".yaml"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out, report := Inject(pod, labelled, config)
				if report.Result != Injected || len(Patch(pod, out)) == 0 {
					b.Fatal(report.Message)
				}
			}
		})
	}
}

// The explicit proxy is told to the sidecar alone, and where a profile asks for it.
func TestExplicitProxy(t *testing.T) {
	for _, explicit := range []bool{false, true} {
		profile := &v1alpha1.EgressProfile{Spec: v1alpha1.EgressProfileSpec{Proxy: v1alpha1.ProxySpec{Explicit: explicit}}}
		c := proxyContainer(testConfig(t), profile, DefaultResources(), "Deployment/agent")
		is := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v1alpha1.EnvExplicit && e.Value == "true" })
		if is != explicit {
			t.Errorf("explicit %v: environment %v", explicit, c.Env)
		}
	}
}
