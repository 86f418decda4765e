package a2a

import (
	"encoding/json"
	"net/http"
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is JSON-RPC's error.
type refusal struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"` // null when it is not known
	Error   struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// newRefusal returns the error for the request of an id, as it is written, which may be empty.
func newRefusal(r llm.Refusal, id []byte) refusal {
	e := refusal{Version: "2.0", ID: json.RawMessage("null")}
	if len(id) > 0 {
		e.ID = slices.Clone(id)
	}
	e.Error.Code, e.Error.Message = wire.RPCRefused, wire.Explain(r)
	return e
}

// Refuse returns the answer to a refused caller: 403 with JSON-RPC's error, whose message the official SDKs raise. They do not retry.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(newRefusal(r, nil))}
}
