package gate_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func realtime(query, message string) *gate.Request {
	r := chat("")
	r.Destination.Method, r.Destination.Path, r.Query, r.ContentType = "GET", "/v1/realtime", query, ""
	if message != "" {
		r.Message, r.ContentType, r.Body = true, "application/json", []byte(message)
	}
	return r
}

// A handshake that names no model asks none, and a message that was not released changes nothing.
func TestSession(t *testing.T) {
	g := newGate(t, nil)
	const respond = `{"type":"response.create"}`
	handshake := g.Judge(t.Context(), realtime("", ""))
	if !handshake.Release || handshake.Record.Call.Class != string(llm.ClassAuxiliary) {
		t.Fatalf("the handshake: %+v", handshake.Record)
	}
	s := gate.NewSession(handshake)
	for _, m := range []struct {
		text  string
		model string // "" where it is refused
	}{
		{respond, ""},
		{`{"type":"session.update","session":{"model":"gpt-9"}}`, ""},
		{respond, ""},
		{`{"type":"session.update","session":{"model":"gpt-4o"}}`, "gpt-4o"},
		{respond, "gpt-4o"},
	} {
		r := realtime("", m.text)
		r.Session = s
		v := g.Judge(t.Context(), r)
		if v.Release != (m.model != "") || v.Release && v.Record.Call.Model != m.model {
			t.Errorf("%s: %+v", m.text, v.Record)
		}
		if v.Release {
			s.Released(v)
		}
	}
	if v := g.Judge(t.Context(), realtime("", respond)); v.Record.Outcome != telemetry.OutcomeRefused {
		t.Errorf("a message of no session: %+v", v.Record)
	}
}

// What a session remembers has a bound, whatever was released.
func TestSessionIsBounded(t *testing.T) {
	g := newGate(t, nil)
	s := gate.NewSession(g.Judge(t.Context(), realtime("model=gpt-4o", "")))
	for i := range 200 {
		r := realtime("", fmt.Sprintf(`{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"m-%d"}}}}}`, i))
		r.Session, r.Mode = s, gate.ModeObserve
		v := g.Judge(t.Context(), r)
		if n := len(v.Record.Call.OtherModels); !v.Release || n > 65 || v.Record.Call.OtherModels[0] != fmt.Sprint("m-", i) {
			t.Fatalf("%d models after %d: %+v", n, i, v.Record)
		}
		s.Released(v)
	}
}

// The messages of a WebSocket are one conversation: what follows an anomalous one is judged as in a tainted session, also what says nothing itself but asks the model to go on.
func TestSessionIsTainted(t *testing.T) {
	g := trained(t)
	open := func() *gate.Session { return gate.NewSession(g.Judge(t.Context(), realtime("model=gpt-4o", ""))) }
	say := func(s *gate.Session, message string) policy.Session {
		r := realtime("", message)
		r.Session, r.Mode = s, gate.ModeObserve
		v := g.Judge(t.Context(), r)
		s.Released(v)
		return v.Record.Session
	}
	quoted, _ := json.Marshal(injected)
	result := `{"type":"conversation.item.create","item":{"type":"function_call_output","call_id":"c1","output":` + string(quoted) + `}}`
	const goOn = `{"type":"response.create"}`

	s := open()
	first := say(s, goOn)
	if first.ID == "" || first.Tainted || say(s, result).Tainted {
		t.Errorf("%+v", first)
	}
	if after := say(s, goOn); after.ID != first.ID || !after.Tainted || after.MaxScore == 0 || after.Calls != 1 {
		t.Errorf("after an anomalous message: %+v", after)
	}
	if other := say(open(), goOn); other.ID == first.ID || other.Tainted {
		t.Errorf("another connection: %+v", other)
	}
}

// A call that names an earlier response goes on with its conversation, with what was found in it, and one that names something else does not.
func TestHistoryAtTheProvider(t *testing.T) {
	g := trained(t)
	respond := func(previous, input, id string) *telemetry.Record {
		r := chat(fmt.Sprintf(`{"model":"gpt-4o-mini","instructions":"You help in a shop.","previous_response_id":%s,"input":[%s]}`, previous, input))
		r.Destination.Path, r.Mode = "/v1/responses", gate.ModeObserve
		v := g.Judge(t.Context(), r)
		if !v.Release {
			t.Fatalf("%+v", v.Record)
		}
		v.Answered(id)
		return v.Record
	}
	result := func(text string) string {
		quoted, _ := json.Marshal(text)
		return `{"type":"function_call_output","call_id":"c1","output":` + string(quoted) + `}`
	}
	const ordinary = `{"order":1401,"state":"packed","total":"55.00","items":["table 3","lamp"]}`
	asked := `{"role":"user","content":"Please look up order number 1401 for the customer."},{"type":"function_call","call_id":"c1","name":"read_document","arguments":"{\"order\":\"1401\"}"},` + result(ordinary)

	first := respond("null", asked, "resp_1")
	if first.Anomaly.Exceeds {
		t.Fatalf("an ordinary call: %+v", first.Anomaly)
	}
	second := respond(`"resp_1"`, result(injected), "resp_2")
	if s := second.Session; s.ID != first.Session.ID || s.Calls != 1 || s.Tainted || !second.Anomaly.Exceeds {
		t.Errorf("the second call of %s: %+v, %+v", first.Session.ID, s, second.Anomaly)
	}
	if s := respond(`"resp_2"`, result(ordinary), "resp_3").Session; s.ID != first.Session.ID || s.Calls != 2 || !s.Tainted || s.MaxScore < second.Anomaly.Score {
		t.Errorf("after an anomalous call: %+v", s)
	}
	if s := respond(`"resp_0"`, result(ordinary), "resp_4").Session; s.ID == first.Session.ID || s.Tainted {
		t.Errorf("another conversation: %+v", s)
	}
}
