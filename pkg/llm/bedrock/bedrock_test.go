package bedrock_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/bedrock"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

var surfaces = []struct {
	dir    string
	decode golden.Decode
	base   llm.Request
}{
	{"converse", bedrock.Converse, llm.Request{Method: http.MethodPost, Path: "/model/{model}/converse"}},
	{"invoke", bedrock.Invoke, llm.Request{Method: http.MethodPost, Path: "/model/{model}/invoke"}},
	{"count_tokens", bedrock.CountTokens, llm.Request{Method: http.MethodPost, Path: "/model/{model}/count-tokens", Vars: []string{"anthropic.claude-opus-4-1-20250805-v1%3A0"}}},
	{"async_invoke", bedrock.StartAsync, llm.Request{Method: http.MethodPost, Path: "/async-invoke"}},
	{"apply_guardrail", bedrock.ApplyGuardrail, llm.Request{Method: http.MethodPost}},
	{"guardrail_checks", bedrock.GuardrailChecks, llm.Request{Method: http.MethodPost}},
}

func TestDecode(t *testing.T) {
	for _, s := range surfaces {
		t.Run(s.dir, func(t *testing.T) { golden.Requests(t, "testdata/"+s.dir+"/requests", s.decode, s.base) })
	}
}

func TestWatch(t *testing.T) {
	t.Run("converse", func(t *testing.T) { golden.Replies(t, "testdata/converse/responses", bedrock.WatchConverse) })
	t.Run("invoke", func(t *testing.T) { golden.Replies(t, "testdata/invoke/responses", bedrock.WatchInvoke) })
}

func TestRows(t *testing.T) {
	vars := strings.NewReplacer("{model}", "amazon.nova-pro-v1%3A0", "{invocation}", "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aasync-invoke%2Fx", "{guardrail}", "gr-1", "{version}", "DRAFT")
	golden.Rows(t, bedrock.Rows, bedrock.Provider, vars, func(row llm.Row) bool { return row.Method == http.MethodPost })
	for _, row := range bedrock.Rows {
		if !strings.Contains(row.Path, "{model}") {
			continue
		}
		if call := row.Decode(&llm.Request{Method: row.Method, Vars: []string{"amazon.nova-pro-v1%3A0"}}, llm.DefaultLimits()); call.Model != "amazon.nova-pro-v1:0" {
			t.Errorf("%s: the model is %q", row.Path, call.Model)
		}
	}
}

// A body of a model that nobody can tell is of the class that policy denies always.
func TestUnknownFamily(t *testing.T) {
	for model, want := range map[string]llm.Class{
		"acme.superchat-v1":                llm.ClassUnknown,
		"us.acme.superchat-v1":             llm.ClassUnknown,
		"evil.anthropic.claude-3":          llm.ClassUnknown,
		"us.meta.llama3-3-70b-instruct-v1": llm.ClassModel,
		"arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fmeta.llama3-8b-instruct-v1%3A0": llm.ClassModel,
		"arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fglobal.meta.llama4-v1%3A0":    llm.ClassModel,
		"arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprovisioned-model%2Fmeta.llama3-8b":               llm.ClassUnknown,
		"arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Acustom-model-deployment%2Fx":                      llm.ClassUnknown,
		"arn%3Aaws%3Asagemaker%3Aus-east-1%3A1%3Aendpoint%2Fmeta.llama":                          llm.ClassUnknown,
		"arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fmeta.llama3-8b":   llm.ClassUnknown,
		"meta.llama3%2f..%2facme": llm.ClassModel,
		"%6deta.llama3":           llm.ClassModel,
		"":                        llm.ClassUnknown,
	} {
		call := bedrock.Invoke(&llm.Request{Vars: []string{model}, ContentType: "application/json", Body: []byte(`{"prompt":"hi"}`)}, llm.DefaultLimits())
		if call.Class != want || len(call.Messages) != 1 || len(call.Messages[0].Parts) != 1 {
			t.Errorf("%s: %+v, want class %s", model, call, want)
		}
	}
}

// A refusal is AWS's error, and a stream ends with an exception.
func TestRefusal(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	a := bedrock.Refuse(refusal)
	var body struct{ Message string }
	if err := json.Unmarshal(a.Body, &body); err != nil || !strings.Contains(body.Message, "R-1") || a.Header.Get("X-Amzn-ErrorType") != "AccessDeniedException" {
		t.Errorf("%+v: %v", a, err)
	}
	for _, watch := range []golden.Watch{bedrock.WatchConverse, bedrock.WatchInvoke} {
		end := watch(llm.WatchOptions{ContentType: "application/vnd.amazon.eventstream"}).End(refusal)
		if !bytes.Contains(end, []byte("validationException")) || !bytes.Contains(end, []byte("decision d-1")) {
			t.Errorf("%q", end)
		}
		if end := watch(llm.WatchOptions{ContentType: "application/json"}).End(refusal); end != nil {
			t.Errorf("one JSON text ends with %q", end)
		}
	}
}

// Arguments that are too long are said to be so, and nothing of them is kept beyond the bound.
func TestLongArguments(t *testing.T) {
	for _, size := range []int{100, 5000} {
		w := bedrock.WatchConverse(llm.WatchOptions{ContentType: "application/json", Arguments: 64})
		w.Write([]byte(`{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"f","input":{"a":"` + strings.Repeat("x", size) + `"}}}]}}}`))
		calls := w.Reply().ToolCalls
		if len(calls) != 1 || !calls[0].Truncated || !calls[0].Done || len(calls[0].Arguments) > 64 {
			t.Errorf("%+v", calls)
		}
	}
}

func fuzz(f *testing.F, i int) {
	s := surfaces[i]
	s.base.Vars = []string{"us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"}
	golden.FuzzDecode(f, "testdata/"+s.dir+"/requests", s.decode, s.base)
}

func FuzzConverse(f *testing.F)    { fuzz(f, 0) }
func FuzzInvoke(f *testing.F)      { fuzz(f, 1) }
func FuzzCountTokens(f *testing.F) { fuzz(f, 2) }
func FuzzAsync(f *testing.F)       { fuzz(f, 3) }
func FuzzGuardrail(f *testing.F)   { fuzz(f, 4) }

// FuzzFamilies reads any body as one for a model of each family.
func FuzzFamilies(f *testing.F) {
	for _, r := range golden.RequestFiles(f, "testdata/invoke/requests", surfaces[1].base) {
		f.Add(r.Body, r.Vars[0])
	}
	f.Fuzz(func(t *testing.T, body []byte, model string) {
		r := llm.Request{Vars: []string{model}, ContentType: "application/json", Body: body}
		golden.CheckCall(t, bedrock.Invoke(&r, llm.DefaultLimits()), body)
	})
}

func FuzzWatchConverse(f *testing.F) {
	golden.FuzzWatch(f, "testdata/converse/responses", bedrock.WatchConverse)
}

func FuzzWatchInvoke(f *testing.F) {
	golden.FuzzWatch(f, "testdata/invoke/responses", bedrock.WatchInvoke)
}
