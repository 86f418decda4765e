package policy

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// finite says whether every floating-point field of the input is a number. A NaN in an evaluation would panic, or compare as anything.
func finite(in *Input) bool {
	ok := isFinite(in.Call.Temperature) && isFinite(in.Session.MaxPercentile) &&
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
	members []member
}

func leaf(name string, value func(*Input) *ast.Term) member {
	return member{key: ast.InternedTerm(name), value: value}
}

func group(name string, members ...member) member {
	return member{key: ast.InternedTerm(name), members: members}
}

// wholeDocument is every field of Input.
var wholeDocument = []member{
	leaf("version", func(in *Input) *ast.Term { return integer(int64(in.Version)) }),
	leaf("id", func(in *Input) *ast.Term { return text(in.ID) }),
	leaf("time_ns", func(in *Input) *ast.Term { return integer(in.TimeNanos) }),
	leaf("mode", func(in *Input) *ast.Term { return text(in.Mode) }),
	leaf("kill_switch", func(in *Input) *ast.Term { return truth(in.KillSwitch) }),
	group("workload",
		leaf("namespace", func(in *Input) *ast.Term { return text(in.Workload.Namespace) }),
		leaf("kind", func(in *Input) *ast.Term { return text(in.Workload.Kind) }),
		leaf("name", func(in *Input) *ast.Term { return text(in.Workload.Name) }),
		leaf("pod", func(in *Input) *ast.Term { return text(in.Workload.Pod) }),
		leaf("service_account", func(in *Input) *ast.Term { return text(in.Workload.ServiceAccount) }),
	),
	group("destination",
		leaf("kind", func(in *Input) *ast.Term { return text(string(in.Destination.Kind)) }),
		leaf("provider", func(in *Input) *ast.Term { return text(in.Destination.Provider) }),
		leaf("scheme", func(in *Input) *ast.Term { return text(in.Destination.Scheme) }),
		leaf("host", func(in *Input) *ast.Term { return text(in.Destination.Host) }),
		leaf("port", func(in *Input) *ast.Term { return integer(int64(in.Destination.Port)) }),
		leaf("method", func(in *Input) *ast.Term { return text(in.Destination.Method) }),
		leaf("path", func(in *Input) *ast.Term { return text(in.Destination.Path) }),
		leaf("address", func(in *Input) *ast.Term { return text(in.Destination.Address) }),
	),
	group("call",
		leaf("surface", func(in *Input) *ast.Term { return text(in.Call.Surface) }),
		leaf("class", func(in *Input) *ast.Term { return text(in.Call.Class) }),
		leaf("operation", func(in *Input) *ast.Term { return text(in.Call.Operation) }),
		leaf("model", func(in *Input) *ast.Term { return text(in.Call.Model) }),
		leaf("stream", func(in *Input) *ast.Term { return truth(in.Call.Stream) }),
		leaf("rpc_method", func(in *Input) *ast.Term { return text(in.Call.RPCMethod) }),
		leaf("messages", func(in *Input) *ast.Term { return integer(int64(in.Call.Messages)) }),
		leaf("roles", func(in *Input) *ast.Term { return texts(in.Call.Roles) }),
		leaf("tools", func(in *Input) *ast.Term { return texts(in.Call.Tools) }),
		leaf("server_tools", func(in *Input) *ast.Term { return texts(in.Call.ServerTools) }),
		leaf("tool_calls", func(in *Input) *ast.Term { return texts(in.Call.ToolCalls) }),
		leaf("server_tool_classes", func(in *Input) *ast.Term { return texts(in.Call.ServerToolClasses) }),
		leaf("remote_mcp_hosts", func(in *Input) *ast.Term { return texts(in.Call.RemoteMCPHosts) }),
		leaf("max_tokens", func(in *Input) *ast.Term { return integer(in.Call.MaxTokens) }),
		leaf("temperature", func(in *Input) *ast.Term { return decimal(in.Call.Temperature) }),
		leaf("body_bytes", func(in *Input) *ast.Term { return integer(int64(in.Call.BodyBytes)) }),
		leaf("urls", func(in *Input) *ast.Term { return integer(int64(in.Call.URLs)) }),
		leaf("url_hosts", func(in *Input) *ast.Term { return texts(in.Call.URLHosts) }),
		leaf("attachments", func(in *Input) *ast.Term { return integer(int64(in.Call.Attachments)) }),
		leaf("attachment_kinds", func(in *Input) *ast.Term { return texts(in.Call.AttachmentKinds) }),
		leaf("other_models", func(in *Input) *ast.Term { return texts(in.Call.OtherModels) }),
		leaf("unknown_fields", func(in *Input) *ast.Term { return texts(in.Call.UnknownFields) }),
		leaf("findings", func(in *Input) *ast.Term { return texts(in.Call.Findings) }),
		leaf("sensitive", func(in *Input) *ast.Term { return sensitive(&in.Call.Sensitive) }),
	),
	group("session",
		leaf("id", func(in *Input) *ast.Term { return text(in.Session.ID) }),
		leaf("calls", func(in *Input) *ast.Term { return integer(int64(in.Session.Calls)) }),
		leaf("max_percentile", func(in *Input) *ast.Term { return decimal(in.Session.MaxPercentile) }),
		leaf("tainted", func(in *Input) *ast.Term { return truth(in.Session.Tainted) }),
	),
	group("anomaly",
		leaf("ready", func(in *Input) *ast.Term { return truth(in.Anomaly.Ready) }),
		leaf("score", func(in *Input) *ast.Term { return decimal(in.Anomaly.Score) }),
		leaf("percentile", func(in *Input) *ast.Term { return decimal(in.Anomaly.Percentile) }),
		leaf("threshold", func(in *Input) *ast.Term { return decimal(in.Anomaly.Threshold) }),
		leaf("exceeds", func(in *Input) *ast.Term { return truth(in.Anomaly.Exceeds) }),
		leaf("model_digest", func(in *Input) *ast.Term { return text(in.Anomaly.ModelDigest) }),
		leaf("top_features", func(in *Input) *ast.Term { return topFeatures(in.Anomaly.TopFeatures) }),
	),
	leaf("phase", func(in *Input) *ast.Term { return text(string(in.Phase)) }),
	leaf("response", func(in *Input) *ast.Term { return response(&in.Response) }),
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
