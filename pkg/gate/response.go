package gate

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Bounds on a tool call's arguments as policy reads them. A codec keeps fewer bytes than that: as many as it was told to.
const (
	maxArgumentBytes = 64 << 20
	maxArgumentDepth = 32
)

// ResponseVerdict is the gate's answer on a response.
type ResponseVerdict struct {
	// Release says whether what was judged may go on to the caller.
	Release bool
	// Refusal is what to tell the caller in its place; zero when Release.
	Refusal llm.Refusal
}

// JudgeResponse has the policy decide on a response, or on what has been read of it so far: the same input as that of the call, with phase
// "response". It may be asked several times for one verdict, for each tool call as it completes and at the end, but not at the same time. The
// first denial goes into the record; while the mode is to observe, or the policy asked for no more, it goes nowhere else. It costs
// nothing where no bundle asked for the response to be judged.
func (g *Gate) JudgeResponse(ctx context.Context, v *Verdict, reply llm.Reply, status int) ResponseVerdict {
	rec := v.Record
	if v.in == nil { // made by somebody else: what the response belongs to is not known
		return g.withhold(v, policy.Decision{Action: policy.ActionDeny, Fault: policy.FaultInput})
	}
	if !v.judgesReply {
		return ResponseVerdict{Release: true}
	}
	watch := stopwatch{read: g.Elapsed}
	watch.start()
	in := *v.in
	in.Phase, in.Response = policy.PhaseResponse, response(reply, status)
	decision := g.Policy.Decide(ctx, &in)
	rec.ResponseMicros += watch.lap()

	if decision.Action == policy.ActionAllow {
		if rec.ResponseAction == "" {
			rec.ResponseAction = decision.Action
		}
		return ResponseVerdict{Release: true}
	}
	return g.withhold(v, decision)
}

// withhold is a denial of a response, unless the mode or the policy itself lets it pass.
func (g *Gate) withhold(v *Verdict, d policy.Decision) ResponseVerdict {
	rec, id := v.Record, rule(d)
	if rec.ResponseAction == "" || rec.ResponseAction == policy.ActionAllow {
		rec.ResponseAction, rec.ResponseRule, rec.ResponseReasons, rec.ResponseFault = d.Action, id, d.Reasons, string(d.Fault)
	}
	switch {
	case v.in != nil && relaxes(v.in.Mode, v.in.KillSwitch):
		rec.Outcome = telemetry.OutcomeRelaxed
		return ResponseVerdict{Release: true}
	case v.in != nil && v.Response == policy.ResponseObserve:
		return ResponseVerdict{Release: true}
	}
	rec.Outcome = telemetry.OutcomeCut
	return ResponseVerdict{Refusal: refusal(rec.ID, d, id)}
}

// response is a reply as policy sees it.
func response(r llm.Reply, status int) policy.Response {
	out := policy.Response{
		Status: status, Model: r.Model, FinishReason: r.FinishReason,
		ToolCalls: make([]policy.ResponseToolCall, 0, len(r.ToolCalls)),
		Usage: policy.Usage{
			Input: r.Usage.InputTokens, Output: r.Usage.OutputTokens,
			Cached: r.Usage.CachedTokens, Reasoning: r.Usage.ReasoningTokens,
		},
	}
	for i := range r.ToolCalls {
		c := &r.ToolCalls[i]
		value, ok := arguments(c)
		out.ToolCalls = append(out.ToolCalls, policy.ResponseToolCall{
			ID: strings.ToValidUTF8(c.ID, "\uFFFD"), Name: strings.ToValidUTF8(c.Name, "\uFFFD"),
			Arguments: value, Truncated: !ok, ServerSide: c.ServerSide,
		})
	}
	return out
}

// arguments returns a tool call's arguments if every reader would read them alike: whoever carries the call out is not known here. No
// arguments at all are null.
func arguments(c *llm.ToolCall) (json.RawMessage, bool) {
	if c.Truncated {
		return nil, false
	}
	if len(c.Arguments) == 0 {
		return nil, true
	}
	var doc strictjson.Document
	if !doc.Parse(c.Arguments, strictjson.Options{MaxBytes: maxArgumentBytes, MaxDepth: maxArgumentDepth}) || len(doc.Problems()) > 0 {
		return nil, false
	}
	return slices.Clone(c.Arguments), true
}
