package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// toolFields are the members of a tool: {"type": "function", "function": {"name": …}}, in the first version {"name": …}.
var toolFields = []string{"name", "type", "function", "description", "parameter_definitions"}

var connectorFields = []string{"id", "options", "user_access_token", "continue_on_failure"}

// connector reads one of connectors, which Cohere searches with.
func (d decoder) connector(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "connector", ServerSide: true, Class: llm.ServerToolOther, Digest: d.Digest(v)}
	d.StrMember(&t.Name, v, connectorFields)
	if t.Name == "web-search" {
		t.Class = llm.ServerToolWebSearch
	}
	if t.Name == "" {
		d.Missing(v, "id")
	}
	d.call.Tools = append(d.call.Tools, t)
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
