package openai

import (
	"fmt"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// hostedTools are the classes of the tools that the provider carries out, by how their type begins; most have a date or "_preview" after
// it. The computer is among them though the caller moves the mouse: what comes back are pictures, which
// nobody at the gate can read. The first that matches counts.
var hostedTools = []struct {
	prefix string
	class  llm.ServerTool
}{
	{"web_search", llm.ServerToolWebSearch},
	{"openrouter:web_search", llm.ServerToolWebSearch},
	{"browser_search", llm.ServerToolWebSearch}, // Groq
	{"web_fetch", llm.ServerToolWebFetch},
	{"openrouter:web_fetch", llm.ServerToolWebFetch},
	{"visit_website", llm.ServerToolWebFetch}, // Groq
	{"file_search", llm.ServerToolFileSearch},
	{"retrieval", llm.ServerToolFileSearch},
	{"document_library", llm.ServerToolFileSearch}, // Mistral
	{"code_interpreter", llm.ServerToolCodeExecution},
	{"programmatic_tool_calling", llm.ServerToolCodeExecution},
	{"shell", llm.ServerToolCodeExecution},
	{"computer", llm.ServerToolComputerUse},
	{"browser_automation", llm.ServerToolComputerUse}, // Groq
	{"image_generation", llm.ServerToolImageGeneration},
	{"openrouter:image_generation", llm.ServerToolImageGeneration},
	{"mcp", llm.ServerToolRemoteMCP},
}

// callerTools are tools that the provider defines and the caller carries out.
var callerTools = map[string]bool{"local_shell": true, "apply_patch": true}

// classOf returns the class of a tool that the provider defines; "" for one that the caller carries out.
func classOf(kind string) llm.ServerTool {
	if callerTools[kind] {
		return ""
	}
	for _, h := range hostedTools {
		if strings.HasPrefix(kind, h.prefix) {
			return h.class
		}
	}
	return llm.ServerToolOther
}

var toolFields = []string{"type", "function", "custom"}

// chatTool reads one of a chat completion's tools: {"type": "function", "function": {"name": …}}.
func (d decoder) chatTool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Digest: d.Digest(v, cacheMarkers...)}
	var definition strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, toolFields) {
		case "type":
			t.Type = d.Str(m)
		case "function", "custom":
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
		d.flatTool(v)
		return
	}
	d.call.Tools = append(d.call.Tools, t)
}

var nameField = []string{"name"}

func (d decoder) named(v strictjson.Value) (name string) {
	d.StrMember(&name, v, nameField)
	if name == "" {
		d.Missing(v, "name")
	}
	return name
}

// The members of a tool that says what it is beside its type.
const (
	toolType = iota
	toolName
	toolServerLabel
	toolServerURL
	toolEnvironment
	toolExecution
	toolTools
	toolModel
	toolSVG
	toolMask
	toolContainer // where the provider keeps what the tool leaves: nothing to read
	toolFunction
	toolMembers
)

var flatToolFields = []string{"type", "name", "server_label", "server_url", "environment", "execution", "tools", "model", "svg", "input_image_mask", "container", "function"}

// flatTool reads one of the tools of a response, of a realtime session or of an assistant, which say what they are beside their type:
// {"type": "function", "name": …}, {"type": "mcp", "server_url": …}.
func (d decoder) flatTool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	var m [toolMembers]strictjson.Value
	for k, value := range v.Members() {
		if i := d.Member(k, flatToolFields); i >= 0 {
			m[i] = value
		}
	}
	t := llm.Tool{Type: d.Str(m[toolType]), Name: d.Str(m[toolName]), Digest: d.Digest(v, cacheMarkers...)}
	switch t.Type {
	case "":
		d.Missing(v, "type")
	case "function", "custom":
		t.Type = "function"
		if t.Name == "" && m[toolFunction].Kind() == strictjson.Object { // as an assistant has it
			t.Name = d.named(m[toolFunction])
		} else if t.Name == "" {
			d.Missing(v, "name")
		}
	case "namespace":
		first := len(d.call.Tools)
		for inner := range m[toolTools].Elements() {
			d.flatTool(inner)
		}
		d.within(v, d.call.Tools[first:])
		return
	default:
		t.Class = classOf(t.Type)
		switch {
		case t.Type == "mcp":
			t.Name, t.URL = d.Str(m[toolServerLabel]), d.Str(m[toolServerURL])
		case t.Type == "shell" && m[toolEnvironment].Get("type").Is("local"), t.Type == "tool_search" && m[toolExecution].Is("client"):
			t.Class = ""
		}
		t.ServerSide = t.Class != ""
		if t.Name == "" {
			t.Name = t.Type
		}
		d.otherModel(m[toolModel])
		d.otherModel(m[toolSVG].Get("model"))
		if mask := m[toolMask].Get("image_url"); mask.Kind() != strictjson.Absent {
			d.fetch(&llm.Part{}, mask)
		}
	}
	d.call.Tools = append(d.call.Tools, t)
}

// within makes what a namespace says of its tools a part of each of them: of its description the model reads as much as of theirs.
func (d decoder) within(namespace strictjson.Value, tools []llm.Tool) {
	var own []byte
	for k, m := range namespace.Members() {
		if !k.Is("tools") && !k.Is("type") {
			own = fmt.Appendf(own, "%d:%s%d:%s", len(k.Raw()), k.Raw(), len(m.Raw()), m.Raw())
		}
	}
	for i := range tools {
		tools[i].Digest = wire.DigestOf(append(tools[i].Digest[:], own...))
	}
}
