package bedrock

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var guardrailFields = wire.Fields{
	"content":     {Kinds: wire.Array},
	"outputScope": {Kinds: wire.String | wire.Null},
	"source":      {Kinds: wire.String},
}

// ApplyGuardrail reads a request to have a guardrail look at texts and images.
func ApplyGuardrail(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: GuardrailSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration}
	r, root, ok := wire.OpenObject(call, req, lim, guardrailFields)
	d := decoder{r, call}
	defer d.Close()
	if !ok {
		return call
	}
	content := root.Get("content")
	if content.Kind() != strictjson.Array {
		d.Missing(root, "content")
		return call
	}
	role := llm.RoleUser
	if root.Get("source").Is("OUTPUT") {
		role = llm.RoleAssistant
	}
	d.Message(role, content)
	for b := range content.Elements() {
		d.guarded(b, llm.Part{Kind: llm.PartText})
	}
	return call
}

var checkFields = wire.Fields{
	"checks":   {Kinds: wire.Object | wire.Null},
	"messages": {Kinds: wire.Array},
}

// GuardrailChecks reads a request to have single checks look at a conversation.
func GuardrailChecks(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: GuardrailChecksSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration}
	r, root, ok := wire.OpenObject(call, req, lim, checkFields)
	d := decoder{r, call}
	defer d.Close()
	if !ok {
		return call
	}
	if root.Get("messages").Kind() == strictjson.Absent {
		d.Missing(root, "messages")
	}
	for m := range root.Get("messages").Elements() {
		d.message(m)
	}
	return call
}
