// Package ollama reads and answers Ollama's own API, on the wire and nothing else: no client, no server. The same server speaks OpenAI's and
// Anthropic's messages, too, whose rows are among those of this package.
//
//	call := ollama.Chat(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Most callers want package surface, which picks the codec by API, method and path.
package ollama
