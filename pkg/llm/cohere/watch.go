package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of a response of the second version: a stream of events from message-start to message-end, or one JSON text.
func Watch(o llm.WatchOptions) llm.Watcher { return wire.Watch(o, responseV2, newTaker(o, false)) }

// WatchV1 returns a reader of a response of the first version: a stream of events from stream-start to stream-end, each a line, or
// one JSON text.
func WatchV1(o llm.WatchOptions) llm.Watcher { return wire.Watch(o, responseV1, newTaker(o, true)) }

// The values that are taken.
const (
	takeType = 1 + iota
	takeFinish
	takeInput
	takeOutput
	takeCached
	takeBilledInput
	takeBilledOutput
	takeIndex
	takeID
	takeName
	takeArguments
	endCall  // of a whole response
	endEvent // of the stream
	endDelta
)

func take(id int) *wire.Shape { return &wire.Shape{Take: id} }

func members(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }

// usage is the shape of what a response says that it cost: what was read and written, or what is charged.
var usage = members(map[string]*wire.Shape{
	"tokens":        members(map[string]*wire.Shape{"input_tokens": take(takeInput), "output_tokens": take(takeOutput)}),
	"billed_units":  members(map[string]*wire.Shape{"input_tokens": take(takeBilledInput), "output_tokens": take(takeBilledOutput)}),
	"cached_tokens": take(takeCached),
})

var responseV2 = func() *wire.Shape {
	call := members(map[string]*wire.Shape{
		"id": take(takeID), "function": members(map[string]*wire.Shape{"name": take(takeName), "arguments": {Take: takeArguments, Long: true}}),
	})
	whole := &wire.Shape{Members: call.Members, End: endCall}
	return &wire.Shape{End: endEvent, Members: map[string]*wire.Shape{
		"type": take(takeType), "index": take(takeIndex), "finish_reason": take(takeFinish), "usage": usage, "meta": usage,
		"message": members(map[string]*wire.Shape{"tool_calls": {Each: whole}}),
		"delta": members(map[string]*wire.Shape{
			"finish_reason": take(takeFinish), "usage": usage,
			"message": members(map[string]*wire.Shape{"tool_calls": call}),
		}),
	}}
}()

var responseV1 = func() *wire.Shape {
	call := map[string]*wire.Shape{"name": take(takeName), "parameters": {Take: takeArguments, Long: true, Raw: true}}
	return &wire.Shape{End: endEvent, Members: map[string]*wire.Shape{
		"event_type": take(takeType), "finish_reason": take(takeFinish), "meta": usage,
		"tool_calls":      {Each: &wire.Shape{Members: call, End: endCall}},
		"tool_call_delta": {End: endDelta, Members: map[string]*wire.Shape{"index": take(takeIndex), "name": take(takeName), "parameters": {Take: takeArguments, Long: true}}},
		"response":        members(map[string]*wire.Shape{"meta": usage}),
	}}
}()

type taker struct {
	first  bool // of the first version
	reply  llm.Reply
	calls  wire.Calls
	billed llm.Usage

	streamed bool // the calls so far came in pieces

	// Of the event or call that is being read.
	kind, id, name   string
	index            int
	arguments        []byte
	hasArgs, tooLong bool
}

func newTaker(o llm.WatchOptions, first bool) *taker {
	return &taker{first: first, calls: wire.Calls{Keep: o.Arguments}}
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeType:
		wire.SetString(&t.kind, v)
	case takeFinish:
		wire.SetString(&t.reply.FinishReason, v)
	case takeInput:
		wire.SetTokens(&t.reply.Usage.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&t.reply.Usage.OutputTokens, v)
	case takeCached:
		wire.SetTokens(&t.reply.Usage.CachedTokens, v)
	case takeBilledInput:
		wire.SetTokens(&t.billed.InputTokens, v)
	case takeBilledOutput:
		wire.SetTokens(&t.billed.OutputTokens, v)
	case takeIndex:
		n, _ := v.Int64()
		t.index = int(n)
	case takeID:
		wire.SetString(&t.id, v)
	case takeName:
		wire.SetString(&t.name, v)
	case takeArguments:
		t.hasArgs, t.tooLong = true, v.Kind() == strictjson.Absent
		if v.Kind() == strictjson.String {
			t.arguments = append(t.arguments[:0], v.Text()...)
		} else {
			t.arguments = append(t.arguments[:0], v.Raw()...)
		}
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endCall:
		if t.streamed {
			// In the first version the calls come whole after their pieces.
			t.streamed, t.calls = false, wire.Calls{Keep: t.calls.Keep}
		}
		call := t.calls.Add()
		call.ID, call.Name, call.Done = t.id, t.name, true
		t.add(call)
		t.id, t.name, t.hasArgs = "", "", false
		return
	case endDelta:
		t.streamed = true
		call := t.calls.At(t.index)
		named(call, t.name)
		t.add(call)
		t.index, t.name, t.hasArgs = 0, "", false
		return
	}
	switch t.kind {
	case "tool-call-start":
		call := t.calls.At(t.index)
		call.ID = t.id
		named(call, t.name)
		t.add(call)
	case "tool-call-delta":
		t.add(t.calls.At(t.index))
	case "tool-call-end":
		t.calls.At(t.index).Done = true
	case "message-end", "stream-end":
		t.calls.Done()
	}
	t.kind, t.id, t.name, t.index, t.hasArgs = "", "", "", 0, false
}

func named(call *llm.ToolCall, name string) {
	if name != "" {
		call.Name = name
	}
}

// add adds the arguments that were read to a call.
func (t *taker) add(call *llm.ToolCall) {
	if t.hasArgs && t.tooLong {
		call.Truncated = true
	} else if t.hasArgs {
		t.calls.Append(call, t.arguments)
	}
}

// done is the data of the event after the last one.
const done = "[DONE]"

// Close implements wire.Taker. Cohere ends a stream that fails with its last event, which says so.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	if t.first {
		e := endV1{Finished: true, EventType: "stream-end", FinishReason: finishError}
		e.Response.Text, e.Response.FinishReason = wire.Explain(r), finishError
		return wire.Frame(f, wire.Encode(e))
	}
	if f != llm.FramingSSE {
		return nil
	}
	e := endV2{Type: "message-end"}
	e.Delta.FinishReason, e.Delta.Error = finishError, wire.Explain(r)
	return append(wire.SSE(e.Type, wire.Encode(e)), wire.SSE("", []byte(done))...)
}

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.reply
	if r.Usage.InputTokens == 0 {
		r.Usage.InputTokens = t.billed.InputTokens
	}
	if r.Usage.OutputTokens == 0 {
		r.Usage.OutputTokens = t.billed.OutputTokens
	}
	r.ToolCalls = t.calls.List()
	if r.FinishReason == finishError {
		r.FinishReason = ""
	}
	return r
}
