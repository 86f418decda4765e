// Package surface is the table of the model APIs that Sallyport can read: which codec reads a request, by provider
// API, method and path.
//
//	m := surface.Lookup(surface.APIOpenAI, "POST", "/v1/chat/completions")
//	call := m.Decode(&llm.Request{Method: "POST", Path: "/v1/chat/completions", Vars: m.Vars, ContentType: contentType, Body: body}, llm.DefaultLimits())
//
// Adding a surface adds a row, a codec and its fixtures, and touches nothing else; docs/surfaces.md is written from all three by this package's
// tests. The package does not know hosts: which API a destination speaks is configuration.
package surface
