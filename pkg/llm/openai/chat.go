package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// chatFields are the members of the request, as in the parameters of the official SDKs. null is as good as absent for all but two.
var chatFields = withCompatible(wire.Fields{
	"audio":                  anObject,
	"frequency_penalty":      aNumber,
	"function_call":          aStringOrObject,
	"functions":              aList,
	"logit_bias":             anObject,
	"logprobs":               aBool,
	"max_completion_tokens":  anInteger,
	"max_tokens":             anInteger,
	"messages":               {Kinds: wire.Array},
	"metadata":               anObject,
	"modalities":             aList,
	"model":                  {Kinds: wire.String},
	"moderation":             anObject,
	"n":                      anInteger,
	"parallel_tool_calls":    aBool,
	"prediction":             anObject,
	"presence_penalty":       aNumber,
	"prompt_cache_key":       aString,
	"prompt_cache_options":   anObject,
	"prompt_cache_retention": aString,
	"reasoning_effort":       aString,
	"response_format":        anObject,
	"safety_identifier":      aString,
	"seed":                   anInteger,
	"service_tier":           aString,
	"stop":                   aStringOrList,
	"store":                  aBool,
	"stream":                 aBool,
	"stream_options":         anObject,
	"temperature":            aNumber,
	"tool_choice":            aStringOrObject,
	"tools":                  aList,
	"top_logprobs":           anInteger,
	"top_p":                  aNumber,
	"user":                   aString,
	"verbosity":              aString,
	"web_search_options":     anObject,
})

// Decode reads a chat completions request. It never fails: what is wrong with the body is among the call's findings. The call
// may refer to the body, which must not change as long as the call is used.
func Decode(r *llm.Request, lim llm.Limits) *llm.Call { return decode(ChatCompletions, r, lim) }

// readChat reads a chat completions request.
func readChat(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, chatFields, decoder.chat)
}

// chatRead are the members that chat reads.
var chatRead = reads("functions", "messages", "tools")

// chat reads the body. The types of its members have been checked.
func (d decoder) chat(root strictjson.Value) {
	var model, messages strictjson.Value
	d.asides(root, chatRead)
	for k, v := range root.Members() {
		switch name := k.Bare(); string(name) {
		case "model":
			model = v
		case "messages":
			messages = v
			d.Grow(v.Len())
			for m := range v.Elements() {
				d.message(m)
			}
		case "stream":
			d.call.Stream = v.Bool()
		case "max_tokens", "max_completion_tokens":
			d.maxTokens(v)
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.chatTool(t)
			}
		case "functions":
			for f := range v.Elements() {
				d.function(f)
			}
		case "web_search_options":
			if v.Kind() == strictjson.Object {
				d.call.Tools = append(d.call.Tools, llm.Tool{Name: "web_search", Type: "web_search", ServerSide: true, Class: llm.ServerToolWebSearch, Digest: d.Digest(v, cacheMarkers...)})
			}
		default:
			d.compatible(name, v)
		}
	}
	d.model(root, model)
	if messages.Kind() == strictjson.Absent {
		d.Missing(root, "messages")
	}
}

// function reads one of functions, the older form of tools.
func (d decoder) function(v strictjson.Value) {
	if d.Want(v, wire.Object) {
		d.call.Tools = append(d.call.Tools, llm.Tool{Name: d.named(v), Type: "function", Digest: d.Digest(v, cacheMarkers...)})
	}
}

var messageFields = []string{"role", "content", "tool_calls", "tool_call_id", "name", "function_call", "refusal", "audio", "reasoning_content", "reasoning", "reasoning_details", "prefix"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	d.begin("", v)
	if !d.Want(v, wire.Object) {
		return
	}
	var role, content, calls, id, name, function strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			role = m
		case "content":
			content = m
		case "tool_calls":
			calls = m
		case "tool_call_id":
			id = m
		case "name":
			name = m
			d.Silent(m)
		case "function_call":
			function = m
		case "refusal":
			d.text(llm.PartText, m)
		case "audio": // of an assistant message: the id of an earlier answer in sound
			if d.Want(m, wire.Object|wire.Null) && m.Kind() == strictjson.Object {
				d.Part(llm.Part{Kind: llm.PartAudio})
				d.Silent(m)
			}
		case "reasoning_content", "reasoning":
			if m.Kind() == strictjson.String {
				d.text(llm.PartReasoning, m)
			} else if m.Kind() != strictjson.Null {
				d.Unknown(m)
			}
		case "reasoning_details": // OpenRouter's: of an assistant message, what it returned before
			if d.Want(m, wire.Array|wire.Null) {
				for r := range m.Elements() {
					d.reasoning(r)
				}
			}
		case "prefix": // Mistral's and DeepSeek's: the answer is to begin with the message
			d.Want(m, wire.Bool|wire.Null)
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	switch d.role(v, role) {
	case llm.RoleTool:
		part := llm.Part{Kind: llm.PartToolResult, ToolCallID: d.Str(id)}
		if role.Is("function") {
			part.ToolName = d.Str(name)
		}
		d.content(content, part)
	default:
		d.content(content, llm.Part{Kind: llm.PartText})
	}
	if d.Want(calls, wire.Array|wire.Null) {
		for c := range calls.Elements() {
			d.toolCall(c)
		}
	}
	if d.Want(function, wire.Object|wire.Null) && function.Kind() == strictjson.Object {
		d.Part(d.called(function, llm.Part{Kind: llm.PartToolCall}))
	}
}

// content reads a message's content, a string or a list of parts. The text in it becomes parts like of.
func (d decoder) content(v strictjson.Value, of llm.Part) {
	d.Want(v, wire.String|wire.Array|wire.Null)
	switch v.Kind() {
	case strictjson.String:
		of.Text = d.Text(v)
		d.Part(of)
	case strictjson.Array:
		for p := range v.Elements() {
			d.part(p, of)
		}
	}
}

// The members of a content part. Those from partText to partVideo hold what a part of one type is of, the others nothing.
const (
	partType = iota
	partText
	partImage
	partAudio
	partFile
	partRefusal
	partDocument // this and the next are Mistral's
	partThinking
	partReferences
	partVideo // OpenRouter's
	partMarker
	partCacheControl
	partDocumentName
	partMembers
)

var partFields = []string{"type", "text", "image_url", "input_audio", "file", "refusal",
	"document_url", "thinking", "reference_ids", "video_url", // Mistral, and OpenRouter
	cacheMarker, cacheControl, "document_name"}

// part reads one part of a message's content.
func (d decoder) part(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var members [partMembers]strictjson.Value
	for k, m := range v.Members() {
		if i := d.Member(k, partFields); i >= 0 {
			members[i] = m
		} else {
			d.Unknown(m)
		}
	}
	var used int
	switch kind := members[partType]; {
	case kind.Is("text"):
		used = partText
		of.Text = d.Text(members[used])
		d.Part(of)
	case kind.Is("refusal"):
		used = partRefusal
		d.text(llm.PartText, members[used])
	case kind.Is("image_url"):
		used = partImage
		d.place(llm.PartImage, members[used])
	case kind.Is("input_audio"):
		used = partAudio
		d.audio(members[used])
	case kind.Is("file"):
		used = partFile
		d.file(members[used])
	case kind.Is("document_url"):
		used = partDocument
		d.place(llm.PartFile, members[used])
	case kind.Is("thinking"):
		used = partThinking
		d.content(members[used], llm.Part{Kind: llm.PartReasoning})
	case kind.Is("reference"):
		used = partReferences
		d.Silent(members[used])
	case kind.Is("video_url"):
		used = partVideo
		d.place(llm.PartFile, members[used])
	default:
		d.Find(llm.FindingUnknownPart, v, "the kind of the part is unknown")
		d.Unknown(v)
		return
	}
	// What belongs to another kind of part is not out of sight either.
	for i := partText; i <= partVideo; i++ {
		if m := members[i]; i != used && m.Kind() != strictjson.Absent && m.Kind() != strictjson.Null {
			d.Unknown(m)
		}
	}
	for _, m := range members[partMarker:] {
		d.Silent(m)
	}
}

var reasoningFields = []string{"type", "text", "summary", "data", "signature", "id", "format", "index"}

// reasoning reads one of reasoning_details.
func (d decoder) reasoning(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, reasoningFields) {
		case "text", "summary":
			d.text(llm.PartReasoning, m)
		case "data", "signature": // of any length; the model's provider made and checks it
			if text := d.Text(m); len(text) > 0 {
				d.Part(llm.Part{Kind: llm.PartReasoning, Bytes: len(text)})
			}
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
}

var placeFields = []string{"url", "detail"}

// place reads where an attachment is: {"url": …}, or, as Mistral has it, the URL itself.
func (d decoder) place(kind llm.PartKind, v strictjson.Value) {
	p := llm.Part{Kind: kind}
	switch {
	case v.Kind() == strictjson.String:
		d.fetch(&p, v)
	case !d.Want(v, wire.Object|wire.String):
		d.Unknown(v)
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, placeFields) {
		case "url":
			d.fetch(&p, m)
		case "detail":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var audioFields = []string{"data", "format"}

func (d decoder) audio(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartAudio}
	for k, m := range v.Members() {
		switch d.Name(k, audioFields) {
		case "data":
			p.Bytes = len(d.Text(m))
		case "format":
			p.MediaType = "audio/" + d.Str(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var fileFields = []string{"file_data", "file_id", "filename"}

func (d decoder) file(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartFile}
	for k, m := range v.Members() {
		switch d.Name(k, fileFields) {
		case "file_data":
			d.data(&p, m)
		case "file_id", "filename":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var callFields = []string{"id", "type", "function", "custom", "index"}

// toolCall reads one of an assistant message's tool_calls.
func (d decoder) toolCall(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartToolCall}
	var called strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, callFields) {
		case "id":
			p.ToolCallID = d.Str(m)
		case "type":
			if kind := d.Text(m); len(kind) > 0 && string(kind) != "function" && string(kind) != "custom" {
				d.Find(llm.FindingUnknownPart, m, "the kind of the tool call is unknown")
			}
		case "function", "custom":
			if called.Kind() != strictjson.Absent {
				d.Unknown(called)
			}
			called = m
		case "":
			d.Unknown(m)
		}
	}
	if !d.Want(called, wire.Object) {
		d.Missing(v, "function")
	}
	d.Part(d.called(called, p))
}

var calledFields = []string{"name", "arguments", "input"}

// called reads what is called and with what: {"name": …, "arguments": "{…}"}, or "input" for a custom tool.
func (d decoder) called(v strictjson.Value, p llm.Part) llm.Part {
	for k, m := range v.Members() {
		switch d.Name(k, calledFields) {
		case "name":
			p.ToolName = d.Str(m)
		case "arguments", "input":
			p.Text = d.Text(m)
		default:
			d.Unknown(m)
		}
	}
	return p
}
