package a2a

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// FinishMessage is the FinishReason of a response that is a message and no task.
const FinishMessage = "message"

// Watch returns a reader of a response: a stream of events, or one JSON text. Nobody says what it cost. The FinishReason of its Reply is the state that
// the task came to, as the agent names it.
func Watch(o llm.WatchOptions) llm.Watcher { return wire.Watch(o, response, &taker{}) }

// The values that are taken.
const (
	takeID = wire.TakeOwn + iota
	takeMessage
	endEvent
)

var response = func() *wire.Shape {
	status := wire.Members(wire.Shapes{"state": wire.Take(wire.TakeFinish)})
	task := wire.Members(wire.Shapes{"status": status})
	return &wire.Shape{End: endEvent, Members: wire.Shapes{
		"id": wire.Take(takeID),
		"result": wire.Members(wire.Shapes{
			"status": status, "task": task, "statusUpdate": task,
			"messageId": wire.Take(takeMessage), "message": wire.Members(wire.Shapes{"messageId": wire.Take(takeMessage)}),
		}),
		"error": {End: wire.EndError},
	}}
}()

type taker struct {
	wire.Gathered
	id []byte // of the request, as it is written
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeID:
		t.id = append(t.id[:0], v.Raw()...)
	case takeMessage:
		if t.FinishReason == "" {
			t.FinishReason = FinishMessage
		}
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) { t.Failed = t.Failed || id == wire.EndError }

// Close implements wire.Taker. Each event of a stream is an answer to the request, of its id.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingSSE {
		return nil
	}
	return wire.SSE("", wire.Encode(newRefusal(r, t.id)))
}
