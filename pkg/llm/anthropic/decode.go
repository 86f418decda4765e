package anthropic

import (
	"maps"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "anthropic"

// cacheMarker is the member of a block, tool or system prompt that marks a place to cache up to.
const cacheMarker = "cache_control"

// fields are the members of the request, as in the parameters of the official SDKs, of the beta API too.
var fields = wire.Fields{
	"cache_control":         {Kinds: wire.Object | wire.Null},
	"compaction":            {Kinds: wire.Any},
	"container":             {Kinds: wire.String | wire.Object | wire.Null},
	"context_management":    {Kinds: wire.Object | wire.Null},
	"diagnostics":           {Kinds: wire.Object | wire.Null},
	"fallback_credit_token": {Kinds: wire.Any},
	"fallbacks":             {Kinds: wire.Any},
	"inference_geo":         {Kinds: wire.String | wire.Null},
	"max_tokens":            {Kinds: wire.Number, Integer: true},
	"mcp_servers":           {Kinds: wire.Array | wire.Null},
	"messages":              {Kinds: wire.Array},
	"metadata":              {Kinds: wire.Object | wire.Null},
	"model":                 {Kinds: wire.String},
	"output_config":         {Kinds: wire.Object | wire.Null},
	"output_format":         {Kinds: wire.Object | wire.Null},
	"service_tier":          {Kinds: wire.String | wire.Null},
	"speed":                 {Kinds: wire.String | wire.Null},
	"stop_sequences":        {Kinds: wire.Array | wire.Null},
	"stream":                {Kinds: wire.Bool | wire.Null},
	"system":                {Kinds: wire.String | wire.Array | wire.Null},
	"temperature":           {Kinds: wire.Number | wire.Null},
	"thinking":              {Kinds: wire.Object | wire.Null},
	"tool_choice":           {Kinds: wire.Object | wire.Null},
	"tools":                 {Kinds: wire.Array | wire.Null},
	"top_k":                 {Kinds: wire.Number | wire.Null, Integer: true},
	"top_p":                 {Kinds: wire.Number | wire.Null},
}

// countFields are those of a request to count tokens.
var countFields = only("cache_control", "compaction", "context_management", "mcp_servers", "messages", "model", "output_config", "output_format", "speed", "system", "thinking",
	"tool_choice", "tools")

// hostedFields are those of a request to a cloud that hosts Anthropic's models, where the body says what is in headers elsewhere.
var hostedFields = func() wire.Fields {
	out := maps.Clone(fields)
	out["anthropic_version"] = wire.Field{Kinds: wire.String}
	out["anthropic_beta"] = wire.Field{Kinds: wire.String | wire.Array | wire.Null}
	return out
}()

func only(names ...string) wire.Fields {
	out := wire.Fields{}
	for _, name := range names {
		out[name] = fields[name]
	}
	return out
}

// Decode reads a messages request. It never fails: what is wrong with the body is among the call's findings. The call
// may refer to the body, which must not change as long as the call is used.
//
// A user's message of nothing but results of tools is of llm.RoleTool in the normal form.
func Decode(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: Messages, Class: llm.ClassModel, Operation: llm.OperationChat}
	wire.Query(call, req, betaQuery)
	decode(call, req, lim, fields)
	return call
}

// DecodeCountTokens reads a request to count the tokens of a messages request.
func DecodeCountTokens(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: CountTokens, Class: llm.ClassAuxiliary, Operation: llm.OperationCountTokens}
	wire.Query(call, req, betaQuery)
	decode(call, req, lim, countFields)
	return call
}

// DecodeHosted reads the body of a messages request into a call of another provider that hosts Anthropic's models: Vertex AI's rawPredict, Bedrock's
// InvokeModel. The call says what the path does, the model and whether the response is streamed; a body that names another model is a
// finding. Where the call has no model, the body's is taken, as it is when tokens are counted.
func DecodeHosted(call *llm.Call, req *llm.Request, lim llm.Limits) {
	decode(call, req, lim, hostedFields)
}

func decode(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields) {
	r := wire.Open(call, req.ContentType, req.Body, lim)
	defer r.Close()
	d := decoder{r, call}
	root := r.Root()
	if root.Kind() != strictjson.Object {
		return
	}
	model, stream := call.Model, call.Stream // of the path
	r.TopLevel(root, known)
	d.request(root, call.Operation != llm.OperationCountTokens)
	switch v := root.Get("model"); {
	case model != "":
		if v.Kind() != strictjson.Absent && call.Model != model {
			d.Find(llm.FindingDuplicateKey, v, "the body names another model than the path")
		}
		call.Model = model
	case v.Kind() == strictjson.Absent:
		d.Missing(root, "model")
	}
	call.Stream = call.Stream || stream
	if _, hosted := known["anthropic_version"]; hosted && root.Get("anthropic_version").Kind() == strictjson.Absent {
		d.Missing(root, "anthropic_version")
	}
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// read are the members that request reads, and those in which there is nothing for the model to read. What others say, such as the schema of an output, stands beside the conversation.
var read = map[string]bool{
	"anthropic_beta": true, "fallbacks": true, "max_tokens": true, "mcp_servers": true, "messages": true, "metadata": true, "model": true, "stream": true, "system": true,
	"temperature": true, "tools": true,
}

// request reads a messages request. The types of its members have been checked.
func (d decoder) request(root strictjson.Value, needsMax bool) {
	var maxTokens, messages bool
	for k, v := range root.Members() {
		switch string(k.Bare()) {
		case "model":
			d.call.Model = string(v.Text())
		case "max_tokens":
			maxTokens = true
			d.MaxTokens(v)
		case "messages":
			messages = true
			d.Grow(v.Len() + 1)
		case "stream":
			d.call.Stream = v.Bool()
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.tool(t)
			}
		case "fallbacks":
			for f := range v.Elements() {
				d.fallback(f)
			}
		case "mcp_servers":
			for s := range v.Elements() {
				d.server(s)
			}
		}
	}
	for k, v := range root.Members() {
		if !read[string(k.Bare())] {
			d.Aside(llm.RoleSystem, v, cacheMarker)
		}
	}
	// The system prompt comes first, wherever the body has it.
	for k, v := range root.Members() {
		if k.Is("system") && (v.Kind() == strictjson.String || v.Kind() == strictjson.Array) {
			d.Message(llm.RoleSystem, v, cacheMarker)
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
	if needsMax && !maxTokens {
		d.Missing(root, "max_tokens")
	}
	if !messages {
		d.Missing(root, "messages")
	}
}

var fallbackFields = []string{"model", "max_tokens", "speed", "thinking", "output_config"}

// fallback reads one of fallbacks, the models to ask when the first one is not to be had.
func (d decoder) fallback(v strictjson.Value) {
	for k, m := range v.Members() {
		if d.Name(k, fallbackFields) == "model" {
			d.otherModel(m)
		}
	}
}

func (d decoder) otherModel(v strictjson.Value) {
	if model := d.Str(v); model != "" {
		d.call.OtherModels = append(d.call.OtherModels, model)
	}
}

var messageFields = []string{"role", "content", "clear_at", "output_config"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, cacheMarker)
	if !d.Want(v, wire.Object) {
		return
	}
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			d.content(v, llm.Part{Kind: llm.PartText})
		case "":
			d.Unknown(v)
		default:
			d.Silent(v)
		}
	}
	if m.Role == "" {
		d.Missing(v, "role")
	}
	// The results of tools come in a message of the user. One of nothing else is the tool's.
	if m.Role == llm.RoleUser && d.OnlyResults() {
		m.Role = llm.RoleTool
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "user": llm.RoleUser}
