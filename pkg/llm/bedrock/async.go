package bedrock

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

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
