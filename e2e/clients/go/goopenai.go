package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	sashabaranov "github.com/sashabaranov/go-openai"
)

// goOpenAI is the client that many programs still use. It takes its base URL from its user, not from the environment.
func goOpenAI(ctx context.Context, c *call) error {
	client := sashabaranov.NewClient(os.Getenv("OPENAI_API_KEY"))
	if c.Surface == "openai.embeddings" {
		r, err := client.CreateEmbeddings(ctx, sashabaranov.EmbeddingRequest{Model: sashabaranov.EmbeddingModel(c.Model), Input: c.Prompt})
		if err == nil {
			c.text = fmt.Sprint(r.Data[0].Embedding)
		}
		return err
	}
	req := sashabaranov.ChatCompletionRequest{Model: c.Model, Messages: []sashabaranov.ChatCompletionMessage{{Role: "user", Content: c.Prompt}}}
	if c.Scenario == "image" {
		req.Messages[0] = sashabaranov.ChatCompletionMessage{Role: "user", MultiContent: []sashabaranov.ChatMessagePart{
			{Type: "text", Text: c.Prompt}, {Type: "image_url", ImageURL: &sashabaranov.ChatMessageImageURL{URL: dataURL(c.Image)}}}}
	}
	if c.streams() {
		stream, err := client.CreateChatCompletionStream(ctx, req)
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }()
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, choice := range r.Choices {
				c.said(choice.Delta.Content)
			}
		}
	}
	if c.Scenario == "tools" {
		req.Tools = []sashabaranov.Tool{{Type: "function", Function: &sashabaranov.FunctionDefinition{Name: "lookup", Parameters: tool}}}
	}
	for range 3 {
		r, err := client.CreateChatCompletion(ctx, req)
		if err != nil {
			return err
		}
		m := r.Choices[0].Message
		if len(m.ToolCalls) == 0 {
			c.text = m.Content
			return nil
		}
		req.Messages = append(req.Messages, m)
		for _, t := range m.ToolCalls {
			req.Messages = append(req.Messages, sashabaranov.ChatCompletionMessage{Role: "tool", Content: lookup(query(t.Function.Arguments)), ToolCallID: t.ID})
		}
	}
	return errors.New("the model asks for tools for ever")
}
