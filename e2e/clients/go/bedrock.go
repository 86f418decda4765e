package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/document"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
)

func converse(ctx context.Context, c *call) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := bedrockruntime.NewFromConfig(cfg)
	content := []types.ContentBlock{&types.ContentBlockMemberText{Value: c.Prompt}}
	if c.Scenario == "image" {
		content = append(content, &types.ContentBlockMemberImage{Value: types.ImageBlock{Format: types.ImageFormatPng, Source: &types.ImageSourceMemberBytes{Value: c.Image}}})
	}
	messages := []types.Message{{Role: types.ConversationRoleUser, Content: content}}
	switch c.Surface {
	case "bedrock.converse_stream":
		r, err := client.ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{ModelId: aws.String(c.Model), Messages: messages})
		if err != nil {
			return err
		}
		stream := r.GetStream()
		defer func() { _ = stream.Close() }()
		for e := range stream.Events() {
			if d, ok := e.(*types.ConverseStreamOutputMemberContentBlockDelta); ok {
				if t, ok := d.Value.Delta.(*types.ContentBlockDeltaMemberText); ok {
					c.said(t.Value)
				}
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		return ctx.Err()
	case "bedrock.invoke_model", "bedrock.invoke_model_stream":
		return invoke(ctx, client, c)
	}
	in := &bedrockruntime.ConverseInput{ModelId: aws.String(c.Model), Messages: messages}
	if c.Scenario == "tools" {
		in.ToolConfig = &types.ToolConfiguration{Tools: []types.Tool{&types.ToolMemberToolSpec{Value: types.ToolSpecification{Name: aws.String("lookup"),
			InputSchema: &types.ToolInputSchemaMemberJson{Value: document.NewLazyDocument(tool)}}}}}
	}
	for range 3 {
		r, err := client.Converse(ctx, in)
		if err != nil {
			return err
		}
		m := r.Output.(*types.ConverseOutputMemberMessage).Value
		var results []types.ContentBlock
		for _, b := range m.Content {
			switch v := b.(type) {
			case *types.ContentBlockMemberText:
				c.text += v.Value
			case *types.ContentBlockMemberToolUse:
				var args map[string]any
				if err := v.Value.Input.UnmarshalSmithyDocument(&args); err != nil {
					return err
				}
				results = append(results, &types.ContentBlockMemberToolResult{Value: types.ToolResultBlock{ToolUseId: v.Value.ToolUseId,
					Content: []types.ToolResultContentBlock{&types.ToolResultContentBlockMemberText{Value: lookup(fmt.Sprint(args["query"]))}}}})
			}
		}
		if len(results) == 0 {
			return nil
		}
		in.Messages = append(in.Messages, m, types.Message{Role: types.ConversationRoleUser, Content: results})
	}
	return errors.New("the model asks for tools for ever")
}

// invoke sends a body of Anthropic's own form.
func invoke(ctx context.Context, client *bedrockruntime.Client, c *call) error {
	body, err := json.Marshal(map[string]any{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 256, "messages": []any{map[string]any{"role": "user", "content": c.Prompt}}})
	if err != nil {
		return err
	}
	if c.Surface == "bedrock.invoke_model" {
		r, err := client.InvokeModel(ctx, &bedrockruntime.InvokeModelInput{ModelId: aws.String(c.Model), Body: body, ContentType: aws.String("application/json")})
		if err != nil {
			return err
		}
		var m struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
		}
		if err := json.Unmarshal(r.Body, &m); err != nil || len(m.Content) == 0 {
			return errors.Join(err, errors.New("the answer has no content"))
		}
		c.text = m.Content[0].Text
		return nil
	}
	r, err := client.InvokeModelWithResponseStream(ctx, &bedrockruntime.InvokeModelWithResponseStreamInput{ModelId: aws.String(c.Model), Body: body, ContentType: aws.String("application/json")})
	if err != nil {
		return err
	}
	stream := r.GetStream()
	defer func() { _ = stream.Close() }()
	for e := range stream.Events() {
		if p, ok := e.(*types.ResponseStreamMemberChunk); ok {
			var event struct {
				Delta struct {
					Text string `json:"text"`
				} `json:"delta"`
			}
			if err := json.Unmarshal(p.Value.Bytes, &event); err != nil {
				return err
			}
			c.said(event.Delta.Text)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return ctx.Err()
}
