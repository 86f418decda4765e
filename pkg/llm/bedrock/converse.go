package bedrock

import (
	"net/http"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// converseFields are the members of a request of Converse and ConverseStream, as in the official SDKs.
var converseFields = wire.Fields{
	"additionalModelRequestFields":      {Kinds: wire.Any},
	"additionalModelResponseFieldPaths": {Kinds: wire.Array | wire.Null},
	"guardrailConfig":                   {Kinds: wire.Object | wire.Null},
	"inferenceConfig":                   {Kinds: wire.Object | wire.Null},
	"messages":                          {Kinds: wire.Array | wire.Null},
	"outputConfig":                      {Kinds: wire.Object | wire.Null},
	"performanceConfig":                 {Kinds: wire.Object | wire.Null},
	"promptVariables":                   {Kinds: wire.Object | wire.Null},
	"requestMetadata":                   {Kinds: wire.Object | wire.Null},
	"serviceTier":                       {Kinds: wire.Object | wire.Null},
	"system":                            {Kinds: wire.Array | wire.Null},
	"toolConfig":                        {Kinds: wire.Object | wire.Null},
}

// marker is the member that marks a place to cache up to, in a block of its own.
const marker = "cachePoint"

// Converse reads a request of Converse. It never fails: what is wrong with it is among the call's findings. The call may refer to the body,
// which must not change as long as the call is used.
//
// A user's message of nothing but results of tools is of llm.RoleTool in the normal form.
func Converse(req *llm.Request, lim llm.Limits) *llm.Call {
	return converse(req, lim, ConverseSurface, false)
}

// ConverseStream reads a request of ConverseStream, as Converse does.
func ConverseStream(req *llm.Request, lim llm.Limits) *llm.Call {
	return converse(req, lim, ConverseStreamSurface, true)
}

func converse(req *llm.Request, lim llm.Limits, surface llm.Surface, stream bool) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassModel, Operation: llm.OperationChat, Stream: stream}
	d := open(call, req, req.ContentType, lim)
	defer d.Close()
	root, ok := d.Object(converseFields)
	if !ok {
		return call
	}
	d.conversation(root)
	return call
}

// open begins to read a request into call: its query, which no surface of the runtime but one has, the model of its path, and its body.
func open(call *llm.Call, req *llm.Request, contentType string, lim llm.Limits) decoder {
	r := wire.Open(call, contentType, req.Body, lim)
	wire.Query(call, req, nil)
	id, ok := modelID(req)
	call.Model = id
	if !ok {
		r.Find(llm.FindingQuery, strictjson.Value{}, "the model in the path is badly escaped")
	}
	return decoder{r, call}
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// conversation reads the members of a request of Converse.
func (d decoder) conversation(root strictjson.Value) {
	messages := strings.Contains(d.call.Model, ":prompt/") // a stored prompt has messages of its own
	for k, v := range root.Members() {
		switch {
		case k.Is("messages") && v.Kind() == strictjson.Array:
			messages = true
			d.Grow(v.Len() + 1)
		case k.Is("inferenceConfig"):
			d.inference(v)
		case k.Is("toolConfig"):
			d.toolConfig(v)
		}
	}
	// The system prompt comes first, wherever the body has it.
	for k, v := range root.Members() {
		if k.Is("system") && v.Kind() == strictjson.Array {
			d.Message(llm.RoleSystem, v, marker)
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
	// What goes into a stored prompt, and what goes to the model past Bedrock's own form.
	for k, v := range root.Members() {
		switch {
		case k.Is("promptVariables"):
			d.variables(v)
		case k.Is("additionalModelRequestFields"):
			d.additional(v)
		}
	}
	if !messages {
		d.Missing(root, "messages")
	}
}

var inferenceFields = []string{"maxTokens", "temperature", "max_new_tokens", "topP", "stopSequences"}

func (d decoder) inference(v strictjson.Value) {
	for k, m := range v.Members() {
		switch d.Name(k, inferenceFields) {
		case "maxTokens", "max_new_tokens": // the latter in the body of a Nova model
			d.call.MaxTokens = d.Int(m)
		case "temperature":
			d.call.Temperature = d.Float(m)
		}
	}
}

var variableFields = []string{"text"}

func (d decoder) variables(v strictjson.Value) {
	if v.Len() == 0 {
		return
	}
	d.Message(llm.RoleUser, v, marker)
	for _, value := range v.Members() {
		if !d.Expect(value, wire.Object) {
			continue
		}
		for k, m := range value.Members() {
			if d.Name(k, variableFields) == "text" {
				d.AddText(m, llm.Part{Kind: llm.PartText})
			} else {
				d.Unknown(m)
			}
		}
	}
}

// additional reads additionalModelRequestFields, which the model gets as its maker has them. Tools in it are read as Anthropic has them, the only
// maker known to take some there. What is long enough to carry something is not out of sight.
func (d decoder) additional(v strictjson.Value) {
	if wire.Trivial(v) {
		return
	}
	inner := messages.Decode(&llm.Request{Method: http.MethodPost, ContentType: wire.JSON, Body: v.Raw()}, llm.Limits{})
	d.call.Tools = append(d.call.Tools, inner.Tools...)
	d.call.URLs = append(d.call.URLs, inner.URLs...)
	d.call.OtherModels = append(d.call.OtherModels, inner.OtherModels...)
	if len(v.Raw()) > wire.MaxSilent {
		d.Message(llm.RoleSystem, v, marker)
		d.Unknown(v)
	}
}

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

var messageFields = []string{"role", "content"}

func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, marker)
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			if d.Expect(v, wire.Array|wire.Null) {
				d.content(v, llm.Part{Kind: llm.PartText})
			}
		default:
			d.Unknown(v)
		}
	}
	if m.Role == "" {
		d.Missing(v, "role")
	}
	if m.Role == llm.RoleUser && d.OnlyResults() {
		m.Role = llm.RoleTool
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "user": llm.RoleUser}

// content reads a list of blocks. The text in it becomes parts like of.
func (d decoder) content(v strictjson.Value, of llm.Part) {
	for b := range v.Elements() {
		d.block(b, of)
	}
}

var blockFields = []string{"text", "image", "audio", "video", "document", "toolUse", "toolResult", "reasoningContent", "guardContent", "searchResult", "citationsContent", marker, "json", "toolAddition", "toolRemoval"}

// block reads one block of content: an object of one member, whose name is the kind of the block. Whatever of it is not read becomes a part
// of unknown kind, so that nothing of a message is out of sight.
func (d decoder) block(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	if v.Len() != 1 {
		d.Find(llm.FindingUnknownPart, v, "the block has not one member but another number of them")
	}
	for k, m := range v.Members() {
		switch d.Name(k, blockFields) {
		case "text":
			of.Text = d.Text(m)
			d.Part(of)
		case "image":
			d.attachment(m, llm.Part{Kind: llm.PartImage, ToolCallID: of.ToolCallID, MediaType: "image/"}, of)
		case "audio":
			d.attachment(m, llm.Part{Kind: llm.PartAudio, ToolCallID: of.ToolCallID, MediaType: "audio/"}, of)
		case "video":
			d.attachment(m, llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID, MediaType: "video/"}, of)
		case "document":
			d.attachment(m, llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID}, of)
		case "toolUse":
			d.toolUse(m)
		case "toolResult":
			d.toolResult(m)
		case "reasoningContent":
			d.reasoning(m)
		case "guardContent":
			d.guarded(m, of)
		case "searchResult":
			d.searchResult(m, of)
		case "citationsContent":
			d.cited(m, of)
		case marker:
			d.Silent(m)
		case "json": // of a tool's result
			of.Text = m.Raw()
			d.Part(of)
		case "toolAddition", "toolRemoval": // these name a tool that is in the configuration
			d.Unknown(m)
		default:
			d.Find(llm.FindingUnknownPart, k, "the kind of the block is unknown")
			d.Unknown(m)
		}
	}
}

var attachmentFields = []string{"format", "source", "name", "context", "citations"}

// attachment reads an image, a sound, a video or a document into p, whose MediaType is what the format comes after. Text in it becomes
// parts like of.
func (d decoder) attachment(v strictjson.Value, p, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var source strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, attachmentFields) {
		case "format":
			if format := d.Str(m); p.MediaType != "" {
				p.MediaType += format
			} else {
				p.MediaType = documentType(format)
			}
		case "source":
			source = m
		case "name", "context":
			d.AddText(m, of)
		case "citations":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	if strings.HasSuffix(p.MediaType, "/") {
		p.MediaType = ""
	}
	if source.Kind() == strictjson.Absent {
		d.Missing(v, "source")
	}
	d.source(source, p, of)
}

// documentType returns the media type of a format of documents.
func documentType(format string) string {
	switch format {
	case "pdf":
		return "application/pdf"
	case "doc":
		return "application/msword"
	case "docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case "xls":
		return "application/vnd.ms-excel"
	case "xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case "txt":
		return "text/plain"
	case "md":
		return "text/markdown"
	}
	return "text/" + format
}

var (
	sourceFields   = []string{"bytes", "s3Location", "text", "content"}
	locationFields = []string{"uri", "bucketOwner"}
)

func (d decoder) source(v strictjson.Value, p, of llm.Part) {
	if !d.Want(v, wire.Object) {
		d.Part(p)
		return
	}
	at := len(d.Parts())
	d.Part(p)
	for k, m := range v.Members() {
		switch d.Name(k, sourceFields) {
		case "bytes":
			d.Parts()[at].Bytes = len(d.Text(m))
		case "s3Location":
			if !d.Want(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, locationFields) {
				case "uri":
					d.URL(m)
				case "bucketOwner":
					d.Silent(m)
				default:
					d.Unknown(m)
				}
			}
		case "text":
			text := d.Text(m)
			d.Parts()[at].Bytes = len(text)
			of.Text = text
			d.Part(of)
		case "content":
			if d.Want(m, wire.Array) {
				d.content(m, of)
			}
		default:
			d.Find(llm.FindingUnknownPart, k, "the kind of the source is unknown")
			d.Unknown(m)
		}
	}
}

var toolUseFields = []string{"toolUseId", "name", "input", "type"}

func (d decoder) toolUse(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartToolCall}
	for k, m := range v.Members() {
		switch d.Name(k, toolUseFields) {
		case "toolUseId":
			p.ToolCallID = d.Str(m)
		case "name":
			p.ToolName = d.Str(m)
		case "input":
			p.Text = m.Raw()
		case "type":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

var toolResultFields = []string{"toolUseId", "content", "status", "type"}

func (d decoder) toolResult(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	of := llm.Part{Kind: llm.PartToolResult}
	var content strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, toolResultFields) {
		case "toolUseId":
			of.ToolCallID = d.Str(m)
		case "content":
			content = m
		case "status", "type":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	before := len(d.Parts())
	if d.Want(content, wire.Array|wire.Null) {
		d.content(content, of)
	} else if content.Kind() != strictjson.Absent {
		d.Unknown(content)
	}
	if !d.HasResult(before) {
		d.Part(of)
	}
}

var (
	reasoningFields     = []string{"reasoningText", "redactedContent"}
	reasoningTextFields = []string{"text", "signature"}
)

func (d decoder) reasoning(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, reasoningFields) {
		case "reasoningText":
			if !d.Expect(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, reasoningTextFields) {
				case "text":
					d.Part(llm.Part{Kind: llm.PartReasoning, Text: d.Text(m)})
				case "signature": // of any length; the model's maker checks it
				default:
					d.Unknown(m)
				}
			}
		case "redactedContent":
			d.Part(llm.Part{Kind: llm.PartReasoning, Bytes: len(d.Text(m))})
		default:
			d.Unknown(m)
		}
	}
}

var (
	guardedFields     = []string{"text", "image"}
	guardedTextFields = []string{"text", "qualifiers"}
)

// guarded reads a block that a guardrail is to look at.
func (d decoder) guarded(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, guardedFields) {
		case "text":
			if !d.Expect(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, guardedTextFields) {
				case "text":
					d.AddText(m, of)
				case "qualifiers":
					d.Silent(m)
				default:
					d.Unknown(m)
				}
			}
		case "image":
			d.attachment(m, llm.Part{Kind: llm.PartImage, MediaType: "image/"}, of)
		default:
			d.Find(llm.FindingUnknownPart, k, "the kind of the block is unknown")
			d.Unknown(m)
		}
	}
}

var searchResultFields = []string{"source", "title", "content", "citations"}

func (d decoder) searchResult(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, searchResultFields) {
		case "source", "title":
			d.AddText(m, of)
		case "content":
			if d.Expect(m, wire.Array) {
				d.content(m, of)
			}
		case "citations":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
}

var citedFields = []string{"content", "citations"}

// cited reads a text of the model with the places that it cites.
func (d decoder) cited(v strictjson.Value, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, citedFields) {
		case "content":
			if d.Expect(m, wire.Array) {
				d.content(m, of)
			}
		default:
			d.Silent(m)
		}
	}
}
