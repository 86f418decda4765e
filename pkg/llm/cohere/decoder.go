package cohere

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "cohere"

// The types that members of requests have.
var (
	number  = wire.Field{Kinds: wire.Number | wire.Null}
	integer = wire.Field{Kinds: wire.Number | wire.Null, Integer: true}
	str     = wire.Field{Kinds: wire.String | wire.Null}
	boolean = wire.Field{Kinds: wire.Bool | wire.Null}
	list    = wire.Field{Kinds: wire.Array | wire.Null}
	object  = wire.Field{Kinds: wire.Object | wire.Null}
	needed  = wire.Field{Kinds: wire.String}
)

// open begins to read a request whose body is an object with the members. ok is false when there is nothing to read.
func open(call *llm.Call, req *llm.Request, lim llm.Limits, known wire.Fields) (d decoder, root strictjson.Value, ok bool) {
	r, root, ok := wire.OpenObject(call, req, lim, known)
	return decoder{r, call}, root, ok
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// common reads the members that mean the same on all surfaces. Their types have been checked.
func (d decoder) common(root strictjson.Value) {
	for k, v := range root.Members() {
		switch string(k.Bare()) {
		case "model":
			d.call.Model = string(v.Text())
		case "stream":
			d.call.Stream = v.Bool()
		case "max_tokens":
			d.MaxTokens(v)
		case "temperature":
			d.Temperature(v)
		case "tools":
			for t := range v.Elements() {
				d.FunctionTool(t, toolFields)
			}
		case "connectors":
			for c := range v.Elements() {
				d.connector(c)
			}
		}
	}
}

// beside reads what stands beside the conversation: what the model is to cite from, which is data as the results of tools are, and a schema of the output. It is called before the
// conversation is read.
func (d decoder) beside(root strictjson.Value) {
	for k, v := range root.Members() {
		switch {
		case k.Is("documents") && v.Len() > 0:
			d.Message(llm.RoleUser, v).Aside = true
			d.strings(v, llm.Part{Kind: llm.PartToolResult})
		case k.Is("response_format"):
			d.Aside(llm.RoleSystem, v)
		}
	}
}

// strings adds a part like of for each string in a value, the members' names aside.
func (d decoder) strings(v strictjson.Value, of llm.Part) {
	switch v.Kind() {
	case strictjson.String:
		if of.Text = v.Text(); len(of.Text) > 0 {
			d.Part(of)
		}
	case strictjson.Number:
		d.Silent(v)
	case strictjson.Array:
		if wire.HasNumber(v) {
			d.Unknown(v)
			return
		}
		for e := range v.Elements() {
			d.strings(e, of)
		}
	case strictjson.Object:
		for k, m := range v.Members() {
			if name := k.Raw(); len(name) > longName {
				d.Unknown(k)
			}
			d.strings(m, of)
		}
	}
}

// longName is the length of a member's name that could carry something, in bytes.
const longName = 64
