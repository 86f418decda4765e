package ollama

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// storeFields are the members of the requests that change what the server has.
var storeFields = wire.Fields{
	"adapters": object, "destination": str, "files": object, "from": str, "info": object, "insecure": boolean, "license": {Kinds: wire.String | wire.Array | wire.Null}, "messages": list, "model": str,
	"modelfile": str, "name": str, "parameters": object, "parser": str, "password": str, "path": str, "quantization": str, "quantize": str, "renderer": str, "requires": str, "source": str, "stream": boolean,
	"system": str, "template": str, "username": str,
}

// store returns the Decode of a surface that changes what the server has: pulls, pushes, makes, copies or deletes a model. All of its body
// is one part of unknown kind. What it names besides model, as old clients name the model and as a copy names both, is among the other models.
func store(surface llm.Surface, operation llm.Operation, stream bool) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassDeadDrop, Operation: operation, Stream: stream}
		d, root, ok := open(call, req, lim, storeFields)
		defer d.Close()
		if !ok {
			return call
		}
		named := false
		for k, v := range root.Members() {
			switch {
			case k.Is("model"):
				call.Model = string(v.Text())
			case k.Is("source"), k.Is("from"), k.Is("name"), k.Is("destination"):
				if other := string(v.Text()); other != "" {
					named = true
					call.OtherModels = append(call.OtherModels, other)
				}
			case k.Is("stream") && v.Kind() == strictjson.Bool:
				call.Stream = v.Bool()
			}
		}
		if call.Model == "" && !named {
			d.Missing(root, "model")
		}
		d.Message(llm.RoleUser, root)
		d.Unknown(root)
		return call
	}
}

// get returns the Decode of a surface without body.
func get(surface llm.Surface, class llm.Class, operation llm.Operation) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		return wire.Bodiless(&llm.Call{Provider: Provider, Surface: surface, Class: class, Operation: operation}, req, lim, nil)
	}
}

// blob reads a request that leaves a file at the server.
func blob(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: BlobsSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationStore, BodyBytes: len(req.Body)}
	if int64(len(req.Body)) > lim.WithDefaults().MaxBytes {
		call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingOversize, Detail: "the body is longer than the limit"})
	}
	wire.Query(call, req, nil)
	call.Messages = []llm.Message{{
		Role: llm.RoleUser, Bytes: len(req.Body), Digest: wire.DigestOf(req.Body),
		Parts: []llm.Part{{Kind: llm.PartFile, Bytes: len(req.Body), MediaType: "application/octet-stream"}},
	}}
	return call
}
