// Package surface is the table of the model APIs that Sallyport can read: which codec reads a request, by provider
// API, method and path.
//
//	call := surface.Lookup("openai", "POST", "/v1/chat/completions").Decode(contentType, body, llm.DefaultLimits())
//
// Adding a surface adds a row, a codec and its fixtures, and touches nothing else. The package does not know hosts:
// which API a destination speaks is configuration.
package surface
