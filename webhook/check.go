package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

const (
	ourPrefix    = "sallyport.dev/"
	osLabel      = "kubernetes.io/os"
	osLabelBeta  = "beta.kubernetes.io/os"
	mirrorMarker = corev1.MirrorPodAnnotationKey
)

// validAnnotations are all that a pod may carry under our prefix.
var validAnnotations = []string{
	v1alpha1.ProxyCPULimitAnnotation,
	v1alpha1.ProxyCPURequestAnnotation,
	v1alpha1.ProxyMemoryLimitAnnotation,
	v1alpha1.ProxyMemoryRequestAnnotation,
	v1alpha1.StatusAnnotation,
}

// capabilitiesRefused are those by which a process gets around the capture, rewrites it, or reaches into the
// proxy. ALL is among them by meaning.
var capabilitiesRefused = []string{
	"ALL", "BPF", "DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO",
}

// CapabilitiesRefused returns the capabilities that no container of a guarded pod may add, sorted. The
// ValidatingAdmissionPolicy of deploy/base must refuse the same.
func CapabilitiesRefused() []string { return slices.Clone(capabilitiesRefused) }

// check returns everything that keeps the pod from being guarded. It does not look at our own containers of an
// earlier injection, because they are rendered anew.
func check(pod *corev1.Pod) []Finding {
	k := checker{before: injectedBefore(pod)}
	k.metadata(pod)
	k.pod(&pod.Spec)
	k.volumes(pod.Spec.Volumes)
	if len(pod.Spec.Containers) == 0 {
		k.refuse(ReasonNoContainers, "spec.containers", "the pod has no container")
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		field := fmt.Sprintf("spec.initContainers[%d]", i)
		if isOurs(c.Name) {
			if !k.before {
				k.refuse(ReasonReservedContainer, field+".name", reservedName(c.Name))
			}
			continue
		}
		k.container(field, c)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		field := fmt.Sprintf("spec.containers[%d]", i)
		if isOurs(c.Name) {
			k.refuse(ReasonReservedContainer, field+".name", reservedName(c.Name))
		}
		k.container(field, c)
	}
	return k.findings
}

func reservedName(name string) string {
	return fmt.Sprintf("the name %q is reserved for the sidecar; accepted is any other", name)
}

type checker struct {
	before   bool
	findings []Finding
}

func (k *checker) refuse(reason Reason, field, message string) {
	k.findings = append(k.findings, Finding{reason, field, message})
}

func (k *checker) metadata(pod *corev1.Pod) {
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if strings.HasPrefix(key, ourPrefix) && !slices.Contains(validAnnotations, key) {
			k.refuse(ReasonUnknownAnnotation, "metadata.annotations["+key+"]",
				"the annotation is unknown; accepted are "+strings.Join(validAnnotations, ", "))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		if strings.HasPrefix(key, ourPrefix) && key != v1alpha1.InjectLabel {
			k.refuse(ReasonUnknownLabel, "metadata.labels["+key+"]", "the label is unknown; accepted is "+v1alpha1.InjectLabel)
		}
	}
	if _, ok := pod.Annotations[mirrorMarker]; ok {
		k.refuse(ReasonMirrorPod, "metadata.annotations["+mirrorMarker+"]",
			"a static pod cannot be injected; accepted are pods that are created through the API")
	}
}

func (k *checker) pod(spec *corev1.PodSpec) {
	if spec.HostNetwork {
		k.refuse(ReasonHostNetwork, "spec.hostNetwork", "the node's network cannot be captured; accepted is false or no value")
	}
	if spec.HostPID {
		k.refuse(ReasonHostPID, "spec.hostPID", "processes of the node, the proxy among them, would be within reach; accepted is false or no value")
	}
	if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
		k.refuse(ReasonSharedProcesses, "spec.shareProcessNamespace", "the proxy's process would be within reach; accepted is false or no value")
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		k.refuse(ReasonWindows, "spec.os.name", "Windows pods cannot be captured; accepted is linux or no value")
	}
	for _, label := range []string{osLabel, osLabelBeta} {
		if spec.NodeSelector[label] == string(corev1.Windows) {
			k.refuse(ReasonWindows, "spec.nodeSelector["+label+"]", "Windows pods cannot be captured; accepted is linux or no value")
		}
	}
	sc := spec.SecurityContext
	if sc == nil {
		return
	}
	const field = "spec.securityContext"
	k.user(field+".runAsUser", sc.RunAsUser)
	k.user(field+".runAsGroup", sc.RunAsGroup)
	k.user(field+".fsGroup", sc.FSGroup)
	for i := range sc.SupplementalGroups {
		k.user(fmt.Sprintf("%s.supplementalGroups[%d]", field, i), &sc.SupplementalGroups[i])
	}
	k.windows(field, sc.WindowsOptions)
}

func (k *checker) user(field string, id *int64) {
	if id != nil && *id == v1alpha1.ProxyUID {
		k.refuse(ReasonReservedUID, field, fmt.Sprintf("%d is reserved for the proxy, whose traffic is not captured; accepted is any other", v1alpha1.ProxyUID))
	}
}

func (k *checker) windows(field string, o *corev1.WindowsSecurityContextOptions) {
	if o != nil && o.HostProcess != nil && *o.HostProcess {
		k.refuse(ReasonWindows, field+".windowsOptions.hostProcess", "Windows pods cannot be captured; accepted is false or no value")
	}
}

func (k *checker) volumes(volumes []corev1.Volume) {
	for i := range volumes {
		v := &volumes[i]
		field := fmt.Sprintf("spec.volumes[%d]", i)
		if isOurVolume(v.Name) {
			if !k.before {
				k.refuse(ReasonReservedVolume, field+".name", fmt.Sprintf("the name %q is reserved for the sidecar; accepted is any other", v.Name))
			}
			continue
		}
		if v.HostPath != nil {
			k.refuse(ReasonHostPath, field+".hostPath", "files of the node give access to other containers; accepted is any other kind of volume")
		}
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if t := v.Projected.Sources[j].ServiceAccountToken; t != nil && t.Audience == v1alpha1.TokenAudience {
				k.refuse(ReasonReservedAudience, fmt.Sprintf("%s.projected.sources[%d].serviceAccountToken.audience", field, j),
					fmt.Sprintf("a token for %q speaks for the proxy; accepted is any other audience", v1alpha1.TokenAudience))
			}
		}
	}
}

func isOurVolume(name string) bool {
	return name == v1alpha1.TokenVolume || name == v1alpha1.StateVolume || name == v1alpha1.TrustVolume
}

func (k *checker) container(field string, c *corev1.Container) {
	if sc := c.SecurityContext; sc != nil {
		at := field + ".securityContext"
		if sc.Privileged != nil && *sc.Privileged {
			k.refuse(ReasonPrivileged, at+".privileged", "a privileged container can remove the capture; accepted is false or no value")
		}
		if sc.Capabilities != nil {
			for i, capability := range sc.Capabilities.Add {
				if slices.Contains(capabilitiesRefused, canonicalCapability(capability)) {
					k.refuse(ReasonCapability, fmt.Sprintf("%s.capabilities.add[%d]", at, i),
						fmt.Sprintf("with %s a container can get around the capture; accepted is any capability but %s", capability, strings.Join(capabilitiesRefused, ", ")))
				}
			}
		}
		k.user(at+".runAsUser", sc.RunAsUser)
		k.user(at+".runAsGroup", sc.RunAsGroup)
		k.windows(at, sc.WindowsOptions)
	}
	for i := range c.VolumeMounts {
		k.mount(fmt.Sprintf("%s.volumeMounts[%d]", field, i), &c.VolumeMounts[i])
	}
	for i, p := range c.Ports {
		if p.ContainerPort == v1alpha1.CapturePort || p.ContainerPort == v1alpha1.HealthPort {
			k.refuse(ReasonReservedPort, fmt.Sprintf("%s.ports[%d].containerPort", field, i),
				fmt.Sprintf("the sidecar listens there; accepted is any port but %d and %d", v1alpha1.CapturePort, v1alpha1.HealthPort))
		}
	}
}

func (k *checker) mount(field string, m *corev1.VolumeMount) {
	switch {
	case m.Name == v1alpha1.TokenVolume || m.Name == v1alpha1.StateVolume:
		k.refuse(ReasonReservedVolume, field+".name", fmt.Sprintf("the volume %q belongs to the proxy alone; accepted is any other", m.Name))
	case m.Name == v1alpha1.TrustVolume && !m.ReadOnly:
		k.refuse(ReasonReservedVolume, field+".readOnly", fmt.Sprintf("the volume %q is written by the proxy alone; accepted is true", m.Name))
	case m.Name != v1alpha1.TrustVolume && within(m.MountPath, v1alpha1.TrustPath):
		k.refuse(ReasonReservedPath, field+".mountPath", fmt.Sprintf("the trust files are mounted at %s; accepted is any path outside it", v1alpha1.TrustPath))
	}
}

// within says whether path is dir or lies below it.
func within(path, dir string) bool {
	path = strings.TrimRight(path, "/")
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// canonicalCapability is the form without the prefix, in which Kubernetes writes capabilities; container
// runtimes understand others too.
func canonicalCapability(c corev1.Capability) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(string(c))), "CAP_")
}
