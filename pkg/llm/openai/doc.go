// Package openai reads and answers OpenAI's API, on the wire and nothing else: no client, no server. It has a row for every
// surface, for Azure OpenAI's paths too, and reads what servers that speak the same wire format (vLLM, Mistral, Groq, DeepSeek, OpenRouter) add to it.
//
//	call := openai.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Most callers want package surface, which picks the row by API, method and path.
//
// Whatever a request says is in the call: as text of a message, as a tool, a URL or a further model, or, where the codec knows a member and reads
// nothing in it, as a part of kind unknown once it is long enough to carry something. Out of sight are what an attachment holds (its
// kind and size are in sight), and what the model's provider wrote and sealed itself, such as encrypted reasoning.
package openai
