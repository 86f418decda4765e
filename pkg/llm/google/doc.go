// Package google reads and answers the Gemini API and Vertex AI, with the models of Anthropic that Vertex AI hosts, on the wire and nothing
// else: no client, no server.
//
//	for _, row := range google.GeminiRows {
//		if vars, ok := row.Match(method, path); ok {
//			call := row.Decode(&llm.Request{Method: method, Path: path, Vars: vars, ContentType: contentType, Body: body}, llm.DefaultLimits())
//		}
//	}
//
// Most callers want package surface, which picks the row by API, method and path.
//
// The APIs are protocol buffers written as JSON: every member can be spelled in two ways (generationConfig, generation_config), a list of one can
// be written without its brackets, and a number as a string. The codec reads all of that as Google does, and objects to a
// member that is there in both spellings, because nobody can say which of them is taken.
package google
