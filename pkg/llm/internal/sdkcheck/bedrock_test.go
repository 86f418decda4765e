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

	"github.com/aws/aws-sdk-go-v2/aws"
	bedrocksdk "github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/document"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/bedrock"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// Every member that the official SDK can send is known.
func TestBedrockFields(t *testing.T) {
	for _, input := range []reflect.Type{reflect.TypeFor[bedrocksdk.ConverseInput](), reflect.TypeFor[bedrocksdk.ConverseStreamInput]()} {
		for i := range input.NumField() {
			name := input.Field(i).Name
			if name == "ModelId" || !input.Field(i).IsExported() { // which is in the path
				continue
			}
			name = strings.ToLower(name[:1]) + name[1:]
			call := bedrock.Converse(&llm.Request{ContentType: "application/json", Body: []byte(`{"messages":[],"` + name + `":null}`)}, llm.DefaultLimits())
			if len(call.UnknownFields) > 0 {
				t.Errorf("%s of %s is unknown", name, input.Name())
			}
		}
	}
}

// bedrockCall is what a client sent.
type bedrockCall struct {
	request *llm.Request
	row     llm.Row
}

// bedrockProvider answers calls of the SDK, keeps the last one and counts them.
func bedrockProvider(t *testing.T, answer func(row llm.Row) llm.Answer) (*bedrocksdk.Client, *bedrockCall, *int) {
	t.Helper()
	var last bedrockCall
	calls := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		body, _ := io.ReadAll(r.Body)
		last = bedrockCall{}
		for _, row := range bedrock.Rows {
			if vars, ok := row.Match(r.Method, r.URL.EscapedPath()); ok {
				last = bedrockCall{&llm.Request{
					Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Vars: vars, ContentType: r.Header.Get("Content-Type"), Header: r.Header, Body: body,
				}, row}
				break
			}
		}
		if last.request == nil {
			t.Errorf("no row for %s %s", r.Method, r.URL.EscapedPath())
			return
		}
		a := answer(last.row)
		for name, values := range a.Header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", a.ContentType)
		w.WriteHeader(a.Status)
		w.Write(a.Body)
	}))
	t.Cleanup(s.Close)
	client := bedrocksdk.New(bedrocksdk.Options{
		BaseEndpoint: aws.String(s.URL), Region: "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "k", SecretAccessKey: "s"}, nil
		}),
	})
	return client, &last, &calls
}

const profileARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"

func converseInput() *bedrocksdk.ConverseInput {
	image := func(s types.ImageSource) types.ContentBlock {
		return &types.ContentBlockMemberImage{Value: types.ImageBlock{Format: types.ImageFormatPng, Source: s}}
	}
	return &bedrocksdk.ConverseInput{
		ModelId: aws.String(profileARN),
		System: []types.SystemContentBlock{
			&types.SystemContentBlockMemberText{Value: "You are a coding agent."},
			&types.SystemContentBlockMemberCachePoint{Value: types.CachePointBlock{Type: types.CachePointTypeDefault}},
		},
		Messages: []types.Message{
			{Role: types.ConversationRoleUser, Content: []types.ContentBlock{
				&types.ContentBlockMemberText{Value: "See <this> & that\n\u2028é"},
				image(&types.ImageSourceMemberBytes{Value: []byte("PNG")}),
				image(&types.ImageSourceMemberS3Location{Value: types.S3Location{Uri: aws.String("s3://bucket/cat.png")}}),
				&types.ContentBlockMemberDocument{Value: types.DocumentBlock{Name: aws.String("report"), Format: types.DocumentFormatPdf, Source: &types.DocumentSourceMemberBytes{Value: []byte("%PDF")}}},
			}},
			{Role: types.ConversationRoleAssistant, Content: []types.ContentBlock{
				&types.ContentBlockMemberReasoningContent{Value: &types.ReasoningContentBlockMemberReasoningText{Value: types.ReasoningTextBlock{Text: aws.String("I think."), Signature: aws.String("sig")}}},
				&types.ContentBlockMemberToolUse{Value: types.ToolUseBlock{ToolUseId: aws.String("t1"), Name: aws.String("read_file"), Input: document.NewLazyDocument(map[string]any{"path": "a"})}},
			}},
			{Role: types.ConversationRoleUser, Content: []types.ContentBlock{
				&types.ContentBlockMemberToolResult{Value: types.ToolResultBlock{ToolUseId: aws.String("t1"), Status: types.ToolResultStatusSuccess, Content: []types.ToolResultContentBlock{
					&types.ToolResultContentBlockMemberText{Value: "content of a"},
					&types.ToolResultContentBlockMemberJson{Value: document.NewLazyDocument(map[string]any{"lines": 1})},
				}}},
			}},
		},
		InferenceConfig: &types.InferenceConfiguration{MaxTokens: aws.Int32(100), Temperature: aws.Float32(0.5)},
		ToolConfig: &types.ToolConfiguration{
			Tools: []types.Tool{
				&types.ToolMemberToolSpec{Value: types.ToolSpecification{Name: aws.String("read_file"), InputSchema: &types.ToolInputSchemaMemberJson{Value: document.NewLazyDocument(map[string]any{"type": "object"})}}},
				&types.ToolMemberSystemTool{Value: types.SystemTool{Name: aws.String("nova_grounding")}},
			},
			ToolChoice: &types.ToolChoiceMemberAuto{},
		},
		AdditionalModelRequestFields: document.NewLazyDocument(map[string]any{"top_k": 5}),
		RequestMetadata:              map[string]string{"team": "a"},
	}
}

func streamInput() *bedrocksdk.ConverseStreamInput {
	in := converseInput()
	return &bedrocksdk.ConverseStreamInput{
		ModelId: in.ModelId, System: in.System, Messages: in.Messages, InferenceConfig: in.InferenceConfig, ToolConfig: in.ToolConfig,
		AdditionalModelRequestFields: in.AdditionalModelRequestFields, RequestMetadata: in.RequestMetadata,
	}
}

// checkBedrock reads what the SDK sent, to which there must be no objection.
func checkBedrock(t *testing.T, c *bedrockCall) *llm.Call {
	t.Helper()
	call := c.row.Decode(c.request, llm.DefaultLimits())
	golden.CheckCall(t, call, c.request.Body)
	if len(call.Findings)+len(call.UnknownFields) > 0 {
		t.Errorf("%s: findings %+v and unknown fields %q in\n%s", c.request.Path, call.Findings, call.UnknownFields, c.request.Body)
	}
	return call
}

func whole(t *testing.T, file string) []byte {
	t.Helper()
	return golden.Files(t, "../../bedrock/testdata/"+file[:strings.LastIndex(file, "/")], file[strings.LastIndex(file, "/")+1:])[strings.TrimSuffix(file[strings.LastIndex(file, "/")+1:], ".json")]
}

// What the SDK sends by Converse is read without any objection, and what it understands of a response is what the watcher understands.
func TestBedrockConverse(t *testing.T) {
	response := whole(t, "converse/responses/message.json")
	client, sent, _ := bedrockProvider(t, func(llm.Row) llm.Answer {
		return llm.Answer{Status: 200, ContentType: "application/json", Body: response}
	})
	out, err := client.Converse(context.Background(), converseInput())
	if err != nil {
		t.Fatal(err)
	}
	call := checkBedrock(t, sent)
	if call.Model != profileARN || call.Surface != bedrock.ConverseSurface {
		t.Errorf("%+v", call)
	}
	golden.Call(t, "testdata/bedrock_converse.golden", call)

	w := sent.row.Watch(llm.WatchOptions{ContentType: "application/json", Arguments: 4096})
	w.Write(response)
	reply := w.Reply()
	usage := out.Usage
	if want := int64(*usage.InputTokens + *usage.CacheReadInputTokens + *usage.CacheWriteInputTokens); reply.Usage.InputTokens != want || reply.Usage.OutputTokens != int64(*usage.OutputTokens) || reply.FinishReason != string(out.StopReason) {
		t.Errorf("reply %+v, the SDK has %+v", reply, usage)
	}
	message := out.Output.(*types.ConverseOutputMemberMessage).Value
	var names []string
	for _, b := range message.Content {
		if use, ok := b.(*types.ContentBlockMemberToolUse); ok {
			names = append(names, *use.Value.Name+" "+*use.Value.ToolUseId)
		}
	}
	for i, c := range reply.ToolCalls {
		if i >= len(names) || names[i] != c.Name+" "+c.ID || !json.Valid(c.Arguments) {
			t.Errorf("the watcher has %+v, the SDK %q", reply.ToolCalls, names)
		}
	}
}

// The same for ConverseStream.
func TestBedrockConverseStream(t *testing.T) {
	response := golden.EventStream(golden.Files(t, "../../bedrock/testdata/converse/responses", "tool_use.eventstream")["tool_use"])
	client, sent, _ := bedrockProvider(t, func(row llm.Row) llm.Answer {
		return llm.Answer{Status: 200, ContentType: "application/vnd.amazon.eventstream", Body: response}
	})
	out, err := client.ConverseStream(context.Background(), streamInput())
	if err != nil {
		t.Fatal(err)
	}
	var usage *types.TokenUsage
	var input, name string
	var stop types.StopReason
	for event := range out.GetStream().Events() {
		switch e := event.(type) {
		case *types.ConverseStreamOutputMemberContentBlockStart:
			if use, ok := e.Value.Start.(*types.ContentBlockStartMemberToolUse); ok {
				name = *use.Value.Name
			}
		case *types.ConverseStreamOutputMemberContentBlockDelta:
			if use, ok := e.Value.Delta.(*types.ContentBlockDeltaMemberToolUse); ok {
				input += *use.Value.Input
			}
		case *types.ConverseStreamOutputMemberMessageStop:
			stop = e.Value.StopReason
		case *types.ConverseStreamOutputMemberMetadata:
			usage = e.Value.Usage
		}
	}
	if err := out.GetStream().Err(); err != nil || usage == nil {
		t.Fatal(err, usage)
	}
	call := checkBedrock(t, sent)
	if !call.Stream || call.Surface != bedrock.ConverseStreamSurface {
		t.Errorf("%+v", call)
	}
	w := sent.row.Watch(llm.WatchOptions{ContentType: "application/vnd.amazon.eventstream", Arguments: 4096})
	w.Write(response)
	reply := w.Reply()
	if reply.Usage.InputTokens != int64(*usage.InputTokens+*usage.CacheReadInputTokens) || reply.Usage.OutputTokens != int64(*usage.OutputTokens) || reply.FinishReason != string(stop) ||
		len(reply.ToolCalls) != 1 || reply.ToolCalls[0].Name != name || string(reply.ToolCalls[0].Arguments) != input || !reply.ToolCalls[0].Done {
		t.Errorf("reply %+v, the SDK has %+v, %s %s", reply, usage, name, input)
	}
}

// InvokeModel, its stream and the count of tokens, with and without a content type.
func TestBedrockInvoke(t *testing.T) {
	body := []byte(`{"anthropic_version":"bedrock-2023-05-31","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`)
	stream := golden.EventStream(golden.Files(t, "../../bedrock/testdata/invoke/responses", "claude_stream.eventstream")["claude_stream"])
	client, sent, _ := bedrockProvider(t, func(row llm.Row) llm.Answer {
		switch row.Surface {
		case bedrock.InvokeStreamSurface:
			return llm.Answer{Status: 200, ContentType: "application/vnd.amazon.eventstream", Body: stream}
		case bedrock.CountTokensSurface:
			return llm.Answer{Status: 200, ContentType: "application/json", Body: []byte(`{"inputTokens":7}`)}
		}
		return llm.Answer{Status: 200, ContentType: "application/json", Body: []byte(`{}`)}
	})
	for _, contentType := range []*string{nil, aws.String("application/json")} {
		if _, err := client.InvokeModel(context.Background(), &bedrocksdk.InvokeModelInput{ModelId: aws.String(profileARN), ContentType: contentType, Body: body}); err != nil {
			t.Fatal(err)
		}
		if call := checkBedrock(t, sent); call.Model != profileARN || call.Class != llm.ClassModel || len(call.Messages) != 1 || call.Stream {
			t.Errorf("%+v", call)
		}
	}
	out, err := client.InvokeModelWithResponseStream(context.Background(), &bedrocksdk.InvokeModelWithResponseStreamInput{ModelId: aws.String("anthropic.claude-3-haiku-20240307-v1:0"), Body: body})
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for event := range out.GetStream().Events() {
		if c, ok := event.(*types.ResponseStreamMemberChunk); ok && json.Valid(c.Value.Bytes) {
			chunks++
		}
	}
	if err := out.GetStream().Err(); err != nil || chunks != 6 {
		t.Fatal(err, chunks)
	}
	if call := checkBedrock(t, sent); !call.Stream || call.Surface != bedrock.InvokeStreamSurface {
		t.Errorf("%+v", call)
	}
	in := converseInput()
	for _, input := range []types.CountTokensInput{
		&types.CountTokensInputMemberInvokeModel{Value: types.InvokeModelTokensRequest{Body: body}},
		&types.CountTokensInputMemberConverse{Value: types.ConverseTokensRequest{Messages: in.Messages, System: in.System, ToolConfig: in.ToolConfig}},
	} {
		count, err := client.CountTokens(context.Background(), &bedrocksdk.CountTokensInput{ModelId: aws.String(profileARN), Input: input})
		if err != nil || *count.InputTokens != 7 {
			t.Fatal(err, count)
		}
		if call := checkBedrock(t, sent); call.Class != llm.ClassAuxiliary || len(call.Messages) == 0 {
			t.Errorf("%+v", call)
		}
	}
}

// What leaves something in a bucket, and what a guardrail looks at.
func TestBedrockOthers(t *testing.T) {
	client, sent, _ := bedrockProvider(t, func(llm.Row) llm.Answer {
		return llm.Answer{Status: 200, ContentType: "application/json", Body: []byte(`{}`)}
	})
	ctx := context.Background()
	for _, c := range []struct {
		surface llm.Surface
		class   llm.Class
		call    func() error
	}{
		{bedrock.AsyncInvokeSurface, llm.ClassDeadDrop, func() error {
			_, err := client.StartAsyncInvoke(ctx, &bedrocksdk.StartAsyncInvokeInput{
				ModelId: aws.String("amazon.nova-reel-v1:0"), ModelInput: document.NewLazyDocument(map[string]any{"taskType": "TEXT_VIDEO"}),
				OutputDataConfig: &types.AsyncInvokeOutputDataConfigMemberS3OutputDataConfig{Value: types.AsyncInvokeS3OutputDataConfig{S3Uri: aws.String("s3://bucket/out")}},
			})
			return err
		}},
		{bedrock.AsyncListSurface, llm.ClassDeadDrop, func() error {
			_, err := client.ListAsyncInvokes(ctx, &bedrocksdk.ListAsyncInvokesInput{MaxResults: aws.Int32(5), StatusEquals: types.AsyncInvokeStatusCompleted})
			return err
		}},
		{bedrock.AsyncGetSurface, llm.ClassDeadDrop, func() error {
			_, err := client.GetAsyncInvoke(ctx, &bedrocksdk.GetAsyncInvokeInput{InvocationArn: aws.String("arn:aws:bedrock:us-east-1:123456789012:async-invoke/x")})
			return err
		}},
		{bedrock.GuardrailSurface, llm.ClassAuxiliary, func() error {
			_, err := client.ApplyGuardrail(ctx, &bedrocksdk.ApplyGuardrailInput{
				GuardrailIdentifier: aws.String("gr"), GuardrailVersion: aws.String("1"), Source: types.GuardrailContentSourceInput,
				Content: []types.GuardrailContentBlock{&types.GuardrailContentBlockMemberText{Value: types.GuardrailTextBlock{Text: aws.String("hi")}}},
			})
			return err
		}},
	} {
		if err := c.call(); err != nil {
			t.Fatalf("%s: %v", c.surface, err)
		}
		if call := checkBedrock(t, sent); call.Surface != c.surface || call.Class != c.class {
			t.Errorf("%+v, want %s", call, c.surface)
		}
	}
}

// The SDK raises a refusal as AccessDeniedException, after one call only, whether it comes at once or in a stream that has begun.
func TestBedrockRefusal(t *testing.T) {
	client, _, calls := bedrockProvider(t, func(row llm.Row) llm.Answer { return row.Refuse(refusal) })
	ctx := context.Background()
	body := []byte(`{"prompt":"x"}`)
	for _, call := range []func() error{
		func() error { _, err := client.Converse(ctx, converseInput()); return err },
		func() error { _, err := client.ConverseStream(ctx, streamInput()); return err },
		func() error {
			_, err := client.InvokeModel(ctx, &bedrocksdk.InvokeModelInput{ModelId: aws.String("meta.llama"), Body: body})
			return err
		},
		func() error {
			_, err := client.InvokeModelWithResponseStream(ctx, &bedrocksdk.InvokeModelWithResponseStreamInput{ModelId: aws.String("meta.llama"), Body: body})
			return err
		},
	} {
		var e *types.AccessDeniedException
		if err := call(); !errors.As(err, &e) {
			t.Fatalf("the SDK has %v", err)
		}
		wantRefusal(t, e.ErrorMessage())
	}
	if *calls != 4 {
		t.Errorf("%d calls for 4, so the SDK tries again", *calls)
	}

	begun := golden.EventStream(golden.Files(t, "../../bedrock/testdata/converse/responses", "cut_off.eventstream")["cut_off"])
	client, _, calls = bedrockProvider(t, func(row llm.Row) llm.Answer {
		w := row.Watch(llm.WatchOptions{ContentType: "application/vnd.amazon.eventstream"})
		w.Write(begun)
		return llm.Answer{Status: 200, ContentType: "application/vnd.amazon.eventstream", Body: append(begun[:len(begun):len(begun)], w.End(refusal)...)}
	})
	converse, err := client.ConverseStream(ctx, streamInput())
	if err != nil {
		t.Fatal(err)
	}
	for range converse.GetStream().Events() {
	}
	invoke, err := client.InvokeModelWithResponseStream(ctx, &bedrocksdk.InvokeModelWithResponseStreamInput{ModelId: aws.String("meta.llama"), Body: body})
	if err != nil {
		t.Fatal(err)
	}
	for range invoke.GetStream().Events() {
	}
	for _, err := range []error{converse.GetStream().Err(), invoke.GetStream().Err()} {
		var e *types.ValidationException
		if !errors.As(err, &e) {
			t.Fatalf("the SDK has %v", err)
		}
		wantRefusal(t, e.ErrorMessage())
	}
	if *calls != 2 {
		t.Errorf("%d calls for 2, so the SDK tries again", *calls)
	}
}
