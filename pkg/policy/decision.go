package policy

import "slices"

// Action is what a decision says.
type Action string

// The actions.
const (
	ActionAllow Action = "allow"
	ActionDeny  Action = "deny"
	ActionHold  Action = "hold"
)

// Decision is the policy's answer.
type Decision struct {
	Action  Action
	Reasons []Reason // why it was denied or held; sorted by rule; empty for allow
	// Obligations are what a release is bound to. They count for an allow only.
	Obligations Obligations
	// Rules are the ids (METADATA label "rule") of all rules that fired, sorted.
	Rules []string
	// Digest is the bundle's digest; Revision its revision.
	Digest   string
	Revision string
	// Fault is set when the decision is not the policy's own but stands in for one that could not be had.
	Fault Fault
}

// Obligations are conditions of a release, joined over all bundles.
type Obligations struct {
	// Response is how the response is to be handled: the strictest that any bundle asks for.
	Response ResponseMode
	// ResponseAsked says that some bundle asked for a mode, ResponseObserve perhaps: the response is to be judged.
	ResponseAsked bool
	// Redact are the kinds of sensitive text to take out of the request, sorted: all that any bundle asks for.
	Redact []string
}

// ResponseMode is how a response is handled.
type ResponseMode string

// The modes, each stricter than the one before.
const (
	// ResponseObserve passes the response on as it arrives. A judgement of it goes into the record alone.
	ResponseObserve ResponseMode = "observe"
	// ResponseCut passes the response on as it arrives, and ends it at the violation.
	ResponseCut ResponseMode = "cut"
	// ResponseHoldToolCalls passes text on as it arrives, and each tool call when it is complete and judged.
	ResponseHoldToolCalls ResponseMode = "hold-tool-calls"
	// ResponseHoldAll passes nothing on before the whole response was judged.
	ResponseHoldAll ResponseMode = "hold-all"
)

// responseModes in the order of their strictness.
var responseModes = []ResponseMode{ResponseObserve, ResponseCut, ResponseHoldToolCalls, ResponseHoldAll}

// Stricter returns the stricter of two modes. What is no mode counts as the strictest, "" as ResponseObserve.
func (m ResponseMode) Stricter(other ResponseMode) ResponseMode {
	if m.rank() >= other.rank() {
		return responseModes[m.rank()]
	}
	return responseModes[other.rank()]
}

func (m ResponseMode) rank() int {
	if m == "" {
		return 0
	}
	if i := slices.Index(responseModes, m); i >= 0 {
		return i
	}
	return len(responseModes) - 1
}

// redactable are the kinds that an obligation can name: those of Sensitive.
var redactable = []string{"credential", "credit_card", "email", "iban", "phone"}

// add joins an obligation with those that are there already, and reports whether it is one.
func (o *Obligations) add(what, value string) bool {
	switch what {
	case "response":
		if !slices.Contains(responseModes, ResponseMode(value)) {
			return false
		}
		o.Response, o.ResponseAsked = o.Response.Stricter(ResponseMode(value)), true
	case "redact":
		if !slices.Contains(redactable, value) {
			return false
		}
		if i, found := slices.BinarySearch(o.Redact, value); !found {
			o.Redact = slices.Insert(o.Redact, i, value)
		}
	default:
		return false
	}
	return true
}

// Reason is one rule's ground for a denial.
type Reason struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// Fault names why there was no decision to be had.
type Fault string

// The faults. Each denies.
const (
	FaultNone      Fault = ""
	FaultNoPolicy  Fault = "no_policy"
	FaultUndefined Fault = "policy_undefined"
	FaultError     Fault = "policy_error"
	FaultTimeout   Fault = "policy_timeout"
	FaultMalformed Fault = "policy_malformed"
	FaultInput     Fault = "policy_input"
	// FaultCold is the gate's: the detector has no model yet, and the configuration wants one.
	FaultCold Fault = "detector_cold"
)
