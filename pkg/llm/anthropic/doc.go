// Package anthropic reads and answers Anthropic's API, on the wire and nothing else: no client, no server.
//
//	call := anthropic.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Most callers want package surface, which picks the codec by host and path.
package anthropic
