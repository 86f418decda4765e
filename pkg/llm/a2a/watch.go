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
	takeID = 1 + iota
	takeState
	takeMessage
	endError
	endEvent
)

var response = func() *wire.Shape {
	members := func(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }
	status := members(map[string]*wire.Shape{"state": {Take: takeState}})
	task := members(map[string]*wire.Shape{"status": status})
	return &wire.Shape{End: endEvent, Members: map[string]*wire.Shape{
		"id": {Take: takeID},
		"result": members(map[string]*wire.Shape{
			"status": status, "task": task, "statusUpdate": task,
			"messageId": {Take: takeMessage}, "message": members(map[string]*wire.Shape{"messageId": {Take: takeMessage}}),
		}),
		"error": {End: endError},
	}}
}()

type taker struct {
	reply  llm.Reply
	id     []byte // of the request, as it is written
	failed bool
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeID:
		t.id = append(t.id[:0], v.Raw()...)
	case takeState:
		wire.SetString(&t.reply.FinishReason, v)
	case takeMessage:
		if t.reply.FinishReason == "" {
			t.reply.FinishReason = FinishMessage
		}
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) { t.failed = t.failed || id == endError }

// Close implements wire.Taker. Each event of a stream is an answer to the request, of its id.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingSSE {
		return nil
	}
	return wire.SSE("", wire.Encode(newRefusal(r, t.id)))
}

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.reply
	if t.failed {
		r.FinishReason = ""
	}
	return r
}
