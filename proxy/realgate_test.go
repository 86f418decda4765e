package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
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
