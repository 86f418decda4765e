package ollama

import (
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
