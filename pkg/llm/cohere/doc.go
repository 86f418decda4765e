// Package cohere reads and answers Cohere's API, both its versions, on the wire and nothing else: no client, no server.
//
//	call := cohere.ChatV2(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Most callers want package surface, which picks the codec by API, method and path.
package cohere
