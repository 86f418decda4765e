package sdkcheck_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// Every member that the official SDK can send is known, in its beta API too.
func TestAnthropicFields(t *testing.T) {
	for _, c := range []struct {
		params        reflect.Type
		decode        golden.Decode
		before, after string
	}{
		{reflect.TypeFor[sdk.MessageNewParams](), anthropic.Decode, "", ""},
		{reflect.TypeFor[sdk.BetaMessageNewParams](), anthropic.Decode, "", ""},
		{reflect.TypeFor[sdk.MessageCountTokensParams](), anthropic.DecodeCountTokens, "", ""},
		{reflect.TypeFor[sdk.BetaMessageCountTokensParams](), anthropic.DecodeCountTokens, "", ""},
		{reflect.TypeFor[sdk.MessageBatchNewParams](), anthropic.DecodeBatch, "", ""},
		{reflect.TypeFor[sdk.BetaMessageBatchNewParams](), anthropic.DecodeBatch, "", ""},
		{reflect.TypeFor[sdk.MessageBatchNewParamsRequest](), anthropic.DecodeBatch, `{"requests":[`, `]}`},
		{reflect.TypeFor[sdk.MessageBatchNewParamsRequestParams](), anthropic.DecodeBatch, `{"requests":[{"params":`, `}]}`},
		{reflect.TypeFor[sdk.BetaMessageBatchNewParamsRequestParams](), anthropic.DecodeBatch, `{"requests":[{"params":`, `}]}`},
	} {
		for i := range c.params.NumField() {
			name, _, _ := strings.Cut(c.params.Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			call := c.decode(&llm.Request{ContentType: "application/json", Body: []byte(c.before + `{"` + name + `":null}` + c.after)}, llm.DefaultLimits())
			unknown := len(call.UnknownFields) > 0
			for _, f := range call.Findings {
				unknown = unknown || f.Code == llm.FindingUnknownPart
			}
			if unknown {
				t.Errorf("%s of %s is unknown: %+v", name, c.params.Name(), call)
			}
		}
	}
}

// What the SDK sends to the surfaces beside messages is read without any objection.
func TestAnthropicOthers(t *testing.T) {
	ctx := context.Background()
	messages := []sdk.MessageParam{sdk.NewUserMessage(sdk.NewTextBlock("hello"))}
	for _, c := range []struct {
		name    string
		surface llm.Surface
		op      llm.Operation
		call    func(c sdk.Client)
	}{
		{"count", anthropic.CountTokens, llm.OperationCountTokens, func(c sdk.Client) {
			_, _ = c.Messages.CountTokens(ctx, sdk.MessageCountTokensParams{Model: "m", Messages: messages})
		}},
		{"beta count", anthropic.CountTokens, llm.OperationCountTokens, func(c sdk.Client) {
			_, _ = c.Beta.Messages.CountTokens(ctx, sdk.BetaMessageCountTokensParams{Model: "m", Messages: []sdk.BetaMessageParam{sdk.NewBetaUserMessage(sdk.NewBetaTextBlock("hello"))}})
		}},
		{"batch", anthropic.Batches, llm.OperationStore, func(c sdk.Client) {
			_, _ = c.Messages.Batches.New(ctx, sdk.MessageBatchNewParams{Requests: []sdk.MessageBatchNewParamsRequest{
				{CustomID: "1", Params: sdk.MessageBatchNewParamsRequestParams{Model: "m", MaxTokens: 1, Messages: messages}},
			}})
		}},
		{"batches", anthropic.Batches, llm.OperationList, func(c sdk.Client) {
			_, _ = c.Messages.Batches.List(ctx, sdk.MessageBatchListParams{AfterID: param.NewOpt("a"), BeforeID: param.NewOpt("b"), Limit: param.NewOpt(int64(3))})
		}},
		{"results", anthropic.Batches, llm.OperationRetrieve, func(c sdk.Client) {
			c.Messages.Batches.ResultsStreaming(ctx, "msgbatch_1", sdk.MessageBatchResultsParams{}).Next()
		}},
		{"upload", anthropic.Files, llm.OperationStore, func(c sdk.Client) {
			_, _ = c.Beta.Files.Upload(ctx, sdk.BetaFileUploadParams{File: sdk.File(strings.NewReader("text of a file"), "a.txt", "text/plain")})
		}},
		{"skill", anthropic.Skills, llm.OperationStore, func(c sdk.Client) {
			_, _ = c.Beta.Skills.New(ctx, sdk.BetaSkillNewParams{DisplayName: param.NewOpt("n"), Files: []io.Reader{
				sdk.File(strings.NewReader("---"), "s/SKILL.md", "text/markdown"), sdk.File(strings.NewReader("x"), "s/b.txt", "text/plain"),
			}})
		}},
		{"files", anthropic.Files, llm.OperationList, func(c sdk.Client) {
			_, _ = c.Beta.Files.List(ctx, sdk.BetaFileListParams{Limit: param.NewOpt(int64(3))})
		}},
		{"download", anthropic.Files, llm.OperationRetrieve, func(c sdk.Client) {
			_, _ = c.Beta.Files.Download(ctx, "file_1", sdk.BetaFileDownloadParams{})
		}},
		{"delete", anthropic.Files, llm.OperationDelete, func(c sdk.Client) {
			_, _ = c.Files.Delete(ctx, "file_1", sdk.FileDeleteParams{})
		}},
		{"model", anthropic.Models, llm.OperationRetrieve, func(c sdk.Client) {
			_, _ = c.Models.Get(ctx, "claude", sdk.ModelGetParams{})
		}},
	} {
		var seen *llm.Call
		client, _ := anthropicProvider(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, func(r *llm.Request) {
			for _, row := range anthropic.Rows {
				if vars, ok := row.Match(r.Method, r.Path); ok {
					r.Vars = vars
					seen = row.Decode(r, llm.DefaultLimits())
				}
			}
		})
		c.call(client)
		switch {
		case seen == nil:
			t.Errorf("%s: no row matches", c.name)
		case seen.Surface != c.surface || seen.Operation != c.op || len(seen.Findings)+len(seen.UnknownFields) > 0:
			t.Errorf("%s: %+v", c.name, seen)
		}
	}
}

// The SDK raises the end of a stream that was cut.
func TestAnthropicCut(t *testing.T) {
	response := golden.Files(t, "../../anthropic/testdata/messages/responses", "two_tools.sse")["two_tools"]
	client, _ := anthropicProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		watcher := anthropic.Watch(llm.WatchOptions{Framing: llm.FramingSSE})
		watcher.Write(response)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(response)
		w.Write(watcher.End(llm.Refusal{DecisionID: "01J-7", Rule: "TOOL-001", Message: "No such tool."}))
	})
	stream := client.Messages.NewStreaming(context.Background(), anthropicParams())
	events := 0
	for stream.Next() {
		events++
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "TOOL-001") || events == 0 {
		t.Errorf("after %d events the SDK has %v", events, err)
	}
}

// Every kind of block and of tool that the official SDK can send is known, and its members too.
func TestAnthropicBlocks(t *testing.T) {
	for _, union := range []reflect.Type{reflect.TypeFor[sdk.ContentBlockParamUnion](), reflect.TypeFor[sdk.BetaContentBlockParamUnion]()} {
		for i := range union.NumField() {
			if !strings.HasPrefix(union.Field(i).Name, "Of") {
				continue
			}
			v := reflect.New(union).Elem()
			v.Field(i).Set(reflect.New(union.Field(i).Type.Elem()))
			block, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			call := anthropic.Decode(&llm.Request{ContentType: "application/json", Body: []byte(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[` + string(block) + `]}]}`)}, llm.DefaultLimits())
			for _, f := range call.Findings {
				if f.Path == "/messages/0/content/0" && f.Code == llm.FindingUnknownPart {
					t.Errorf("%s %s: %+v", union.Field(i).Name, block, f)
				}
			}
		}
	}
}

// anthropicProvider answers a call of the SDK and keeps its body.
func anthropicProvider(t *testing.T, answer http.HandlerFunc, seen ...func(r *llm.Request)) (sdk.Client, func() (calls int, contentType string, body []byte)) {
	var (
		calls       int
		contentType string
		body        []byte
	)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		contentType = r.Header.Get("Content-Type")
		body, _ = io.ReadAll(r.Body)
		for _, f := range seen {
			f(&llm.Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, ContentType: contentType, Header: r.Header, Body: body})
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return sdk.NewClient(option.WithBaseURL(s.URL), option.WithAPIKey("k")), func() (int, string, []byte) { return calls, contentType, body }
}

func anthropicParams() sdk.MessageNewParams {
	return sdk.MessageNewParams{
		Model:     "claude-opus-4-5",
		MaxTokens: 1024,
		System:    []sdk.TextBlockParam{{Text: "You are a coding agent.", CacheControl: sdk.NewCacheControlEphemeralParam()}},
		Messages: []sdk.MessageParam{
			sdk.NewUserMessage(sdk.NewTextBlock("See <this> & that\n"), sdk.NewImageBlockBase64("image/png", "iVBORw0KGgo="), sdk.NewImageBlock(sdk.URLImageSourceParam{URL: "https://img.example/cat.png"})),
			sdk.NewAssistantMessage(sdk.NewThinkingBlock("sig", "I think."), sdk.NewToolUseBlock("toolu_1", map[string]any{"path": "a"}, "read_file")),
			sdk.NewUserMessage(sdk.NewToolResultBlock("toolu_1", "content of a", false)),
		},
		Tools: []sdk.ToolUnionParam{
			{OfTool: &sdk.ToolParam{Name: "read_file", InputSchema: sdk.ToolInputSchemaParam{Properties: map[string]any{"path": map[string]any{"type": "string"}}}}},
			{OfWebSearchTool20250305: &sdk.WebSearchTool20250305Param{}},
			{OfBashTool20250124: &sdk.ToolBash20250124Param{}},
		},
		Temperature:   param.NewOpt(1.0),
		Thinking:      sdk.ThinkingConfigParamOfEnabled(1024),
		Metadata:      sdk.MetadataParam{UserID: param.NewOpt("u")},
		StopSequences: []string{"END"},
	}
}

// What the SDK sends is read without any objection, and what it understands of a response is what the watcher understands.
func TestAnthropicCall(t *testing.T) {
	response := golden.Files(t, "../../anthropic/testdata/messages/responses", "tool_use.sse")["tool_use"]
	client, sent := anthropicProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(response)
	})
	stream := client.Messages.NewStreaming(context.Background(), anthropicParams())
	var model string
	var usage sdk.MessageDeltaUsage
	var start sdk.Usage
	for stream.Next() {
		switch e := stream.Current().AsAny().(type) {
		case sdk.MessageStartEvent:
			model, start = e.Message.Model, e.Message.Usage
		case sdk.MessageDeltaEvent:
			usage = e.Usage
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	_, contentType, body := sent()
	call := anthropic.Decode(&llm.Request{ContentType: contentType, Body: body}, llm.DefaultLimits())
	golden.CheckCall(t, call, body)
	if len(call.Findings)+len(call.UnknownFields) > 0 {
		t.Errorf("findings %+v and unknown fields %q in\n%s", call.Findings, call.UnknownFields, body)
	}
	golden.Call(t, "testdata/anthropic_call.golden", call)

	w := anthropic.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
	w.Write(response)
	reply := w.Reply()
	if want := start.InputTokens + start.CacheCreationInputTokens + start.CacheReadInputTokens; reply.Usage.InputTokens != want || reply.Usage.OutputTokens != usage.OutputTokens || reply.Model != model {
		t.Errorf("reply %+v, the SDK has %+v and %+v", reply, start, usage)
	}
}

// The SDK raises a refusal as an error that shows the reason, after one call only.
func TestAnthropicRefusal(t *testing.T) {
	client, sent := anthropicProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		answer := anthropic.Refuse(refusal)
		w.Header().Set("Content-Type", answer.ContentType)
		w.WriteHeader(answer.Status)
		w.Write(answer.Body)
	})
	check := func(err error) {
		t.Helper()
		var e *sdk.Error
		if !errors.As(err, &e) || e.StatusCode != http.StatusForbidden || e.Type() != "permission_error" {
			t.Fatalf("the SDK has %v", err)
		}
		var body struct {
			Type  string
			Error struct{ Message string }
		}
		if err := json.Unmarshal([]byte(e.RawJSON()), &body); err != nil || body.Type != "error" {
			t.Fatalf("%s: %v", e.RawJSON(), err)
		}
		wantRefusal(t, body.Error.Message)
	}
	_, err := client.Messages.New(context.Background(), anthropicParams())
	check(err)
	stream := client.Messages.NewStreaming(context.Background(), anthropicParams())
	stream.Next()
	check(stream.Err())
	if calls, _, _ := sent(); calls != 2 {
		t.Errorf("%d calls for 2, so the SDK tries again", calls)
	}
}
