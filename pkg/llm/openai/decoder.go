package openai

import (
	"bytes"
	"maps"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// The members that mark a place to cache up to: OpenAI's, of a content part, and Anthropic's, which servers take that pass calls on to it, such as OpenRouter.
const (
	cacheMarker  = "prompt_cache_breakpoint"
	cacheControl = "cache_control"
)

var cacheMarkers = []string{cacheMarker, cacheControl}

// reader reads a request into a call whose provider, surface, class and operation are set, and whose model is where the path names one.
type reader func(call *llm.Call, r *llm.Request, lim llm.Limits)

// decoder reads a body that is a JSON object.
type decoder struct {
	*wire.Reader
	call *llm.Call
}

// readObject reads a body that is a JSON object with the known members.
func readObject(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields, read func(d decoder, root strictjson.Value)) {
	r := wire.Open(call, req.ContentType, req.Body, lim)
	defer r.Close()
	if root, ok := r.Object(known); ok {
		read(decoder{r, call}, root)
	}
}

// The kinds of members. null is as good as absent.
var (
	aString         = wire.Field{Kinds: wire.String | wire.Null}
	aBool           = wire.Field{Kinds: wire.Bool | wire.Null}
	aNumber         = wire.Field{Kinds: wire.Number | wire.Null}
	anInteger       = wire.Field{Kinds: wire.Number | wire.Null, Integer: true}
	anObject        = wire.Field{Kinds: wire.Object | wire.Null}
	aList           = wire.Field{Kinds: wire.Array | wire.Null}
	aStringOrList   = wire.Field{Kinds: wire.String | wire.Array | wire.Null}
	aStringOrObject = wire.Field{Kinds: wire.String | wire.Object | wire.Null}
	aStringOrNumber = wire.Field{Kinds: wire.String | wire.Number | wire.Null}
)

// asides puts in sight what the body says in members that are not read: a schema of the output, metadata, a template, and what is not known.
// They come before the conversation, as the system prompt does. What only says whose call it is is the user's.
func (d decoder) asides(root strictjson.Value, read map[string]bool) {
	for k, v := range root.Members() {
		switch {
		case read[string(k.Bare())]:
		case labels[string(k.Bare())]:
			d.Aside(llm.RoleUser, v, cacheMarkers...)
		default:
			d.Aside(llm.RoleSystem, v, cacheMarkers...)
		}
	}
}

// labels are the members by which calls are told apart afterwards. No model reads them, and they are others in every call.
var labels = map[string]bool{"metadata": true, "prompt_cache_key": true, "request_id": true, "safety_identifier": true, "session_id": true, "trace": true, "user": true}

// begin begins a message that is a value.
func (d decoder) begin(role llm.Role, v strictjson.Value) {
	d.Message(role, v, cacheMarkers...)
}

// model reads the member that names the model. Where the path names one, as Azure's deployments do, the member may be absent; where it differs it is
// another model that policy must look at, though Azure passes over it.
func (d decoder) model(root, v strictjson.Value) {
	switch name := string(v.Text()); {
	case d.call.Model == "":
		if d.call.Model = name; v.Kind() == strictjson.Absent {
			d.Missing(root, "model")
		}
	case name != "" && name != d.call.Model:
		d.call.OtherModels = append(d.call.OtherModels, name)
	}
	if strings.HasSuffix(d.call.Model, online) {
		d.call.Tools = append(d.call.Tools, llm.Tool{Name: "web", Type: "plugin", ServerSide: true, Class: llm.ServerToolWebSearch, Digest: d.Digest(v, cacheMarkers...)})
	}
}

// online is the end of a model's name by which OpenRouter searches the web before the model answers.
const online = ":online"

// otherModel adds a further model that the call names.
func (d decoder) otherModel(v strictjson.Value) {
	if name := d.Str(v); name != "" {
		d.call.OtherModels = append(d.call.OtherModels, name)
	}
}

// maxTokens reads an output limit. Of several the largest counts.
func (d decoder) maxTokens(v strictjson.Value) {
	if n, ok := v.Int64(); ok && (d.call.MaxTokens == nil || *d.call.MaxTokens < n) {
		d.call.MaxTokens = &n
	}
}

// text adds a text that is there.
func (d decoder) text(kind llm.PartKind, v strictjson.Value) {
	d.AddText(v, llm.Part{Kind: kind})
}

// fetch reads the place of an attachment: a data: URL that has it within, or one that the provider fetches.
func (d decoder) fetch(p *llm.Part, v strictjson.Value) {
	text := d.Text(v)
	if media, data, ok := wire.DataURL(text); ok {
		p.MediaType, p.Bytes = media, len(data)
	} else if len(text) > 0 {
		d.call.URLs = append(d.call.URLs, string(text))
	}
	d.odd(v)
}

// odd puts in sight a value where a string is expected, and which has a finding for it.
func (d decoder) odd(v strictjson.Value) {
	if k := v.Kind(); k == strictjson.Array || k == strictjson.Object {
		d.Unknown(v)
	}
}

// data reads an attachment's data: a data: URL, base64, or, as OpenRouter has it, a URL that the provider fetches.
func (d decoder) data(p *llm.Part, v strictjson.Value) {
	text := d.Text(v)
	if media, data, ok := wire.DataURL(text); ok {
		p.MediaType, p.Bytes = media, len(data)
	} else if bytes.Contains(text[:min(len(text), maxScheme)], []byte("://")) {
		d.call.URLs = append(d.call.URLs, string(text))
	} else {
		p.Bytes = len(text)
	}
	d.odd(v)
}

// maxScheme is how far into a text a URL's scheme ends. The colon is no character of base64.
const maxScheme = 16

// role reads the role of the message that was begun last.
func (d decoder) role(message, v strictjson.Value) llm.Role {
	m := &d.call.Messages[len(d.call.Messages)-1]
	if d.Role(m, v, roles); m.Role == "" {
		d.Missing(message, "role")
	}
	return m.Role
}

// roles are the names of roles.
var roles = map[string]llm.Role{"assistant": llm.RoleAssistant, "developer": llm.RoleSystem, "function": llm.RoleTool, "system": llm.RoleSystem, "tool": llm.RoleTool, "user": llm.RoleUser}

// maxName is how much of a name is kept that the caller chooses, in bytes.
const maxName = 128

// short returns a name as a string of bounded length that is UTF-8.
func short(name []byte) string {
	return strings.ToValidUTF8(string(name[:min(len(name), maxName)]), "")
}

// with returns the members of both.
func with(a, b wire.Fields) wire.Fields {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
