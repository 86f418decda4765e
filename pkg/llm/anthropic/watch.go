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
	return wire.Watch(o, response, &taker{})
}

// The values that are taken.
const (
	takeModel = 1 + iota
	takeStop
	takeBlockType
	takeBlockName
	takeInput
	takeOutput
	takeCacheRead
	takeCacheWritten
	takeThinking
	endBlock
	endError
)

// response is the shape of a message and of the events of a stream together: an event message_start has a message within, the
// others have pieces of one.
var response = func() *wire.Shape {
	take := func(id int) *wire.Shape { return &wire.Shape{Take: id} }
	usage := &wire.Shape{Members: map[string]*wire.Shape{
		"input_tokens":                take(takeInput),
		"output_tokens":               take(takeOutput),
		"cache_read_input_tokens":     take(takeCacheRead),
		"cache_creation_input_tokens": take(takeCacheWritten),
		"output_tokens_details":       {Members: map[string]*wire.Shape{"thinking_tokens": take(takeThinking)}},
	}}
	block := &wire.Shape{End: endBlock, Members: map[string]*wire.Shape{"type": take(takeBlockType), "name": take(takeBlockName)}}
	message := map[string]*wire.Shape{
		"model":       take(takeModel),
		"stop_reason": take(takeStop),
		"usage":       usage,
		"content":     {Each: block},
	}
	return &wire.Shape{Members: map[string]*wire.Shape{
		"model":         message["model"],
		"stop_reason":   message["stop_reason"],
		"usage":         usage,
		"content":       message["content"],
		"message":       {Members: message},
		"content_block": block,
		"delta":         {Members: map[string]*wire.Shape{"stop_reason": take(takeStop)}},
		"error":         {End: endError},
	}}
}()

type taker struct {
	reply              llm.Reply
	calls              wire.Calls
	cacheRead, written int64
	blockType, name    string // of the block that is being read
	failed             bool
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeModel:
		wire.SetString(&t.reply.Model, v)
	case takeStop:
		wire.SetString(&t.reply.FinishReason, v)
	case takeBlockType:
		wire.SetString(&t.blockType, v)
	case takeBlockName:
		wire.SetString(&t.name, v)
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
	case endBlock:
		if strings.HasSuffix(t.blockType, "tool_use") {
			t.calls.Add().Name = t.name
		}
		t.blockType, t.name = "", ""
	case endError:
		t.failed = true
	}
}

// Close implements wire.Taker.
func (t *taker) Close(llm.Framing, llm.Refusal) []byte { return nil }

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
