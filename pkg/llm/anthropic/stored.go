package anthropic

import (
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// bare returns the row of a surface whose requests have no body.
func bare(s llm.Surface, c llm.Class, op llm.Operation, method, path string, query []string, streams []llm.Framing) llm.Row {
	return llm.Row{
		Surface: s, Class: c, Operation: op, Method: method, Path: path, Query: query, Streams: streams,
		Watch: Watch, Refuse: Refuse,
		Decode: func(r *llm.Request, lim llm.Limits) *llm.Call {
			call := &llm.Call{Provider: Provider, Surface: s, Class: c, Operation: op}
			if s == Models && len(r.Vars) > 0 {
				call.Model = r.Vars[0]
			}
			return wire.Bodiless(call, r, lim, query)
		},
	}
}

var batchFields = wire.Fields{"requests": {Kinds: wire.Array}}

var batchRequestFields = []string{"custom_id", "params"}

// DecodeBatch reads the body of a batch, whose requests are those of Decode: their messages, tools and other models follow one another in
// the call. The call's model is that of the first request; the others are among its other models. Its output limit is the largest of theirs.
func DecodeBatch(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: Batches, Class: llm.ClassDeadDrop, Operation: llm.OperationStore}
	wire.Query(call, req, betaQuery)
	r := wire.Open(call, req.ContentType, req.Body, lim)
	defer r.Close()
	d := decoder{r, call}
	root, ok := r.Object(batchFields)
	if !ok {
		return call
	}
	requests := root.Get("requests")
	if requests.Kind() == strictjson.Absent {
		r.Missing(root, "requests")
	}
	models := map[string]bool{}
	var first string
	var most *int64
	for one := range requests.Elements() {
		d.batched(one)
		if m := call.Model; m != "" && !models[m] {
			models[m] = true
			if first == "" {
				first = m
			} else {
				call.OtherModels = append(call.OtherModels, m)
			}
		}
		if n := call.MaxTokens; n != nil && (most == nil || *n > *most) {
			most = n
		}
		call.Model, call.MaxTokens = "", nil
	}
	call.Model, call.MaxTokens, call.Stream = first, most, false
	return call
}

// batched reads one of a batch's requests.
func (d decoder) batched(one strictjson.Value) {
	if !d.Want(one, wire.Object) {
		return
	}
	params := false
	for k, v := range one.Members() {
		switch d.Name(k, batchRequestFields) {
		case "custom_id":
			d.Text(v)
		case "params":
			params = true
			if d.Want(v, wire.Object) {
				d.TopLevel(v, fields)
				d.request(v, true)
				if v.Get("model").Kind() == strictjson.Absent {
					d.Missing(v, "model")
				}
			}
		default:
			d.Find(llm.FindingUnknownPart, v, "the member of a batch's request is unknown")
			d.Whole(v)
		}
	}
	if !params {
		d.Missing(one, "params")
	}
}

var (
	fileParts  = []string{"file", "expires_in_seconds"}
	skillParts = []string{"files[]", "files", "display_name", "display_title"}
)

// DecodeFile reads the form by which a file is left with Anthropic.
func DecodeFile(r *llm.Request, lim llm.Limits) *llm.Call { return form(Files, r, lim, fileParts) }

// DecodeSkill reads the form by which the files of a skill are left with Anthropic.
func DecodeSkill(r *llm.Request, lim llm.Limits) *llm.Call { return form(Skills, r, lim, skillParts) }

// form reads a form: a message for each of its parts, so that what is uploaded is seen.
func form(s llm.Surface, r *llm.Request, lim llm.Limits, known []string) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: s, Class: llm.ClassDeadDrop, Operation: llm.OperationStore}
	wire.Query(call, r, betaQuery)
	for p := range wire.Multipart(call, r, lim) {
		p.Known(call, known)
		m := llm.Message{Role: llm.RoleUser, Bytes: len(p.Body), Digest: wire.DigestOf(p.Body)}
		if p.Filename != "" {
			m.Parts = append(m.Parts, llm.Part{Kind: llm.PartFile, Bytes: len(p.Body), MediaType: p.MediaType})
		}
		if utf8.Valid(p.Body) {
			m.Parts = append(m.Parts, llm.Part{Kind: llm.PartText, Text: p.Body})
		}
		call.Messages = append(call.Messages, m)
	}
	return call
}
