package cohere_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/cohere"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// fixtures are the directories of testdata and the paths that they are posted to.
var fixtures = []struct{ dir, path string }{
	{"chat", "/v2/chat"},
	{"chat_v1", "/v1/chat"},
	{"embed", "/v2/embed"},
	{"embed_v1", "/v1/embed"},
	{"rerank", "/v2/rerank"},
	{"rerank_v1", "/v1/rerank"},
	{"generate", "/v1/generate"},
	{"classify", "/v1/classify"},
	{"summarize", "/v1/summarize"},
	{"tokenize", "/v1/tokenize"},
	{"detokenize", "/v1/detokenize"},
	{"datasets", "/v1/datasets"},
	{"embed_jobs", "/v1/embed-jobs"},
}

func row(t testing.TB, path string) llm.Row {
	t.Helper()
	for _, r := range cohere.Rows {
		if r.Method == http.MethodPost && r.Path == path {
			return r
		}
	}
	t.Fatalf("no row for %s", path)
	return llm.Row{}
}

func TestDecode(t *testing.T) {
	for _, f := range fixtures {
		r := row(t, f.path)
		t.Run(f.dir, func(t *testing.T) {
			golden.Requests(t, "testdata/"+f.dir+"/requests", r.Decode, llm.Request{Method: r.Method, Path: r.Path})
		})
		if _, err := os.Stat("testdata/" + f.dir + "/responses"); err == nil {
			t.Run(f.dir+" responses", func(t *testing.T) { golden.Replies(t, "testdata/"+f.dir+"/responses", r.Watch) })
		}
	}
}

func TestRows(t *testing.T) {
	golden.Rows(t, cohere.Rows, cohere.Provider, strings.NewReplacer("{id}", "id-1", "{model}", "command-r"), func(row llm.Row) bool {
		stored := row.Class == llm.ClassDeadDrop && row.Surface != cohere.DatasetsSurface // a job can be started without a body
		return row.Method == http.MethodPost && row.Surface != cohere.CheckKeySurface && !stored
	})
}

// What ends a stream is an event that its readers know, and read as an end that is none.
func TestEnd(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	for _, c := range []struct {
		name        string
		watch       golden.Watch
		contentType string
		prefix      string
	}{
		{"v2", cohere.Watch, "text/event-stream", "event: message-end\ndata: {"},
		{"v1 lines", cohere.WatchV1, "application/stream+json", `{"is_finished":true,"event_type":"stream-end","finish_reason":"ERROR"`},
		{"v1 events", cohere.WatchV1, "text/event-stream", `data: {"is_finished":true`},
		{"v2 whole", cohere.Watch, "application/json", ""},
		{"v1 whole", cohere.WatchV1, "application/json", ""},
	} {
		w := c.watch(llm.WatchOptions{ContentType: c.contentType})
		end := w.End(refusal)
		if !strings.HasPrefix(string(end), c.prefix) || (len(end) > 0) != (c.prefix != "") || len(end) > 0 && !strings.Contains(string(end), "decision d-1") {
			t.Errorf("%s: %q", c.name, end)
		}
		w.Write(end)
		if r := w.Reply(); r.FinishReason != "" {
			t.Errorf("%s ends with %q", c.name, r.FinishReason)
		}
	}
	var body struct{ Message string }
	if err := json.Unmarshal(cohere.Refuse(refusal).Body, &body); err != nil || !strings.Contains(body.Message, "R-1") {
		t.Errorf("%+v: %v", body, err)
	}
}

func fuzz(f *testing.F, dir string) {
	for _, x := range fixtures {
		if x.dir == dir {
			r := row(f, x.path)
			golden.FuzzDecode(f, "testdata/"+dir+"/requests", r.Decode, llm.Request{Method: r.Method, Path: r.Path})
		}
	}
}

func FuzzChat(f *testing.F)     { fuzz(f, "chat") }
func FuzzChatV1(f *testing.F)   { fuzz(f, "chat_v1") }
func FuzzEmbed(f *testing.F)    { fuzz(f, "embed") }
func FuzzGenerate(f *testing.F) { fuzz(f, "generate") }
func FuzzDatasets(f *testing.F) { fuzz(f, "datasets") }

func FuzzWatch(f *testing.F)   { golden.FuzzWatch(f, "testdata/chat/responses", cohere.Watch) }
func FuzzWatchV1(f *testing.F) { golden.FuzzWatch(f, "testdata/chat_v1/responses", cohere.WatchV1) }
