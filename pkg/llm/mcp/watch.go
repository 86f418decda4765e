package mcp

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// What a Reply's FinishReason can be.
const (
	// FinishResult is an answer with a result.
	FinishResult = "result"
	// FinishToolError is the result of a tool that failed, as it says.
	FinishToolError = "tool_error"
)

// Watch returns a reader of a response: a stream of events, each a message, or one message, or a list of them. Nobody says what it
// cost. Its tool calls are what the server asks of the client: to have a model write something, to ask the user for something.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{Gathered: wire.Gather(o)})
}

// The values that are taken.
const (
	takeID = 1 + iota
	takeMethod
	takeParams
	takeIsError
	endResult
	endMessage
)

var response = func() *wire.Shape {
	message := &wire.Shape{End: endMessage, Members: wire.Shapes{
		"id": wire.Take(takeID), "method": wire.Take(takeMethod), "params": wire.TakeWhole(takeParams),
		"result": {End: endResult, Members: wire.Shapes{"isError": wire.Take(takeIsError)}},
		"error":  {End: wire.EndError},
	}}
	return &wire.Shape{End: message.End, Members: message.Members, Each: message}
}()

type taker struct {
	wire.Gathered
	last []byte // the id of the last answer, as it is written

	// Of the message that is being read.
	id, method      []byte
	params          wire.Piece
	result, isError bool
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeID:
		t.id = append(t.id[:0], v.Raw()...)
	case takeMethod:
		t.method = append(t.method[:0], v.Text()...)
	case takeParams:
		t.params.SetRaw(v)
	case takeIsError:
		t.isError = v.Bool()
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endResult:
		t.result = true
		return
	case wire.EndError:
		t.Failed, t.result = true, true
		return
	}
	switch {
	case len(t.method) > 0 && len(t.id) > 0:
		call := t.Calls.Add()
		call.ID, call.Name, call.Done = unquoted(t.id), string(t.method), true
		t.Calls.AppendPiece(call, &t.params)
	case t.result:
		t.last = append(t.last[:0], t.id...)
		t.FinishReason = FinishResult
		if t.isError {
			t.FinishReason = FinishToolError
		}
	}
	t.id, t.method = t.id[:0], t.method[:0]
	t.params.Reset()
	t.result, t.isError = false, false
}

func unquoted(id []byte) string {
	if len(id) >= 2 && id[0] == '"' {
		return string(id[1 : len(id)-1])
	}
	return string(id)
}

// Close implements wire.Taker. A client hands an error to whoever made the request of that id. Where the server has not answered yet, the id is not
// known; the client reports the error without telling whose it is.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingSSE {
		return nil
	}
	return wire.SSE("message", wire.Encode(newRefusal(r, t.last)))
}
