package bedrock

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var (
	toolConfigFields = []string{"tools", "toolChoice"}
	toolFields       = []string{"toolSpec", "systemTool", marker}
	specFields       = []string{"name", "description", "inputSchema", "strict"}
)

func (d decoder) toolConfig(v strictjson.Value) {
	for k, m := range v.Members() {
		if d.Name(k, toolConfigFields) != "tools" || !d.Want(m, wire.Array|wire.Null) {
			continue
		}
		for t := range m.Elements() {
			d.tool(t)
		}
	}
}

func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		t := llm.Tool{Type: "function", Digest: d.Digest(v, marker)}
		switch d.Name(k, toolFields) {
		case "toolSpec":
		case "systemTool":
			t.Type, t.ServerSide = "systemTool", true
		case marker:
			continue
		default:
			// A kind of tool that is not known is taken for one that Bedrock carries out.
			t.Type, t.ServerSide, t.Class = string(k.Text()), true, llm.ServerToolOther
			d.call.Tools = append(d.call.Tools, t)
			continue
		}
		if d.Want(m, wire.Object) {
			d.StrMember(&t.Name, m, specFields)
		}
		if t.Name == "" {
			d.Missing(v, "name")
		}
		if t.ServerSide {
			t.Class = systemTool(t.Name)
		}
		d.call.Tools = append(d.call.Tools, t)
	}
}

// systemTool returns the class of a tool that Bedrock carries out.
func systemTool(name string) llm.ServerTool {
	switch {
	case strings.Contains(name, "grounding"), strings.Contains(name, "search"):
		return llm.ServerToolWebSearch
	case strings.Contains(name, "code"):
		return llm.ServerToolCodeExecution
	}
	return llm.ServerToolOther
}
