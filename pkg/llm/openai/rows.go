package openai

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	ChatCompletions llm.Surface = "openai.chat_completions"
)

// Rows are the surfaces of OpenAI's API.
var Rows = []llm.Row{
	{
		Surface: ChatCompletions, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/v1/chat/completions", Streams: []llm.Framing{llm.FramingSSE},
		Decode: Decode, Watch: Watch, Refuse: Refuse,
	},
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}
