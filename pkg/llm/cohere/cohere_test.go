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

// Every row matches its own path, reads what it reads as its own surface, objects to what does not belong there, watches and refuses.
func TestRows(t *testing.T) {
	for _, row := range cohere.Rows {
		name := row.Method + " " + row.Path
		path := strings.NewReplacer("{id}", "id-1", "{model}", "command-r").Replace(row.Path)
		vars, ok := row.Match(row.Method, path)
		if !ok {
			t.Fatalf("%s does not match %s", name, path)
		}
		call := row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: vars}, llm.DefaultLimits())
		if call.Provider != cohere.Provider || call.Surface != row.Surface || call.Class != row.Class || call.Operation != row.Operation {
			t.Errorf("%s: %+v", name, call)
		}
		call = row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: vars, Query: "y=1&x=2&x=3", ContentType: "text/plain", Body: []byte(`{"x":1}`)}, llm.DefaultLimits())
		if len(call.Findings) == 0 || len(call.UnknownFields) == 0 || call.UnknownFields[0] != "?x" || call.BodyBytes != 7 {
			t.Errorf("%s with a bad query: findings %+v, unknown fields %q", name, call.Findings, call.UnknownFields)
		}
		if row.Watch(llm.WatchOptions{}) == nil || row.Refuse(llm.Refusal{}).Status != http.StatusForbidden {
			t.Errorf("%s does not watch or refuse", name)
		}
	}
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
