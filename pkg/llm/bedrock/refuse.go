package bedrock

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is the body of an error, whose name is in a header.
type refusal struct {
	Message string `json:"message"`
}

// Refuse returns the answer to a refused caller: 403 and AccessDeniedException, which the official SDKs raise as the exception of that name and
// do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{
		Status: http.StatusForbidden, ContentType: wire.JSON, Header: http.Header{"X-Amzn-Errortype": {"AccessDeniedException"}},
		Body: wire.Encode(refusal{wire.Explain(r)}),
	}
}

// streamException is the exception that ends a stream. It is the only one of those that the streams have that is the caller's own doing, so that
// nobody tries again; one that they do not have is not raised by all SDKs with its message.
const streamException = "validationException"

// end returns what ends a stream with a refusal.
func end(f llm.Framing, r llm.Refusal) []byte {
	if f != llm.FramingEventStream {
		return nil
	}
	return wire.EventException(streamException, wire.Encode(refusal{wire.Explain(r)}))
}
