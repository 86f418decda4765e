package telemetry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap/zapcore"

	"sallyport.dev/sallyport/pkg/policy"
)

var errNotFinite = errors.New("a number is not finite")

// Encode returns the record as JSON: the one form that the access-log entry and recorded files share, and the log line but for its evidence. It is the form that
// encoding/json has for Record, written without reflection, since there is one for every call.
func (r *Record) Encode() ([]byte, error) {
	whole, _, err := r.encode()
	return whole, err
}

// encode returns the record whole and as it is logged: without evidence, which is for the controller alone.
func (r *Record) encode() (whole, logged []byte, err error) {
	e := encoder{b: make([]byte, 0, 2048+base64.StdEncoding.EncodedLen(len(r.Evidence)))}
	e.record(r)
	if e.err != nil {
		return nil, nil, fmt.Errorf("encode decision record %s: %w", r.ID, e.err)
	}
	if len(r.Evidence) == 0 {
		e.b = append(e.b, '}')
		return e.b, e.b, nil
	}
	logged = slices.Concat(e.b, []byte{'}'})
	e.key("evidence")
	e.b = append(e.b, '"')
	e.b = base64.StdEncoding.AppendEncode(e.b, r.Evidence)
	e.b = append(e.b, '"', '}')
	return e.b, logged, nil
}

// NewReflectedEncoder is for the encoder's configuration of a logger that decision lines go to: it writes the record, which is JSON
// already, as it is, and everything else as encoding/json does.
func NewReflectedEncoder(w io.Writer) zapcore.ReflectedEncoder { return verbatim{w} }

type verbatim struct{ w io.Writer }

func (v verbatim) Encode(value any) error {
	if raw, ok := value.(json.RawMessage); ok {
		_, err := v.w.Write(raw)
		return err
	}
	e := json.NewEncoder(v.w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// encoder writes JSON. The first error stays.
type encoder struct {
	b   []byte
	err error
}

// record writes all but the evidence and the closing bracket.
func (e *encoder) record(r *Record) {
	e.open('{')
	e.str("id", r.ID)
	e.key("time")
	e.b = append(e.b, '"')
	e.b = r.Time.AppendFormat(e.b, time.RFC3339Nano)
	e.b = append(e.b, '"')
	e.str("outcome", string(r.Outcome))
	e.str("action", string(r.Action))
	e.optional("rule", r.Rule)
	e.reasons("reasons", r.Reasons)
	e.optional("fault", r.Fault)

	e.key("workload")
	e.open('{')
	e.str("namespace", r.Workload.Namespace)
	e.str("kind", r.Workload.Kind)
	e.str("name", r.Workload.Name)
	e.str("pod", r.Workload.Pod)
	e.str("service_account", r.Workload.ServiceAccount)
	e.b = append(e.b, '}')

	d := &r.Destination
	e.key("destination")
	e.open('{')
	e.str("kind", string(d.Kind))
	e.str("provider", d.Provider)
	e.str("scheme", d.Scheme)
	e.str("host", d.Host)
	e.num("port", int64(d.Port))
	e.str("method", d.Method)
	e.str("path", d.Path)
	e.str("address", d.Address)
	e.b = append(e.b, '}')

	e.call(&r.Call)

	e.key("session")
	e.open('{')
	e.str("id", r.Session.ID)
	e.num("calls", int64(r.Session.Calls))
	e.real("max_percentile", r.Session.MaxPercentile, 64)
	e.real("max_score", r.Session.MaxScore, 64)
	e.truth("tainted", r.Session.Tainted)
	e.b = append(e.b, '}')

	a := &r.Anomaly
	e.key("anomaly")
	e.open('{')
	e.truth("ready", a.Ready)
	e.real("score", a.Score, 64)
	e.real("percentile", a.Percentile, 64)
	e.real("threshold", a.Threshold, 64)
	e.truth("exceeds", a.Exceeds)
	e.str("model_digest", a.ModelDigest)
	e.key("top_features")
	list(e, a.TopFeatures, func(f policy.Feature) {
		e.open('{')
		e.str("name", f.Name)
		e.real("value", f.Value, 64)
		e.real("contribution", f.Contribution, 64)
		e.b = append(e.b, '}')
	})
	e.b = append(e.b, '}')

	e.optional("response_mode", string(r.ResponseMode))
	e.optional("response_action", string(r.ResponseAction))
	e.optional("response_rule", r.ResponseRule)
	e.reasons("response_reasons", r.ResponseReasons)
	e.optional("response_fault", r.ResponseFault)
	e.optionalNum("held_tool_calls", int64(r.HeldToolCalls))
	if len(r.Redacted) > 0 {
		e.key("redacted")
		e.open('{')
		for _, kind := range slices.Sorted(maps.Keys(r.Redacted)) {
			e.num(kind, int64(r.Redacted[kind]))
		}
		e.b = append(e.b, '}')
	}

	e.optional("schema", r.Schema)
	if len(r.Features) > 0 {
		e.key("features")
		list(e, r.Features, func(f float32) { e.float(float64(f), 32) })
	}
	e.optional("policy_digest", r.PolicyDigest)
	e.optional("policy_revision", r.PolicyRevision)
	e.optional("trace_id", r.TraceID)
	e.optional("span_id", r.SpanID)
	e.num("decode_us", r.DecodeMicros)
	e.num("features_us", r.FeaturesMicros)
	e.num("score_us", r.ScoreMicros)
	e.num("policy_us", r.PolicyMicros)
	e.num("judge_us", r.JudgeMicros)
	e.optionalNum("response_us", r.ResponseMicros)
	e.optionalNum("first_byte_us", r.FirstByteMicros)
	e.optionalNum("total_us", r.TotalMicros)
	e.optionalNum("status", int64(r.Status))
	e.optional("upstream_error", r.UpstreamError)
	e.optionalNum("response_bytes", r.ResponseBytes)
	e.key("usage")
	e.open('{')
	e.num("input_tokens", r.Usage.InputTokens)
	e.num("output_tokens", r.Usage.OutputTokens)
	e.num("cached_tokens", r.Usage.CachedTokens)
	e.num("reasoning_tokens", r.Usage.ReasoningTokens)
	e.b = append(e.b, '}')
	if len(r.ResponseToolCalls) > 0 {
		e.strs("response_tool_calls", r.ResponseToolCalls)
	}
}

func (e *encoder) call(c *policy.Call) {
	e.key("call")
	e.open('{')
	e.str("surface", c.Surface)
	e.str("class", c.Class)
	e.str("operation", c.Operation)
	e.str("model", c.Model)
	e.truth("stream", c.Stream)
	e.str("rpc_method", c.RPCMethod)
	e.num("messages", int64(c.Messages))
	e.strs("roles", c.Roles)
	e.strs("tools", c.Tools)
	e.strs("server_tools", c.ServerTools)
	e.strs("tool_calls", c.ToolCalls)
	e.strs("server_tool_classes", c.ServerToolClasses)
	e.strs("remote_mcp_hosts", c.RemoteMCPHosts)
	e.num("max_tokens", c.MaxTokens)
	e.real("temperature", c.Temperature, 64)
	e.num("body_bytes", int64(c.BodyBytes))
	e.num("urls", int64(c.URLs))
	e.strs("url_hosts", c.URLHosts)
	e.num("attachments", int64(c.Attachments))
	e.strs("other_models", c.OtherModels)
	e.strs("unknown_fields", c.UnknownFields)
	e.strs("findings", c.Findings)
	e.strs("attachment_kinds", c.AttachmentKinds)
	e.key("sensitive")
	e.open('{')
	e.num("credential", int64(c.Sensitive.Credential))
	e.num("credit_card", int64(c.Sensitive.CreditCard))
	e.num("email", int64(c.Sensitive.Email))
	e.num("iban", int64(c.Sensitive.IBAN))
	e.num("phone", int64(c.Sensitive.Phone))
	e.b = append(e.b, '}')
	e.key("novel")
	e.open('{')
	e.truth("ready", c.Novel.Ready)
	e.truth("model", c.Novel.Model)
	e.truth("tools", c.Novel.Tools)
	e.truth("system", c.Novel.System)
	e.truth("destination", c.Novel.Destination)
	e.truth("credential", c.Novel.Credential)
	e.b = append(e.b, '}')
	e.strs("canaries", c.Canaries)
	e.b = append(e.b, '}')
}

func (e *encoder) reasons(name string, reasons []policy.Reason) {
	if len(reasons) == 0 {
		return
	}
	e.key(name)
	list(e, reasons, func(r policy.Reason) {
		e.open('{')
		e.str("rule", r.Rule)
		e.str("message", r.Message)
		e.b = append(e.b, '}')
	})
}

// list writes an array; nil is null, as encoding/json has it.
func list[T any](e *encoder, elements []T, write func(T)) {
	if elements == nil {
		e.b = append(e.b, "null"...)
		return
	}
	e.open('[')
	for i, element := range elements {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		write(element)
	}
	e.b = append(e.b, ']')
}

func (e *encoder) open(bracket byte) { e.b = append(e.b, bracket) }

// key writes a member's name, which needs no escapes, and the comma before it.
func (e *encoder) key(name string) {
	if last := e.b[len(e.b)-1]; last != '{' {
		e.b = append(e.b, ',')
	}
	e.text(name)
	e.b = append(e.b, ':')
}

func (e *encoder) str(name, value string) {
	e.key(name)
	e.text(value)
}

func (e *encoder) optional(name, value string) {
	if value != "" {
		e.str(name, value)
	}
}

func (e *encoder) strs(name string, values []string) {
	e.key(name)
	list(e, values, e.text)
}

func (e *encoder) num(name string, n int64) {
	e.key(name)
	e.b = strconv.AppendInt(e.b, n, 10)
}

func (e *encoder) optionalNum(name string, n int64) {
	if n != 0 {
		e.num(name, n)
	}
}

func (e *encoder) truth(name string, b bool) {
	e.key(name)
	e.b = strconv.AppendBool(e.b, b)
}

func (e *encoder) real(name string, f float64, bits int) {
	e.key(name)
	e.float(f, bits)
}

func (e *encoder) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		e.err = errNotFinite
		return
	}
	e.b = strconv.AppendFloat(e.b, f, 'g', -1, bits)
}

// text writes a string. What is not plain ASCII is left to encoding/json.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b, err := json.Marshal(s)
			if err != nil {
				e.err = err
				return
			}
			e.b = append(e.b, b...)
			return
		}
	}
	e.b = append(e.b, '"')
	e.b = append(e.b, s...)
	e.b = append(e.b, '"')
}
