package anthropic

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	Messages llm.Surface = "anthropic.messages"
)

// Rows are the surfaces of Anthropic's API.
var Rows = []llm.Row{
	{
		Surface: Messages, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/v1/messages", Streams: []llm.Framing{llm.FramingSSE},
		Decode: Decode, Watch: Watch, Refuse: Refuse,
	},
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}
