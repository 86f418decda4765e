package policy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// finite says whether every floating-point field of the input is a number. A NaN in an evaluation would panic, or compare as anything.
func finite(in *Input) bool {
	ok := isFinite(in.Call.Temperature) && isFinite(in.Session.MaxPercentile) && isFinite(in.Session.MaxScore) &&
		isFinite(in.Anomaly.Score) && isFinite(in.Anomaly.Percentile) && isFinite(in.Anomaly.Threshold)
	for i := range in.Anomaly.TopFeatures {
		ok = ok && isFinite(in.Anomaly.TopFeatures[i].Value) && isFinite(in.Anomaly.TopFeatures[i].Contribution)
	}
	return ok
}

func isFinite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// member is a field of the input document: its name, and its value or the fields that it has.
type member struct {
	key     *ast.Term
	value   func(*Input) *ast.Term
	exact   func(*Input, []byte) ([]byte, bool) // appends what tells one value from every other; false where nothing short does
	members []member
}

func group(name string, members ...member) member {
	return member{key: ast.InternedTerm(name), members: members}
}

func str[T ~string](name string, get func(*Input) T) member {
	return member{
		key:   ast.InternedTerm(name),
		value: func(in *Input) *ast.Term { return text(string(get(in))) },
		exact: func(in *Input, b []byte) ([]byte, bool) { return appendString(b, string(get(in))), true },
	}
}

func strs(name string, get func(*Input) []string) member {
	return member{
		key:   ast.InternedTerm(name),
		value: func(in *Input) *ast.Term { return texts(get(in)) },
		exact: func(in *Input, b []byte) ([]byte, bool) {
			all := get(in)
			b = binary.AppendVarint(b, int64(len(all)))
			for _, s := range all {
				b = appendString(b, s)
			}
			return b, true
		},
	}
}

func num[T ~int | ~int64](name string, get func(*Input) T) member {
	return member{
		key:   ast.InternedTerm(name),
		value: func(in *Input) *ast.Term { return integer(int64(get(in))) },
		exact: func(in *Input, b []byte) ([]byte, bool) { return binary.AppendVarint(b, int64(get(in))), true },
	}
}

func real(name string, get func(*Input) float64) member {
	return member{
		key:   ast.InternedTerm(name),
		value: func(in *Input) *ast.Term { return decimal(get(in)) },
		exact: func(in *Input, b []byte) ([]byte, bool) {
			return binary.BigEndian.AppendUint64(b, math.Float64bits(get(in))), true
		},
	}
}

func boolean(name string, get func(*Input) bool) member {
	return member{
		key:   ast.InternedTerm(name),
		value: func(in *Input) *ast.Term { return truth(get(in)) },
		exact: func(in *Input, b []byte) ([]byte, bool) {
			if get(in) {
				return append(b, 1), true
			}
			return append(b, 0), true
		},
	}
}

// other is a field whose value is of a kind of its own.
func other(name string, value func(*Input) *ast.Term, exact func(*Input, []byte) ([]byte, bool)) member {
	return member{key: ast.InternedTerm(name), value: value, exact: exact}
}

// appendString puts the length before the text, so that no two lists of texts look the same.
func appendString(b []byte, s string) []byte {
	return append(binary.AppendVarint(b, int64(len(s))), s...)
}

// wholeDocument is every field of Input.
var wholeDocument = []member{
	num("version", func(in *Input) int64 { return int64(in.Version) }),
	str("id", func(in *Input) string { return in.ID }),
	num("time_ns", func(in *Input) int64 { return in.TimeNanos }),
	str("mode", func(in *Input) string { return in.Mode }),
	boolean("kill_switch", func(in *Input) bool { return in.KillSwitch }),
	group("workload",
		str("namespace", func(in *Input) string { return in.Workload.Namespace }),
		str("kind", func(in *Input) string { return in.Workload.Kind }),
		str("name", func(in *Input) string { return in.Workload.Name }),
		str("pod", func(in *Input) string { return in.Workload.Pod }),
		str("service_account", func(in *Input) string { return in.Workload.ServiceAccount }),
	),
	group("destination",
		str("kind", func(in *Input) string { return string(in.Destination.Kind) }),
		str("provider", func(in *Input) string { return in.Destination.Provider }),
		str("scheme", func(in *Input) string { return in.Destination.Scheme }),
		str("host", func(in *Input) string { return in.Destination.Host }),
		num("port", func(in *Input) int64 { return int64(in.Destination.Port) }),
		str("method", func(in *Input) string { return in.Destination.Method }),
		str("path", func(in *Input) string { return in.Destination.Path }),
		str("address", func(in *Input) string { return in.Destination.Address }),
	),
	group("call",
		str("surface", func(in *Input) string { return in.Call.Surface }),
		str("class", func(in *Input) string { return in.Call.Class }),
		str("operation", func(in *Input) string { return in.Call.Operation }),
		str("model", func(in *Input) string { return in.Call.Model }),
		boolean("stream", func(in *Input) bool { return in.Call.Stream }),
		str("rpc_method", func(in *Input) string { return in.Call.RPCMethod }),
		num("messages", func(in *Input) int64 { return int64(in.Call.Messages) }),
		strs("roles", func(in *Input) []string { return in.Call.Roles }),
		strs("tools", func(in *Input) []string { return in.Call.Tools }),
		strs("server_tools", func(in *Input) []string { return in.Call.ServerTools }),
		strs("tool_calls", func(in *Input) []string { return in.Call.ToolCalls }),
		strs("server_tool_classes", func(in *Input) []string { return in.Call.ServerToolClasses }),
		strs("remote_mcp_hosts", func(in *Input) []string { return in.Call.RemoteMCPHosts }),
		num("max_tokens", func(in *Input) int64 { return in.Call.MaxTokens }),
		real("temperature", func(in *Input) float64 { return in.Call.Temperature }),
		num("body_bytes", func(in *Input) int64 { return int64(in.Call.BodyBytes) }),
		num("urls", func(in *Input) int64 { return int64(in.Call.URLs) }),
		strs("url_hosts", func(in *Input) []string { return in.Call.URLHosts }),
		num("attachments", func(in *Input) int64 { return int64(in.Call.Attachments) }),
		strs("attachment_kinds", func(in *Input) []string { return in.Call.AttachmentKinds }),
		strs("other_models", func(in *Input) []string { return in.Call.OtherModels }),
		strs("unknown_fields", func(in *Input) []string { return in.Call.UnknownFields }),
		strs("findings", func(in *Input) []string { return in.Call.Findings }),
		other("sensitive", func(in *Input) *ast.Term { return sensitive(&in.Call.Sensitive) }, func(in *Input, b []byte) ([]byte, bool) {
			s := &in.Call.Sensitive
			for _, n := range [...]int{s.Credential, s.CreditCard, s.Email, s.IBAN, s.Phone} {
				b = binary.AppendVarint(b, int64(n))
			}
			return b, true
		}),
		group("novel",
			boolean("ready", func(in *Input) bool { return in.Call.Novel.Ready }),
			boolean("model", func(in *Input) bool { return in.Call.Novel.Model }),
			boolean("tools", func(in *Input) bool { return in.Call.Novel.Tools }),
			boolean("system", func(in *Input) bool { return in.Call.Novel.System }),
			boolean("destination", func(in *Input) bool { return in.Call.Novel.Destination }),
			boolean("credential", func(in *Input) bool { return in.Call.Novel.Credential }),
		),
		strs("canaries", func(in *Input) []string { return in.Call.Canaries }),
	),
	group("session",
		str("id", func(in *Input) string { return in.Session.ID }),
		num("calls", func(in *Input) int64 { return int64(in.Session.Calls) }),
		real("max_percentile", func(in *Input) float64 { return in.Session.MaxPercentile }),
		real("max_score", func(in *Input) float64 { return in.Session.MaxScore }),
		boolean("tainted", func(in *Input) bool { return in.Session.Tainted }),
	),
	group("anomaly",
		boolean("ready", func(in *Input) bool { return in.Anomaly.Ready }),
		real("score", func(in *Input) float64 { return in.Anomaly.Score }),
		real("percentile", func(in *Input) float64 { return in.Anomaly.Percentile }),
		real("threshold", func(in *Input) float64 { return in.Anomaly.Threshold }),
		boolean("exceeds", func(in *Input) bool { return in.Anomaly.Exceeds }),
		str("model_digest", func(in *Input) string { return in.Anomaly.ModelDigest }),
		other("top_features", func(in *Input) *ast.Term { return topFeatures(in.Anomaly.TopFeatures) }, func(in *Input, b []byte) ([]byte, bool) {
			return b, len(in.Anomaly.TopFeatures) == 0
		}),
	),
	str("phase", func(in *Input) string { return string(in.Phase) }),
	other("response", func(in *Input) *ast.Term { return response(&in.Response) }, func(in *Input, b []byte) ([]byte, bool) {
		r := &in.Response
		return b, r.Status == 0 && r.Model == "" && r.FinishReason == "" && len(r.ToolCalls) == 0 && r.Usage == Usage{}
	}),
}

// Keys of the objects that are values of a field, made once: an evaluation only reads them.
var (
	keyID, keyName, keyValue, keyContribution  = key("id"), key("name"), key("value"), key("contribution")
	keyStatus, keyModel, keyFinishReason       = key("status"), key("model"), key("finish_reason")
	keyToolCalls, keyUsage, keyArguments       = key("tool_calls"), key("usage"), key("arguments")
	keyTruncated, keyServerSide                = key("truncated"), key("server_side")
	keyInput, keyOutput, keyCached             = key("input"), key("output"), key("cached")
	keyReasoning, keyCredential, keyCreditCard = key("reasoning"), key("credential"), key("credit_card")
	keyEmail, keyIBAN, keyPhone                = key("email"), key("iban"), key("phone")

	emptyArray = ast.ArrayTerm()
)

func key(s string) *ast.Term { return ast.InternedTerm(s) }

// document is the input as OPA evaluates it. It equals what the JSON form would parse to, but is built without one; a nil slice is an
// empty array, never null.
func document(in *Input) ast.Value { return build(wholeDocument, in) }

// build makes an object of the given fields.
func build(members []member, in *Input) ast.Value {
	pairs := make([][2]*ast.Term, len(members))
	for i := range members {
		m := &members[i]
		if m.value != nil {
			pairs[i] = field(m.key, m.value(in))
		} else {
			pairs[i] = field(m.key, ast.NewTerm(build(m.members, in)))
		}
	}
	return ast.NewObject(pairs...)
}

// exactly appends what tells an input from every other that differs in one of the fields; false where there is no short form of that.
func exactly(members []member, in *Input, b []byte) ([]byte, bool) {
	for i := range members {
		var ok bool
		m := &members[i]
		if m.members != nil {
			b, ok = exactly(m.members, in, b)
		} else {
			b, ok = m.exact(in, b)
		}
		if !ok {
			return b, false
		}
	}
	return b, true
}

func sensitive(s *Sensitive) *ast.Term {
	return ast.ObjectTerm(
		field(keyCredential, integer(int64(s.Credential))),
		field(keyCreditCard, integer(int64(s.CreditCard))),
		field(keyEmail, integer(int64(s.Email))),
		field(keyIBAN, integer(int64(s.IBAN))),
		field(keyPhone, integer(int64(s.Phone))),
	)
}

func response(r *Response) *ast.Term {
	return ast.ObjectTerm(
		field(keyStatus, integer(int64(r.Status))),
		field(keyModel, text(r.Model)),
		field(keyFinishReason, text(r.FinishReason)),
		field(keyToolCalls, responseToolCalls(r.ToolCalls)),
		field(keyUsage, ast.ObjectTerm(
			field(keyInput, integer(r.Usage.Input)),
			field(keyOutput, integer(r.Usage.Output)),
			field(keyCached, integer(r.Usage.Cached)),
			field(keyReasoning, integer(r.Usage.Reasoning)),
		)),
	)
}

func responseToolCalls(calls []ResponseToolCall) *ast.Term {
	if len(calls) == 0 {
		return emptyArray
	}
	terms := make([]*ast.Term, len(calls))
	for i := range calls {
		c := &calls[i]
		terms[i] = ast.ObjectTerm(
			field(keyID, text(c.ID)),
			field(keyName, text(c.Name)),
			field(keyArguments, parsed(c.Arguments)),
			field(keyTruncated, truth(c.Truncated)),
			field(keyServerSide, truth(c.ServerSide)),
		)
	}
	return ast.ArrayTerm(terms...)
}

// parsed is a JSON text as a value, null where it is none.
func parsed(raw json.RawMessage) *ast.Term {
	if len(raw) > 0 {
		if v, err := ast.ValueFromReader(bytes.NewReader(raw)); err == nil {
			return ast.NewTerm(v)
		}
	}
	return ast.NullTerm()
}

func topFeatures(fs []Feature) *ast.Term {
	if len(fs) == 0 {
		return emptyArray
	}
	terms := make([]*ast.Term, len(fs))
	for i := range fs {
		terms[i] = ast.ObjectTerm(
			field(keyName, text(fs[i].Name)),
			field(keyValue, decimal(fs[i].Value)),
			field(keyContribution, decimal(fs[i].Contribution)),
		)
	}
	return ast.ArrayTerm(terms...)
}

func field(k, v *ast.Term) [2]*ast.Term { return [2]*ast.Term{k, v} }

// text replaces what is no UTF-8 as the JSON form would: built-ins on strings assume UTF-8.
func text(s string) *ast.Term { return ast.InternedTerm(strings.ToValidUTF8(s, "\uFFFD")) }

func texts(ss []string) *ast.Term {
	if len(ss) == 0 {
		return emptyArray
	}
	terms := make([]*ast.Term, len(ss))
	for i, s := range ss {
		terms[i] = text(s)
	}
	return ast.ArrayTerm(terms...)
}

func truth(b bool) *ast.Term { return ast.InternedTerm(b) }

func integer(i int64) *ast.Term {
	if i == int64(int(i)) {
		return ast.InternedTerm(int(i))
	}
	return ast.NumberTerm(json.Number(strconv.FormatInt(i, 10)))
}

func decimal(f float64) *ast.Term {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return integer(int64(f))
	}
	return ast.NumberTerm(json.Number(strconv.FormatFloat(f, 'g', -1, 64)))
}
