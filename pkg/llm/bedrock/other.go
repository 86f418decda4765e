package bedrock

import (
	"encoding/base64"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var countFields = wire.Fields{"input": {Kinds: wire.Object}}

var (
	inputFields       = []string{"converse", "invokeModel"}
	invokeInputFields = []string{"body"}
)

// CountTokens reads a request to count the tokens of what Converse or InvokeModel would send. It sends as much as those do.
func CountTokens(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: CountTokensSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationCountTokens}
	body := countTokens(call, req, lim)
	if body == nil {
		return call
	}
	// A body of InvokeModel in base64, which is read as one.
	inner := *req
	inner.Body, inner.ContentType, inner.Query = body, wire.JSON, ""
	of := Invoke(&inner, lim)
	if of.Class == llm.ClassUnknown {
		call.Class = llm.ClassUnknown
	}
	call.Messages, call.Tools, call.URLs, call.OtherModels = of.Messages, of.Tools, of.URLs, of.OtherModels
	call.MaxTokens, call.Temperature = of.MaxTokens, of.Temperature
	call.UnknownFields = append(call.UnknownFields, of.UnknownFields...)
	for _, f := range of.Findings {
		f.Path = "/input/invokeModel/body" + f.Path
		wire.Find(call, lim, f)
	}
	return call
}

// countTokens reads the request and returns the body of InvokeModel in it, nil when there is none.
func countTokens(call *llm.Call, req *llm.Request, lim llm.Limits) (body []byte) {
	d := open(call, req, req.ContentType, lim)
	defer d.Close()
	root, ok := d.Object(countFields)
	if !ok {
		return nil
	}
	input := root.Get("input")
	if input.Kind() != strictjson.Object {
		d.Missing(root, "input")
		return nil
	}
	if input.Len() != 1 {
		d.Find(llm.FindingUnknownPart, input, "the input has not one member but another number of them")
	}
	for k, v := range input.Members() {
		switch d.Name(k, inputFields) {
		case "converse":
			if !d.Want(v, wire.Object) {
				d.Whole(v)
				continue
			}
			for k, m := range v.Members() {
				// The same members as in a request of Converse, but for those that a count does not need.
				f, known := converseFields[string(k.Text())]
				if !known {
					d.Whole(m)
				} else {
					d.Want(m, f.Kinds)
				}
			}
			d.conversation(v)
		case "invokeModel":
			for k, m := range v.Members() {
				if d.Name(k, invokeInputFields) != "body" {
					d.Whole(m)
					continue
				}
				text, err := base64.StdEncoding.Strict().DecodeString(d.Str(m))
				if err != nil || len(text) == 0 {
					d.Find(llm.FindingUnparseable, m, "the body is no base64")
					d.Whole(m)
					continue
				}
				body = text
			}
		default:
			d.Find(llm.FindingUnknownPart, k, "the kind of the input is unknown")
			d.Whole(v)
		}
	}
	return body
}

var asyncFields = wire.Fields{
	"clientRequestToken": {Kinds: wire.String | wire.Null},
	"modelId":            {Kinds: wire.String},
	"modelInput":         {Kinds: wire.Any},
	"outputDataConfig":   {Kinds: wire.Object},
	"tags":               {Kinds: wire.Array | wire.Null},
}

// StartAsync reads a request of StartAsyncInvoke, whose answer goes to a bucket. What the model is given is of a form of the model's own, a part of unknown kind.
func StartAsync(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: AsyncInvokeSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationStore}
	d := open(call, req, req.ContentType, lim)
	defer d.Close()
	root, ok := d.Object(asyncFields)
	if !ok {
		return call
	}
	var input, output bool
	for k, v := range root.Members() {
		switch {
		case k.Is("modelId"):
			call.Model = string(v.Text())
		case k.Is("modelInput"):
			input = true
			d.Whole(v)
		case k.Is("tags"):
			if v.Len() > 0 {
				d.Whole(v)
			}
		case k.Is("outputDataConfig"):
			output = true
			d.output(v)
		}
	}
	if call.Model == "" {
		d.Missing(root, "modelId")
	}
	if !input {
		d.Missing(root, "modelInput")
	}
	if !output {
		d.Missing(root, "outputDataConfig")
	}
	return call
}

var (
	outputFields   = []string{"s3OutputDataConfig"}
	s3OutputFields = []string{"s3Uri", "bucketOwner", "kmsKeyId"}
)

// output reads where an answer is to be left.
func (d decoder) output(v strictjson.Value) {
	for k, m := range v.Members() {
		if d.Name(k, outputFields) != "s3OutputDataConfig" || !d.Want(m, wire.Object) {
			d.Find(llm.FindingUnknownPart, k, "the place for the answer is of an unknown kind")
			continue
		}
		for k, m := range m.Members() {
			if d.Name(k, s3OutputFields) == "s3Uri" {
				d.URL(m)
			}
		}
	}
}

// asyncQuery are the parameters of ListAsyncInvokes.
var asyncQuery = []string{"maxResults", "nextToken", "sortBy", "sortOrder", "statusEquals", "submitTimeAfter", "submitTimeBefore"}

// ListAsync reads a request of ListAsyncInvokes.
func ListAsync(req *llm.Request, lim llm.Limits) *llm.Call {
	return wire.Bodiless(&llm.Call{Provider: Provider, Surface: AsyncListSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationList}, req, lim, asyncQuery)
}

// GetAsync reads a request of GetAsyncInvoke.
func GetAsync(req *llm.Request, lim llm.Limits) *llm.Call {
	return wire.Bodiless(&llm.Call{Provider: Provider, Surface: AsyncGetSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationRetrieve}, req, lim, nil)
}

var guardrailFields = wire.Fields{
	"content":     {Kinds: wire.Array},
	"outputScope": {Kinds: wire.String | wire.Null},
	"source":      {Kinds: wire.String},
}

// ApplyGuardrail reads a request to have a guardrail look at texts and images.
func ApplyGuardrail(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: GuardrailSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration}
	r := wire.Open(call, req.ContentType, req.Body, lim)
	wire.Query(call, req, nil)
	d := decoder{r, call}
	defer d.Close()
	root, ok := d.Object(guardrailFields)
	if !ok {
		return call
	}
	content := root.Get("content")
	if content.Kind() != strictjson.Array {
		d.Missing(root, "content")
		return call
	}
	role := llm.RoleUser
	if root.Get("source").Is("OUTPUT") {
		role = llm.RoleAssistant
	}
	d.Message(role, content, "")
	for b := range content.Elements() {
		d.guarded(b, llm.Part{Kind: llm.PartText})
	}
	return call
}

var checkFields = wire.Fields{
	"checks":   {Kinds: wire.Object | wire.Null},
	"messages": {Kinds: wire.Array},
}

// GuardrailChecks reads a request to have single checks look at a conversation.
func GuardrailChecks(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: GuardrailChecksSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration}
	r := wire.Open(call, req.ContentType, req.Body, lim)
	wire.Query(call, req, nil)
	d := decoder{r, call}
	defer d.Close()
	root, ok := d.Object(checkFields)
	if !ok {
		return call
	}
	if root.Get("messages").Kind() == strictjson.Absent {
		d.Missing(root, "messages")
	}
	for m := range root.Get("messages").Elements() {
		d.message(m)
	}
	return call
}
