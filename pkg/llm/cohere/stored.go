package cohere

import (
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// get returns the Decode of a surface without body.
func get(surface llm.Surface, class llm.Class, operation llm.Operation, query []string) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: class, Operation: operation}
		if operation == llm.OperationRetrieve && class == llm.ClassAuxiliary && len(req.Vars) > 0 {
			call.Model = req.Vars[0]
		}
		return wire.Bodiless(call, req, lim, query)
	}
}

// stored returns the Decode of a surface that leaves something at Cohere: a job, a connector. Its body is one part of unknown kind.
func stored(surface llm.Surface) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassDeadDrop, Operation: llm.OperationStore}
		wire.Query(call, req, nil)
		if len(req.Body) == 0 {
			wire.NoBody(call, req, lim)
			return call
		}
		r := wire.Open(call, req.ContentType, req.Body, lim)
		d := decoder{r, call}
		defer d.Close()
		root := d.Root()
		call.Model = string(root.Get("model").Text())
		d.Whole(root)
		return call
	}
}

var datasetQuery = []string{"csv_delimiter", "dry_run", "keep_fields", "keep_original_file", "name", "optional_fields", "separator", "skip_malformed_input", "text_separator", "type"}

// uploadDataset reads the form by which a dataset is left at Cohere.
func uploadDataset(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: DatasetsSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationStore}
	wire.Query(call, req, datasetQuery)
	m := llm.Message{Role: llm.RoleUser, Bytes: len(req.Body), Digest: wire.DigestOf(req.Body)}
	for p := range wire.Multipart(call, req, lim) {
		if p.Name != "data" && p.Name != "eval_data" {
			wire.Unknown(call, "&"+p.Name)
		}
		part := llm.Part{Kind: llm.PartFile, Bytes: len(p.Body), MediaType: p.MediaType}
		if utf8.Valid(p.Body) {
			part.Text = p.Body[:len(p.Body):len(p.Body)]
		}
		m.Parts = append(m.Parts, part)
	}
	call.Messages = append(call.Messages, m)
	return call
}
