package anthropic

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of the response with the given content type: a stream of events from message_start to message_stop, or one
// JSON text. The input tokens of its Reply's Usage include those written to and read from the cache, which Anthropic counts
// apart, so that the numbers mean the same as for other providers.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{Gathered: wire.Gather(o)})
}

// The values that are taken.
const (
	takeType = wire.TakeOwn + iota // of the whole, or of the event
	takeIndex
	takeBlockType
	takeBlockID
	takeBlockName
	takeBlockInput
	takePiece
	takeCacheWritten
	endText
	endBlock
)

// response is the shape of a message and of the events of a stream together: an event message_start has a message within, the
// others have pieces of one. A line of a batch's results has one within, too; what that cost is not of this call.
var response = func() *wire.Shape {
	usage := &wire.Shape{Members: wire.Shapes{
		"input_tokens":                wire.Take(wire.TakeInput),
		"output_tokens":               wire.Take(wire.TakeOutput),
		"cache_read_input_tokens":     wire.Take(wire.TakeCached),
		"cache_creation_input_tokens": wire.Take(takeCacheWritten),
		"output_tokens_details":       {Members: wire.Shapes{"thinking_tokens": wire.Take(wire.TakeReasoning)}},
	}}
	block := wire.Shapes{
		"type":  wire.Take(takeBlockType),
		"id":    wire.Take(takeBlockID),
		"name":  wire.Take(takeBlockName),
		"input": {Take: takeBlockInput, Raw: true},
	}
	content := &wire.Shape{Each: &wire.Shape{End: endBlock, Members: block}}
	model, stop := wire.Take(wire.TakeModel), wire.Take(wire.TakeFinish)
	message := &wire.Shape{Members: wire.Shapes{"model": model, "stop_reason": stop, "usage": usage, "content": content}}
	stored := &wire.Shape{Members: wire.Shapes{"model": model, "stop_reason": stop, "content": content}}
	return &wire.Shape{End: endText, Members: wire.Shapes{
		"type":          wire.Take(takeType),
		"index":         wire.Take(takeIndex),
		"model":         model,
		"stop_reason":   stop,
		"usage":         usage,
		"content":       content,
		"message":       message,
		"content_block": {Members: block},
		"delta":         {Members: wire.Shapes{"stop_reason": stop, "partial_json": wire.TakeLong(takePiece)}},
		"error":         {End: wire.EndError},
		"result":        {Members: wire.Shapes{"message": stored}},
	}}
}()

// maxOpen is how many blocks of a stream can be open at a time; there is never more than one.
const maxOpen = 64

type taker struct {
	wire.Gathered
	written int64 // tokens, to the cache

	// Of the text that is being read.
	event string
	index int64
	block block
	piece wire.Piece

	open []open
	keys int // of the calls that a stream has begun
}

// block is a block of content, or the beginning of one.
type block struct {
	kind, id, name string
	input          wire.Piece
}

func (b *block) call() bool { return strings.HasSuffix(b.kind, "tool_use") }

// open is a block that a stream has begun and not ended.
type open struct {
	index int64
	call  bool
	key   int    // of the call
	whole []byte // the arguments that the beginning says, which hold where no pieces follow
	parts bool   // pieces have followed
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeType:
		wire.SetString(&t.event, v)
	case takeIndex:
		t.index, _ = v.Int64()
	case takeBlockType:
		wire.SetString(&t.block.kind, v)
	case takeBlockID:
		wire.SetString(&t.block.id, v)
	case takeBlockName:
		wire.SetString(&t.block.name, v)
	case takeBlockInput:
		t.block.input.SetRaw(v)
	case takePiece:
		t.piece.SetText(v)
	case takeCacheWritten:
		wire.SetTokens(&t.written, v)
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endBlock: // of a message that is not streamed
		if t.block.call() {
			call := t.Calls.Add()
			t.begin(call)
			t.arguments(call, t.block.input.Text)
			call.Done = true
		}
		t.block = block{}
	case wire.EndError:
		t.Failed = true
	case endText:
		t.text()
		t.event, t.index, t.block = "", 0, block{}
		t.piece.Reset()
	}
}

// begin fills in a call by the block that begins it.
func (t *taker) begin(call *llm.ToolCall) {
	b := &t.block
	call.ID, call.Name, call.ServerSide, call.Truncated = b.id, b.name, b.kind != "tool_use", b.input.Lost
	if call.Name == "" {
		call.Name, call.Truncated = wire.Unnamed, true
	}
}

// arguments sets the arguments of a call that come whole. None are those of an empty object, which is what the SDKs make of them.
func (t *taker) arguments(call *llm.ToolCall, whole []byte) {
	if len(whole) == 0 && !call.Truncated {
		whole = []byte("{}")
	}
	t.Calls.Append(call, whole)
}

// text follows the end of an event.
func (t *taker) text() {
	switch t.event {
	case "content_block_start":
		o := open{index: t.index, call: t.block.call()}
		if o.call {
			t.keys++
			o.key = t.keys
			t.begin(t.Calls.At(o.key))
			o.whole = t.block.input.Text
		}
		if len(t.open) < maxOpen { // a call beyond that is never complete
			t.open = append(t.open, o)
		}
	case "content_block_delta":
		o := t.find()
		if o == nil || !o.call || len(t.piece.Text) == 0 && !t.piece.Lost {
			return
		}
		call := t.Calls.At(o.key)
		if t.piece.Lost || !o.parts && len(o.whole) > 0 && string(o.whole) != "{}" {
			call.Truncated = true // too long, or arguments of two beginnings, which the SDKs put together in different ways
		}
		o.parts = true
		t.Calls.Append(call, t.piece.Text)
	case "content_block_stop":
		if o := t.find(); o != nil {
			t.close(o)
			*o = t.open[len(t.open)-1]
			t.open = t.open[:len(t.open)-1]
		}
	case "message_delta", "message_stop":
		if t.FinishReason != "" || t.event == "message_stop" {
			for i := range t.open {
				t.close(&t.open[i])
			}
			t.open = t.open[:0]
		}
	}
}

// find returns the open block that an event is of: the last one of its index.
func (t *taker) find() *open {
	for i := len(t.open) - 1; i >= 0; i-- {
		if t.open[i].index == t.index {
			return &t.open[i]
		}
	}
	return nil
}

// close follows the end of a block.
func (t *taker) close(o *open) {
	if !o.call {
		return
	}
	call := t.Calls.At(o.key)
	if !o.parts {
		t.arguments(call, o.whole)
	}
	call.Done = true
}

// blockStop is the event that ends a block.
type blockStop struct {
	Type  string `json:"type"`
	Index int64  `json:"index"`
}

// Close implements wire.Taker. A stream ends with an event of the name error, which the SDKs raise, after the end of what text is open. A tool
// call that is open stays so: nobody is to take it for complete.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingSSE {
		return nil
	}
	var out []byte
	for _, o := range t.open {
		if !o.call {
			out = append(out, wire.SSE("content_block_stop", wire.Encode(blockStop{"content_block_stop", o.index}))...)
		}
	}
	return append(out, wire.SSE("error", wire.Encode(refused(r)))...)
}

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.Gathered.Reply()
	r.Usage.InputTokens += r.Usage.CachedTokens + t.written
	return r
}
