package openai

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusalError is OpenAI's error object. Its members are all there, null where they say nothing, as the SDKs expect.
type refusalError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// refusal is the answer to a refused request.
type refusal struct {
	Error refusalError `json:"error"`
}

func refusalOf(r llm.Refusal) refusal {
	return refusal{refusalError{Message: wire.Explain(r), Type: "permission_error", Code: wire.RefusalCode}}
}

// Refuse returns the answer to a refused caller: 403 with OpenAI's error object, which the official SDKs raise as PermissionDeniedError
// and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(refusalOf(r))}
}

// refusalEvent is an event of type "error". The API reference has its members beside one another, the API itself sends them within
// "error", where the official SDKs look for them; it has both.
type refusalEvent struct {
	Type           string       `json:"type"`
	EventID        string       `json:"event_id,omitempty"` // realtime
	Status         int          `json:"status,omitempty"`   // responses over a WebSocket
	SequenceNumber *int64       `json:"sequence_number,omitempty"`
	Code           string       `json:"code,omitempty"`
	Message        string       `json:"message,omitempty"`
	Param          *string      `json:"param,omitempty"`
	Error          refusalError `json:"error"`
}

// RefuseResponsesMessage answers a refused message of a WebSocket for responses.
func RefuseResponsesMessage(r llm.Refusal) []byte {
	return wire.Encode(refusalEvent{Type: "error", Status: http.StatusForbidden, Error: refusalOf(r).Error})
}

// RefuseRealtimeMessage answers a refused message of a realtime WebSocket.
func RefuseRealtimeMessage(r llm.Refusal) []byte {
	return wire.Encode(refusalEvent{Type: "error", EventID: "event_" + r.DecisionID, Error: refusalOf(r).Error})
}

// refuseStream ends a stream of the events of a response.
func refuseStream(r llm.Refusal, sequence int64) []byte {
	e := refusalOf(r).Error
	b := append([]byte("event: error\ndata: "), wire.Encode(refusalEvent{Type: "error", SequenceNumber: &sequence, Code: e.Code, Message: e.Message, Error: e})...)
	return append(b, "\n\n"...)
}
