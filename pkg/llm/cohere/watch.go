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
	takeType = wire.TakeOwn + iota
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

// usage is the shape of what a response says that it cost: what was read and written, or what is charged.
var usage = wire.Members(wire.Shapes{
	"tokens":        wire.Members(wire.Shapes{"input_tokens": wire.Take(wire.TakeInput), "output_tokens": wire.Take(wire.TakeOutput)}),
	"billed_units":  wire.Members(wire.Shapes{"input_tokens": wire.Take(takeBilledInput), "output_tokens": wire.Take(takeBilledOutput)}),
	"cached_tokens": wire.Take(wire.TakeCached),
})

var responseV2 = func() *wire.Shape {
	call := wire.Members(wire.Shapes{
		"id": wire.Take(takeID), "function": wire.Members(wire.Shapes{"name": wire.Take(takeName), "arguments": wire.TakeLong(takeArguments)}),
	})
	whole := &wire.Shape{Members: call.Members, End: endCall}
	return &wire.Shape{End: endEvent, Members: wire.Shapes{
		"type": wire.Take(takeType), "index": wire.Take(takeIndex), "finish_reason": wire.Take(wire.TakeFinish), "usage": usage, "meta": usage,
		"message": wire.Members(wire.Shapes{"tool_calls": {Each: whole}}),
		"delta": wire.Members(wire.Shapes{
			"finish_reason": wire.Take(wire.TakeFinish), "usage": usage,
			"message": wire.Members(wire.Shapes{"tool_calls": call}),
		}),
	}}
}()

var responseV1 = func() *wire.Shape {
	call := wire.Shapes{"name": wire.Take(takeName), "parameters": wire.TakeWhole(takeArguments)}
	return &wire.Shape{End: endEvent, Members: wire.Shapes{
		"event_type": wire.Take(takeType), "finish_reason": wire.Take(wire.TakeFinish), "meta": usage,
		"tool_calls":      {Each: &wire.Shape{Members: call, End: endCall}},
		"tool_call_delta": {End: endDelta, Members: wire.Shapes{"index": wire.Take(takeIndex), "name": wire.Take(takeName), "parameters": wire.TakeLong(takeArguments)}},
		"response":        wire.Members(wire.Shapes{"meta": usage}),
	}}
}()

type taker struct {
	wire.Gathered
	first  bool // of the first version
	billed llm.Usage

	streamed bool // the calls so far came in pieces

	// Of the event or call that is being read.
	kind, id, name string
	index          int
	arguments      wire.Piece
}

func newTaker(o llm.WatchOptions, first bool) *taker {
	return &taker{Gathered: wire.Gather(o), first: first}
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeType:
		wire.SetString(&t.kind, v)
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
		if v.Kind() == strictjson.String {
			t.arguments.SetText(v)
		} else {
			t.arguments.SetRaw(v)
		}
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endCall:
		if t.streamed {
			// In the first version the calls come whole after their pieces.
			t.streamed, t.Calls = false, wire.Calls{Keep: t.Calls.Keep}
		}
		call := t.Calls.Add()
		call.ID, call.Name, call.Done = t.id, t.name, true
		t.Calls.AppendPiece(call, &t.arguments)
		t.id, t.name = "", ""
		t.arguments.Reset()
		return
	case endDelta:
		t.streamed = true
		call := t.Calls.At(t.index)
		named(call, t.name)
		t.Calls.AppendPiece(call, &t.arguments)
		t.index, t.name = 0, ""
		t.arguments.Reset()
		return
	}
	switch t.kind {
	case "tool-call-start":
		call := t.Calls.At(t.index)
		call.ID = t.id
		named(call, t.name)
		t.Calls.AppendPiece(call, &t.arguments)
	case "tool-call-delta":
		t.Calls.AppendPiece(t.Calls.At(t.index), &t.arguments)
	case "tool-call-end":
		t.Calls.At(t.index).Done = true
	case "message-end", "stream-end":
		t.Calls.Done()
	}
	t.kind, t.id, t.name, t.index = "", "", "", 0
	t.arguments.Reset()
}

func named(call *llm.ToolCall, name string) {
	if name != "" {
		call.Name = name
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
	r := t.Gathered.Reply()
	if r.Usage.InputTokens == 0 {
		r.Usage.InputTokens = t.billed.InputTokens
	}
	if r.Usage.OutputTokens == 0 {
		r.Usage.OutputTokens = t.billed.OutputTokens
	}
	if r.FinishReason == finishError {
		r.FinishReason = ""
	}
	return r
}
