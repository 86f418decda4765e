package openai

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is OpenAI's error object. Its members are all there, null where they say nothing, as the SDKs expect.
type refusal struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	} `json:"error"`
}

// Refuse returns the answer to a refused caller: 403 with OpenAI's error object, which the official SDKs raise as PermissionDeniedError
// and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	var e refusal
	e.Error.Message = wire.Explain(r)
	e.Error.Type = "permission_error"
	e.Error.Code = wire.RefusalCode
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(e)}
}
