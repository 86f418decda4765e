package openai

import "sallyport.dev/sallyport/pkg/llm"

// Decode reads a request body. It never fails: what is wrong with the body is among the call's findings.
func Decode(contentType string, body []byte, lim llm.Limits) *llm.Call {
	return &llm.Call{Provider: "openai", Operation: llm.OperationChat, BodyBytes: len(body), Findings: []llm.Finding{{Code: llm.FindingUnparseable}}}
}

// Watch returns a reader of the response with the given content type.
func Watch(contentType string) llm.Watcher { return discard{} }

type discard struct{}

func (discard) Write([]byte)     {}
func (discard) Reply() llm.Reply { return llm.Reply{} }

// Refuse returns the answer to a refused caller.
func Refuse(r llm.Refusal) (status int, contentType string, body []byte) {
	return 403, "application/json", nil
}
