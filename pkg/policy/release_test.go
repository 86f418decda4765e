package policy

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// composed are bundles whose rules read the input in ways that a look at their references could miss.
var composed = []string{
	"package sallyport.bundle.a\n\nallow if input.call.model == \"gpt-4o\"\n\nobligations contains {\"response\": \"cut\"} if input.call.stream\n",
	"package sallyport.bundle.b\n\ndeny contains {\"rule\": \"B-1\", \"message\": \"b\"} if {\n\tsome part in [\"workload\", \"session\"]\n\tinput[part].name == \"night\"\n}\n\nallow if object.get(input, [\"session\", \"calls\"], 0) > 5\n",
	"package sallyport.bundle.c\n\nwho := input.destination\n\ndeny contains {\"rule\": \"C-1\", \"message\": sprintf(\"%v\", [who.port])} if who.port > 9000\n\nobligations contains {\"redact\": \"email\"} if c(input.call)\n\nc(call) if call.messages > 3\n",
	"package sallyport.bundle.d\n\ndefault allow := false\n\nallow if {\n\tsome path, value\n\twalk(input, [path, value])\n\tvalue == \"walked\"\n}\n",
	"package sallyport.bundle.e\n\nimport input.call.tool_calls as calls\n\ndeny contains {\"rule\": sprintf(\"E-%s\", [name]), \"message\": \"e\"} if {\n\tsome name in calls\n\tendswith(name, input.workload.namespace)\n}\n",
	"package sallyport.bundle.f\n\nobligations contains {\"response\": \"hold-all\"} if {\n\tsome call in input.response.tool_calls\n\tcall.arguments.path == \"/etc\"\n}\n\nobligations contains {\"colour\": \"red\"} if input.call.urls > 6\n",
	"package sallyport.bundle.g\n\nby[input.call.surface] := input.call.operation if input.anomaly.ready\n\ndeny contains {\"rule\": \"G\", \"message\": \"g\"} if by[\"x\"] == \"y\"\n\nallow if input.anomaly.top_features[_].value == 7\n",
	"package sallyport.bundle.i\n\ndeny contains {\"rule\": sprintf(\"I-%s\", [what]), \"message\": \"i\"} if {\n\tsome what, new in input.call.novel\n\tnew\n\twhat != \"ready\"\n\tinput.session.max_score < 1\n}\n",
	"package sallyport.bundle.j\n\nallow if count(input.call.canaries) == 0\n\nobligations contains {\"redact\": \"iban\"} if not input.call.novel.ready\n",
	"package sallyport.bundle.h.lib\n\nbig if input.call.sensitive.email > 2\n",
	"package sallyport.bundle.h\n\nimport data.sallyport.bundle.h.lib\n\ndeny contains {\"rule\": \"H\", \"message\": \"h\"} if lib.big\n\nallow if {\n\tnot lib.big\n\tinput.call.body_bytes == 9137 with input.call.body_bytes as input.call.attachments\n}\n",
}

// vary changes a few fields of an ordinary input at random, to values that the bundles tell apart.
func vary(rng *rand.Rand) *Input {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	in := ordinary()
	for range rng.IntN(5) {
		switch rng.IntN(27) {
		case 0:
			in.Call.Model = pick("gpt-4o", "gpt-4o-2024-08-06", "gpt-4", "claude-sonnet-4-5", "", "walked")
		case 1:
			in.Destination.Provider = pick("openai", "anthropic", "x")
		case 2:
			in.Destination.Kind = DestinationKind(pick("model", "passthrough", "other", "unknown", ""))
		case 3:
			in.Anomaly.Ready, in.Anomaly.Exceeds = rng.IntN(2) == 0, rng.IntN(3) == 0
		case 4:
			in.Anomaly.Score, in.Anomaly.Percentile = 2*rng.Float64()-.3, 1.2*rng.Float64()
		case 5:
			in.Session.Tainted, in.Session.Calls = rng.IntN(2) == 0, rng.IntN(10)
		case 6:
			in.Call.ToolCalls = [][]string{nil, {"get_ticket"}, {"send_mail"}, {"get_ticket", "exec", "x-agents"}}[rng.IntN(4)]
		case 7:
			in.Call.ServerToolClasses = [][]string{nil, {"web_search"}, {""}}[rng.IntN(3)]
		case 8:
			in.Call.MaxTokens = []int64{-2, -1, 100, 1 << 20}[rng.IntN(4)]
		case 9:
			in.KillSwitch = rng.IntN(2) == 0
		case 10:
			in.Mode = pick("enforce", "observe", "", "Enforce")
		case 11:
			in.Version = rng.IntN(3)
		case 12:
			in.Phase = Phase(pick("request", "response", ""))
		case 13:
			in.Call.Class = pick("model", "auxiliary", "dead_drop", "tool", "unknown", "", "else")
		case 14:
			in.Call.Surface = pick("", "unknown", "x", "openai.files")
		case 15:
			in.Call.Findings = [][]string{nil, {"bom"}}[rng.IntN(2)]
		case 16:
			in.Destination.Method, in.Destination.Port = pick("", "GET"), rng.IntN(20000)
		case 17:
			in.Workload.Name, in.Workload.Namespace = pick("night", "day"), pick("agents", "mail")
		case 18:
			in.Call.Messages, in.Call.Stream, in.Call.URLs = rng.IntN(8), rng.IntN(2) == 0, rng.IntN(8)
		case 19:
			in.Response.ToolCalls = []ResponseToolCall{{Name: "x", Arguments: []byte(pick(`{"path":"/etc"}`, `{"path":"/"}`, `null`))}}
		case 20:
			in.Call.Operation, in.Call.Attachments = pick("y", "chat"), []int{0, 9137}[rng.IntN(2)]
		case 21:
			in.Anomaly.TopFeatures = []Feature{{Name: "f", Value: float64(rng.IntN(9))}}
		case 22:
			in.Call.Sensitive = Sensitive{Email: rng.IntN(5)}
		case 24:
			in.Call.Canaries = [][]string{{}, {"vault"}}[rng.IntN(2)]
		case 25:
			in.Call.Novel = Novel{Ready: rng.IntN(2) == 0, Model: rng.IntN(2) == 0, Tools: rng.IntN(2) == 0, System: rng.IntN(2) == 0, Destination: rng.IntN(2) == 0, Credential: rng.IntN(2) == 0}
		case 26:
			in.Session.MaxScore = float64(rng.IntN(3)) / 2
		case 23:
			in.Session.ID = pick("walked", "night")
		}
	}
	return in
}

// TestShortcutReleasesWhatTheEntryPointDoes compares each decision with the entry point's on the whole document, for many inputs and
// bundles: the same action, reasons and obligations.
func TestShortcutReleasesWhatTheEntryPointDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	var engines []*Engine
	for range 24 {
		var modules []string
		for _, i := range rng.Perm(len(composed))[:rng.IntN(len(composed)+1)] {
			if modules = append(modules, composed[i]); strings.Contains(composed[i], "import data") {
				modules = append(modules, composed[i-1]) // what it imports
			}
		}
		slices.Sort(modules)
		engines = append(engines, static(t, slices.Compact(modules)...))
	}
	engines = append(engines, baseline(t), static(t, composed...), static(t))
	actions := map[Action]int{}
	for i := range 2500 {
		in := vary(rng)
		p := engines[i%len(engines)].active.Load()
		got, want := p.decide(t.Context(), in, time.Minute), p.evaluate(t.Context(), document(in), time.Minute)
		if got.Action == ActionAllow {
			want.Rules = nil // those of what allowed are not collected
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\ngot  %+v\nwant %+v", in, got, want)
		}
		if got.Action == ActionAllow {
			if _, ok := releasedBy(t, p, in); !ok {
				t.Fatalf("%+v: the shortcut did not release it", in)
			}
		}
		actions[got.Action]++
	}
	if actions[ActionAllow] < 300 || actions[ActionDeny] < 300 {
		t.Errorf("the inputs tell nothing: %v", actions)
	}
}

// A release is remembered by what the bundles read, and by nothing less.
func TestMemory(t *testing.T) {
	p := baseline(t).active.Load()
	decide := func(in *Input) Action { return p.decide(t.Context(), in, time.Minute).Action }
	held := func() int { return len(p.releases.known.held) }
	if decide(ordinary()) != ActionAllow || held() != 1 {
		t.Fatalf("%d are remembered, want 1", held())
	}
	alike := with(func(in *Input) {
		in.ID, in.TimeNanos, in.Call.BodyBytes, in.Anomaly.Score, in.Session.Calls = "x", 5, 7, 0.1, 9 // the baseline reads none of these
	})
	if decide(alike) != ActionAllow || held() != 1 {
		t.Errorf("a call that is alike in all that is read: %d are remembered", held())
	}
	for name, in := range denied() {
		if d := p.decide(t.Context(), in, time.Minute); d.Action == ActionAllow {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if held() != 1 {
		t.Errorf("%d are remembered after denials, want 1", held())
	}
	if decide(with(func(in *Input) { in.Call.MaxTokens = 5 })) != ActionAllow || held() != 2 {
		t.Errorf("another call: %d are remembered, want 2", held())
	}
	decide(with(func(in *Input) { in.Call.ToolCalls = []string{strings.Repeat("x", maxKeyBytes)} }))
	if held() != 2 {
		t.Error("a long key is remembered")
	}
	for i := range maxKnown + 10 {
		p.releases.known.put([]byte{byte(i), byte(i >> 8)}, Obligations{})
	}
	if held() > maxKnown {
		t.Errorf("%d are remembered", held())
	}

	// What is new to a workload, and how bad a conversation was, is told apart where it is read.
	watchful := static(t, allowAll, "package sallyport.bundle.x\n\ndeny contains {\"rule\": \"R\", \"message\": \"r\"} if input.call.novel.credential\n\ndeny contains {\"rule\": \"S\", \"message\": \"s\"} if input.session.max_score > 0.5\n").active.Load()
	for i, change := range []func(*Input){
		func(in *Input) {},
		func(in *Input) { in.Call.Novel.Credential = true },
		func(in *Input) { in.Session.MaxScore = 0.75 },
		func(in *Input) { in.Call.Canaries = []string{"vault"} }, // which no bundle reads
	} {
		for range 2 {
			if d := watchful.decide(t.Context(), with(change), time.Minute); (d.Action == ActionAllow) != (i == 0) {
				t.Errorf("change %d: %+v", i, d)
			}
		}
	}
	if n := len(watchful.releases.known.held); n != 1 {
		t.Errorf("%d are remembered, want 1", n)
	}

	redacting := static(t, "package sallyport.bundle.x\n\nallow := true\n\nobligations contains {\"redact\": \"email\"}\n").active.Load()
	for range 3 {
		d := redacting.decide(t.Context(), ordinary(), time.Minute)
		if !slices.Equal(d.Obligations.Redact, []string{"email"}) {
			t.Fatalf("%+v", d)
		}
		d.Obligations.Redact[0] = "spoilt" // a decision is its user's own
	}
	response := with(func(in *Input) { in.Phase, in.Response = PhaseResponse, Response{Status: 200} })
	watching := static(t, "package sallyport.bundle.x\n\nallow := true\n\ndeny contains {\"rule\": \"R\", \"message\": \"r\"} if input.response.status == 500\n").active.Load()
	if d := watching.decide(t.Context(), response, time.Minute); d.Action != ActionAllow || len(watching.releases.known.held) != 0 {
		t.Errorf("a response that is read is remembered: %+v", d)
	}
	response.Response.Status = 500
	if d := watching.decide(t.Context(), response, time.Minute); d.Action != ActionDeny {
		t.Errorf("%+v", d)
	}
}

// Two inputs that differ in anything have different keys.
func TestExactlyTellsApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	byKey := map[string]*Input{}
	for range 3000 {
		in := &Input{}
		fill(reflect.ValueOf(in).Elem(), rng)
		in.Response, in.Anomaly.TopFeatures = Response{}, nil // these have none, see below
		key, ok := exactly(wholeDocument, in, nil)
		if !ok {
			t.Fatalf("%+v has no key", in)
		}
		if before, there := byKey[string(key)]; there && document(before).Compare(document(in)) != 0 {
			t.Fatalf("one key for\n%+v\n%+v", before, in)
		}
		byKey[string(key)] = in
	}
	for _, in := range []*Input{
		with(func(in *Input) { in.Response.Usage.Input = 1 }), with(func(in *Input) { in.Response.ToolCalls = []ResponseToolCall{{}} }), ordinary(),
	} {
		if _, ok := exactly(wholeDocument, in, nil); ok {
			t.Errorf("%+v has a key", in)
		}
	}
	a := with(func(in *Input) {
		in.Call.Tools, in.Call.ServerTools, in.Anomaly.TopFeatures = []string{"x", "y"}, nil, nil
	})
	b := with(func(in *Input) {
		in.Call.Tools, in.Call.ServerTools, in.Anomaly.TopFeatures = []string{"x"}, []string{"y"}, nil
	})
	ka, _ := exactly(wholeDocument, a, nil)
	kb, _ := exactly(wholeDocument, b, nil)
	if string(ka) == string(kb) {
		t.Error("lists that differ have one key")
	}
}

// An engine is asked from many goroutines at once; the race detector watches.
func TestDecideConcurrently(t *testing.T) {
	e := baseline(t)
	e.timeout = time.Minute
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				in := with(func(in *Input) { in.Call.MaxTokens = int64(i % 7) })
				if g == 0 {
					in.Call.Model = "gpt-2"
				}
				if d := e.Decide(t.Context(), in); (d.Action == ActionAllow) != (g != 0) || d.Fault != FaultNone {
					t.Errorf("%+v", d)
				}
			}
		})
	}
	wg.Wait()
}

func releasedBy(t *testing.T, p *program, in *Input) (Obligations, bool) {
	t.Helper()
	txn, err := p.store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.store.Abort(t.Context(), txn)
	a := setAlarm(time.Minute)
	defer a.off()
	return p.releases.release(t.Context(), txn, in, a.cancel, nil)
}

func TestReads(t *testing.T) {
	for _, tc := range []struct {
		module string
		want   []string
	}{
		{"allow if input.call.model == \"x\"", []string{"call.model"}},
		{"allow if input.call.tool_calls[_] == input.session.id", []string{"call.tool_calls", "session.id"}},
		{"allow if input.call[input.mode]", []string{"call", "mode"}},
		{"allow if data.sallyport.bundle.x.other[input.id]", []string{"id"}},
		{"allow if count(input) > 1", []string{""}},
		{"allow if input[\"call\"]", []string{"call"}},
		{"allow if {\n\tsome x\n\tinput[x] == 1\n}", []string{""}},
		{"allow if data.sallyport.known_surface", []string{""}},
		{"allow if true", nil},
		{"allow if input.call.novel.model == false", []string{"call.novel.model"}},
		{"allow if input.call.novel[input.mode]", []string{"call.novel", "mode"}},
		{"allow if input.session.max_score < 0.5", []string{"session.max_score"}},
		{"allow if {\n\tevery x in input.call.roles { x != input.call.model }\n}", []string{"call.model", "call.roles"}},
		{"allow if count([1 | input.phase == \"request\"]) == 1", []string{"phase"}},
		{"by[input.id] := input.mode", []string{"id", "mode"}},
		{"f(x) := y if {\n\ty := x\n} else := input.time_ns", []string{"time_ns"}},
	} {
		m := "package sallyport.bundle.x\n\n" + tc.module + "\n"
		c := newCompiler()
		c.Compile(map[string]*ast.Module{systemFile: ast.MustParseModuleWithOpts(systemModule, parserOptions()), "m.rego": ast.MustParseModuleWithOpts(m, parserOptions())})
		if c.Failed() {
			t.Fatal(c.Errors)
		}
		got := reads{}
		got.of(c.Modules["m.rego"])
		if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, tc.want) && (!got[""] || tc.want[0] != "") {
			t.Errorf("%s: reads %q, want %q", tc.module, all, tc.want)
		}
	}
}

// Sensitive text is looked for where a bundle reads how much there is, and nowhere else.
func TestScanIsAskedWhereItCounts(t *testing.T) {
	for _, tc := range []struct {
		module string
		asked  bool
	}{
		{allowAll, false},
		{"package sallyport.bundle.x\n\nallow if input.call.model == \"gpt-4o\"\n", false},
		{"package sallyport.bundle.x\n\nallow if input.call.sensitive.email == 3\n", true},
		{"package sallyport.bundle.x\n\nallow if input.call[\"sensitive\"].email == 3\n", true},
		{"package sallyport.bundle.x\n\nallow if object.get(input, [\"call\", \"sensitive\", \"email\"], 0) == 3\n", true},
	} {
		in, asked := ordinary(), 0
		in.Scan = func() Sensitive { asked++; return Sensitive{Email: 3} }
		if d := static(t, tc.module).Decide(t.Context(), in); d.Action != ActionAllow || (asked == 1) != tc.asked || asked > 1 {
			t.Errorf("%s: %+v, asked %d times", tc.module, d, asked)
		}
		if want := map[bool]int{true: 3, false: -1}[tc.asked]; in.Call.Sensitive.Email != want {
			t.Errorf("%s: %+v", tc.module, in.Call.Sensitive)
		}
	}
}

func TestObligations(t *testing.T) {
	bundle := func(name, obligations string) string {
		return "package sallyport.bundle." + name + "\n\nallow := true\n\n" + obligations + "\n"
	}
	for _, tc := range []struct {
		name    string
		modules []string
		want    Obligations
		rule    string
	}{
		{"none", []string{allowAll}, Obligations{Response: ResponseObserve}, ""},
		{"the strictest", []string{bundle("a", `obligations contains {"response": "hold-tool-calls"}`), bundle("b", `obligations contains {"response": "cut"}`)},
			Obligations{Response: ResponseHoldToolCalls, ResponseAsked: true}, ""},
		{"observe is asked for", []string{bundle("a", `obligations contains {"response": "observe"}`)}, Obligations{Response: ResponseObserve, ResponseAsked: true}, ""},
		{"the union", []string{bundle("a", `obligations contains {"redact": kind} if some kind in ["iban", "email"]`), bundle("b", `obligations contains {"redact": "email"}`)},
			Obligations{Response: ResponseObserve, Redact: []string{"email", "iban"}}, ""},
		{"one that does not hold", []string{bundle("a", `obligations contains {"response": "cut"} if input.call.model == "x"`)}, Obligations{Response: ResponseObserve}, ""},
		{"unknown mode", []string{bundle("a", `obligations contains {"response": "hold"}`)}, Obligations{}, "SYS-012"},
		{"unknown kind", []string{bundle("a", `obligations contains {"redact": "name"}`)}, Obligations{}, "SYS-012"},
		{"unknown obligation", []string{bundle("a", `obligations contains {"cap": 5}`)}, Obligations{}, "SYS-012"},
		{"two in one", []string{bundle("a", `obligations contains {"response": "cut", "redact": "email"}`)}, Obligations{}, "SYS-012"},
		{"text", []string{bundle("a", `obligations contains "cut"`)}, Obligations{}, "SYS-012"},
		{"unknown in one of two", []string{allowAll, bundle("a", `obligations contains {"response": 1}`)}, Obligations{}, "SYS-012"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := static(t, tc.modules...).Decide(t.Context(), ordinary())
			if (d.Action == ActionAllow) != (tc.rule == "") || !reflect.DeepEqual(d.Obligations, tc.want) || tc.rule != "" && d.Reasons[0].Rule != tc.rule {
				t.Errorf("%+v, want %+v %s", d, tc.want, tc.rule)
			}
		})
	}
	if _, err := NewStatic(map[string]string{"x.rego": "package sallyport.bundle.x\n\nobligations := [1]\n"}); err == nil {
		t.Error("obligations that are no set are accepted")
	}
}

func TestStricter(t *testing.T) {
	for _, tc := range []struct{ a, b, want ResponseMode }{
		{"", "", ResponseObserve},
		{ResponseCut, "", ResponseCut},
		{ResponseCut, ResponseHoldToolCalls, ResponseHoldToolCalls},
		{ResponseHoldAll, ResponseCut, ResponseHoldAll},
		{"invented", ResponseCut, ResponseHoldAll},
	} {
		if got := tc.a.Stricter(tc.b); got != tc.want {
			t.Errorf("%s and %s: %s, want %s", tc.a, tc.b, got, tc.want)
		}
	}
}
