package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"

	library "sallyport.dev/sallyport/deploy/policy"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// noMail is a policy on what a model asks for, and on what it is told.
const noMail = `package sallyport.bundle.test

allow if input.destination.kind == "model"

obligations contains {"response": %q} if input.destination.kind == "model"

# METADATA
# custom: {rule: MAIL-001}
deny contains {"rule": "MAIL-001", "message": "No mail to y.example."} if {
	input.phase == "response"
	some call in input.response.tool_calls
	call.name == "send_mail"
	endswith(call.arguments.to, "@y.example")
}

# METADATA
# custom: {rule: MAIL-002}
deny contains {"rule": "MAIL-002", "message": "No cancelling."} if input.call.rpc_method == "response.cancel"
`

func judged(t testing.TB, mode policy.ResponseMode) func(*Options) {
	t.Helper()
	engine, err := policy.NewStatic(map[string]string{"test.rego": fmt.Sprintf(noMail, mode)})
	must(t, err)
	return func(o *Options) {
		o.Gate = &gate.Gate{Policy: engine, Model: func() *detector.Model { return nil }, Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits()}
	}
}

// The proxy and the gate together: a policy sees the arguments of a tool call before the agent does.
func TestPolicyOnResponses(t *testing.T) {
	other := strings.ReplaceAll(asking, "x@", "a@")
	other = strings.ReplaceAll(other, "y.example", "b.example")
	for _, mode := range allModes {
		for to, events := range map[string]string{"forbidden": asking, "allowed": other} {
			t.Run(fmt.Sprint(mode, " ", to), func(t *testing.T) {
				r := newRig(t, judged(t, mode))
				r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, saying+events+finishing)
				})
				req := post(t, t.Context(), strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`))
				req.URL.RawQuery = ""
				res, err := r.client(t, true).Do(req)
				must(t, err)
				got := readAll(t, res)
				rec := r.records.next(t)
				if to == "allowed" || mode == policy.ResponseObserve {
					want := policy.ActionAllow
					if to == "forbidden" {
						want = policy.ActionDeny
					}
					if got != saying+events+finishing || rec.Outcome != telemetry.OutcomeReleased || rec.ResponseAction != want {
						t.Errorf("%q, record %+v", got, rec)
					}
					return
				}
				if strings.Contains(got, `"finish_reason":"tool_calls"`) || !strings.Contains(got, "MAIL-001") || rec.Outcome != telemetry.OutcomeCut || rec.ResponseRule != "MAIL-001" {
					t.Errorf("%q, record %+v", got, rec)
				}
			})
		}
	}
}

func TestPolicyOnMessages(t *testing.T) {
	r := newRig(t, judged(t, policy.ResponseHoldToolCalls))
	r.accept(t, nil, func(ctx context.Context, c *coder.Conn, _ *http.Request) {
		for {
			_, b, err := c.Read(ctx)
			if err != nil {
				return
			}
			if strings.Contains(string(b), "response.cancel") {
				t.Error("a refused message reached the provider")
			}
			for _, m := range calling {
				if strings.Contains(string(b), "forbidden") {
					m = strings.NewReplacer(`"x\`, `"x@y.example\`, "resp_1", "resp_2", "item_1", "item_2", "c1", "c2").Replace(m)
				}
				_ = c.Write(ctx, coder.MessageText, []byte(m))
			}
		}
	})
	c := r.socket(t, nil)
	say(t, c, `{"type":"response.create"}`)
	for _, want := range calling {
		if got := read(t, c); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	say(t, c, `{"type":"response.cancel"}`)
	if got := read(t, c); !strings.Contains(got, "MAIL-002") {
		t.Fatalf("got %q", got)
	}
	say(t, c, `{"type":"response.create","event_id":"forbidden"}`)
	if got := read(t, c); !strings.Contains(got, "MAIL-001") {
		t.Errorf("got %q", got)
	}
	if _, _, err := c.Read(t.Context()); coder.CloseStatus(err) != coder.StatusPolicyViolation {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []telemetry.Outcome{telemetry.OutcomeReleased, telemetry.OutcomeRefused, telemetry.OutcomeReleased, telemetry.OutcomeCut} {
		if rec := r.records.next(t); rec.Outcome != want {
			t.Errorf("%s by %s, want %s", rec.Outcome, rec.Rule, want)
		}
	}
}

// baselineFor is the baseline bundle with one model on the provider's list.
func baselineFor(t testing.TB, models string) func(*Options) {
	t.Helper()
	modules := library.Baseline()
	const list = "models := {\n"
	text := modules["baseline.rego"]
	modules["baseline.rego"] = strings.Replace(text, list, list+"\t\"model\": {"+models+"},\n", 1)
	if modules["baseline.rego"] == text {
		t.Fatal("the baseline has no list of models any more")
	}
	engine, err := policy.NewStatic(modules)
	must(t, err)
	return func(o *Options) {
		o.Gate = &gate.Gate{Policy: engine, Model: func() *detector.Model { return nil }, Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits()}
	}
}

// Most messages of a WebSocket name no model. They are judged as for the one that the handshake named, or the last message that was released.
func TestBaselineOnSessions(t *testing.T) {
	const (
		item     = `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"hello"}]}}`
		respond  = `{"type":"response.create"}`
		live     = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
		setup    = `{"setup":{"model":"models/listed"}}`
		turn     = `{"clientContent":{"turns":[{"role":"user","parts":[{"text":"hello"}]}],"turnComplete":true}}`
		create   = `{"type":"response.create","model":"listed","input":"hello"}`
		steer    = `{"type":"response.steer","input":"not so fast","previous_response_id":"resp_1"}`
		whisper  = `{"type":"session.update","session":{"type":"realtime","audio":{"input":{"transcription":{"model":"listed-too"}}}}}`
		whispers = `{"type":"session.update","session":{"type":"transcription","audio":{"input":{"transcription":{"model":"listed-too"}}}}}`
	)
	type message struct{ text, rule, model string } // rule is "" where it is released
	for name, tc := range map[string]struct {
		api, target string
		rule        string // of the handshake
		messages    []message
	}{
		"realtime, the handshake's model": {"openai", "/v1/realtime?model=listed", "", []message{{item, "", "listed"}, {respond, "", "listed"}}},
		"realtime, a model of no list":    {"openai", "/v1/realtime?model=other", "MODEL-001", nil},
		"realtime, another listed model": {"openai", "/v1/realtime?model=listed", "", []message{
			{`{"type":"session.update","session":{"model":"listed-too"}}`, "", "listed-too"}, {respond, "", "listed-too"}}},
		"realtime, a switch to no list": {"openai", "/v1/realtime?model=listed", "", []message{
			{`{"type":"session.update","session":{"model":"other"}}`, "MODEL-001", "other"}, {respond, "", "listed"},
			{`{"type":"response.create","response":{"model":"other"}}`, "MODEL-001", "other"}, {respond, "", "listed"}}},
		"realtime, transcription": {"openai", "/v1/realtime?model=listed", "", []message{
			{strings.Replace(whisper, "listed-too", "other", 1), "MODEL-002", "listed"}, {respond, "", "listed"}, {whisper, "", "listed"}, {respond, "", "listed"}}},
		"transcription alone": {"openai", "/v1/realtime?intent=transcription", "", []message{
			{`{"type":"input_audio_buffer.append","audio":"AAAA"}`, "MODEL-001", ""}, {whispers, "", "listed-too"}, {`{"type":"input_audio_buffer.append","audio":"AAAA"}`, "", "listed-too"}}},
		"nobody says the model":             {"openai", "/v1/realtime?call_id=rtc_1", "", []message{{whisper, "MODEL-001", ""}, {respond, "MODEL-001", ""}}},
		"responses":                         {"openai", "/v1/responses", "", []message{{create, "", "listed"}, {steer, "", "listed"}}},
		"responses, a model of no list":     {"openai", "/v1/responses", "", []message{{strings.Replace(create, "listed", "other", 1), "MODEL-001", "other"}, {steer, "MODEL-001", ""}}},
		"responses, a switch to no list":    {"openai", "/v1/responses", "", []message{{create, "", "listed"}, {strings.Replace(create, "listed", "other", 1), "MODEL-001", "other"}, {steer, "", "listed"}}},
		"responses, steered before a model": {"openai", "/v1/responses", "", []message{{steer, "MODEL-001", ""}}},
		"live":                              {"gemini", live, "", []message{{setup, "", "listed"}, {turn, "", "listed"}, {`{"realtimeInput":{"text":"hello"}}`, "", "listed"}}},
		"live, a model of no list":          {"gemini", live, "", []message{{`{"setup":{"model":"models/other"}}`, "MODEL-001", "other"}}},
		"live, nobody says the model":       {"gemini", live, "", []message{{turn, "MODEL-001", ""}}},
		"live, a switch to no list":         {"gemini", live, "", []message{{setup, "", "listed"}, {turn, "", "listed"}, {`{"setup":{"model":"models/other"}}`, "MODEL-001", "other"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, baselineFor(t, `"listed", "listed-too"`))
			r.snap.Providers[0].API = tc.api
			must(t, r.p.Update(r.snap))
			r.accept(t, nil, echoMessages)
			client := r.client(t, false)
			client.Timeout = 0 // it would count for the connection
			c, res, err := coder.Dial(t.Context(), "wss://"+modelHost+tc.target, &coder.DialOptions{HTTPClient: client})
			if tc.rule != "" {
				if rec := r.records.next(t); err == nil || rec.Rule != tc.rule {
					t.Errorf("%v, record %+v", err, rec)
				}
				return
			}
			if err != nil {
				t.Fatalf("dial: %v %+v", err, res)
			}
			for _, m := range tc.messages {
				say(t, c, m.text)
				_, b, err := c.Read(t.Context())
				got, rec := string(b), r.records.next(t)
				if err != nil && tc.api == "gemini" { // whose sessions end with a refusal, which is the reason then
					got = err.Error()
				}
				if (got == m.text) != (m.rule == "") || m.rule != "" && !strings.Contains(got, m.rule) || rec.Rule != m.rule || rec.Call.Model != m.model {
					t.Errorf("%s: got %s, record %+v", m.text, got, rec)
				}
			}
			_ = c.Close(coder.StatusNormalClosure, "")
			if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeReleased || rec.Status != 101 {
				t.Errorf("the session's record is %+v", rec)
			}
		})
	}
}

// What a session's other models are stays in sight of the policy.
func TestOtherModelsOfASession(t *testing.T) {
	r := newRig(t, baselineFor(t, `"gpt-realtime", "listed", "listed-too", "third"`))
	r.accept(t, nil, echoMessages)
	c := r.socket(t, nil)
	defer func() { _ = c.CloseNow() }()
	for _, m := range []struct {
		text  string
		model string
		other string
	}{
		{`{"type":"session.update","session":{"model":"listed"}}`, "listed", "[]"},
		{`{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"listed-too"}}}}}`, "listed", "[listed-too]"},
		{`{"type":"response.create"}`, "listed", "[listed-too]"},
		{`{"type":"session.update","session":{"model":"listed","input_audio_transcription":{"model":"third"}}}`, "listed", "[third listed-too]"},
		{`{"type":"response.create"}`, "listed", "[third listed-too]"},
		{`{"type":"session.update","session":{"model":"third"}}`, "third", "[]"},
		{`{"type":"response.create"}`, "third", "[]"},
	} {
		say(t, c, m.text)
		read(t, c)
		if rec := r.records.next(t); rec.Outcome != telemetry.OutcomeReleased || rec.Call.Model != m.model || fmt.Sprint(rec.Call.OtherModels) != m.other {
			t.Errorf("%s: %s %s, %q and %q", m.text, rec.Outcome, rec.Rule, rec.Call.Model, rec.Call.OtherModels)
		}
	}
}

// A call that names the response before is known to go on with its conversation, however soon it comes.
func TestHistoryAtTheProvider(t *testing.T) {
	const calls = 20
	whole := func(id string) string {
		return `{"id":"` + id + `","object":"response","status":"completed","output":[]}`
	}
	stream := func(id string) string {
		return "data: {\"type\":\"response.created\",\"response\":" + whole(id) + "}\n\ndata: {\"type\":\"response.completed\",\"response\":" + whole(id) + "}\n\n"
	}
	for name, c := range map[string]struct {
		mode        policy.ResponseMode
		contentType string
		text        func(id string) string
		coding      string
	}{
		"whole":         {policy.ResponseObserve, "application/json", whole, ""},
		"whole, gzip":   {policy.ResponseObserve, "application/json", whole, "gzip"},
		"whole, br":     {policy.ResponseObserve, "application/json", whole, "br"},
		"whole, zstd":   {policy.ResponseObserve, "application/json", whole, "zstd"},
		"stream":        {policy.ResponseObserve, "text/event-stream", stream, ""},
		"stream, gzip":  {policy.ResponseObserve, "text/event-stream", stream, "gzip"},
		"stream, held":  {policy.ResponseHoldAll, "text/event-stream", stream, ""},
		"stream, cut":   {policy.ResponseCut, "text/event-stream", stream, ""},
		"whole, judged": {policy.ResponseHoldAll, "application/json", whole, ""},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, map[bool]string{true: ", HTTP/2"}[h2]), func(t *testing.T) {
				r := newRig(t, judged(t, c.mode))
				n := 0
				r.provider(t, h2, func(w http.ResponseWriter, _ *http.Request) {
					n++
					body := []byte(c.text(fmt.Sprint("resp_", n)))
					if c.coding != "" {
						w.Header().Set("Content-Encoding", c.coding)
						var err error
						if body, err = coding.Encode(c.coding, body); err != nil {
							t.Error(err)
						}
					}
					w.Header().Set("Content-Type", c.contentType)
					_, _ = w.Write(body)
				})
				client := r.client(t, h2)
				for i := range calls {
					body := `{"model":"m","input":"go on"}`
					if i > 0 {
						body = fmt.Sprintf(`{"model":"m","input":"go on","previous_response_id":"resp_%d"}`, i)
					}
					req := post(t, t.Context(), strings.NewReader(body))
					req.URL.Path, req.URL.RawQuery = "/v1/responses", ""
					res, err := client.Do(req)
					must(t, err)
					readAll(t, res)
				}
				first := r.records.next(t).Session.ID
				for i := 1; i < calls; i++ {
					if s := r.records.next(t).Session; s.ID != first || s.Calls != i {
						t.Fatalf("call %d: %+v, not of %s", i, s, first)
					}
				}
			})
		}
	}
}
