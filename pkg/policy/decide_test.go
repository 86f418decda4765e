package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

// ordinary is a call that the baseline allows.
func ordinary() *Input {
	return &Input{
		Version: InputVersion, ID: "0197-a", TimeNanos: 1_763_845_200_123_456_789, Mode: "enforce",
		Workload: Workload{Namespace: "agents", Kind: "Deployment", Name: "triage", Pod: "triage-0", ServiceAccount: "triage"},
		Destination: Destination{
			Kind: DestinationModel, Provider: "openai", Scheme: "https", Host: "api.openai.com", Port: 443,
			Method: "POST", Path: "/v1/chat/completions", Address: "203.0.113.7",
		},
		Call: Call{
			Surface: "openai.chat_completions", Class: "model", Operation: "chat", Model: "gpt-4o", Stream: true,
			Messages: 6, Roles: []string{"assistant", "tool"}, Tools: []string{"get_ticket", "list_tickets", "search_docs", "send_mail"},
			ServerTools: []string{}, ToolCalls: []string{"get_ticket"}, MaxTokens: 1024, Temperature: 0.2, BodyBytes: 9137,
			OtherModels: []string{}, UnknownFields: []string{}, Findings: []string{},
			ServerToolClasses: []string{}, RemoteMCPHosts: []string{}, URLHosts: []string{}, AttachmentKinds: []string{}, Sensitive: NotLookedFor, Canaries: []string{},
		},
		Phase: PhaseRequest, Response: Response{ToolCalls: []ResponseToolCall{}},
		Session: Session{ID: "s-1", Calls: 3, MaxPercentile: 0.41, MaxScore: 0.4},
		Anomaly: Anomaly{
			Ready: true, Score: 0.4375, Percentile: 0.52, Threshold: 0.61, ModelDigest: "5f3c",
			TopFeatures: []Feature{{Name: "call.body_bytes", Value: 9137, Contribution: 0.21}, {Name: "session.calls", Value: 3, Contribution: -0.1}},
		},
	}
}

func with(change func(in *Input)) *Input {
	in := ordinary()
	change(in)
	return in
}

// tunnel is a connection to a host that the profile names.
func tunnel() *Input {
	in := ordinary()
	in.Destination = Destination{Kind: DestinationPassthrough, Scheme: "tls", Host: "git.example.com", Port: 443, Address: "203.0.113.9"}
	in.Call = Call{MaxTokens: -1, Temperature: -1}
	in.Session, in.Anomaly = Session{}, Anomaly{}
	return in
}

// library reads a bundle of the policy library.
func library(t testing.TB, name string) Source {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "policy", name, "*.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no modules of %s: %v", name, err)
	}
	s := Source{Name: name, Modules: map[string]string{}}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s.Modules[filepath.Base(f)] = string(text)
	}
	return s
}

func static(t testing.TB, modules ...string) *Engine {
	t.Helper()
	byFile := map[string]string{}
	for i, m := range modules {
		byFile[fmt.Sprintf("m%d.rego", i)] = m
	}
	e, err := NewStatic(byFile)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func baseline(t testing.TB) *Engine {
	t.Helper()
	e, err := NewStatic(library(t, "baseline").Modules)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const allowAll = "package sallyport.bundle.all\n\nallow := true\n"

func TestSystemRules(t *testing.T) {
	for _, tc := range []struct {
		name  string
		in    *Input
		rules []string // of the reasons; none for an allow
	}{
		{"ordinary call", ordinary(), nil},
		{"tunnel", tunnel(), nil},
		{"observe", with(func(in *Input) { in.Mode = "observe" }), nil},
		{"cold detector", with(func(in *Input) { in.Anomaly = Anomaly{} }), nil},
		{"finding", with(func(in *Input) { in.Call.Findings = []string{"duplicate_key", "trailing_data"} }), []string{"SYS-001"}},
		{"finding in a tunnel", func() *Input { in := tunnel(); in.Call.Findings = []string{"oversize"}; return in }(), []string{"SYS-001"}},
		{"canary", with(func(in *Input) { in.Call.Canaries = []string{"vault"} }), []string{"SYS-013"}},
		{"canary in observe mode", with(func(in *Input) { in.Mode, in.Call.Canaries = "observe", []string{"a", "b"} }), []string{"SYS-013"}},
		{"canary in a response's phase", with(func(in *Input) { in.Phase, in.Call.Canaries = PhaseResponse, []string{"vault"} }), []string{"SYS-013"}},
		{"novel", with(func(in *Input) { in.Call.Novel = Novel{Ready: true, Model: true, Credential: true} }), nil},
		{"unknown surface", with(func(in *Input) { in.Call.Surface = "unknown" }), []string{"SYS-002"}},
		{"no surface", with(func(in *Input) { in.Call.Surface = "" }), []string{"SYS-002"}},
		{"tunnel to a model host", with(func(in *Input) { in.Destination.Method = "" }), []string{"SYS-002"}},
		{"unlisted host", with(func(in *Input) { in.Destination.Kind = DestinationOther }), []string{"SYS-003"}},
		{"no name", with(func(in *Input) { in.Destination.Kind = DestinationUnknown }), []string{"SYS-004"}},
		{"kind of a later version", with(func(in *Input) { in.Destination.Kind = "mesh" }), []string{"SYS-004"}},
		{"kill switch", with(func(in *Input) { in.KillSwitch = true }), []string{"SYS-005"}},
		{"kill switch for a tunnel", func() *Input { in := tunnel(); in.KillSwitch = true; return in }(), []string{"SYS-005"}},
		{"kill switch in observe mode", with(func(in *Input) { in.KillSwitch, in.Mode = true, "observe" }), []string{"SYS-005"}},
		{"zero version", with(func(in *Input) { in.Version = 0 }), []string{"SYS-006"}},
		{"next version", with(func(in *Input) { in.Version = 2 }), []string{"SYS-006"}},
		{"unknown mode", with(func(in *Input) { in.Mode = "off" }), []string{"SYS-007"}},
		{"score over 1", with(func(in *Input) { in.Anomaly.Score = 1.5 }), []string{"SYS-007"}},
		{"score over the threshold that does not exceed", with(func(in *Input) { in.Anomaly.Score = 0.7 }), []string{"SYS-007"}},
		{"negative percentile", with(func(in *Input) { in.Anomaly.Percentile = -0.1 }), []string{"SYS-007"}},
		{"all at once", with(func(in *Input) { in.Version, in.KillSwitch, in.Destination.Kind = 9, true, "" }), []string{"SYS-004", "SYS-005", "SYS-006"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := static(t, allowAll).Decide(t.Context(), tc.in)
			var got []string
			for _, r := range d.Reasons {
				got = append(got, r.Rule)
			}
			if !slices.Equal(got, tc.rules) || d.Fault != FaultNone || (d.Action == ActionAllow) != (tc.rules == nil) {
				t.Fatalf("%+v, want reasons %v", d, tc.rules)
			}
			if !slices.Equal(d.Rules, tc.rules) {
				t.Errorf("rules that fired %v, want %v", d.Rules, tc.rules)
			}
			if d.Digest == "" || d.Revision == "" {
				t.Error("no digest or revision")
			}
		})
	}
}

func TestComposition(t *testing.T) {
	const (
		allows   = "package sallyport.bundle.a\n\nallow if input.call.model == \"gpt-4o\"\n"
		denies   = "package sallyport.bundle.b\n\n# METADATA\n# labels:\n#   rule: B-1\ndeny contains {\"rule\": \"B-1\", \"message\": \"No.\"} if input.workload.name == \"triage\"\n"
		silent   = "package sallyport.bundle.c\n\nallow if input.call.model == \"other\"\n\ndefault allow := false\n"
		nameless = "package sallyport.bundle.d\n\ndeny contains \"just text\" if input.version == 1\n"
		helper   = "package sallyport.bundle.a.lib\n\nbig if input.call.body_bytes > 1000000\n"
	)
	for _, tc := range []struct {
		name    string
		modules []string
		in      *Input
		action  Action
		rules   []string
	}{
		{"no bundle", nil, ordinary(), ActionDeny, []string{"SYS-008"}},
		{"no bundle, tunnel", nil, tunnel(), ActionAllow, nil},
		{"no bundle allows", []string{silent}, ordinary(), ActionDeny, []string{"SYS-009"}},
		{"one allows", []string{allows}, ordinary(), ActionAllow, nil},
		{"one of two allows", []string{allows, silent}, ordinary(), ActionAllow, nil},
		{"a denial overrides", []string{allows, denies}, ordinary(), ActionDeny, []string{"B-1"}},
		{"a denial of a tunnel", []string{allows, denies}, tunnel(), ActionDeny, []string{"B-1"}},
		{"a denial alone", []string{denies}, ordinary(), ActionDeny, []string{"B-1"}},
		{"a denial without form", []string{allows, nameless}, ordinary(), ActionDeny, []string{"SYS-011"}},
		{"two denials", []string{denies, nameless}, ordinary(), ActionDeny, []string{"B-1", "SYS-011"}},
		{"a package below", []string{allows, helper}, ordinary(), ActionAllow, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := static(t, tc.modules...).Decide(t.Context(), tc.in)
			var got []string
			for _, r := range d.Reasons {
				got = append(got, r.Rule)
			}
			if d.Action != tc.action || !slices.Equal(got, tc.rules) || d.Fault != FaultNone {
				t.Fatalf("%+v, want %s %v", d, tc.action, tc.rules)
			}
		})
	}
}

func TestBaselineLeavesTunnelsAndColdDetectorsAlone(t *testing.T) {
	for name, in := range map[string]*Input{"tunnel": tunnel(), "cold": with(func(in *Input) { in.Anomaly = Anomaly{} })} {
		if d := baseline(t).Decide(t.Context(), in); d.Action != ActionAllow {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestDecisionReportsTheRulesThatFired(t *testing.T) {
	d := baseline(t).Decide(t.Context(), with(func(in *Input) {
		in.Call.Model, in.Call.ServerToolClasses, in.Anomaly.Exceeds = "gpt-2", []string{"web_search"}, true
	}))
	want := []string{"ANOM-001", "MODEL-001", "TOOL-001"}
	if !slices.Equal(d.Rules, want) || len(d.Reasons) != 3 || d.Reasons[0].Rule != "ANOM-001" {
		t.Fatalf("%+v, want rules %v and a reason for each in that order", d, want)
	}
	if d := baseline(t).Decide(t.Context(), ordinary()); d.Action != ActionAllow || len(d.Rules) != 0 || d.Reasons != nil {
		t.Fatalf("%+v, want a plain allow: labels of an earlier decision must not linger", d)
	}
}

func TestFaults(t *testing.T) {
	slow := "package sallyport.bundle.slow\n\nallow if {\n\tsome i in numbers.range(1, 100000)\n\tsome j in numbers.range(1, 100000)\n\ti * j == -1\n}\n"
	for _, tc := range []struct {
		name  string
		e     *Engine
		in    *Input
		fault Fault
	}{
		{"no bundle", &Engine{}, ordinary(), FaultNoPolicy},
		{"no input", static(t, allowAll), nil, FaultInput},
		{"NaN score", static(t, allowAll), with(func(in *Input) { in.Anomaly.Score = math.NaN() }), FaultInput},
		{"infinite temperature", static(t, allowAll), with(func(in *Input) { in.Call.Temperature = math.Inf(1) }), FaultInput},
		{"infinite threshold", static(t, allowAll), with(func(in *Input) { in.Anomaly.Threshold = math.Inf(-1) }), FaultInput},
		{"NaN percentile", static(t, allowAll), with(func(in *Input) { in.Anomaly.Percentile = math.NaN() }), FaultInput},
		{"NaN of the session", static(t, allowAll), with(func(in *Input) { in.Session.MaxPercentile = math.NaN() }), FaultInput},
		{"NaN score of the session", static(t, allowAll), with(func(in *Input) { in.Session.MaxScore = math.NaN() }), FaultInput},
		{"NaN of a feature", static(t, allowAll), with(func(in *Input) { in.Anomaly.TopFeatures[1].Value = math.NaN() }), FaultInput},
		{"infinite contribution", static(t, allowAll), with(func(in *Input) { in.Anomaly.TopFeatures[0].Contribution = math.Inf(1) }), FaultInput},
		{"built-in error in allow", static(t, "package sallyport.bundle.x\n\nallow if 1 / (input.version - 1) != 0\n"), ordinary(), FaultError},
		{"built-in error in deny", static(t, allowAll, "package sallyport.bundle.x\n\ndeny contains {\"rule\": \"X\", \"message\": \"x\"} if to_number(input.call.model) > 1\n"), ordinary(), FaultError},
		{"conflict", static(t, "package sallyport.bundle.x\n\nallow if v == 1\n\nv := 1 if input.version == 1\n\nv := 2 if input.mode == \"enforce\"\n"), ordinary(), FaultError},
		{"timeout", static(t, slow), ordinary(), FaultTimeout},
		{"panic", func() *Engine { e := &Engine{ready: make(chan struct{})}; e.activate(&program{}); return e }(), ordinary(), FaultError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.e.timeout = DefaultTimeout
			d := tc.e.Decide(t.Context(), tc.in)
			if d.Action != ActionDeny || d.Fault != tc.fault || len(d.Reasons) != 0 {
				t.Fatalf("%+v, want a denial with fault %s", d, tc.fault)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if d := static(t, allowAll).Decide(ctx, ordinary()); d.Action != ActionDeny || d.Fault != FaultTimeout {
			t.Fatalf("%+v, want a denial", d)
		}
	})
}

func TestReadDecision(t *testing.T) {
	for _, tc := range []struct {
		term string
		want string // action and rules; "" for malformed
	}{
		{`{"action": "allow", "reasons": []}`, "allow observe"},
		{`{"action": "allow", "reasons": [], "obligations": []}`, "allow observe"},
		{`{"action": "allow", "reasons": [], "obligations": {{"response": "cut"}, {"response": "hold-all"}, {"response": "observe"}}}`, "allow hold-all"},
		{`{"action": "allow", "reasons": [], "obligations": [{"response": "cut"}, {"redact": "iban"}, {"redact": "email"}, {"redact": "iban"}]}`, "allow cut[email iban]"},
		{`{"action": "allow", "reasons": [], "obligations": [{"response": "hold"}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": [{"redact": "names"}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": [{"header": "x"}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": [{"response": "cut", "redact": "email"}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": [{}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": ["cut"]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": [{"response": ["cut"]}]}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": {"response": "cut"}}`, ""},
		{`{"action": "allow", "reasons": [], "obligations": null}`, ""},
		{`{"action": "allow", "obligations": []}`, ""},
		{`{"action": "deny", "reasons": [{"rule": "B", "message": "b"}, {"rule": "A", "message": "a"}]}`, "deny A B"},
		{`{"action": "deny", "reasons": {{"rule": "A", "message": "a"}}}`, "deny A"},
		{`{"action": "hold", "reasons": [{"rule": "A", "message": "a"}]}`, "hold A"},
		{`{"action": "deny", "reasons": []}`, ""},
		{`{"action": "allow", "reasons": [{"rule": "A", "message": "a"}]}`, ""},
		{`{"action": "allow"}`, ""},
		{`{"action": "allow", "reasons": null}`, ""},
		{`{"action": "allow", "reasons": [], "more": 1}`, ""},
		{`{"action": "Allow", "reasons": []}`, ""},
		{`{"action": ["allow"], "reasons": []}`, ""},
		{`{"action": "deny", "reasons": ["A"]}`, ""},
		{`{"action": "deny", "reasons": [{"rule": 1, "message": "a"}]}`, ""},
		{`{"action": "deny", "reasons": {"A": "a"}}`, ""},
		{`"allow"`, ""}, {`true`, ""}, {`null`, ""}, {`[]`, ""},
	} {
		d, err := readDecision(ast.MustParseTerm(tc.term).Value)
		got := string(d.Action)
		for _, r := range d.Reasons {
			got += " " + r.Rule
		}
		if d.Action == ActionAllow {
			got += strings.TrimSuffix(fmt.Sprint(" ", d.Obligations.Response, d.Obligations.Redact), "[]")
		}
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", tc.term, got, err, tc.want)
		}
		if tc.want == "" && !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", tc.term, err)
		}
	}

	long := ast.NewSet()
	for i := range 100 {
		long.Add(ast.ObjectTerm(
			ast.Item(ast.StringTerm("rule"), ast.StringTerm(fmt.Sprintf("R-%03d", i)+strings.Repeat("x", 100))),
			ast.Item(ast.StringTerm("message"), ast.StringTerm(strings.Repeat("é", 1000)))))
	}
	d, err := readDecision(ast.NewObject(
		ast.Item(ast.StringTerm("action"), ast.StringTerm("deny")), ast.Item(ast.StringTerm("reasons"), ast.NewTerm(long))))
	if err != nil || len(d.Reasons) != maxReasons || len(d.Reasons[0].Rule) > maxRuleBytes+3 || len(d.Reasons[0].Message) > maxMessageBytes+3 {
		t.Errorf("a decision is not bounded: %d reasons, %v", len(d.Reasons), err)
	}
}

func FuzzReadDecision(f *testing.F) {
	f.Add(`{"action":"allow","reasons":[]}`)
	f.Add(`{"action":"deny","reasons":[{"rule":"A","message":"a"}]}`)
	f.Add(`[null]`)
	f.Fuzz(func(t *testing.T, text string) {
		var doc any
		if util.UnmarshalJSON([]byte(text), &doc) != nil {
			return
		}
		v, err := ast.InterfaceToValue(doc)
		if err != nil {
			return
		}
		d, err := readDecision(v)
		if (err == nil) != (d.Action != "") || d.Action == ActionAllow && len(d.Reasons) != 0 || d.Action == ActionDeny && len(d.Reasons) == 0 {
			t.Errorf("%s: %+v %v", text, d, err)
		}
	})
}

// jsonForm is the document as a client of OPA's API would send it.
func jsonForm(t testing.TB, in *Input) ast.Value {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDocumentEqualsTheJSONForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	inputs := []*Input{ordinary()}
	for range 200 {
		in := &Input{}
		fill(reflect.ValueOf(in).Elem(), rng)
		inputs = append(inputs, in)
	}
	for _, in := range inputs {
		if got, want := document(in), jsonForm(t, in); got.Compare(want) != 0 {
			t.Fatalf("document\n%v\nwant\n%v", got, want)
		}
	}
	empty := document(&Input{})
	if strings.Contains(empty.String(), "null") { // a tool call's arguments may be, but there is none
		t.Errorf("the zero input has a null: %v", empty)
	}
}

// fill sets every field to something random, slices to something that is not nil.
func fill(v reflect.Value, rng *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rng)
		}
	case reflect.Func: // of Scan
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte([]string{"null", "1.5", `{"a":["b",{"c":null}]}`, `"\\u00e9"`}[rng.IntN(4)]))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(v.Index(i), rng)
		}
	case reflect.String:
		v.SetString([]string{"", "a", "gpt-4o", "\"<>&\u2028", "naïve \x00", "bad \xff utf8", "日本"}[rng.IntN(7)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, -1, 1, 443, 1 << 40, math.MaxInt64, math.MinInt64, rng.Int64()}[rng.IntN(8)])
	case reflect.Float64:
		v.SetFloat([]float64{0, -1, 0.5, 1e-9, 1e300, math.MaxFloat64, 9007199254740993, rng.NormFloat64()}[rng.IntN(8)])
	default:
		panic(v.Kind())
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("gpt-4o", "openai", "get_ticket", 0.4, int64(10), false)
	f.Add("gpt-4o\xff", "\x00", "", 1.0, int64(-1), true)
	e := baseline(f)
	f.Fuzz(func(t *testing.T, model, provider, tool string, score float64, tokens int64, tainted bool) {
		in := with(func(in *Input) {
			in.Call.Model, in.Destination.Provider, in.Call.ToolCalls = model, provider, []string{tool}
			in.Anomaly.Score, in.Call.MaxTokens, in.Session.Tainted = score, tokens, tainted
		})
		d := e.Decide(t.Context(), in)
		if d.Action == ActionAllow && (!(score >= 0 && score <= in.Anomaly.Threshold) || tokens > 65536 || provider != "openai" && provider != "anthropic") {
			t.Errorf("allowed %+v", in)
		}
		if d.Fault == FaultError || d.Fault == FaultMalformed || d.Fault == FaultUndefined {
			t.Errorf("%+v for %+v", d, in)
		}
	})
}

// denied are inputs that the baseline or the system refuses, each for another field.
func denied() map[string]*Input {
	return map[string]*Input{
		"model":       with(func(in *Input) { in.Call.Model = "gpt-2" }),
		"provider":    with(func(in *Input) { in.Destination.Provider = "mirror" }),
		"exceeds":     with(func(in *Input) { in.Anomaly.Exceeds, in.Anomaly.Score = true, 0.9 }),
		"score":       with(func(in *Input) { in.Anomaly.Score = 0.9 }),
		"tainted":     with(func(in *Input) { in.Session.Tainted, in.Call.ToolCalls = true, []string{"send_mail"} }),
		"server tool": with(func(in *Input) { in.Call.ServerToolClasses = []string{"web_search"} }),
		"max tokens":  with(func(in *Input) { in.Call.MaxTokens = 1 << 20 }),
		"finding":     with(func(in *Input) { in.Call.Findings = []string{"duplicate_key"} }),
		"surface":     with(func(in *Input) { in.Call.Surface = "unknown" }),
		"other":       with(func(in *Input) { in.Destination.Kind = DestinationOther }),
		"unknown":     with(func(in *Input) { in.Destination.Kind = DestinationUnknown }),
		"kill switch": with(func(in *Input) { in.KillSwitch = true }),
		"version":     with(func(in *Input) { in.Version = 7 }),
		"mode":        with(func(in *Input) { in.Mode = "" }),
	}
}

// TestNoFieldOpensByBeingAbsent takes each denied document and spoils each of its fields in turn: gone, null, or of another type. None of that
// may turn the denial into a release. (A null is less than any number in Rego's order, and an undefined condition of a denial
// is no denial: a policy of denials alone would open on both.)
func TestNoFieldOpensByBeingAbsent(t *testing.T) {
	p := baseline(t).active.Load()
	spoilt := map[string]any{"null": nil, "string": "x", "number": json.Number("0.5"), "object": map[string]any{}, "array": []any{"x"}, "boolean": true}
	tried := 0
	for name, in := range denied() {
		var doc map[string]any
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := util.UnmarshalJSON(raw, &doc); err != nil {
			t.Fatal(err)
		}
		try := func(what string) {
			t.Helper()
			tried++
			v, err := ast.InterfaceToValue(doc)
			if err != nil {
				t.Fatal(err)
			}
			if d := p.evaluate(t.Context(), v, time.Minute); d.Action != ActionDeny {
				t.Errorf("%s, %s: %+v", name, what, d)
			}
		}
		var visit func(path string, node map[string]any)
		visit = func(path string, node map[string]any) {
			for _, k := range slices.Sorted(maps.Keys(node)) {
				was := node[k]
				delete(node, k)
				try("no " + path + k)
				for kind, v := range spoilt {
					if reflect.TypeOf(v) == reflect.TypeOf(was) {
						continue // a value of the right type may well be an allowed one
					}
					node[k] = v
					try(path + k + " as " + kind)
				}
				node[k] = was
				if below, ok := was.(map[string]any); ok {
					visit(path+k+".", below)
				}
			}
		}
		visit("", doc)
	}
	if tried < 3000 {
		t.Errorf("only %d documents tried", tried)
	}
	for _, doc := range []ast.Value{ast.Null{}, ast.NewObject(), ast.NewArray(), ast.String("x"), nil} {
		if d := p.evaluate(t.Context(), doc, time.Minute); d.Action != ActionDeny {
			t.Errorf("%v: %+v", doc, d)
		}
	}
	nan := document(ordinary()).(ast.Object)
	nan.Insert(ast.StringTerm("anomaly"), ast.ObjectTerm(ast.Item(ast.StringTerm("score"), ast.NumberTerm("NaN"))))
	if d := p.evaluate(t.Context(), nan, time.Minute); d.Action != ActionDeny {
		t.Errorf("NaN past the check: %+v", d)
	}
}

// TestIndexingDoesNotDecide compares each decision with one made without OPA's rule index and without early exit: releases of OPA have had
// an index that silently lost rules.
func TestIndexingDoesNotDecide(t *testing.T) {
	p := baseline(t).active.Load()
	inputs := slices.Collect(maps.Values(denied()))
	inputs = append(inputs, ordinary(), tunnel())
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		in := with(func(in *Input) {
			in.Call.Model = []string{"gpt-4o", "gpt-4o-2024-08-06", "gpt-4", "claude-sonnet-4-5", ""}[rng.IntN(5)]
			in.Destination.Provider = []string{"openai", "anthropic", "x"}[rng.IntN(3)]
			in.Destination.Kind = []DestinationKind{DestinationModel, DestinationModel, DestinationPassthrough, DestinationOther}[rng.IntN(4)]
			in.Anomaly.Ready, in.Anomaly.Exceeds = rng.IntN(2) == 0, rng.IntN(4) == 0
			in.Anomaly.Score = rng.Float64()
			in.Session.Tainted = rng.IntN(2) == 0
			in.Call.ToolCalls = [][]string{nil, {"get_ticket"}, {"send_mail"}, {"get_ticket", "exec"}}[rng.IntN(4)]
			in.Call.ServerToolClasses = [][]string{nil, nil, {"web_search"}}[rng.IntN(3)]
			in.Call.MaxTokens = []int64{-1, 100, 1 << 20}[rng.IntN(3)]
			in.KillSwitch = rng.IntN(8) == 0
		})
		inputs = append(inputs, in)
	}
	actions := map[Action]int{}
	for _, in := range inputs {
		fast := p.decide(t.Context(), in, time.Minute)
		slow := p.decide(t.Context(), in, time.Minute, rego.EvalRuleIndexing(false), rego.EvalEarlyExit(false))
		if !reflect.DeepEqual(fast, slow) {
			t.Errorf("%+v\nindexed   %+v\nunindexed %+v", in, fast, slow)
		}
		if fast.Fault != FaultNone {
			t.Errorf("%+v: %+v", in, fast)
		}
		actions[fast.Action]++
	}
	if actions[ActionAllow] < 10 || actions[ActionDeny] < 10 {
		t.Errorf("the inputs tell nothing: %v", actions)
	}
}

func BenchmarkDecide(b *testing.B) {
	e := baseline(b)
	for name, in := range map[string]*Input{
		"allow": ordinary(),
		"deny": with(func(in *Input) {
			in.Call.Model, in.Call.ServerToolClasses, in.Anomaly.Exceeds = "gpt-2", []string{"web_search"}, true
		}),
		"system": with(func(in *Input) { in.Call.Findings = []string{"duplicate_key"} }),
		"tunnel": tunnel(),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := e.Decide(b.Context(), in); d.Fault != FaultNone {
					b.Fatal(d.Fault)
				}
			}
		})
	}
	b.Run("evaluated", func(b *testing.B) { // as "allow", but nothing is remembered
		b.ReportAllocs()
		p, in := e.active.Load(), ordinary()
		for b.Loop() {
			p.releases.known.held = nil
			if d := p.decide(b.Context(), in, time.Minute); d.Fault != FaultNone {
				b.Fatal(d.Fault)
			}
		}
	})
	b.Run("document", func(b *testing.B) {
		b.ReportAllocs()
		in := ordinary()
		for b.Loop() {
			document(in)
		}
	})
}

// TestReleaseNeedsMoreThanSilence takes every system denial away and expects the same inputs refused: a release states what must hold, so that a
// denial that does not fire opens nothing.
func TestReleaseNeedsMoreThanSilence(t *testing.T) {
	mute := ast.MustParseModuleWithOpts(systemModule, parserOptions())
	mute.Rules = slices.DeleteFunc(mute.Rules, func(r *ast.Rule) bool { return r.Head.Name == "denials" })
	mute.Rules = append(mute.Rules, &ast.Rule{Head: ast.NewHead("denials", nil, ast.SetTerm()), Body: ast.MustParseBody("true"), Module: mute})
	mute.Annotations = nil
	c := newCompiler()
	c.Compile(map[string]*ast.Module{systemFile: mute, "all.rego": ast.MustParseModuleWithOpts(allowAll, parserOptions())})
	if c.Failed() {
		t.Fatal(c.Errors)
	}
	p, err := prepare(t.Context(), c, inmem.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := p.decide(t.Context(), ordinary(), time.Minute); d.Action != ActionAllow {
		t.Fatalf("%+v, want an allow", d)
	}
	for _, name := range []string{"finding", "surface", "other", "unknown", "kill switch", "version", "mode"} {
		if d := p.decide(t.Context(), denied()[name], time.Minute); d.Action != ActionDeny || d.Fault != FaultNone {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// A sidecar that is older than some fields goes on: its input has none of them. One that sends them sends lists.
func TestOlderSidecars(t *testing.T) {
	absent := struct{}{}
	for _, tc := range []struct {
		canaries any
		action   Action
	}{
		{absent, ActionAllow}, {[]any{}, ActionAllow}, {[]any{"x"}, ActionDeny}, {nil, ActionDeny}, {"x", ActionDeny}, {map[string]any{}, ActionDeny}, {false, ActionDeny},
	} {
		for _, p := range []*program{static(t, allowAll).active.Load(), baseline(t).active.Load()} {
			raw, err := json.Marshal(ordinary())
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := util.UnmarshalJSON(raw, &doc); err != nil {
				t.Fatal(err)
			}
			call, session := doc["call"].(map[string]any), doc["session"].(map[string]any)
			delete(call, "novel")
			delete(session, "max_score")
			if call["canaries"] = tc.canaries; tc.canaries == absent {
				delete(call, "canaries")
			}
			value, err := ast.InterfaceToValue(doc)
			if err != nil {
				t.Fatal(err)
			}
			if d := p.evaluate(t.Context(), value, time.Minute); d.Action != tc.action {
				t.Errorf("canaries %v: %+v", tc.canaries, d)
			}
		}
	}
}

// TestMalformedInputIsDenied spoils each field that decisions rest on, under a policy that allows everything.
func TestMalformedInputIsDenied(t *testing.T) {
	p := static(t, allowAll).active.Load()
	for _, path := range []string{
		"version", "mode", "kill_switch", "workload.namespace", "destination.kind", "destination.host", "destination.provider",
		"destination.method", "call.surface", "call.model", "call.stream", "call.roles", "call.tools", "call.server_tools",
		"call.tool_calls", "call.findings", "call.max_tokens", "call.body_bytes", "session.tainted", "anomaly.ready",
		"anomaly.exceeds", "anomaly.threshold", "anomaly.score", "anomaly.percentile",
	} {
		raw, err := json.Marshal(ordinary())
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := util.UnmarshalJSON(raw, &doc); err != nil {
			t.Fatal(err)
		}
		node, name := doc, path
		if parent, child, ok := strings.Cut(path, "."); ok {
			node, name = doc[parent].(map[string]any), child
		}
		delete(node, name)
		for i, v := range []any{nil, nil, map[string]any{}, []any{map[string]any{}}} {
			if i > 0 {
				node[name] = v
			}
			if _, isList := v.([]any); isList && slices.Contains([]string{"call.roles", "call.tools", "call.server_tools", "call.tool_calls"}, path) {
				continue // an array is the right type for some; what it holds is the bundles' to judge
			}
			value, err := ast.InterfaceToValue(doc)
			if err != nil {
				t.Fatal(err)
			}
			if d := p.evaluate(t.Context(), value, time.Minute); d.Action != ActionDeny {
				t.Errorf("%s: %v %+v", path, v, d)
			}
		}
	}
}
