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

// Refuse returns the answer to a refused caller: 403 with Anthropic's error object, which the official SDKs raise as PermissionDeniedError
// and do not retry.
func Refuse(r llm.Refusal) (status int, contentType string, body []byte) {
	e := refusal{Type: "error"}
	e.Error.Type = "permission_error"
	e.Error.Message = wire.Explain(r)
	return http.StatusForbidden, wire.JSON, wire.Encode(e)
}
