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
