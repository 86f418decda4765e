package mcp

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	MessageSurface llm.Surface = "mcp.message"
	ListenSurface  llm.Surface = "mcp.listen"
	SessionSurface llm.Surface = "mcp.session"
)

// Rows are the surfaces of an MCP server, which is one path: the provider's base path, or "/mcp" below it, as most servers have it. Servers at
// another path are named with it; what else is on their host, such as where tokens are had, is unknown.
var Rows = rows("", "/", "/mcp", "/mcp/")

func rows(paths ...string) []llm.Row {
	var out []llm.Row
	for _, path := range paths {
		out = append(out,
			llm.Row{
				Surface: MessageSurface, Class: llm.ClassTool, Operation: llm.OperationExecuteTool,
				Method: http.MethodPost, Path: path, Streams: []llm.Framing{llm.FramingSSE},
				Decode: Decode, Watch: Watch, Refuse: Refuse,
			},
			llm.Row{
				Surface: ListenSurface, Class: llm.ClassTool, Operation: llm.OperationRetrieve,
				Method: http.MethodGet, Path: path, Streams: []llm.Framing{llm.FramingSSE},
				Decode: Listen, Watch: Watch, Refuse: Refuse,
			},
			llm.Row{
				Surface: SessionSurface, Class: llm.ClassTool, Operation: llm.OperationDelete,
				Method: http.MethodDelete, Path: path,
				Decode: EndSession, Watch: Watch, Refuse: Refuse,
			})
	}
	return out
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}
