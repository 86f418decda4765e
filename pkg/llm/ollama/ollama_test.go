package ollama_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/ollama"
)

// fixtures are the directories of testdata, each of which is a path below /api.
var fixtures = []string{"chat", "generate", "embed", "embeddings", "show", "create", "copy", "delete", "web_search", "web_fetch"}

func row(t testing.TB, dir string) llm.Row {
	t.Helper()
	for _, r := range ollama.Rows {
		if r.Path == "/api/"+dir {
			return r
		}
	}
	t.Fatalf("no row for %s", dir)
	return llm.Row{}
}

func TestDecode(t *testing.T) {
	for _, dir := range fixtures {
		r := row(t, dir)
		t.Run(dir, func(t *testing.T) {
			golden.Requests(t, "testdata/"+dir+"/requests", r.Decode, llm.Request{Method: r.Method, Path: r.Path})
		})
		if _, err := os.Stat("testdata/" + dir + "/responses"); err == nil {
			t.Run(dir+" responses", func(t *testing.T) { golden.Replies(t, "testdata/"+dir+"/responses", r.Watch) })
		}
	}
}

func TestRows(t *testing.T) {
	var own []llm.Row
	compatible := map[string]bool{}
	for _, row := range ollama.Rows {
		if strings.HasPrefix(string(row.Surface), "ollama.") {
			own = append(own, row)
		} else {
			compatible[row.Method+" "+row.Path] = true
		}
	}
	golden.Rows(t, own, ollama.Provider, strings.NewReplacer("{digest}", "sha256:29fdb92e"), func(row llm.Row) bool {
		return row.Method != http.MethodGet && row.Method != http.MethodHead && row.Surface != ollama.BlobsSurface
	})
	for _, want := range []string{"POST /v1/chat/completions", "POST /v1/messages", "GET /v1/models"} {
		if !compatible[want] {
			t.Errorf("there is no %s", want)
		}
	}
}

// A file that is left at the server is an attachment, whatever it is.
func TestBlob(t *testing.T) {
	for _, row := range ollama.Rows {
		if row.Surface != ollama.BlobsSurface || row.Method != http.MethodPost {
			continue
		}
		body := []byte("GGUF\x00\x01")
		call := row.Decode(&llm.Request{Method: row.Method, Path: "/api/blobs/sha256:1", Vars: []string{"sha256:1"}, ContentType: "application/octet-stream", Body: body}, llm.DefaultLimits())
		golden.CheckCall(t, call, body)
		if len(call.Findings) > 0 || len(call.Messages) != 1 || call.Messages[0].Parts[0].Bytes != len(body) {
			t.Errorf("%+v", call)
		}
	}
}

// A refusal, whether at once or in a stream, is the error that clients raise.
func TestRefusal(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	w := ollama.Watch(llm.WatchOptions{ContentType: "application/x-ndjson"})
	for _, text := range [][]byte{ollama.Refuse(refusal).Body, w.End(refusal)} {
		var body struct{ Error string }
		if err := json.Unmarshal(text, &body); err != nil || !strings.Contains(body.Error, "Rule R-1, decision d-1") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if end := ollama.Watch(llm.WatchOptions{ContentType: "application/json"}).End(refusal); end != nil {
		t.Errorf("one JSON text ends with %q", end)
	}
}

func fuzz(f *testing.F, dir string) {
	r := row(f, dir)
	golden.FuzzDecode(f, "testdata/"+dir+"/requests", r.Decode, llm.Request{Method: r.Method, Path: r.Path})
}

func FuzzChat(f *testing.F)     { fuzz(f, "chat") }
func FuzzGenerate(f *testing.F) { fuzz(f, "generate") }
func FuzzCreate(f *testing.F)   { fuzz(f, "create") }
func FuzzWatch(f *testing.F)    { golden.FuzzWatch(f, "testdata/chat/responses", ollama.Watch) }
