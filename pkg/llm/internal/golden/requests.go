package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
)

// Decode is the signature of a codec's Decode.
type Decode func(r *llm.Request, lim llm.Limits) *llm.Call

// view is a Call as it is shown in a file. Digests have tests of their own and are not shown.
type view struct {
	Surface       llm.Surface   `json:"surface"`
	Class         llm.Class     `json:"class"`
	Operation     llm.Operation `json:"operation"`
	RPCMethod     string        `json:"rpc_method,omitempty"`
	Model         string        `json:"model,omitempty"`
	OtherModels   []string      `json:"other_models,omitempty"`
	Stream        bool          `json:"stream,omitempty"`
	MaxTokens     *int64        `json:"max_tokens,omitempty"`
	Temperature   *float64      `json:"temperature,omitempty"`
	Messages      []message     `json:"messages,omitempty"`
	Tools         []tool        `json:"tools,omitempty"`
	URLs          []string      `json:"urls,omitempty"`
	UnknownFields []string      `json:"unknown_fields,omitempty"`
	Findings      []llm.Finding `json:"findings,omitempty"`
}

type message struct {
	Role  llm.Role `json:"role"`
	Aside bool     `json:"aside,omitempty"`
	Bytes int      `json:"bytes"`
	Parts []part   `json:"parts,omitempty"`
}

type part struct {
	Kind       llm.PartKind `json:"kind"`
	Text       string       `json:"text,omitempty"`
	ToolName   string       `json:"tool_name,omitempty"`
	ToolCallID string       `json:"tool_call_id,omitempty"`
	Bytes      int          `json:"bytes,omitempty"`
	MediaType  string       `json:"media_type,omitempty"`
}

type tool struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	ServerSide bool   `json:"server_side,omitempty"`
	Class      string `json:"class,omitempty"`
	URL        string `json:"url,omitempty"`
}

// Call compares a call with a golden file.
func Call(t *testing.T, file string, c *llm.Call) {
	t.Helper()
	v := view{Surface: c.Surface, Class: c.Class, Operation: c.Operation, RPCMethod: c.RPCMethod, Model: c.Model, OtherModels: c.OtherModels, Stream: c.Stream, MaxTokens: c.MaxTokens, Temperature: c.Temperature,
		URLs: c.URLs, UnknownFields: c.UnknownFields, Findings: c.Findings}
	for _, m := range c.Messages {
		out := message{Role: m.Role, Aside: m.Aside, Bytes: m.Bytes}
		for _, p := range m.Parts {
			out.Parts = append(out.Parts, part{p.Kind, string(p.Text), p.ToolName, p.ToolCallID, p.Bytes, p.MediaType})
		}
		v.Messages = append(v.Messages, out)
	}
	for _, x := range c.Tools {
		v.Tools = append(v.Tools, tool{x.Name, x.Type, x.ServerSide, string(x.Class), x.URL})
	}
	Compare(t, file, v)
}

// suffixes are the ends of the names of request files.
var suffixes = []string{"*.json", "*.multipart", "*.http"}

// request returns a copy of base as a file says it: a body of JSON, a form whose boundary is its first line, or a whole request: the request
// line, the headers, an empty line and the body. Where base's path is a row's pattern, it says what the variables match.
func request(file string, base llm.Request, text []byte) (*llm.Request, error) {
	contentType := "application/json"
	switch filepath.Ext(file) {
	case ".multipart":
		line, _, _ := bytes.Cut(text, []byte("\n"))
		contentType = "multipart/form-data; boundary=" + strings.TrimPrefix(strings.TrimSuffix(string(line), "\r"), "--")
	case ".http":
		return whole(base, text)
	}
	base.Body = text
	if base.ContentType == "" {
		base.ContentType = contentType
	}
	return &base, nil
}

// whole returns a copy of base as a text says it in the form of HTTP/1.1, whose lines may end without a carriage return.
func whole(base llm.Request, text []byte) (*llm.Request, error) {
	line := func() string {
		l, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		return strings.TrimSuffix(string(l), "\r")
	}
	method, target, ok := strings.Cut(line(), " ")
	target = strings.TrimSuffix(target, " HTTP/1.1")
	path, query, _ := strings.Cut(target, "?")
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, errors.New("the first line is no request line")
	}
	if strings.Contains(base.Path, "{") {
		row := llm.Row{Method: method, Path: base.Path}
		if base.Vars, ok = row.Match(method, path); !ok {
			return nil, fmt.Errorf("%s is not matched by %s", path, base.Path)
		}
	}
	base.Path, base.Query, base.Header = path, query, http.Header{}
	if base.Method != llm.MethodMessage {
		base.Method = method
	}
	for l := line(); l != ""; l = line() {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return nil, fmt.Errorf("%q is no header", l)
		}
		base.Header.Add(name, strings.TrimSpace(value))
	}
	base.ContentType = base.Header.Get("Content-Type")
	base.Body = text
	return &base, nil
}

// Requests decodes each request of a directory and compares the call with its golden file. NAME.json is the body of a request that is otherwise
// base, NAME.multipart the body of one whose content type has the boundary in the body's first line, and NAME.http a whole request. One whose
// name does not begin with "bad_" must have neither findings nor unknown fields.
func Requests(t *testing.T, dir string, decode Decode, base llm.Request) {
	for file, text := range all(t, dir, suffixes) {
		name := strings.TrimSuffix(file, filepath.Ext(file))
		t.Run(name, func(t *testing.T) {
			r, err := request(file, base, text)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			c := decode(r, llm.DefaultLimits())
			CheckCall(t, c, r.Body)
			if !bytes.Contains(text, r.Body) {
				t.Error("the body was changed")
			}
			if !strings.HasPrefix(name, "bad_") && len(c.Findings)+len(c.UnknownFields) > 0 {
				t.Errorf("findings %+v and unknown fields %q of a clean body", c.Findings, c.UnknownFields)
			}
			Call(t, filepath.Join(dir, name+".golden"), c)
			if !strings.HasPrefix(name, "bad_") {
				checkNext(t, decode, *r)
			}
		})
	}
}

// checkNext checks that a call which brings more of the same conversation begins with the same turns, so that it is recognised. What stands beside a conversation is none of it.
func checkNext(t *testing.T, decode Decode, r llm.Request) {
	t.Helper()
	body := map[string]json.RawMessage{}
	if json.Unmarshal(r.Body, &body) != nil {
		return
	}
	read := func() []llm.Message {
		var err error
		if r.Body, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
		c := decode(&r, llm.DefaultLimits())
		return slices.DeleteFunc(c.Messages, func(m llm.Message) bool { return m.Aside })
	}
	for _, name := range []string{"messages", "contents"} {
		var list []json.RawMessage
		if json.Unmarshal(body[name], &list) != nil || len(list) == 0 {
			continue
		}
		first := read()
		more, err := json.Marshal(append(list, list...))
		if err != nil {
			t.Fatal(err)
		}
		body[name] = more
		for i, m := range read()[:len(first)] {
			if m.Digest != first[i].Digest || m.Role != first[i].Role {
				t.Errorf("message %d is not what it was in the call before", i)
			}
		}
	}
}

// RequestFiles returns the requests of a directory by the name of their file, as Requests reads them.
func RequestFiles(t testing.TB, dir string, base llm.Request) map[string]*llm.Request {
	t.Helper()
	out := map[string]*llm.Request{}
	for file, text := range all(t, dir, suffixes) {
		r, err := request(file, base, text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out[file] = r
	}
	return out
}

// CheckCall checks what holds for every call, whatever the body is.
func CheckCall(t *testing.T, c *llm.Call, body []byte) {
	t.Helper()
	if c.BodyBytes != len(body) {
		t.Errorf("the body is of %d bytes, want %d", c.BodyBytes, len(body))
	}
	if max := llm.DefaultLimits().MaxFindings; len(c.Findings) > max+1 {
		t.Errorf("%d findings, more than %d", len(c.Findings), max)
	}
	for _, f := range c.Findings {
		if f.Code == "" || f.Detail == "" || !utf8.ValidString(f.Path) {
			t.Errorf("finding %+v lacks something", f)
		}
	}
	text := 0
	for i, m := range c.Messages {
		if m.Digest == (llm.Digest{}) {
			t.Errorf("message %d has no digest", i)
		}
		for _, p := range m.Parts {
			if p.Kind == "" {
				t.Errorf("message %d has a part of no kind", i)
			}
			if p.Kind != llm.PartUnknown && p.Kind != llm.PartToolCall && p.Kind != llm.PartToolResult && !utf8.Valid(p.Text) {
				t.Errorf("message %d: %q is no UTF-8", i, p.Text)
			}
			if cap(p.Text) != len(p.Text) {
				t.Errorf("message %d: text of %d bytes can be appended to in place", i, len(p.Text))
			}
			text += len(p.Text)
		}
	}
	if text > 4*len(body) {
		t.Errorf("%d bytes of text in a body of %d", text, len(body))
	}
}
