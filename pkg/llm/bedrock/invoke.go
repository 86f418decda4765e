package bedrock

import (
	"net/http"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/cohere"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/openai"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// The surfaces of other providers' own APIs whose form a body of InvokeModel can have.
var (
	messages   = rowAt(anthropic.Rows, "/v1/messages")
	completion = rowAt(openai.Rows, "/v1/chat/completions")
)

// rowAt returns the row of a path that is called by POST.
func rowAt(rows []llm.Row, path string) llm.Row {
	for _, r := range rows {
		if r.Path == path && r.Method == http.MethodPost {
			return r
		}
	}
	return llm.Row{}
}

// Invoke reads a request of InvokeModel, whose body is that of the model's maker. Where it cannot be told who that is, the call is of
// llm.ClassUnknown and all of the body is one part of unknown kind.
func Invoke(req *llm.Request, lim llm.Limits) *llm.Call {
	return invoke(req, lim, InvokeSurface, false)
}

// InvokeStream reads a request of InvokeModelWithResponseStream, as Invoke does.
func InvokeStream(req *llm.Request, lim llm.Limits) *llm.Call {
	return invoke(req, lim, InvokeStreamSurface, true)
}

func invoke(req *llm.Request, lim llm.Limits, surface llm.Surface, stream bool) *llm.Call {
	// The body is the model's, who reads it as JSON whatever it is said to be; the SDKs say nothing or this where the caller does not say.
	contentType := req.ContentType
	if contentType == "" || contentType == "application/octet-stream" {
		contentType = wire.JSON
	}
	id, _ := modelID(req)
	call := read(req, contentType, baseModel(id), lim)
	call.Provider, call.Surface = Provider, surface
	call.Stream = stream
	return call
}

// family is the form that the bodies for some models have.
type family struct {
	prefix string // of the model
	read   func(req *llm.Request, contentType string, lim llm.Limits) *llm.Call
}

// chat is how the bodies are read for models whose makers keep to OpenAI's chat completions, or take a prompt.
var chat = either(hosted(completion.Decode, "top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "safe_prompt"), prompt(promptForm))

// families are looked through in this order.
var families = []family{
	{"anthropic.", claude},
	{"amazon.nova-canvas", prompt(imageForm)},
	{"amazon.titan-image", prompt(imageForm)},
	{"amazon.nova-", nova},
	{"amazon.titan-embed", prompt(titanEmbedForm)},
	{"amazon.titan-", prompt(titanForm)},
	{"meta.", prompt(llamaForm)},
	{"mistral.", chat},
	{"cohere.command-r", hosted(cohere.ChatV1, "return_prompt")},
	{"cohere.command", prompt(promptForm)},
	{"cohere.embed", hosted(cohere.EmbedV2)},
	{"cohere.rerank", hosted(cohere.RerankV2, "api_version")},
	{"ai21.jamba", chat},
	{"deepseek.", chat},
	{"google.gemma", chat},
	{"minimax.", chat},
	{"moonshot", chat},
	{"nvidia.", chat},
	{"openai.", chat},
	{"qwen.", chat},
	{"stability.", prompt(stabilityForm)},
	{"writer.", chat},
	{"zai.", chat},
}

// read reads the body for a model.
func read(req *llm.Request, contentType, model string, lim llm.Limits) *llm.Call {
	for _, f := range families {
		if strings.HasPrefix(model, f.prefix) {
			return f.read(req, contentType, lim)
		}
	}
	// The ARN of an application's own profile does not say the model; that Anthropic made it says this member, which its models
	// demand and others refuse.
	if model == "" && has(req.Body, lim, "anthropic_version") {
		return claude(req, contentType, lim)
	}
	return unknown(req, contentType, lim)
}

// has reports whether a body is an object with a member.
func has(body []byte, lim llm.Limits, name string) bool {
	lim = lim.WithDefaults()
	var doc strictjson.Document
	return doc.Parse(body, strictjson.Options{MaxBytes: lim.MaxBytes, MaxDepth: lim.MaxDepth}) && doc.Root().Get(name).Kind() != strictjson.Absent
}

// unknown reads a body of a form that nobody can tell.
func unknown(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
	call := &llm.Call{Class: llm.ClassUnknown, Operation: llm.OperationUnknown}
	d := open(call, req, contentType, lim)
	defer d.Close()
	d.Whole(d.Root())
	return call
}

// claude reads a body for a model of Anthropic's.
func claude(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
	id, ok := modelID(req)
	call := &llm.Call{Class: llm.ClassModel, Operation: llm.OperationChat, Model: id}
	inner := *req
	inner.ContentType = contentType
	anthropic.DecodeHosted(call, &inner, lim)
	outside(call, req, ok, lim)
	return call
}

// outside reads what of a request is not its body: the query, and whether the model in the path could be decoded.
func outside(call *llm.Call, req *llm.Request, ok bool, lim llm.Limits) {
	wire.Query(call, req, nil)
	if !ok {
		wire.Find(call, lim, llm.Finding{Code: llm.FindingQuery, Detail: "the model in the path is badly escaped"})
	}
}

// missingModel is what a codec of a provider's own API finds in every body that goes to Bedrock.
const missingModel = "the member model is missing"

// hosted returns a reader of bodies that are those of the maker's own API but for the model, which the path names, and extra members. A
// body that names a model, too, must name the same one.
func hosted(decode func(*llm.Request, llm.Limits) *llm.Call, extra ...string) func(*llm.Request, string, llm.Limits) *llm.Call {
	return func(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
		inner := *req
		inner.ContentType, inner.Query, inner.Header, inner.Vars = contentType, "", nil, nil
		call := decode(&inner, lim)
		findings := call.Findings[:0]
		for _, f := range call.Findings {
			if f.Code != llm.FindingMissingField || f.Path != "" || f.Detail != missingModel {
				findings = append(findings, f)
			}
		}
		call.Findings = findings
		unknown := call.UnknownFields[:0]
		for _, name := range call.UnknownFields {
			if !slices.Contains(extra, name) {
				unknown = append(unknown, name)
			}
		}
		call.UnknownFields = unknown
		id, ok := modelID(req)
		outside(call, req, ok, lim)
		if call.Model != "" && call.Model != id && call.Model != baseModel(id) {
			call.OtherModels = append(call.OtherModels, call.Model)
			wire.Find(call, lim, llm.Finding{Code: llm.FindingDuplicateKey, Path: "/model", Detail: "the body names another model than the path"})
		}
		call.Model = id
		return call
	}
}

// either returns a reader of bodies of chat, which have messages, or of text to go on with.
func either(chat, text func(*llm.Request, string, llm.Limits) *llm.Call) func(*llm.Request, string, llm.Limits) *llm.Call {
	return func(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
		if has(req.Body, lim, "prompt") && !has(req.Body, lim, "messages") {
			return text(req, contentType, lim)
		}
		return chat(req, contentType, lim)
	}
}

// novaFields are the members of a body for a Nova model, which is much like a request of Converse.
var novaFields = wire.Fields{
	"inferenceConfig": {Kinds: wire.Object | wire.Null},
	"messages":        {Kinds: wire.Array},
	"schemaVersion":   {Kinds: wire.String | wire.Null},
	"system":          {Kinds: wire.Array | wire.Null},
	"toolConfig":      {Kinds: wire.Object | wire.Null},
}

func nova(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
	call := &llm.Call{Class: llm.ClassModel, Operation: llm.OperationChat}
	d := open(call, req, contentType, lim)
	defer d.Close()
	root, ok := d.Object(novaFields)
	if !ok {
		return call
	}
	d.conversation(root)
	return call
}
