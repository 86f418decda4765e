package wire

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// RPCRefused is the code of a refusal in JSON-RPC, among those that it leaves to servers.
const RPCRefused = -32000

// RPCVersion checks that a message of JSON-RPC says the version that all readers know.
func (r *Reader) RPCVersion(message strictjson.Value) {
	if version := message.Get("jsonrpc"); version.Kind() == strictjson.Absent {
		r.Missing(message, "jsonrpc")
	} else if !version.Is("2.0") {
		r.Find(llm.FindingWrongType, version, "the message is not of JSON-RPC 2.0")
	}
}
