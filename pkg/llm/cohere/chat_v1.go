package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

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
	d.beside(root)
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
			d.Message(llm.RoleTool, v)
			d.results(v)
		}
	}
	if !message {
		d.Missing(root, "message")
	}
	return call
}

// said adds a message of one text.
func (d decoder) said(role llm.Role, v strictjson.Value) {
	d.Message(role, v)
	d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
}

var turnFields = []string{"role", "message", "tool_calls", "tool_results"}

// turn reads one of chat_history.
func (d decoder) turn(v strictjson.Value) {
	m := d.Message("", v)
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
