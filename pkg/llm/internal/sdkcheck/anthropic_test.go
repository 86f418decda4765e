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
	for _, params := range []reflect.Type{reflect.TypeFor[sdk.MessageNewParams](), reflect.TypeFor[sdk.BetaMessageNewParams]()} {
		for i := range params.NumField() {
			name, _, _ := strings.Cut(params.Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			call := anthropic.Decode(&llm.Request{ContentType: "application/json", Body: []byte(`{"model":"m","messages":[],"`+name+`":null}`)}, llm.DefaultLimits())
			if len(call.UnknownFields) > 0 {
				t.Errorf("%s of %s is unknown", name, params.Name())
			}
		}
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
			call := anthropic.Decode(&llm.Request{ContentType: "application/json", Body: []byte(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[`+string(block)+`]}]}`)}, llm.DefaultLimits())
			for _, f := range call.Findings {
				if f.Path == "/messages/0/content/0" && f.Code == llm.FindingUnknownPart {
					t.Errorf("%s %s: %+v", union.Field(i).Name, block, f)
				}
			}
		}
	}
}

// anthropicProvider answers a call of the SDK and keeps its body.
func anthropicProvider(t *testing.T, answer http.HandlerFunc) (sdk.Client, func() (calls int, contentType string, body []byte)) {
	var (
		calls       int
		contentType string
		body        []byte
	)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		contentType = r.Header.Get("Content-Type")
		body, _ = io.ReadAll(r.Body)
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
	response := golden.Files(t, "../../anthropic/testdata/responses", "tool_use.sse")["tool_use"]
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
	refusal := llm.Refusal{DecisionID: "01J-7", Rule: "MODEL-001", Message: "The model \"x\" is\nnot <allowed>\xff\u2028here"}
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
		for _, want := range []string{"MODEL-001", "01J-7", "The model \"x\" is\nnot <allowed>\ufffd\u2028here.", "another route"} {
			if !strings.Contains(body.Error.Message, want) {
				t.Errorf("%q lacks %q", body.Error.Message, want)
			}
		}
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
