package mcp

import (
	"encoding/json"
	"net/http"
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// refusal is JSON-RPC's error. MCP leaves out the id where JSON-RPC writes null.
type refusal struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Error   struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Rule     string `json:"rule"`
			Decision string `json:"decision"`
		} `json:"data"`
	} `json:"error"`
}

// newRefusal returns the error for the request of an id, as it is written, which may be empty.
func newRefusal(r llm.Refusal, id []byte) refusal {
	e := refusal{Version: "2.0", ID: slices.Clone(id)}
	e.Error.Code = wire.RPCRefused
	e.Error.Message = wire.Explain(r)
	e.Error.Data.Rule, e.Error.Data.Decision = r.Rule, r.DecisionID
	return e
}

// Refuse returns the answer to a refused caller: 403 with JSON-RPC's error, which the official SDKs raise with its text and do not retry. An answer
// by 200 would have to name the request's id, or the client would wait for another one.
func Refuse(r llm.Refusal) llm.Answer {
	return llm.Answer{Status: http.StatusForbidden, ContentType: wire.JSON, Body: wire.Encode(newRefusal(r, nil))}
}
