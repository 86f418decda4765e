package wire

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var functionFields = []string{"name", "description", "parameters"}

// FunctionTool reads a tool of a wire format that has functions as OpenAI's chat completions do: {"type": "function", "function": {"name": …}}. known are
// the members that a tool can have, "name" among them where a function may also stand by itself. The caller carries functions out; a tool of a
// kind that is not known yet is taken for one that the provider carries out.
func (r *Reader) FunctionTool(v strictjson.Value, known []string) {
	if !r.Want(v, Object) {
		return
	}
	t := llm.Tool{Type: "function", Digest: r.Digest(v)}
	for k, m := range v.Members() {
		switch r.Name(k, known) {
		case "name":
			t.Name = r.Str(m)
		case "type":
			if kind := r.Str(m); kind != "function" {
				t.Type, t.ServerSide, t.Class = kind, true, llm.ServerToolOther
			}
		case "function":
			if r.Want(m, Object) {
				r.StrMember(&t.Name, m, functionFields)
			}
		}
	}
	if t.Name == "" {
		r.Missing(v, "name")
	}
	r.call.Tools = append(r.call.Tools, t)
}
