package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// read reads the member "v" of a body within a message and returns the call.
func read(t *testing.T, value string, do func(r *wire.Reader, v strictjson.Value)) *llm.Call {
	t.Helper()
	call := &llm.Call{}
	r := wire.Open(call, wire.JSON, []byte(`{"v":`+value+`}`), llm.Limits{})
	root := r.Root()
	r.Message(llm.RoleUser, root)
	do(r, root.Get("v"))
	r.Close()
	return call
}

// Nothing of a message is out of sight: what is of another kind than is expected, and what is too long to say nothing, becomes a part.
func TestNothingIsOutOfSight(t *testing.T) {
	expect := func(r *wire.Reader, v strictjson.Value) { r.Expect(v, wire.String|wire.Null) }
	silent := func(r *wire.Reader, v strictjson.Value) { r.Silent(v) }
	text := func(r *wire.Reader, v strictjson.Value) { r.AddText(v, llm.Part{Kind: llm.PartReasoning}) }
	long := `"` + strings.Repeat("x", wire.MaxSilent) + `"`
	for _, c := range []struct {
		name, value string
		do          func(r *wire.Reader, v strictjson.Value)
		want        string // kind and text of the parts
		findings    int
	}{
		{"expected", `"a"`, expect, "", 0},
		{"null", `null`, expect, "", 0},
		{"of another kind", `[1]`, expect, "unknown [1]", 1},
		{"a short one that says nothing", `"id"`, silent, "", 0},
		{"a long one that says nothing", long, silent, "unknown " + long, 0},
		{"a text", `"a"`, text, "reasoning a", 0},
		{"no text", `""`, text, "", 0},
		{"what is no text", `{}`, text, "", 1},
	} {
		call := read(t, c.value, c.do)
		var got []string
		for _, p := range call.Messages[0].Parts {
			got = append(got, fmt.Sprintf("%s %s", p.Kind, p.Text))
		}
		if strings.Join(got, ", ") != c.want || len(call.Findings) != c.findings {
			t.Errorf("%s: parts %q, findings %+v", c.name, got, call.Findings)
		}
	}
}

// A value that has no place is a message of its own; one that is absent is none.
func TestWhole(t *testing.T) {
	call := read(t, `{"a":1}`, func(r *wire.Reader, v strictjson.Value) {
		r.Whole(v)
		r.Whole(v.Get("absent"))
	})
	if len(call.Messages) != 2 || call.Messages[1].Role != llm.RoleUser || string(call.Messages[1].Parts[0].Text) != `{"a":1}` || call.Messages[1].Bytes != 7 {
		t.Errorf("%+v", call.Messages)
	}
}

func TestHasResult(t *testing.T) {
	read(t, `0`, func(r *wire.Reader, _ strictjson.Value) {
		r.Part(llm.Part{Kind: llm.PartToolResult})
		r.Part(llm.Part{Kind: llm.PartText})
		for from, want := range []bool{true, false, false} {
			if got := r.HasResult(from); got != want {
				t.Errorf("from %d: %v", from, got)
			}
		}
	})
}

// A function's name may be in its definition or beside it, where the wire format has that; a tool of another kind is not the caller's.
func TestFunctionTool(t *testing.T) {
	nested, flat := []string{"type", "function"}, []string{"type", "function", "name"}
	for _, c := range []struct {
		tool     string
		known    []string
		want     llm.Tool
		findings int
	}{
		{`{"type":"function","function":{"name":"f"}}`, nested, llm.Tool{Name: "f", Type: "function"}, 0},
		{`{"name":"f"}`, flat, llm.Tool{Name: "f", Type: "function"}, 0},
		{`{"name":"f"}`, nested, llm.Tool{Type: "function"}, 1},
		{`{"type":"search","function":{"name":"f"}}`, nested, llm.Tool{Name: "f", Type: "search", ServerSide: true, Class: llm.ServerToolOther}, 0},
		{`{"function":[]}`, nested, llm.Tool{Type: "function"}, 2},
	} {
		call := read(t, c.tool, func(r *wire.Reader, v strictjson.Value) { r.FunctionTool(v, c.known) })
		got := call.Tools[0]
		if got.Digest == (llm.Digest{}) {
			t.Errorf("%s has no digest", c.tool)
		}
		if got.Digest = (llm.Digest{}); got != c.want || len(call.Findings) != c.findings {
			t.Errorf("%s: %+v, findings %+v", c.tool, got, call.Findings)
		}
	}
}

// A name in other case, or with an escape, is a finding; with the escape it is the member nevertheless, since readers take it for that.
func TestName(t *testing.T) {
	for _, c := range []struct {
		member, want string
		findings     int
	}{{"text", "text", 0}, {`te\u0078t`, "text", 1}, {"Text", "", 1}, {"other", "", 0}} {
		call := read(t, `{"`+c.member+`":1}`, func(r *wire.Reader, v strictjson.Value) {
			for k := range v.Members() {
				if got := r.Name(k, []string{"type", "text"}); got != c.want {
					t.Errorf("%s is %q, want %q", c.member, got, c.want)
				}
			}
		})
		if len(call.Findings) != c.findings {
			t.Errorf("%s: findings %+v", c.member, call.Findings)
		}
	}
}
