package gate

import (
	"net/url"
	"slices"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
)

// Session is what the messages of one WebSocket have in common: the conversation that they are, with its taint and its worst score, and the models that they are for, which most of them do
// not name. The handshake's query names one, or the first message does, and any message may name another. A caller makes one of the handshake's verdict, gives it to each
// Request that is a message, and tells it of what it released. It is used by one goroutine.
type Session struct {
	model  string
	others []string
	// transcribes says that the session has no other model than the one that writes down what is said.
	transcribes bool
	thread      features.Thread
}

// mostOtherModels is how many further models a session remembers.
const mostOtherModels = 64

// NewSession begins the session of a handshake that was released.
func NewSession(handshake *Verdict) *Session {
	return &Session{model: handshake.named.model, others: handshake.named.others, transcribes: handshake.named.transcribes}
}

// Released notes that a message was released, so that those after it are for the models that it named.
func (s *Session) Released(message *Verdict) {
	n := &message.named
	switch {
	case n.model != "" && n.model != s.model:
		s.model, s.others = n.model, n.others
	case len(n.others) > 0:
		s.others = union(n.others, s.others)
		s.others = s.others[:min(len(s.others), mostOtherModels)]
	}
}

// named are the models that a handshake or a message names itself.
type named struct {
	model       string
	others      []string
	transcribes bool
}

// inSession completes what was decoded of a WebSocket. A handshake that names no model asks none yet, and is a means to do so; a message that
// names none is for the session's.
func (v *Verdict) inSession(call *llm.Call, r *Request) {
	if v.Row == nil || !slices.Contains(v.Row.Streams, llm.FramingWebSocket) {
		return
	}
	v.named = named{model: call.Model, others: call.OtherModels}
	if !r.Message {
		// What a query that has several readings says is refused as a finding.
		query, _ := url.ParseQuery(r.Query)
		v.named.transcribes = query.Get("intent") == "transcription"
		if call.Model == "" && call.Class == llm.ClassModel {
			call.Class = llm.ClassAuxiliary
		}
		return
	}
	s := r.Session
	if s == nil {
		return
	}
	if call.Model == "" || call.Model == s.model {
		call.Model = s.model
		call.OtherModels = union(call.OtherModels, s.others)
	}
	if call.Model == "" && s.transcribes && len(call.OtherModels) > 0 {
		call.Model = call.OtherModels[0]
	}
}

// union is a list and what another has besides.
func union(list, more []string) []string {
	out := slices.Clip(list)
	for _, m := range more {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}
