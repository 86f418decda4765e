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
	return wire.Watch(o, response, &taker{calls: wire.Calls{Keep: o.Arguments}})
}

// The values that are taken.
const (
	takeType = 1 + iota // of the whole, or of the event
	takeIndex
	takeModel
	takeStop
	takeBlockType
	takeBlockID
	takeBlockName
	takeBlockInput
	takePiece
	takeInput
	takeOutput
	takeCacheRead
	takeCacheWritten
	takeThinking
	endText
	endBlock
	endError
)

// response is the shape of a message and of the events of a stream together: an event message_start has a message within, the
// others have pieces of one. A line of a batch's results has one within, too; what that cost is not of this call.
var response = func() *wire.Shape {
	take := func(id int) *wire.Shape { return &wire.Shape{Take: id} }
	usage := &wire.Shape{Members: map[string]*wire.Shape{
		"input_tokens":                take(takeInput),
		"output_tokens":               take(takeOutput),
		"cache_read_input_tokens":     take(takeCacheRead),
		"cache_creation_input_tokens": take(takeCacheWritten),
		"output_tokens_details":       {Members: map[string]*wire.Shape{"thinking_tokens": take(takeThinking)}},
	}}
	block := map[string]*wire.Shape{
		"type":  take(takeBlockType),
		"id":    take(takeBlockID),
		"name":  take(takeBlockName),
		"input": {Take: takeBlockInput, Raw: true},
	}
	content := &wire.Shape{Each: &wire.Shape{End: endBlock, Members: block}}
	model, stop := take(takeModel), take(takeStop)
	message := &wire.Shape{Members: map[string]*wire.Shape{"model": model, "stop_reason": stop, "usage": usage, "content": content}}
	stored := &wire.Shape{Members: map[string]*wire.Shape{"model": model, "stop_reason": stop, "content": content}}
	return &wire.Shape{End: endText, Members: map[string]*wire.Shape{
		"type":          take(takeType),
		"index":         take(takeIndex),
		"model":         model,
		"stop_reason":   stop,
		"usage":         usage,
		"content":       content,
		"message":       message,
		"content_block": {Members: block},
		"delta":         {Members: map[string]*wire.Shape{"stop_reason": stop, "partial_json": {Take: takePiece, Long: true}}},
		"error":         {End: endError},
		"result":        {Members: map[string]*wire.Shape{"message": stored}},
	}}
}()

// maxOpen is how many blocks of a stream can be open at a time; there is never more than one.
const maxOpen = 64

type taker struct {
	reply              llm.Reply
	calls              wire.Calls
	cacheRead, written int64
	failed             bool

	// Of the text that is being read.
	event string
	index int64
	block block
	piece piece

	open []open
	keys int // of the calls that a stream has begun
}

// block is a block of content, or the beginning of one.
type block struct {
	kind, id, name string
	input          piece
}

func (b *block) call() bool { return strings.HasSuffix(b.kind, "tool_use") }

// piece is a value that may be longer than what is kept of it.
type piece struct {
	text []byte
	lost bool
}

func (p *piece) set(text []byte, lost bool) {
	p.text, p.lost = append(p.text[:0], text...), lost
}

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
	switch id {
	case takeType:
		wire.SetString(&t.event, v)
	case takeIndex:
		t.index, _ = v.Int64()
	case takeModel:
		wire.SetString(&t.reply.Model, v)
	case takeStop:
		wire.SetString(&t.reply.FinishReason, v)
	case takeBlockType:
		wire.SetString(&t.block.kind, v)
	case takeBlockID:
		wire.SetString(&t.block.id, v)
	case takeBlockName:
		wire.SetString(&t.block.name, v)
	case takeBlockInput:
		t.block.input.set(v.Raw(), v.Kind() == strictjson.Absent)
	case takePiece:
		t.piece.set(v.Text(), v.Kind() == strictjson.Absent)
	case takeInput:
		wire.SetTokens(&t.reply.Usage.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&t.reply.Usage.OutputTokens, v)
	case takeCacheRead:
		wire.SetTokens(&t.cacheRead, v)
	case takeCacheWritten:
		wire.SetTokens(&t.written, v)
	case takeThinking:
		wire.SetTokens(&t.reply.Usage.ReasoningTokens, v)
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endBlock: // of a message that is not streamed
		if t.block.call() {
			call := t.calls.Add()
			t.begin(call)
			t.arguments(call, t.block.input.text)
			call.Done = true
		}
		t.block = block{}
	case endError:
		t.failed = true
	case endText:
		t.text()
		t.event, t.index, t.block = "", 0, block{}
		t.piece.set(nil, false)
	}
}

// begin fills in a call by the block that begins it.
func (t *taker) begin(call *llm.ToolCall) {
	b := &t.block
	call.ID, call.Name, call.ServerSide, call.Truncated = b.id, b.name, b.kind != "tool_use", b.input.lost
	if call.Name == "" {
		call.Name, call.Truncated = unnamed, true
	}
}

// unnamed is the name of a call whose name is missing or too long to be one, so that it is not passed over.
const unnamed = "unnamed"

// arguments sets the arguments of a call that come whole. None are those of an empty object, which is what the SDKs make of them.
func (t *taker) arguments(call *llm.ToolCall, whole []byte) {
	if len(whole) == 0 && !call.Truncated {
		whole = []byte("{}")
	}
	t.calls.Append(call, whole)
}

// text follows the end of an event.
func (t *taker) text() {
	switch t.event {
	case "content_block_start":
		o := open{index: t.index, call: t.block.call()}
		if o.call {
			t.keys++
			o.key = t.keys
			t.begin(t.calls.At(o.key))
			o.whole = t.block.input.text
		}
		if len(t.open) < maxOpen { // a call beyond that is never complete
			t.open = append(t.open, o)
		}
	case "content_block_delta":
		o := t.find()
		if o == nil || !o.call || len(t.piece.text) == 0 && !t.piece.lost {
			return
		}
		call := t.calls.At(o.key)
		if t.piece.lost || !o.parts && len(o.whole) > 0 && string(o.whole) != "{}" {
			call.Truncated = true // too long, or arguments of two beginnings, which the SDKs put together in different ways
		}
		o.parts = true
		t.calls.Append(call, t.piece.text)
	case "content_block_stop":
		if o := t.find(); o != nil {
			t.close(o)
			*o = t.open[len(t.open)-1]
			t.open = t.open[:len(t.open)-1]
		}
	case "message_delta", "message_stop":
		if t.reply.FinishReason != "" || t.event == "message_stop" {
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
	call := t.calls.At(o.key)
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
	r := t.reply
	r.Usage.InputTokens += t.cacheRead + t.written
	r.Usage.CachedTokens = t.cacheRead
	r.ToolCalls = t.calls.List()
	if t.failed {
		r.FinishReason = ""
	}
	return r
}
