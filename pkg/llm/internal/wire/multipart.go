package wire

import (
	"bytes"
	"iter"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
)

// FormPart is a part of a multipart/form-data body.
type FormPart struct {
	Name string
	// Filename is "" for a part that is no file.
	Filename string
	// MediaType is the type that the part says it is of, without parameters; "" where it says none.
	MediaType string
	// Body is part of the request's body.
	Body []byte
}

const (
	maxParts       = 256
	maxPartHeaders = 4 << 10
	maxBoundary    = 70 // RFC 2046, section 5.1.1
)

// Multipart reads a body that is a form and goes over its parts in their order. Whatever one reader could take apart in another way than
// this one is FindingMultipart: it accepts no more than what the browsers' standard and the providers' SDKs write, which is a small part of what
// RFC 2046 and RFC 7578 allow. The findings are complete when Multipart returns.
func Multipart(call *llm.Call, r *llm.Request, lim llm.Limits) iter.Seq[FormPart] {
	call.BodyBytes = len(r.Body)
	f := &form{call: call, lim: lim.WithDefaults(), names: map[string]string{}}
	if int64(len(r.Body)) > f.lim.MaxBytes {
		f.find(llm.FindingOversize, "the body is longer than the limit")
		return slices.Values[[]FormPart](nil)
	}
	boundary, isForm, ok := boundaryOf(r.ContentType)
	switch {
	case !isForm:
		f.find(llm.FindingContentType, "the content type is not multipart/form-data")
	case !ok:
		f.bad("the content type's boundary is missing, has characters that no boundary has, or stands beside other parameters")
	}
	if boundary != "" {
		f.body(r.Body, []byte("--"+boundary))
	}
	return slices.Values(f.parts)
}

// form reads one body.
type form struct {
	call  *llm.Call
	lim   llm.Limits
	parts []FormPart
	names map[string]string // in lower case, to the name as it was first written
}

func (f *form) find(code llm.FindingCode, detail string) {
	find(f.call, f.lim, llm.Finding{Code: code, Detail: detail})
}

func (f *form) bad(detail string) { f.find(llm.FindingMultipart, detail) }

// boundaryOf returns the boundary of a content type. It is ok when the type is written as clients write it: nothing but the boundary beside the
// type, of characters that need no reading between the lines. A boundary that is not ok is returned where there is one.
func boundaryOf(contentType string) (boundary string, isForm, ok bool) {
	media, params, err := mime.ParseMediaType(contentType)
	if media != "multipart/form-data" {
		return "", false, false
	}
	boundary = params["boundary"]
	if err != nil || boundary == "" || len(boundary) > maxBoundary || strings.HasSuffix(boundary, " ") || len(params) != 1 {
		return boundary, true, false
	}
	for _, c := range []byte(boundary) {
		if c < '0' || c > '9' && c < 'A' || c > 'Z' && c < 'a' || c > 'z' {
			if strings.IndexByte("'()+_,-./:=? ", c) < 0 {
				return boundary, true, false
			}
		}
	}
	// What was read is what is written, and not put together of boundary*0 and boundary*1 or of escapes.
	_, written, _ := strings.Cut(contentType, ";")
	written = strings.TrimLeft(written, " ")
	name, value, _ := strings.Cut(written, "=")
	return boundary, true, strings.EqualFold(name, "boundary") && (value == boundary || value == `"`+boundary+`"`)
}

var crlf = []byte("\r\n")

// body takes a body apart at its delimiters.
func (f *form) body(body, delimiter []byte) {
	if !bytes.HasPrefix(body, delimiter) {
		f.bad("the body does not begin with its boundary")
	}
	start, closed := -1, false // of the part that is being read
	for at := 0; ; {
		n := bytes.Index(body[at:], delimiter)
		if n < 0 {
			break
		}
		at += n
		after := body[at+len(delimiter):]
		opens, closes := bytes.HasPrefix(after, crlf), bytes.HasPrefix(after, []byte("--"))
		whole := at == 0 || bytes.HasSuffix(body[:at], crlf)
		switch {
		case closed:
			f.bad("the boundary is there again after the end of the form")
		case !whole || !opens && !closes:
			f.bad("the boundary is there in the middle of a part, or is longer than it should be")
		default:
			if start >= 0 {
				if start > at-len(crlf) {
					f.bad("a part has no headers")
				} else {
					f.part(body[start : at-len(crlf)])
				}
			}
			start = at + len(delimiter) + len(crlf)
			if closes {
				closed = true
				if rest := after[2:]; len(rest) > 0 && !bytes.Equal(rest, crlf) {
					f.bad("there is more after the end of the form")
				}
			}
		}
		at += len(delimiter)
		if len(f.parts) > maxParts {
			f.bad("the form has more parts than are read")
			return
		}
	}
	if !closed {
		f.bad("the form does not end with its boundary")
		if start >= 0 {
			f.part(body[min(start, len(body)):])
		}
	}
}

// part reads one part: its headers, an empty line and its content.
func (f *form) part(b []byte) {
	head, content, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok || len(head) > maxPartHeaders {
		f.bad("a part's headers are missing, do not end or are longer than is read")
		f.parts = append(f.parts, FormPart{Body: slices.Clip(b)})
		return
	}
	p := FormPart{Body: slices.Clip(content)}
	disposition, mediaType := 0, 0
	for line := range bytes.SplitSeq(head, crlf) {
		name, value, ok := strings.Cut(string(line), ":")
		if !ok || strings.ContainsAny(string(line), "\r\n\x00") || !utf8.ValidString(value) {
			f.bad("a line of a part's headers is none")
			continue
		}
		value = strings.Trim(value, " ")
		switch strings.ToLower(name) {
		case "content-disposition":
			disposition++
			f.disposition(&p, value)
		case "content-type":
			mediaType++
			f.mediaType(&p, value)
		default: // Content-Transfer-Encoding among them
			f.bad("a part has a header that parts of a form do not have")
		}
	}
	if disposition != 1 || mediaType > 1 {
		f.bad("a part's Content-Disposition is missing, or a header is there twice")
	}
	switch p.Name {
	case "":
		f.bad("a part has no name")
	case "_charset_":
		f.bad("a part says the character set of the others")
	}
	if first, twice := f.names[strings.ToLower(p.Name)]; twice && (first != p.Name || !strings.HasSuffix(p.Name, "[]")) {
		f.bad("a part's name is there twice, or twice but for case")
	}
	f.names[strings.ToLower(p.Name)] = p.Name
	f.parts = append(f.parts, p)
}

// disposition reads form-data; name="…"; filename="…".
func (f *form) disposition(p *FormPart, value string) {
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.Trim(kind, " "), "form-data") {
		f.bad("a part is no form-data")
	}
	seen := map[string]bool{}
	for rest = strings.TrimLeft(rest, " "); rest != ""; {
		name, more, ok := strings.Cut(rest, "=")
		if !ok {
			f.bad("a parameter of a part has no value")
			return
		}
		var v string
		if quoted, isQuoted := strings.CutPrefix(more, `"`); isQuoted {
			v, more, ok = strings.Cut(quoted, `"`)
			if !ok {
				f.bad("a part's name does not end")
				return
			}
		} else {
			n := strings.IndexByte(more, ';')
			if n < 0 {
				n = len(more)
			}
			v, more = strings.TrimRight(more[:n], " "), more[n:]
			if v == "" || strings.ContainsAny(v, " \t\"()<>@,/[]?={}") {
				f.bad("a part's name or file name needs quotes and has none")
			}
		}
		name = strings.ToLower(name)
		if seen[name] {
			f.bad("a parameter of a part is there twice")
		}
		seen[name] = true
		if strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7F || r == '\\' }) {
			f.bad("a part's name or file name has a backslash or a control character, which readers do not take alike")
		}
		switch name {
		case "name":
			if strings.ContainsFunc(v, func(r rune) bool { return r >= 0x80 || r == '%' }) || strings.TrimSpace(v) != v {
				f.bad("a part's name has characters that readers do not take alike")
			}
			p.Name = v
		case "filename":
			p.Filename = v
		default: // filename* among them
			f.bad("a part has a parameter other than its name and file name")
		}
		if more != "" {
			after, ok := strings.CutPrefix(more, ";")
			if more = strings.TrimLeft(after, " "); !ok || more == "" {
				f.bad("there is more after a parameter of a part")
				return
			}
		}
		rest = more
	}
}

// mediaType reads a part's content type.
func (f *form) mediaType(p *FormPart, value string) {
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		f.bad("a part's content type is none")
		return
	}
	p.MediaType = short([]byte(media))
	if strings.HasPrefix(media, "multipart/") || strings.HasPrefix(media, "message/") {
		f.bad("a part has parts of its own")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		f.bad("a part is written in another character set than UTF-8")
	}
}

// Known returns which of the known names a part's name is: the index, or -1. An unknown one is among the call's unknown fields with an "&"
// before it, and one that is known but for case is a finding.
func (p FormPart) Known(call *llm.Call, known []string) int {
	if i := slices.Index(known, p.Name); i >= 0 {
		return i
	}
	for _, k := range known {
		if strings.EqualFold(k, p.Name) {
			find(call, llm.DefaultLimits(), llm.Finding{Code: llm.FindingCaseFoldedKey, Detail: "the name of a known part of the form is written in other case"})
		}
	}
	Unknown(call, "&"+p.Name)
	sortUnknown(call)
	return -1
}

// Text returns the content of a part that is text, in UTF-8. Bytes that are no UTF-8 are a finding.
func (p FormPart) Text(call *llm.Call) []byte {
	if utf8.Valid(p.Body) {
		return p.Body
	}
	find(call, llm.DefaultLimits(), llm.Finding{Code: llm.FindingInvalidUTF8, Detail: "a part of the form that is text has bytes that are no UTF-8"})
	return slices.Clip(bytes.ToValidUTF8(p.Body, []byte("\uFFFD")))
}
