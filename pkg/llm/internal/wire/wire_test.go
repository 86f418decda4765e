package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

func digest(t *testing.T, message string, markers ...string) llm.Digest {
	t.Helper()
	r := wire.Open(&llm.Call{}, wire.JSON, []byte(`{"m":`+message+`}`), llm.Limits{})
	defer r.Close()
	v := r.Root().Get("m")
	if v.Kind() == strictjson.Absent {
		t.Fatalf("%s is not read", message)
	}
	return r.Digest(v, markers...)
}

// A conversation is recognised by the digests of its messages, so what agents change between calls without saying
// anything new must not change them, and everything else must.
func TestDigest(t *testing.T) {
	const text = `{"role":"user","content":"hello"}`
	long := `{"type":"ephemeral","note":"` + strings.Repeat("x", 64) + `"}`
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"string or one block", text, `{"role":"user","content":[{"type":"text","text":"hello"}]}`, true},
		{"block with a marker", text, `{"role":"user","content":[{"type":"text","text":"hello","cache":{"type":"ephemeral"}}]}`, true},
		{"order within a block of text", text, `{"role":"user","content":[{"cache":{"type":"ephemeral"},"text":"hello","type":"text"}]}`, true},
		{"marker on a message", text, `{"role":"user","content":"hello","cache":{"type":"ephemeral"}}`, true},
		{"marker as a block of its own", text, `{"role":"user","content":[{"type":"text","text":"hello"},{"cache":{"type":"default"}}]}`, true},
		{"long marker as a block of its own", text, `{"role":"user","content":[{"type":"text","text":"hello"},{"cache":` + long + `}]}`, false},
		{"marker on a block that is no text", `{"content":[{"type":"image","id":1}]}`, `{"content":[{"type":"image","id":1,"cache":{}}]}`, true},
		{"white space between members", text, `{ "role" : "user" , "content" : "hello" }`, true},
		{"system prompt as string or block", `"hello"`, `[{"type":"text","text":"hello","cache":{}}]`, true},
		{"marker that is long enough to carry something", text, `{"role":"user","content":"hello","cache":` + long + `}`, false},
		{"marker in a block that is long", text, `{"role":"user","content":[{"type":"text","text":"hello","cache":` + long + `}]}`, false},
		{"another text", text, `{"role":"user","content":"hullo"}`, false},
		{"another role", text, `{"role":"assistant","content":"hello"}`, false},
		{"another escape of the same text", text, `{"role":"user","content":"hell\u006f"}`, false},
		{"a further member", text, `{"role":"user","content":"hello","name":"x"}`, false},
		{"a further member of a block", text, `{"role":"user","content":[{"type":"text","text":"hello","x":1}]}`, false},
		{"text split in two blocks", text, `{"role":"user","content":[{"type":"text","text":"hel"},{"type":"text","text":"lo"}]}`, false},
		{"no content", `{"role":"user","content":null}`, `{"role":"user","content":[]}`, false},
		{"member moved into the content", `{"a":1,"content":[],"b":2}`, `{"a":1,"content":[{"b":2}]}`, false},
		{"two blocks or one", `{"content":[{"a":1},{"b":2}]}`, `{"content":[{"a":1,"b":2}]}`, false},
		{"the quotes are part of a text", `"hello"`, `["hello"]`, false},
	} {
		if got := digest(t, c.a, "cache") == digest(t, c.b, "cache"); got != c.same {
			t.Errorf("%s: the same %v, want %v\n%s\n%s", c.name, got, c.same, c.a, c.b)
		}
	}
	if got := fmt.Sprintf("%x", digest(t, text, "cache")); got != fmt.Sprintf("%x", digest(t, text, "")) || got == "" {
		t.Errorf("the marker's name changes the digest of a message without one: %s", got)
	}
	if digest(t, `{"content":"hello","other":{}}`, "cache", "other") != digest(t, `{"content":"hello","cache":{}}`, "cache", "other") {
		t.Error("of two markers one is not left out")
	}
	if digest(t, `{"content":"hello","":"a"}`, "") == digest(t, `{"content":"hello","":"b"}`, "") {
		t.Error("without a marker, a member without a name is left out")
	}
}

func TestContentType(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/json":                         true,
		"application/json; charset=utf-8":          true,
		`Application/JSON ; charset="UTF-8"`:       true,
		"":                                         false,
		"text/plain":                               false,
		"application/json; charset=utf-16":         false,
		"application/json; charset=utf-8; x=y":     false,
		"application/json, text/plain":             false,
		"application/json; charset":                false,
		"application/vnd.api+json":                 false,
		"application/octet-stream":                 false,
		"multipart/form-data; boundary=x":          false,
		"application/json\x00":                     false,
		"application/jsonx":                        false,
		"application/json; charset=utf-8; charset": false,
	} {
		call := &llm.Call{}
		wire.Open(call, contentType, []byte(`{}`), llm.Limits{}).Close()
		if clean := len(call.Findings) == 0; clean != want {
			t.Errorf("%q is clean: %v, findings %+v", contentType, clean, call.Findings)
		} else if !clean && call.Findings[0].Code != llm.FindingContentType {
			t.Errorf("%q: %+v", contentType, call.Findings)
		}
	}
}

func TestLimits(t *testing.T) {
	call := &llm.Call{}
	wire.Open(call, wire.JSON, []byte(`{"a":"0123456789"}`), llm.Limits{MaxBytes: 10}).Close()
	if len(call.Findings) != 1 || call.Findings[0].Code != llm.FindingOversize || call.BodyBytes != 18 {
		t.Errorf("%+v", call)
	}

	// Every finding beyond the limit is one that says so, wherever they come from.
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `"k%d":1,"k%d":2,`, i, i)
	}
	call = &llm.Call{}
	wire.Open(call, "text/plain", []byte("{"+b.String()+`"z":1}`), llm.Limits{MaxFindings: 5}).Close()
	if n := len(call.Findings); n != 6 || call.Findings[0].Code != llm.FindingContentType || call.Findings[5].Code != llm.FindingTooMany {
		t.Errorf("%d findings: %+v", n, call.Findings)
	}

	// Unknown members are compared with each other, so there is an end to them.
	b.Reset()
	for i := range 1000 {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	call = &llm.Call{}
	r := wire.Open(call, wire.JSON, []byte("{"+b.String()+`"z":1}`), llm.Limits{})
	r.TopLevel(r.Root(), wire.Fields{})
	r.Close()
	if len(call.UnknownFields) != 64 || len(call.Findings) != 1 || call.Findings[0].Code != llm.FindingTooMany {
		t.Errorf("%d unknown fields, findings %+v", len(call.UnknownFields), call.Findings)
	}
}

func TestDataURL(t *testing.T) {
	for _, c := range []struct {
		url, media, data string
		ok               bool
	}{
		{"data:image/png;base64,AAAA", "image/png", "AAAA", true},
		{"DATA:text/plain,a,b", "text/plain", "a,b", true},
		{"data:", "", "", true},
		{"https://x.example/data:", "", "", false},
		{" data:image/png,A", "", "", false},
		{"data", "", "", false},
	} {
		media, data, ok := wire.DataURL([]byte(c.url))
		if media != c.media || string(data) != c.data || ok != c.ok {
			t.Errorf("%q: %q %q %v", c.url, media, data, ok)
		}
	}
}

func TestExplain(t *testing.T) {
	got := wire.Explain(llm.Refusal{})
	if !strings.HasPrefix(got, "Sallyport refused this call before it was sent. Rule unknown, decision unknown.") {
		t.Errorf("%q", got)
	}
	got = wire.Explain(llm.Refusal{DecisionID: "d", Rule: "R-1", Message: " Because. "})
	if !strings.HasPrefix(got, "Sallyport refused this call before it was sent: Because. Rule R-1, decision d.") {
		t.Errorf("%q", got)
	}
}
