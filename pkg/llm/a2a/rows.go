package a2a

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	RPCSurface  llm.Surface = "a2a.rpc"
	CardSurface llm.Surface = "a2a.agent_card"
)

// Rows are the surfaces of an agent: the provider's base path, and its card. The card is below the root of the host, so that an agent at
// another path has it only where the base path is the root. The protocol's other forms, gRPC and plain HTTP, are unknown.
var Rows = []llm.Row{
	rpc(""),
	rpc("/"),
	card("/.well-known/agent-card.json"),
	card("/.well-known/agent.json"), // before 0.3
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}

func rpc(path string) llm.Row {
	return llm.Row{
		Surface: RPCSurface, Class: llm.ClassTool, Operation: llm.OperationInvokeAgent,
		Method: http.MethodPost, Path: path, Streams: []llm.Framing{llm.FramingSSE},
		Decode: Decode, Watch: Watch, Refuse: Refuse,
	}
}

func card(path string) llm.Row {
	return llm.Row{
		Surface: CardSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationRetrieve,
		Method: http.MethodGet, Path: path,
		Decode: Card, Watch: Watch, Refuse: Refuse,
	}
}
