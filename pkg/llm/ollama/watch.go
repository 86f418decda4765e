package ollama

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of a response: a stream of lines, the last of which says what it cost, or one JSON text.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{calls: wire.Calls{Keep: o.Arguments}})
}

// The values that are taken.
const (
	takeModel = 1 + iota
	takeReason
	takeInput
	takeOutput
	takeID
	takeName
	takeArguments
	takeError
	endCall
)

var response = func() *wire.Shape {
	take := func(id int) *wire.Shape { return &wire.Shape{Take: id} }
	members := func(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }
	call := &wire.Shape{End: endCall, Members: map[string]*wire.Shape{
		"id":       take(takeID),
		"function": members(map[string]*wire.Shape{"name": take(takeName), "arguments": {Take: takeArguments, Long: true, Raw: true}}),
	}}
	return members(map[string]*wire.Shape{
		"model": take(takeModel), "done_reason": take(takeReason), "prompt_eval_count": take(takeInput), "eval_count": take(takeOutput),
		"error":   {Take: takeError, Long: true},
		"message": members(map[string]*wire.Shape{"tool_calls": {Each: call}}),
	})
}()

type taker struct {
	reply  llm.Reply
	calls  wire.Calls
	failed bool

	// Of the call that is being read.
	id, name         string
	arguments        []byte
	hasArgs, tooLong bool
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeModel:
		wire.SetString(&t.reply.Model, v)
	case takeReason:
		wire.SetString(&t.reply.FinishReason, v)
	case takeInput:
		wire.SetTokens(&t.reply.Usage.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&t.reply.Usage.OutputTokens, v)
	case takeID:
		wire.SetString(&t.id, v)
	case takeName:
		wire.SetString(&t.name, v)
	case takeArguments:
		t.hasArgs, t.tooLong = true, v.Kind() == strictjson.Absent
		t.arguments = append(t.arguments[:0], v.Raw()...)
	case takeError:
		t.failed = t.failed || v.Kind() == strictjson.String || v.Kind() == strictjson.Absent
	}
}

// End implements wire.Taker. A call of a tool comes whole.
func (t *taker) End(int) {
	call := t.calls.Add()
	call.ID, call.Name, call.Done = t.id, t.name, true
	if t.hasArgs && t.tooLong {
		call.Truncated = true
	} else if t.hasArgs {
		t.calls.Append(call, t.arguments)
	}
	t.id, t.name, t.hasArgs = "", "", false
}

// Close implements wire.Taker. A line with an error is what the clients raise.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	return wire.Frame(f, wire.Encode(refusal{wire.Explain(r)}))
}

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.reply
	r.ToolCalls = t.calls.List()
	if t.failed {
		r.FinishReason = ""
	}
	return r
}
