package bedrock

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

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
			d.attachment(m, llm.Part{Kind: llm.PartFile, ToolCallID: of.ToolCallID}, of.Quoted())
		case "toolUse":
			d.toolUse(m)
		case "toolResult":
			d.toolResult(m)
		case "reasoningContent":
			d.reasoning(m)
		case "guardContent":
			d.guarded(m, of)
		case "searchResult":
			d.searchResult(m, of.Quoted())
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
