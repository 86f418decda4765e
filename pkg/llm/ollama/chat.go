package ollama

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var chatFields = wire.Fields{
	"format": format, "keep_alive": alive, "logprobs": boolean, "messages": list, "model": needed, "options": object, "shift": boolean, "stream": boolean, "think": think, "tools": list, "top_logprobs": integer,
	"truncate": boolean,
}

// Chat reads a request to chat. It never fails: what is wrong with it is among the call's findings. The call may refer to the body, which must
// not change as long as the call is used. A response is streamed unless the request says otherwise.
func Chat(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: ChatSurface, Class: llm.ClassModel, Operation: llm.OperationChat, Stream: true}
	d, root, ok := open(call, req, lim, chatFields)
	defer d.Close()
	if !ok {
		return call
	}
	d.common(root)
	d.Aside(llm.RoleSystem, root.Get("format"))
	for k, v := range root.Members() {
		switch {
		case k.Is("tools"):
			for t := range v.Elements() {
				d.FunctionTool(t, toolFields)
			}
		case k.Is("messages"):
			d.Grow(v.Len())
			for m := range v.Elements() {
				d.message(m)
			}
		}
	}
	return call
}

// toolFields are the members of a tool: {"type": "function", "function": {"name": …}}.
var toolFields = []string{"type", "function", "items"}

var messageFields = []string{"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v)
	if !d.Expect(v, wire.Object) {
		return
	}
	of := llm.Part{Kind: llm.PartText}
	var content, images, calls strictjson.Value
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			content = v
		case "thinking":
			d.AddText(v, llm.Part{Kind: llm.PartReasoning})
		case "images":
			images = v
		case "tool_calls":
			calls = v
		case "tool_name":
			of.ToolName = d.Str(v)
		case "tool_call_id":
			of.ToolCallID = d.Str(v)
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
	if !d.Want(content, wire.String|wire.Null) && content.Kind() != strictjson.Absent {
		d.Unknown(content)
	} else if text := content.Text(); len(text) > 0 || of.Kind == llm.PartToolResult {
		of.Text = text
		d.Part(of)
	}
	d.images(images)
	if d.Want(calls, wire.Array|wire.Null) {
		for c := range calls.Elements() {
			d.toolCall(c)
		}
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "tool": llm.RoleTool, "user": llm.RoleUser}

// images reads images, each of which is base64.
func (d decoder) images(v strictjson.Value) {
	if !d.Want(v, wire.Array|wire.Null) {
		return
	}
	for i := range v.Elements() {
		d.Part(llm.Part{Kind: llm.PartImage, Bytes: len(d.Text(i))})
		if i.Kind() != strictjson.String {
			d.Unknown(i)
		}
	}
}

var (
	callFields   = []string{"id", "type", "function"}
	calledFields = []string{"name", "arguments", "index"}
)

// toolCall reads one of an assistant message's tool_calls, whose arguments are an object.
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
			d.Silent(m)
		case "function":
			if !d.Expect(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, calledFields) {
				case "name":
					p.ToolName = d.Str(m)
				case "arguments":
					p.Text = m.Raw()
				case "index":
					d.Silent(m)
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
