package openai

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// sessionFields are the members of a realtime session, those of the beta interface, which has them side by side, included.
var sessionFields = wire.Fields{
	"audio":                       anObject,
	"include":                     aList,
	"input_audio_format":          aString,
	"input_audio_noise_reduction": anObject,
	"input_audio_transcription":   anObject,
	"instructions":                aString,
	"max_output_tokens":           aStringOrNumber,
	"max_response_output_tokens":  aStringOrNumber,
	"modalities":                  aList,
	"model":                       aString,
	"output_audio_format":         aString,
	"output_modalities":           aList,
	"parallel_tool_calls":         aBool,
	"prompt":                      anObject,
	"reasoning":                   anObject,
	"speed":                       aNumber,
	"temperature":                 aNumber,
	"tool_choice":                 aStringOrObject,
	"tools":                       aList,
	"tracing":                     aStringOrObject,
	"truncation":                  aStringOrObject,
	"turn_detection":              anObject,
	"type":                        aString,
	"voice":                       aStringOrObject,
}

// The members of what else stands within another member.
var (
	realtimeResponseFields = with(sessionFields, wire.Fields{"conversation": aString, "input": aList, "metadata": anObject})
	clientSecretFields     = wire.Fields{"expires_after": anObject, "session": anObject}
	// olderSessionFields are of /v1/realtime/sessions, which takes the members of a session at the top.
	olderSessionFields = with(sessionFields, wire.Fields{"client_secret": anObject, "expires_after": anObject})
)

// event returns the members of a message of a realtime WebSocket.
func event(own wire.Fields) wire.Fields { return with(eventFields, own) }

// realtimeEvents are the messages that a caller sends over a realtime WebSocket, the ones for transcription and translation included.
var realtimeEvents = map[string]wire.Fields{
	"conversation.item.create":          event(wire.Fields{"item": {Kinds: wire.Object}, "previous_item_id": aString}),
	"conversation.item.delete":          event(wire.Fields{"item_id": aString}),
	"conversation.item.retrieve":        event(wire.Fields{"item_id": aString}),
	"conversation.item.truncate":        event(wire.Fields{"item_id": aString, "content_index": anInteger, "audio_end_ms": anInteger}),
	"input_audio_buffer.append":         event(wire.Fields{"audio": {Kinds: wire.String}}),
	"input_audio_buffer.clear":          event(nil),
	"input_audio_buffer.commit":         event(nil),
	"output_audio_buffer.clear":         event(nil),
	"response.cancel":                   event(wire.Fields{"response_id": aString}),
	"response.create":                   event(wire.Fields{"response": anObject}),
	"session.update":                    event(wire.Fields{"session": {Kinds: wire.Object}}),
	"session.close":                     event(nil),
	"session.input_audio_buffer.append": event(wire.Fields{"audio": {Kinds: wire.String}}),
	"transcription_session.update":      event(wire.Fields{"session": {Kinds: wire.Object}}),
}

// DecodeRealtime reads the handshake of a realtime WebSocket, whose query names the model, or a message that the caller sends over it.
func DecodeRealtime(r *llm.Request, lim llm.Limits) *llm.Call { return decode(Realtime, r, lim) }

// readRealtime reads the handshake of a realtime WebSocket, or a message that the caller sends over it.
func readRealtime(call *llm.Call, r *llm.Request, lim llm.Limits) {
	if r.Method == http.MethodGet {
		wire.NoBody(call, r, lim)
		call.Stream = true
		return
	}
	readEvent(call, r, lim, realtimeEvents, func(d decoder, kind string, root strictjson.Value) {
		for k, v := range root.Members() {
			switch string(k.Bare()) {
			case "session":
				d.session(v, sessionFields)
			case "response":
				d.session(v, realtimeResponseFields)
				d.call.Stream = true
			case "item":
				d.item(v)
			case "audio":
				d.begin(llm.RoleUser, v)
				d.Part(llm.Part{Kind: llm.PartAudio, Bytes: len(d.Text(v))})
			default:
				if len(v.Raw()) > wire.MaxSilent {
					d.begin(llm.RoleUser, v)
					d.Unread(v)
				}
			}
		}
		if kind == "response.create" && root.Get("response").Kind() != strictjson.Object {
			d.call.Stream = true
		}
	})
}

// sessionRead are the members that session reads.
var sessionRead = map[string]bool{"instructions": true, "prompt": true, "input": true, "tools": true}

// session reads a session, or a response within one, which can change it for once.
func (d decoder) session(v strictjson.Value, known wire.Fields) {
	if v.Kind() != strictjson.Object {
		return
	}
	d.TopLevel(v, known)
	d.asides(v, sessionRead)
	var input, prompt strictjson.Value
	for k, m := range v.Members() {
		switch string(k.Bare()) {
		case "model":
			if model := d.Str(m); model != "" && model != d.call.Model {
				if d.call.Model != "" {
					d.call.OtherModels = append(d.call.OtherModels, d.call.Model)
				}
				d.call.Model = model
			}
		case "instructions":
			d.instructions(m)
		case "prompt":
			prompt = m
		case "input":
			d.input(input) // should it be there twice
			input = m
		case "tools":
			for t := range m.Elements() {
				d.realtimeTool(t)
			}
		case "max_output_tokens", "max_response_output_tokens":
			d.maxTokens(m)
		case "temperature":
			d.Temperature(m)
		case "audio":
			d.otherModel(m.Get("input").Get("transcription").Get("model"))
		case "input_audio_transcription":
			d.otherModel(m.Get("model"))
		}
	}
	d.prompt(prompt)
	d.input(input)
}

// realtimeTool reads one of a session's tools. The type of a function may be absent there.
func (d decoder) realtimeTool(v strictjson.Value) {
	if v.Kind() == strictjson.Object && v.Get("type").Kind() == strictjson.Absent {
		d.call.Tools = append(d.call.Tools, llm.Tool{Name: d.named(v), Type: "function", Digest: d.Digest(v, cacheMarkers...)})
		return
	}
	d.flatTool(v)
}

// readClientSecret reads a request for a secret with which somebody else, most of all a browser, opens a session.
func readClientSecret(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, clientSecretFields, func(d decoder, root strictjson.Value) {
		for k, v := range root.Members() {
			switch string(k.Bare()) {
			case "session":
				d.session(v, sessionFields)
			default:
				if len(v.Raw()) > wire.MaxSilent {
					d.begin(llm.RoleUser, v)
					d.Unread(v)
				}
			}
		}
	})
}

// readSession reads a request for a session of the beta interface, which returns a secret, too.
func readSession(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, olderSessionFields, func(d decoder, root strictjson.Value) { d.session(root, olderSessionFields) })
}
