package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

const (
	defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"
	// safeToEvictAnnotation lists local volumes that need not keep the cluster autoscaler from draining a node.
	safeToEvictAnnotation = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

	// startupSeconds is how long the proxy may take to get its certificate and its first policy before the
	// kubelet restarts it.
	startupSeconds = 120
	// tokenSeconds is the life of the projected token; the kubelet renews it at four fifths of it.
	tokenSeconds = 3600
	// tokenMode makes the token readable by the proxy's user, who is not its owner. Without fsGroup the kubelet
	// takes the mode as it is: it narrows it to 0600 for the owner only where all containers run as one user,
	// which our two never do. With fsGroup it makes it 0640 with that group, to which the proxy belongs as every
	// container of the pod does. Nobody else sees the file: only the proxy mounts the volume.
	tokenMode = 0o644
)

var (
	// stateSize bounds last good policy, model and credentials. It counts against the proxy's memory.
	stateSize = resource.MustParse("64Mi")
	// trustSize bounds the trust files, a few hundred kilobytes.
	trustSize = resource.MustParse("8Mi")
)

// What follows spells out every field that the API server would fill in, so that a pod that has passed through
// it is equal to a pod rendered anew.

func initContainer(config *Config, profile *v1alpha1.EgressProfile, resources corev1.ResourceRequirements) corev1.Container {
	return corev1.Container{
		Name:                     v1alpha1.InitContainerName,
		Image:                    config.image(profile),
		ImagePullPolicy:          config.pullPolicy(config.image(profile)),
		Args:                     []string{"init"},
		Resources:                resources,
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			RunAsUser:                new(int64(0)),
			RunAsGroup:               new(int64(0)),
			RunAsNonRoot:             new(false),
			Privileged:               new(false),
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

func proxyContainer(config *Config, profile *v1alpha1.EgressProfile, resources corev1.ResourceRequirements, workload string) corev1.Container {
	c := corev1.Container{
		Name:            v1alpha1.ProxyContainerName,
		Image:           config.image(profile),
		ImagePullPolicy: config.pullPolicy(config.image(profile)),
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Ports: []corev1.ContainerPort{
			{Name: "sp-capture", ContainerPort: v1alpha1.CapturePort, Protocol: corev1.ProtocolTCP},
			{Name: "sp-health", ContainerPort: v1alpha1.HealthPort, Protocol: corev1.ProtocolTCP},
		},
		Env: []corev1.EnvVar{
			{Name: v1alpha1.EnvDiscoveryAddress, Value: config.DiscoveryAddress},
			{Name: v1alpha1.EnvBundleURL, Value: config.BundleURL},
			{Name: v1alpha1.EnvTrustAnchors, Value: config.TrustAnchors},
			{Name: v1alpha1.EnvBundleKeys, Value: config.BundleKeys},
			{Name: v1alpha1.EnvWorkload, Value: workload},
			podField(v1alpha1.EnvPodName, "metadata.name"),
			podField(v1alpha1.EnvPodNamespace, "metadata.namespace"),
			podField(v1alpha1.EnvPodUID, "metadata.uid"),
			podField(v1alpha1.EnvServiceAccount, "spec.serviceAccountName"),
			{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{
				ContainerName: v1alpha1.ProxyContainerName,
				Resource:      "limits.memory",
				Divisor:       resource.MustParse("0"),
			}}},
		},
		Resources: resources,
		VolumeMounts: []corev1.VolumeMount{
			{Name: v1alpha1.TokenVolume, MountPath: path.Dir(v1alpha1.TokenPath), ReadOnly: true},
			{Name: v1alpha1.StateVolume, MountPath: v1alpha1.StatePath},
			{Name: v1alpha1.TrustVolume, MountPath: v1alpha1.TrustPath},
		},
		StartupProbe:             probe("/startup", 1, startupSeconds),
		ReadinessProbe:           probe("/live", 10, 3),
		LivenessProbe:            probe("/live", 10, 3),
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			RunAsUser:                new(v1alpha1.ProxyUID),
			RunAsGroup:               new(v1alpha1.ProxyUID),
			RunAsNonRoot:             new(true),
			Privileged:               new(false),
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if profile != nil && profile.Spec.Proxy.Explicit {
		c.Env = append(c.Env, corev1.EnvVar{Name: v1alpha1.EnvExplicit, Value: "true"})
	}
	return c
}

func podField(name, field string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field},
	}}
}

func probe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromInt32(v1alpha1.HealthPort), Scheme: corev1.URISchemeHTTP,
		}},
		TimeoutSeconds: 2, PeriodSeconds: period, SuccessThreshold: 1, FailureThreshold: failures,
	}
}

func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: v1alpha1.TokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(tokenMode)),
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience:          v1alpha1.TokenAudience,
				ExpirationSeconds: new(int64(tokenSeconds)),
				Path:              path.Base(v1alpha1.TokenPath),
			}}},
		}}},
		{Name: v1alpha1.StateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(stateSize.DeepCopy()),
		}}},
		{Name: v1alpha1.TrustVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			SizeLimit: new(trustSize.DeepCopy()),
		}}},
	}
}

// proxyResources lays the profile's resources over the defaults and the pod's annotations over both, one
// quantity at a time: naming one leaves the others as they were.
func proxyResources(annotations map[string]string, profile *v1alpha1.EgressProfile, config *Config) (corev1.ResourceRequirements, []Finding) {
	base := config.Resources
	if len(base.Requests) == 0 && len(base.Limits) == 0 {
		base = DefaultResources()
	}
	out := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	overlay(out.Requests, base.Requests)
	overlay(out.Limits, base.Limits)
	if profile != nil {
		overlay(out.Requests, profile.Spec.Proxy.Resources.Requests)
		overlay(out.Limits, profile.Spec.Proxy.Resources.Limits)
	}
	var findings []Finding
	for _, a := range []struct {
		annotation string
		list       corev1.ResourceList
		name       corev1.ResourceName
	}{
		{v1alpha1.ProxyCPURequestAnnotation, out.Requests, corev1.ResourceCPU},
		{v1alpha1.ProxyCPULimitAnnotation, out.Limits, corev1.ResourceCPU},
		{v1alpha1.ProxyMemoryRequestAnnotation, out.Requests, corev1.ResourceMemory},
		{v1alpha1.ProxyMemoryLimitAnnotation, out.Limits, corev1.ResourceMemory},
	} {
		value, ok := annotations[a.annotation]
		if !ok {
			continue
		}
		q, err := resource.ParseQuantity(value)
		if err != nil || q.Sign() <= 0 {
			findings = append(findings, Finding{ReasonInvalidAnnotation, "metadata.annotations[" + a.annotation + "]",
				fmt.Sprintf("%q is not a quantity above zero; accepted are values such as 100m for CPU and 256Mi for memory", value)})
			continue
		}
		a.list[a.name] = q
	}
	if len(findings) > 0 {
		return out, findings
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		request, asked := out.Requests[name]
		limit, limited := out.Limits[name]
		if asked && limited && request.Cmp(limit) > 0 {
			findings = append(findings, Finding{ReasonInvalidResources, "metadata.annotations",
				fmt.Sprintf("the proxy's %s request of %s is above its limit of %s, counting defaults and the EgressProfile; accepted is a request up to the limit", name, request.String(), limit.String())})
		}
	}
	return out, findings
}

func overlay(dst, src corev1.ResourceList) {
	for name, q := range src {
		dst[name] = q.DeepCopy()
	}
}

// Status is the content of the annotation sallyport.dev/status.
type Status struct {
	// Version of the injector.
	Version string `json:"version"`
	// Containers are the pod's containers that got the trust files.
	Containers []string `json:"containers"`
	// InitContainers are the containers that were added.
	InitContainers []string `json:"initContainers"`
	// Volumes are the volumes that were added.
	Volumes []string `json:"volumes"`
	// TemplateHash changes when the same pod would be rendered otherwise.
	TemplateHash string `json:"templateHash"`
}

func annotate(pod *corev1.Pod, ours *template, hash string, config *Config) {
	status := Status{
		Version:        config.version(),
		Containers:     []string{},
		InitContainers: []string{ours.init.Name, ours.proxy.Name},
		TemplateHash:   hash,
	}
	for _, v := range ours.volumes {
		status.Volumes = append(status.Volumes, v.Name)
	}
	eachForeign(&pod.Spec, func(_ string, c *corev1.Container) { status.Containers = append(status.Containers, c.Name) })
	text, err := json.Marshal(status)
	if err != nil {
		panic("webhook: status of strings does not encode: " + err.Error())
	}
	if pod.Annotations == nil {
		pod.Annotations = make(map[string]string, 3)
	}
	pod.Annotations[v1alpha1.StatusAnnotation] = string(text)
	if pod.Annotations[defaultContainerAnnotation] == "" {
		pod.Annotations[defaultContainerAnnotation] = pod.Spec.Containers[0].Name
	}
	pod.Annotations[safeToEvictAnnotation] = mergeList(pod.Annotations[safeToEvictAnnotation], v1alpha1.StateVolume, v1alpha1.TrustVolume)
}

// hash is of the JSON form of the template, which orders the keys of maps.
func (t *template) hash() string {
	text, err := json.Marshal(struct {
		Containers []corev1.Container
		Volumes    []corev1.Volume
	}{[]corev1.Container{t.init, t.proxy}, t.volumes})
	if err != nil {
		panic("webhook: template does not encode: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// mergeList adds to a comma-separated list what it lacks.
func mergeList(list string, add ...string) string {
	var items []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	for _, a := range add {
		if !slices.Contains(items, a) {
			items = append(items, a)
		}
	}
	return strings.Join(items, ",")
}
