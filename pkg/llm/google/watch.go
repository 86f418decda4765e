package google

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Watch returns a reader of a response: a stream of events, an array whose elements arrive one by one, the messages of a session, or one JSON
// text. The output tokens of its Reply's Usage include those of reasoning, and the input tokens those of the results of tools, which Google
// counts apart, so that the numbers mean the same as for other providers.
func Watch(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, response, &taker{Gathered: wire.Gather(o)})
}

// The values that are taken.
const (
	takeTurn = wire.TakeOwn + iota
	takeInterrupted
	takeToolPrompt
	takeID
	takeName
	takeArgs
	takeContinues
	takePartial
	endCall
	endServerCall
	endCode
	endText
	endModelTurn
	endToolCall
)

// response is the shape of a response, of a piece of one in a stream, and of a message of a session together.
var response = func() *wire.Shape {
	call := wire.Shapes{
		"id":           wire.Take(takeID),
		"name":         wire.Take(takeName),
		"toolType":     wire.Take(takeName),
		"args":         {Take: takeArgs, Raw: true},
		"partialArgs":  {Take: takePartial, Raw: true},
		"willContinue": wire.Take(takeContinues),
	}
	content := &wire.Shape{Members: wire.Shapes{"parts": {Each: &wire.Shape{Members: wire.Shapes{
		"functionCall":   {End: endCall, Members: call},
		"toolCall":       {End: endServerCall, Members: call},
		"executableCode": {End: endCode, Members: wire.Shapes{"id": wire.Take(takeID), "code": wire.TakeLong(takeArgs)}},
	}}}}}
	root := &wire.Shape{End: endText, Members: wire.Shapes{
		"modelVersion":   wire.Take(wire.TakeModel),
		"candidates":     {Each: &wire.Shape{Members: wire.Shapes{"finishReason": wire.Take(wire.TakeFinish), "content": content}}},
		"promptFeedback": {Members: wire.Shapes{"blockReason": wire.Take(wire.TakeFinish)}},
		"usageMetadata": {Members: wire.Shapes{
			"promptTokenCount":        wire.Take(wire.TakeInput),
			"candidatesTokenCount":    wire.Take(wire.TakeOutput),
			"responseTokenCount":      wire.Take(wire.TakeOutput), // of a session
			"cachedContentTokenCount": wire.Take(wire.TakeCached),
			"thoughtsTokenCount":      wire.Take(wire.TakeReasoning),
			"toolUsePromptTokenCount": wire.Take(takeToolPrompt),
		}},
		"serverContent": {Members: wire.Shapes{
			"modelTurn":           {End: endModelTurn, Members: content.Members},
			"outputTranscription": {End: endModelTurn},
			"turnComplete":        wire.Take(takeTurn),
			"interrupted":         wire.Take(takeInterrupted),
		}},
		"toolCall": {End: endToolCall, Members: wire.Shapes{"functionCalls": {Each: &wire.Shape{End: endCall, Members: call}}}},
		"error":    {End: wire.EndError},
	}}
	// A stream that was not asked for as events is an array, also where nobody said so.
	root.Each = root
	return root
}()

type taker struct {
	wire.Gathered
	tool  int64 // tokens of the results of tools
	texts int   // that have ended

	// Of the call that is being read.
	id, name  string
	args      []byte
	truncated bool
	continues bool

	// Of a session: the model has said something and not yet that this was all; and what the message at hand says of that.
	turn, begins, ends bool

	open int // the number of calls so far where the last of them is continued, else 0
	last int
}

// Take implements wire.Taker.
func (t *taker) Take(id int, v strictjson.Value) {
	if t.Common(id, v) {
		return
	}
	switch id {
	case takeTurn:
		if v.Bool() {
			t.FinishReason = "turnComplete"
			t.ends = true
		}
	case takeInterrupted:
		t.ends = t.ends || v.Bool()
	case takeToolPrompt:
		wire.SetTokens(&t.tool, v)
	case takeID:
		wire.SetString(&t.id, v)
	case takeName:
		wire.SetString(&t.name, v)
	case takeArgs:
		t.truncated = t.truncated || v.Kind() == strictjson.Absent
		t.args = append(t.args[:0], v.Raw()...)
	case takeContinues:
		t.continues = v.Bool()
	case takePartial: // pieces of arguments by their paths, which are not put together
		t.truncated = true
	}
}

// End implements wire.Taker.
func (t *taker) End(id int) {
	switch id {
	case endCall:
		t.call(false)
	case endServerCall:
		t.call(true)
	case endCode:
		t.name = codeExecution
		if !t.truncated {
			t.args = append(append([]byte(`{"code":`), t.args...), '}')
		}
		t.call(true)
	case wire.EndError:
		t.Failed, t.ends = true, true
	case endModelTurn:
		t.begins = true
	case endToolCall:
		// The model goes on when it was answered, or also before: then that is a turn of its own.
		t.begins, t.ends = true, t.ends || t.open == 0
	case endText:
		t.texts++
		t.turn = (t.turn || t.begins) && !t.ends
		t.begins, t.ends = false, false
	}
}

// InTurn implements wire.TurnTaker.
func (t *taker) InTurn() bool { return t.turn }

// call follows the end of a call, or of a piece of one: a piece without a name continues the call before it.
func (t *taker) call(serverSide bool) {
	if t.name == "" && t.open != 0 {
		c := t.Calls.At(t.open)
		c.Truncated = true
		c.Done = !t.continues
	} else {
		if t.open != 0 {
			t.Calls.At(t.open).Done = true
		}
		t.last++
		c := t.Calls.At(t.last)
		c.ID, c.Name, c.ServerSide, c.Truncated, c.Done = t.id, t.name, serverSide, t.truncated || t.continues, !t.continues
		if c.Name == "" {
			c.Name, c.Truncated = wire.Unnamed, true
		}
		if len(t.args) == 0 && !c.Truncated {
			t.args = append(t.args, "{}"...)
		}
		t.Calls.Append(c, t.args)
	}
	t.open = 0
	if t.continues {
		t.open = t.last
	}
	t.id, t.name, t.args, t.truncated, t.continues = "", "", t.args[:0], false, false
}

// Reply implements wire.Taker.
func (t *taker) Reply() llm.Reply {
	r := t.Gathered.Reply()
	r.Usage.InputTokens += t.tool
	r.Usage.OutputTokens += r.Usage.ReasoningTokens
	return r
}

// Close implements wire.Taker. The error object, as an event, an element or a message of its own, is what the SDKs raise.
func (t *taker) Close(f llm.Framing, r llm.Refusal) []byte {
	e := refused(r)
	switch {
	case f != llm.FramingJSONArray:
		return wire.Frame(f, e)
	case t.texts > 0:
		e = append([]byte(","), e...)
	default:
		e = append([]byte("["), e...)
	}
	return append(e, ']')
}
