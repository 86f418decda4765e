package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "cohere"

// The types that members of requests have.
var (
	number  = wire.Field{Kinds: wire.Number | wire.Null}
	integer = wire.Field{Kinds: wire.Number | wire.Null, Integer: true}
	str     = wire.Field{Kinds: wire.String | wire.Null}
	boolean = wire.Field{Kinds: wire.Bool | wire.Null}
	list    = wire.Field{Kinds: wire.Array | wire.Null}
	object  = wire.Field{Kinds: wire.Object | wire.Null}
	needed  = wire.Field{Kinds: wire.String}
)

// chatV2Fields are the members of a request of the second version, as in the official SDKs.
var chatV2Fields = wire.Fields{
	"citation_options": object, "documents": list, "frequency_penalty": number, "k": number, "logprobs": boolean, "max_tokens": integer,
	"messages": {Kinds: wire.Array}, "model": needed, "p": number, "presence_penalty": number, "priority": integer, "response_format": object,
	"safety_mode": str, "seed": integer, "stop_sequences": list, "stream": boolean, "strict_tools": boolean, "temperature": number,
	"thinking": object, "tool_choice": str, "tools": list,
}

// ChatV2 reads a request to chat, of the second version. It never fails: what is wrong with it is among the call's findings. The call may refer
// to the body, which must not change as long as the call is used.
func ChatV2(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: ChatV2Surface, Class: llm.ClassModel, Operation: llm.OperationChat}
	d, root, ok := open(call, req, lim, chatV2Fields)
	defer d.Close()
	if !ok {
		return call
	}
	d.common(root)
	messages := false
	for k, v := range root.Members() {
		if k.Is("messages") {
			messages = true
			d.Grow(v.Len() + 1)
			for m := range v.Elements() {
				d.message(m)
			}
		}
	}
	d.documents(root)
	if call.Model == "" {
		d.Missing(root, "model")
	}
	if !messages {
		d.Missing(root, "messages")
	}
	return call
}

// open begins to read a request whose body is an object with the members. ok is false when there is nothing to read.
func open(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields) (d decoder, root strictjson.Value, ok bool) {
	r := wire.Open(call, req.ContentType, req.Body, lim)
	wire.Query(call, req, nil)
	root, ok = r.Object(known)
	return decoder{r, call}, root, ok
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// common reads the members that mean the same on all surfaces. Their types have been checked.
func (d decoder) common(root strictjson.Value) {
	for k, v := range root.Members() {
		switch name := k.Raw(); string(name[1 : len(name)-1]) {
		case "model":
			d.call.Model = string(v.Text())
		case "stream":
			d.call.Stream = v.Bool()
		case "max_tokens":
			d.MaxTokens(v)
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.tool(t)
			}
		case "connectors":
			for c := range v.Elements() {
				d.connector(c)
			}
		}
	}
}

var (
	toolFields     = []string{"name", "type", "function", "description", "parameter_definitions"}
	functionFields = []string{"name", "description", "parameters"}
)

// tool reads one of tools: {"type": "function", "function": {"name": …}}, in the first version {"name": …}. All are for the caller to carry out.
func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "function", Digest: d.Digest(v, "")}
	for k, m := range v.Members() {
		switch d.Name(k, toolFields) {
		case "name":
			t.Name = d.Str(m)
		case "type":
			if kind := d.Str(m); kind != "function" {
				// Of a kind that is not known yet: taken for one that Cohere carries out.
				t.Type, t.ServerSide, t.Class = kind, true, llm.ServerToolOther
			}
		case "function":
			if !d.Want(m, wire.Object) {
				continue
			}
			d.StrMember(&t.Name, m, functionFields)
		}
	}
	if t.Name == "" {
		d.Missing(v, "name")
	}
	d.call.Tools = append(d.call.Tools, t)
}

var connectorFields = []string{"id", "options", "user_access_token", "continue_on_failure"}

// connector reads one of connectors, which Cohere searches with.
func (d decoder) connector(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "connector", ServerSide: true, Class: llm.ServerToolOther, Digest: d.Digest(v, "")}
	d.StrMember(&t.Name, v, connectorFields)
	if t.Name == "web-search" {
		t.Class = llm.ServerToolWebSearch
	}
	if t.Name == "" {
		d.Missing(v, "id")
	}
	d.call.Tools = append(d.call.Tools, t)
}

// documents reads what the model is to cite from, as a message of the user's.
func (d decoder) documents(root strictjson.Value) {
	for k, v := range root.Members() {
		if k.Is("documents") && v.Len() > 0 {
			d.Message(llm.RoleUser, v, "")
			d.strings(v, llm.Part{Kind: llm.PartText})
		}
	}
}

// strings adds a part like of for each string in a value, the members' names aside.
func (d decoder) strings(v strictjson.Value, of llm.Part) {
	switch v.Kind() {
	case strictjson.String:
		if of.Text = v.Text(); len(of.Text) > 0 {
			d.Part(of)
		}
	case strictjson.Number:
		d.Silent(v)
	case strictjson.Array:
		for e := range v.Elements() {
			if e.Kind() == strictjson.Number { // numbers could stand for a text
				d.Unknown(v)
				return
			}
		}
		for e := range v.Elements() {
			d.strings(e, of)
		}
	case strictjson.Object:
		for k, m := range v.Members() {
			if name := k.Raw(); len(name) > longName {
				d.Unknown(k)
			}
			d.strings(m, of)
		}
	}
}

// longName is the length of a member's name that could carry something, in bytes.
const longName = 64

var messageFields = []string{"role", "content", "tool_calls", "tool_call_id", "tool_plan", "citations"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, "")
	if !d.Expect(v, wire.Object) {
		return
	}
	var content, calls strictjson.Value
	of := llm.Part{Kind: llm.PartText}
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			content = v
		case "tool_calls":
			calls = v
		case "tool_call_id":
			of.ToolCallID = d.Str(v)
		case "tool_plan":
			d.AddText(v, llm.Part{Kind: llm.PartReasoning})
		case "citations":
			d.strings(v, llm.Part{Kind: llm.PartText})
		default:
			d.Unknown(v)
		}
	}
	switch m.Role {
	case "":
		d.Missing(v, "role")
	case llm.RoleTool:
		of.Kind = llm.PartToolResult
	}
	d.content(content, of)
	if d.Want(calls, wire.Array|wire.Null) {
		for c := range calls.Elements() {
			d.toolCall(c)
		}
	}
}

// The names of roles. The first version writes them in capitals.
var (
	roles   = map[string]llm.Role{"assistant": llm.RoleAssistant, "developer": llm.RoleSystem, "system": llm.RoleSystem, "tool": llm.RoleTool, "user": llm.RoleUser}
	rolesV1 = map[string]llm.Role{"CHATBOT": llm.RoleAssistant, "SYSTEM": llm.RoleSystem, "TOOL": llm.RoleTool, "USER": llm.RoleUser}
)

// content reads a message's content, a string or a list of blocks. The text in it becomes parts like of.
func (d decoder) content(v strictjson.Value, of llm.Part) {
	d.Want(v, wire.String|wire.Array|wire.Null)
	switch v.Kind() {
	case strictjson.String:
		of.Text = d.Text(v)
		d.Part(of)
	case strictjson.Array:
		for b := range v.Elements() {
			d.block(b, of)
		}
	case strictjson.Object:
		d.Unknown(v)
	}
}

// The members of a block. All but the type hold what a block of one type is of.
const (
	blockType = iota
	blockText
	blockThinking
	blockImage
	blockDocument
	blockMembers
)

var blockFields = []string{"type", "text", "thinking", "image_url", "document"}

// block reads one block of content. Whatever of it is not read becomes a part of unknown kind.
func (d decoder) block(v strictjson.Value, of llm.Part) {
	if v.Kind() == strictjson.String { // the same as a block of text
		of.Text = d.Text(v)
		d.Part(of)
		return
	}
	if !d.Expect(v, wire.Object) {
		return
	}
	var members [blockMembers]strictjson.Value
	for k, m := range v.Members() {
		if i := d.Member(k, blockFields); i >= 0 {
			members[i] = m
		} else {
			d.Unknown(m)
		}
	}
	var used int
	switch kind := members[blockType]; {
	case kind.Is("text"):
		used = blockText
		of.Text = d.Text(members[used])
		d.Part(of)
	case kind.Is("thinking"):
		used = blockThinking
		d.Part(llm.Part{Kind: llm.PartReasoning, Text: d.Text(members[used])})
	case kind.Is("image_url"):
		used = blockImage
		d.image(members[used])
	case kind.Is("document"):
		used = blockDocument
		d.Part(llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID})
		d.strings(members[used], of)
	default:
		d.Find(llm.FindingUnknownPart, v, "the kind of the block is unknown")
		d.Unknown(v)
		return
	}
	for i, m := range members {
		if i != blockType && i != used && m.Kind() != strictjson.Absent && m.Kind() != strictjson.Null {
			d.Unknown(m)
		}
	}
}

var imageFields = []string{"url", "detail"}

// image reads an image, whose URL is in an object.
func (d decoder) image(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, imageFields) {
		case "url":
			d.imageURL(m)
		case "detail":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
}

func (d decoder) imageURL(v strictjson.Value) {
	p := llm.Part{Kind: llm.PartImage}
	if media, data, ok := wire.DataURL(d.Text(v)); ok {
		p.MediaType, p.Bytes = media, len(data)
	} else {
		d.URL(v)
	}
	d.Part(p)
}

var (
	callFields   = []string{"id", "type", "function"}
	calledFields = []string{"name", "arguments"}
)

// toolCall reads one of an assistant message's tool_calls.
func (d decoder) toolCall(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartToolCall}
	for k, m := range v.Members() {
		switch d.Name(k, callFields) {
		case "id":
			p.ToolCallID = d.Str(m)
		case "type":
			if kind := d.Text(m); len(kind) > 0 && string(kind) != "function" {
				d.Find(llm.FindingUnknownPart, m, "the kind of the tool call is unknown")
			}
		case "function":
			if !d.Expect(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, calledFields) {
				case "name":
					p.ToolName = d.Str(m)
				case "arguments":
					p.Text = d.Text(m)
				default:
					d.Unknown(m)
				}
			}
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

// chatV1Fields are the members of a request of the first version, as in the official SDKs.
var chatV1Fields = wire.Fields{
	"chat_history": list, "citation_quality": str, "connectors": list, "conversation_id": str, "documents": list, "force_single_step": boolean,
	"frequency_penalty": number, "k": number, "max_input_tokens": integer, "max_tokens": integer, "message": needed, "model": str, "p": number,
	"preamble": str, "presence_penalty": number, "prompt_truncation": str, "raw_prompting": boolean, "response_format": object, "safety_mode": str,
	"search_queries_only": boolean, "seed": integer, "stop_sequences": list, "stream": boolean, "temperature": number, "tool_results": list,
	"tools": list,
}

// ChatV1 reads a request to chat, of the first version, as ChatV2 does. A conversation that Cohere is to keep is of llm.ClassDeadDrop. There
// is a model where none is named.
func ChatV1(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: ChatV1Surface, Class: llm.ClassModel, Operation: llm.OperationChat}
	d, root, ok := open(call, req, lim, chatV1Fields)
	defer d.Close()
	if !ok {
		return call
	}
	d.common(root)
	for k, v := range root.Members() {
		switch {
		case k.Is("preamble") && v.Kind() == strictjson.String:
			d.said(llm.RoleSystem, v)
		case k.Is("conversation_id") && len(v.Text()) > 0:
			call.Class = llm.ClassDeadDrop
		}
	}
	for k, v := range root.Members() {
		if k.Is("chat_history") {
			for m := range v.Elements() {
				d.turn(m)
			}
		}
	}
	message := false
	for k, v := range root.Members() {
		switch {
		case k.Is("message"):
			message = true
			d.said(llm.RoleUser, v)
		case k.Is("tool_results") && v.Len() > 0:
			d.Message(llm.RoleTool, v, "")
			d.results(v)
		}
	}
	d.documents(root)
	if !message {
		d.Missing(root, "message")
	}
	return call
}

// said adds a message of one text.
func (d decoder) said(role llm.Role, v strictjson.Value) {
	d.Message(role, v, "")
	d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
}

var turnFields = []string{"role", "message", "tool_calls", "tool_results"}

// turn reads one of chat_history.
func (d decoder) turn(v strictjson.Value) {
	m := d.Message("", v, "")
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, v := range v.Members() {
		switch d.Name(k, turnFields) {
		case "role":
			d.Role(m, v, rolesV1)
		case "message":
			d.AddText(v, llm.Part{Kind: llm.PartText})
		case "tool_calls":
			if d.Want(v, wire.Array|wire.Null) {
				for c := range v.Elements() {
					d.Part(d.calledV1(c))
				}
			}
		case "tool_results":
			d.results(v)
		default:
			d.Unknown(v)
		}
	}
	if m.Role == "" {
		d.Missing(v, "role")
	}
}

var calledV1Fields = []string{"name", "parameters", "generation_id"}

// calledV1 reads a call of a tool, which the first version has no ids for.
func (d decoder) calledV1(v strictjson.Value) llm.Part {
	p := llm.Part{Kind: llm.PartToolCall}
	if !d.Expect(v, wire.Object) {
		return p
	}
	for k, m := range v.Members() {
		switch d.Name(k, calledV1Fields) {
		case "name":
			p.ToolName = d.Str(m)
		case "parameters":
			p.Text = m.Raw()
		case "generation_id":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	return p
}

var resultFields = []string{"call", "outputs"}

// results reads tool_results, each of which repeats the call that it is of.
func (d decoder) results(v strictjson.Value) {
	if !d.Want(v, wire.Array|wire.Null) {
		return
	}
	for r := range v.Elements() {
		if !d.Expect(r, wire.Object) {
			continue
		}
		p := llm.Part{Kind: llm.PartToolResult}
		for k, m := range r.Members() {
			switch d.Name(k, resultFields) {
			case "call":
				called := d.calledV1(m)
				p.ToolName = called.ToolName
				d.Part(called)
			case "outputs":
				p.Text = m.Raw()
			default:
				d.Unknown(m)
			}
		}
		d.Part(p)
	}
}
