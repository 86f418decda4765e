package sdkcheck_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	coheresdk "github.com/cohere-ai/cohere-go/v2"
	cohereclient "github.com/cohere-ai/cohere-go/v2/client"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/cohere"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// cohereRow returns the row of a path that is posted to.
func cohereRow(t *testing.T, path string) llm.Row {
	t.Helper()
	for _, row := range cohere.Rows {
		if row.Method == http.MethodPost && row.Path == path {
			return row
		}
	}
	t.Fatalf("no row for %s", path)
	return llm.Row{}
}

// Every member that the official SDK can send is known.
func TestCohereFields(t *testing.T) {
	for path, requests := range map[string][]reflect.Type{
		"/v2/chat":       {reflect.TypeFor[coheresdk.V2ChatRequest](), reflect.TypeFor[coheresdk.V2ChatStreamRequest]()},
		"/v1/chat":       {reflect.TypeFor[coheresdk.ChatRequest](), reflect.TypeFor[coheresdk.ChatStreamRequest]()},
		"/v2/embed":      {reflect.TypeFor[coheresdk.V2EmbedRequest]()},
		"/v1/embed":      {reflect.TypeFor[coheresdk.EmbedRequest]()},
		"/v2/rerank":     {reflect.TypeFor[coheresdk.V2RerankRequest]()},
		"/v1/rerank":     {reflect.TypeFor[coheresdk.RerankRequest]()},
		"/v1/generate":   {reflect.TypeFor[coheresdk.GenerateRequest](), reflect.TypeFor[coheresdk.GenerateStreamRequest]()},
		"/v1/classify":   {reflect.TypeFor[coheresdk.ClassifyRequest]()},
		"/v1/summarize":  {reflect.TypeFor[coheresdk.SummarizeRequest]()},
		"/v1/tokenize":   {reflect.TypeFor[coheresdk.TokenizeRequest]()},
		"/v1/detokenize": {reflect.TypeFor[coheresdk.DetokenizeRequest]()},
	} {
		row := cohereRow(t, path)
		for _, request := range requests {
			for i := range request.NumField() {
				name, _, _ := strings.Cut(request.Field(i).Tag.Get("json"), ",")
				if name == "" || name == "-" {
					continue
				}
				call := row.Decode(&llm.Request{ContentType: "application/json", Body: []byte(`{"` + name + `":null}`)}, llm.DefaultLimits())
				if len(call.UnknownFields) > 0 {
					t.Errorf("%s of %s is unknown", name, request.Name())
				}
			}
		}
	}
}

// cohereProvider answers calls of the SDK, keeps the last one and counts them.
func cohereProvider(t *testing.T, answer func(row llm.Row) llm.Answer) (client *cohereclient.Client, last func() (llm.Row, *llm.Request), calls *int) {
	t.Helper()
	var row llm.Row
	var request *llm.Request
	calls = new(int)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*calls++
		body, _ := io.ReadAll(r.Body)
		request = &llm.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, ContentType: r.Header.Get("Content-Type"), Header: r.Header, Body: body}
		row = cohereRow(t, request.Path)
		a := answer(row)
		w.Header().Set("Content-Type", a.ContentType)
		w.WriteHeader(a.Status)
		w.Write(a.Body)
	}))
	t.Cleanup(s.Close)
	return cohereclient.NewClient(cohereclient.WithBaseURL(s.URL), cohereclient.WithToken("k")), func() (llm.Row, *llm.Request) { return row, request }, calls
}

func ptr[T any](v T) *T { return &v }

func cohereStream() *coheresdk.V2ChatStreamRequest {
	return &coheresdk.V2ChatStreamRequest{
		Model: "command-a-03-2025",
		Messages: coheresdk.ChatMessages{
			{Role: "system", System: &coheresdk.SystemMessageV2{Content: &coheresdk.SystemMessageV2Content{String: "You are a coding agent."}}},
			{Role: "user", User: &coheresdk.UserMessageV2{Content: &coheresdk.UserMessageV2Content{ContentList: []*coheresdk.Content{
				{Type: "text", Text: &coheresdk.ChatTextContent{Text: "See <this> & that\n\u2028é"}},
				{Type: "image_url", ImageUrl: &coheresdk.ImageContent{ImageUrl: &coheresdk.ImageUrl{Url: "https://img.example/cat.png"}}},
			}}}},
			{Role: "assistant", Assistant: &coheresdk.AssistantMessage{ToolPlan: ptr("I will look."), ToolCalls: []*coheresdk.ToolCallV2{
				{Id: ptr("t1"), Type: ptr("function"), Function: &coheresdk.ToolCallV2Function{Name: ptr("read_file"), Arguments: ptr(`{"path":"a"}`)}},
			}}},
			{Role: "tool", Tool: &coheresdk.ToolMessageV2{ToolCallId: "t1", Content: &coheresdk.ToolMessageV2Content{String: "content of a"}}},
		},
		Tools:     []*coheresdk.ToolV2{{Type: ptr("function"), Function: &coheresdk.ToolV2Function{Name: "read_file", Parameters: map[string]any{"type": "object"}}}},
		Documents: []*coheresdk.V2ChatStreamRequestDocumentsItem{{Document: &coheresdk.Document{Id: ptr("d1"), Data: map[string]any{"text": "T"}}}},
		MaxTokens: ptr(100), Temperature: ptr(0.5),
	}
}

// checkCohere reads what the SDK sent, to which there must be no objection.
func checkCohere(t *testing.T, row llm.Row, request *llm.Request) *llm.Call {
	t.Helper()
	call := row.Decode(request, llm.DefaultLimits())
	golden.CheckCall(t, call, request.Body)
	if len(call.Findings)+len(call.UnknownFields) > 0 {
		t.Errorf("findings %+v and unknown fields %q in\n%s", call.Findings, call.UnknownFields, request.Body)
	}
	return call
}

// What the SDK sends is read without any objection, and what it understands of a stream is what the watcher understands.
func TestCohereStream(t *testing.T) {
	response := golden.Files(t, "../../cohere/testdata/chat/responses", "tool_use.sse")["tool_use"]
	client, sent, _ := cohereProvider(t, func(llm.Row) llm.Answer {
		return llm.Answer{Status: 200, ContentType: "text/event-stream", Body: response}
	})
	stream, err := client.V2.ChatStream(context.Background(), cohereStream())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var usage *coheresdk.Usage
	var finish coheresdk.ChatFinishReason
	var names []string
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e := event.ToolCallStart; e != nil {
			names = append(names, *e.Delta.Message.ToolCalls.Function.Name)
		}
		if e := event.MessageEnd; e != nil {
			usage, finish = e.Delta.Usage, *e.Delta.FinishReason
		}
	}
	row, request := sent()
	call := checkCohere(t, row, request)
	golden.Call(t, "testdata/cohere_chat.golden", call)
	w := row.Watch(llm.WatchOptions{ContentType: "text/event-stream", Arguments: 4096})
	w.Write(response)
	reply := w.Reply()
	if reply.Usage.InputTokens != int64(*usage.Tokens.InputTokens) || reply.Usage.OutputTokens != int64(*usage.Tokens.OutputTokens) || reply.FinishReason != string(finish) || len(reply.ToolCalls) != len(names) {
		t.Fatalf("reply %+v, the SDK has %+v %s %q", reply, usage, finish, names)
	}
	for i, c := range reply.ToolCalls {
		if c.Name != names[i] || !c.Done {
			t.Errorf("%+v, want %s", c, names[i])
		}
	}
}

// The first version, embeddings and the order of documents.
func TestCohereOthers(t *testing.T) {
	client, sent, _ := cohereProvider(t, func(row llm.Row) llm.Answer {
		if row.Surface == cohere.EmbedV1Surface {
			return llm.Answer{Status: 200, ContentType: "application/json", Body: []byte(`{"response_type":"embeddings_floats","id":"1","texts":[],"embeddings":[]}`)}
		}
		return llm.Answer{Status: 200, ContentType: "application/json", Body: []byte(`{"id":"1","text":"t","results":[],"embeddings":{},"tokens":[],"token_strings":[]}`)}
	})
	ctx := context.Background()
	for _, c := range []struct {
		surface llm.Surface
		call    func() error
	}{
		{cohere.ChatV1Surface, func() error {
			_, err := client.Chat(ctx, &coheresdk.ChatRequest{
				Message: "hi", Preamble: ptr("P"), ChatHistory: []*coheresdk.Message{{Role: "USER", User: &coheresdk.ChatMessage{Message: "hello"}}},
				Connectors: []*coheresdk.ChatConnector{{Id: "web-search"}},
			})
			return err
		}},
		{cohere.EmbedV2Surface, func() error {
			_, err := client.V2.Embed(ctx, &coheresdk.V2EmbedRequest{Model: "embed-v4.0", InputType: coheresdk.EmbedInputTypeSearchDocument, Texts: []string{"a"}})
			return err
		}},
		{cohere.EmbedV1Surface, func() error {
			_, err := client.Embed(ctx, &coheresdk.EmbedRequest{Texts: []string{"a"}})
			return err
		}},
		{cohere.RerankV2Surface, func() error {
			_, err := client.V2.Rerank(ctx, &coheresdk.V2RerankRequest{Model: "rerank-v3.5", Query: "q", Documents: []string{"a"}})
			return err
		}},
		{cohere.TokenizeSurface, func() error {
			_, err := client.Tokenize(ctx, &coheresdk.TokenizeRequest{Text: "a", Model: "command"})
			return err
		}},
	} {
		if err := c.call(); err != nil {
			t.Fatalf("%s: %v", c.surface, err)
		}
		if call := checkCohere(t, func() llm.Row { r, _ := sent(); return r }(), func() *llm.Request { _, r := sent(); return r }()); call.Surface != c.surface || len(call.Messages) == 0 {
			t.Errorf("%+v, want %s", call, c.surface)
		}
	}
}

// The SDK raises a refusal as ForbiddenError that shows the reason, after one call only, and shows the error that ends a stream.
func TestCohereRefusal(t *testing.T) {
	client, _, calls := cohereProvider(t, func(row llm.Row) llm.Answer { return row.Refuse(refusal) })
	ctx := context.Background()
	for _, call := range []func() error{
		func() error { _, err := client.V2.ChatStream(ctx, cohereStream()); return err },
		func() error { _, err := client.Chat(ctx, &coheresdk.ChatRequest{Message: "hi"}); return err },
		func() error {
			_, err := client.V2.Rerank(ctx, &coheresdk.V2RerankRequest{Model: "m", Query: "q"})
			return err
		},
	} {
		var e *coheresdk.ForbiddenError
		if err := call(); !errors.As(err, &e) || e.StatusCode != http.StatusForbidden {
			t.Fatalf("the SDK has %v", err)
		}
		body, _ := e.Body.(map[string]any)
		text, _ := body["message"].(string)
		wantRefusal(t, text)
	}
	if *calls != 3 {
		t.Errorf("%d calls for 3, so the SDK tries again", *calls)
	}
	client, _, _ = cohereProvider(t, func(row llm.Row) llm.Answer {
		return llm.Answer{Status: 200, ContentType: "text/event-stream", Body: row.Watch(llm.WatchOptions{ContentType: "text/event-stream"}).End(refusal)}
	})
	stream, err := client.V2.ChatStream(ctx, cohereStream())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	event, err := stream.Recv()
	if err != nil || event.MessageEnd == nil || *event.MessageEnd.Delta.FinishReason != coheresdk.ChatFinishReasonError {
		t.Fatal(err, event)
	}
	wantRefusal(t, *event.MessageEnd.Delta.Error)
}
