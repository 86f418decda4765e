package webhook

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// Target is where a pod is about to be created.
type Target struct {
	// Namespace is the pod's namespace. The pod itself may not name it yet while it is being admitted.
	Namespace string
	// Labels are the namespace's labels.
	Labels map[string]string
	// Profile is the EgressProfile of the namespace, or nil if there is none, which is as strict as the
	// default: see [v1alpha1.SelectProfile].
	Profile *v1alpha1.EgressProfile
	// Workload is "Kind/name" of what creates the pod. Empty means that the pod's owner references tell.
	Workload string
}

// Inject decides whether the pod gets the sidecar and returns the pod as it should be, with a report. The
// given pod is not changed. Unless the result is Injected, the returned pod is the given one.
//
// Inject reads no clock, no network and no global state: equal arguments give equal answers. A pod that
// Inject returned comes back unchanged, whatever defaults the API server has filled in since.
func Inject(pod *corev1.Pod, target Target, config *Config) (*corev1.Pod, Report) {
	report := decide(pod, target)
	if report.Result != Injected {
		return pod, report
	}
	findings := check(pod)
	resources, invalid := proxyResources(pod.Annotations, target.Profile, config)
	if findings = append(findings, invalid...); len(findings) > 0 {
		return pod, refusal(findings)
	}

	out := pod.DeepCopy()
	ours := template{
		init:    initContainer(config, target.Profile, resources),
		proxy:   proxyContainer(config, target.Profile, resources, workload(pod, target)),
		volumes: volumes(),
	}
	already := injectedBefore(pod)
	hash := ours.hash()
	placeContainers(&out.Spec, &ours)
	placeVolumes(&out.Spec, ours.volumes)
	eachForeign(&out.Spec, func(_ string, c *corev1.Container) {
		report.Warnings = append(report.Warnings, addTrust(c)...)
		addKeyPlaceholders(c)
		dropRawSockets(c)
	})
	eachForeign(&out.Spec, func(field string, c *corev1.Container) {
		if canChangeUser(&out.Spec, c) {
			report.Warnings = append(report.Warnings, Finding{
				Reason:  ReasonCanChangeUser,
				Field:   field + ".securityContext",
				Message: fmt.Sprintf("a process may become user %d, whose traffic is not captured; accepted without this warning is a container that drops SETUID and SETGID, or ALL", v1alpha1.ProxyUID),
			})
		}
	})
	annotate(out, &ours, hash, config)

	report.Reason = ReasonInjected
	report.Message = "The pod gets the Sallyport sidecar."
	if already {
		report.Reason = ReasonAlreadyInjected
		report.Message = "The pod has the Sallyport sidecar already; it is brought up to date where it differs."
	}
	return out, report
}

// decide says whether the pod is to be injected, going by labels alone.
//
//	namespace label | pod label  | allowOptOut | result
//	----------------+------------+-------------+---------------------------------
//	enabled         | none       | any         | injected
//	enabled         | enabled    | any         | injected
//	enabled         | disabled   | true        | skipped: opt_out
//	enabled         | disabled   | false       | refused: opt_out_not_allowed
//	other or none   | none       | any         | skipped: namespace_not_labelled
//	other or none   | enabled    | any         | injected
//	other or none   | disabled   | any         | skipped: opt_out
//	any             | other      | any         | refused: invalid_label
//
// What is to be injected and cannot be is refused, never skipped: a label on a namespace is a promise
// that every pod in it is guarded.
func decide(pod *corev1.Pod, target Target) Report {
	enabled := target.Labels[v1alpha1.InjectLabel] == v1alpha1.InjectEnabled
	value, labelled := pod.Labels[v1alpha1.InjectLabel]
	field := "metadata.labels[" + v1alpha1.InjectLabel + "]"
	switch {
	case labelled && value != v1alpha1.InjectEnabled && value != v1alpha1.InjectDisabled:
		return refusal([]Finding{{ReasonInvalidLabel, field, fmt.Sprintf(
			"the value %q is not understood; accepted are %q and %q", value, v1alpha1.InjectEnabled, v1alpha1.InjectDisabled)}})
	case value == v1alpha1.InjectDisabled && enabled && (target.Profile == nil || !target.Profile.Spec.AllowOptOut):
		return refusal([]Finding{{ReasonOptOutNotAllowed, field, fmt.Sprintf(
			"pods of namespace %q may not opt out; remove the label, or have the EgressProfile of the namespace set allowOptOut: true", target.Namespace)}})
	case value == v1alpha1.InjectDisabled:
		return Report{Result: Skipped, Reason: ReasonOptOut, Message: "The pod opts out of injection by its label " + v1alpha1.InjectLabel + "."}
	case !enabled && !labelled:
		return Report{Result: Skipped, Reason: ReasonNamespaceNotLabelled, Message: fmt.Sprintf(
			"Namespace %q is not labelled %s=%s, and neither is the pod.", target.Namespace, v1alpha1.InjectLabel, v1alpha1.InjectEnabled)}
	}
	return Report{Result: Injected}
}

// refusal makes a report of findings, of which there is at least one.
func refusal(findings []Finding) Report {
	var b strings.Builder
	b.WriteString("The pod cannot be guarded and is refused:")
	for i, f := range findings {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteByte(' ')
		if f.Field != "" {
			b.WriteString(f.Field)
			b.WriteString(": ")
		}
		b.WriteString(f.Message)
	}
	b.WriteByte('.')
	return Report{Result: Refused, Reason: findings[0].Reason, Message: b.String(), Findings: findings}
}

// template is what the sidecar adds to a pod.
type template struct {
	init, proxy corev1.Container
	volumes     []corev1.Volume
}

// placeContainers puts ours first. Our containers of an earlier injection are replaced, save for what the
// cluster's own admission plugins have a say in.
func placeContainers(spec *corev1.PodSpec, ours *template) {
	containers := make([]corev1.Container, 2, len(spec.InitContainers)+2)
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		switch c.Name {
		case v1alpha1.InitContainerName:
			keepClusterDefaults(&ours.init, c)
		case v1alpha1.ProxyContainerName:
			keepClusterDefaults(&ours.proxy, c)
		default:
			containers = append(containers, *c)
		}
	}
	containers[0], containers[1] = ours.init, ours.proxy
	spec.InitContainers = containers
}

// keepClusterDefaults takes over from a container that is about to be replaced what a built-in admission plugin
// may have set since: LimitRanger fills in resources that the template leaves open, and AlwaysPullImages
// insists on its pull policy. Undoing either would have the pod refused later.
func keepClusterDefaults(ours, old *corev1.Container) {
	if old.ImagePullPolicy == corev1.PullAlways {
		ours.ImagePullPolicy = corev1.PullAlways
	}
	fill := func(dst *corev1.ResourceList, src corev1.ResourceList) {
		for name, q := range src {
			if _, ok := (*dst)[name]; ok {
				continue
			}
			merged := dst.DeepCopy()
			if merged == nil {
				merged = corev1.ResourceList{}
			}
			merged[name] = q
			*dst = merged
		}
	}
	fill(&ours.Resources.Requests, old.Resources.Requests)
	fill(&ours.Resources.Limits, old.Resources.Limits)
}

// placeVolumes replaces our volumes where they are, and appends those that are missing.
func placeVolumes(spec *corev1.PodSpec, ours []corev1.Volume) {
	for i := range ours {
		at := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == ours[i].Name })
		if at < 0 {
			spec.Volumes = append(spec.Volumes, ours[i])
		} else {
			spec.Volumes[at] = ours[i]
		}
	}
}

// eachForeign calls f for every container that is not ours, with its path in the pod.
func eachForeign(spec *corev1.PodSpec, f func(field string, c *corev1.Container)) {
	for i := range spec.InitContainers {
		if !isOurs(spec.InitContainers[i].Name) {
			f(fmt.Sprintf("spec.initContainers[%d]", i), &spec.InitContainers[i])
		}
	}
	for i := range spec.Containers {
		f(fmt.Sprintf("spec.containers[%d]", i), &spec.Containers[i])
	}
}

func isOurs(container string) bool {
	return container == v1alpha1.InitContainerName || container == v1alpha1.ProxyContainerName
}

// injectedBefore says whether the pod claims to come from an earlier injection. Nothing is trusted on that
// claim: it only means that containers and volumes with our names are replaced, and not held against the pod.
func injectedBefore(pod *corev1.Pod) bool {
	if pod.Annotations[v1alpha1.StatusAnnotation] == "" {
		return false
	}
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return isOurs(c.Name) })
}

// workload names the pod's owner. A ReplicaSet of a Deployment is named after the Deployment, as both carry
// the template's hash.
func workload(pod *corev1.Pod, target Target) string {
	if target.Workload != "" {
		return target.Workload
	}
	for _, o := range pod.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := pod.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
				return "Deployment/" + name
			}
		}
		return o.Kind + "/" + o.Name
	}
	if pod.Name == "" {
		return "Pod/" + strings.TrimSuffix(pod.GenerateName, "-")
	}
	return "Pod/" + pod.Name
}
