package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/anthropics/anthropic-sdk-go"
)

func claude(ctx context.Context, c *call) error {
	client := anthropic.NewClient()
	content := []anthropic.ContentBlockParamUnion{anthropic.NewTextBlock(c.Prompt)}
	if c.Scenario == "image" {
		content = append(content, anthropic.NewImageBlockBase64("image/png", base64.StdEncoding.EncodeToString(c.Image)))
	}
	messages := []anthropic.MessageParam{anthropic.NewUserMessage(content...)}
	if c.Surface == "anthropic.count_tokens" {
		r, err := client.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: c.Model, Messages: messages})
		if err == nil {
			c.text = fmt.Sprint(r.InputTokens > 0)
		}
		return err
	}
	if c.Surface == "anthropic.batches" {
		r, err := client.Messages.Batches.New(ctx, anthropic.MessageBatchNewParams{Requests: []anthropic.MessageBatchNewParamsRequest{{CustomID: "one",
			Params: anthropic.MessageBatchNewParamsRequestParams{Model: c.Model, MaxTokens: 64, Messages: messages}}}})
		if err == nil {
			c.text = r.ID
		}
		return err
	}
	params := anthropic.MessageNewParams{Model: c.Model, MaxTokens: 256, Messages: messages}
	if c.streams() {
		stream := client.Messages.NewStreaming(ctx, params)
		for stream.Next() {
			if d, ok := stream.Current().AsAny().(anthropic.ContentBlockDeltaEvent); ok {
				c.said(d.Delta.Text)
			}
		}
		return stream.Err()
	}
	if c.Scenario == "tools" {
		params.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "lookup",
			InputSchema: anthropic.ToolInputSchemaParam{Properties: tool["properties"], Required: []string{"query"}}}}}
	}
	for range 3 {
		r, err := client.Messages.New(ctx, params)
		if err != nil {
			return err
		}
		var results []anthropic.ContentBlockParamUnion
		for _, b := range r.Content {
			switch v := b.AsAny().(type) {
			case anthropic.TextBlock:
				c.text += v.Text
			case anthropic.ToolUseBlock:
				results = append(results, anthropic.NewToolResultBlock(v.ID, lookup(query(string(v.Input))), false))
			}
		}
		if len(results) == 0 {
			return nil
		}
		params.Messages = append(params.Messages, r.ToParam(), anthropic.NewUserMessage(results...))
	}
	return errors.New("the model asks for tools for ever")
}
