package cohere

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is Cohere's error.
type refusal struct {
	Message string `json:"message"`
}

// Refuse returns the answer to a refused caller: 403 with Cohere's error, which the official SDKs raise as ForbiddenError and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(refusal{wire.Explain(r)})}
}

// finishError is the reason of a stream that ended with an error, in both versions.
const finishError = "ERROR"

// endV2 is the event that ends a stream of the second version with an error.
type endV2 struct {
	Type  string `json:"type"`
	Delta struct {
		FinishReason string `json:"finish_reason"`
		Error        string `json:"error"`
	} `json:"delta"`
}

// endV1 is the event that ends a stream of the first version with an error.
type endV1 struct {
	Finished     bool   `json:"is_finished"`
	EventType    string `json:"event_type"`
	FinishReason string `json:"finish_reason"`
	Response     struct {
		Text         string `json:"text"`
		FinishReason string `json:"finish_reason"`
	} `json:"response"`
}
