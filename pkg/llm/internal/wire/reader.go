package wire

import (
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

// OpenObject begins to read a request whose body is an object with the known members, and which has no query. ok is false where there is nothing to
// read; the Reader is to be closed all the same.
func OpenObject(call *llm.Call, req *llm.Request, lim llm.Limits, known Fields) (r *Reader, root strictjson.Value, ok bool) {
	r = Open(call, req.ContentType, req.Body, lim)
	Query(call, req, nil)
	root, ok = r.Object(known)
	return r, root, ok
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
		Find(call, lim, llm.Finding{Code: llm.FindingTrailingData, Detail: "there is a body where the surface has none"})
	}
}

// Bodiless reads a request to a surface that has no body, and whose query has the known parameters, into call, which it returns.
func Bodiless(call *llm.Call, r *llm.Request, lim llm.Limits, query []string) *llm.Call {
	NoBody(call, r, lim)
	Query(call, r, query)
	return call
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

// Find keeps a finding about a request, unless there are more than the limits allow: then that is what the call says.
func Find(call *llm.Call, lim llm.Limits, f llm.Finding) { find(call, lim.WithDefaults(), f) }

// find is Find where the limits have their defaults.
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

// MaxTokens reads an output limit whose type has been checked.
func (r *Reader) MaxTokens(v strictjson.Value) {
	if n, ok := v.Int64(); ok {
		r.call.MaxTokens = &n
	}
}

// Temperature reads a temperature whose type has been checked.
func (r *Reader) Temperature(v strictjson.Value) {
	if f, ok := v.Float64(); ok {
		r.call.Temperature = &f
	}
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

// maxFieldName is how much of an unknown member's name or of a media type is kept, in bytes.
const maxFieldName = 128

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
