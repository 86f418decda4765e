package ollama

import (
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// plain is a surface whose request is no conversation.
type plain struct {
	fields wire.Fields
	texts  []string // members in which each string is a part
	whole  []string // members that are a part of unknown kind as they are: what is in them is not text
	needs  []string // members that must be there
	stream bool     // a response is streamed unless the request says otherwise
}

func (p plain) decoder(surface llm.Surface, class llm.Class, operation llm.Operation) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: class, Operation: operation, Stream: p.stream}
		d, root, ok := open(call, req, lim, p.fields)
		defer d.Close()
		if !ok {
			return call
		}
		d.common(root)
		for k, v := range root.Members() {
			if k.Is("system") && v.Kind() == strictjson.String {
				d.Message(llm.RoleSystem, v)
				d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
			}
		}
		d.Message(llm.RoleUser, root)
		for _, name := range p.texts {
			for k, v := range root.Members() {
				if k.Is(name) {
					d.strings(v)
				}
			}
		}
		for k, v := range root.Members() {
			name := string(k.Text())
			_, known := p.fields[name]
			switch {
			case !known:
				d.Unknown(v)
			case name == "images":
				d.images(v)
			case slices.Contains(p.whole, name) && v.Len() > 0:
				d.Unknown(v)
			}
		}
		for _, name := range p.needs {
			if root.Get(name).Kind() == strictjson.Absent {
				d.Missing(root, name)
			}
		}
		return call
	}
}

// strings adds a part for each string in a value.
func (d decoder) strings(v strictjson.Value) {
	switch v.Kind() {
	case strictjson.String:
		d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
	case strictjson.Array:
		for e := range v.Elements() {
			d.strings(e)
		}
	case strictjson.Object:
		d.Unknown(v)
	}
}

// The readers of requests that are no conversation. None fails: what is wrong is among the call's findings.
var (
	// Generate reads a request for more of a text. The context of an earlier answer is numbers, which nobody looks into.
	Generate = plain{
		fields: wire.Fields{
			"context": list, "format": format, "height": integer, "images": list, "keep_alive": alive, "logprobs": boolean, "model": needed, "options": object, "prompt": str, "raw": boolean, "shift": boolean,
			"steps": integer, "stream": boolean, "suffix": str, "system": str, "template": str, "think": think, "top_logprobs": integer, "truncate": boolean, "width": integer,
		},
		texts: []string{"template", "prompt", "suffix"}, whole: []string{"context"}, stream: true,
	}.decoder(GenerateSurface, llm.ClassModel, llm.OperationTextCompletion)
	// Embed reads a request for embeddings.
	Embed = plain{
		fields: wire.Fields{"dimensions": integer, "input": {Kinds: wire.String | wire.Array}, "keep_alive": alive, "model": needed, "options": object, "truncate": boolean},
		texts:  []string{"input"}, needs: []string{"input"},
	}.decoder(EmbedSurface, llm.ClassModel, llm.OperationEmbeddings)
	// Embeddings reads a request for an embedding, in its older form.
	Embeddings = plain{
		fields: wire.Fields{"keep_alive": alive, "model": needed, "options": object, "prompt": needed},
		texts:  []string{"prompt"}, needs: []string{"prompt"},
	}.decoder(EmbeddingsSurface, llm.ClassModel, llm.OperationEmbeddings)
	// Show reads a request for what is known of a model.
	Show = plain{
		fields: wire.Fields{"model": str, "name": str, "options": object, "system": str, "template": str, "verbose": boolean},
		texts:  []string{"template"},
	}.decoder(ShowSurface, llm.ClassAuxiliary, llm.OperationRetrieve)
)
