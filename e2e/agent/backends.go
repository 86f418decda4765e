package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// The models the agent was made for.
const (
	openAIModel    = "gpt-4o-mini"
	anthropicModel = "claude-sonnet-4-5"
)

// mostSteps ends a conversation that does not come to an end by itself.
const mostSteps = 8

// options of one task.
type options struct {
	stream bool
	model  string // in place of the usual one
	// poison replaces the first tool result.
	poison string
	// header is sent with every request of the task.
	header map[string]string
	// onText is called with each piece of a streamed answer as it arrives.
	onText func(piece string, at time.Time)
}

// backend is a provider that the agent works with.
type backend interface {
	// do leads one conversation, with tools, to its end, and returns the last text.
	do(ctx context.Context, task string, o options) (string, error)
}

// lastDecision is the decision id on the newest response, if there was one: the demo shows it.
var lastDecision atomic.Value

func noteDecision(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	resp, err := next(r)
	if err == nil {
		lastDecision.Store(resp.Header.Get("Sallyport-Decision-Id"))
	}
	return resp, err
}

// runTool carries out what the model asked for.
func runTool(name, args string, o *options) string {
	if o.poison != "" {
		p := o.poison
		o.poison = ""
		return p
	}
	t := findTool(name)
	if t == nil {
		return "no such tool"
	}
	var a map[string]string
	if err := json.Unmarshal([]byte(args), &a); err != nil {
		return "bad arguments: " + err.Error()
	}
	return t.run(a)
}

var errTooManySteps = fmt.Errorf("the conversation took more than %d steps", mostSteps)

type openAI struct{ client openai.Client }

func newOpenAI() *openAI {
	return &openAI{client: openai.NewClient(openaioption.WithMiddleware(noteDecision))}
}

func (b *openAI) do(ctx context.Context, task string, o options) (string, error) {
	params := openai.ChatCompletionNewParams{
		Model:    openAIModel,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage(systemPrompt), openai.UserMessage(task)},
	}
	if o.model != "" {
		params.Model = o.model
	}
	for _, t := range tools {
		params.Tools = append(params.Tools, openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: t.name, Description: openai.String(t.description),
			Parameters: shared.FunctionParameters{"type": "object", "properties": schemaOf(t), "required": t.params},
		}))
	}
	var opts []openaioption.RequestOption
	for k, v := range o.header {
		opts = append(opts, openaioption.WithHeader(k, v))
	}
	for range mostSteps {
		message, err := b.step(ctx, params, o, opts)
		if err != nil {
			return "", err
		}
		if len(message.ToolCalls) == 0 {
			return message.Content, nil
		}
		params.Messages = append(params.Messages, message.ToParam())
		for _, c := range message.ToolCalls {
			params.Messages = append(params.Messages, openai.ToolMessage(runTool(c.Function.Name, c.Function.Arguments, &o), c.ID))
		}
	}
	return "", errTooManySteps
}

func (b *openAI) step(ctx context.Context, params openai.ChatCompletionNewParams, o options, opts []openaioption.RequestOption) (openai.ChatCompletionMessage, error) {
	if !o.stream {
		answer, err := b.client.Chat.Completions.New(ctx, params, opts...)
		if err != nil {
			return openai.ChatCompletionMessage{}, err
		}
		if len(answer.Choices) == 0 {
			return openai.ChatCompletionMessage{}, errors.New("an answer without a choice")
		}
		return answer.Choices[0].Message, nil
	}
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := b.client.Chat.Completions.NewStreaming(ctx, params, opts...)
	defer func() { _ = stream.Close() }()
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		chunk := stream.Current()
		acc.AddChunk(chunk)
		if o.onText != nil && len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			o.onText(chunk.Choices[0].Delta.Content, time.Now())
		}
	}
	if err := stream.Err(); err != nil {
		return openai.ChatCompletionMessage{}, err
	}
	if len(acc.Choices) == 0 {
		return openai.ChatCompletionMessage{}, errors.New("a stream without a choice")
	}
	return acc.Choices[0].Message, nil
}

type claude struct{ client anthropic.Client }

func newAnthropic() *claude {
	return &claude{client: anthropic.NewClient(anthropicoption.WithMiddleware(noteDecision))}
}

func (b *claude) do(ctx context.Context, task string, o options) (string, error) {
	params := anthropic.MessageNewParams{
		Model:     anthropicModel,
		MaxTokens: 1024,
		System:    []anthropic.TextBlockParam{{Text: systemPrompt}},
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(task))},
	}
	if o.model != "" {
		params.Model = o.model
	}
	for _, t := range tools {
		params.Tools = append(params.Tools, anthropic.ToolUnionParam{OfTool: &anthropic.ToolParam{
			Name: t.name, Description: anthropic.String(t.description),
			InputSchema: anthropic.ToolInputSchemaParam{Properties: schemaOf(t), Required: t.params},
		}})
	}
	var opts []anthropicoption.RequestOption
	for k, v := range o.header {
		opts = append(opts, anthropicoption.WithHeader(k, v))
	}
	for range mostSteps {
		message, err := b.step(ctx, params, o, opts)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		var results []anthropic.ContentBlockParamUnion
		for _, block := range message.Content {
			switch v := block.AsAny().(type) {
			case anthropic.TextBlock:
				text.WriteString(v.Text)
			case anthropic.ToolUseBlock:
				results = append(results, anthropic.NewToolResultBlock(v.ID, runTool(v.Name, string(v.Input), &o), false))
			}
		}
		if len(results) == 0 {
			return text.String(), nil
		}
		params.Messages = append(params.Messages, message.ToParam(), anthropic.NewUserMessage(results...))
	}
	return "", errTooManySteps
}

func (b *claude) step(ctx context.Context, params anthropic.MessageNewParams, o options, opts []anthropicoption.RequestOption) (*anthropic.Message, error) {
	if !o.stream {
		return b.client.Messages.New(ctx, params, opts...)
	}
	stream := b.client.Messages.NewStreaming(ctx, params, opts...)
	defer func() { _ = stream.Close() }()
	var message anthropic.Message
	for stream.Next() {
		event := stream.Current()
		if err := message.Accumulate(event); err != nil {
			return nil, err
		}
		if delta, ok := event.AsAny().(anthropic.ContentBlockDeltaEvent); ok && o.onText != nil && delta.Delta.Text != "" {
			o.onText(delta.Delta.Text, time.Now())
		}
	}
	return &message, stream.Err()
}
