// Package openai reads and answers OpenAI's chat completions, on the wire and nothing else: no client, no server.
//
//	call := openai.Decode("application/json", body, llm.DefaultLimits())
//
// Most callers want package surface, which picks the codec by host and path.
package openai
