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

// Keys of the input document, made once: an evaluation only reads them.
var (
	keyVersion, keyID, keyTime, keyMode     = key("version"), key("id"), key("time_ns"), key("mode")
	keyKillSwitch, keyWorkload, keyDest     = key("kill_switch"), key("workload"), key("destination")
	keyCall, keySession, keyAnomaly         = key("call"), key("session"), key("anomaly")
	keyNamespace, keyKind, keyName          = key("namespace"), key("kind"), key("name")
	keyPod, keyServiceAccount               = key("pod"), key("service_account")
	keyProvider, keyScheme, keyHost         = key("provider"), key("scheme"), key("host")
	keyPort, keyMethod, keyPath, keyAddress = key("port"), key("method"), key("path"), key("address")
	keySurface, keyOperation, keyModel      = key("surface"), key("operation"), key("model")
	keyStream, keyMessages, keyRoles        = key("stream"), key("messages"), key("roles")
	keyTools, keyServerTools, keyToolCalls  = key("tools"), key("server_tools"), key("tool_calls")
	keyMaxTokens, keyTemperature            = key("max_tokens"), key("temperature")
	keyBodyBytes, keyURLs, keyAttachments   = key("body_bytes"), key("urls"), key("attachments")
	keyUnknownFields, keyFindings           = key("unknown_fields"), key("findings")
	keyOtherModels                          = key("other_models")
	keyCalls, keyMaxPercentile, keyTainted  = key("calls"), key("max_percentile"), key("tainted")
	keyReady, keyScore, keyPercentile       = key("ready"), key("score"), key("percentile")
	keyThreshold, keyExceeds                = key("threshold"), key("exceeds")
	keyModelDigest, keyTopFeatures          = key("model_digest"), key("top_features")
	keyValue, keyContribution               = key("value"), key("contribution")
	keyPhase, keyResponse, keyClass         = key("phase"), key("response"), key("class")
	keyRPCMethod, keyServerToolClasses      = key("rpc_method"), key("server_tool_classes")
	keyRemoteMCPHosts, keyURLHosts          = key("remote_mcp_hosts"), key("url_hosts")
	keyAttachmentKinds, keySensitive        = key("attachment_kinds"), key("sensitive")
	keyCredential, keyCreditCard, keyEmail  = key("credential"), key("credit_card"), key("email")
	keyIBAN, keyPhone                       = key("iban"), key("phone")
	keyStatus, keyFinishReason, keyUsage    = key("status"), key("finish_reason"), key("usage")
	keyArguments, keyTruncated              = key("arguments"), key("truncated")
	keyServerSide, keyInput, keyOutput      = key("server_side"), key("input"), key("output")
	keyCached, keyReasoning                 = key("cached"), key("reasoning")

	emptyArray = ast.ArrayTerm()
)

func key(s string) *ast.Term { return ast.StringTerm(s) }

// document is the input as OPA evaluates it. It equals what the JSON form would parse to, but is built without one; a nil slice is an
// empty array, never null.
func document(in *Input) ast.Value {
	w, d, c, s, a := &in.Workload, &in.Destination, &in.Call, &in.Session, &in.Anomaly
	return ast.NewObject(
		field(keyVersion, integer(int64(in.Version))),
		field(keyID, text(in.ID)),
		field(keyTime, integer(in.TimeNanos)),
		field(keyMode, text(in.Mode)),
		field(keyKillSwitch, truth(in.KillSwitch)),
		field(keyWorkload, ast.ObjectTerm(
			field(keyNamespace, text(w.Namespace)),
			field(keyKind, text(w.Kind)),
			field(keyName, text(w.Name)),
			field(keyPod, text(w.Pod)),
			field(keyServiceAccount, text(w.ServiceAccount)),
		)),
		field(keyDest, ast.ObjectTerm(
			field(keyKind, text(string(d.Kind))),
			field(keyProvider, text(d.Provider)),
			field(keyScheme, text(d.Scheme)),
			field(keyHost, text(d.Host)),
			field(keyPort, integer(int64(d.Port))),
			field(keyMethod, text(d.Method)),
			field(keyPath, text(d.Path)),
			field(keyAddress, text(d.Address)),
		)),
		field(keyCall, ast.ObjectTerm(
			field(keySurface, text(c.Surface)),
			field(keyClass, text(c.Class)),
			field(keyRPCMethod, text(c.RPCMethod)),
			field(keyServerToolClasses, texts(c.ServerToolClasses)),
			field(keyRemoteMCPHosts, texts(c.RemoteMCPHosts)),
			field(keyURLHosts, texts(c.URLHosts)),
			field(keyAttachmentKinds, texts(c.AttachmentKinds)),
			field(keySensitive, sensitive(&c.Sensitive)),
			field(keyOperation, text(c.Operation)),
			field(keyModel, text(c.Model)),
			field(keyStream, truth(c.Stream)),
			field(keyMessages, integer(int64(c.Messages))),
			field(keyRoles, texts(c.Roles)),
			field(keyTools, texts(c.Tools)),
			field(keyServerTools, texts(c.ServerTools)),
			field(keyToolCalls, texts(c.ToolCalls)),
			field(keyMaxTokens, integer(c.MaxTokens)),
			field(keyTemperature, decimal(c.Temperature)),
			field(keyBodyBytes, integer(int64(c.BodyBytes))),
			field(keyURLs, integer(int64(c.URLs))),
			field(keyAttachments, integer(int64(c.Attachments))),
			field(keyOtherModels, texts(c.OtherModels)),
			field(keyUnknownFields, texts(c.UnknownFields)),
			field(keyFindings, texts(c.Findings)),
		)),
		field(keySession, ast.ObjectTerm(
			field(keyID, text(s.ID)),
			field(keyCalls, integer(int64(s.Calls))),
			field(keyMaxPercentile, decimal(s.MaxPercentile)),
			field(keyTainted, truth(s.Tainted)),
		)),
		field(keyAnomaly, ast.ObjectTerm(
			field(keyReady, truth(a.Ready)),
			field(keyScore, decimal(a.Score)),
			field(keyPercentile, decimal(a.Percentile)),
			field(keyThreshold, decimal(a.Threshold)),
			field(keyExceeds, truth(a.Exceeds)),
			field(keyModelDigest, text(a.ModelDigest)),
			field(keyTopFeatures, topFeatures(a.TopFeatures)),
		)),
		field(keyPhase, text(string(in.Phase))),
		field(keyResponse, response(&in.Response)),
	)
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
