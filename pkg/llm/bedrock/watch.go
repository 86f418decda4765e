package bedrock

import (
	"encoding/base64"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// WatchConverse returns a reader of a response of Converse or ConverseStream. The input tokens of its Reply's Usage include those written to and
// read from the cache, which Bedrock counts apart, so that the numbers mean the same as for other providers.
func WatchConverse(o llm.WatchOptions) llm.Watcher {
	t := &taker{}
	t.calls.Keep = o.Arguments
	return wire.Watch(o, response, t)
}

// The values that are taken.
const (
	takeModel = 1 + iota
	takeStop
	takeInput
	takeOutput
	takeCacheRead
	takeCacheWritten
	takeMetricInput
	takeMetricOutput
	takeIndex
	takeToolID
	takeToolName
	takeToolType
	takeToolInput // whole
	takePiece     // of the input
	endTool       // of a whole message
	endStart
	endStop
	endEvent
	takeChunk
)

// response is the shape of a response of Converse, of the events of ConverseStream, of those events as Nova's models have them, with their names
// about them, and of what other makers' models answer, but for Anthropic's. Each wants its own members; none wants another's of the same name.
var response = func() *wire.Shape {
	take := func(id int) *wire.Shape { return &wire.Shape{Take: id} }
	long := func(id int) *wire.Shape { return &wire.Shape{Take: id, Long: true} }
	members := func(m map[string]*wire.Shape) *wire.Shape { return &wire.Shape{Members: m} }
	usage := members(map[string]*wire.Shape{
		"inputTokens":               take(takeInput),
		"outputTokens":              take(takeOutput),
		"cacheReadInputTokens":      take(takeCacheRead),
		"cacheReadInputTokenCount":  take(takeCacheRead),
		"cacheWriteInputTokens":     take(takeCacheWritten),
		"cacheWriteInputTokenCount": take(takeCacheWritten),
		"prompt_tokens":             take(takeMetricInput),
		"completion_tokens":         take(takeMetricOutput),
		"input_tokens":              take(takeMetricInput),
		"output_tokens":             take(takeMetricOutput),
	})
	trace := members(map[string]*wire.Shape{"promptRouter": members(map[string]*wire.Shape{"invokedModelId": long(takeModel)})})
	whole := members(map[string]*wire.Shape{
		"toolUseId": take(takeToolID), "name": take(takeToolName), "type": take(takeToolType),
		"input": {Take: takeToolInput, Long: true, Raw: true},
	})
	whole.End = endTool
	start := map[string]*wire.Shape{"toolUse": members(map[string]*wire.Shape{"toolUseId": take(takeToolID), "name": take(takeToolName), "type": take(takeToolType)})}
	delta := map[string]*wire.Shape{"toolUse": members(map[string]*wire.Shape{"input": long(takePiece)})}
	event := func(end int) *wire.Shape {
		return &wire.Shape{End: end, Members: map[string]*wire.Shape{
			"contentBlockIndex": take(takeIndex), "start": members(start), "delta": members(delta), "stopReason": take(takeStop), "usage": usage, "trace": trace,
		}}
	}
	root := event(endEvent)
	for name, shape := range map[string]*wire.Shape{
		"output":            members(map[string]*wire.Shape{"message": members(map[string]*wire.Shape{"content": {Each: members(map[string]*wire.Shape{"toolUse": whole})}})}),
		"contentBlockStart": event(endStart),
		"contentBlockDelta": event(endStart),
		"contentBlockStop":  event(endStop),
		"messageStop":       event(endStart),
		"metadata":          event(endStart),
		"model":             long(takeModel),
		// Counting tokens.
		"inputTokens": take(takeInput),
		// Titan.
		"inputTextTokenCount":       take(takeMetricInput),
		"totalOutputTextTokenCount": take(takeMetricOutput),
		"completionReason":          take(takeStop),
		"results":                   {Each: members(map[string]*wire.Shape{"tokenCount": take(takeMetricOutput), "completionReason": take(takeStop)})},
		// Llama.
		"prompt_token_count":     take(takeMetricInput),
		"generation_token_count": take(takeMetricOutput),
		// Mistral, Cohere and those of OpenAI's form.
		"stop_reason":   take(takeStop),
		"finish_reason": take(takeStop),
		"outputs":       {Each: members(map[string]*wire.Shape{"stop_reason": take(takeStop)})},
		"choices":       {Each: members(map[string]*wire.Shape{"stop_reason": take(takeStop), "finish_reason": take(takeStop)})},
		"generations":   {Each: members(map[string]*wire.Shape{"finish_reason": take(takeStop)})},
		// The last chunk of any model's stream.
		"amazon-bedrock-invocationMetrics": members(map[string]*wire.Shape{
			"inputTokenCount": take(takeMetricInput), "outputTokenCount": take(takeMetricOutput),
			"cacheReadInputTokenCount": take(takeCacheRead), "cacheWriteInputTokenCount": take(takeCacheWritten),
		}),
	} {
		root.Members[name] = shape
	}
	return root
}()

type taker struct {
	reply              llm.Reply
	calls              wire.Calls
	cacheRead, written int64
	metrics            llm.Usage // as the metrics of an invocation say
	failed             bool

	event string
	open  map[int]bool // the indices of the blocks that are calls of tools

	// Of the event or block that is being read.
	index           int
	id, name, kind  string
	input           []byte
	inputs, noInput bool
}

// EventName implements wire.EventNamer.
func (t *taker) EventName(name string) {
	t.event = name
	t.failed = t.failed || strings.HasSuffix(name, "Exception")
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	switch id {
	case takeModel:
		wire.SetString(&t.reply.Model, v)
	case takeStop:
		wire.SetString(&t.reply.FinishReason, v)
	case takeInput:
		wire.SetTokens(&t.reply.Usage.InputTokens, v)
	case takeOutput:
		wire.SetTokens(&t.reply.Usage.OutputTokens, v)
	case takeCacheRead:
		wire.SetTokens(&t.cacheRead, v)
	case takeCacheWritten:
		wire.SetTokens(&t.written, v)
	case takeMetricInput:
		wire.SetTokens(&t.metrics.InputTokens, v)
	case takeMetricOutput:
		wire.SetTokens(&t.metrics.OutputTokens, v)
	case takeIndex:
		n, _ := v.Int64()
		t.index = int(n)
	case takeToolID:
		wire.SetString(&t.id, v)
	case takeToolName:
		wire.SetString(&t.name, v)
	case takeToolType:
		wire.SetString(&t.kind, v)
	case takeToolInput:
		t.inputs, t.noInput = true, v.Kind() == strictjson.Absent
		t.input = append(t.input[:0], v.Raw()...)
	case takePiece:
		t.inputs, t.noInput = true, v.Kind() == strictjson.Absent
		t.input = append(t.input[:0], v.Text()...)
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch {
	case id == endTool:
		call := t.calls.Add()
		t.begin(call)
		t.add(call)
		call.Done = true
	case id == endStop, id == endEvent && t.event == "contentBlockStop":
		if t.open[t.index] {
			t.calls.At(t.index).Done = true
		}
	case id == endEvent && t.event == "messageStop":
		t.calls.Done()
	default:
		if t.name != "" {
			if t.open == nil {
				t.open = map[int]bool{}
			}
			if len(t.open) < maxOpen {
				t.open[t.index] = true
				t.begin(t.calls.At(t.index))
			}
		}
		if t.inputs && t.open[t.index] {
			t.add(t.calls.At(t.index))
		}
	}
	t.index, t.id, t.name, t.kind, t.inputs, t.noInput = 0, "", "", "", false, false
}

// maxOpen is how many calls of tools are followed in one stream.
const maxOpen = 256

func (t *taker) begin(call *llm.ToolCall) {
	call.ID, call.Name, call.ServerSide = t.id, t.name, strings.HasPrefix(t.kind, "server")
}

// add adds the input that was read to a call.
func (t *taker) add(call *llm.ToolCall) {
	if t.noInput {
		call.Truncated = true
	} else if t.inputs {
		t.calls.Append(call, t.input)
	}
}

// Close implements wire.Taker.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte { return end(f, r) }

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.reply
	// What the metrics of an invocation say leaves out what the cache had, as Bedrock's own usage does.
	r.Usage.InputTokens = max(r.Usage.InputTokens, t.metrics.InputTokens) + t.cacheRead + t.written
	r.Usage.OutputTokens = max(r.Usage.OutputTokens, t.metrics.OutputTokens)
	r.Usage.CachedTokens = t.cacheRead
	r.ToolCalls = t.calls.List()
	if t.failed {
		r.FinishReason = ""
	}
	return r
}

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
	own := &taker{}
	own.calls.Keep = o.Arguments
	forms := several{messages.Watch(inner), completion.Watch(inner), wire.Watch(inner, response, own)}
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

// chunk is the shape of a frame's payload.
var chunk = &wire.Shape{Members: map[string]*wire.Shape{"bytes": {Take: takeChunk, Long: true}}}

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
