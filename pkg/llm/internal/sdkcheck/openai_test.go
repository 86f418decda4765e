package sdkcheck_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// openaiProvider answers a call of the SDK and keeps its body.
func openaiProvider(t *testing.T, answer http.HandlerFunc) (sdk.Client, func() (calls int, contentType string, body []byte)) {
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
	return sdk.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("k")), func() (int, string, []byte) { return calls, contentType, body }
}

func openaiParams() sdk.ChatCompletionNewParams {
	return sdk.ChatCompletionNewParams{
		Model: "gpt-4o",
		Messages: []sdk.ChatCompletionMessageParamUnion{
			sdk.DeveloperMessage("You are a coding agent."),
			sdk.UserMessage([]sdk.ChatCompletionContentPartUnionParam{
				sdk.TextContentPart("See <this> & that\n"),
				sdk.ImageContentPart(sdk.ChatCompletionContentPartImageImageURLParam{URL: "https://img.example/cat.png"}),
			}),
			{OfAssistant: &sdk.ChatCompletionAssistantMessageParam{ToolCalls: []sdk.ChatCompletionMessageToolCallUnionParam{{
				OfFunction: &sdk.ChatCompletionMessageFunctionToolCallParam{ID: "call_1", Function: sdk.ChatCompletionMessageFunctionToolCallFunctionParam{Name: "read_file", Arguments: `{"path":"a"}`}},
			}}}},
			sdk.ToolMessage("content of a", "call_1"),
		},
		Tools: []sdk.ChatCompletionToolUnionParam{sdk.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: "read_file", Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"path": map[string]any{"type": "string"}}},
		})},
		MaxCompletionTokens: param.NewOpt[int64](1000),
		Temperature:         param.NewOpt(0.5),
		ReasoningEffort:     shared.ReasoningEffortLow,
		Metadata:            shared.Metadata{"job": "nightly"},
		StreamOptions:       sdk.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)},
		ResponseFormat:      sdk.ChatCompletionNewParamsResponseFormatUnion{OfText: &shared.ResponseFormatTextParam{}},
		Stop:                sdk.ChatCompletionNewParamsStopUnion{OfString: param.NewOpt("END")},
	}
}

// What the SDK sends is read without any objection, and what it understands of a response is what the watcher understands.
func TestOpenAICall(t *testing.T) {
	response := golden.Files(t, "../../openai/testdata/chat_completions/responses", "text_with_usage.sse")["text_with_usage"]
	client, sent := openaiProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(response)
	})
	stream := client.Chat.Completions.NewStreaming(context.Background(), openaiParams())
	var acc sdk.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	_, contentType, body := sent()
	call := openai.Decode(&llm.Request{ContentType: contentType, Body: body}, llm.DefaultLimits())
	golden.CheckCall(t, call, body)
	if len(call.Findings)+len(call.UnknownFields) > 0 {
		t.Errorf("findings %+v and unknown fields %q in\n%s", call.Findings, call.UnknownFields, body)
	}
	golden.Call(t, "testdata/openai_call.golden", call)

	w := openai.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
	w.Write(response)
	reply := w.Reply()
	if reply.Usage.InputTokens != acc.Usage.PromptTokens || reply.Usage.OutputTokens != acc.Usage.CompletionTokens || reply.Usage.CachedTokens != acc.Usage.PromptTokensDetails.CachedTokens ||
		reply.Usage.ReasoningTokens != acc.Usage.CompletionTokensDetails.ReasoningTokens || reply.Model != acc.Model || reply.FinishReason != acc.Choices[0].FinishReason {
		t.Errorf("reply %+v, the SDK has %+v", reply, acc.Usage)
	}
}

// The SDK raises a refusal as an error that shows the reason, after one call only.
func TestOpenAIRefusal(t *testing.T) {
	client, sent := openaiProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		answer := openai.Refuse(refusal)
		if !json.Valid(answer.Body) {
			t.Errorf("no JSON: %s", answer.Body)
		}
		w.Header().Set("Content-Type", answer.ContentType)
		w.WriteHeader(answer.Status)
		w.Write(answer.Body)
	})
	check := func(err error) {
		t.Helper()
		var e *sdk.Error
		if !errors.As(err, &e) || e.StatusCode != http.StatusForbidden || e.Type != "permission_error" || e.Code != "sallyport_refused" {
			t.Fatalf("the SDK has %v", err)
		}
		wantRefusal(t, e.Message)
	}
	_, err := client.Chat.Completions.New(context.Background(), openaiParams())
	check(err)
	stream := client.Chat.Completions.NewStreaming(context.Background(), openaiParams())
	stream.Next()
	check(stream.Err())
	if calls, _, _ := sent(); calls != 2 {
		t.Errorf("%d calls for 2, so the SDK tries again", calls)
	}
}
