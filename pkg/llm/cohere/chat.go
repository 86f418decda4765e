package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
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
	d.beside(root)
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
	if call.Model == "" {
		d.Missing(root, "model")
	}
	if !messages {
		d.Missing(root, "messages")
	}
	return call
}

var messageFields = []string{"role", "content", "tool_calls", "tool_call_id", "tool_plan", "citations"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v)
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
		d.strings(members[used], of.Quoted())
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
