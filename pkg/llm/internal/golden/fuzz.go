package golden

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
)

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
