package google

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is Google's error object.
type refusal struct {
	Error refusalError `json:"error"`
}

type refusalError struct {
	Code    int         `json:"code"`
	Message string      `json:"message"`
	Status  string      `json:"status"`
	Details []errorInfo `json:"details"`
}

// errorInfo is google.rpc.ErrorInfo.
type errorInfo struct {
	Type     string       `json:"@type"`
	Reason   string       `json:"reason"`
	Domain   string       `json:"domain"`
	Metadata errorDetails `json:"metadata"`
}

type errorDetails struct {
	Rule     string `json:"rule"`
	Decision string `json:"decision"`
}

func refused(r llm.Refusal) []byte {
	return wire.Encode(refusal{refusalError{
		Code: http.StatusForbidden, Message: wire.Explain(r), Status: "PERMISSION_DENIED",
		Details: []errorInfo{{
			Type: "type.googleapis.com/google.rpc.ErrorInfo", Reason: "SALLYPORT_REFUSED", Domain: "sallyport.dev",
			Metadata: errorDetails{Rule: r.Rule, Decision: r.DecisionID},
		}},
	}})
}

// Refuse returns the answer to a refused caller: 403 with Google's error object, which the official SDKs raise and do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: refused(r)}
}

// RefuseMessage returns the answer to a refused message of a session: Google's error object, which the Go SDK raises. That for
// JavaScript passes over it and is told by the close frame that follows.
func RefuseMessage(r llm.Refusal) []byte { return refused(r) }
