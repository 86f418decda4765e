package gate_test

import (
	"bytes"
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// ruled returns a gate that decides by one bundle of these rules.
func ruled(t testing.TB, rules string) *gate.Gate {
	t.Helper()
	e, err := policy.NewStatic(map[string]string{"test.rego": "package sallyport.bundle.test\n\n" + rules + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, nil)
	g.Policy = e
	return g
}

func encoded(t testing.TB, coded, body string) []byte {
	t.Helper()
	b, err := coding.Encode(coded, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCodedBodyIsJudgedPlain(t *testing.T) {
	for _, c := range []string{"gzip", "deflate", "br", "zstd", "gzip, zstd"} {
		r := chat("")
		r.Body, r.ContentEncoding = encoded(t, c, hello), c
		v := newGate(t, nil).Judge(context.Background(), r)
		if !v.Release || v.Body != nil || v.Record.Call.Model != "gpt-4o-mini" || v.Record.Call.BodyBytes != len(hello) {
			t.Errorf("%s: %+v", c, v.Record)
		}
		r.Body = encoded(t, c, strings.Replace(hello, "gpt-4o-mini", "gpt-9", 1))
		if v := newGate(t, nil).Judge(context.Background(), r); v.Release || v.Record.Rule != "MODEL-001" {
			t.Errorf("%s: %+v", c, v.Record)
		}
		g := newGate(t, nil)
		g.Limits.MaxBytes = 16
		if v := g.Judge(context.Background(), r); v.Release || v.Record.Rule != "SYS-001" {
			t.Errorf("%s, over the limit: %+v", c, v.Record)
		}
	}
}

const leaky = `{"model":"gpt-4o-mini", "messages":[{"role":"user","content":"Mail a@b.co and c@d.co, card 4111 1111 1111 1111."}] }`

func TestRedaction(t *testing.T) {
	const rules = "allow := true\n\nobligations contains {\"redact\": \"email\"} if input.call.model == \"gpt-4o-mini\"\n"
	const want = `{"model":"gpt-4o-mini", "messages":[{"role":"user","content":"Mail [redacted:email] and [redacted:email], card 4111 1111 1111 1111."}] }`
	for _, c := range []string{"", "gzip", "br", "zstd, gzip"} {
		r := chat("")
		r.Body, r.ContentEncoding = encoded(t, c, leaky), c
		before := slices.Clone(r.Body)
		v := ruled(t, rules).Judge(context.Background(), r)
		if !v.Release || v.Record.Outcome != telemetry.OutcomeReleased || !maps.Equal(v.Record.Redacted, map[string]int{"email": 2}) {
			t.Fatalf("%q: %+v", c, v.Record)
		}
		plain, findings := coding.Decode(c, v.Body, coding.Limits{})
		if len(findings) > 0 || string(plain) != want {
			t.Errorf("%q: %s %v", c, plain, findings)
		}
		if !bytes.Equal(r.Body, before) {
			t.Error("the original was changed")
		}
	}

	observed := chat(leaky)
	observed.Mode = gate.ModeObserve
	if v := ruled(t, rules).Judge(context.Background(), observed); !v.Release || v.Body != nil || v.Record.Redacted["email"] != 2 {
		t.Errorf("observe: %+v", v)
	}
	if v := ruled(t, rules).Judge(context.Background(), chat(hello)); !v.Release || v.Body != nil || v.Record.Redacted != nil {
		t.Errorf("nothing to redact: %+v", v)
	}
	form := chat("--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\na@b.co\r\n--x--\r\n")
	form.Destination.Path, form.ContentType = "/v1/files", "multipart/form-data; boundary=x"
	all := strings.Replace(rules, " if input.call.model == \"gpt-4o-mini\"", "", 1)
	if v := ruled(t, all).Judge(context.Background(), form); v.Release || v.Record.Rule != "GATE-REDACT" || v.Refusal.Message == "" {
		t.Errorf("a form: %v %+v", v.Release, v.Record)
	}
	form.Mode = gate.ModeObserve
	if v := ruled(t, all).Judge(context.Background(), form); !v.Release || v.Record.Outcome != telemetry.OutcomeRelaxed {
		t.Errorf("a form while observing: %+v", v.Record)
	}
}

func TestSensitiveIsCountedWhereItIsRead(t *testing.T) {
	v := ruled(t, "allow if input.call.sensitive.email == 2").Judge(context.Background(), chat(leaky))
	if !v.Release || v.Record.Call.Sensitive.Email != 2 || v.Record.Call.Sensitive.CreditCard != 1 {
		t.Errorf("%+v", v.Record)
	}
	v = ruled(t, "allow := true").Judge(context.Background(), chat(leaky))
	if !v.Release || v.Record.Call.Sensitive != policy.NotLookedFor {
		t.Errorf("%+v", v.Record)
	}
}

// watched allows every call, with the given mode, and denies the tool call rm and replies of another model.
func watched(mode string) string {
	return "allow := true\n\nobligations contains {\"response\": \"" + mode + "\"}\n" + `
# METADATA
# labels:
#   rule: CALL-001
deny contains {"rule": "CALL-001", "message": "No rm."} if {
	input.phase == "response"
	some call in input.response.tool_calls
	call.name == "rm"
	startswith(call.arguments.path, "/")
}

deny contains {"rule": "CALL-002", "message": "Unreadable."} if {
	some call in input.response.tool_calls
	call.truncated
}`
}

func TestJudgeResponse(t *testing.T) {
	rm := llm.ToolCall{ID: "1", Name: "rm", Arguments: []byte(`{"path":"/etc"}`), Done: true}
	ls := llm.ToolCall{ID: "2", Name: "ls", Arguments: []byte(`{"path":"/etc"}`), Done: true}
	none := llm.ToolCall{ID: "3", Name: "rm", Done: true}
	for _, tc := range []struct {
		name    string
		rules   string
		mode    string
		calls   []llm.ToolCall
		release bool
		rule    string
		outcome telemetry.Outcome
	}{
		{"nobody asks", "allow := true", "enforce", []llm.ToolCall{rm}, true, "", telemetry.OutcomeReleased},
		{"harmless", watched("hold-tool-calls"), "enforce", []llm.ToolCall{ls, none}, true, "", telemetry.OutcomeReleased},
		{"held", watched("hold-tool-calls"), "enforce", []llm.ToolCall{ls, rm}, false, "CALL-001", telemetry.OutcomeCut},
		{"cut", watched("cut"), "enforce", []llm.ToolCall{rm}, false, "CALL-001", telemetry.OutcomeCut},
		{"all held", watched("hold-all"), "enforce", []llm.ToolCall{rm}, false, "CALL-001", telemetry.OutcomeCut},
		{"for the record", watched("observe"), "enforce", []llm.ToolCall{rm}, true, "CALL-001", telemetry.OutcomeReleased},
		{"observe mode", watched("hold-all"), gate.ModeObserve, []llm.ToolCall{rm}, true, "CALL-001", telemetry.OutcomeRelaxed},
		{"cut short", watched("cut"), "enforce", []llm.ToolCall{{Name: "rm", Arguments: []byte(`{"pa`)}}, false, "CALL-002", telemetry.OutcomeCut},
		{"two readings", watched("cut"), "enforce", []llm.ToolCall{{Name: "x", Arguments: []byte(`{"a":1,"a":2}`)}}, false, "CALL-002", telemetry.OutcomeCut},
		{"too long", watched("cut"), "enforce", []llm.ToolCall{{Name: "x", Truncated: true}}, false, "CALL-002", telemetry.OutcomeCut},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := ruled(t, tc.rules)
			r := chat(hello)
			r.Mode = tc.mode
			v := g.Judge(context.Background(), r)
			if !v.Release {
				t.Fatalf("%+v", v.Record)
			}
			got := g.JudgeResponse(context.Background(), v, llm.Reply{Model: "m", ToolCalls: tc.calls, Usage: llm.Usage{InputTokens: 3}}, 200)
			if got.Release != tc.release || v.Record.ResponseRule != tc.rule || v.Record.Outcome != tc.outcome {
				t.Errorf("%+v %+v", got, v.Record)
			}
			if !got.Release && (got.Refusal.Rule != tc.rule || got.Refusal.DecisionID != "decision-1" || got.Refusal.Message == "") {
				t.Errorf("refusal %+v", got.Refusal)
			}
			if tc.rule != "" { // the first denial stays
				again := g.JudgeResponse(context.Background(), v, llm.Reply{ToolCalls: []llm.ToolCall{ls}}, 200)
				if !again.Release || v.Record.ResponseRule != tc.rule || v.Record.Outcome != tc.outcome || v.Record.ResponseAction != policy.ActionDeny {
					t.Errorf("afterwards: %+v %+v", again, v.Record)
				}
			}
			if v.Record.Rule != "" || v.Record.Action != policy.ActionAllow {
				t.Errorf("the call's own decision changed: %+v", v.Record)
			}
		})
	}
}

func TestJudgeResponseOfSomebodyElse(t *testing.T) {
	g := newGate(t, nil)
	v := &gate.Verdict{Release: true, Record: &telemetry.Record{ID: "x"}}
	if got := g.JudgeResponse(context.Background(), v, llm.Reply{}, 200); got.Release || got.Refusal.Rule == "" {
		t.Errorf("%+v", got)
	}
	held := ruled(t, watched("hold-all"))
	v = held.Judge(context.Background(), chat(hello))
	held.Policy = brokenPolicy{Action: policy.ActionDeny, Fault: policy.FaultTimeout}
	if got := held.JudgeResponse(context.Background(), v, llm.Reply{}, 200); got.Release || v.Record.ResponseFault != string(policy.FaultTimeout) {
		t.Errorf("a fault: %+v %+v", got, v.Record)
	}
}

func TestResponseMode(t *testing.T) {
	for _, mode := range []policy.ResponseMode{"observe", "cut", "hold-tool-calls", "hold-all"} {
		g := ruled(t, watched(string(mode)))
		r := chat(hello)
		if v := g.Judge(context.Background(), r); v.Response != mode || v.Record.ResponseMode != mode {
			t.Errorf("%s: %s, record %s", mode, v.Response, v.Record.ResponseMode)
		}
		r.Mode = gate.ModeObserve
		if v := g.Judge(context.Background(), r); v.Response != policy.ResponseObserve || v.Record.ResponseMode != mode {
			t.Errorf("%s while observing: %s, record %s", mode, v.Response, v.Record.ResponseMode)
		}
	}
	if v := newGate(t, nil).Judge(context.Background(), chat("nothing")); v.Release || v.Response != policy.ResponseObserve {
		t.Errorf("a refusal: %+v", v)
	}
}

func TestBasePath(t *testing.T) {
	for _, tc := range []struct {
		base, path, surface string
	}{
		{"", "/v1/chat/completions", "openai.chat_completions"},
		{"/", "/v1/chat/completions", "openai.chat_completions"},
		{"/openai", "/openai/v1/chat/completions", "openai.chat_completions"},
		{"/openai/", "/openai/v1/chat/completions", "openai.chat_completions"},
		{"/openai", "/v1/chat/completions", "unknown"},
		{"/openai", "/openaiv1/chat/completions", "unknown"},
		{"/openai", "/openai", "unknown"},
	} {
		r := chat(hello)
		r.BasePath, r.Destination.Path = tc.base, tc.path
		if v := newGate(t, nil).Judge(context.Background(), r); v.Record.Call.Surface != tc.surface {
			t.Errorf("%s below %q: %s, want %s", tc.path, tc.base, v.Record.Call.Surface, tc.surface)
		}
	}
}

func TestSummary(t *testing.T) {
	r := chat(`{"model":"gpt-4o-mini","messages":[{"role":"user","content":[` +
		`{"type":"image_url","image_url":{"url":"https://Images.Example.:8443/a.png"}},` +
		`{"type":"image_url","image_url":{"url":"https://u@images.example/a.png"}},` +
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"web_search_options":{}}`)
	c := ruled(t, "allow := true").Judge(context.Background(), r).Record.Call
	if want := []string{"", "images.example"}; !reflect.DeepEqual(c.URLHosts, want) || c.URLs != 2 {
		t.Errorf("hosts %q of %d URLs, want %q", c.URLHosts, c.URLs, want)
	}
	if want := []string{"image", "image/png"}; !reflect.DeepEqual(c.AttachmentKinds, want) {
		t.Errorf("attachments %q, want %q", c.AttachmentKinds, want)
	}
	if c.Class != "model" || !reflect.DeepEqual(c.ServerToolClasses, []string{"web_search"}) {
		t.Errorf("class %q, server-side tools %q", c.Class, c.ServerToolClasses)
	}
}

// A message of a WebSocket is judged as a call of the handshake's surface.
func TestWebSocketMessage(t *testing.T) {
	message := func(model string) *gate.Request {
		r := chat(`{"type":"response.create","model":"` + model + `","input":"hello"}`)
		r.Destination.Method, r.Destination.Path, r.Message = "GET", "/v1/responses", true
		return r
	}
	v := newGate(t, nil).Judge(context.Background(), message("gpt-4o-mini"))
	if !v.Release || v.Record.Call.Model != "gpt-4o-mini" || v.Record.Call.RPCMethod != "response.create" || v.Row == nil || v.Row.RefuseMessage == nil {
		t.Errorf("%+v", v.Record)
	}
	if v := newGate(t, nil).Judge(context.Background(), message("gpt-9")); v.Release || v.Record.Rule != "MODEL-001" {
		t.Errorf("%+v", v.Record)
	}
}
