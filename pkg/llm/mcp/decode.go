package mcp

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "mcp"

// The methods of calls that are no message with a method of its own.
const (
	// MethodBatch is the RPCMethod of a list of messages, whatever they are, so that no rule for a method lets it pass.
	MethodBatch = "batch"
	// MethodResponse is the RPCMethod of an answer to a request of the server.
	MethodResponse = "response"
)

// messageFields are the members of a message.
var messageFields = wire.Fields{
	"error":   {Kinds: wire.Object},
	"id":      {Kinds: wire.String | wire.Number},
	"jsonrpc": {Kinds: wire.String},
	"method":  {Kinds: wire.String},
	"params":  {Kinds: wire.Object},
	"result":  {Kinds: wire.Object},
}

// Decode reads a message that a client posts, or a list of them. It never fails: what is wrong with it is among the call's findings. The call
// may refer to the body, which must not change as long as the call is used.
func Decode(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: MessageSurface, Class: llm.ClassTool, Operation: llm.OperationExecuteTool}
	r := wire.Open(call, req.ContentType, req.Body, lim)
	wire.Query(call, req, nil)
	d := decoder{Reader: r, call: call}
	defer d.Close()
	before := len(call.Findings)
	switch root := d.Root(); root.Kind() {
	case strictjson.Object:
		d.TopLevel(root, messageFields)
		d.message(root)
		d.headers(req.Header, root)
	case strictjson.Array:
		call.Findings = call.Findings[:before] // which is that it is no object
		d.batch(root)
		d.headers(req.Header, root)
	}
	return call
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

// batch reads a list of messages, which one version of the protocol has.
func (d decoder) batch(root strictjson.Value) {
	ids := map[string]bool{}
	operations := map[llm.Operation]bool{}
	for m := range root.Elements() {
		if !d.Want(m, wire.Object) {
			d.Whole(m)
			continue
		}
		for k, v := range m.Members() {
			if f, known := messageFields[string(k.Text())]; known {
				d.Want(v, f.Kinds)
				if raw := string(v.Raw()); k.Is("id") && m.Get("method").Kind() != strictjson.Absent {
					if ids[raw] {
						d.Find(llm.FindingDuplicateKey, v, "two requests have the same id")
					}
					ids[raw] = true
				}
				continue
			}
			wire.Unknown(d.call, string(k.Text()))
			d.Whole(v)
		}
		d.message(m)
		operations[d.call.Operation] = true
	}
	if len(operations) != 1 {
		d.call.Operation = llm.OperationExecuteTool // the one that does most
	}
	d.call.RPCMethod = MethodBatch
	if root.Len() == 0 {
		d.Find(llm.FindingMissingField, root, "the list has no message")
	}
}

// message reads one message.
func (d decoder) message(v strictjson.Value) {
	d.RPCVersion(v)
	method, params := v.Get("method"), v.Get("params")
	id := string(v.Get("id").Raw())
	if method.Kind() == strictjson.Absent {
		d.response(v, id)
		return
	}
	name := string(method.Text())
	if name == "" {
		d.Find(llm.FindingMissingField, method, "the method has no name")
	}
	d.call.RPCMethod, d.call.Operation = name, operation(name)
	// Answers belong to no request.
	for _, m := range []strictjson.Value{v.Get("result"), v.Get("error")} {
		if m.Kind() != strictjson.Absent {
			d.Find(llm.FindingUnknownPart, m, "a request has an answer")
			d.Whole(m)
		}
	}
	switch name {
	case "tools/call":
		d.toolCall(v, params, id)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		d.resource(params)
	default:
		if params.Len() > 0 || params.Kind() != strictjson.Object {
			d.Whole(params)
		}
	}
}

// operation returns what a method is in the normal form. One that is not known counts as a call of a tool.
func operation(method string) llm.Operation {
	switch method {
	case "initialize", "ping", "server/discover", "logging/setLevel", "prompts/get", "completion/complete", "tasks/get", "tasks/result":
		return llm.OperationRetrieve
	case "tasks/cancel":
		return llm.OperationDelete
	}
	switch {
	case strings.HasPrefix(method, "resources/") && !strings.HasSuffix(method, "/list"):
		return llm.OperationRetrieve
	case strings.HasSuffix(method, "/list"):
		return llm.OperationList
	case strings.HasPrefix(method, "notifications/"), strings.HasPrefix(method, "subscriptions/"):
		return llm.OperationRetrieve
	}
	return llm.OperationExecuteTool
}

// response reads an answer to a request of the server: what a model wrote, or what a person typed.
func (d decoder) response(v strictjson.Value, id string) {
	d.call.RPCMethod, d.call.Operation = MethodResponse, llm.OperationExecuteTool
	result, failed := v.Get("result"), v.Get("error")
	switch {
	case result.Kind() == strictjson.Absent && failed.Kind() == strictjson.Absent:
		d.Missing(v, "method")
	case result.Kind() != strictjson.Absent && failed.Kind() != strictjson.Absent:
		d.Find(llm.FindingUnknownPart, v, "an answer has a result and an error")
	}
	d.Message(llm.RoleUser, v)
	for _, m := range []strictjson.Value{result, failed, v.Get("params")} {
		if m.Kind() != strictjson.Absent {
			d.Part(llm.Part{Kind: llm.PartToolResult, ToolCallID: strings.Trim(id, `"`), Text: m.Raw()})
		}
	}
}

var callFields = []string{"name", "arguments", "_meta", "task", "inputResponses", "requestState"}

// toolCall reads a call of a tool.
func (d decoder) toolCall(v, params strictjson.Value, id string) {
	d.Message(llm.RoleAssistant, params).Bytes = len(v.Raw())
	if params.Kind() != strictjson.Object {
		d.Missing(v, "params")
		if params.Kind() != strictjson.Absent {
			d.Unknown(params)
		}
		return
	}
	p := llm.Part{Kind: llm.PartToolCall, ToolCallID: strings.Trim(id, `"`)}
	for k, m := range params.Members() {
		switch d.Name(k, callFields) {
		case "name":
			p.ToolName = d.Str(m)
		case "arguments":
			d.Want(m, wire.Object|wire.Null)
			p.Text = m.Raw()
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	if p.ToolName == "" {
		d.Missing(params, "name")
	}
	d.Part(p)
}

var resourceFields = []string{"uri", "_meta", "inputResponses", "requestState"}

// resource reads which resource is asked for.
func (d decoder) resource(params strictjson.Value) {
	if params.Kind() != strictjson.Object {
		d.Whole(params)
		return
	}
	d.Message(llm.RoleUser, params)
	uri := false
	for k, m := range params.Members() {
		switch d.Name(k, resourceFields) {
		case "uri":
			uri = true
			d.URL(m)
			d.AddText(m, llm.Part{Kind: llm.PartText})
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	if !uri {
		d.Missing(params, "uri")
	}
}

// paramPrefix begins the headers that repeat arguments of a tool.
const paramPrefix = "Mcp-Param-"

// headers compares the headers that repeat what a message says, so that proxies need not read it, with the message. Whoever
// goes by the headers must not see another call than whoever goes by the body.
func (d decoder) headers(h http.Header, root strictjson.Value) {
	message := strictjson.Value{}
	if root.Kind() == strictjson.Object {
		message = root
	}
	params := message.Get("params")
	d.header(h, "Mcp-Method", message.Get("method"))
	name := params.Get("name")
	if name.Kind() == strictjson.Absent {
		name = params.Get("uri")
	}
	if h != nil && len(h.Values("Mcp-Name")) > 0 && name.Kind() == strictjson.Absent {
		name = params.Get("taskId")
	}
	d.header(h, "Mcp-Name", name)
	if version := params.Get("_meta").Get("io.modelcontextprotocol/protocolVersion"); version.Kind() != strictjson.Absent {
		d.header(h, "Mcp-Protocol-Version", version)
	}
	for _, once := range []string{"Mcp-Session-Id", "Mcp-Protocol-Version"} {
		if len(h.Values(once)) > 1 {
			d.Find(llm.FindingDuplicateKey, strictjson.Value{}, "the header "+once+" is there twice")
		}
	}
	// What repeats arguments is in sight, for nothing here says which argument it repeats.
	var names []string
	for name := range h {
		if strings.HasPrefix(name, paramPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			if text, _ := decoded(value); len(text) > 0 && root.Kind() == strictjson.Object {
				if len(d.call.Messages) == 0 {
					d.Message(llm.RoleUser, root)
				}
				d.Part(llm.Part{Kind: llm.PartUnknown, Text: text})
			}
		}
	}
}

// header compares a header, where it is there, with what it is to repeat.
func (d decoder) header(h http.Header, name string, want strictjson.Value) {
	values := h.Values(name)
	if len(values) == 0 {
		return
	}
	text, ok := decoded(values[0])
	if len(values) > 1 || !ok || want.Kind() != strictjson.String || string(want.Text()) != string(text) {
		d.Find(llm.FindingDuplicateKey, want, "the header "+name+" says another thing than the body")
	}
}

// decoded takes the encoding off a header's value that is not as it can stand in a header: "=?base64?" and "?=" about base64.
func decoded(value string) ([]byte, bool) {
	inner, found := strings.CutPrefix(value, "=?base64?")
	if !found {
		return []byte(value), true
	}
	if inner, found = strings.CutSuffix(inner, "?="); !found {
		return []byte(value), false
	}
	text, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil {
		return []byte(value), false
	}
	return slices.Clip(text), true
}

// Listen reads a request for the stream of what the server has to say.
func Listen(req *llm.Request, lim llm.Limits) *llm.Call {
	return wire.Bodiless(&llm.Call{Provider: Provider, Surface: ListenSurface, Class: llm.ClassTool, Operation: llm.OperationRetrieve, Stream: true}, req, lim, nil)
}

// EndSession reads a request to end a session.
func EndSession(req *llm.Request, lim llm.Limits) *llm.Call {
	return wire.Bodiless(&llm.Call{Provider: Provider, Surface: SessionSurface, Class: llm.ClassTool, Operation: llm.OperationDelete}, req, lim, nil)
}
