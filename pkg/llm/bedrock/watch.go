package bedrock

import (
	"maps"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// WatchConverse returns a reader of a response of Converse or ConverseStream. The input tokens of its Reply's Usage include those written to and
// read from the cache, which Bedrock counts apart, so that the numbers mean the same as for other providers.
func WatchConverse(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{Gathered: wire.Gather(o)})
}

// The values that are taken.
const (
	takeCacheWritten = wire.TakeOwn + iota
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
)

// response is the shape of a response of Converse, of the events of ConverseStream, of those events as Nova's models have them, with their names
// about them, and of what other makers' models answer, but for Anthropic's. Each wants its own members; none wants another's of the same name.
var response = func() *wire.Shape {
	usage := wire.Members(wire.Shapes{
		"inputTokens":               wire.Take(wire.TakeInput),
		"outputTokens":              wire.Take(wire.TakeOutput),
		"cacheReadInputTokens":      wire.Take(wire.TakeCached),
		"cacheReadInputTokenCount":  wire.Take(wire.TakeCached),
		"cacheWriteInputTokens":     wire.Take(takeCacheWritten),
		"cacheWriteInputTokenCount": wire.Take(takeCacheWritten),
		"prompt_tokens":             wire.Take(takeMetricInput),
		"completion_tokens":         wire.Take(takeMetricOutput),
		"input_tokens":              wire.Take(takeMetricInput),
		"output_tokens":             wire.Take(takeMetricOutput),
	})
	trace := wire.Members(wire.Shapes{"promptRouter": wire.Members(wire.Shapes{"invokedModelId": wire.TakeLong(wire.TakeModel)})})
	whole := &wire.Shape{End: endTool, Members: wire.Shapes{
		"toolUseId": wire.Take(takeToolID), "name": wire.Take(takeToolName), "type": wire.Take(takeToolType),
		"input": wire.TakeWhole(takeToolInput),
	}}
	start := wire.Members(wire.Shapes{"toolUse": wire.Members(wire.Shapes{"toolUseId": wire.Take(takeToolID), "name": wire.Take(takeToolName), "type": wire.Take(takeToolType)})})
	delta := wire.Members(wire.Shapes{"toolUse": wire.Members(wire.Shapes{"input": wire.TakeLong(takePiece)})})
	event := func(end int) *wire.Shape {
		return &wire.Shape{End: end, Members: wire.Shapes{
			"contentBlockIndex": wire.Take(takeIndex), "start": start, "delta": delta, "stopReason": wire.Take(wire.TakeFinish), "usage": usage, "trace": trace,
		}}
	}
	root := event(endEvent)
	maps.Copy(root.Members, wire.Shapes{
		"output":            wire.Members(wire.Shapes{"message": wire.Members(wire.Shapes{"content": {Each: wire.Members(wire.Shapes{"toolUse": whole})}})}),
		"contentBlockStart": event(endStart),
		"contentBlockDelta": event(endStart),
		"contentBlockStop":  event(endStop),
		"messageStop":       event(endStart),
		"metadata":          event(endStart),
		"model":             wire.TakeLong(wire.TakeModel),
		// Counting tokens.
		"inputTokens": wire.Take(wire.TakeInput),
		// Titan.
		"inputTextTokenCount":       wire.Take(takeMetricInput),
		"totalOutputTextTokenCount": wire.Take(takeMetricOutput),
		"completionReason":          wire.Take(wire.TakeFinish),
		"results":                   {Each: wire.Members(wire.Shapes{"tokenCount": wire.Take(takeMetricOutput), "completionReason": wire.Take(wire.TakeFinish)})},
		// Llama.
		"prompt_token_count":     wire.Take(takeMetricInput),
		"generation_token_count": wire.Take(takeMetricOutput),
		// Mistral, Cohere and those of OpenAI's form.
		"stop_reason":   wire.Take(wire.TakeFinish),
		"finish_reason": wire.Take(wire.TakeFinish),
		"outputs":       {Each: wire.Members(wire.Shapes{"stop_reason": wire.Take(wire.TakeFinish)})},
		"choices":       {Each: wire.Members(wire.Shapes{"stop_reason": wire.Take(wire.TakeFinish), "finish_reason": wire.Take(wire.TakeFinish)})},
		"generations":   {Each: wire.Members(wire.Shapes{"finish_reason": wire.Take(wire.TakeFinish)})},
		// The last chunk of any model's stream.
		"amazon-bedrock-invocationMetrics": wire.Members(wire.Shapes{
			"inputTokenCount": wire.Take(takeMetricInput), "outputTokenCount": wire.Take(takeMetricOutput),
			"cacheReadInputTokenCount": wire.Take(wire.TakeCached), "cacheWriteInputTokenCount": wire.Take(takeCacheWritten),
		}),
	})
	return root
}()

type taker struct {
	wire.Gathered
	written int64     // tokens, to the cache
	metrics llm.Usage // as the metrics of an invocation say

	event string
	open  map[int]bool // the indices of the blocks that are calls of tools

	// Of the event or block that is being read.
	index          int
	id, name, kind string
	input          wire.Piece
}

// EventName implements wire.EventNamer.
func (t *taker) EventName(name string) {
	t.event = name
	t.Failed = t.Failed || strings.HasSuffix(name, "Exception")
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
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
		t.input.SetRaw(v)
	case takePiece:
		t.input.SetText(v)
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch {
	case id == endTool:
		call := t.Calls.Add()
		t.begin(call)
		t.Calls.AppendPiece(call, &t.input)
		call.Done = true
	case id == endStop, id == endEvent && t.event == "contentBlockStop":
		if t.open[t.index] {
			t.Calls.At(t.index).Done = true
		}
	case id == endEvent && t.event == "messageStop":
		t.Calls.Done()
	default:
		if t.name != "" {
			if t.open == nil {
				t.open = map[int]bool{}
			}
			if len(t.open) < maxOpen {
				t.open[t.index] = true
				t.begin(t.Calls.At(t.index))
			}
		}
		if t.input.Found && t.open[t.index] {
			t.Calls.AppendPiece(t.Calls.At(t.index), &t.input)
		}
	}
	t.index, t.id, t.name, t.kind = 0, "", "", ""
	t.input.Reset()
}

// maxOpen is how many calls of tools are followed in one stream.
const maxOpen = 256

func (t *taker) begin(call *llm.ToolCall) {
	call.ID, call.Name, call.ServerSide = t.id, t.name, strings.HasPrefix(t.kind, "server")
}

// Close implements wire.Taker.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte { return end(f, r) }

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.Gathered.Reply()
	// What the metrics of an invocation say leaves out what the cache had, as Bedrock's own usage does.
	r.Usage.InputTokens = max(r.Usage.InputTokens, t.metrics.InputTokens) + r.Usage.CachedTokens + t.written
	r.Usage.OutputTokens = max(r.Usage.OutputTokens, t.metrics.OutputTokens)
	return r
}
