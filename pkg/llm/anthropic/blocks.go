package anthropic

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

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
		of = of.Quoted()
		d.AddText(take(blockTitle), of)
		d.AddText(take(blockContext), of)
		d.attachment(llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID}, take(blockSource), of)
	case "search_result":
		of = of.Quoted()
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
