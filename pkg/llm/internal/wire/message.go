package wire

import (
	"bytes"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Message begins a message that is a value: its digest and its length are the value's, markers are the wire format's cache markers. Parts that follow
// belong to it. What is returned may be changed until the next message begins.
func (r *Reader) Message(role llm.Role, v strictjson.Value, markers ...string) *llm.Message {
	r.call.Messages = append(r.call.Messages, llm.Message{Role: role, Digest: r.Digest(v, markers...), Bytes: len(v.Raw())})
	r.starts = append(r.starts, len(r.parts))
	return &r.call.Messages[len(r.call.Messages)-1]
}

// Whole adds a message of the user's for a value, if it is there, that has no place in the normal form: it is one part of unknown kind.
func (r *Reader) Whole(v strictjson.Value) {
	if v.Kind() != strictjson.Absent {
		r.Message(llm.RoleUser, v)
		r.Unknown(v)
	}
}

// Aside adds an aside for a member of the request that is not read, unless it is too short to say anything. Asides are added before the conversation's messages.
func (r *Reader) Aside(role llm.Role, v strictjson.Value, markers ...string) {
	if len(v.Raw()) <= MaxSilent {
		return
	}
	r.Message(role, v, markers...).Aside = true
	r.Unread(v)
}

// Unread adds a part for a value that the codec does not read.
func (r *Reader) Unread(v strictjson.Value) {
	if v.Kind() == strictjson.String {
		r.Part(llm.Part{Kind: llm.PartUnknown, Text: v.Text()})
	} else {
		r.Unknown(v)
	}
}

// Role reads the role of a message by the names that the wire format has for roles. A role that it has no name for is kept as it is, and is a
// finding; one that is empty or absent says nothing.
func (r *Reader) Role(m *llm.Message, v strictjson.Value, names map[string]llm.Role) {
	text := r.Text(v)
	if len(text) == 0 {
		return
	}
	role, ok := names[string(text)]
	if !ok {
		role = llm.Role(text)
		r.Find(llm.FindingUnknownRole, v, "the role is unknown")
	}
	m.Role = role
}

// OnlyResults says whether the message that was begun last holds what tools gave back and nothing else: in formats in which that comes in a
// message of the user, such a one is the tool's.
func (r *Reader) OnlyResults() bool {
	parts := r.Parts()
	for _, p := range parts {
		if p.Kind != llm.PartToolResult && p.ToolCallID == "" {
			return false
		}
	}
	return len(parts) > 0
}

// Part adds a part to the message that was begun last.
func (r *Reader) Part(p llm.Part) {
	if p.Kind == llm.PartToolCall && p.ToolCallID != "" {
		if r.tools == nil {
			r.tools = map[string]string{}
		}
		r.tools[p.ToolCallID] = p.ToolName
	}
	if p.Kind == llm.PartToolResult && p.ToolName == "" {
		p.ToolName = r.tools[p.ToolCallID]
	}
	r.parts = append(r.parts, p)
}

// AddText adds a text, if there is one, as a part like of.
func (r *Reader) AddText(v strictjson.Value, of llm.Part) {
	if text := r.Text(v); len(text) > 0 {
		of.Text = text
		r.Part(of)
	}
}

// Parts returns the parts so far of the message that was begun last.
func (r *Reader) Parts() []llm.Part { return r.parts[r.starts[len(r.starts)-1]:] }

// HasResult says whether the message that was begun last has a tool's result among its parts, from the one of an index on.
func (r *Reader) HasResult(from int) bool {
	for _, p := range r.Parts()[from:] {
		if p.Kind == llm.PartToolResult {
			return true
		}
	}
	return false
}

// Grow makes room for messages with about as many parts.
func (r *Reader) Grow(messages int) {
	r.call.Messages = slices.Grow(r.call.Messages, messages)
	r.parts = slices.Grow(r.parts, messages+messages/4+1)
}

// Expect is Want within a message: what is of another kind, or absent where something has to be, becomes a part of unknown kind, so that it is
// not out of sight.
func (r *Reader) Expect(v strictjson.Value, k Kinds) bool {
	if r.Want(v, k) {
		return true
	}
	r.Unknown(v)
	return false
}

// Unknown adds a part for something in a message that the codec does not know, so that it is not out of sight.
func (r *Reader) Unknown(v strictjson.Value) {
	r.Part(llm.Part{Kind: llm.PartUnknown, Text: v.Raw()})
}

// MaxSilent is the length of the longest value that is passed over because nothing in it is to be read, such as an id, in bytes.
const MaxSilent = 128

// Silent passes over a known value that says nothing, unless it is too long for that.
func (r *Reader) Silent(v strictjson.Value) {
	if len(v.Raw()) > MaxSilent {
		r.Unknown(v)
	}
}

// URL adds a URL that the provider is asked to fetch.
func (r *Reader) URL(v strictjson.Value) {
	if s := r.Str(v); s != "" {
		r.call.URLs = append(r.call.URLs, s)
	}
}

// Trivial reports whether a value says next to nothing.
func Trivial(v strictjson.Value) bool {
	switch v.Kind() {
	case strictjson.Absent, strictjson.Null, strictjson.Bool:
		return true
	case strictjson.Array, strictjson.Object:
		return v.Len() == 0
	}
	return false
}

// HasNumber reports whether a list has a number among its elements. Numbers could stand for a text, so that a list of them is
// not passed over.
func HasNumber(list strictjson.Value) bool {
	for e := range list.Elements() {
		if e.Kind() == strictjson.Number {
			return true
		}
	}
	return false
}

// DataURL splits a data: URL into media type and data. ok is false for any other URL.
func DataURL(url []byte) (mediaType string, data []byte, ok bool) {
	const scheme = "data:"
	if len(url) < len(scheme) || !strings.EqualFold(string(url[:len(scheme)]), scheme) {
		return "", nil, false
	}
	head, data, _ := bytes.Cut(url[len(scheme):], []byte(","))
	head, _, _ = bytes.Cut(head, []byte(";"))
	return short(head), data, true
}
