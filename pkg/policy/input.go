package policy

import "encoding/json"

// InputVersion is the value of input.version. It changes when a field changes its meaning or goes.
const InputVersion = 1

// Input is the document that a policy decides on, known to Rego as input. Every field is always present. It holds no text of the
// call: sizes, names and findings only.
type Input struct {
	Version     int         `json:"version"`     // InputVersion
	ID          string      `json:"id"`          // decision id
	TimeNanos   int64       `json:"time_ns"`     // when the call arrived, in nanoseconds since the epoch
	Mode        string      `json:"mode"`        // "enforce" or "observe"
	KillSwitch  bool        `json:"kill_switch"` // the profile refuses every call
	Workload    Workload    `json:"workload"`    // who calls
	Destination Destination `json:"destination"` // whom
	Call        Call        `json:"call"`        // what, in normal form
	Session     Session     `json:"session"`     // the conversation so far
	Anomaly     Anomaly     `json:"anomaly"`     // the detector's verdict
	Phase       Phase       `json:"phase"`       // whether the request or its response is decided on
	Response    Response    `json:"response"`    // what was read of the response so far; zero in the request's phase

	// Scan, if set, fills Call.Sensitive. It is asked at most once, and only where the policy in force reads those counts.
	Scan func() Sensitive `json:"-"`
}

// Phase says what of a call is decided on.
type Phase string

// The phases.
const (
	PhaseRequest  Phase = "request"  // before anything is forwarded
	PhaseResponse Phase = "response" // the same call once more, with what was read of its response
)

// Workload is who calls, as the control plane authenticated it.
type Workload struct {
	Namespace      string `json:"namespace"`
	Kind           string `json:"kind"` // of the owner: Deployment, Job, …
	Name           string `json:"name"` // of the owner
	Pod            string `json:"pod"`
	ServiceAccount string `json:"service_account"`
}

// DestinationKind says what is known of a destination.
type DestinationKind string

// The kinds of destinations.
const (
	DestinationModel       DestinationKind = "model"       // a host of a ModelProvider, read and judged in full
	DestinationPassthrough DestinationKind = "passthrough" // named by the profile; tunnelled unread
	DestinationOther       DestinationKind = "other"       // a named host that is neither
	DestinationUnknown     DestinationKind = "unknown"     // no name: no SNI, ECH, or a protocol that is not read
)

// Destination is the canonical destination: the same for the policy, the dial and the forwarded request.
type Destination struct {
	Kind     DestinationKind `json:"kind"`
	Provider string          `json:"provider"` // name of the ModelProvider; "" unless Kind is model
	Scheme   string          `json:"scheme"`   // "https", "http", "tls" or "tcp"
	Host     string          `json:"host"`     // canonical: lower case, no trailing dot, no port; the address where there is no name
	Port     int             `json:"port"`
	Method   string          `json:"method"`  // "" for a tunnel
	Path     string          `json:"path"`    // canonical path without query; "" for a tunnel
	Address  string          `json:"address"` // the address that the caller dialled, without port
}

// Call is the normal form without text.
type Call struct {
	Surface     string   `json:"surface"`
	Class       string   `json:"class"` // "model", "auxiliary", "dead_drop", "tool" or "unknown"; "" for a tunnel
	Operation   string   `json:"operation"`
	Model       string   `json:"model"`
	Stream      bool     `json:"stream"`
	RPCMethod   string   `json:"rpc_method"`   // JSON-RPC method of MCP and A2A, type of a WebSocket message; else ""
	Messages    int      `json:"messages"`     // how many
	Roles       []string `json:"roles"`        // of the messages new since the session's previous call, in order
	Tools       []string `json:"tools"`        // names offered, sorted
	ServerTools []string `json:"server_tools"` // types of the server-side tools offered, sorted
	ToolCalls   []string `json:"tool_calls"`   // names of tool calls in the new messages

	ServerToolClasses []string `json:"server_tool_classes"` // of the server-side tools offered, sorted, each once
	RemoteMCPHosts    []string `json:"remote_mcp_hosts"`    // that the provider is to connect to, sorted, each once; "" is one that cannot be read

	MaxTokens     int64    `json:"max_tokens"`  // -1 when absent
	Temperature   float64  `json:"temperature"` // -1 when absent
	BodyBytes     int      `json:"body_bytes"`
	URLs          int      `json:"urls"`
	URLHosts      []string `json:"url_hosts"` // of the URLs that the provider is to fetch, sorted, each once; "" is one that cannot be read
	Attachments   int      `json:"attachments"`
	OtherModels   []string `json:"other_models"` // that the provider may use besides: fallbacks, advisors
	UnknownFields []string `json:"unknown_fields"`
	Findings      []string `json:"findings"` // codes, sorted, each once

	AttachmentKinds []string  `json:"attachment_kinds"` // media types where they are said, else "image", "audio" or "file"; sorted, each once
	Sensitive       Sensitive `json:"sensitive"`        // how much sensitive text the body holds

	Novel    Novel    `json:"novel"`    // what no call of the workload had before
	Canaries []string `json:"canaries"` // names of the canary tokens found in the body, the path or the query, sorted, each once
}

// Novel says what of a call is new to its workload, by what the detector's baseline knows.
type Novel struct {
	Ready       bool `json:"ready"` // there is a baseline to compare with; without, the others are false
	Model       bool `json:"model"`
	Tools       bool `json:"tools"` // a tool is offered whose definition is not known
	System      bool `json:"system"`
	Destination bool `json:"destination"` // host and port
	Credential  bool `json:"credential"`  // the caller's own
}

// Sensitive counts sensitive text by kind, the kinds of package redact. Each is -1 where nobody looked, since no bundle asks.
type Sensitive struct {
	Credential int `json:"credential"`  // provider keys, tokens, private keys
	CreditCard int `json:"credit_card"` // with a right check digit
	Email      int `json:"email"`
	IBAN       int `json:"iban"` // with right check digits
	Phone      int `json:"phone"`
}

// NotLookedFor is Sensitive where nobody looked.
var NotLookedFor = Sensitive{Credential: -1, CreditCard: -1, Email: -1, IBAN: -1, Phone: -1}

// Response is what was read of a response.
type Response struct {
	Status       int                `json:"status"` // HTTP status; 0 in the request's phase
	Model        string             `json:"model"`  // that answered, as the response says it
	FinishReason string             `json:"finish_reason"`
	ToolCalls    []ResponseToolCall `json:"tool_calls"` // complete ones, in order
	Usage        Usage              `json:"usage"`      // as far as it was said
}

// ResponseToolCall is a tool call that the model asked for.
type ResponseToolCall struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Arguments is the JSON value that the model wrote, null where it is none or was not kept.
	Arguments  json.RawMessage `json:"arguments"`
	Truncated  bool            `json:"truncated"`   // Arguments is null, because there was more than is kept or it is no JSON
	ServerSide bool            `json:"server_side"` // the provider carries it out itself
}

// Usage is in tokens.
type Usage struct {
	Input     int64 `json:"input"`
	Output    int64 `json:"output"`
	Cached    int64 `json:"cached"`
	Reasoning int64 `json:"reasoning"`
}

// Session is the conversation that a call goes on with.
type Session struct {
	ID            string  `json:"id"`
	Calls         int     `json:"calls"`          // before this one
	MaxPercentile float64 `json:"max_percentile"` // the worst before this call, decayed
	MaxScore      float64 `json:"max_score"`      // the worst score before this call, decayed
	Tainted       bool    `json:"tainted"`        // a call of the session was denied for its anomaly
}

// Anomaly is the detector's verdict.
type Anomaly struct {
	// Ready is false while the workload's baseline is being learned; then Score and Percentile are 0 and Exceeds is false.
	Ready       bool      `json:"ready"`
	Score       float64   `json:"score"`      // [0,1]: how far the call is from those that are known, 0.5 for a distance of about an ordinary call's, in one unit for all workloads
	Percentile  float64   `json:"percentile"` // [0,1): the share of the baseline's calls that scored lower; beyond the highest of them extrapolated, up to 0.999999
	Threshold   float64   `json:"threshold"`  // the score that the false-positive budget allows
	Exceeds     bool      `json:"exceeds"`    // Score > Threshold, or the score could not be computed
	ModelDigest string    `json:"model_digest"`
	TopFeatures []Feature `json:"top_features"` // those that raised the score most, at most 5
}

// Feature is one feature's part in a score.
type Feature struct {
	Name         string  `json:"name"`
	Value        float64 `json:"value"`
	Contribution float64 `json:"contribution"` // in units of path length; positive makes the call more anomalous
}
