// Package mcp reads and answers the Model Context Protocol over streamable HTTP, on the wire and nothing else: no client, no server.
//
//	call := mcp.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// The normal form of a message has its method as RPCMethod, a call of a tool as a tool call of the assistant, the resource that is read among
// the URLs, and whatever else it says in sight.
//
// Most callers want package surface, which picks the codec by API, method and path.
package mcp
