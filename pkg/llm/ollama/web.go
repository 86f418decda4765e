package ollama

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

var (
	searchFields = wire.Fields{"max_results": integer, "maxResults": integer, "query": needed}
	fetchFields  = wire.Fields{"url": needed}
)

// web returns the Decode of a surface by which Ollama's own server searches the web or fetches a page, named member.
func web(surface llm.Surface, fields wire.Fields, member string, class llm.ServerTool) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassTool, Operation: llm.OperationExecuteTool}
		d, root, ok := open(call, req, lim, fields)
		defer d.Close()
		call.Tools = []llm.Tool{{Name: string(class), Type: string(class), ServerSide: true, Class: class}}
		if !ok {
			return call
		}
		d.Message(llm.RoleAssistant, root)
		d.Part(llm.Part{Kind: llm.PartToolCall, ToolName: string(class), Text: root.Raw()})
		asked := root.Get(member)
		if len(asked.Text()) == 0 {
			d.Missing(root, member)
		}
		if class == llm.ServerToolWebFetch {
			d.URL(asked)
		}
		return call
	}
}
