package bedrock

import (
	"encoding/base64"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// WatchInvoke returns a reader of a response of InvokeModel or of its stream, in whose frames are pieces of the model's own stream. The response
// does not say whose form it has, so it is read in all of them, each of which wants its own members: Anthropic's, that of OpenAI's chat
// completions, and those of WatchConverse.
func WatchInvoke(o llm.WatchOptions) llm.Watcher {
	framing := o.Framing
	if framing == llm.FramingNone {
		framing = llm.FramingOf(o.ContentType)
	}
	inner := o
	outer := o
	if framing == llm.FramingEventStream {
		inner.Framing = llm.FramingWebSocket // one text after another, each by one Write
		outer.Arguments = max(o.Arguments, maxChunk)
	}
	forms := several{messages.Watch(inner), completion.Watch(inner), WatchConverse(inner)}
	if framing != llm.FramingEventStream {
		return forms
	}
	return wire.Watch(outer, chunk, &chunkTaker{forms: forms})
}

// maxChunk is the length of the longest piece of a model's stream that is read, in bytes of base64. Anthropic's are of a few
// hundred bytes.
const maxChunk = 64 << 10

// several are watchers of one response in several forms.
type several []llm.Watcher

// Write implements llm.Watcher.
func (s several) Write(p []byte) {
	for _, w := range s {
		w.Write(p)
	}
}

// Reply implements llm.Watcher. What the first form has is right; the forms do not want what belongs to another, but for the
// numbers of tokens, of which the larger one is.
func (s several) Reply() llm.Reply {
	r := s[0].Reply()
	for _, w := range s[1:] {
		other := w.Reply()
		if r.Model == "" {
			r.Model = other.Model
		}
		if r.FinishReason == "" {
			r.FinishReason = other.FinishReason
		}
		r.Usage.InputTokens = max(r.Usage.InputTokens, other.Usage.InputTokens)
		r.Usage.OutputTokens = max(r.Usage.OutputTokens, other.Usage.OutputTokens)
		r.Usage.CachedTokens = max(r.Usage.CachedTokens, other.Usage.CachedTokens)
		r.Usage.ReasoningTokens = max(r.Usage.ReasoningTokens, other.Usage.ReasoningTokens)
		if len(r.ToolCalls) == 0 {
			r.ToolCalls = other.ToolCalls
		}
	}
	if r.FinishReason != "" { // which a form may know by another name
		for i := range r.ToolCalls {
			r.ToolCalls[i].Done = true
		}
	}
	return r
}

// End implements llm.Watcher. A response that is one JSON text has no such form.
func (s several) End(llm.Refusal) []byte { return nil }

// takeChunk is the one value that is taken of a frame.
const takeChunk = wire.TakeOwn

// chunk is the shape of a frame's payload.
var chunk = &wire.Shape{Members: wire.Shapes{"bytes": wire.TakeLong(takeChunk)}}

// chunkTaker hands the pieces of a model's stream, which are in the frames of Bedrock's, to their readers.
type chunkTaker struct {
	forms  several
	text   []byte
	failed bool
}

// EventName implements wire.EventNamer.
func (t *chunkTaker) EventName(name string) {
	t.failed = t.failed || strings.HasSuffix(name, "Exception")
}

// Take implements wire.Taker.
func (t *chunkTaker) Take(_ int, v strictjson.Value) {
	text, err := base64.StdEncoding.AppendDecode(t.text[:0], v.Text())
	t.text = text
	if err == nil && len(text) > 0 {
		t.forms.Write(text)
	}
}

// End implements wire.Taker.
func (t *chunkTaker) End(int) {}

// Reply implements wire.Taker.
func (t *chunkTaker) Reply() llm.Reply {
	r := t.forms.Reply()
	if t.failed {
		r.FinishReason = ""
	}
	return r
}

// Close implements wire.Taker.
func (t *chunkTaker) Close(f llm.Framing, r llm.Refusal) []byte { return end(f, r) }
