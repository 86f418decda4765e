package sdkcheck_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genai"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/google"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// googleClient returns the SDK's client of a provider, and the calls that rows read so far. The provider answers every request alike.
func googleClient(t *testing.T, backend genai.Backend, answer http.HandlerFunc) (*genai.Client, func() []*llm.Call) {
	t.Helper()
	rows := google.GeminiRows
	config := &genai.ClientConfig{Backend: backend, APIKey: "k", HTTPClient: &http.Client{}}
	if backend == genai.BackendVertexAI {
		rows = google.VertexRows
		config.APIKey, config.Project, config.Location = "", "p", "us-central1"
	}
	var calls []*llm.Call
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		found := false
		for i := range rows {
			if vars, ok := rows[i].Match(r.Method, r.URL.EscapedPath()); ok && !found {
				found = true
				calls = append(calls, rows[i].Decode(&llm.Request{
					Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Vars: vars, ContentType: r.Header.Get("Content-Type"), Header: r.Header, Body: body,
				}, llm.DefaultLimits()))
			}
		}
		if !found {
			t.Errorf("no row matches %s %s", r.Method, r.URL)
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	config.HTTPOptions.BaseURL = s.URL
	client, err := genai.NewClient(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	return client, func() []*llm.Call { return calls }
}

func googleContents() []*genai.Content {
	return []*genai.Content{
		genai.NewContentFromParts([]*genai.Part{
			genai.NewPartFromText("See <this> & that\n"), genai.NewPartFromBytes([]byte("\x89PNG"), "image/png"), genai.NewPartFromURI("https://img.example/cat.png", "image/png"),
		}, genai.RoleUser),
		genai.NewContentFromParts([]*genai.Part{
			{Text: "I think.", Thought: true, ThoughtSignature: []byte("sig")}, genai.NewPartFromFunctionCall("read_file", map[string]any{"path": "a"}),
			genai.NewPartFromExecutableCode("print(1)", genai.LanguagePython), genai.NewPartFromCodeExecutionResult(genai.OutcomeOK, "1"),
		}, genai.RoleModel),
		genai.NewContentFromParts([]*genai.Part{genai.NewPartFromFunctionResponse("read_file", map[string]any{"output": "content of a"})}, genai.RoleUser),
	}
}

func googleConfig() *genai.GenerateContentConfig {
	schema := &genai.Schema{Type: genai.TypeObject, Properties: map[string]*genai.Schema{"path": {Type: genai.TypeString}}}
	return &genai.GenerateContentConfig{
		SystemInstruction: genai.NewContentFromText("You are a coding agent.", genai.RoleUser),
		Temperature:       genai.Ptr[float32](0.5), TopP: genai.Ptr[float32](0.5), TopK: genai.Ptr[float32](5), MaxOutputTokens: 1024, CandidateCount: 1, Seed: genai.Ptr[int32](1),
		StopSequences: []string{"END"}, PresencePenalty: genai.Ptr[float32](0.5), FrequencyPenalty: genai.Ptr[float32](0.5), ResponseLogprobs: true, Logprobs: genai.Ptr[int32](1),
		ResponseMIMEType: "application/json", ResponseSchema: schema, ResponseModalities: []string{"TEXT"}, MediaResolution: genai.MediaResolutionLow,
		SafetySettings: []*genai.SafetySetting{{Category: genai.HarmCategoryHarassment, Threshold: genai.HarmBlockThresholdBlockNone}},
		Tools: []*genai.Tool{
			{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "read_file", Description: "reads", Parameters: schema}}},
			{GoogleSearch: &genai.GoogleSearch{}}, {CodeExecution: &genai.ToolCodeExecution{}}, {URLContext: &genai.URLContext{}},
		},
		ToolConfig:     &genai.ToolConfig{FunctionCallingConfig: &genai.FunctionCallingConfig{Mode: genai.FunctionCallingConfigModeAny, AllowedFunctionNames: []string{"read_file"}}},
		ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true, ThinkingBudget: genai.Ptr[int32](1024)},
		CachedContent:  "cachedContents/1",
		SpeechConfig:   &genai.SpeechConfig{LanguageCode: "en-US"},
	}
}

// What the SDK sends is read without any objection, of both APIs, and what it understands of a response is what the watcher understands.
func TestGoogleCall(t *testing.T) {
	responses := "../../google/testdata/stream_generate_content/responses"
	response := golden.Files(t, responses, "events.sse")["events"]
	for name, backend := range map[string]genai.Backend{"gemini": genai.BackendGeminiAPI, "vertex": genai.BackendVertexAI} {
		t.Run(name, func(t *testing.T) {
			client, calls := googleClient(t, backend, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				w.Write(response)
			})
			var last *genai.GenerateContentResponse
			for chunk, err := range client.Models.GenerateContentStream(context.Background(), "gemini-2.5-flash", googleContents(), googleConfig()) {
				if err != nil {
					t.Fatal(err)
				}
				last = chunk
			}
			call := calls()[0]
			if len(call.Findings)+len(call.UnknownFields) > 0 || !call.Stream {
				t.Errorf("findings %+v and unknown fields %q", call.Findings, call.UnknownFields)
			}
			golden.Call(t, "testdata/google_"+name+"_call.golden", call)

			w := google.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
			w.Write(response)
			reply, usage := w.Reply(), last.UsageMetadata
			if reply.Model != last.ModelVersion || reply.Usage.InputTokens != int64(usage.PromptTokenCount) || reply.Usage.OutputTokens != int64(usage.CandidatesTokenCount+usage.ThoughtsTokenCount) {
				t.Errorf("reply %+v, the SDK has %+v", reply, usage)
			}
		})
	}
}

// What the SDK sends to the surfaces beside content is read without any objection.
func TestGoogleOthers(t *testing.T) {
	ctx := context.Background()
	contents := genai.Text("hello")
	for _, c := range []struct {
		name    string
		backend genai.Backend
		surface llm.Surface
		call    func(c *genai.Client)
	}{
		{"count", genai.BackendGeminiAPI, google.CountTokens, func(c *genai.Client) { _, _ = c.Models.CountTokens(ctx, "m", contents, nil) }},
		{"vertex count", genai.BackendVertexAI, google.VertexCountTokens, func(c *genai.Client) {
			_, _ = c.Models.CountTokens(ctx, "m", contents, &genai.CountTokensConfig{SystemInstruction: contents[0], Tools: []*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}}})
		}},
		{"vertex compute", genai.BackendVertexAI, google.VertexCountTokens, func(c *genai.Client) { _, _ = c.Models.ComputeTokens(ctx, "m", contents, nil) }},
		{"embed", genai.BackendGeminiAPI, google.EmbedContent, func(c *genai.Client) {
			_, _ = c.Models.EmbedContent(ctx, "gemini-embedding-001", contents, &genai.EmbedContentConfig{TaskType: "RETRIEVAL_DOCUMENT", Title: "t", OutputDimensionality: genai.Ptr[int32](8)})
		}},
		{"vertex embed", genai.BackendVertexAI, google.VertexPredict, func(c *genai.Client) {
			_, _ = c.Models.EmbedContent(ctx, "text-embedding-005", contents, &genai.EmbedContentConfig{TaskType: "RETRIEVAL_DOCUMENT", Title: "t"})
		}},
		{"vertex embed 2", genai.BackendVertexAI, google.VertexEmbedContent, func(c *genai.Client) {
			_, _ = c.Models.EmbedContent(ctx, "gemini-embedding-2-preview", contents, &genai.EmbedContentConfig{Title: "t", OutputDimensionality: genai.Ptr[int32](8)})
		}},
		{"vertex images", genai.BackendVertexAI, google.VertexPredict, func(c *genai.Client) {
			_, _ = c.Models.GenerateImages(ctx, "imagen-4.0-generate-001", "a cat", &genai.GenerateImagesConfig{NumberOfImages: 1, AspectRatio: "1:1"})
		}},
		{"videos", genai.BackendGeminiAPI, google.PredictLongRunning, func(c *genai.Client) {
			_, _ = c.Models.GenerateVideosFromSource(ctx, "veo-3.0-generate-001", &genai.GenerateVideosSource{Prompt: "a cat", Image: &genai.Image{ImageBytes: []byte("x"), MIMEType: "image/png"}}, nil)
		}},
		{"models", genai.BackendGeminiAPI, google.Models, func(c *genai.Client) { _, _ = c.Models.List(ctx, &genai.ListModelsConfig{PageSize: 5}) }},
		{"vertex models", genai.BackendVertexAI, google.VertexModels, func(c *genai.Client) { _, _ = c.Models.List(ctx, nil) }},
		{"model", genai.BackendGeminiAPI, google.Models, func(c *genai.Client) { _, _ = c.Models.Get(ctx, "gemini-2.5-flash", nil) }},
		{"cache", genai.BackendGeminiAPI, google.CachedContents, func(c *genai.Client) {
			_, _ = c.Caches.Create(ctx, "gemini-2.5-flash", &genai.CreateCachedContentConfig{Contents: contents, DisplayName: "d", TTL: time.Minute})
		}},
		{"vertex cache", genai.BackendVertexAI, google.VertexCachedContents, func(c *genai.Client) {
			_, _ = c.Caches.Create(ctx, "gemini-2.5-flash", &genai.CreateCachedContentConfig{Contents: contents, KmsKeyName: "k"})
		}},
		{"cache update", genai.BackendGeminiAPI, google.CachedContents, func(c *genai.Client) {
			_, _ = c.Caches.Update(ctx, "cachedContents/1", &genai.UpdateCachedContentConfig{TTL: time.Minute})
		}},
		{"cache delete", genai.BackendGeminiAPI, google.CachedContents, func(c *genai.Client) { _, _ = c.Caches.Delete(ctx, "cachedContents/1", nil) }},
		{"files", genai.BackendGeminiAPI, google.Files, func(c *genai.Client) { _, _ = c.Files.List(ctx, nil) }},
		{"file", genai.BackendGeminiAPI, google.Files, func(c *genai.Client) { _, _ = c.Files.Get(ctx, "files/1", nil) }},
		{"upload", genai.BackendGeminiAPI, google.Files, func(c *genai.Client) {
			_, _ = c.Files.Upload(ctx, strings.NewReader("text"), &genai.UploadFileConfig{MIMEType: "text/plain", DisplayName: "n"})
		}},
		{"batch", genai.BackendGeminiAPI, google.Batches, func(c *genai.Client) {
			_, _ = c.Batches.Create(ctx, "gemini-2.5-flash", &genai.BatchJobSource{InlinedRequests: []*genai.InlinedRequest{{Contents: contents, Config: googleConfig(), Metadata: map[string]string{"key": "1"}}}},
				&genai.CreateBatchJobConfig{DisplayName: "d"})
		}},
		{"vertex batch", genai.BackendVertexAI, google.VertexBatches, func(c *genai.Client) {
			_, _ = c.Batches.Create(ctx, "gemini-2.5-flash", &genai.BatchJobSource{Format: "jsonl", GCSURI: []string{"gs://b/in"}}, &genai.CreateBatchJobConfig{Dest: &genai.BatchJobDestination{Format: "jsonl", GCSURI: "gs://b/out"}})
		}},
		{"vertex tuning", genai.BackendVertexAI, google.VertexTuningJobs, func(c *genai.Client) {
			_, _ = c.Tunings.Tune(ctx, "gemini-2.5-flash", &genai.TuningDataset{GCSURI: "gs://b/in"}, &genai.CreateTuningJobConfig{TunedModelDisplayName: "t"})
		}},
		{"store", genai.BackendGeminiAPI, google.FileSearchStores, func(c *genai.Client) {
			_, _ = c.FileSearchStores.Create(ctx, &genai.CreateFileSearchStoreConfig{DisplayName: "d"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, calls := googleClient(t, c.backend, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
			c.call(client)
			if len(calls()) != 1 {
				t.Fatalf("%d calls", len(calls()))
			}
			if call := calls()[0]; call.Surface != c.surface || len(call.Findings)+len(call.UnknownFields) > 0 {
				t.Errorf("%+v", call)
			}
		})
	}
}

// What the SDK sends in a session is read without any objection, what it understands of the answers is what the watcher understands, and it raises
// a refusal.
func TestGoogleLive(t *testing.T) {
	const path = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
	answers := []string{
		`{"setupComplete":{}}`,
		`{"toolCall":{"functionCalls":[{"id":"c1","name":"turn_on","args":{"room":"a"}}]},"usageMetadata":{"promptTokenCount":5,"responseTokenCount":2}}`,
		`{"serverContent":{"turnComplete":true}}`,
		string(google.RefuseMessage(llm.Refusal{Rule: "LIVE-001"})),
	}
	watcher := google.Watch(llm.WatchOptions{Framing: llm.FramingWebSocket, Arguments: 64})
	var row *llm.Row
	for i := range google.GeminiRows {
		if _, ok := google.GeminiRows[i].Match(http.MethodGet, path); ok {
			row = &google.GeminiRows[i]
		}
	}
	var methods []string
	read := func(r *llm.Request) {
		r.Path = path
		call := row.Decode(r, llm.DefaultLimits())
		if len(call.Findings)+len(call.UnknownFields) > 0 {
			t.Errorf("%s: %+v", r.Body, call)
		}
		methods = append(methods, call.RPCMethod)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			t.Errorf("a session at %s", r.URL)
		}
		read(&llm.Request{Method: r.Method, Query: r.URL.RawQuery, Header: r.Header})
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for _, answer := range answers {
			_, message, err := c.Read(r.Context())
			if err != nil {
				t.Error(err)
				return
			}
			read(&llm.Request{Method: llm.MethodMessage, Body: message})
			watcher.Write([]byte(answer))
			if err := c.Write(r.Context(), websocket.MessageText, []byte(answer)); err != nil {
				t.Error(err)
				return
			}
		}
	}))
	defer s.Close()
	client, err := genai.NewClient(context.Background(), &genai.ClientConfig{APIKey: "k", HTTPOptions: genai.HTTPOptions{BaseURL: strings.Replace(s.URL, "http", "ws", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.Live.Connect(context.Background(), "gemini-live-2.5-flash", &genai.LiveConnectConfig{
		ResponseModalities: []genai.Modality{genai.ModalityText}, Temperature: genai.Ptr[float32](0.5), SystemInstruction: genai.NewContentFromText("Be brief.", genai.RoleUser),
		Tools:             []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "turn_on"}}}},
		SessionResumption: &genai.SessionResumptionConfig{}, InputAudioTranscription: &genai.AudioTranscriptionConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if first, err := session.Receive(); err != nil || first.SetupComplete == nil { // which Connect has read, too
		t.Fatalf("%+v: %v", first, err)
	}
	receive := func(err error) (*genai.LiveServerMessage, error) {
		if err != nil {
			t.Fatal(err)
		}
		return session.Receive()
	}
	message, err := receive(session.SendClientContent(genai.LiveClientContentInput{Turns: genai.Text("Turn it on."), TurnComplete: genai.Ptr(true)}))
	if err != nil {
		t.Fatal(err)
	}
	reply := watcher.Reply()
	if got, want := reply.ToolCalls[0], message.ToolCall.FunctionCalls[0]; got.ID != want.ID || got.Name != want.Name || string(got.Arguments) != `{"room":"a"}` || !got.Done ||
		reply.Usage.InputTokens != int64(message.UsageMetadata.PromptTokenCount) || reply.Usage.OutputTokens != int64(message.UsageMetadata.ResponseTokenCount) {
		t.Errorf("reply %+v, the SDK has %+v", reply, message)
	}
	if _, err := receive(session.SendToolResponse(genai.LiveToolResponseInput{FunctionResponses: []*genai.FunctionResponse{{ID: "c1", Name: "turn_on", Response: map[string]any{"result": "ok"}}}})); err != nil {
		t.Fatal(err)
	}
	_, err = receive(session.SendRealtimeInput(genai.LiveRealtimeInput{Audio: &genai.Blob{Data: []byte("x"), MIMEType: "audio/pcm"}}))
	if err == nil || !strings.Contains(err.Error(), "LIVE-001") {
		t.Errorf("the SDK has %v", err)
	}
	if want := []string{"", "setup", "clientContent", "toolResponse", "realtimeInput"}; !slices.Equal(methods, want) {
		t.Errorf("the messages are %q, want %q", methods, want)
	}
}

// Every member of a message that the SDK has a type for is known, in both spellings of its name.
func TestGoogleFields(t *testing.T) {
	post := func(path string) func(string) *llm.Call {
		return func(body string) *llm.Call {
			for i := range google.GeminiRows {
				row := &google.GeminiRows[i]
				method := row.Method
				if row.Method == http.MethodGet && row.RefuseMessage != nil {
					method = llm.MethodMessage
				}
				if vars, ok := row.Match(row.Method, path); ok && (row.Method == http.MethodPost || method == llm.MethodMessage) {
					return row.Decode(&llm.Request{Method: method, Path: path, Vars: vars, ContentType: "application/json", Body: []byte(body)}, llm.DefaultLimits())
				}
			}
			t.Fatalf("no row matches %s", path)
			return nil
		}
	}
	generate, live := post("/v1beta/models/m:generateContent"), post("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent")
	in := func(before, after string) func(string) string {
		return func(member string) string { return before + `{` + member + `}` + after }
	}
	part := func(name string) func(string) string {
		return in(`{"contents":[{"parts":[{"`+name+`":`, `}]}]}`)
	}
	for _, c := range []struct {
		message reflect.Type
		read    func(body string) *llm.Call
		body    func(member string) string
	}{
		{reflect.TypeFor[genai.GenerationConfig](), generate, in(`{"contents":[],"generationConfig":`, `}`)},
		{reflect.TypeFor[genai.Content](), generate, in(`{"contents":[`, `]}`)},
		{reflect.TypeFor[genai.Part](), generate, in(`{"contents":[{"parts":[`, `]}]}`)},
		{reflect.TypeFor[genai.Blob](), generate, part("inlineData")},
		{reflect.TypeFor[genai.FileData](), generate, part("fileData")},
		{reflect.TypeFor[genai.FunctionResponse](), generate, part("functionResponse")},
		{reflect.TypeFor[genai.FunctionResponsePart](), generate, in(`{"contents":[{"parts":[{"functionResponse":{"parts":[`, `]}}]}]}`)},
		{reflect.TypeFor[genai.CodeExecutionResult](), generate, part("codeExecutionResult")},
		{reflect.TypeFor[genai.ToolResponse](), generate, part("toolResponse")},
		{reflect.TypeFor[genai.ToolCall](), generate, part("toolCall")},
		{reflect.TypeFor[genai.LiveClientMessage](), live, in("", "")},
		{reflect.TypeFor[genai.LiveClientSetup](), live, in(`{"setup":`, `}`)},
		{reflect.TypeFor[genai.LiveClientContent](), live, in(`{"clientContent":`, `}`)},
		{reflect.TypeFor[genai.LiveClientRealtimeInput](), live, in(`{"realtimeInput":`, `}`)},
		{reflect.TypeFor[genai.LiveClientToolResponse](), live, in(`{"toolResponse":`, `}`)},
	} {
		for i := range c.message.NumField() {
			name, _, _ := strings.Cut(c.message.Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			call := c.read(c.body(`"` + name + `":null`))
			unknown := len(call.UnknownFields) > 0 || slices.ContainsFunc(call.Findings, func(f llm.Finding) bool { return f.Code == llm.FindingUnknownPart })
			for _, m := range call.Messages {
				unknown = unknown || slices.ContainsFunc(m.Parts, func(p llm.Part) bool { return p.Kind == llm.PartUnknown })
			}
			if unknown {
				t.Errorf("%s of %s is unknown: %+v", name, c.message.Name(), call)
			}
		}
	}
	// Each tool is one that the caller carries out, or of a class.
	tools := reflect.TypeFor[genai.Tool]()
	for i := range tools.NumField() {
		name, _, _ := strings.Cut(tools.Field(i).Tag.Get("json"), ",")
		call := generate(`{"contents":[],"tools":[{"` + name + `":{}}]}`)
		if len(call.Tools) != 1 || call.Tools[0].Class == llm.ServerToolOther && name != "googleMaps" {
			t.Errorf("%s is not known: %+v", name, call.Tools)
		}
	}
}

// The SDK raises a refusal as an error that shows the reason, after one call only; and the end of a stream that was cut.
func TestGoogleRefusal(t *testing.T) {
	check := func(err error) {
		t.Helper()
		var e genai.APIError
		if !errors.As(err, &e) || e.Code != http.StatusForbidden || e.Status != "PERMISSION_DENIED" {
			t.Fatalf("the SDK has %v", err)
		}
		wantRefusal(t, e.Message)
	}
	client, calls := googleClient(t, genai.BackendGeminiAPI, func(w http.ResponseWriter, _ *http.Request) {
		answer := google.Refuse(refusal)
		w.Header().Set("Content-Type", answer.ContentType)
		w.WriteHeader(answer.Status)
		w.Write(answer.Body)
	})
	_, err := client.Models.GenerateContent(context.Background(), "m", genai.Text("a"), nil)
	check(err)
	for _, err := range client.Models.GenerateContentStream(context.Background(), "m", genai.Text("a"), nil) {
		check(err)
	}
	if n := len(calls()); n != 2 {
		t.Errorf("%d calls for 2, so the SDK tries again", n)
	}

	response := golden.Files(t, "../../google/testdata/stream_generate_content/responses", "events.sse")["events"]
	client, _ = googleClient(t, genai.BackendGeminiAPI, func(w http.ResponseWriter, _ *http.Request) {
		watcher := google.Watch(llm.WatchOptions{Framing: llm.FramingSSE})
		watcher.Write(response)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(response)
		w.Write(watcher.End(refusal))
	})
	chunks := 0
	for _, err = range client.Models.GenerateContentStream(context.Background(), "m", genai.Text("a"), nil) {
		if err != nil {
			break
		}
		chunks++
	}
	check(err)
	if chunks == 0 {
		t.Error("nothing came before the end")
	}
}
