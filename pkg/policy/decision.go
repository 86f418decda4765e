package policy

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
	// Rules are the ids (METADATA label "rule") of all rules that fired, sorted.
	Rules []string
	// Digest is the bundle's digest; Revision its revision.
	Digest   string
	Revision string
	// Fault is set when the decision is not the policy's own but stands in for one that could not be had.
	Fault Fault
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
)
