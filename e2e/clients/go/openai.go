package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

// tool is the tool's schema.
var tool = map[string]any{"type": "object", "properties": map[string]any{"query": map[string]any{"type": "string"}}, "required": []string{"query"}}

func query(arguments string) string {
	var a struct {
		Query string `json:"query"`
	}
	_ = json.Unmarshal([]byte(arguments), &a) // what is no JSON has no query, and the test sees it
	return a.Query
}

func dataURL(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}

func openAI(ctx context.Context, c *call) error {
	client := openai.NewClient()
	if c.Client == "azure-openai-go" {
		client = openai.NewClient(azure.WithEndpoint(os.Getenv("AZURE_OPENAI_ENDPOINT"), os.Getenv("OPENAI_API_VERSION")), azure.WithAPIKey(os.Getenv("AZURE_OPENAI_API_KEY")))
	}
	switch c.Surface {
	case "openai.chat_completions":
		return openAIChat(ctx, client, c)
	case "openai.responses":
		return openAIResponses(ctx, client, c)
	case "openai.completions":
		r, err := client.Completions.New(ctx, openai.CompletionNewParams{Model: openai.CompletionNewParamsModel(c.Model), Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(c.Prompt)}})
		if err == nil {
			c.text = r.Choices[0].Text
		}
		return err
	case "openai.embeddings":
		r, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: c.Model, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(c.Prompt)}})
		if err == nil {
			c.text = fmt.Sprint(r.Data[0].Embedding)
		}
		return err
	case "openai.moderations":
		r, err := client.Moderations.New(ctx, openai.ModerationNewParams{Model: c.Model, Input: openai.ModerationNewParamsInputUnion{OfString: openai.String(c.Prompt)}})
		if err == nil {
			c.text = fmt.Sprint("flagged ", r.Results[0].Flagged)
		}
		return err
	case "openai.images.generations":
		r, err := client.Images.Generate(ctx, openai.ImageGenerateParams{Model: c.Model, Prompt: c.Prompt})
		if err == nil {
			c.text = r.Data[0].B64JSON
		}
		return err
	case "openai.audio.speech":
		r, err := client.Audio.Speech.New(ctx, openai.AudioSpeechNewParams{Model: c.Model, Input: c.Prompt, Voice: openai.AudioSpeechNewParamsVoiceUnion{OfString: openai.String("alloy")}})
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r.Body)
		c.text = fmt.Sprint(len(b), " bytes")
		return errors.Join(err, r.Body.Close())
	case "openai.audio.transcriptions":
		r, err := client.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{Model: c.Model, Prompt: openai.String(c.Prompt), File: openai.File(bytes.NewReader([]byte("RIFF of no sound")), "note.wav", "audio/wav")})
		if err == nil {
			c.text = r.Text
		}
		return err
	case "openai.files":
		r, err := client.Files.New(ctx, openai.FileNewParams{Purpose: openai.FilePurposeUserData, File: openai.File(bytes.NewReader([]byte(c.Prompt)), "notes.txt", "text/plain")})
		if err == nil {
			c.text = r.ID
		}
		return err
	}
	return fmt.Errorf("surface %q is not driven", c.Surface)
}

func openAIChat(ctx context.Context, client openai.Client, c *call) error {
	params := openai.ChatCompletionNewParams{Model: c.Model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(c.Prompt)}}
	if c.Scenario == "image" {
		params.Messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart(c.Prompt), openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: dataURL(c.Image)})})}
	}
	if c.streams() {
		params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		for stream.Next() {
			for _, choice := range stream.Current().Choices {
				c.said(choice.Delta.Content)
			}
		}
		return stream.Err()
	}
	if c.Scenario == "tools" {
		params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "lookup", Parameters: tool})}
	}
	for range 3 {
		r, err := client.Chat.Completions.New(ctx, params)
		if err != nil {
			return err
		}
		m := r.Choices[0].Message
		if len(m.ToolCalls) == 0 {
			c.text = m.Content
			return nil
		}
		params.Messages = append(params.Messages, m.ToParam())
		for _, t := range m.ToolCalls {
			params.Messages = append(params.Messages, openai.ToolMessage(lookup(query(t.Function.Arguments)), t.ID))
		}
	}
	return errors.New("the model asks for tools for ever")
}

func openAIResponses(ctx context.Context, client openai.Client, c *call) error {
	params := responses.ResponseNewParams{Model: c.Model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(c.Prompt)}}
	if c.Scenario == "image" || c.Scenario == "tools" {
		content := responses.ResponseInputMessageContentListParam{responses.ResponseInputContentParamOfInputText(c.Prompt)}
		if c.Scenario == "image" {
			content = append(content, responses.ResponseInputContentUnionParam{OfInputImage: &responses.ResponseInputImageParam{ImageURL: openai.String(dataURL(c.Image)), Detail: "auto"}})
		}
		params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage(content, "user")}}
	}
	if c.streams() {
		stream := client.Responses.NewStreaming(ctx, params)
		for stream.Next() {
			if e := stream.Current(); e.Type == "response.output_text.delta" {
				c.said(e.Delta)
			}
		}
		return stream.Err()
	}
	if c.Scenario == "tools" {
		params.Tools = []responses.ToolUnionParam{responses.ToolParamOfFunction("lookup", tool, false)}
	}
	for range 3 {
		r, err := client.Responses.New(ctx, params)
		if err != nil {
			return err
		}
		asked := false
		for _, o := range r.Output {
			if o.Type == "function_call" {
				asked = true
				f := o.AsFunctionCall()
				params.Input.OfInputItemList = append(params.Input.OfInputItemList,
					responses.ResponseInputItemParamOfFunctionCall(f.Arguments, f.CallID, f.Name),
					responses.ResponseInputItemUnionParam{OfFunctionCallOutput: &responses.ResponseInputItemFunctionCallOutputParam{CallID: openai.String(f.CallID),
						Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{OfString: openai.String(lookup(query(f.Arguments)))}}})
			}
		}
		if !asked {
			c.text = r.OutputText()
			return nil
		}
	}
	return errors.New("the model asks for tools for ever")
}
