package openai

import (
	"cmp"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of a chat completion, or of one of the older completions: a stream of chunks, which ends with "[DONE]", or one
// JSON text. What a response says of tokens, with stream_options.include_usage also a stream, is in the Usage of its Reply;
// the input tokens include the cached ones.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, chatResponse, &chatTaker{Gathered: wire.Gather(o)})
}

// The values that are taken of a chat completion.
const (
	takeChoice = wire.TakeOwn + iota
	takeCallIndex
	takeCallID
	takeCallName
	takeCallArguments
	endCall
	endFunction
	endChoice
)

// chatResponse is the shape of a chat.completion and of a chat.completion.chunk, which differ in one name.
var chatResponse = func() *wire.Shape {
	called := wire.Shapes{"name": wire.Take(takeCallName), "arguments": wire.TakeLong(takeCallArguments), "input": wire.TakeLong(takeCallArguments)}
	call := &wire.Shape{End: endCall, Members: wire.Shapes{
		"index":    wire.Take(takeCallIndex),
		"id":       wire.Take(takeCallID),
		"function": wire.Members(called),
		"custom":   wire.Members(called),
	}}
	message := wire.Members(wire.Shapes{
		"tool_calls":    {Each: call},
		"function_call": {End: endFunction, Members: called},
	})
	choice := &wire.Shape{End: endChoice, Members: wire.Shapes{
		"index":         wire.Take(takeChoice),
		"finish_reason": wire.Take(wire.TakeFinish),
		"message":       message,
		"delta":         message,
	}}
	return wire.Members(wire.Shapes{
		"model":   wire.Take(wire.TakeModel),
		"choices": {Each: choice},
		"usage":   usageShape,
		"x_groq":  wire.Members(wire.Shapes{"usage": usageShape}),
		"error":   {End: wire.EndError},
	})
}()

// piece is what one chunk, or a whole response, says of one tool call.
type piece struct {
	index     int64
	indexed   bool
	id, name  string
	arguments []byte
	long      bool // the arguments are longer than is kept
}

type chatTaker struct {
	wire.Gathered

	// Of the choice that is being read: its members come in any order.
	choice   int64
	finished bool
	pieces   []piece
	piece    piece

	open []openCall
}

// openCall is the call of a choice that was begun last.
type openCall struct{ choice, index int64 }

// maxChoices is how many choices of one response are kept apart.
const maxChoices = 128

// key returns the key of a call among all of the response.
func key(choice, index int64) int { return int(choice<<32 | index&0xffffffff) }

// Take implements wire.Taker.
func (t *chatTaker) Take(id int, v strictjson.Value) {
	if id == wire.TakeFinish {
		t.finished = len(v.Text()) > 0
	}
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeChoice:
		t.choice, _ = v.Int64()
	case takeCallIndex:
		t.piece.index, t.piece.indexed = v.Int64()
	case takeCallID:
		t.piece.id = string(v.Text())
	case takeCallName:
		t.piece.name = string(v.Text())
	case takeCallArguments:
		t.piece.long = v.Kind() == strictjson.Absent
		t.piece.arguments = append(t.piece.arguments, v.Text()...)
	}
}

// End implements wire.Taker.
func (t *chatTaker) End(id int) {
	switch id {
	case wire.EndError:
		t.Failed = true
	case endCall, endFunction:
		t.pieces = append(t.pieces, t.piece)
		t.piece = piece{}
	case endChoice:
		t.number()
		for i := range t.pieces {
			t.call(&t.pieces[i])
		}
		if t.finished {
			t.done()
		}
		t.pieces, t.choice, t.finished = t.pieces[:0], 0, false
	}
}

// number gives an index to the pieces that have none: those of a whole response, which has its calls in order, and those of servers that tell one call
// from the next by its id.
func (t *chatTaker) number() {
	var from int64
	if last := t.last(); last != nil && len(t.pieces) > 0 {
		from = last.index
		if id := t.pieces[0].id; id != "" && id != t.Calls.At(key(t.choice, last.index)).ID {
			from++
		}
	}
	for i := range t.pieces {
		if p := &t.pieces[i]; !p.indexed {
			p.index = from + int64(i)
		}
	}
}

// call adds a piece to its call.
func (t *chatTaker) call(p *piece) {
	call := t.Calls.At(key(t.choice, p.index))
	if call.Done {
		// Should what was complete change, then whoever judged it has judged something else.
		call.Truncated = call.Truncated || p.long || len(p.arguments) > 0 || p.name != "" && p.name != call.Name
		return
	}
	if last := t.last(); last != nil && last.index != p.index {
		t.done()
		last.index = p.index
		call = t.Calls.At(key(t.choice, p.index))
	} else if last == nil && len(t.open) < maxChoices {
		t.open = append(t.open, openCall{t.choice, p.index})
	}
	if p.id != "" {
		call.ID = p.id
	}
	if p.name != "" || call.Name == "" {
		call.Name = cmp.Or(p.name, wire.Unnamed)
	}
	if p.long {
		call.Truncated = true
	}
	t.Calls.Append(call, p.arguments)
}

// last returns the call of the choice that is open; nil where there is none.
func (t *chatTaker) last() *openCall {
	for i := range t.open {
		if t.open[i].choice == t.choice {
			return &t.open[i]
		}
	}
	return nil
}

// done says of the open call of the choice that it is complete.
func (t *chatTaker) done() {
	if last := t.last(); last != nil {
		call := t.Calls.At(key(last.choice, last.index))
		call.Done, call.Truncated = true, call.Truncated || call.Name == wire.Unnamed
	}
}

// Close implements wire.Taker.
func (*chatTaker) Close(f llm.Framing, r llm.Refusal) []byte { return closeChunks(f, r) }
