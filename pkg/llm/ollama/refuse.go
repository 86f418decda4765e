package ollama

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is Ollama's error.
type refusal struct {
	Error string `json:"error"`
}

// Refuse returns the answer to a refused caller: 403 with Ollama's error, which the official clients raise as ResponseError and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(refusal{wire.Explain(r)})}
}
