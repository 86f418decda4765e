package anthropic

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// callerTools are the beginnings of the types of tools that Anthropic defines and the caller carries out. A type that is neither
// here nor absent nor "custom" is taken for one that Anthropic carries out.
var callerTools = []string{"bash_", "browser_toolset_", "computer_", "memory_", "text_editor_"}

// serverClasses are the beginnings of the types of tools that Anthropic carries out, with what they are. The others are of the class other.
var serverClasses = []struct {
	prefix string
	class  llm.ServerTool
}{
	{"web_search_", llm.ServerToolWebSearch},
	{"web_fetch_", llm.ServerToolWebFetch},
	{"code_execution_", llm.ServerToolCodeExecution},
	{"mcp_", llm.ServerToolRemoteMCP},
}

// classify says of a tool that Anthropic defines who carries it out.
func classify(t *llm.Tool) {
	for _, prefix := range callerTools {
		if strings.HasPrefix(t.Type, prefix) {
			return
		}
	}
	t.ServerSide, t.Class = true, llm.ServerToolOther
	for _, c := range serverClasses {
		if strings.HasPrefix(t.Type, c.prefix) {
			t.Class = c.class
		}
	}
}

var toolFields = []string{"name", "type", "mcp_server_name", "tools", "model"}

// tool reads one of tools.
func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Digest: d.Digest(v, cacheMarker)}
	var server string
	for k, m := range v.Members() {
		switch d.Name(k, toolFields) {
		case "name":
			t.Name = d.Str(m)
		case "type":
			t.Type = d.Str(m)
		case "mcp_server_name":
			server = d.Str(m)
		case "model": // of an adviser
			d.otherModel(m)
		}
	}
	if t.Type == "" || t.Type == "custom" {
		t.Type = "function"
		if t.Name == "" {
			d.Missing(v, "name")
		}
	} else {
		classify(&t)
	}
	if t.Name == "" {
		t.Name = server
	}
	if t.Name == "" && t.ServerSide {
		t.Name = t.Type
	}
	d.call.Tools = append(d.call.Tools, t)
}

var serverFields = []string{"name", "url", "type", "authorization_token", "tool_configuration"}

// server reads one of mcp_servers, which Anthropic connects to. It counts as a tool, because in an older version of the API its tools
// are offered without being named in tools.
func (d decoder) server(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "mcp_server", ServerSide: true, Class: llm.ServerToolRemoteMCP, Digest: d.Digest(v, cacheMarker)}
	for k, m := range v.Members() {
		switch d.Name(k, serverFields) {
		case "name":
			t.Name = d.Str(m)
		case "url":
			t.URL = d.Str(m)
			d.URL(m)
		}
	}
	d.call.Tools = append(d.call.Tools, t)
}
