package ollama

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of a response: a stream of lines, the last of which says what it cost, or one JSON text.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{Gathered: wire.Gather(o)})
}

// The values that are taken.
const (
	takeID = wire.TakeOwn + iota
	takeName
	takeArguments
	takeError
	endCall
)

var response = func() *wire.Shape {
	call := &wire.Shape{End: endCall, Members: wire.Shapes{
		"id":       wire.Take(takeID),
		"function": wire.Members(wire.Shapes{"name": wire.Take(takeName), "arguments": wire.TakeWhole(takeArguments)}),
	}}
	return wire.Members(wire.Shapes{
		"model": wire.Take(wire.TakeModel), "done_reason": wire.Take(wire.TakeFinish), "prompt_eval_count": wire.Take(wire.TakeInput), "eval_count": wire.Take(wire.TakeOutput),
		"error":   wire.TakeLong(takeError),
		"message": wire.Members(wire.Shapes{"tool_calls": {Each: call}}),
	})
}()

type taker struct {
	wire.Gathered

	// Of the call that is being read.
	id, name  string
	arguments wire.Piece
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeID:
		wire.SetString(&t.id, v)
	case takeName:
		wire.SetString(&t.name, v)
	case takeArguments:
		t.arguments.SetRaw(v)
	case takeError:
		t.Failed = t.Failed || v.Kind() == strictjson.String || v.Kind() == strictjson.Absent
	}
}

// End implements wire.Taker. A call of a tool comes whole.
func (t *taker) End(int) {
	call := t.Calls.Add()
	call.ID, call.Name, call.Done = t.id, t.name, true
	t.Calls.AppendPiece(call, &t.arguments)
	t.id, t.name = "", ""
	t.arguments.Reset()
}

// Close implements wire.Taker. A line with an error is what the clients raise.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	return wire.Frame(f, wire.Encode(refusal{wire.Explain(r)}))
}
