package openai

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// responseFields are the members of a request for a response, as in the parameters of the official SDKs.
var responseFields = withCompatible(wire.Fields{
	"access_programs":        anObject,
	"background":             aBool,
	"context_management":     aList,
	"conversation":           aStringOrObject,
	"include":                aList,
	"input":                  aStringOrList,
	"instructions":           aString,
	"max_output_tokens":      anInteger,
	"max_tool_calls":         anInteger,
	"metadata":               anObject,
	"model":                  {Kinds: wire.String},
	"moderation":             anObject,
	"parallel_tool_calls":    aBool,
	"previous_response_id":   aString,
	"prompt":                 anObject,
	"prompt_cache_key":       aString,
	"prompt_cache_options":   anObject,
	"prompt_cache_retention": aString,
	"reasoning":              anObject,
	"safety_identifier":      aString,
	"service_tier":           aString,
	"store":                  aBool,
	"stream":                 aBool,
	"stream_options":         anObject,
	"temperature":            aNumber,
	"text":                   anObject,
	"tool_choice":            aStringOrObject,
	"tools":                  aList,
	"top_logprobs":           anInteger,
	"top_p":                  aNumber,
	"truncation":             aString,
	"user":                   aString,
})

// The members of the requests that are made of the same things as one for a response.
var (
	compactFields = wire.Fields{
		"input":                  aStringOrList,
		"instructions":           aString,
		"model":                  {Kinds: wire.String},
		"previous_response_id":   aString,
		"prompt_cache_key":       aString,
		"prompt_cache_options":   anObject,
		"prompt_cache_retention": aString,
		"service_tier":           aString,
	}
	countFields = wire.Fields{
		"conversation":         aStringOrObject,
		"input":                aStringOrList,
		"instructions":         aString,
		"model":                aString,
		"parallel_tool_calls":  aBool,
		"personality":          aString,
		"previous_response_id": aString,
		"reasoning":            anObject,
		"text":                 anObject,
		"tool_choice":          aStringOrObject,
		"tools":                aList,
		"truncation":           aString,
	}
	conversationFields = wire.Fields{"items": aList, "metadata": anObject}
)

// responseRead are the members that response reads.
var responseRead = reads("input", "instructions", "prompt", "tools", "items")

// DecodeResponses reads a request for a response, as Decode does one for a chat completion.
func DecodeResponses(r *llm.Request, lim llm.Limits) *llm.Call { return decode(Responses, r, lim) }

// readResponses reads a request for a response.
func readResponses(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, responseFields, decoder.response)
}

// readCompact reads a request to compact a conversation.
func readCompact(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, compactFields, decoder.response)
}

// readCount reads a request to count the tokens of what would be a request for a response.
func readCount(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, countFields, decoder.items)
}

// readConversation reads a conversation, or items of one, that is to be kept.
func readConversation(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, conversationFields, decoder.items)
}

// response reads the body of a request for a response. The types of its members have been checked.
func (d decoder) response(root strictjson.Value) {
	d.items(root)
	if d.call.Model == "" && root.Get("model").Kind() == strictjson.Absent && root.Get("prompt").Kind() != strictjson.Object {
		d.Missing(root, "model") // a stored prompt names one itself
	}
}

// items reads what all the requests have in common.
func (d decoder) items(root strictjson.Value) {
	d.asides(root, responseRead)
	var model, input, prompt strictjson.Value
	for k, v := range root.Members() {
		switch name := k.Bare(); string(name) {
		case "model":
			model = v
		case "instructions":
			d.instructions(v)
		case "prompt":
			prompt = v
		case "input", "items":
			d.input(input) // should it be there twice
			input = v
		case "stream":
			d.call.Stream = v.Bool()
		case "max_output_tokens":
			d.maxTokens(v)
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.flatTool(t)
			}
		case "previous_response_id", "conversation":
			d.history(v)
		default:
			d.compatible(name, v)
		}
	}
	if model.Kind() != strictjson.Absent {
		d.model(root, model)
	}
	d.prompt(prompt)
	d.input(input)
}

// history reads where the provider has what came before: an id, or an object with one. The API takes one of the two members only.
func (d decoder) history(v strictjson.Value) {
	if v.Kind() == strictjson.Object {
		v = v.Get("id")
	}
	if v.Kind() == strictjson.String {
		d.call.History = string(v.Text())
	}
}

// instructions reads the system prompt.
func (d decoder) instructions(v strictjson.Value) {
	if v.Kind() == strictjson.String {
		d.begin(llm.RoleSystem, v)
		d.text(llm.PartText, v)
	}
}

// prompt reads what is put into a prompt that is stored at the provider: {"id": …, "variables": {…}}.
func (d decoder) prompt(v strictjson.Value) {
	if v.Kind() != strictjson.Object {
		return
	}
	d.begin(llm.RoleUser, v)
	for k, m := range v.Members() {
		if d.Name(k, promptFields) != "variables" {
			d.Silent(m)
			continue
		}
		for k, x := range m.Members() {
			d.Silent(k)
			if x.Kind() == strictjson.String {
				d.text(llm.PartText, x)
			} else {
				d.inputPart(x, llm.Part{Kind: llm.PartText})
			}
		}
	}
}

var promptFields = []string{"variables"}

// input reads what the model is to answer: a text, or a list of items.
func (d decoder) input(v strictjson.Value) {
	switch v.Kind() {
	case strictjson.String:
		d.begin(llm.RoleUser, v)
		d.text(llm.PartText, v)
	case strictjson.Array:
		d.Grow(v.Len())
		for i := range v.Elements() {
			d.item(i)
		}
	}
}

// The members of the messages that a caller sends over a WebSocket for responses.
var responseEvents = map[string]wire.Fields{
	"response.create": with(responseFields, wire.Fields{"type": aString, "generate": aBool, "stream_id": aString}),
	"response.steer":  {"type": aString, "input": aStringOrList, "previous_response_id": aString, "stream_id": aString},
}

// readResponsesSocket reads the handshake of a WebSocket for responses, or a message that the caller sends over it.
func readResponsesSocket(call *llm.Call, r *llm.Request, lim llm.Limits) {
	if r.Method == http.MethodGet {
		wire.NoBody(call, r, lim)
		call.Stream = true
		return
	}
	readEvent(call, r, lim, responseEvents, func(d decoder, kind string, root strictjson.Value) {
		if kind == "response.create" {
			d.response(root)
			d.call.Stream = true
		} else {
			d.items(root)
		}
	})
}

// readEvent reads a message of a WebSocket, which says what it is in its member "type". One of another type than is known is put in sight whole.
func readEvent(call *llm.Call, r *llm.Request, lim llm.Limits, known map[string]wire.Fields, read func(d decoder, kind string, root strictjson.Value)) {
	w := wire.Open(call, r.ContentType, r.Body, lim)
	defer w.Close()
	d := decoder{w, call}
	root := w.Root()
	if root.Kind() != strictjson.Object {
		return
	}
	kind := root.Get("type")
	call.RPCMethod = short(d.Text(kind))
	fields, ok := known[call.RPCMethod]
	if !ok {
		if call.RPCMethod == "" {
			d.Missing(root, "type")
		} else {
			d.Find(llm.FindingUnknownPart, kind, "the type of the message is unknown")
		}
		fields = eventFields
	}
	w.TopLevel(root, fields)
	if !ok {
		d.begin(llm.RoleUser, root)
		d.Unknown(root)
		return
	}
	read(d, call.RPCMethod, root)
}

// eventFields are the members of a message of any type.
var eventFields = wire.Fields{"type": aString, "event_id": aString}
