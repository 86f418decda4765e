// Package a2a reads and answers the Agent2Agent protocol in its JSON-RPC form, on the wire and nothing else: no client, no server.
//
//	call := a2a.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Both ways to write its methods and parts are read, that of the versions before 1.0 and that of those since.
//
// Most callers want package surface, which picks the codec by API, method and path.
package a2a
