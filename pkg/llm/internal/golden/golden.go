package golden

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
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
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs; what was read:\n%s", file, b.Bytes())
	}
}

// with returns a copy of a request with another body, which is JSON where base does not say what it is.
func with(base llm.Request, body []byte) *llm.Request {
	base.Body = body
	if base.ContentType == "" {
		base.ContentType = "application/json"
	}
	return &base
}

// Requests decodes each body of a directory, as the body of a request that is otherwise base, and compares the call with its golden file. A body whose name does not begin with "bad_" must
// have neither findings nor unknown fields.
func Requests(t *testing.T, dir string, decode Decode, base llm.Request) {
	for name, body := range Files(t, dir, "*.json") {
		t.Run(name, func(t *testing.T) {
			c := decode(with(base, body), llm.DefaultLimits())
			CheckCall(t, c, body)
			if !strings.HasPrefix(name, "bad_") && len(c.Findings)+len(c.UnknownFields) > 0 {
				t.Errorf("findings %+v and unknown fields %q of a clean body", c.Findings, c.UnknownFields)
			}
			Call(t, filepath.Join(dir, name+".golden"), c)
		})
	}
}

// Files returns the contents of files by name without extension.
func Files(t testing.TB, dir, pattern string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s in %s: %v", pattern, dir, err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), filepath.Ext(f))] = b
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
// to nothing, understands the same by the members that decide most.
func FuzzDecode(f *testing.F, dir string, decode Decode, base llm.Request) {
	for _, b := range Files(f, dir, "*.json") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := decode(with(base, body), llm.DefaultLimits())
		CheckCall(t, c, body)
		again := decode(with(base, bytes.Clone(body)), llm.DefaultLimits())
		if !reflect.DeepEqual(c, again) {
			t.Errorf("read twice:\n%+v\n%+v", c, again)
		}
		if len(c.Findings) > 0 {
			return
		}
		var lenient struct {
			Model    string            `json:"model"`
			Stream   bool              `json:"stream"`
			Messages []json.RawMessage `json:"messages"`
			Tools    []json.RawMessage `json:"tools"`
		}
		if err := json.Unmarshal(body, &lenient); err != nil {
			t.Fatalf("no findings, but %v", err)
		}
		if lenient.Model != c.Model || lenient.Stream != c.Stream || len(lenient.Messages) > len(c.Messages) || len(lenient.Tools) > len(c.Tools) {
			t.Errorf("understood as %+v and as %+v", c, lenient)
		}
	})
}

// Watch is the signature of a codec's Watch.
type Watch func(o llm.WatchOptions) llm.Watcher

// ContentType returns the content type of a response file by its extension: .sse for a stream of events, .json otherwise.
func ContentType(stream bool) string {
	if stream {
		return "text/event-stream; charset=utf-8"
	}
	return "application/json"
}

// Replies watches each response of a directory, NAME.sse or NAME.json, and compares the reply with NAME.golden. Every way to cut the
// response into pieces must come to the same.
func Replies(t *testing.T, dir string, watch Watch) {
	for _, pattern := range []string{"*.sse", "*.json"} {
		for name, body := range Files(t, dir, pattern) {
			t.Run(name, func(t *testing.T) {
				contentType := ContentType(pattern == "*.sse")
				w := watch(llm.WatchOptions{ContentType: contentType, Arguments: 4096})
				w.Write(body)
				Reply(t, filepath.Join(dir, name+".golden"), w.Reply())
				for cut := range len(body) {
					checkCut(t, watch, contentType, body, w.Reply(), func(left int) int { return max(1, cut-(len(body)-left)) })
				}
				CheckCuts(t, watch, contentType, body, w.Reply(), 1)
				if pattern == "*.sse" {
					for _, end := range []string{"\r\n", "\r"} {
						other := bytes.ReplaceAll(body, []byte("\n"), []byte(end))
						CheckCuts(t, watch, contentType, other, w.Reply(), len(other)/2)
						CheckCuts(t, watch, contentType, append([]byte("\xef\xbb\xbf"), other...), w.Reply(), 2)
					}
				}
			})
		}
	}
}

// CheckCuts checks that a response cut in two, byte by byte, and in pieces of random length has the reply.
func CheckCuts(t *testing.T, watch Watch, contentType string, body []byte, want llm.Reply, cut int) {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(cut), uint64(len(body))))
	for _, next := range []func(left int) int{
		func(left int) int { return max(1, cut-(len(body)-left)) },
		func(int) int { return 1 },
		func(int) int { return 1 + random.IntN(17) },
	} {
		checkCut(t, watch, contentType, body, want, next)
	}
}

// checkCut writes a response in pieces, the length of each of which next says from what is left.
func checkCut(t *testing.T, watch Watch, contentType string, body []byte, want llm.Reply, next func(left int) int) {
	t.Helper()
	w := watch(llm.WatchOptions{ContentType: contentType, Arguments: 4096})
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

// FuzzWatch checks that any response comes to the same however it is cut.
func FuzzWatch(f *testing.F, dir string, watch Watch) {
	for _, pattern := range []string{"*.sse", "*.json"} {
		for _, b := range Files(f, dir, pattern) {
			f.Add(b, pattern == "*.sse", len(b)/2)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, stream bool, cut int) {
		w := watch(llm.WatchOptions{ContentType: ContentType(stream), Arguments: 4096})
		w.Write(body)
		CheckCuts(t, watch, ContentType(stream), body, w.Reply(), cut)
	})
}
