package surface

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The provider APIs that the table knows.
const (
	APIOpenAI    = "openai"
	APIAnthropic = "anthropic"
)

// Spec is how one surface is read and answered.
type Spec struct {
	// Surface is the row's name; llm.SurfaceUnknown where no row matches.
	Surface llm.Surface
	// API is the provider API that was asked for.
	API string
	// Decode reads a request body into the normal form. It never fails and never returns nil.
	Decode func(contentType string, body []byte, lim llm.Limits) *llm.Call
	// Watch returns a reader for the response with the given content type: a stream of events or JSON.
	Watch func(contentType string) llm.Watcher
	// Refuse answers a refused caller in its own dialect: an error that the provider's SDK surfaces and does not retry.
	Refuse func(r llm.Refusal) (status int, contentType string, body []byte)
}

// row is one line of the table. A path is matched byte for byte.
type row struct {
	api, method, path string
	spec              Spec
}

// table holds the surfaces that can be read.
var table = []row{
	{APIOpenAI, "POST", "/v1/chat/completions", Spec{llm.SurfaceOpenAIChatCompletions, APIOpenAI, openai.Decode, openai.Watch, openai.Refuse}},
	{APIAnthropic, "POST", "/v1/messages", Spec{llm.SurfaceAnthropicMessages, APIAnthropic, anthropic.Decode, anthropic.Watch, anthropic.Refuse}},
}

// Lookup returns the spec of the surface at method and path of an API. The path is the canonical path of the request
// without its query, and is matched byte for byte: "/v1/chat/completions/" or "//v1/messages" are other paths, and unknown ones.
// Lookup never returns nil: where no row matches it returns a spec of llm.SurfaceUnknown, which decodes nothing
// and refuses in the API's dialect.
func Lookup(api, method, path string) *Spec {
	for i := range table {
		if r := &table[i]; r.path == path && r.method == method && r.api == api {
			return &r.spec
		}
	}
	return &Spec{Surface: llm.SurfaceUnknown, API: api, Decode: decodeUnknown, Watch: openai.Watch, Refuse: openai.Refuse}
}

func decodeUnknown(_ string, body []byte, _ llm.Limits) *llm.Call {
	return &llm.Call{Surface: llm.SurfaceUnknown, Operation: llm.OperationUnknown, BodyBytes: len(body)}
}
