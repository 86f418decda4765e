package sdkcheck_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// What the SDK sends to Azure OpenAI is found among its rows and read without any objection; the model is the deployment.
func TestAzureCalls(t *testing.T) {
	var calls []*llm.Call
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, openaiCall(t, openai.AzureRows, r))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer s.Close()
	// Two ways in which an ordinary client is pointed at Azure; the SDK's own package for it builds the first one.
	version := option.WithQuery("api-version", "2024-10-21")
	deployment := sdk.NewClient(option.WithBaseURL(s.URL+"/openai/deployments/my-deployment"), option.WithAPIKey("k"), version)
	newer := sdk.NewClient(option.WithBaseURL(s.URL+"/openai/v1"), option.WithAPIKey("k"))
	older := sdk.NewClient(option.WithBaseURL(s.URL+"/openai"), option.WithAPIKey("k"), version)
	ctx := context.Background()
	params := openaiParams()
	params.Model = "my-deployment"
	for _, send := range []func() error{
		func() error { _, err := deployment.Chat.Completions.New(ctx, params); return err },
		func() error {
			_, err := deployment.Embeddings.New(ctx, sdk.EmbeddingNewParams{Model: "my-deployment", Input: sdk.EmbeddingNewParamsInputUnion{OfString: param.NewOpt("a")}})
			return err
		},
		func() error {
			_, err := deployment.Audio.Transcriptions.New(ctx, sdk.AudioTranscriptionNewParams{Model: "my-deployment", File: sdk.File(bytes.NewReader([]byte("RIFF")), "a.wav", "audio/wav")})
			return err
		},
		func() error { _, err := newer.Chat.Completions.New(ctx, params); return err },
		func() error {
			_, err := older.Responses.New(ctx, responses.ResponseNewParams{Model: "my-deployment", Input: responses.ResponseNewParamsInputUnion{OfString: param.NewOpt("hi")}})
			return err
		},
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	want := []llm.Surface{openai.ChatCompletions, openai.Embeddings, openai.AudioTranscriptions, openai.ChatCompletions, openai.Responses}
	if len(calls) != len(want) {
		t.Fatalf("%d calls", len(calls))
	}
	for i, call := range calls {
		if call == nil || call.Surface != want[i] || call.Model != "my-deployment" || call.Provider != openai.AzureProvider || len(call.Findings)+len(call.UnknownFields) > 0 {
			t.Errorf("%s: %+v", want[i], call)
		}
	}
}
