package openai

import (
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// itemForm says how an item of a conversation is read that is no message: what a model, a tool or the caller did.
type itemForm struct {
	role llm.Role
	kind llm.PartKind // of what is in said
	tool string       // the name of the tool, where the item has no name
	id   string       // the member that ties a result to its call
	// said are the members that the item is made of: strings, or any JSON. results are those in which the result of a call stands beside
	// the call, content those that hold content parts, and silent those in which nothing is said.
	said, results, content, silent []string

	// names are all the members that the item can have: those above one after another, then those of every item.
	names []string
}

// The forms of the items that a caller can send, by type, as in the official SDKs. Messages, items with tools in them and references are
// read by code of their own.
var itemForms = withNames(map[string]itemForm{
	"function_call":           {role: llm.RoleAssistant, kind: llm.PartToolCall, id: "call_id", said: []string{"arguments"}, silent: []string{"namespace", "async", "caller", "object"}},
	"function_call_output":    {role: llm.RoleTool, kind: llm.PartToolResult, id: "call_id", content: []string{"output"}, silent: []string{"namespace", "caller", "object"}},
	"custom_tool_call":        {role: llm.RoleAssistant, kind: llm.PartToolCall, id: "call_id", said: []string{"input"}, silent: []string{"namespace", "async", "caller"}},
	"custom_tool_call_output": {role: llm.RoleTool, kind: llm.PartToolResult, id: "call_id", content: []string{"output"}, silent: []string{"caller"}},
	"file_search_call":        {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "file_search", id: "id", said: []string{"queries"}, results: []string{"results"}},
	"web_search_call":         {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "web_search", id: "id", said: []string{"action"}},
	"computer_call":           {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "computer", id: "call_id", said: []string{"action", "actions"}, silent: []string{"pending_safety_checks"}},
	"computer_call_output":    {role: llm.RoleTool, kind: llm.PartToolResult, tool: "computer", id: "call_id", content: []string{"output"}, silent: []string{"acknowledged_safety_checks"}},
	"code_interpreter_call":   {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "code_interpreter", id: "id", said: []string{"code"}, results: []string{"outputs"}, silent: []string{"container_id"}},
	"image_generation_call":   {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "image_generation", id: "id", said: []string{"revised_prompt"}, results: []string{"error"}, silent: []string{"action", "background", "output_format", "quality", "size", "svg_usage"}},
	"local_shell_call":        {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "local_shell", id: "call_id", said: []string{"action"}},
	"local_shell_call_output": {role: llm.RoleTool, kind: llm.PartToolResult, tool: "local_shell", id: "id", said: []string{"output"}},
	"shell_call":              {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "shell", id: "call_id", said: []string{"action"}, silent: []string{"caller", "environment"}},
	"shell_call_output":       {role: llm.RoleTool, kind: llm.PartToolResult, tool: "shell", id: "call_id", said: []string{"output"}, silent: []string{"caller", "max_output_length"}},
	"apply_patch_call":        {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "apply_patch", id: "call_id", said: []string{"operation"}, silent: []string{"caller"}},
	"apply_patch_call_output": {role: llm.RoleTool, kind: llm.PartToolResult, tool: "apply_patch", id: "call_id", said: []string{"output"}, silent: []string{"caller"}},
	"tool_search_call":        {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "tool_search", id: "call_id", said: []string{"arguments"}, silent: []string{"execution"}},
	"program":                 {role: llm.RoleAssistant, kind: llm.PartToolCall, tool: "program", id: "call_id", said: []string{"code"}, silent: []string{"fingerprint"}},
	"program_output":          {role: llm.RoleTool, kind: llm.PartToolResult, tool: "program", id: "call_id", said: []string{"result"}},
	"mcp_call":                {role: llm.RoleAssistant, kind: llm.PartToolCall, id: "id", said: []string{"arguments"}, results: []string{"output", "error"}, silent: []string{"server_label", "approval_request_id"}},
	"mcp_list_tools":          {role: llm.RoleTool, kind: llm.PartToolResult, tool: "mcp_list_tools", id: "id", said: []string{"tools", "error"}, silent: []string{"server_label"}},
	"mcp_approval_request":    {role: llm.RoleAssistant, kind: llm.PartToolCall, id: "id", said: []string{"arguments"}, silent: []string{"server_label"}},
	"mcp_approval_response":   {role: llm.RoleUser, kind: llm.PartToolResult, id: "approval_request_id", said: []string{"approve", "reason"}},
	"reasoning":               {role: llm.RoleAssistant, kind: llm.PartReasoning, content: []string{"summary", "content"}},
	"compaction":              {role: llm.RoleAssistant, kind: llm.PartReasoning},
	"compaction_trigger":      {role: llm.RoleUser, kind: llm.PartText},
	"configuration_update":    {role: llm.RoleUser, kind: llm.PartText, silent: []string{"reasoning", "text"}},
})

var itemTypeFields = []string{"type", "role", "content", "id", "status", "phase", "object"}

// item reads one item of a conversation, which becomes a message.
func (d decoder) item(v strictjson.Value) {
	d.begin("", v)
	if !d.Expect(v, wire.Object) {
		return
	}
	var kind strictjson.Value
	for k, m := range v.Members() {
		if k.Is("type") {
			kind = m
		}
	}
	name := string(kind.Text())
	switch name {
	case "message", "":
		if name == "" {
			d.Want(kind, wire.String|wire.Null)
		}
		d.itemMessage(v)
	case "additional_tools", "tool_search_output":
		d.itemTools(v)
	case "item_reference":
		// What is meant is stored at the provider, so that all that can be seen of it is its id.
		d.setRole(llm.RoleUser)
		d.Unknown(v)
	default:
		form, ok := itemForms[name]
		if !ok {
			d.setRole(llm.RoleUser)
			d.Find(llm.FindingUnknownPart, v, "the kind of the item is unknown")
			d.Unknown(v)
			return
		}
		d.itemOf(form, v)
	}
}

// setRole sets the role of the message that was begun last.
func (d decoder) setRole(role llm.Role) { d.call.Messages[len(d.call.Messages)-1].Role = role }

// itemMessage reads an item that is a message.
func (d decoder) itemMessage(v strictjson.Value) {
	var role, content strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, itemTypeFields) {
		case "role":
			role = m
		case "content":
			content = m
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	d.role(v, role)
	d.inputContent(content, llm.Part{Kind: llm.PartText})
}

var itemToolsFields = []string{"type", "tools", "id", "call_id", "status", "execution", "role"}

// itemTools reads an item that offers further tools.
func (d decoder) itemTools(v strictjson.Value) {
	d.setRole(llm.RoleSystem)
	for k, m := range v.Members() {
		switch d.Name(k, itemToolsFields) {
		case "tools":
			if d.Want(m, wire.Array) {
				for t := range m.Elements() {
					d.flatTool(t)
				}
			}
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
}

// commonFields are members that every item can have.
var commonFields = []string{"type", "id", "call_id", "approval_request_id", "status", "name", "encrypted_content", "result"}

// withNames fills in the names of forms.
func withNames(forms map[string]itemForm) map[string]itemForm {
	for kind, f := range forms {
		f.names = slices.Concat(f.said, f.results, f.content, f.silent, commonFields)
		forms[kind] = f
	}
	return forms
}

// itemOf reads an item of a form.
func (d decoder) itemOf(form itemForm, v strictjson.Value) {
	d.setRole(form.role)
	p := llm.Part{Kind: form.kind, ToolName: form.tool}
	for k, m := range v.Members() { // the name and the id may stand behind what is said
		switch {
		case form.id != "" && k.Is(form.id):
			p.ToolCallID = d.Str(m)
		case k.Is("name"):
			p.ToolName = d.Str(m)
		}
	}
	result := llm.Part{Kind: llm.PartToolResult, ToolName: p.ToolName, ToolCallID: p.ToolCallID}
	toResults := len(form.said)
	toContent := toResults + len(form.results)
	toSilent := toContent + len(form.content)
	for k, m := range v.Members() {
		i := d.Member(k, form.names)
		switch {
		case i < 0:
			d.Unknown(m)
		case i < toResults:
			d.said(m, p)
		case i < toContent:
			d.said(m, result)
		case i < toSilent:
			d.inputContent(m, p)
		case form.names[i] == "encrypted_content": // of any length; OpenAI made and checks it
			if text := d.Text(m); len(text) > 0 {
				d.Part(llm.Part{Kind: llm.PartReasoning, Bytes: len(text)})
			}
		case form.names[i] == "result": // the picture that a tool has made
			if text := d.Text(m); len(text) > 0 {
				d.Part(llm.Part{Kind: llm.PartImage, Bytes: len(text)})
			}
		default:
			d.Silent(m)
		}
	}
	if form.kind == llm.PartToolCall && len(d.Parts()) == 0 {
		d.Part(p)
	}
}

// said adds what an item says as a part like of: a string's content, or other JSON as it was sent.
func (d decoder) said(v strictjson.Value, of llm.Part) {
	switch v.Kind() {
	case strictjson.Null, strictjson.Absent:
		return
	case strictjson.String:
		of.Text = v.Text()
	default:
		of.Text = v.Raw()
	}
	d.Part(of)
}

// inputContent reads an item's content, a string or a list of parts, or one part. The text in it becomes parts like of.
func (d decoder) inputContent(v strictjson.Value, of llm.Part) {
	switch v.Kind() {
	case strictjson.String:
		of.Text = v.Text()
		d.Part(of)
	case strictjson.Array:
		for p := range v.Elements() {
			d.inputPart(p, of)
		}
	case strictjson.Object:
		d.inputPart(v, of)
	default:
		d.Want(v, wire.Null)
	}
}

var inputPartFields = []string{"type", "text", "refusal", "transcript", "image_url", "file_url", "file_data", "audio", "data",
	cacheMarker, "detail", "file_id", "filename", "format", "annotations", "logprobs"}

// inputPart reads one part of an item's content.
func (d decoder) inputPart(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var p llm.Part
	switch kind := v.Get("type"); {
	case kind.Is("input_text"), kind.Is("output_text"), kind.Is("text"), kind.Is("refusal"):
	case kind.Is("summary_text"), kind.Is("reasoning_text"):
		of.Kind = llm.PartReasoning
	case kind.Is("input_image"), kind.Is("computer_screenshot"):
		p.Kind = llm.PartImage
	case kind.Is("input_file"):
		p.Kind = llm.PartFile
	case kind.Is("input_audio"), kind.Is("audio"), kind.Is("output_audio"):
		p.Kind = llm.PartAudio
	default:
		d.Find(llm.FindingUnknownPart, v, "the kind of the part is unknown")
		d.Unknown(v)
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, inputPartFields) {
		case "text", "refusal", "transcript":
			d.AddText(m, of)
		case "image_url", "file_url":
			d.fetch(&p, m)
		case "file_data":
			d.data(&p, m)
		case "audio", "data":
			if d.Expect(m, wire.String|wire.Null) {
				p.Bytes = len(m.Text())
			}
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	switch {
	case p.Kind != "":
		d.Part(p)
	case p.Bytes > 0: // data in a part that should be text
		p.Kind = llm.PartFile
		d.Part(p)
	}
}
