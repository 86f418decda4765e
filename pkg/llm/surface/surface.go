package surface

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The provider APIs that the table knows.
const (
	APIOpenAI    = "openai"
	APIAnthropic = "anthropic"
)

// Spec is how one surface is read and answered. It is shared and must not be changed.
type Spec struct {
	// Surface is the row's name; llm.SurfaceUnknown where no row matches.
	Surface llm.Surface
	// API is the provider API that was asked for.
	API string
	// Decode reads a request body into the normal form. It never fails and never returns nil.
	Decode func(contentType string, body []byte, lim llm.Limits) *llm.Call
	// Watch returns a reader for the response with the given content type: a stream of events or JSON. The response must
	// not be compressed.
	Watch func(contentType string) llm.Watcher
	// Refuse answers a refused caller in its own dialect: an error that the provider's SDK surfaces and does not retry.
	Refuse func(r llm.Refusal) (status int, contentType string, body []byte)
}

// row is one line of the table. Method and path are matched byte for byte.
type row struct {
	method, path string
	spec         Spec
}

// table holds the surfaces that can be read, by API.
var table = map[string][]row{
	APIOpenAI: {
		{http.MethodPost, "/v1/chat/completions", Spec{llm.SurfaceOpenAIChatCompletions, APIOpenAI, openai.Decode, openai.Watch, openai.Refuse}},
	},
	APIAnthropic: {
		{http.MethodPost, "/v1/messages", Spec{llm.SurfaceAnthropicMessages, APIAnthropic, anthropic.Decode, anthropic.Watch, anthropic.Refuse}},
	},
}

// unknown holds, by API, what is done where no row matches: nothing is read of the call, but what the caller is told is in the API's dialect.
var unknown = map[string]Spec{
	APIOpenAI:    {llm.SurfaceUnknown, APIOpenAI, decodeUnknown(openai.Provider), openai.Watch, openai.Refuse},
	APIAnthropic: {llm.SurfaceUnknown, APIAnthropic, decodeUnknown(anthropic.Provider), anthropic.Watch, anthropic.Refuse},
}

// Lookup returns the spec of the surface at method and path of an API. The path is the canonical path of the request
// without its query. It is matched byte for byte, for nobody can say what a provider makes of a path that is nearly one it
// knows: "/v1/chat/completions/", "//v1/messages" and "/V1/messages" are unknown.
//
// Lookup never returns nil: where no row matches, the spec is of llm.SurfaceUnknown. Its Decode reads nothing, so that a call has the
// surface and the size of its body and no findings; it is for policy to refuse it.
func Lookup(api, method, path string) *Spec {
	rows := table[api]
	for i := range rows {
		if rows[i].path == path && rows[i].method == method {
			return &rows[i].spec
		}
	}
	if s, ok := unknown[api]; ok {
		return &s
	}
	// An API that nobody has a codec for. OpenAI's form of an error is the one that most clients read.
	return &Spec{llm.SurfaceUnknown, api, decodeUnknown(""), openai.Watch, openai.Refuse}
}

func decodeUnknown(provider string) func(string, []byte, llm.Limits) *llm.Call {
	return func(_ string, body []byte, _ llm.Limits) *llm.Call {
		return &llm.Call{Provider: provider, Surface: llm.SurfaceUnknown, Operation: llm.OperationUnknown, BodyBytes: len(body)}
	}
}
