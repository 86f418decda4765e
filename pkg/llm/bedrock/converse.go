package bedrock

import (
	"net/http"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// converseFields are the members of a request of Converse and ConverseStream, as in the official SDKs.
var converseFields = wire.Fields{
	"additionalModelRequestFields":      {Kinds: wire.Any},
	"additionalModelResponseFieldPaths": {Kinds: wire.Array | wire.Null},
	"guardrailConfig":                   {Kinds: wire.Object | wire.Null},
	"inferenceConfig":                   {Kinds: wire.Object | wire.Null},
	"messages":                          {Kinds: wire.Array | wire.Null},
	"outputConfig":                      {Kinds: wire.Object | wire.Null},
	"performanceConfig":                 {Kinds: wire.Object | wire.Null},
	"promptVariables":                   {Kinds: wire.Object | wire.Null},
	"requestMetadata":                   {Kinds: wire.Object | wire.Null},
	"serviceTier":                       {Kinds: wire.Object | wire.Null},
	"system":                            {Kinds: wire.Array | wire.Null},
	"toolConfig":                        {Kinds: wire.Object | wire.Null},
}

// marker is the member that marks a place to cache up to, in a block of its own.
const marker = "cachePoint"

// Converse reads a request of Converse. It never fails: what is wrong with it is among the call's findings. The call may refer to the body,
// which must not change as long as the call is used.
//
// A user's message of nothing but results of tools is of llm.RoleTool in the normal form.
func Converse(req *llm.Request, lim llm.Limits) *llm.Call {
	return converse(req, lim, ConverseSurface, false)
}

// ConverseStream reads a request of ConverseStream, as Converse does.
func ConverseStream(req *llm.Request, lim llm.Limits) *llm.Call {
	return converse(req, lim, ConverseStreamSurface, true)
}

func converse(req *llm.Request, lim llm.Limits, surface llm.Surface, stream bool) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassModel, Operation: llm.OperationChat, Stream: stream}
	d := open(call, req, req.ContentType, lim)
	defer d.Close()
	root, ok := d.Object(converseFields)
	if !ok {
		return call
	}
	d.conversation(root)
	return call
}

// open begins to read a request into call: its query, which no surface of the runtime but one has, the model of its path, and its body.
func open(call *llm.Call, req *llm.Request, contentType string, lim llm.Limits) decoder {
	r := wire.Open(call, contentType, req.Body, lim)
	wire.Query(call, req, nil)
	id, ok := modelID(req)
	call.Model = id
	if !ok {
		r.Find(llm.FindingQuery, strictjson.Value{}, "the model in the path is badly escaped")
	}
	return decoder{r, call}
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// conversation reads the members of a request of Converse.
func (d decoder) conversation(root strictjson.Value) {
	messages := strings.Contains(d.call.Model, ":prompt/") // a stored prompt has messages of its own
	for k, v := range root.Members() {
		switch {
		case k.Is("messages") && v.Kind() == strictjson.Array:
			messages = true
			d.Grow(v.Len() + 1)
		case k.Is("inferenceConfig"):
			d.inference(v)
		case k.Is("toolConfig"):
			d.toolConfig(v)
		}
	}
	// Beside the conversation: what goes into a stored prompt, what goes to the model past Bedrock's own form, and a schema of the output.
	for k, v := range root.Members() {
		switch {
		case k.Is("promptVariables"):
			d.variables(v)
		case k.Is("additionalModelRequestFields"):
			d.additional(v)
		case k.Is("outputConfig"):
			d.Aside(llm.RoleSystem, v, marker)
		}
	}
	// The system prompt comes first, wherever the body has it.
	for k, v := range root.Members() {
		if k.Is("system") && v.Kind() == strictjson.Array {
			d.Message(llm.RoleSystem, v, marker)
			d.content(v, llm.Part{Kind: llm.PartText})
		}
	}
	for k, v := range root.Members() {
		if k.Is("messages") {
			for m := range v.Elements() {
				d.message(m)
			}
		}
	}
	if !messages {
		d.Missing(root, "messages")
	}
}

var inferenceFields = []string{"maxTokens", "temperature", "max_new_tokens", "topP", "stopSequences"}

func (d decoder) inference(v strictjson.Value) {
	for k, m := range v.Members() {
		switch d.Name(k, inferenceFields) {
		case "maxTokens", "max_new_tokens": // the latter in the body of a Nova model
			d.call.MaxTokens = d.Int(m)
		case "temperature":
			d.call.Temperature = d.Float(m)
		}
	}
}

var variableFields = []string{"text"}

func (d decoder) variables(v strictjson.Value) {
	if v.Len() == 0 {
		return
	}
	d.Message(llm.RoleUser, v, marker).Aside = true
	for _, value := range v.Members() {
		if !d.Expect(value, wire.Object) {
			continue
		}
		for k, m := range value.Members() {
			if d.Name(k, variableFields) == "text" {
				d.AddText(m, llm.Part{Kind: llm.PartText})
			} else {
				d.Unknown(m)
			}
		}
	}
}

// additional reads additionalModelRequestFields, which the model gets as its maker has them. Tools in it are read as Anthropic has them, the only
// maker known to take some there. What is long enough to carry something is not out of sight.
func (d decoder) additional(v strictjson.Value) {
	if wire.Trivial(v) {
		return
	}
	inner := messages.Decode(&llm.Request{Method: http.MethodPost, ContentType: wire.JSON, Body: v.Raw()}, llm.Limits{})
	d.call.Tools = append(d.call.Tools, inner.Tools...)
	d.call.URLs = append(d.call.URLs, inner.URLs...)
	d.call.OtherModels = append(d.call.OtherModels, inner.OtherModels...)
	d.Aside(llm.RoleSystem, v, marker)
}

var messageFields = []string{"role", "content"}

func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, marker)
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			if d.Expect(v, wire.Array|wire.Null) {
				d.content(v, llm.Part{Kind: llm.PartText})
			}
		default:
			d.Unknown(v)
		}
	}
	if m.Role == "" {
		d.Missing(v, "role")
	}
	if m.Role == llm.RoleUser && d.OnlyResults() {
		m.Role = llm.RoleTool
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "user": llm.RoleUser}
