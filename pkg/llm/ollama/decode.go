package ollama

import (
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "ollama"

// The types that members of requests have.
var (
	integer = wire.Field{Kinds: wire.Number | wire.Null, Integer: true}
	str     = wire.Field{Kinds: wire.String | wire.Null}
	boolean = wire.Field{Kinds: wire.Bool | wire.Null}
	list    = wire.Field{Kinds: wire.Array | wire.Null}
	object  = wire.Field{Kinds: wire.Object | wire.Null}
	needed  = wire.Field{Kinds: wire.String}
	format  = wire.Field{Kinds: wire.String | wire.Object | wire.Null}
	think   = wire.Field{Kinds: wire.Bool | wire.String | wire.Null}
	alive   = wire.Field{Kinds: wire.String | wire.Number | wire.Null}
)

var chatFields = wire.Fields{
	"format": format, "keep_alive": alive, "logprobs": boolean, "messages": list, "model": needed, "options": object, "shift": boolean, "stream": boolean, "think": think, "tools": list, "top_logprobs": integer,
	"truncate": boolean,
}

// Chat reads a request to chat. It never fails: what is wrong with it is among the call's findings. The call may refer to the body, which must
// not change as long as the call is used. A response is streamed unless the request says otherwise.
func Chat(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: ChatSurface, Class: llm.ClassModel, Operation: llm.OperationChat, Stream: true}
	d, root, ok := open(call, req, lim, chatFields)
	defer d.Close()
	if !ok {
		return call
	}
	d.common(root)
	for k, v := range root.Members() {
		switch {
		case k.Is("tools"):
			for t := range v.Elements() {
				d.tool(t)
			}
		case k.Is("messages"):
			d.Grow(v.Len())
			for m := range v.Elements() {
				d.message(m)
			}
		}
	}
	return call
}

// open begins to read a request whose body is an object with the members. ok is false when there is nothing to read.
func open(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields) (d decoder, root strictjson.Value, ok bool) {
	r := wire.Open(call, req.ContentType, req.Body, lim)
	wire.Query(call, req, nil)
	root, ok = r.Object(known)
	return decoder{r, call}, root, ok
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// common reads the members that mean the same on all surfaces. Their types have been checked.
func (d decoder) common(root strictjson.Value) {
	for k, v := range root.Members() {
		switch name := k.Raw(); string(name[1 : len(name)-1]) {
		case "model":
			d.call.Model = string(v.Text())
		case "name": // of old clients that ask to be shown a model
			if d.call.Model == "" {
				d.call.Model = string(v.Text())
			}
		case "stream":
			if v.Kind() == strictjson.Bool {
				d.call.Stream = v.Bool()
			}
		case "options":
			d.options(v)
		}
	}
	if d.call.Model == "" {
		d.Missing(root, "model")
	}
}

var optionFields = []string{"num_predict", "temperature"}

func (d decoder) options(v strictjson.Value) {
	for k, m := range v.Members() {
		switch d.Name(k, optionFields) {
		case "num_predict":
			d.call.MaxTokens = d.Int(m)
		case "temperature":
			d.call.Temperature = d.Float(m)
		}
	}
}

var (
	toolFields     = []string{"type", "function", "items"}
	functionFields = []string{"name", "description", "parameters"}
)

// tool reads one of tools: {"type": "function", "function": {"name": …}}. All are for the caller to carry out.
func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "function", Digest: d.Digest(v, "")}
	for k, m := range v.Members() {
		switch d.Name(k, toolFields) {
		case "type":
			if kind := d.Str(m); kind != "function" {
				// Of a kind that is not known yet: taken for one that the server carries out.
				t.Type, t.ServerSide, t.Class = kind, true, llm.ServerToolOther
			}
		case "function":
			if !d.Want(m, wire.Object) {
				continue
			}
			d.StrMember(&t.Name, m, functionFields)
		}
	}
	if t.Name == "" {
		d.Missing(v, "name")
	}
	d.call.Tools = append(d.call.Tools, t)
}

var messageFields = []string{"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"}

// message reads one of messages.
func (d decoder) message(v strictjson.Value) {
	m := d.Message("", v, "")
	if !d.Expect(v, wire.Object) {
		return
	}
	of := llm.Part{Kind: llm.PartText}
	var content, images, calls strictjson.Value
	for k, v := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(m, v, roles)
		case "content":
			content = v
		case "thinking":
			d.AddText(v, llm.Part{Kind: llm.PartReasoning})
		case "images":
			images = v
		case "tool_calls":
			calls = v
		case "tool_name":
			of.ToolName = d.Str(v)
		case "tool_call_id":
			of.ToolCallID = d.Str(v)
		default:
			d.Unknown(v)
		}
	}
	switch m.Role {
	case "":
		d.Missing(v, "role")
	case llm.RoleTool:
		of.Kind = llm.PartToolResult
	}
	if !d.Want(content, wire.String|wire.Null) && content.Kind() != strictjson.Absent {
		d.Unknown(content)
	} else if text := content.Text(); len(text) > 0 || of.Kind == llm.PartToolResult {
		of.Text = text
		d.Part(of)
	}
	d.images(images)
	if d.Want(calls, wire.Array|wire.Null) {
		for c := range calls.Elements() {
			d.toolCall(c)
		}
	}
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "system": llm.RoleSystem, "tool": llm.RoleTool, "user": llm.RoleUser}

// images reads images, each of which is base64.
func (d decoder) images(v strictjson.Value) {
	if !d.Want(v, wire.Array|wire.Null) {
		return
	}
	for i := range v.Elements() {
		d.Part(llm.Part{Kind: llm.PartImage, Bytes: len(d.Text(i))})
		if i.Kind() != strictjson.String {
			d.Unknown(i)
		}
	}
}

var (
	callFields   = []string{"id", "type", "function"}
	calledFields = []string{"name", "arguments", "index"}
)

// toolCall reads one of an assistant message's tool_calls, whose arguments are an object.
func (d decoder) toolCall(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	p := llm.Part{Kind: llm.PartToolCall}
	for k, m := range v.Members() {
		switch d.Name(k, callFields) {
		case "id":
			p.ToolCallID = d.Str(m)
		case "type":
			d.Silent(m)
		case "function":
			if !d.Expect(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, calledFields) {
				case "name":
					p.ToolName = d.Str(m)
				case "arguments":
					p.Text = m.Raw()
				case "index":
					d.Silent(m)
				default:
					d.Unknown(m)
				}
			}
		default:
			d.Unknown(m)
		}
	}
	d.Part(p)
}

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
				d.Message(llm.RoleSystem, v, "")
				d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
			}
		}
		d.Message(llm.RoleUser, root, "")
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
		d.Message(llm.RoleUser, root, "")
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

var (
	searchFields = wire.Fields{"max_results": integer, "maxResults": integer, "query": needed}
	fetchFields  = wire.Fields{"url": needed}
)

// web returns the Decode of a surface by which Ollama's own server searches the web or fetches a page, named member.
func web(surface llm.Surface, fields wire.Fields, member string, class llm.ServerTool) func(*llm.Request, llm.Limits) *llm.Call {
	return func(req *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: Provider, Surface: surface, Class: llm.ClassTool, Operation: llm.OperationExecuteTool}
		d, root, ok := open(call, req, lim, fields)
		defer d.Close()
		call.Tools = []llm.Tool{{Name: string(class), Type: string(class), ServerSide: true, Class: class}}
		if !ok {
			return call
		}
		d.Message(llm.RoleAssistant, root, "")
		d.Part(llm.Part{Kind: llm.PartToolCall, ToolName: string(class), Text: root.Raw()})
		asked := root.Get(member)
		if len(asked.Text()) == 0 {
			d.Missing(root, member)
		}
		if class == llm.ServerToolWebFetch {
			d.URL(asked)
		}
		return call
	}
}
