package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"cloud.google.com/go/auth"
	"google.golang.org/genai"
)

// token is a token that does not expire.
type token struct{}

// Token is part of auth.TokenProvider.
func (token) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: os.Getenv("VERTEX_TOKEN"), Type: "Bearer"}, nil
}

func gemini(ctx context.Context, c *call) error {
	var config *genai.ClientConfig // of the environment
	if c.Client == "google-genai-go-vertex" {
		config = &genai.ClientConfig{Backend: genai.BackendVertexAI, Project: "shelf", Location: "us-central1", Credentials: auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: token{}})}
	}
	client, err := genai.NewClient(ctx, config)
	if err != nil {
		return err
	}
	parts := []*genai.Part{genai.NewPartFromText(c.Prompt)}
	if c.Scenario == "image" {
		parts = append(parts, genai.NewPartFromBytes(c.Image, "image/png"))
	}
	contents := []*genai.Content{genai.NewContentFromParts(parts, genai.RoleUser)}
	switch _, method, _ := strings.Cut(c.Surface, "."); method {
	case "count_tokens":
		r, err := client.Models.CountTokens(ctx, c.Model, contents, nil)
		if err == nil {
			c.text = fmt.Sprint(r.TotalTokens > 0)
		}
		return err
	case "embed_content":
		r, err := client.Models.EmbedContent(ctx, c.Model, contents, nil)
		if err == nil {
			c.text = fmt.Sprint(r.Embeddings[0].Values)
		}
		return err
	case "stream_generate_content":
		for r, err := range client.Models.GenerateContentStream(ctx, c.Model, contents, nil) {
			if err != nil {
				return err
			}
			c.said(r.Text())
		}
		return ctx.Err()
	}
	options := &genai.GenerateContentConfig{}
	if c.Scenario == "tools" {
		options.Tools = []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "lookup", ParametersJsonSchema: tool}}}}
	}
	for range 3 {
		r, err := client.Models.GenerateContent(ctx, c.Model, contents, options)
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
