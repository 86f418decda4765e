package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// usageShape is the shape of what a response says it cost: on the older surfaces "prompt" and "completion", on the newer ones "input" and "output",
// in realtime "token_details" where the others have "tokens_details".
var usageShape = func() *wire.Shape {
	in := wire.Members(wire.Shapes{"cached_tokens": wire.Take(wire.TakeCached)})
	out := wire.Members(wire.Shapes{"reasoning_tokens": wire.Take(wire.TakeReasoning)})
	return wire.Members(wire.Shapes{
		"prompt_tokens":             wire.Take(wire.TakeInput),
		"completion_tokens":         wire.Take(wire.TakeOutput),
		"prompt_tokens_details":     in,
		"completion_tokens_details": out,
		"prompt_cache_hit_tokens":   wire.Take(wire.TakeCached), // DeepSeek

		"input_tokens":          wire.Take(wire.TakeInput),
		"output_tokens":         wire.Take(wire.TakeOutput),
		"input_tokens_details":  in,
		"output_tokens_details": out,
		"input_token_details":   in,
		"output_token_details":  out,
	})
}()

// WatchUsage returns a reader of a response in which only the model and the tokens are of interest: embeddings, images, speech, transcriptions.
func WatchUsage(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, usageResponse, &usageTaker{wire.Gather(o)})
}

// usageResponse is the shape of such a response, and of the events of such a stream.
var usageResponse = wire.Members(wire.Shapes{"model": wire.Take(wire.TakeModel), "usage": usageShape, "error": {End: wire.EndError}})

type usageTaker struct{ wire.Gathered }

// Take implements wire.Taker.
func (t *usageTaker) Take(id int, v strictjson.Value) { t.Common(id, v) }

// End implements wire.Taker.
func (*usageTaker) End(int) {}

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
