package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of the response with the given content type: a stream of chunks, which ends with "[DONE]", or one JSON text. What
// a response says of tokens, with stream_options.include_usage also a stream, is in the Usage of its Reply;
// the input tokens include the cached ones.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{})
}

// The values that are taken.
const (
	takeModel = 1 + iota
	takeFinish
	takeTool
	takeInput
	takeOutput
	takeCached
	takeReasoning
	takeError
)

// response is the shape of a chat.completion and of a chat.completion.chunk, which differ in one name.
var response = func() *wire.Shape {
	take := func(id int) *wire.Shape { return &wire.Shape{Take: id} }
	object := func(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }
	named := object(map[string]*wire.Shape{"name": take(takeTool)})
	message := object(map[string]*wire.Shape{
		"tool_calls":    {Each: object(map[string]*wire.Shape{"function": named, "custom": named})},
		"function_call": named,
	})
	return object(map[string]*wire.Shape{
		"model":   take(takeModel),
		"choices": {Each: object(map[string]*wire.Shape{"finish_reason": take(takeFinish), "message": message, "delta": message})},
		"usage": object(map[string]*wire.Shape{
			"prompt_tokens":             take(takeInput),
			"completion_tokens":         take(takeOutput),
			"prompt_tokens_details":     object(map[string]*wire.Shape{"cached_tokens": take(takeCached)}),
			"completion_tokens_details": object(map[string]*wire.Shape{"reasoning_tokens": take(takeReasoning)}),
		}),
		"error": {End: takeError},
	})
}()

type taker struct {
	reply  llm.Reply
	calls  wire.Calls
	failed bool
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeModel:
		wire.SetString(&t.reply.Model, v)
	case takeFinish:
		wire.SetString(&t.reply.FinishReason, v)
	case takeTool:
		if name := string(v.Text()); name != "" {
			t.calls.Add().Name = name
		}
	case takeInput:
		wire.SetTokens(&t.reply.Usage.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&t.reply.Usage.OutputTokens, v)
	case takeCached:
		wire.SetTokens(&t.reply.Usage.CachedTokens, v)
	case takeReasoning:
		wire.SetTokens(&t.reply.Usage.ReasoningTokens, v)
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) { t.failed = t.failed || id == takeError }

// Close implements wire.Taker.
func (t *taker) Close(llm.Framing, llm.Refusal) []byte { return nil }

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.reply
	r.ToolCalls = t.calls.List()
	if t.failed {
		r.FinishReason = ""
	}
	return r
}
