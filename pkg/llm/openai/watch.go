package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// The values that the responses of several surfaces have. Others begin at takeOwn.
const (
	takeModel = 1 + iota
	takeInput
	takeOutput
	takeCached
	takeReasoning
	endError
	takeOwn
)

func take(id int) *wire.Shape { return &wire.Shape{Take: id} }
func long(id int) *wire.Shape { return &wire.Shape{Take: id, Long: true} }
func raw(id int) *wire.Shape  { return &wire.Shape{Take: id, Long: true, Raw: true} }

func object(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }

// unnamed is the name of a call whose name is missing or too long to be one, so that it is not passed over.
const unnamed = "unnamed"

// usageShape is the shape of what a response says it cost: on the older surfaces "prompt" and "completion", on the newer ones "input" and "output",
// in realtime "token_details" where the others have "tokens_details".
var usageShape = func() *wire.Shape {
	in := object(map[string]*wire.Shape{"cached_tokens": take(takeCached)})
	out := object(map[string]*wire.Shape{"reasoning_tokens": take(takeReasoning)})
	return object(map[string]*wire.Shape{
		"prompt_tokens":             take(takeInput),
		"completion_tokens":         take(takeOutput),
		"prompt_tokens_details":     in,
		"completion_tokens_details": out,
		"prompt_cache_hit_tokens":   take(takeCached), // DeepSeek

		"input_tokens":          take(takeInput),
		"output_tokens":         take(takeOutput),
		"input_tokens_details":  in,
		"output_tokens_details": out,
		"input_token_details":   in,
		"output_token_details":  out,
	})
}()

// tokens takes a value of usageShape and reports whether it is one.
func tokens(u *llm.Usage, id int, v strictjson.Value) bool {
	switch id {
	case takeInput:
		wire.SetTokens(&u.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&u.OutputTokens, v)
	case takeCached:
		wire.SetTokens(&u.CachedTokens, v)
	case takeReasoning:
		wire.SetTokens(&u.ReasoningTokens, v)
	default:
		return false
	}
	return true
}

// WatchUsage returns a reader of a response in which only the model and the tokens are of interest: embeddings, images, speech, transcriptions.
func WatchUsage(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, usageResponse, &usageTaker{})
}

// usageResponse is the shape of such a response, and of the events of such a stream.
var usageResponse = object(map[string]*wire.Shape{"model": take(takeModel), "usage": usageShape, "error": {End: endError}})

type usageTaker struct{ reply llm.Reply }

// Take implements wire.Taker.
func (t *usageTaker) Take(id int, v strictjson.Value) {
	if !tokens(&t.reply.Usage, id, v) && id == takeModel {
		wire.SetString(&t.reply.Model, v)
	}
}

// End implements wire.Taker.
func (*usageTaker) End(int) {}

// Reply implements wire.Taker.
func (t *usageTaker) Reply() llm.Reply { return t.reply }

// Close implements wire.Taker.
func (*usageTaker) Close(f llm.Framing, r llm.Refusal) []byte { return closeChunks(f, r) }

// closeChunks ends a stream of events that have no names: with an error, which the official SDKs raise, and with the event that ends such a
// stream, for those that do not look for one.
func closeChunks(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingSSE {
		return nil
	}
	b := append([]byte("data: "), wire.Encode(refusalOf(r))...)
	return append(b, "\n\ndata: [DONE]\n\n"...)
}
