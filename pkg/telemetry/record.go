package telemetry

import (
	"time"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// Outcome is what became of a call.
type Outcome string

// The outcomes.
const (
	OutcomeReleased Outcome = "released" // forwarded as judged
	OutcomeRefused  Outcome = "refused"  // not forwarded
	OutcomeRelaxed  Outcome = "relaxed"  // denied, but released by a setting
	OutcomeCut      Outcome = "cut"      // forwarded, but its response was ended or withheld
)

// Record is the one account of a decision.
type Record struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Outcome Outcome   `json:"outcome"`
	// Action, Rule, Reasons and Fault are the decision; Rule is the first reason's.
	Action  policy.Action   `json:"action"`
	Rule    string          `json:"rule,omitempty"`
	Reasons []policy.Reason `json:"reasons,omitempty"`
	Fault   string          `json:"fault,omitempty"`

	Workload    policy.Workload    `json:"workload"`
	Destination policy.Destination `json:"destination"`
	Call        policy.Call        `json:"call"`
	Session     policy.Session     `json:"session"`
	Anomaly     policy.Anomaly     `json:"anomaly"`

	// ResponseMode is how the response was handled; "" where there was none to handle. ResponseAction, ResponseRule, ResponseReasons and
	// ResponseFault are the decision on the response; the first denial, where it was judged piece by piece. "" where it was not judged.
	ResponseMode    policy.ResponseMode `json:"response_mode,omitempty"`
	ResponseAction  policy.Action       `json:"response_action,omitempty"`
	ResponseRule    string              `json:"response_rule,omitempty"`
	ResponseReasons []policy.Reason     `json:"response_reasons,omitempty"`
	ResponseFault   string              `json:"response_fault,omitempty"`
	// HeldToolCalls is how many tool calls of the response were kept back until they were judged.
	HeldToolCalls int `json:"held_tool_calls,omitempty"`
	// Redacted is how many pieces of sensitive text were taken out of the request, by kind. While the mode is to observe, it is what would
	// have been.
	Redacted map[string]int `json:"redacted,omitempty"`

	// Schema is the feature schema's id and Features the vector; both empty where there is none.
	Schema   string    `json:"schema,omitempty"`
	Features []float32 `json:"features,omitempty"`
	// Evidence is what the call leaves behind for learning, as features.Evidence encodes it. It is no text, but it tells of one, so that it is not in the log
	// line; see docs/detector.md.
	Evidence []byte `json:"evidence,omitempty"`

	PolicyDigest   string `json:"policy_digest,omitempty"`
	PolicyRevision string `json:"policy_revision,omitempty"`

	// TraceID and SpanID are W3C trace context, carried on or begun here.
	TraceID string `json:"trace_id,omitempty"`
	SpanID  string `json:"span_id,omitempty"`

	// Timings in microseconds. JudgeMicros is the whole gate; FirstByteMicros and TotalMicros are from the call's arrival to the
	// response's first byte and its end; 0 where there was none.
	DecodeMicros    int64 `json:"decode_us"`
	FeaturesMicros  int64 `json:"features_us"`
	ScoreMicros     int64 `json:"score_us"`
	PolicyMicros    int64 `json:"policy_us"`
	JudgeMicros     int64 `json:"judge_us"`
	ResponseMicros  int64 `json:"response_us,omitempty"` // spent on judging the response
	FirstByteMicros int64 `json:"first_byte_us,omitempty"`
	TotalMicros     int64 `json:"total_us,omitempty"`

	// Status is the HTTP status that the caller got; UpstreamError a short class where the provider could not be reached.
	Status        int       `json:"status,omitempty"`
	UpstreamError string    `json:"upstream_error,omitempty"`
	ResponseBytes int64     `json:"response_bytes,omitempty"`
	Usage         llm.Usage `json:"usage"`
	// ResponseToolCalls are the names of the tools that the model asked for.
	ResponseToolCalls []string `json:"response_tool_calls,omitempty"`
}
