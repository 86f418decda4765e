package wire

import (
	"bytes"
	"mime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Reader reads one request body into a Call.
type Reader struct {
	doc    strictjson.Document
	call   *llm.Call
	lim    llm.Limits
	digest digester

	// parts of all messages lie in one slice, so that a conversation of many short turns costs few allocations.
	parts  []llm.Part
	starts []int // of each message in parts
	// tools maps the ids of the tool calls seen so far to names.
	tools map[string]string
}

var readers = sync.Pool{New: func() any { return &Reader{digest: newDigester()} }}

// Open begins to read a body into call. Whatever is wrong with the body as JSON is among the call's findings afterwards; the root is
// absent when there is nothing to read. The Reader is reused after Close.
func Open(call *llm.Call, contentType string, body []byte, lim llm.Limits) *Reader {
	r := readers.Get().(*Reader) //nolint:forcetypeassert // the pool holds nothing else
	r.call, r.lim = call, lim.WithDefaults()
	call.BodyBytes = len(body)
	if !isJSON(contentType) {
		r.find(llm.Finding{Code: llm.FindingContentType, Detail: "the content type is not application/json in UTF-8"})
	}
	r.doc.Parse(body, strictjson.Options{MaxBytes: r.lim.MaxBytes, MaxDepth: r.lim.MaxDepth, MaxProblems: r.lim.MaxFindings})
	for _, p := range r.doc.Problems() {
		r.find(llm.Finding{Code: llm.FindingCode(p.Code), Path: p.Path, Detail: p.Detail + " (byte " + strconv.Itoa(p.Offset) + ")"})
	}
	if r.doc.Dropped() > 0 {
		r.tooMany()
	}
	return r
}

// Close hands the parts that were read to the call's messages and lets go of the body.
func (r *Reader) Close() {
	for i, start := range r.starts {
		end := len(r.parts)
		if i+1 < len(r.starts) {
			end = r.starts[i+1]
		}
		r.call.Messages[i].Parts = r.parts[start:end:end]
	}
	sortUnknown(r.call)
	r.doc.Forget()
	r.call, r.parts, r.starts = nil, nil, r.starts[:0]
	if len(r.tools) > 1024 {
		r.tools = nil // a map never shrinks
	}
	clear(r.tools)
	readers.Put(r)
}

func sortUnknown(call *llm.Call) {
	slices.Sort(call.UnknownFields)
	call.UnknownFields = slices.Compact(call.UnknownFields)
}

// NoBody reads a request to a surface that has no body: one that is there nevertheless is a finding.
func NoBody(call *llm.Call, r *llm.Request, lim llm.Limits) {
	call.BodyBytes = len(r.Body)
	if len(r.Body) > 0 {
		find(call, lim.WithDefaults(), llm.Finding{Code: llm.FindingTrailingData, Detail: "there is a body where the surface has none"})
	}
}

// Root returns the body's value, which is absent when it could not be read. A body that is no object has a finding.
func (r *Reader) Root() strictjson.Value {
	v := r.doc.Root()
	r.Want(v, Object)
	return v
}

// Object returns the body's value, its members checked against the known ones as TopLevel does. ok is false where it is no object, which Root
// says, or is absent: then there is nothing to read.
func (r *Reader) Object(known Fields) (root strictjson.Value, ok bool) {
	root = r.Root()
	if root.Kind() != strictjson.Object {
		return root, false
	}
	r.TopLevel(root, known)
	return root, true
}

// find keeps a finding unless there are too many.
func (r *Reader) find(f llm.Finding) { find(r.call, r.lim, f) }

func (r *Reader) tooMany() { tooMany(r.call) }

func find(call *llm.Call, lim llm.Limits, f llm.Finding) {
	if len(call.Findings) >= lim.MaxFindings {
		tooMany(call)
		return
	}
	call.Findings = append(call.Findings, f)
}

func tooMany(call *llm.Call) {
	if n := len(call.Findings); n == 0 || call.Findings[n-1].Code != llm.FindingTooMany {
		call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingTooMany, Detail: "more was found than is kept"})
	}
}

// Find keeps a finding at a value.
func (r *Reader) Find(code llm.FindingCode, at strictjson.Value, detail string) {
	if len(r.call.Findings) >= r.lim.MaxFindings {
		r.tooMany()
		return
	}
	r.call.Findings = append(r.call.Findings, llm.Finding{Code: code, Path: at.Pointer(), Detail: detail})
}

// Missing keeps a finding for a member that an object should have.
func (r *Reader) Missing(object strictjson.Value, name string) {
	r.Find(llm.FindingMissingField, object, "the member "+name+" is missing")
}

// Kinds is a set of JSON types.
type Kinds uint8

// The sets of one, and Any.
const (
	Null   Kinds = 1 << strictjson.Null
	Bool   Kinds = 1 << strictjson.Bool
	Number Kinds = 1 << strictjson.Number
	String Kinds = 1 << strictjson.String
	Array  Kinds = 1 << strictjson.Array
	Object Kinds = 1 << strictjson.Object
	Any          = Null | Bool | Number | String | Array | Object
)

// Want reports whether a value is of one of the kinds. A value that is there and of another kind is a finding.
func (r *Reader) Want(v strictjson.Value, k Kinds) bool {
	if v.Kind() == strictjson.Absent {
		return false
	}
	if k&(1<<v.Kind()) != 0 {
		return true
	}
	r.Find(llm.FindingWrongType, v, "the value is of type "+v.Kind().String()+", which is not expected here")
	return false
}

// Str returns a string's content as a Go string, "" when there is none. null is as good as absent.
func (r *Reader) Str(v strictjson.Value) string { return string(r.Text(v)) }

// Text returns a string's content, nil when there is none. null is as good as absent.
func (r *Reader) Text(v strictjson.Value) []byte {
	r.Want(v, String|Null)
	return v.Text()
}

// Int returns an integer, nil when there is none. A number that is no integer is a finding.
func (r *Reader) Int(v strictjson.Value) *int64 {
	if !r.Want(v, Number|Null) || v.Kind() != strictjson.Number {
		return nil
	}
	n, ok := v.Int64()
	if !ok {
		r.Find(llm.FindingNumberRange, v, "the number is no integer of 64 bits")
		return nil
	}
	return &n
}

// Float returns a number, nil when there is none or when it is out of range.
func (r *Reader) Float(v strictjson.Value) *float64 {
	if !r.Want(v, Number|Null) {
		return nil
	}
	f, ok := v.Float64()
	if !ok {
		return nil
	}
	return &f
}

// Fields are the members that an object of the wire format can have, with the types each can have.
type Fields map[string]Field

// Field is one member of Fields.
type Field struct {
	Kinds   Kinds
	Integer bool // a number must be an integer
}

// maxUnknownFields is how many unknown top-level members are kept. Each is compared with the known names and the
// other unknown ones, so the number is small.
const maxUnknownFields = 64

// maxFieldName is how much of an unknown member's name or of a media type is kept, in bytes.
const maxFieldName = 128

// TopLevel checks the members of the body against the known ones: names in other case, with escapes, unknown, or with values of
// another type.
func (r *Reader) TopLevel(root strictjson.Value, known Fields) {
	var unknown []strictjson.Value
	for k, v := range root.Members() {
		name := k.Raw()
		f, ok := known[string(name[1:len(name)-1])]
		if !ok && k.Escaped() {
			f, ok = known[string(k.Text())]
			r.escaped(k)
		}
		if ok {
			if r.Want(v, f.Kinds) && f.Integer {
				r.Int(v)
			}
			continue
		}
		if len(unknown) == maxUnknownFields {
			r.tooMany()
			break
		}
		for name := range known {
			if k.FoldsTo(name) {
				r.Find(llm.FindingCaseFoldedKey, k, "a known member's name is written in other case")
			}
		}
		text := k.Text()
		for _, u := range unknown {
			if other := u.Text(); bytes.EqualFold(other, text) && !bytes.Equal(other, text) {
				r.Find(llm.FindingCaseFoldedKey, k, "two members' names differ only in case")
				break
			}
		}
		unknown = append(unknown, k)
		r.call.UnknownFields = append(r.call.UnknownFields, short(text))
	}
}

// escaped keeps a finding for the name of a member that the wire format defines, where no name needs an escape. Needless ones have been
// found by the strict reader, which finds them everywhere.
func (r *Reader) escaped(name strictjson.Value) {
	if !name.NeedlesslyEscaped() {
		r.Find(llm.FindingEscapedKey, name, "a member's name has an escape")
	}
}

// Member checks a member's name of an object within the body against the known ones, and returns which it is: the index in known,
// or -1. Names in other case and names with escapes are findings.
func (r *Reader) Member(name strictjson.Value, known []string) int {
	raw := name.Raw()
	raw = raw[1 : len(raw)-1]
	for i, k := range known {
		if string(raw) == k {
			return i
		}
	}
	if name.Escaped() {
		r.escaped(name)
	}
	for i, k := range known {
		if name.Is(k) {
			return i
		}
		if name.FoldsTo(k) {
			r.Find(llm.FindingCaseFoldedKey, name, "a known member's name is written in other case")
		}
	}
	return -1
}

// Begin begins a message. Parts that follow belong to it.
func (r *Reader) Begin(m llm.Message) {
	r.call.Messages = append(r.call.Messages, m)
	r.starts = append(r.starts, len(r.parts))
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

// Parts returns the parts so far of the message that was begun last.
func (r *Reader) Parts() []llm.Part { return r.parts[r.starts[len(r.starts)-1]:] }

// Grow makes room for messages with about as many parts.
func (r *Reader) Grow(messages int) {
	r.call.Messages = slices.Grow(r.call.Messages, messages)
	r.parts = slices.Grow(r.parts, messages+messages/4+1)
}

// Unknown adds a part for something in a message that the codec does not know, so that it is not out of sight.
func (r *Reader) Unknown(v strictjson.Value) {
	r.Part(llm.Part{Kind: llm.PartUnknown, Text: v.Raw()})
}

// maxSilent is the length of the longest value that is passed over in a message because nothing in it is to be read, such as an id.
const maxSilent = 128

// Silent passes over a known value that says nothing, unless it is too long for that.
func (r *Reader) Silent(v strictjson.Value) {
	if len(v.Raw()) > maxSilent {
		r.Unknown(v)
	}
}

// URL adds a URL that the provider is asked to fetch.
func (r *Reader) URL(v strictjson.Value) {
	if s := r.Str(v); s != "" {
		r.call.URLs = append(r.call.URLs, s)
	}
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

// short returns a name as a string of bounded length that is UTF-8.
func short(name []byte) string {
	return strings.ToValidUTF8(string(name[:min(len(name), maxFieldName)]), "")
}

// isJSON reports whether a content type is application/json, in UTF-8 where it says a charset.
func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/json" {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}
