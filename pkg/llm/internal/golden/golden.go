package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

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
		out := message{Role: m.Role, Bytes: m.Bytes}
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

// replyView is a Reply as it is shown in a file.
type replyView struct {
	Model        string     `json:"model,omitempty"`
	FinishReason string     `json:"finish_reason,omitempty"`
	Usage        llm.Usage  `json:"usage"`
	ToolCalls    []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name"`
	Arguments  string `json:"arguments,omitempty"`
	Truncated  bool   `json:"truncated,omitempty"`
	Done       bool   `json:"done,omitempty"`
	ServerSide bool   `json:"server_side,omitempty"`
}

// Reply compares a reply with a golden file.
func Reply(t *testing.T, file string, r llm.Reply) {
	t.Helper()
	v := replyView{Model: r.Model, FinishReason: r.FinishReason, Usage: r.Usage}
	for _, c := range r.ToolCalls {
		v.ToolCalls = append(v.ToolCalls, toolCall{c.ID, c.Name, string(c.Arguments), c.Truncated, c.Done, c.ServerSide})
	}
	Compare(t, file, v)
}

// Compare compares a value, as JSON, with a golden file.
func Compare(t *testing.T, file string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if want, same := Text(t, file, b.Bytes()); !same {
		t.Errorf("%s differs; what was read:\n%s\nwhat it has:\n%s", file, b.Bytes(), want)
	}
}

// Text compares a text with a golden file, and returns what that has. With -update it writes the file.
func Text(t *testing.T, file string, text []byte) (want []byte, same bool) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return text, true
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return want, bytes.Equal(text, want)
}

func responsePatterns() []string {
	out := ResponseSuffixes()
	for i := range out {
		out[i] = "*" + out[i]
	}
	return out
}

// ResponseSuffixes are the ends of the names of response files, of which the first that fits says what a file is.
func ResponseSuffixes() []string {
	out := make([]string, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, k.suffix)
	}
	return out
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
		})
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

// all returns the contents of a directory's files by name with extension; there must be at least one.
func all(t testing.TB, dir string, patterns []string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, p := range patterns {
		files, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(f)] = b
		}
	}
	if len(out) == 0 {
		t.Fatalf("no files %s in %s", patterns, dir)
	}
	return out
}

// Files returns the contents of files by name without extension.
func Files(t testing.TB, dir, pattern string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for file, text := range all(t, dir, []string{pattern}) {
		out[strings.TrimSuffix(file, filepath.Ext(file))] = text
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

// FuzzDecode checks of any body what holds for every call, that reading it twice is the same, and that encoding/json, where the reader objects
// to nothing, understands the same by the members that decide most, as far as the surface has them. The seeds are the requests of a directory, as
// Requests reads them; each body is read as one of the content types that those have.
func FuzzDecode(f *testing.F, dir string, decode Decode, base llm.Request) {
	types := []string{"application/json"}
	for _, r := range RequestFiles(f, dir, base) {
		if !slices.Contains(types, r.ContentType) {
			types = append(types, r.ContentType)
		}
	}
	slices.Sort(types[1:])
	for _, r := range RequestFiles(f, dir, base) {
		f.Add(r.Body, slices.Index(types, r.ContentType))
	}
	lenient := leniently(decode, base)
	f.Fuzz(func(t *testing.T, body []byte, contentType int) {
		r := base
		r.Body, r.ContentType = body, types[uint(contentType)%uint(len(types))]
		before := bytes.Clone(body)
		c := decode(&r, llm.DefaultLimits())
		CheckCall(t, c, body)
		again := r
		again.Body = before
		if c2 := decode(&again, llm.DefaultLimits()); !reflect.DeepEqual(c, c2) {
			t.Errorf("read twice:\n%+v\n%+v", c, c2)
		}
		if !bytes.Equal(body, before) {
			t.Error("the body was changed")
		}
		if len(c.Findings) == 0 && r.ContentType == "application/json" && len(body) > 0 {
			lenient(t, c, body)
		}
	})
}

// leniently returns a comparison of a call with what encoding/json makes of its body. It asks the codec first which of the members it has.
func leniently(decode Decode, base llm.Request) func(t *testing.T, c *llm.Call, body []byte) {
	base.ContentType, base.Body = "application/json", []byte(`{"model":"probe","stream":true,"messages":[{"role":"user","content":"a"}],"tools":[]}`)
	probe := decode(&base, llm.DefaultLimits())
	has := func(name string) bool { return !slices.Contains(probe.UnknownFields, name) }
	return func(t *testing.T, c *llm.Call, body []byte) {
		t.Helper()
		if !json.Valid(body) {
			t.Fatal("no findings, but encoding/json finds it invalid")
		}
		if probe.Model != "probe" || !has("model") {
			return
		}
		var m struct {
			Model    string          `json:"model"`
			Stream   json.RawMessage `json:"stream"`
			Messages json.RawMessage `json:"messages"`
			Tools    json.RawMessage `json:"tools"`
		}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatalf("no findings, but %v", err)
		}
		var messages, tools []json.RawMessage
		_, _ = json.Unmarshal(m.Messages, &messages), json.Unmarshal(m.Tools, &tools) // of another type they are of none of ours
		if m.Model != c.Model || has("stream") && probe.Stream && string(m.Stream) == "true" && !c.Stream ||
			has("messages") && len(messages) > len(c.Messages) || has("messages") && has("tools") && len(tools) > len(c.Tools) {
			t.Errorf("understood as %+v and as model %q, stream %s, %d messages, %d tools", c, m.Model, m.Stream, len(messages), len(tools))
		}
	}
}

// Watch is the signature of a codec's Watch.
type Watch func(o llm.WatchOptions) llm.Watcher

// kind is a kind of response files.
type kind struct {
	suffix      string
	contentType string
	framing     llm.Framing
}

// kinds of response files. The suffix that fits first counts. A .eventstream file is text: for each frame its headers, an empty line, and its payload in
// one line, with an empty line between frames.
var kinds = []kind{
	{".array.json", "application/json; charset=UTF-8", llm.FramingJSONArray},
	{".json", "application/json", llm.FramingNone},
	{".sse", "text/event-stream; charset=utf-8", llm.FramingNone},
	{".ndjson", "application/x-ndjson", llm.FramingNone},
	{".eventstream", "application/vnd.amazon.eventstream", llm.FramingNone},
	{".ws", "", llm.FramingWebSocket},
}

func kindOf(file string) (kind, bool) {
	for _, k := range kinds {
		if strings.HasSuffix(file, k.suffix) {
			return k, true
		}
	}
	return kind{}, false
}

func (k kind) options() llm.WatchOptions {
	return llm.WatchOptions{ContentType: k.contentType, Framing: k.framing, Arguments: 4096}
}

// wire returns what a file of the kind stands for on the wire.
func (k kind) wire(text []byte) []byte {
	if k.suffix == ".eventstream" {
		return EventStream(text)
	}
	return text
}

// pieces returns what is written at once where nothing is cut: the whole response, or each message of a WebSocket.
func (k kind) pieces(body []byte) [][]byte {
	if k.framing != llm.FramingWebSocket {
		return [][]byte{body}
	}
	var out [][]byte
	for line := range bytes.Lines(body) {
		out = append(out, bytes.TrimRight(line, "\r\n"))
	}
	return out
}

// EventStream returns the frames of an event stream that a text stands for: for each frame its headers, one a line, an empty line, its payload in
// one line and an empty line. Headers that are always the same (:content-type, and :message-type where it is "event") need not be there.
func EventStream(text []byte) []byte {
	var out []byte
	for len(bytes.TrimSpace(text)) > 0 {
		head, rest, _ := bytes.Cut(text, []byte("\n\n"))
		payload, rest, _ := bytes.Cut(rest, []byte("\n"))
		text = bytes.TrimLeft(rest, "\n")
		given := map[string]bool{}
		var headers []wire.EventHeader
		for line := range bytes.SplitSeq(head, []byte("\n")) {
			name, value, _ := strings.Cut(string(line), ": ")
			headers = append(headers, wire.EventHeader{Name: name[:min(255, len(name))], Value: value})
			given[name] = true
		}
		for _, h := range []wire.EventHeader{{Name: ":content-type", Value: wire.JSON}, {Name: ":message-type", Value: "event"}} {
			if !given[h.Name] {
				headers = append(headers, h)
			}
		}
		out = wire.AppendEvent(out, headers, payload)
	}
	return out
}

// Replies watches each response of a directory and compares the reply with NAME.golden. NAME.sse is a stream of events, NAME.json one JSON text,
// NAME.ndjson JSON texts one after another, NAME.array.json an array whose elements arrive one by one, NAME.eventstream is as EventStream reads
// it, and NAME.ws has a WebSocket message a line. Every way to cut the response into pieces must come to the same.
func Replies(t *testing.T, dir string, watch Watch) {
	for file, text := range all(t, dir, responsePatterns()) {
		k, _ := kindOf(file)
		name := strings.TrimSuffix(file, k.suffix)
		t.Run(name, func(t *testing.T) {
			body := k.wire(text)
			w := watch(k.options())
			for _, p := range k.pieces(body) {
				w.Write(p)
			}
			want := w.Reply()
			Reply(t, filepath.Join(dir, name+".golden"), want)
			if k.framing == llm.FramingWebSocket {
				return
			}
			for cut := range len(body) {
				checkCut(t, watch, k, body, want, func(left int) int { return max(1, cut-(len(body)-left)) })
			}
			checkCuts(t, watch, k, body, want, 1)
			if k.suffix == ".sse" {
				for _, end := range []string{"\r\n", "\r"} {
					other := bytes.ReplaceAll(body, []byte("\n"), []byte(end))
					checkCuts(t, watch, k, other, want, len(other)/2)
					checkCuts(t, watch, k, append([]byte("\xef\xbb\xbf"), other...), want, 2)
				}
			}
		})
	}
}

// checkCuts checks that a response cut in two, byte by byte, and in pieces of random length has the reply.
func checkCuts(t *testing.T, watch Watch, k kind, body []byte, want llm.Reply, cut int) {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(cut), uint64(len(body))))
	for _, next := range []func(left int) int{
		func(left int) int { return max(1, cut-(len(body)-left)) },
		func(int) int { return 1 },
		func(int) int { return 1 + random.IntN(17) },
	} {
		checkCut(t, watch, k, body, want, next)
	}
}

// checkCut writes a response in pieces, the length of each of which next says from what is left.
func checkCut(t *testing.T, watch Watch, k kind, body []byte, want llm.Reply, next func(left int) int) {
	t.Helper()
	w := watch(k.options())
	var pieces []int
	for rest := body; len(rest) > 0; {
		n := min(len(rest), next(len(rest)))
		w.Write(rest[:n:n])
		rest = rest[n:]
		pieces = append(pieces, n)
	}
	if got := w.Reply(); !reflect.DeepEqual(got, want) {
		t.Fatalf("in pieces of %d bytes: %+v, want %+v", pieces, got, want)
	}
}

// FuzzWatch checks that any response, of any framing, comes to the same however it is cut. The seeds are the responses of a directory.
func FuzzWatch(f *testing.F, dir string, watch Watch) {
	for file, text := range all(f, dir, responsePatterns()) {
		k, _ := kindOf(file)
		f.Add(text, slices.Index(kinds, k), len(text)/2)
	}
	f.Fuzz(func(t *testing.T, text []byte, n, cut int) {
		k := kinds[uint(n)%uint(len(kinds))]
		body := k.wire(text)
		w, again := watch(k.options()), watch(k.options())
		for _, p := range k.pieces(body) {
			w.Write(p)
			again.Write(bytes.Clone(p))
		}
		want := w.Reply()
		if got := again.Reply(); !reflect.DeepEqual(got, want) {
			t.Fatalf("read twice: %+v and %+v", want, got)
		}
		if k.framing != llm.FramingWebSocket {
			checkCuts(t, watch, k, body, want, cut)
		}
	})
}

// Rows checks what holds for every row of a codec: it matches its own path, in which vars stand for the variables; it reads a request as its own
// surface, class and operation, and finds fault with one that has no body just where a body is wanted; it objects to a query
// that it does not have; it watches; and it refuses so that the official SDKs do not try again.
func Rows(t *testing.T, rows []llm.Row, provider string, vars *strings.Replacer, wantsBody func(row llm.Row) bool) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.Method+" "+row.Path, func(t *testing.T) {
			path := vars.Replace(row.Path)
			found, ok := row.Match(row.Method, path)
			if !ok {
				t.Fatalf("the row does not match %s", path)
			}
			call := row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: found}, llm.DefaultLimits())
			if call.Provider != provider || call.Surface != row.Surface || call.Class != row.Class || call.Operation != row.Operation {
				t.Errorf("%+v", call)
			}
			if clean := len(call.Findings)+len(call.UnknownFields) == 0; clean == wantsBody(row) {
				t.Errorf("without a body: findings %+v, unknown fields %q", call.Findings, call.UnknownFields)
			}
			body := []byte(`{"x":1}`)
			call = row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: found, Query: "y=1&x=2&x=3", ContentType: wire.JSON, Body: body}, llm.DefaultLimits())
			if len(call.Findings) == 0 || len(call.UnknownFields) == 0 || call.UnknownFields[0] != "?x" || call.BodyBytes != len(body) {
				t.Errorf("with a bad query: findings %+v, unknown fields %q", call.Findings, call.UnknownFields)
			}
			if row.Watch(llm.WatchOptions{}) == nil {
				t.Error("the row does not watch")
			}
			if status := row.Refuse(llm.Refusal{}).Status; status != http.StatusForbidden {
				t.Errorf("a refusal has status %d", status)
			}
		})
	}
}
