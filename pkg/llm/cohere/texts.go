package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// plain is a surface whose request is a few texts: what its members are.
type plain struct {
	fields wire.Fields
	texts  []string // members in which each string is a part
	images []string // members in which each string is the URL of an image
	needs  []string // members that must be there
}

// decoder returns the surface's Decode.
func (p plain) decoder(surface llm.Surface, class llm.Class, operation llm.Operation) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: class, Operation: operation}
		d, root, ok := open(call, req, lim, p.fields)
		defer d.Close()
		if !ok {
			return call
		}
		d.common(root)
		d.Message(llm.RoleUser, root)
		for _, name := range p.texts {
			for k, v := range root.Members() {
				if k.Is(name) {
					d.strings(v, llm.Part{Kind: llm.PartText})
				}
			}
		}
		for _, name := range p.images {
			for k, v := range root.Members() {
				if !k.Is(name) {
					continue
				}
				for e := range v.Elements() {
					d.imageURL(e)
				}
			}
		}
		for k, v := range root.Members() {
			if _, known := p.fields[string(k.Text())]; !known {
				d.Unknown(v)
			} else if k.Is("inputs") && v.Kind() == strictjson.Array && surface == EmbedV2Surface {
				for e := range v.Elements() {
					d.input(e)
				}
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

var inputFields = []string{"content"}

// input reads one of what is to be embedded: texts and images together.
func (d decoder) input(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		if d.Name(k, inputFields) == "content" {
			d.content(m, llm.Part{Kind: llm.PartText})
		} else {
			d.Unknown(m)
		}
	}
}

// The readers of requests that are no conversation. None fails: what is wrong is among the call's findings.
var (
	// EmbedV2 reads a request for embeddings, of the second version.
	EmbedV2 = plain{
		fields: wire.Fields{
			"embedding_types": list, "images": list, "input_type": needed, "inputs": list, "max_tokens": integer, "model": needed, "output_dimension": integer, "priority": integer,
			"texts": list, "truncate": str,
		},
		texts: []string{"texts"}, images: []string{"images"}, needs: []string{"model", "input_type"},
	}.decoder(EmbedV2Surface, llm.ClassModel, llm.OperationEmbeddings)
	// EmbedV1 reads a request for embeddings, of the first version.
	EmbedV1 = plain{
		fields: wire.Fields{"embedding_types": list, "images": list, "input_type": str, "model": str, "texts": list, "truncate": str},
		texts:  []string{"texts"}, images: []string{"images"},
	}.decoder(EmbedV1Surface, llm.ClassModel, llm.OperationEmbeddings)
	// RerankV2 reads a request to order documents, of the second version.
	RerankV2 = plain{
		fields: wire.Fields{"documents": {Kinds: wire.Array}, "max_tokens_per_doc": integer, "model": needed, "priority": integer, "query": needed, "top_n": integer},
		texts:  []string{"query", "documents"}, needs: []string{"model", "query", "documents"},
	}.decoder(RerankV2Surface, llm.ClassModel, llm.OperationRerank)
	// RerankV1 reads a request to order documents, of the first version.
	RerankV1 = plain{
		fields: wire.Fields{
			"documents": {Kinds: wire.Array}, "max_chunks_per_doc": integer, "model": str, "query": needed, "rank_fields": list, "return_documents": boolean, "top_n": integer,
		},
		texts: []string{"query", "documents"}, needs: []string{"query", "documents"},
	}.decoder(RerankV1Surface, llm.ClassModel, llm.OperationRerank)
	// Generate reads a request for more of a text.
	Generate = plain{
		fields: wire.Fields{
			"end_sequences": list, "frequency_penalty": number, "k": number, "logit_bias": object, "max_tokens": integer, "model": str, "num_generations": integer, "p": number,
			"presence_penalty": number, "preset": str, "prompt": needed, "prompt_vars": object, "raw_prompting": boolean, "return_likelihoods": str, "seed": integer, "stop_sequences": list, "stream": boolean,
			"temperature": number, "truncate": str,
		},
		texts: []string{"prompt", "prompt_vars"}, needs: []string{"prompt"},
	}.decoder(GenerateSurface, llm.ClassModel, llm.OperationTextCompletion)
	// Classify reads a request to put texts into classes.
	Classify = plain{
		fields: wire.Fields{"examples": list, "inputs": {Kinds: wire.Array}, "model": str, "preset": str, "truncate": str},
		texts:  []string{"examples", "inputs"}, needs: []string{"inputs"},
	}.decoder(ClassifySurface, llm.ClassModel, llm.OperationGenerate)
	// Summarize reads a request for a summary.
	Summarize = plain{
		fields: wire.Fields{"additional_command": str, "extractiveness": str, "format": str, "length": str, "model": str, "temperature": number, "text": needed},
		texts:  []string{"additional_command", "text"}, needs: []string{"text"},
	}.decoder(SummarizeSurface, llm.ClassModel, llm.OperationGenerate)
	// Tokenize reads a request for the tokens of a text.
	Tokenize = plain{
		fields: wire.Fields{"model": needed, "text": needed},
		texts:  []string{"text"}, needs: []string{"model", "text"},
	}.decoder(TokenizeSurface, llm.ClassAuxiliary, llm.OperationCountTokens)
	// Detokenize reads a request for the text of tokens. Text goes out as well in numbers, which nobody looks into: they are a part of unknown kind.
	Detokenize = detokenize
)

var detokenizeFields = wire.Fields{"model": needed, "tokens": {Kinds: wire.Array}}

func detokenize(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: DetokenizeSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationCountTokens}
	d, root, ok := open(call, req, lim, detokenizeFields)
	defer d.Close()
	if !ok {
		return call
	}
	d.common(root)
	d.Whole(root.Get("tokens"))
	return call
}
