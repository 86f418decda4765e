package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "openai"

// cacheMarker is the member of a content part that marks a place to cache up to.
const cacheMarker = "prompt_cache_breakpoint"

// fields are the members of the request, as in the parameters of the official SDKs. null is as good as absent for all but two.
var fields = wire.Fields{
	"audio":                  {Kinds: wire.Object | wire.Null},
	"frequency_penalty":      {Kinds: wire.Number | wire.Null},
	"function_call":          {Kinds: wire.String | wire.Object | wire.Null},
	"functions":              {Kinds: wire.Array | wire.Null},
	"logit_bias":             {Kinds: wire.Object | wire.Null},
	"logprobs":               {Kinds: wire.Bool | wire.Null},
	"max_completion_tokens":  {Kinds: wire.Number | wire.Null, Integer: true},
	"max_tokens":             {Kinds: wire.Number | wire.Null, Integer: true},
	"messages":               {Kinds: wire.Array},
	"metadata":               {Kinds: wire.Object | wire.Null},
	"modalities":             {Kinds: wire.Array | wire.Null},
	"model":                  {Kinds: wire.String},
	"moderation":             {Kinds: wire.Object | wire.Null},
	"n":                      {Kinds: wire.Number | wire.Null, Integer: true},
	"parallel_tool_calls":    {Kinds: wire.Bool | wire.Null},
	"prediction":             {Kinds: wire.Object | wire.Null},
	"presence_penalty":       {Kinds: wire.Number | wire.Null},
	"prompt_cache_key":       {Kinds: wire.String | wire.Null},
	"prompt_cache_options":   {Kinds: wire.Object | wire.Null},
	"prompt_cache_retention": {Kinds: wire.String | wire.Null},
	"reasoning_effort":       {Kinds: wire.String | wire.Null},
	"response_format":        {Kinds: wire.Object | wire.Null},
	"safety_identifier":      {Kinds: wire.String | wire.Null},
	"seed":                   {Kinds: wire.Number | wire.Null, Integer: true},
	"service_tier":           {Kinds: wire.String | wire.Null},
	"stop":                   {Kinds: wire.String | wire.Array | wire.Null},
	"store":                  {Kinds: wire.Bool | wire.Null},
	"stream":                 {Kinds: wire.Bool | wire.Null},
	"stream_options":         {Kinds: wire.Object | wire.Null},
	"temperature":            {Kinds: wire.Number | wire.Null},
	"tool_choice":            {Kinds: wire.String | wire.Object | wire.Null},
	"tools":                  {Kinds: wire.Array | wire.Null},
	"top_logprobs":           {Kinds: wire.Number | wire.Null, Integer: true},
	"top_p":                  {Kinds: wire.Number | wire.Null},
	"user":                   {Kinds: wire.String | wire.Null},
	"verbosity":              {Kinds: wire.String | wire.Null},
	"web_search_options":     {Kinds: wire.Object | wire.Null},
}

// Decode reads the body of a chat completions request. It never fails: what is wrong with the body is among the call's findings. The call
// may refer to the body, which must not change as long as the call is used.
func Decode(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: ChatCompletions, Class: llm.ClassModel, Operation: llm.OperationChat}
	r := wire.Open(call, req.ContentType, req.Body, lim)
	defer r.Close()
	d := decoder{r, call}
	root := r.Root()
	if root.Kind() != strictjson.Object {
		return call
	}
	r.TopLevel(root, fields)
	d.request(root)
	return call
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// request reads the body. The types of its members have been checked.
func (d decoder) request(root strictjson.Value) {
	var model, messages bool
	for k, v := range root.Members() {
		switch name := k.Raw(); string(name[1 : len(name)-1]) {
		case "model":
			model = true
			d.call.Model = string(v.Text())
		case "messages":
			messages = true
			d.Grow(v.Len())
			for m := range v.Elements() {
				d.message(m)
			}
		case "stream":
			d.call.Stream = v.Bool()
		case "max_tokens", "max_completion_tokens":
			if n, ok := v.Int64(); ok && (d.call.MaxTokens == nil || *d.call.MaxTokens < n) {
				d.call.MaxTokens = &n
			}
		case "temperature":
			if f, ok := v.Float64(); ok {
				d.call.Temperature = &f
			}
		case "tools":
			for t := range v.Elements() {
				d.tool(t)
			}
		case "functions":
			for f := range v.Elements() {
				d.function(f)
			}
		case "web_search_options":
			if v.Kind() == strictjson.Object {
				d.call.Tools = append(d.call.Tools, llm.Tool{Name: "web_search", Type: "web_search", ServerSide: true, Digest: d.Digest(v, cacheMarker)})
			}
		}
	}
	if !model {
		d.Missing(root, "model")
	}
	if !messages {
		d.Missing(root, "messages")
	}
}

var toolFields = []string{"type", "function", "custom"}

// tool reads one of tools: {"type": "function", "function": {"name": …}}.
func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Digest: d.Digest(v, cacheMarker)}
	var definition strictjson.Value
	for k, m := range v.Members() {
		switch d.Member(k, toolFields) {
		case 0:
			t.Type = d.Str(m)
		case 1, 2:
			definition = m
		}
	}
	switch t.Type {
	case "":
		d.Missing(v, "type")
	case "function", "custom":
		// Both are for the caller to carry out.
		if !d.Want(definition, wire.Object) {
			d.Missing(v, t.Type)
			break
		}
		t.Name = d.named(definition)
		t.Type = "function"
	default:
		t.ServerSide = true
		t.Name = t.Type
	}
	d.call.Tools = append(d.call.Tools, t)
}

// function reads one of functions, the older form of tools.
func (d decoder) function(v strictjson.Value) {
	if d.Want(v, wire.Object) {
		d.call.Tools = append(d.call.Tools, llm.Tool{Name: d.named(v), Type: "function", Digest: d.Digest(v, cacheMarker)})
	}
}

var nameField = []string{"name"}

func (d decoder) named(v strictjson.Value) (name string) {
	for k, m := range v.Members() {
		if d.Member(k, nameField) == 0 {
			name = d.Str(m)
		}
	}
	if name == "" {
		d.Missing(v, "name")
	}
	return name
}

var messageFields = []string{"role", "content", "tool_calls", "tool_call_id", "name", "function_call", "refusal", "audio", "reasoning_content", "reasoning"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	d.Begin(llm.Message{Digest: d.Digest(v, cacheMarker), Bytes: len(v.Raw())})
	if !d.Want(v, wire.Object) {
		return
	}
	var role, content, calls, id, name, function strictjson.Value
	for k, m := range v.Members() {
		switch d.Member(k, messageFields) {
		case 0:
			role = m
		case 1:
			content = m
		case 2:
			calls = m
		case 3:
			id = m
		case 4:
			name = m
			d.Silent(m)
		case 5:
			function = m
		case 6:
			d.text(llm.PartText, m)
		case 7: // of an assistant message: the id of an earlier answer in sound
			if d.Want(m, wire.Object|wire.Null) && m.Kind() == strictjson.Object {
				d.Part(llm.Part{Kind: llm.PartAudio})
				d.Silent(m)
			}
		case 8, 9:
			if m.Kind() == strictjson.String {
				d.text(llm.PartReasoning, m)
			} else if m.Kind() != strictjson.Null {
				d.Unknown(m)
			}
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

// role reads the role of the message that was begun last.
func (d decoder) role(message, v strictjson.Value) llm.Role {
	m := &d.call.Messages[len(d.call.Messages)-1]
	switch text := d.Text(v); string(text) {
	case "":
		d.Missing(message, "role")
	case "system", "developer":
		m.Role = llm.RoleSystem
	case "user":
		m.Role = llm.RoleUser
	case "assistant":
		m.Role = llm.RoleAssistant
	case "tool", "function":
		m.Role = llm.RoleTool
	default:
		m.Role = llm.Role(text)
		d.Find(llm.FindingUnknownRole, v, "the role is unknown")
	}
	return m.Role
}

func (d decoder) text(kind llm.PartKind, v strictjson.Value) {
	if text := d.Text(v); len(text) > 0 {
		d.Part(llm.Part{Kind: kind, Text: text})
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

var partFields = []string{"type", "text", "image_url", "input_audio", "file", "refusal", cacheMarker}

// part reads one part of a message's content.
func (d decoder) part(v strictjson.Value, of llm.Part) {
	if !d.Want(v, wire.Object) {
		d.Unknown(v)
		return
	}
	var members [7]strictjson.Value
	for k, m := range v.Members() {
		i := d.Member(k, partFields)
		if i < 0 {
			d.Unknown(m)
			continue
		}
		members[i] = m
	}
	kind := members[0]
	used := 1
	switch {
	case kind.Is("text"):
		of.Text = d.Text(members[1])
		d.Part(of)
	case kind.Is("refusal"):
		used = 5
		d.text(llm.PartText, members[5])
	case kind.Is("image_url"):
		used = 2
		d.image(members[2])
	case kind.Is("input_audio"):
		used = 3
		d.audio(members[3])
	case kind.Is("file"):
		used = 4
		d.file(members[4])
	default:
		d.Find(llm.FindingUnknownPart, v, "the kind of the part is unknown")
		d.Unknown(v)
		return
	}
	// What belongs to another kind of part is not out of sight either.
	for i, m := range members[1:6] {
		if i+1 != used && m.Kind() != strictjson.Absent && m.Kind() != strictjson.Null {
			d.Unknown(m)
		}
	}
	d.Silent(members[6])
}

var imageFields = []string{"url", "detail"}

func (d decoder) image(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		d.Unknown(v)
		return
	}
	p := llm.Part{Kind: llm.PartImage}
	for k, m := range v.Members() {
		switch d.Member(k, imageFields) {
		case 0:
			if media, data, ok := wire.DataURL(d.Text(m)); ok {
				p.MediaType, p.Bytes = media, len(data)
			} else {
				d.URL(m)
			}
		case 1:
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var audioFields = []string{"data", "format"}

func (d decoder) audio(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		d.Unknown(v)
		return
	}
	p := llm.Part{Kind: llm.PartAudio}
	for k, m := range v.Members() {
		switch d.Member(k, audioFields) {
		case 0:
			p.Bytes = len(d.Text(m))
		case 1:
			p.MediaType = "audio/" + d.Str(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var fileFields = []string{"file_data", "file_id", "filename"}

func (d decoder) file(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		d.Unknown(v)
		return
	}
	p := llm.Part{Kind: llm.PartFile}
	for k, m := range v.Members() {
		switch d.Member(k, fileFields) {
		case 0:
			text := d.Text(m)
			p.Bytes = len(text)
			if media, data, ok := wire.DataURL(text); ok {
				p.MediaType, p.Bytes = media, len(data)
			}
		case 1, 2:
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
		switch d.Member(k, callFields) {
		case 0:
			p.ToolCallID = d.Str(m)
		case 1:
			if kind := d.Text(m); len(kind) > 0 && string(kind) != "function" && string(kind) != "custom" {
				d.Find(llm.FindingUnknownPart, m, "the kind of the tool call is unknown")
			}
		case 2, 3:
			if called.Kind() != strictjson.Absent {
				d.Unknown(called)
			}
			called = m
		case -1:
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
		switch d.Member(k, calledFields) {
		case 0:
			p.ToolName = d.Str(m)
		case 1, 2:
			p.Text = d.Text(m)
		default:
			d.Unknown(m)
		}
	}
	return p
}
