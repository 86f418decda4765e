package sdkcheck_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/conversations"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/realtime"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared/constant"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// openaiCall finds the row of a request and reads it.
func openaiCall(t *testing.T, rows []llm.Row, r *http.Request) *llm.Call {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	for _, row := range rows {
		if vars, ok := row.Match(r.Method, r.URL.EscapedPath()); ok {
			call := row.Decode(&llm.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Vars: vars, ContentType: r.Header.Get("Content-Type"), Header: r.Header, Body: body}, llm.DefaultLimits())
			golden.CheckCall(t, call, body)
			return call
		}
	}
	t.Errorf("no row for %s %s", r.Method, r.URL)
	return nil
}

func named(name string, content []byte, mediaType string) io.Reader {
	return sdk.File(bytes.NewReader(content), name, mediaType)
}

// What the SDK sends is read without any objection, on every surface.
func TestOpenAISurfaces(t *testing.T) {
	ctx := context.Background()
	sound := []byte("RIFF\x00\x00\x00\x00WAVE\xff\xff")
	picture := []byte("\x89PNG\r\n\x1a\n")
	for name, send := range map[string]func(c *sdk.Client) error{
		"responses": func(c *sdk.Client) error {
			_, err := c.Responses.New(ctx, responses.ResponseNewParams{
				Model: "gpt-5", Instructions: param.NewOpt("Be brief."), MaxOutputTokens: param.NewOpt[int64](100),
				Input: responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
					responses.ResponseInputItemParamOfMessage(responses.ResponseInputMessageContentListParam{
						responses.ResponseInputContentParamOfInputText("What is in it?"),
						{OfInputImage: &responses.ResponseInputImageParam{ImageURL: param.NewOpt("https://img.example/a.png"), Detail: "auto"}},
					}, "user"),
					responses.ResponseInputItemParamOfFunctionCall(`{"path":"a"}`, "call_1", "read_file"),
					responses.ResponseInputItemParamOfFunctionCallOutput("text"),
				}},
				Tools: []responses.ToolUnionParam{
					responses.ToolParamOfFunction("read_file", map[string]any{"type": "object"}, true),
					{OfMcp: &responses.ToolMcpParam{ServerLabel: "docs", ServerURL: param.NewOpt("https://mcp.example/mcp")}},
					{OfLocalShell: &responses.ToolLocalShellParam{}},
				},
			})
			return err
		},
		"responses_get": func(c *sdk.Client) error {
			_, err := c.Responses.Get(ctx, "resp_1", responses.ResponseGetParams{Include: []responses.ResponseIncludable{"reasoning.encrypted_content"}})
			return err
		},
		"responses_cancel": func(c *sdk.Client) error { _, err := c.Responses.Cancel(ctx, "resp_1"); return err },
		"responses_count": func(c *sdk.Client) error {
			_, err := c.Responses.InputTokens.Count(ctx, responses.InputTokenCountParams{Model: param.NewOpt("gpt-5"), Input: responses.InputTokenCountParamsInputUnion{OfString: param.NewOpt("hi")}})
			return err
		},
		"conversations": func(c *sdk.Client) error {
			_, err := c.Conversations.New(ctx, conversations.ConversationNewParams{Items: []responses.ResponseInputItemUnionParam{responses.ResponseInputItemParamOfMessage("hi", "user")}})
			return err
		},
		"completions": func(c *sdk.Client) error {
			_, err := c.Completions.New(ctx, sdk.CompletionNewParams{Model: "gpt-3.5-turbo-instruct", Prompt: sdk.CompletionNewParamsPromptUnion{OfString: param.NewOpt("Say")}, MaxTokens: param.NewOpt[int64](5)})
			return err
		},
		"embeddings": func(c *sdk.Client) error {
			_, err := c.Embeddings.New(ctx, sdk.EmbeddingNewParams{Model: "text-embedding-3-small", Input: sdk.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}}})
			return err
		},
		"moderations": func(c *sdk.Client) error {
			_, err := c.Moderations.New(ctx, sdk.ModerationNewParams{Input: sdk.ModerationNewParamsInputUnion{OfString: param.NewOpt("x")}})
			return err
		},
		"models": func(c *sdk.Client) error { _, err := c.Models.List(ctx); return err },
		"images": func(c *sdk.Client) error {
			_, err := c.Images.Generate(ctx, sdk.ImageGenerateParams{Model: "gpt-image-1", Prompt: "An otter"})
			return err
		},
		"images_edit": func(c *sdk.Client) error {
			_, err := c.Images.Edit(ctx, sdk.ImageEditParams{Model: "gpt-image-1", Prompt: "A hat", N: param.NewOpt[int64](2),
				Image: sdk.ImageEditParamsImageUnion{OfFileArray: []io.Reader{named("a.png", picture, "image/png"), named("b.png", picture, "image/png")}}})
			return err
		},
		"images_variation": func(c *sdk.Client) error {
			_, err := c.Images.NewVariation(ctx, sdk.ImageNewVariationParams{Image: named("a.png", picture, "image/png")}) //nolint:staticcheck // deprecated, but still sent by applications
			return err
		},
		"speech": func(c *sdk.Client) error {
			r, err := c.Audio.Speech.New(ctx, sdk.AudioSpeechNewParams{Model: "gpt-4o-mini-tts", Input: "Hello", Voice: sdk.AudioSpeechNewParamsVoiceUnion{OfString: param.NewOpt("alloy")}})
			if err == nil {
				r.Body.Close()
			}
			return err
		},
		"transcription": func(c *sdk.Client) error {
			_, err := c.Audio.Transcriptions.New(ctx, sdk.AudioTranscriptionNewParams{Model: "gpt-4o-transcribe", File: named("a.wav", sound, "audio/wav"), Prompt: param.NewOpt("Sallyport"),
				Include: []sdk.TranscriptionInclude{"logprobs"}, TimestampGranularities: []string{"word", "segment"}})
			return err
		},
		"translation": func(c *sdk.Client) error {
			_, err := c.Audio.Translations.New(ctx, sdk.AudioTranslationNewParams{Model: "whisper-1", File: named("a.wav", sound, "audio/wav")}) //nolint:staticcheck // deprecated, but still sent by applications
			return err
		},
		"files": func(c *sdk.Client) error {
			_, err := c.Files.New(ctx, sdk.FileNewParams{File: named("a.jsonl", []byte("{}\n"), "application/jsonl"), Purpose: "batch"})
			return err
		},
		"batches": func(c *sdk.Client) error {
			_, err := c.Batches.New(ctx, sdk.BatchNewParams{CompletionWindow: "24h", Endpoint: "/v1/responses", InputFileID: "file-1"})
			return err
		},
		"vector_store_search": func(c *sdk.Client) error {
			_, err := c.VectorStores.Search(ctx, "vs_1", sdk.VectorStoreSearchParams{Query: sdk.VectorStoreSearchParamsQueryUnion{OfString: param.NewOpt("policy")}})
			return err
		},
		"fine_tuning": func(c *sdk.Client) error {
			_, err := c.FineTuning.Jobs.New(ctx, sdk.FineTuningJobNewParams{Model: "gpt-4o-mini", TrainingFile: "file-1"})
			return err
		},
		"client_secret": func(c *sdk.Client) error {
			_, err := c.Realtime.ClientSecrets.New(ctx, realtime.ClientSecretNewParams{Session: realtime.ClientSecretNewParamsSessionUnion{OfRealtime: &realtime.RealtimeSessionCreateRequestParam{
				Model: "gpt-realtime", Instructions: param.NewOpt("Be kind.")}}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var call *llm.Call
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				call = openaiCall(t, openai.Rows, r)
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, `{}`)
			}))
			defer s.Close()
			client := sdk.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("k"))
			if err := send(&client); err != nil {
				t.Fatal(err)
			}
			if call == nil {
				t.Fatal("nothing was sent")
			}
			if len(call.Findings)+len(call.UnknownFields) > 0 {
				t.Errorf("findings %+v and unknown fields %q", call.Findings, call.UnknownFields)
			}
			for i := range call.Messages {
				call.Messages[i].Bytes = 0 // a form's boundary is of any length
			}
			golden.Call(t, "testdata/openai_"+name+".golden", call)
		})
	}
}

var midway = llm.Refusal{DecisionID: "01J-9", Rule: "TOOL-003", Message: "The tool \"rm\" is not allowed"}

func checkMidway(t *testing.T, what, text string) {
	t.Helper()
	for _, want := range []string{"TOOL-003", "01J-9", "is not allowed", "another route"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: %q lacks %q", what, text, want)
		}
	}
}

// A stream that is ended with a refusal is raised by the SDK as an error that shows the reason, after what came before.
func TestOpenAIRefusalMidway(t *testing.T) {
	for name, c := range map[string]struct {
		dir, file, path string
		read            func(c *sdk.Client) (events int, err error)
	}{
		"chat": {"chat_completions", "text_with_usage", "/v1/chat/completions", func(c *sdk.Client) (n int, err error) {
			s := c.Chat.Completions.NewStreaming(context.Background(), openaiParams())
			for s.Next() {
				n++
			}
			return n, s.Err()
		}},
		"responses": {"responses", "stream", "/v1/responses", func(c *sdk.Client) (n int, err error) {
			s := c.Responses.NewStreaming(context.Background(), responses.ResponseNewParams{Model: "gpt-5"})
			for s.Next() {
				n++
			}
			return n, s.Err()
		}},
		"images": {"images.generations", "stream", "/v1/images/generations", func(c *sdk.Client) (n int, err error) {
			s := c.Images.GenerateStreaming(context.Background(), sdk.ImageGenerateParams{Prompt: "An otter"})
			for s.Next() {
				n++
			}
			return n, s.Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := golden.Files(t, "../../openai/testdata/"+c.dir+"/responses", c.file+".sse")[c.file]
			first, _, _ := bytes.Cut(whole, []byte("\n\n"))
			first = append(bytes.Clone(first), "\n\n"...)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				o := llm.WatchOptions{ContentType: "text/event-stream"}
				watcher := openaiRow(t, "POST", c.path).Watch(o)
				watcher.Write(first)
				w.Header().Set("Content-Type", o.ContentType)
				w.Write(first)
				w.Write(watcher.End(midway))
			}))
			defer s.Close()
			client := sdk.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("k"))
			n, err := c.read(&client)
			if err == nil || n != 1 {
				t.Fatalf("%d events and the error %v", n, err)
			}
			checkMidway(t, name, err.Error())
		})
	}
}

// openaiSocket is a provider that reads one message over a WebSocket and refuses it.
func openaiSocket(t *testing.T, path string) (client sdk.Client, calls chan *llm.Call) {
	row := openaiRow(t, "GET", path)
	calls = make(chan *llm.Call, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls <- openaiCall(t, openai.Rows, r)
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		_, message, err := c.Read(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		call := row.Decode(&llm.Request{Method: llm.MethodMessage, Path: r.URL.Path, Query: r.URL.RawQuery, ContentType: "application/json", Body: message}, llm.DefaultLimits())
		golden.CheckCall(t, call, message)
		calls <- call
		if err := c.Write(r.Context(), websocket.MessageText, row.RefuseMessage(midway)); err != nil {
			t.Error(err)
		}
		_, _, _ = c.Read(r.Context()) // until the client closes
	}))
	t.Cleanup(s.Close)
	return sdk.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("k")), calls
}

func checkSocket(t *testing.T, calls chan *llm.Call, kind, model string) {
	t.Helper()
	for range 2 {
		call := <-calls
		if call == nil || len(call.Findings)+len(call.UnknownFields) > 0 || call.Model != model && call.RPCMethod != "" {
			t.Errorf("the call is %+v", call)
		} else if call.RPCMethod != "" && call.RPCMethod != kind {
			t.Errorf("the message is %s, want %s", call.RPCMethod, kind)
		}
	}
}

// Over a WebSocket, a refused message comes to the SDK as an event of type error that shows the reason, and the connection goes on.
func TestOpenAISocketRefusal(t *testing.T) {
	ctx := context.Background()
	t.Run("responses", func(t *testing.T) {
		client, calls := openaiSocket(t, "/v1/responses")
		c, err := client.Responses.Connect(ctx, responses.ResponseConnectionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Create(ctx, responses.ResponsesClientEventResponseCreateParam{Model: "gpt-5", Input: responses.ResponsesClientEventResponseCreateInputUnionParam{OfString: param.NewOpt("hi")}}); err != nil {
			t.Fatal(err)
		}
		event, err := c.RecvRaw(ctx)
		if err != nil {
			t.Fatal(err)
		}
		checkSocketEvent(t, event)
		checkSocket(t, calls, "response.create", "gpt-5")
	})
	t.Run("realtime", func(t *testing.T) {
		client, calls := openaiSocket(t, "/v1/realtime")
		c, err := client.Realtime.Connect(ctx, realtime.RealtimeConnectionOptions{}, option.WithQuery("model", "gpt-realtime"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Send(ctx, realtime.RealtimeClientEventUnionParam{OfResponseCreate: &realtime.ResponseCreateEventParam{Type: constant.ResponseCreate("response.create")}}); err != nil {
			t.Fatal(err)
		}
		event, err := c.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		checkSocketEvent(t, []byte(event.RawJSON()))
		if e := event.AsRealtimeErrorEvent(); e.Error.Code != "sallyport_refused" || e.Error.Type != "permission_error" {
			t.Errorf("the SDK has %+v", e)
		}
		checkSocket(t, calls, "response.create", "gpt-realtime")
	})
}

func checkSocketEvent(t *testing.T, event []byte) {
	t.Helper()
	var e struct {
		Type  string `json:"type"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(event, &e); err != nil || e.Type != "error" {
		t.Errorf("%s: %v", event, err)
	}
	checkMidway(t, "the event", e.Error.Message)
}

// The SDK makes a permission error of a refusal on a surface of every form, and tries none again.
func TestOpenAIRefusalOfForms(t *testing.T) {
	calls := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		_, _ = io.Copy(io.Discard, r.Body)
		answer := openai.Refuse(midway)
		w.Header().Set("Content-Type", answer.ContentType)
		w.WriteHeader(answer.Status)
		w.Write(answer.Body)
	}))
	defer s.Close()
	client := sdk.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("k"))
	_, err := client.Audio.Transcriptions.New(context.Background(), sdk.AudioTranscriptionNewParams{Model: "whisper-1", File: named("a.wav", []byte("RIFF"), "audio/wav")})
	var e *sdk.Error
	if !errors.As(err, &e) || e.StatusCode != http.StatusForbidden || e.Code != "sallyport_refused" || calls != 1 {
		t.Fatalf("%d calls, and the error %v", calls, err)
	}
	checkMidway(t, "the error", e.Message)
}
