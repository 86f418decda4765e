package a2a

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "a2a"

// requestFields are the members of a request.
var requestFields = wire.Fields{
	"id":      {Kinds: wire.String | wire.Number | wire.Null},
	"jsonrpc": {Kinds: wire.String},
	"method":  {Kinds: wire.String},
	"params":  {Kinds: wire.Object | wire.Null},
}

// method is what a method of the protocol is in the normal form.
type method struct {
	class     llm.Class
	operation llm.Operation
	stream    bool
	message   bool // its parameters have a message
}

var methods = func() map[string]method {
	send := method{llm.ClassTool, llm.OperationInvokeAgent, false, true}
	stream := method{llm.ClassTool, llm.OperationInvokeAgent, true, true}
	get := method{llm.ClassTool, llm.OperationRetrieve, false, false}
	list := method{llm.ClassTool, llm.OperationList, false, false}
	cancel := method{llm.ClassTool, llm.OperationDelete, false, false}
	subscribe := method{llm.ClassTool, llm.OperationRetrieve, true, false}
	card := method{llm.ClassAuxiliary, llm.OperationRetrieve, false, false}
	// Where an agent is to send news of a task: what is said to it goes on to somebody else.
	push := func(o llm.Operation) method { return method{llm.ClassDeadDrop, o, false, false} }
	return map[string]method{
		"message/send": send, "SendMessage": send,
		"message/stream": stream, "SendStreamingMessage": stream,
		"tasks/get": get, "GetTask": get,
		"tasks/list": list, "ListTasks": list,
		"tasks/cancel": cancel, "CancelTask": cancel,
		"tasks/resubscribe": subscribe, "SubscribeToTask": subscribe,
		"agent/getAuthenticatedExtendedCard": card, "GetExtendedAgentCard": card,
		"tasks/pushNotificationConfig/set": push(llm.OperationStore), "CreateTaskPushNotificationConfig": push(llm.OperationStore),
		"tasks/pushNotificationConfig/get": push(llm.OperationRetrieve), "GetTaskPushNotificationConfig": push(llm.OperationRetrieve),
		"tasks/pushNotificationConfig/list": push(llm.OperationList), "ListTaskPushNotificationConfigs": push(llm.OperationList), "ListTaskPushNotificationConfig": push(llm.OperationList),
		"tasks/pushNotificationConfig/delete": push(llm.OperationDelete), "DeleteTaskPushNotificationConfig": push(llm.OperationDelete),
	}
}()

// Decode reads a request to an agent. It never fails: what is wrong with it is among the call's findings. The call may refer to the body, which
// must not change as long as the call is used. A request that has news sent elsewhere is of llm.ClassDeadDrop, one for the agent's card of
// llm.ClassAuxiliary.
func Decode(req *llm.Request, lim llm.Limits) *llm.Call {
	call := &llm.Call{Provider: Provider, Surface: RPCSurface, Class: llm.ClassTool, Operation: llm.OperationInvokeAgent}
	r, root, ok := wire.OpenObject(call, req, lim, requestFields)
	d := decoder{r, call}
	defer d.Close()
	if ok {
		d.request(root)
	}
	return call
}

type decoder struct {
	*wire.Reader
	call *llm.Call
}

func (d decoder) request(root strictjson.Value) {
	d.RPCVersion(root)
	name := string(root.Get("method").Text())
	if name == "" {
		d.Missing(root, "method")
	}
	d.call.RPCMethod = name
	m := methods[name] // one that is not known is taken for one that has an agent do something
	if m.class != "" {
		d.call.Class, d.call.Operation, d.call.Stream = m.class, m.operation, m.stream
	}
	for k := range root.Members() {
		if _, known := requestFields[string(k.Text())]; !known {
			d.Whole(root.Get(string(k.Text())))
		}
	}
	params := root.Get("params")
	if m.message {
		d.send(root, params)
		return
	}
	d.news(params, m.class == llm.ClassDeadDrop)
	if params.Len() > 0 || params.Kind() == strictjson.String {
		d.Whole(params)
	}
}

// news reads where news of a task is to be sent: the URL of a configuration, which is the value itself or in it.
func (d decoder) news(v strictjson.Value, itself bool) {
	for k, m := range v.Members() {
		switch {
		case itself && k.Is("url"):
			d.URL(m)
		case (k.Is("pushNotificationConfig") || k.Is("taskPushNotificationConfig")) && m.Len() > 0:
			d.call.Class = llm.ClassDeadDrop
			d.news(m, true)
		}
	}
}

var sendFields = []string{"message", "configuration", "metadata", "tenant"}

// send reads what is sent to an agent.
func (d decoder) send(root, params strictjson.Value) {
	if params.Kind() != strictjson.Object {
		d.Missing(root, "params")
		return
	}
	message := false
	for k, m := range params.Members() {
		switch d.Name(k, sendFields) {
		case "message":
			message = true
			d.message(m)
		case "configuration":
			d.news(m, false)
			if len(m.Raw()) > wire.MaxSilent {
				d.Whole(m)
			}
		case "":
			d.Whole(m)
		default:
			if len(m.Raw()) > wire.MaxSilent {
				d.Whole(m)
			}
		}
	}
	if !message {
		d.Missing(params, "message")
	}
}

var messageFields = []string{"role", "parts", "kind", "messageId", "contextId", "taskId", "referenceTaskIds", "extensions", "metadata"}

// roles are the names of roles, of before and since version 1.0.
var roles = map[string]llm.Role{"ROLE_AGENT": llm.RoleAssistant, "ROLE_USER": llm.RoleUser, "agent": llm.RoleAssistant, "user": llm.RoleUser}

// message reads a message to an agent.
func (d decoder) message(v strictjson.Value) {
	msg := d.Message("", v)
	if !d.Expect(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		switch d.Name(k, messageFields) {
		case "role":
			d.Role(msg, m, roles)
		case "parts":
			if !d.Expect(m, wire.Array) {
				continue
			}
			for p := range m.Elements() {
				d.part(p)
			}
		case "":
			d.Unknown(m)
		default:
			d.Silent(m)
		}
	}
	if msg.Role == "" {
		d.Missing(v, "role")
	}
}

var (
	partFields = []string{"kind", "text", "file", "data", "raw", "url", "metadata", "filename", "mediaType", "type"}
	fileFields = []string{"bytes", "uri", "mimeType", "name", "fileWithBytes", "fileWithUri", "mediaType"}
)

// part reads a part of a message: the member that it has says what it is.
func (d decoder) part(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var kind, media, name strictjson.Value
	contents := 0
	for k, m := range v.Members() {
		switch d.Name(k, partFields) {
		case "kind", "type":
			kind = m
		case "text", "file", "data", "raw", "url":
			contents++
		case "metadata":
			d.Silent(m)
		case "filename":
			name = m
		case "mediaType":
			media = m
		default:
			d.Unknown(m)
		}
	}
	if contents != 1 {
		d.Find(llm.FindingUnknownPart, v, "the part has not one content but another number of them")
	}
	if s := kind.Text(); len(s) > 0 && v.Get(string(s)).Kind() == strictjson.Absent {
		d.Find(llm.FindingUnknownPart, kind, "the part is of another kind than what is in it")
	}
	d.AddText(name, llm.Part{Kind: llm.PartText})
	for k, m := range v.Members() {
		switch {
		case k.Is("text"):
			if !d.Expect(m, wire.String) {
				continue
			}
			d.Part(llm.Part{Kind: llm.PartText, Text: m.Text()})
		case k.Is("data"):
			// What a program is to read: JSON as it is sent.
			d.Part(llm.Part{Kind: llm.PartText, Text: valid(m)})
		case k.Is("raw"):
			d.attach(llm.Part{MediaType: d.Str(media), Bytes: len(d.Text(m))})
		case k.Is("url"):
			d.URL(m)
			d.attach(llm.Part{MediaType: d.Str(media)})
		case k.Is("file"):
			d.file(m)
		}
	}
}

// valid returns a value as it is sent, as far as it is UTF-8.
func valid(v strictjson.Value) []byte {
	raw := v.Raw()
	if s := strings.ToValidUTF8(string(raw), "\uFFFD"); s != string(raw) {
		return []byte(s)[:len(s):len(s)]
	}
	return raw
}

// file reads the content of a part of the versions before 1.0.
func (d decoder) file(v strictjson.Value) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var p llm.Part
	for k, m := range v.Members() {
		switch d.Name(k, fileFields) {
		case "bytes", "fileWithBytes":
			p.Bytes = len(d.Text(m))
		case "uri", "fileWithUri":
			d.URL(m)
		case "mimeType", "mediaType":
			p.MediaType = d.Str(m)
		case "name":
			d.AddText(m, llm.Part{Kind: llm.PartText})
		default:
			d.Unknown(m)
		}
	}
	d.attach(p)
}

// attach adds an attachment, whose kind its media type says.
func (d decoder) attach(p llm.Part) {
	switch {
	case strings.HasPrefix(p.MediaType, "image/"):
		p.Kind = llm.PartImage
	case strings.HasPrefix(p.MediaType, "audio/"):
		p.Kind = llm.PartAudio
	default:
		p.Kind = llm.PartFile
	}
	d.Part(p)
}

// Card reads a request for the card that says what an agent can do.
func Card(req *llm.Request, lim llm.Limits) *llm.Call {
	return wire.Bodiless(&llm.Call{Provider: Provider, Surface: CardSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationRetrieve}, req, lim, nil)
}
