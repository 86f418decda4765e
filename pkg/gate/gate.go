package gate

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/canary"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// ModeObserve is the mode in which denied calls are released and recorded as relaxed. Any other mode enforces.
const ModeObserve = "observe"

// Policy decides on an input document. It is satisfied by *policy.Engine.
type Policy interface {
	Decide(ctx context.Context, in *policy.Input) policy.Decision
}

// Gate judges calls. Its fields are set once, before the first call; it is safe for concurrent use.
type Gate struct {
	// Policy is the second door.
	Policy Policy
	// Model returns the detector in force, nil while there is none. It is asked once per call.
	Model func() *detector.Model
	// Sessions recognises conversations.
	Sessions *features.Sessions
	// Limits bound decoding.
	Limits llm.Limits
	// Elapsed measures the stages: it returns a monotonic reading. Nil leaves the timings of the record zero.
	Elapsed func() time.Duration
}

// evidencePool holds *features.Evidence, each of which belongs to one call's judgement between Get and Put.
var evidencePool = sync.Pool{New: func() any { return new(features.Evidence) }}

// Request is a call as the proxy read it, or a tunnel that somebody asks for.
type Request struct {
	ID          string
	Time        time.Time
	Mode        string
	KillSwitch  bool
	Workload    policy.Workload
	Destination policy.Destination // Method and Path are "" for a tunnel
	// API is the wire format of the destination's provider; "" for a tunnel.
	API string
	// BasePath is the path under which the provider has the API's own paths, such as "/openai"; "" for the root.
	BasePath string
	// Query is the query as sent, without the question mark.
	Query string
	// Header is the request's header, read only.
	Header          http.Header
	ContentType     string
	ContentEncoding string
	// Body is the whole body as sent, or one WebSocket message. The gate keeps no reference to it.
	Body []byte
	// Message says that Body is a message that the caller sent on a WebSocket, the handshake of which was judged before. Destination.Method is
	// that of the handshake, GET.
	Message bool
	// Session is that of a message: what those before it said and named. With nil, the message stands alone.
	Session *Session
	// MaxBytes is how large the body may be, its content coding taken off, in place of the gate's own limit; 0 leaves that.
	MaxBytes int64
	// Salt is the workload's, by which what is learned of its calls is told apart; see features.Context. It must be the same for all pods of a
	// workload, and for as long as what was learned of it is to be of use. With 0, nothing is learned and nothing is novel.
	Salt uint64
	// Canaries are strings that must not be in a call; nil where there are none.
	Canaries *canary.Set
	// RefuseCold refuses a call that the detector would judge, while there is none.
	RefuseCold bool
	// Findings are what the reader of the request already objected to, such as a body over the limit.
	Findings        []llm.Finding
	TraceID, SpanID string
}

// Verdict is the gate's answer.
type Verdict struct {
	// Release says whether the call may go on, exactly as it was judged.
	Release bool
	// Body is what to forward in place of the original bytes, in the same content coding; nil where those go on as they are.
	Body []byte
	// Response is how to handle the response: always one of the four modes, policy.ResponseObserve where nobody asks for more.
	Response policy.ResponseMode
	// Refusal is what to tell a refused caller; zero when Release.
	Refusal llm.Refusal
	// Row is the surface of a model call, for the refusal's dialect and the response's watcher; nil for a tunnel.
	Row *llm.Row
	// Record is the decision record up to here. The caller fills in what follows and emits it.
	Record *telemetry.Record

	in          *policy.Input // what the response is judged with; nil where the call was not judged here
	judgesReply bool          // some bundle asks for the response to be judged
	named       named         // of a WebSocket
	sessions    *features.Sessions
	turn        *features.Turn // nil where the call has no place in a conversation of its own
}

// JudgesResponse says whether some bundle asks for the response to be judged, if only for the record: then the arguments of its tool calls are
// worth keeping.
func (v *Verdict) JudgesResponse() bool { return v.judgesReply }

// Answered is told the id that the provider has given to its response, as soon as it is known: a call that names it goes on with the conversation. It may be told by any goroutine.
func (v *Verdict) Answered(id string) {
	if v.turn != nil {
		v.sessions.Answered(v.turn, id)
	}
}

// Judge leads a call through both doors. It never fails: what cannot be judged is refused.
func (g *Gate) Judge(ctx context.Context, r *Request) *Verdict {
	watch := stopwatch{read: g.Elapsed}
	watch.start()

	in := &policy.Input{
		Version:     policy.InputVersion,
		ID:          r.ID,
		TimeNanos:   r.Time.UnixNano(),
		Mode:        r.Mode,
		KillSwitch:  r.KillSwitch,
		Workload:    r.Workload,
		Destination: r.Destination,
		Call:        nothing(),
		Anomaly:     policy.Anomaly{TopFeatures: []policy.Feature{}},
		Phase:       policy.PhaseRequest,
		Response:    policy.Response{ToolCalls: []policy.ResponseToolCall{}},
	}
	rec := &telemetry.Record{
		ID: r.ID, Time: r.Time,
		Workload: r.Workload, Destination: r.Destination,
		TraceID: r.TraceID, SpanID: r.SpanID,
	}
	v := &Verdict{Record: rec, Response: policy.ResponseObserve, in: in}

	var turn *features.Turn
	var facts features.Facts
	judged := false // by the detector, or it would be if there were one
	var body []byte // without its content coding
	if r.Destination.Kind == policy.DestinationModel && r.Destination.Method != "" {
		match := surface.Lookup(r.API, r.Destination.Method, below(r.BasePath, r.Destination.Path))
		v.Row = match.Row
		plain, call := g.decode(match, r)
		v.inSession(call, r)
		rec.DecodeMicros = watch.lap()

		judged = len(call.Messages)+len(call.Tools) > 0
		switch {
		case r.Message && r.Session != nil:
			turn = g.Sessions.BeginIn(&r.Session.thread, call, r.Time)
			in.Session = turn.Session()
		case judged:
			turn = g.Sessions.Begin(call, r.Time)
			in.Session = turn.Session()
		}
		if judged {
			model := g.Model()
			var vector features.Vector
			evidence := evidencePool.Get().(*features.Evidence) //nolint:forcetypeassert // the pool holds nothing else
			facts = features.Extract(&vector, evidence, call, turn, &features.Context{
				Salt: r.Salt, Baseline: model.Baseline(), Destination: authority(&r.Destination), Credential: credentialOf(r), Now: r.Time,
			})
			rec.Schema, rec.Features, rec.Evidence = features.SchemaID, slices.Clone(vector[:]), evidence.Encoded()
			evidencePool.Put(evidence)
			rec.FeaturesMicros = watch.lap()

			in.Anomaly = model.Judge(&vector)
			rec.ScoreMicros = watch.lap()
		}
		in.Call = summarise(call, turn)
		in.Call.Novel = policy.Novel{
			Ready: facts.Ready, Model: facts.NewModel, Tools: facts.NewTools, System: facts.NewSystem, Destination: facts.NewDestination, Credential: facts.NewCredential,
		}
		in.Call.Canaries = canaries(r, plain)
		in.Scan = func() policy.Sensitive { return sensitive(plain) }
		body = plain
	}

	decision := g.Policy.Decide(ctx, in)
	in.Scan = nil
	if r.RefuseCold && judged && !in.Anomaly.Ready && decision.Action == policy.ActionAllow {
		decision = cold(decision)
	}
	if decision.Action == policy.ActionAllow && len(decision.Obligations.Redact) > 0 {
		decision = v.redact(decision, body, r)
	}
	rec.PolicyMicros = watch.lap()

	rec.Call, rec.Session, rec.Anomaly = in.Call, in.Session, in.Anomaly
	rec.Action, rec.Reasons, rec.Fault = decision.Action, decision.Reasons, string(decision.Fault)
	rec.PolicyDigest, rec.PolicyRevision = decision.Digest, decision.Revision

	switch {
	case decision.Action == policy.ActionAllow:
		v.Release, rec.Outcome = true, telemetry.OutcomeReleased
	case relaxes(r.Mode, r.KillSwitch):
		v.Release, rec.Outcome = true, telemetry.OutcomeRelaxed
	default:
		rec.Outcome = telemetry.OutcomeRefused
	}
	if decision.Action != policy.ActionAllow {
		rec.Rule = rule(decision)
	}
	if !v.Release {
		v.Refusal = refusal(r.ID, decision, rec.Rule)
	}
	if v.Release && decision.Action == policy.ActionAllow {
		v.judgesReply = decision.Obligations.ResponseAsked
		if rec.ResponseMode = decision.Obligations.Response; !relaxes(r.Mode, r.KillSwitch) {
			v.Response = decision.Obligations.Response
		}
	}
	if judged {
		g.Sessions.Settle(turn, features.Outcome{Percentile: in.Anomaly.Percentile, Score: in.Anomaly.Score, Released: v.Release, Taint: in.Anomaly.Exceeds}, r.Time)
		v.sessions, v.turn = g.Sessions, turn
	}
	rec.JudgeMicros = watch.total()
	return v
}

// decode takes the content coding off the body and reads it, unless its reader already found that it cannot be judged.
func (g *Gate) decode(m surface.Match, r *Request) (plain []byte, call *llm.Call) {
	findings := slices.Clone(r.Findings)
	plain = r.Body
	limits := g.Limits
	if r.MaxBytes > 0 {
		limits.MaxBytes = r.MaxBytes
	}
	if len(findings) == 0 && r.ContentEncoding != "" {
		plain, findings = coding.Decode(r.ContentEncoding, r.Body, coding.Limits{MaxBytes: limits.MaxBytes})
	}
	if len(findings) > 0 {
		return nil, &llm.Call{Provider: r.API, Surface: m.Surface, Class: m.Class, Operation: m.Operation, BodyBytes: len(r.Body), Findings: findings}
	}
	method, query := r.Destination.Method, r.Query
	if r.Message {
		method, query = llm.MethodMessage, "" // which was judged with the handshake: what the message says is its own
	}
	return plain, m.Decode(&llm.Request{
		Method: method, Path: below(r.BasePath, r.Destination.Path), Query: query, Vars: m.Vars,
		ContentType: r.ContentType, Header: r.Header, Body: plain,
	}, limits)
}

// canaries are the names of the canary tokens in the call: its body without content coding, its path and its query. Of a body whose coding cannot be taken off, which is
// refused as it is, the bytes as sent are looked at.
func canaries(r *Request, plain []byte) []string {
	if plain == nil {
		plain = r.Body
	}
	found := r.Canaries.Find(plain)
	if !r.Message { // whose path and query were judged with the handshake
		found = union(found, r.Canaries.Find([]byte(r.Destination.Path)))
		found = union(found, r.Canaries.Find([]byte(r.Query)))
	}
	if found == nil {
		return []string{}
	}
	slices.Sort(found)
	return found
}

// relaxes says whether a denial is released. The kill switch refuses in every mode.
func relaxes(mode string, killSwitch bool) bool { return mode == ModeObserve && !killSwitch }

// below is a path below the base, "" where it is not: a path beside the base is none of the API's.
func below(base, path string) string {
	base = strings.TrimSuffix(base, "/")
	rest, ok := strings.CutPrefix(path, base)
	if !ok || base != "" && !strings.HasPrefix(rest, "/") {
		return ""
	}
	return rest
}

// rule is the stable id that a refusal goes by: the first reason's, else the fault's.
func rule(d policy.Decision) string {
	if len(d.Reasons) > 0 {
		return d.Reasons[0].Rule
	}
	if d.Fault != policy.FaultNone {
		return "FAULT-" + strings.ToUpper(strings.ReplaceAll(string(d.Fault), "_", "-"))
	}
	return "POLICY-NO-ALLOW"
}

func refusal(id string, d policy.Decision, ruleID string) llm.Refusal {
	out := llm.Refusal{DecisionID: id, Rule: ruleID}
	switch {
	case len(d.Reasons) > 0:
		messages := make([]string, len(d.Reasons))
		for i, r := range d.Reasons {
			messages[i] = r.Message
		}
		out.Message = strings.Join(messages, " ")
	case d.Action == policy.ActionHold:
		out.Message = "The policy asks to hold this call for approval, which this version cannot do; it is refused."
	case d.Fault != policy.FaultNone:
		out.Message = "No decision could be had (" + string(d.Fault) + "), so the call is refused."
	default:
		out.Message = "No policy allows this call."
	}
	return out
}

// stopwatch splits the time of one call. It costs nothing where there is no clock.
type stopwatch struct {
	read        func() time.Duration
	first, last time.Duration
}

func (w *stopwatch) start() {
	if w.read != nil {
		w.first = w.read()
		w.last = w.first
	}
}

func (w *stopwatch) lap() int64 {
	if w.read == nil {
		return 0
	}
	now := w.read()
	d := now - w.last
	w.last = now
	return d.Microseconds()
}

func (w *stopwatch) total() int64 {
	if w.read == nil {
		return 0
	}
	return (w.read() - w.first).Microseconds()
}
