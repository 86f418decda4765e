package golden_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

func TestRequestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json":      "{}\n",
		"b.multipart": "--XX\r\nrest",
		"c.http":      "POST /v1/models/m:go?alt=sse HTTP/1.1\r\nContent-Type: text/plain\r\nX-Beta: a\r\nX-Beta: b\r\n\r\nbody\n",
		"d.http":      "GET /v1/models/other:go\n\n",
		"d.golden":    "not a request",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := golden.RequestFiles(t, dir, llm.Request{Method: "POST", Path: "/v1/models/{model}:go", Query: "x=y"})
	if len(got) != 4 {
		t.Errorf("%d requests", len(got))
	}
	if r := got["a.json"]; r.ContentType != "application/json" || string(r.Body) != "{}\n" || r.Query != "x=y" || r.Method != "POST" {
		t.Errorf("%+v", r)
	}
	if r := got["b.multipart"]; r.ContentType != "multipart/form-data; boundary=XX" || string(r.Body) != "--XX\r\nrest" {
		t.Errorf("%+v", r)
	}
	if r := got["c.http"]; r.Method != "POST" || r.Path != "/v1/models/m:go" || r.Query != "alt=sse" || !slices.Equal(r.Vars, []string{"m"}) || r.ContentType != "text/plain" ||
		!slices.Equal(r.Header["X-Beta"], []string{"a", "b"}) || string(r.Body) != "body\n" {
		t.Errorf("%+v", r)
	}
	if r := got["d.http"]; r.Method != "GET" || !slices.Equal(r.Vars, []string{"other"}) || r.ContentType != "" || len(r.Body) > 0 || r.Query != "" {
		t.Errorf("%+v", r)
	}
}

func TestEventStream(t *testing.T) {
	got := golden.EventStream([]byte(":event-type: a\n\n{\"x\":1}\n\n:message-type: exception\n:exception-type: b\n\n{}"))
	typed := wire.EventHeader{Name: ":content-type", Value: wire.JSON}
	want := wire.AppendEvent(nil, []wire.EventHeader{{Name: ":event-type", Value: "a"}, typed, {Name: ":message-type", Value: "event"}}, []byte(`{"x":1}`))
	want = wire.AppendEvent(want, []wire.EventHeader{{Name: ":message-type", Value: "exception"}, {Name: ":exception-type", Value: "b"}, typed}, []byte("{}"))
	if !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
