package webhook

// Result is what became of a pod.
type Result string

const (
	// Injected means that the pod has the sidecar now.
	Injected Result = "injected"
	// Skipped means that the pod stays as it is, and may run.
	Skipped Result = "skipped"
	// Refused means that the pod must not run.
	Refused Result = "refused"
)

// Reason says in one machine-readable word why a pod was skipped or refused, or what a warning is about.
// Reasons are values of metric labels and Events: they are few and do not change.
type Reason string

// Reasons of an injection.
const (
	// ReasonInjected: the sidecar was added.
	ReasonInjected Reason = "injected"
	// ReasonAlreadyInjected: the pod had the sidecar already; what differs from today's template was rendered anew.
	ReasonAlreadyInjected Reason = "already_injected"
)

// Reasons for skipping.
const (
	// ReasonNamespaceNotLabelled: neither the namespace nor the pod asks for injection.
	ReasonNamespaceNotLabelled Reason = "namespace_not_labelled"
	// ReasonOptOut: the pod opts out, and may.
	ReasonOptOut Reason = "opt_out"
)

// Reasons for refusing.
const (
	ReasonOptOutNotAllowed   Reason = "opt_out_not_allowed"
	ReasonHostNetwork        Reason = "host_network"
	ReasonHostPID            Reason = "host_pid"
	ReasonSharedProcesses    Reason = "share_process_namespace"
	ReasonMirrorPod          Reason = "mirror_pod"
	ReasonWindows            Reason = "windows"
	ReasonPrivileged         Reason = "privileged"
	ReasonCapability         Reason = "capability"
	ReasonHostPath           Reason = "host_path"
	ReasonReservedUID        Reason = "reserved_uid"
	ReasonReservedContainer  Reason = "reserved_container"
	ReasonReservedVolume     Reason = "reserved_volume"
	ReasonReservedPath       Reason = "reserved_path"
	ReasonReservedPort       Reason = "reserved_port"
	ReasonReservedAudience   Reason = "reserved_audience"
	ReasonUnknownAnnotation  Reason = "unknown_annotation"
	ReasonInvalidAnnotation  Reason = "invalid_annotation"
	ReasonUnknownLabel       Reason = "unknown_label"
	ReasonInvalidLabel       Reason = "invalid_label"
	ReasonInvalidResources   Reason = "invalid_resources"
	ReasonNoContainers       Reason = "no_containers"
	ReasonUndecodable        Reason = "undecodable"
	ReasonNamespaceUnknown   Reason = "namespace_unknown"
	ReasonProfileUnknown     Reason = "profile_unknown"
	ReasonControllerNotReady Reason = "controller_not_ready"
)

// Reasons of warnings.
const (
	// ReasonTrustVariableKept: the pod sets a trust variable itself; it was left alone.
	ReasonTrustVariableKept Reason = "trust_variable_kept"
	// ReasonTrustVariableShadows: a container takes variables from a ConfigMap or Secret, whose keys are not
	// known here; a trust variable among them is overridden.
	ReasonTrustVariableShadows Reason = "trust_variable_shadows"
	// ReasonCanChangeUser: a container may become any user, the proxy's among them, whose traffic is not captured.
	ReasonCanChangeUser Reason = "can_change_user"
)

// Finding is one thing found in a pod: a reason to refuse it, or a warning.
type Finding struct {
	// Reason is machine-readable.
	Reason Reason `json:"reason"`
	// Field is the path of the field in the pod, such as spec.containers[0].securityContext.privileged.
	Field string `json:"field,omitempty"`
	// Message says what was found and what is accepted.
	Message string `json:"message"`
}

// Report says what was done with a pod, and why.
type Report struct {
	// Result is injected, skipped or refused.
	Result Result `json:"result"`
	// Reason is that of the first finding where the pod was refused.
	Reason Reason `json:"reason"`
	// Message is a sentence for people; on a refusal it names every finding.
	Message string `json:"message"`
	// Findings are all the reasons for refusing the pod.
	Findings []Finding `json:"findings,omitempty"`
	// Warnings do not keep the pod from running.
	Warnings []Finding `json:"warnings,omitempty"`
}

// Explanations returns the messages of the warnings, in the form in which an admission response carries them.
func (r *Report) Explanations() []string {
	if len(r.Warnings) == 0 {
		return nil
	}
	out := make([]string, len(r.Warnings))
	for i, w := range r.Warnings {
		out[i] = "sallyport: " + w.Field + ": " + w.Message
	}
	return out
}
