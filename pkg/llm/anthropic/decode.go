package anthropic

import (
	"maps"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "anthropic"

// cacheMarker is the member of a block, tool or system prompt that marks a place to cache up to.
const cacheMarker = "cache_control"

// fields are the members of the request, as in the parameters of the official SDKs, of the beta API too.
var fields = wire.Fields{
	"cache_control":         {Kinds: wire.Object | wire.Null},
	"compaction":            {Kinds: wire.Any},
	"container":             {Kinds: wire.String | wire.Object | wire.Null},
	"context_management":    {Kinds: wire.Object | wire.Null},
	"diagnostics":           {Kinds: wire.Object | wire.Null},
	"fallback_credit_token": {Kinds: wire.Any},
	"fallbacks":             {Kinds: wire.Any},
	"inference_geo":         {Kinds: wire.String | wire.Null},
	"max_tokens":            {Kinds: wire.Number, Integer: true},
	"mcp_servers":           {Kinds: wire.Array | wire.Null},
	"messages":              {Kinds: wire.Array},
	"metadata":              {Kinds: wire.Object | wire.Null},
	"model":                 {Kinds: wire.String},
	"output_config":         {Kinds: wire.Object | wire.Null},
	"output_format":         {Kinds: wire.Object | wire.Null},
	"service_tier":          {Kinds: wire.String | wire.Null},
	"speed":                 {Kinds: wire.String | wire.Null},
	"stop_sequences":        {Kinds: wire.Array | wire.Null},
	"stream":                {Kinds: wire.Bool | wire.Null},
	"system":                {Kinds: wire.String | wire.Array | wire.Null},
	"temperature":           {Kinds: wire.Number | wire.Null},
	"thinking":              {Kinds: wire.Object | wire.Null},
	"tool_choice":           {Kinds: wire.Object | wire.Null},
	"tools":                 {Kinds: wire.Array | wire.Null},
	"top_k":                 {Kinds: wire.Number | wire.Null, Integer: true},
	"top_p":                 {Kinds: wire.Number | wire.Null},
}

// countFields are those of a request to count tokens.
var countFields = only("cache_control", "compaction", "context_management", "mcp_servers", "messages", "model", "output_config", "output_format", "speed", "system", "thinking",
	"tool_choice", "tools")

// hostedFields are those of a request to a cloud that hosts Anthropic's models, where the body says what is in headers elsewhere.
var hostedFields = func() wire.Fields {
	out := maps.Clone(fields)
	out["anthropic_version"] = wire.Field{Kinds: wire.String}
	out["anthropic_beta"] = wire.Field{Kinds: wire.String | wire.Array | wire.Null}
	return out
}()

func only(names ...string) wire.Fields {
	out := wire.Fields{}
	for _, name := range names {
		out[name] = fields[name]
	}
	return out
}

// Decode reads a messages request. It never fails: what is wrong with the body is among the call's findings. The call
// may refer to the body, which must not change as long as the call is used.
//
// A user's message of nothing but results of tools is of llm.RoleTool in the normal form.
func Decode(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: Messages, Class: llm.ClassModel, Operation: llm.OperationChat}
	wire.Query(call, req, betaQuery)
	decode(call, req, lim, fields)
	return call
}

// DecodeCountTokens reads a request to count the tokens of a messages request.
func DecodeCountTokens(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: CountTokens, Class: llm.ClassAuxiliary, Operation: llm.OperationCountTokens}
	wire.Query(call, req, betaQuery)
	decode(call, req, lim, countFields)
	return call
}

// DecodeHosted reads the body of a messages request into a call of another provider that hosts Anthropic's models: Vertex AI's rawPredict, Bedrock's
// InvokeModel. The call says what the path does, the model and whether the response is streamed; a body that names another model is a
// finding. Where the call has no model, the body's is taken, as it is when tokens are counted.
func DecodeHosted(call *llm.Call, req *llm.Request, lim llm.Limits) {
	decode(call, req, lim, hostedFields)
}

func decode(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields) {
	r := wire.Open(call, req.ContentType, req.Body, lim)
	defer r.Close()
	d := decoder{r, call}
	root := r.Root()
	if root.Kind() != strictjson.Object {
		return
	}
	model, stream := call.Model, call.Stream // of the path
	r.TopLevel(root, known)
	d.request(root, call.Operation != llm.OperationCountTokens)
	switch v := root.Get("model"); {
	case model != "":
		if v.Kind() != strictjson.Absent && call.Model != model {
			d.Find(llm.FindingDuplicateKey, v, "the body names another model than the path")
		}
		call.Model = model
	case v.Kind() == strictjson.Absent:
		d.Missing(root, "model")
	}
	call.Stream = call.Stream || stream
	if _, hosted := known["anthropic_version"]; hosted && root.Get("anthropic_version").Kind() == strictjson.Absent {
		d.Missing(root, "anthropic_version")
	}
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// request reads a messages request. The types of its members have been checked.
func (d decoder) request(root strictjson.Value, needsMax bool) {
	var maxTokens, messages bool
	for k, v := range root.Members() {
		switch name := k.Raw(); string(name[1 : len(name)-1]) {
		case "model":
			d.call.Model = string(v.Text())
		case "max_tokens":
			maxTokens = true
			d.MaxTokens(v)
		case "messages":
			messages = true
			d.Grow(v.Len() + 1)
		case "stream":
			d.call.Stream = v.Bool()
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.tool(t)
			}
		case "fallbacks":
			for f := range v.Elements() {
				d.fallback(f)
			}
		case "mcp_servers":
			for s := range v.Elements() {
				d.server(s)
			}
		}
	}
	// The system prompt comes first, wherever the body has it.
	for k, v := range root.Members() {
		if k.Is("system") && (v.Kind() == strictjson.String || v.Kind() == strictjson.Array) {
			d.Message(llm.RoleSystem, v, cacheMarker)
			d.content(v, llm.Part{Kind: llm.PartText})
		}
	}
	for k, v := range root.Members() {
		if k.Is("messages") {
			for m := range v.Elements() {
				d.message(m)
			}
		}
	}
	if needsMax && !maxTokens {
		d.Missing(root, "max_tokens")
	}
	if !messages {
		d.Missing(root, "messages")
	}
}

var fallbackFields = []string{"model", "max_tokens", "speed", "thinking", "output_config"}

// fallback reads one of fallbacks, the models to ask when the first one is not to be had.
func (d decoder) fallback(v strictjson.Value) {
	for k, m := range v.Members() {
		if d.Name(k, fallbackFields) == "model" {
			d.otherModel(m)
		}
	}
}

func (d decoder) otherModel(v strictjson.Value) {
	if model := d.Str(v); model != "" {
		d.call.OtherModels = append(d.call.OtherModels, model)
	}
}

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

var messageFields = []string{"role", "content", "clear_at", "output_config"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, cacheMarker)
	if !d.Want(v, wire.Object) {
		return
	}
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			d.content(v, llm.Part{Kind: llm.PartText})
		case "":
			d.Unknown(v)
		default:
			d.Silent(v)
		}
	}
	if m.Role == "" {
		d.Missing(v, "role")
	}
	// The results of tools come in a message of the user. One of nothing else is the tool's.
	if m.Role == llm.RoleUser && d.OnlyResults() {
		m.Role = llm.RoleTool
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "user": llm.RoleUser}

// content reads content, a string or a list of blocks. The text in it becomes parts like of.
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
	}
}

// The members of a block, of every kind of block.
const (
	blockType = iota
	blockText
	blockSource
	blockTitle
	blockContext
	blockContent
	blockID
	blockName
	blockInput
	blockToolUseID
	blockThinking
	blockData
	blockSignature
	blockTool
	blockTools
	blockServer // here and below: nothing to read
	blockFileID
	blockMarker
	blockIsError
	blockCaller
	blockToolset
	blockMCPServer
	blockTransformations
	blockFrom
	blockTo
	blockTrigger
	blockToolName
	blockCitations
	blockMembers
)

var blockFields = []string{"type", "text", "source", "title", "context", "content", "id", "name", "input", "tool_use_id", "thinking", "data", "signature", "tool", "tools", "server_name",
	"file_id", cacheMarker, "is_error", "caller", "toolset_name", "mcp_server_name", "transformations", "from", "to", "trigger", "tool_name", "citations"}

// block reads one block of content. Whatever of it is not read becomes a part of unknown kind, so that nothing of a message is out of
// sight; a kind of block that is unknown is a finding besides.
func (d decoder) block(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var m [blockMembers]strictjson.Value
	for k, member := range v.Members() {
		if i := d.Member(k, blockFields); i >= 0 {
			m[i] = member
		} else if !wire.Trivial(member) {
			d.Unknown(member)
		}
	}
	take := func(i int) strictjson.Value {
		member := m[i]
		m[i] = strictjson.Value{}
		return member
	}
	switch kind := string(take(blockType).Text()); kind {
	case "text":
		of.Text = d.Text(take(blockText))
		d.Part(of)
	case "image":
		d.attachment(llm.Part{Kind: llm.PartImage, ToolCallID: of.ToolCallID}, take(blockSource), of)
	case "document":
		d.AddText(take(blockTitle), of)
		d.AddText(take(blockContext), of)
		d.attachment(llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID}, take(blockSource), of)
	case "search_result":
		d.AddText(take(blockTitle), of)
		d.AddText(take(blockSource), of)
		d.content(take(blockContent), of)
	case "container_upload":
		d.Part(llm.Part{Kind: llm.PartFile})
	case "tool_use", "server_tool_use", "mcp_tool_use":
		input := take(blockInput)
		d.Part(llm.Part{Kind: llm.PartToolCall, ToolName: d.Str(take(blockName)), ToolCallID: d.Str(take(blockID)), Text: input.Raw()})
	case "tool_result", "mcp_tool_result":
		d.result(take(blockContent), llm.Part{Kind: llm.PartToolResult, ToolCallID: d.Str(take(blockToolUseID))})
	case "thinking":
		take(blockSignature) // of any length; Anthropic checks it
		d.Part(llm.Part{Kind: llm.PartReasoning, Text: d.Text(take(blockThinking))})
	case "redacted_thinking":
		d.Part(llm.Part{Kind: llm.PartReasoning, Bytes: len(d.Text(take(blockData)))})
	case "compaction":
		take(blockSignature) // as above
		d.AddText(take(blockContent), of)
	case "tool_addition", "tool_removal":
		// A tool that is defined here is offered from here on, as those of the body are. Others are named only.
		change := take(blockTool)
		if definition := change.Get("definition"); kind == "tool_addition" && change.Get("type").Is("tool_definition") {
			d.tool(definition)
		} else {
			d.Unknown(change)
		}
	case "mcp_tool_listing", "fallback", "tool_reference", "browser_state":
		for i, member := range m {
			if i >= blockText && i != blockMarker && !wire.Trivial(member) {
				d.Unknown(member)
			}
		}
		return
	default:
		if strings.HasSuffix(kind, "_tool_result") { // of a tool that Anthropic carried out
			d.Part(llm.Part{Kind: llm.PartToolResult, ToolCallID: d.Str(take(blockToolUseID)), Text: take(blockContent).Raw()})
			break
		}
		d.Find(llm.FindingUnknownPart, v, "the kind of the block is unknown")
		d.Unknown(v)
		return
	}
	for i, member := range m {
		if i >= blockServer {
			d.Silent(member)
		} else if !wire.Trivial(member) {
			d.Unknown(member)
		}
	}
}

// result reads the content of a tool's result: a part for each text in it, or one without text.
func (d decoder) result(v strictjson.Value, of llm.Part) {
	before := len(d.Parts())
	d.content(v, of)
	if !d.HasResult(before) {
		d.Part(of)
	}
}

var sourceFields = []string{"type", "media_type", "data", "url", "file_id", "content"}

// attachment reads the source of an image or document into p. Text in it becomes parts like of.
func (d decoder) attachment(p llm.Part, v strictjson.Value, of llm.Part) {
	if !d.Want(v, wire.Object) {
		d.Part(p)
		return
	}
	var kind, data, content strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, sourceFields) {
		case "type":
			kind = m
		case "media_type":
			p.MediaType = d.Str(m)
		case "data":
			data = m
		case "url":
			d.URL(m)
		case "content":
			content = m
		case "":
			d.Unknown(m)
		}
	}
	text := d.Text(data)
	p.Bytes = len(text)
	d.Part(p)
	switch {
	case kind.Is("base64"), kind.Is("url"), kind.Is("file"), kind.Is("content"):
	case kind.Is("text"):
		of.Text = text
		d.Part(of)
	default:
		d.Find(llm.FindingUnknownPart, v, "the kind of the source is unknown")
	}
	if content.Kind() != strictjson.Absent {
		d.content(content, of)
	}
}
