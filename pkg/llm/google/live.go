package google

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var (
	// liveNames are the messages of a client, of which each has one.
	liveNames  = known("setup", "clientContent", "realtimeInput", "toolResponse", "contextUpdate")
	liveFields = both(wire.Fields{"setup": object, "clientContent": object, "realtimeInput": object, "toolResponse": object, "contextUpdate": object})

	setupFields = both(wire.Fields{
		"avatarConfig":             object,
		"contextWindowCompression": object,
		"explicitVadSignal":        boolean,
		"generationConfig":         object,
		"historyConfig":            object,
		"inputAudioTranscription":  object,
		"labels":                   object,
		"model":                    text,
		"outputAudioTranscription": object,
		"proactivity":              object,
		"realtimeInputConfig":      object,
		"safetySettings":           list,
		"sessionResumption":        object,
		"systemInstruction":        object,
		"tools":                    list,
	})
	clientContentNames = known("turns", "turnComplete")
	inputNames         = known("text", "audio", "video", "mediaChunks", "activityStart", "activityEnd", "audioStreamEnd")
	toolResponseNames  = known("functionResponses")
)

// live reads the handshake of a session, or one message of its client. A message's RPCMethod is which of the messages it is.
func live(call *llm.Call, r *llm.Request, lim llm.Limits) {
	if r.Method == http.MethodGet {
		call.Stream = true
		bodiless(call, r, lim)
		return
	}
	message := *r
	if message.ContentType == "" {
		message.ContentType = wire.JSON
	}
	call.Stream = true
	read(call, &message, lim, liveFields, func(d decoder, root strictjson.Value) {
		for k, v := range root.Members() {
			event := d.name(k, liveNames)
			if event == "" {
				d.Whole(v)
				continue
			}
			if v.Kind() != strictjson.Object {
				continue
			}
			if call.RPCMethod != "" {
				d.Find(llm.FindingDuplicateKey, k, "a message is two messages, of which it is one")
			}
			call.RPCMethod = event
			d.live(event, v)
		}
		if call.RPCMethod == "" {
			d.Find(llm.FindingMissingField, root, "the message is none that is known")
		}
	})
}

// live reads what a message says.
func (d decoder) live(event string, v strictjson.Value) {
	switch event {
	case "setup":
		d.TopLevel(v, setupFields)
		d.generate(v)
	case "clientContent":
		d.walk(v, clientContentNames, func(name string, v strictjson.Value) {
			if name == "turns" {
				for c := range each(v) {
					d.content(c, "")
				}
			}
		})
	case "realtimeInput":
		d.Message(llm.RoleUser, v)
		for k, m := range v.Members() {
			switch d.name(k, inputNames) {
			case "text":
				d.Part(llm.Part{Kind: llm.PartText, Text: d.Text(m)})
			case "audio", "video", "mediaChunks":
				for data := range each(m) {
					d.data(data, "")
				}
			case "":
				d.Find(llm.FindingUnknownPart, m, "the kind of the input is unknown")
				d.Unknown(m)
			default:
				d.Silent(m)
			}
		}
	case "toolResponse":
		d.Message(llm.RoleTool, v)
		for k, m := range v.Members() {
			if d.name(k, toolResponseNames) == "" {
				d.Find(llm.FindingUnknownPart, m, "the member of a tool response is unknown")
				d.Unknown(m)
				continue
			}
			for f := range each(m) {
				d.functionResponse(f)
			}
		}
	default:
		d.Whole(v)
	}
}
