package golden

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// Watch is the signature of a codec's Watch.
type Watch func(o llm.WatchOptions) llm.Watcher

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
