package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genai"
)

func gemini(ctx context.Context, c *call) error {
	client, err := genai.NewClient(ctx, nil)
	if err != nil {
		return err
	}
	parts := []*genai.Part{genai.NewPartFromText(c.Prompt)}
	if c.Scenario == "image" {
		parts = append(parts, genai.NewPartFromBytes(c.Image, "image/png"))
	}
	contents := []*genai.Content{genai.NewContentFromParts(parts, genai.RoleUser)}
	switch c.Surface {
	case "gemini.count_tokens":
		r, err := client.Models.CountTokens(ctx, c.Model, contents, nil)
		if err == nil {
			c.text = fmt.Sprint(r.TotalTokens > 0)
		}
		return err
	case "gemini.embed_content":
		r, err := client.Models.EmbedContent(ctx, c.Model, contents, nil)
		if err == nil {
			c.text = fmt.Sprint(r.Embeddings[0].Values)
		}
		return err
	case "gemini.stream_generate_content":
		for r, err := range client.Models.GenerateContentStream(ctx, c.Model, contents, nil) {
			if err != nil {
				return err
			}
			c.said(r.Text())
		}
		return ctx.Err()
	}
	config := &genai.GenerateContentConfig{}
	if c.Scenario == "tools" {
		config.Tools = []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "lookup", ParametersJsonSchema: tool}}}}
	}
	for range 3 {
		r, err := client.Models.GenerateContent(ctx, c.Model, contents, config)
		if err != nil {
			return err
		}
		calls := r.FunctionCalls()
		if len(calls) == 0 {
			c.text = r.Text()
			return nil
		}
		contents = append(contents, r.Candidates[0].Content)
		for _, f := range calls {
			contents = append(contents, genai.NewContentFromFunctionResponse(f.Name, map[string]any{"output": lookup(fmt.Sprint(f.Args["query"]))}, genai.RoleUser))
		}
	}
	return errors.New("the model asks for tools for ever")
}
