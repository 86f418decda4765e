package google

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var contentNames = known("parts", "role")

// content reads one turn. The role is that of the turn where role is "".
func (d decoder) content(v strictjson.Value, role llm.Role) {
	m := d.Message(role, v)
	if !d.Want(v, wire.Object) {
		d.Unknown(v)
	}
	for k, v := range v.Members() {
		switch d.name(k, contentNames) {
		case "parts":
			for p := range each(v) {
				d.part(p)
			}
		case "role":
			if said := d.role(v); role == "" {
				m.Role = said
			}
		default:
			d.Find(llm.FindingUnknownPart, v, "the member of a turn is unknown")
			d.Unknown(v)
		}
	}
	if m.Role == "" {
		m.Role = llm.RoleUser
	}
	// The results of tools come in a turn of the user. One of nothing else is the tool's.
	if parts := d.Parts(); m.Role == llm.RoleUser && len(parts) > 0 {
		for _, p := range parts {
			if p.Kind != llm.PartToolResult && (p.ToolCallID == "" || p.Kind == llm.PartToolCall) {
				return
			}
		}
		m.Role = llm.RoleTool
	}
}

func (d decoder) role(v strictjson.Value) llm.Role {
	switch text := d.Text(v); string(text) {
	case "", "user":
		return llm.RoleUser
	case "model":
		return llm.RoleAssistant
	case "system":
		return llm.RoleSystem
	case "function", "tool":
		return llm.RoleTool
	default:
		d.Find(llm.FindingUnknownRole, v, "the role is unknown")
		return llm.Role(text)
	}
}

// The members of a part. Those up to partToolResponse are its content, of which it has one.
const (
	partText = iota
	partInlineData
	partFileData
	partFunctionCall
	partFunctionResponse
	partExecutableCode
	partCodeResult
	partToolCall
	partToolResponse
	partThought
	partSignature
	partTranscription
	partSilent
)

var partNames = known("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult", "toolCall", "toolResponse", "thought",
	"thoughtSignature", "audioTranscription", "mediaResolution", "videoMetadata", "mediaProcessing", "partMetadata", "speechMetadata")

// codeExecution is the name by which the provider's running of code is known in the normal form.
const codeExecution = "code_execution"

// part reads one part of a turn.
func (d decoder) part(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	thought := get(v, "thought").Bool()
	contents := 0
	for k, m := range v.Members() {
		i := d.member(k, partNames)
		if i >= 0 && i < partThought && m.Kind() != strictjson.Null {
			if contents++; contents == 2 {
				d.Find(llm.FindingDuplicateKey, k, "a part has two contents, of which it is one")
			}
		}
		switch i {
		case partText:
			p := llm.Part{Kind: llm.PartText, Text: d.Text(m)}
			if thought {
				p.Kind = llm.PartReasoning
			}
			d.Part(p)
		case partInlineData, partFileData:
			d.data(m, "")
		case partFunctionCall, partToolCall:
			d.functionCall(m)
		case partFunctionResponse, partToolResponse:
			d.functionResponse(m)
		case partExecutableCode:
			d.Part(llm.Part{Kind: llm.PartToolCall, ToolName: codeExecution, ToolCallID: string(get(m, "id").Text()), Text: m.Raw()})
		case partCodeResult:
			d.codeResult(m)
		case partThought:
			d.Want(m, wire.Bool|wire.Null)
		case partSignature: // of any length; the provider checks it
			d.Text(m)
		case partTranscription:
			for k, m := range m.Members() {
				if k.Is("text") {
					d.Part(llm.Part{Kind: llm.PartText, Text: d.Text(m)})
				} else {
					d.Silent(m)
				}
			}
		case -1:
			d.Find(llm.FindingUnknownPart, m, "the kind of the part is unknown")
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
}

var dataNames = known("mimeType", "data", "fileUri", "displayName")

// data reads data that is in the body or at a URL.
func (d decoder) data(v strictjson.Value, toolCallID string) {
	if !d.Expect(v, wire.Object|wire.Null) {
		return
	}
	p := llm.Part{ToolCallID: toolCallID}
	for k, m := range v.Members() {
		switch d.name(k, dataNames) {
		case "mimeType":
			p.MediaType = d.Str(m)
		case "data":
			p.Bytes = len(d.Text(m))
		case "fileUri":
			d.URL(m)
		case "displayName":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	p.Kind = attachment(p.MediaType)
	d.Part(p)
}

// attachment returns the kind of an attachment of a media type.
func attachment(mediaType string) llm.PartKind {
	switch kind, _, _ := strings.Cut(strings.ToLower(mediaType), "/"); kind {
	case "image":
		return llm.PartImage
	case "audio":
		return llm.PartAudio
	}
	return llm.PartFile
}

var callNames = known("id", "name", "args", "toolType", "partialArgs", "willContinue")

func (d decoder) functionCall(v strictjson.Value) {
	if !d.Expect(v, wire.Object|wire.Null) {
		return
	}
	p := llm.Part{Kind: llm.PartToolCall}
	for k, m := range v.Members() {
		switch d.name(k, callNames) {
		case "id":
			p.ToolCallID = d.Str(m)
		case "name", "toolType":
			p.ToolName = toolName(d, m)
		case "args":
			p.Text = m.Raw()
		case "willContinue":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

// toolName reads the name of a function or the type of a tool, which can be a number.
func toolName(d decoder, v strictjson.Value) string {
	if d.Want(v, wire.String|wire.Number|wire.Null) && v.Kind() == strictjson.Number {
		return string(v.Raw())
	}
	return string(v.Text())
}

var responseNames = known("id", "name", "response", "parts", "toolType", "scheduling", "willContinue")

func (d decoder) functionResponse(v strictjson.Value) {
	if !d.Expect(v, wire.Object|wire.Null) {
		return
	}
	p := llm.Part{Kind: llm.PartToolResult}
	var parts strictjson.Value
	for k, m := range v.Members() {
		switch d.name(k, responseNames) {
		case "id":
			p.ToolCallID = d.Str(m)
		case "name", "toolType":
			p.ToolName = toolName(d, m)
		case "response":
			p.Text = m.Raw()
		case "parts":
			parts = m
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	d.Part(p)
	for m := range each(parts) {
		if !d.Expect(m, wire.Object) {
			continue
		}
		for k, data := range m.Members() {
			if i := d.member(k, partNames); i == partInlineData || i == partFileData {
				d.data(data, p.ToolCallID)
			} else if i >= partSilent {
				d.Silent(data)
			} else {
				d.Unknown(data)
			}
		}
	}
}

var codeNames = known("outcome", "output", "id")

func (d decoder) codeResult(v strictjson.Value) {
	if !d.Expect(v, wire.Object|wire.Null) {
		return
	}
	p := llm.Part{Kind: llm.PartToolResult, ToolName: codeExecution}
	for k, m := range v.Members() {
		switch d.name(k, codeNames) {
		case "outcome":
			d.Silent(m)
		case "output":
			p.Text = d.Text(m)
		case "id":
			p.ToolCallID = d.Str(m)
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}
