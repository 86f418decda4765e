package openai

import (
	"bytes"
	"cmp"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// WatchResponses returns a reader of a response: a stream of events, the messages of a WebSocket, or one JSON text. The tokens of all responses that
// go over a WebSocket are added up.
func WatchResponses(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, eventResponse, &eventTaker{Gathered: wire.Gather(o), refuse: RefuseResponsesMessage, answered: o.Answered})
}

// WatchRealtime returns a reader of the messages that the provider sends over a realtime WebSocket. The tokens of all its responses are added up.
func WatchRealtime(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, eventResponse, &eventTaker{Gathered: wire.Gather(o), refuse: RefuseRealtimeMessage, realtime: true})
}

// WatchTranslations returns a reader of what goes on all the time and is no responses, one after another. It is no llm.TurnWatcher.
func WatchTranslations(o llm.WatchOptions) llm.Watcher {
	return wire.Watch(o, eventResponse, struct{ wire.Taker }{&eventTaker{Gathered: wire.Gather(o), refuse: RefuseRealtimeMessage, realtime: true}})
}

// The values that are taken of a response and of the events of one.
const (
	takeType = wire.TakeOwn + iota
	takeSequence
	takeScope
	takeResponse
	takeOutputIndex
	takeStatus
	takeReason
	takeDelta
	takeArguments
	takeEventName
	takeItemType
	takeItemID
	takeItemCallID
	takeItemName
	takeItemArguments
	takeItemExecution
	endItem
	endEvent
)

// eventResponse is the shape of a response and of the events of a stream together: some events have a response within, some an item,
// the others pieces of one.
var eventResponse = func() *wire.Shape {
	item := &wire.Shape{End: endItem, Members: wire.Shapes{
		"type":      wire.Take(takeItemType),
		"id":        wire.Take(takeItemID),
		"call_id":   wire.Take(takeItemCallID),
		"name":      wire.Take(takeItemName),
		"execution": wire.Take(takeItemExecution),
		// What the several kinds of calls have for arguments.
		"arguments": wire.TakeWhole(takeItemArguments),
		"input":     wire.TakeWhole(takeItemArguments),
		"action":    wire.TakeWhole(takeItemArguments),
		"actions":   wire.TakeWhole(takeItemArguments),
		"operation": wire.TakeWhole(takeItemArguments),
		"queries":   wire.TakeWhole(takeItemArguments),
		"code":      wire.TakeLong(takeItemArguments),
	}}
	response := wire.Shapes{
		"id":                 wire.Take(takeResponse),
		"model":              wire.Take(wire.TakeModel),
		"status":             wire.Take(takeStatus),
		"incomplete_details": wire.Members(wire.Shapes{"reason": wire.Take(takeReason)}),
		"usage":              usageShape,
		"output":             {Each: item},
	}
	return &wire.Shape{End: endEvent, Members: wire.Shapes{
		"type":            wire.Take(takeType),
		"sequence_number": wire.Take(takeSequence),
		"stream_id":       wire.Take(takeScope),
		"response_id":     wire.Take(takeResponse),
		"output_index":    wire.Take(takeOutputIndex),
		"delta":           wire.TakeLong(takeDelta),
		"arguments":       wire.TakeLong(takeArguments),
		"input":           wire.TakeLong(takeArguments),
		"name":            wire.Take(takeEventName),
		"item":            item,
		"response":        wire.Members(response),
		"session":         wire.Members(wire.Shapes{"model": wire.Take(wire.TakeModel)}),
		"error":           {End: wire.EndError},

		// A whole response has no type.
		"id":                 response["id"],
		"model":              response["model"],
		"status":             response["status"],
		"incomplete_details": response["incomplete_details"],
		"usage":              usageShape,
		"output":             response["output"],
	}}
}()

// callKind says how an item that is a call of a tool is shown.
type callKind struct {
	name   string // the name of the tool, where the item has none
	server bool   // the provider carries it out
}

// callKinds are the items of a response that are calls.
var callKinds = map[string]callKind{
	"function_call":         {},
	"custom_tool_call":      {},
	"computer_call":         {name: "computer"},
	"local_shell_call":      {name: "local_shell"},
	"shell_call":            {name: "shell"},
	"apply_patch_call":      {name: "apply_patch"},
	"mcp_call":              {server: true},
	"mcp_approval_request":  {server: true},
	"web_search_call":       {name: "web_search", server: true},
	"file_search_call":      {name: "file_search", server: true},
	"code_interpreter_call": {name: "code_interpreter", server: true},
	"image_generation_call": {name: "image_generation", server: true},
	"tool_search_call":      {name: "tool_search", server: true},
	"program":               {name: "program", server: true},
}

// responseItem is what a response or an event says of an item.
type responseItem struct {
	kind, id, callID, name string
	execution              string
	arguments              []byte
	said, long             bool // the arguments are there; they are longer than is kept
}

// responseEvent is one event, or a whole response.
type responseEvent struct {
	kind                 string
	scope, response      string // what the event belongs to, on a WebSocket
	index                int64
	status, reason, name string
	delta, arguments     []byte
	longDelta, longArgs  bool
	items                []responseItem
	usage                llm.Usage
	failed               bool
}

type eventTaker struct {
	refuse   func(llm.Refusal) []byte
	realtime bool
	answered func(id string) // nil where nobody wants to know

	wire.Gathered
	event    responseEvent
	item     responseItem
	sequence int64
	// scopes number the responses that are under way, of which a WebSocket can have several.
	scopes map[string]int
	next   int
	// open are the responses that have begun and not ended.
	open map[string]bool
}

// maxScopes is how many responses of one WebSocket are told apart at a time.
const maxScopes = 256

// maxItems is how many items of one response are looked at.
const maxItems = 4096

// Take implements wire.Taker.
func (t *eventTaker) Take(id int, v strictjson.Value) {
	e, i := &t.event, &t.item
	if wire.TakeUsage(&e.usage, id, v) {
		return
	}
	switch id {
	case wire.TakeModel:
		wire.SetString(&t.Model, v)
	case takeType:
		e.kind = string(v.Text())
	case takeSequence:
		if n, ok := v.Int64(); ok {
			t.sequence = max(t.sequence, n)
		}
	case takeScope:
		e.scope = string(v.Text())
	case takeResponse:
		e.response = string(v.Text())
	case takeOutputIndex:
		e.index, _ = v.Int64()
	case takeStatus:
		e.status = string(v.Text())
	case takeReason:
		e.reason = string(v.Text())
	case takeEventName:
		e.name = string(v.Text())
	case takeDelta:
		e.delta, e.longDelta = append(e.delta[:0], v.Text()...), v.Kind() == strictjson.Absent
	case takeArguments:
		e.arguments, e.longArgs = append(e.arguments[:0], v.Text()...), v.Kind() == strictjson.Absent
	case takeItemType:
		i.kind = string(v.Text())
	case takeItemID:
		i.id = string(v.Text())
	case takeItemCallID:
		i.callID = string(v.Text())
	case takeItemName:
		i.name = string(v.Text())
	case takeItemExecution:
		i.execution = string(v.Text())
	case takeItemArguments:
		switch v.Kind() {
		case strictjson.Absent:
			i.long = true
		case strictjson.Null:
			return
		case strictjson.String:
			i.arguments = append(i.arguments, v.Text()...)
		default:
			i.arguments = append(i.arguments, v.Raw()...)
		}
		i.said = true
	}
}

// End implements wire.Taker.
func (t *eventTaker) End(id int) {
	switch id {
	case wire.EndError:
		t.event.failed = true
	case endItem:
		if len(t.event.items) < maxItems {
			t.event.items = append(t.event.items, t.item)
		}
		t.item = responseItem{}
	case endEvent:
		if t.answered != nil && t.event.response != "" {
			t.answered(t.event.response)
		}
		t.take(&t.event)
		t.turn(&t.event)
		t.event = responseEvent{delta: t.event.delta[:0], arguments: t.event.arguments[:0], items: t.event.items[:0]}
		t.item = responseItem{}
	}
}

// take reads an event, all members of which are there.
func (t *eventTaker) take(e *responseEvent) {
	switch e.kind {
	case "response.output_item.added":
		for i := range e.items {
			t.call(t.key(e, e.index), &e.items[i], false)
		}
	case "response.output_item.done":
		for i := range e.items {
			t.call(t.key(e, e.index), &e.items[i], true)
		}
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta", "response.mcp_call_arguments.delta":
		call := t.Calls.At(t.key(e, e.index))
		if call.Done || e.longDelta {
			call.Truncated = true
		}
		call.Name = cmp.Or(call.Name, wire.Unnamed)
		t.Calls.Append(call, e.delta)
	case "response.function_call_arguments.done", "response.custom_tool_call_input.done", "response.mcp_call_arguments.done":
		call := t.Calls.At(t.key(e, e.index))
		if call.Name == "" || call.Name == wire.Unnamed {
			call.Name = cmp.Or(e.name, wire.Unnamed)
		}
		t.complete(call, e.arguments, e.longArgs)
	case "response.completed", "response.done", "response.incomplete", "response.failed", "":
		for i := range e.items {
			t.call(t.key(e, int64(i)), &e.items[i], true)
		}
		t.ended(e)
	case "conversation.item.input_audio_transcription.completed":
		t.spend(e.usage)
	case "error":
		t.FinishReason = ""
	}
}

// turn notes of which responses there is more to come. What is said of a response is a part of it, whether its beginning was seen or not.
func (t *eventTaker) turn(e *responseEvent) {
	scope := t.scope(e)
	switch e.kind {
	case "response.completed", "response.done", "response.incomplete", "response.failed":
		delete(t.open, scope)
	case "error":
		if !t.realtime { // there it is about something that the caller has said
			delete(t.open, scope)
		}
	default:
		if !strings.HasPrefix(e.kind, "response.") {
			return
		}
		if t.open == nil {
			t.open = map[string]bool{}
		}
		if len(t.open) < maxScopes {
			t.open[scope] = true
		} else {
			t.open[manyScopes] = true // its end is not told apart
		}
	}
}

// manyScopes stands for the responses that are too many to be told apart.
const manyScopes = "\x00"

// InTurn implements wire.TurnTaker.
func (t *eventTaker) InTurn() bool { return len(t.open) > 0 }

// key returns the key of the call that is an item of the event's response.
func (t *eventTaker) key(e *responseEvent, index int64) int {
	scope := t.scope(e)
	n, ok := t.scopes[scope]
	if !ok {
		if t.scopes == nil || len(t.scopes) >= maxScopes {
			t.scopes = map[string]int{}
		}
		n = t.next
		t.next++
		t.scopes[scope] = n
	}
	return n<<20 | int(index&(1<<20-1))
}

// scope returns what tells an event's response from others that are under way.
func (t *eventTaker) scope(e *responseEvent) string {
	if t.realtime {
		return e.response
	}
	return e.scope
}

// call reads an item that may be a call.
func (t *eventTaker) call(key int, i *responseItem, done bool) {
	kind, ok := callKinds[i.kind]
	if !ok {
		return
	}
	call := t.Calls.At(key)
	name := cmp.Or(i.name, kind.name, wire.Unnamed)
	if call.Done && call.Name != name {
		call.Truncated = true // what was judged was another call
	}
	call.Name = name
	call.ID = cmp.Or(i.callID, i.id)
	call.ServerSide = kind.server && i.execution != "client"
	if done {
		t.complete(call, i.arguments, i.long)
		call.Done, call.Truncated = true, call.Truncated || call.Name == wire.Unnamed
	}
}

// complete gives a call its arguments as a whole. Those that came in pieces before are the same, or the call cannot be judged.
func (t *eventTaker) complete(call *llm.ToolCall, arguments []byte, long bool) {
	switch {
	case long:
		call.Truncated = true
	case len(call.Arguments) > 0 || call.Done:
		call.Truncated = call.Truncated || !bytes.Equal(call.Arguments, arguments)
	default:
		t.Calls.Append(call, arguments)
	}
	call.Done = call.Name != wire.Unnamed // whose name is still to come is still to be judged
}

// ended reads the end of a response.
func (t *eventTaker) ended(e *responseEvent) {
	t.spend(e.usage)
	switch e.status {
	case "completed":
		t.FinishReason = e.status
	case "incomplete":
		t.FinishReason = cmp.Or(e.reason, e.status)
	default:
		t.FinishReason = ""
	}
	delete(t.scopes, t.scope(e))
}

// spend adds what a response cost.
func (t *eventTaker) spend(u llm.Usage) {
	sum := &t.Usage
	sum.InputTokens += u.InputTokens
	sum.OutputTokens += u.OutputTokens
	sum.CachedTokens += u.CachedTokens
	sum.ReasoningTokens += u.ReasoningTokens
}

// Close implements wire.Taker.
func (t *eventTaker) Close(f llm.Framing, r llm.Refusal) []byte {
	switch f {
	case llm.FramingSSE:
		return refuseStream(r, t.sequence+1)
	case llm.FramingWebSocket:
		return t.refuse(r)
	}
	return nil
}
