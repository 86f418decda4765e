package telemetry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"sallyport.dev/sallyport/pkg/policy"
)

var errNotFinite = errors.New("a number is not finite")

// Encode returns the record as JSON: the one form that the access-log entry and recorded files share, and the log line but for its evidence. It is the form that
// encoding/json has for Record, written without reflection, since there is one for every call.
func (r *Record) Encode() ([]byte, error) {
	e, err := encode(r)
	if err != nil {
		return nil, err
	}
	return e.whole, nil
}

// encoded is a record as JSON, which does not change any more.
type encoded struct {
	whole  []byte
	logged int // how much of it is logged, but for a closing bracket: all that comes before the evidence
}

// buffers holds *[]byte, each of which one record is put together in.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// mostKept is the largest buffer that is used again: one that long reasons were in shall not be held for all that follow.
const mostKept = 16 << 10

func encode(r *Record) (*encoded, error) {
	if !r.finite() {
		return nil, fmt.Errorf("encode decision record %s: %w", r.ID, errNotFinite)
	}
	buffer := buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	b := appendRecord((*buffer)[:0], r)
	logged := len(b)
	if len(r.Evidence) > 0 {
		b = append(b, `,"evidence":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Evidence)
		b = append(b, '"')
	}
	b = append(b, '}')
	e := &encoded{bytes.Clone(b), logged}
	if cap(b) <= mostKept {
		*buffer = b
		buffers.Put(buffer)
	}
	return e, nil
}

// MarshalJSON is the record as it is logged: without evidence, which is for the controller alone.
func (e *encoded) MarshalJSON() ([]byte, error) {
	return append(slices.Clip(e.whole[:e.logged]), '}'), nil
}

// finite says whether all numbers are such that JSON has.
func (r *Record) finite() bool {
	finite := func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
	a := &r.Anomaly
	ok := finite(r.Call.Temperature) && finite(r.Session.MaxPercentile) && finite(r.Session.MaxScore) && finite(a.Score) && finite(a.Percentile) && finite(a.Threshold)
	for i := range a.TopFeatures {
		ok = ok && finite(a.TopFeatures[i].Value) && finite(a.TopFeatures[i].Contribution)
	}
	for _, f := range r.Features {
		ok = ok && finite(float64(f))
	}
	return ok
}

// NewReflectedEncoder is for the encoder's configuration of a logger that decision lines go to: it writes a Recorder's record, which is JSON
// already, as it is, and everything else as encoding/json does.
func NewReflectedEncoder(w io.Writer) zapcore.ReflectedEncoder { return verbatim{w} }

type verbatim struct{ w io.Writer }

var closing = []byte{'}'}

func (v verbatim) Encode(value any) error {
	if e, ok := value.(*encoded); ok {
		if _, err := v.w.Write(e.whole[:e.logged]); err != nil {
			return err
		}
		_, err := v.w.Write(closing)
		return err
	}
	e := json.NewEncoder(v.w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// What follows appends to b, as the append functions of strconv do: an encoder that held the buffer would be written to, with the collector's barrier, at each
// piece. A key comes with all the punctuation before its value.

// appendRecord appends all but the evidence and the closing bracket.
func appendRecord(b []byte, r *Record) []byte {
	b = str(b, `{"id":`, r.ID)
	b = append(b, `,"time":"`...)
	b = r.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = str(b, `,"outcome":`, string(r.Outcome))
	b = str(b, `,"action":`, string(r.Action))
	b = optional(b, `,"rule":`, r.Rule)
	b = reasons(b, `,"reasons":`, r.Reasons)
	b = optional(b, `,"fault":`, r.Fault)

	b = str(b, `,"workload":{"namespace":`, r.Workload.Namespace)
	b = str(b, `,"kind":`, r.Workload.Kind)
	b = str(b, `,"name":`, r.Workload.Name)
	b = str(b, `,"pod":`, r.Workload.Pod)
	b = str(b, `,"service_account":`, r.Workload.ServiceAccount)

	d := &r.Destination
	b = str(b, `},"destination":{"kind":`, string(d.Kind))
	b = str(b, `,"provider":`, d.Provider)
	b = str(b, `,"scheme":`, d.Scheme)
	b = str(b, `,"host":`, d.Host)
	b = num(b, `,"port":`, int64(d.Port))
	b = str(b, `,"method":`, d.Method)
	b = str(b, `,"path":`, d.Path)
	b = str(b, `,"address":`, d.Address)

	b = append(b, `},"call":{`...)
	b = appendCall(b, &r.Call)

	b = str(b, `},"session":{"id":`, r.Session.ID)
	b = num(b, `,"calls":`, int64(r.Session.Calls))
	b = number(b, `,"max_percentile":`, r.Session.MaxPercentile)
	b = number(b, `,"max_score":`, r.Session.MaxScore)
	b = truth(b, `,"tainted":`, r.Session.Tainted)

	a := &r.Anomaly
	b = truth(b, `},"anomaly":{"ready":`, a.Ready)
	b = number(b, `,"score":`, a.Score)
	b = number(b, `,"percentile":`, a.Percentile)
	b = number(b, `,"threshold":`, a.Threshold)
	b = truth(b, `,"exceeds":`, a.Exceeds)
	b = str(b, `,"model_digest":`, a.ModelDigest)
	b = list(b, `,"top_features":`, a.TopFeatures, func(b []byte, f policy.Feature) []byte {
		b = str(b, `{"name":`, f.Name)
		b = number(b, `,"value":`, f.Value)
		b = number(b, `,"contribution":`, f.Contribution)
		return append(b, '}')
	})
	b = append(b, '}')

	b = optional(b, `,"response_mode":`, string(r.ResponseMode))
	b = optional(b, `,"response_action":`, string(r.ResponseAction))
	b = optional(b, `,"response_rule":`, r.ResponseRule)
	b = reasons(b, `,"response_reasons":`, r.ResponseReasons)
	b = optional(b, `,"response_fault":`, r.ResponseFault)
	b = optionalNum(b, `,"held_tool_calls":`, int64(r.HeldToolCalls))
	if len(r.Redacted) > 0 {
		before := `,"redacted":{`
		for _, kind := range slices.Sorted(maps.Keys(r.Redacted)) {
			b = str(b, before, kind)
			b = num(b, `:`, int64(r.Redacted[kind]))
			before = `,`
		}
		b = append(b, '}')
	}

	b = optional(b, `,"schema":`, r.Schema)
	if len(r.Features) > 0 {
		b = list(b, `,"features":`, r.Features, func(b []byte, f float32) []byte { return float(b, float64(f), 32) })
	}
	b = optional(b, `,"policy_digest":`, r.PolicyDigest)
	b = optional(b, `,"policy_revision":`, r.PolicyRevision)
	b = optional(b, `,"trace_id":`, r.TraceID)
	b = optional(b, `,"span_id":`, r.SpanID)
	b = num(b, `,"decode_us":`, r.DecodeMicros)
	b = num(b, `,"features_us":`, r.FeaturesMicros)
	b = num(b, `,"score_us":`, r.ScoreMicros)
	b = num(b, `,"policy_us":`, r.PolicyMicros)
	b = num(b, `,"judge_us":`, r.JudgeMicros)
	b = optionalNum(b, `,"response_us":`, r.ResponseMicros)
	b = optionalNum(b, `,"first_byte_us":`, r.FirstByteMicros)
	b = optionalNum(b, `,"total_us":`, r.TotalMicros)
	b = optionalNum(b, `,"status":`, int64(r.Status))
	b = optional(b, `,"upstream_error":`, r.UpstreamError)
	b = optionalNum(b, `,"response_bytes":`, r.ResponseBytes)
	b = num(b, `,"usage":{"input_tokens":`, r.Usage.InputTokens)
	b = num(b, `,"output_tokens":`, r.Usage.OutputTokens)
	b = num(b, `,"cached_tokens":`, r.Usage.CachedTokens)
	b = num(b, `,"reasoning_tokens":`, r.Usage.ReasoningTokens)
	b = append(b, '}')
	if len(r.ResponseToolCalls) > 0 {
		b = strs(b, `,"response_tool_calls":`, r.ResponseToolCalls)
	}
	return b
}

// appendCall appends what is between the brackets of a call.
func appendCall(b []byte, c *policy.Call) []byte {
	b = str(b, `"surface":`, c.Surface)
	b = str(b, `,"class":`, c.Class)
	b = str(b, `,"operation":`, c.Operation)
	b = str(b, `,"model":`, c.Model)
	b = truth(b, `,"stream":`, c.Stream)
	b = str(b, `,"rpc_method":`, c.RPCMethod)
	b = num(b, `,"messages":`, int64(c.Messages))
	b = strs(b, `,"roles":`, c.Roles)
	b = strs(b, `,"tools":`, c.Tools)
	b = strs(b, `,"server_tools":`, c.ServerTools)
	b = strs(b, `,"tool_calls":`, c.ToolCalls)
	b = strs(b, `,"server_tool_classes":`, c.ServerToolClasses)
	b = strs(b, `,"remote_mcp_hosts":`, c.RemoteMCPHosts)
	b = num(b, `,"max_tokens":`, c.MaxTokens)
	b = number(b, `,"temperature":`, c.Temperature)
	b = num(b, `,"body_bytes":`, int64(c.BodyBytes))
	b = num(b, `,"urls":`, int64(c.URLs))
	b = strs(b, `,"url_hosts":`, c.URLHosts)
	b = num(b, `,"attachments":`, int64(c.Attachments))
	b = strs(b, `,"other_models":`, c.OtherModels)
	b = strs(b, `,"unknown_fields":`, c.UnknownFields)
	b = strs(b, `,"findings":`, c.Findings)
	b = strs(b, `,"attachment_kinds":`, c.AttachmentKinds)
	b = num(b, `,"sensitive":{"credential":`, int64(c.Sensitive.Credential))
	b = num(b, `,"credit_card":`, int64(c.Sensitive.CreditCard))
	b = num(b, `,"email":`, int64(c.Sensitive.Email))
	b = num(b, `,"iban":`, int64(c.Sensitive.IBAN))
	b = num(b, `,"phone":`, int64(c.Sensitive.Phone))
	b = truth(b, `},"novel":{"ready":`, c.Novel.Ready)
	b = truth(b, `,"model":`, c.Novel.Model)
	b = truth(b, `,"tools":`, c.Novel.Tools)
	b = truth(b, `,"system":`, c.Novel.System)
	b = truth(b, `,"destination":`, c.Novel.Destination)
	b = truth(b, `,"credential":`, c.Novel.Credential)
	return strs(b, `},"canaries":`, c.Canaries)
}

func reasons(b []byte, key string, reasons []policy.Reason) []byte {
	if len(reasons) == 0 {
		return b
	}
	return list(b, key, reasons, func(b []byte, r policy.Reason) []byte {
		b = str(b, `{"rule":`, r.Rule)
		b = str(b, `,"message":`, r.Message)
		return append(b, '}')
	})
}

// list appends an array; nil is null, as encoding/json has it.
func list[T any](b []byte, key string, elements []T, one func([]byte, T) []byte) []byte {
	b = append(b, key...)
	if elements == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, element := range elements {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, element)
	}
	return append(b, ']')
}

func strs(b []byte, key string, values []string) []byte { return list(b, key, values, text) }

func str(b []byte, key, value string) []byte { return text(append(b, key...), value) }

func optional(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return str(b, key, value)
}

func num(b []byte, key string, n int64) []byte { return strconv.AppendInt(append(b, key...), n, 10) }

func optionalNum(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return num(b, key, n)
}

func truth(b []byte, key string, is bool) []byte { return strconv.AppendBool(append(b, key...), is) }

func number(b []byte, key string, f float64) []byte { return float(append(b, key...), f, 64) }

func float(b []byte, f float64, bits int) []byte {
	// Most features are small whole numbers. From a million on an exponent is shorter.
	if n := int64(f); float64(n) == f && n > -1e6 && n < 1e6 && (n != 0 || !math.Signbit(f)) {
		return strconv.AppendInt(b, n, 10)
	}
	return strconv.AppendFloat(b, f, 'g', -1, bits)
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (p [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		p[c] = c != '"' && c != '\\'
	}
	return p
}()

// text appends a string. What is not plain ASCII is left to encoding/json.
func text(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			quoted, err := json.Marshal(s)
			if err != nil {
				quoted = []byte(`""`) // cannot be: any string has a form in JSON
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
