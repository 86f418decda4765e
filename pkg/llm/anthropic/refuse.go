package anthropic

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is Anthropic's error object.
type refusal struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

func refused(r llm.Refusal) refusal {
	e := refusal{Type: "error"}
	e.Error.Type = "permission_error"
	e.Error.Message = wire.Explain(r)
	return e
}

// Refuse returns the answer to a refused caller: 403 with Anthropic's error object, which the official SDKs raise as PermissionDeniedError
// and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(refused(r))}
}
