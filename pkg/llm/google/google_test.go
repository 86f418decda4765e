package google_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/google"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

// find returns the row at a method and a path, which the table must have, and what its variables match.
func find(t testing.TB, rows []llm.Row, method, path string) (*llm.Row, []string) {
	t.Helper()
	for i := range rows {
		if vars, ok := rows[i].Match(method, path); ok {
			return &rows[i], vars
		}
	}
	t.Fatalf("no row matches %s %s", method, path)
	return nil, nil
}

var (
	vertex   = "/v1/projects/p/locations/us-east5"
	surfaces = map[string]struct {
		rows         []llm.Row
		method, path string
		message      bool
	}{
		"generate_content":        {google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:generateContent", false},
		"stream_generate_content": {google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", false},
		"count_tokens":            {google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:countTokens", false},
		"embed_content":           {google.GeminiRows, "POST", "/v1beta/models/gemini-embedding-001:embedContent", false},
		"batch_embed_contents":    {google.GeminiRows, "POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents", false},
		"predict":                 {google.VertexRows, "POST", vertex + "/publishers/google/models/imagen-4.0-generate-001:predict", false},
		"predict_long_running":    {google.GeminiRows, "POST", "/v1beta/models/veo-3.0-generate-001:predictLongRunning", false},
		"gemini_predict":          {google.GeminiRows, "POST", "/v1beta/models/imagen-4.0-generate-001:predict", false},
		"file_search_stores":      {google.GeminiRows, "POST", "/v1beta/fileSearchStores", false},
		"openai_chat_completions": {google.GeminiRows, "POST", "/v1beta/openai/chat/completions", false},

		"vertex_generate_content":        {google.VertexRows, "POST", vertex + "/publishers/google/models/gemini-2.5-flash:generateContent", false},
		"vertex_stream_generate_content": {google.VertexRows, "POST", vertex + "/publishers/google/models/gemini-2.5-flash:streamGenerateContent", false},
		"vertex_count_tokens":            {google.VertexRows, "POST", vertex + "/publishers/google/models/gemini-2.5-flash:countTokens", false},
		"vertex_embed_content":           {google.VertexRows, "POST", vertex + "/publishers/google/models/gemini-embedding-2-preview:embedContent", false},
		"vertex_predict_long_running":    {google.VertexRows, "POST", vertex + "/publishers/google/models/veo-3.0-generate-001:predictLongRunning", false},
		"vertex_endpoint":                {google.VertexRows, "POST", vertex + "/endpoints/1234:generateContent", false},
		"vertex_live":                    {google.VertexRows, "GET", "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", true},
		"vertex_cached_contents":         {google.VertexRows, "POST", vertex + "/cachedContents", false},
		"vertex_batch_prediction_jobs":   {google.VertexRows, "POST", vertex + "/batchPredictionJobs", false},

		"live":                   {google.GeminiRows, "GET", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", true},
		"cached_contents":        {google.GeminiRows, "POST", "/v1beta/cachedContents", false},
		"batches":                {google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent", false},
		"files":                  {google.GeminiRows, "POST", "/upload/v1beta/files", false},
		"tuning_jobs":            {google.VertexRows, "POST", vertex + "/tuningJobs", false},
		"anthropic_messages":     {google.VertexRows, "POST", vertex + "/publishers/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict", false},
		"anthropic_count_tokens": {google.VertexRows, "POST", vertex + "/publishers/anthropic/models/count-tokens:rawPredict", false},
	}
)

// surface returns how a surface reads, and a request to it without body.
func surface(t testing.TB, name string) (golden.Decode, llm.Request) {
	t.Helper()
	s := surfaces[name]
	row, vars := find(t, s.rows, s.method, s.path)
	base := llm.Request{Method: s.method, Path: s.path, Vars: vars}
	if s.message {
		base.Method = llm.MethodMessage
	}
	return row.Decode, base
}

func TestDecode(t *testing.T) {
	for name := range surfaces {
		t.Run(name, func(t *testing.T) {
			decode, base := surface(t, name)
			golden.Requests(t, "testdata/"+name+"/requests", decode, base)
		})
	}
}

func TestWatch(t *testing.T) {
	for _, dir := range []string{"generate_content", "stream_generate_content", "live"} {
		t.Run(dir, func(t *testing.T) { golden.Replies(t, "testdata/"+dir+"/responses", google.Watch) })
	}
}

var variable = regexp.MustCompile(`\{[a-z]+\}`)

// Every row is found at its own path, reads a request, refuses, and finds an unknown parameter and an overridden method.
func TestRows(t *testing.T) {
	for provider, rows := range map[string][]llm.Row{google.Provider: google.GeminiRows, google.VertexProvider: google.VertexRows} {
		for i := range rows {
			row := &rows[i]
			path := variable.ReplaceAllString(row.Path, "x1")
			first, vars := find(t, rows, row.Method, path)
			if first != row {
				t.Errorf("%s %s is hidden by %s", row.Method, row.Path, first.Path)
			}
			if !slices.IsSorted(row.Query) {
				t.Errorf("%s %s: the query's names are not sorted", row.Method, row.Path)
			}
			query := ""
			if slices.Contains(row.Query, "key") { // all but OpenAI's
				query = "key=k"
			}
			call := row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: vars, Query: query}, llm.DefaultLimits())
			if call.Provider != provider || call.Surface != row.Surface || call.Class != row.Class || len(call.UnknownFields) > 0 {
				t.Errorf("%s %s: %+v", row.Method, row.Path, call)
			}
			if row.Method != http.MethodPost && row.Method != http.MethodPatch && len(call.Findings) > 0 {
				t.Errorf("%s %s without a body: %+v", row.Method, row.Path, call.Findings)
			}
			call = row.Decode(&llm.Request{
				Method: row.Method, Path: path, Vars: vars, Query: "$httpMethod=DELETE", ContentType: "application/json", Body: []byte(`{"hidden_thing":{}}`),
				Header: http.Header{"X-Http-Method-Override": {"DELETE"}, "X-Goog-Upload-Command": {"start"}},
			}, llm.DefaultLimits())
			if len(call.Findings) == 0 || !slices.Contains(call.UnknownFields, "?$httpMethod") || call.BodyBytes != 19 {
				t.Errorf("%s %s: %+v", row.Method, row.Path, call)
			}
			if a := row.Refuse(llm.Refusal{Rule: "R-1"}); a.Status != http.StatusForbidden || !json.Valid(a.Body) || row.Watch == nil {
				t.Errorf("%s %s: refusal %+v", row.Method, row.Path, a)
			}
			if slices.Contains(row.Streams, llm.FramingWebSocket) != (row.RefuseMessage != nil) {
				t.Errorf("%s %s: a WebSocket's messages can be refused, and nothing else", row.Method, row.Path)
			}
		}
	}
}

// A custom method that no row knows is of the class unknown, also where a row without a colon matches it, and so is an escape in a name.
func TestUnknownMethods(t *testing.T) {
	for _, c := range []struct {
		rows         []llm.Row
		method, path string
	}{
		{google.GeminiRows, "GET", "/v1beta/models/gemini-2.5-flash:invent"},
		{google.GeminiRows, "GET", "/v1beta/files/abc:share"},
		{google.GeminiRows, "POST", "/v1beta/models/a%2Fb:generateContent"},
		{google.VertexRows, "GET", "/v1/projects/p/locations/l/tuningJobs/1:steal"},
		{google.VertexRows, "POST", "/v1/projects/p%2Fx/locations/l/publishers/anthropic/models/claude:rawPredict"},
	} {
		row, vars := find(t, c.rows, c.method, c.path)
		call := row.Decode(&llm.Request{Method: c.method, Path: c.path, Vars: vars}, llm.DefaultLimits())
		if call.Class != llm.ClassUnknown || call.Operation != llm.OperationUnknown {
			t.Errorf("%s: %+v", c.path, call)
		}
	}
	for _, c := range []struct {
		rows         []llm.Row
		method, path string
	}{
		{google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:invent"},
		{google.GeminiRows, "POST", "/v1beta/models/gemini:2.5:generateContent"},
		{google.GeminiRows, "POST", "/v1beta/interactions"},
		{google.GeminiRows, "POST", "/v1beta/models/gemini-2.5-flash:generateContent/"},
		{google.VertexRows, "POST", "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict"},
		{google.VertexRows, "POST", "/v1/projects/p/locations/l/publishers/anthropic/models/m:predict"},
	} {
		for i := range c.rows {
			if _, ok := c.rows[i].Match(c.method, c.path); ok {
				t.Errorf("%s is matched by %s", c.path, c.rows[i].Path)
			}
		}
	}
}

// A handshake is read as such, and a message that a session refuses is answered with an error.
func TestHandshake(t *testing.T) {
	path := surfaces["live"].path
	row, _ := find(t, google.GeminiRows, "GET", path)
	call := row.Decode(&llm.Request{Method: "GET", Path: path, Query: "key=k"}, llm.DefaultLimits())
	if len(call.Findings)+len(call.UnknownFields) > 0 || call.Operation != llm.OperationRealtime || !call.Stream || call.RPCMethod != "" {
		t.Errorf("%+v", call)
	}
	if m := row.RefuseMessage(llm.Refusal{Rule: "R-1"}); !json.Valid(m) || !bytes.HasPrefix(m, []byte(`{"error":{"code":403,`)) {
		t.Errorf("%s", m)
	}
}

// However a stream is framed, what ends it is an error object that leaves the whole well-formed.
// Of a session it is known whether the model's turn is under way. A call of tools ends one: the model waits for what they say.
func TestTurns(t *testing.T) {
	w, ok := google.Watch(llm.WatchOptions{Framing: llm.FramingWebSocket}).(llm.TurnWatcher)
	if !ok {
		t.Fatal("a session has no turns")
	}
	for _, m := range []string{ // "!" before those after which none is
		`!{"setupComplete":{}}`, `!{"serverContent":{"inputTranscription":{"text":"hi"}}}`, `{"serverContent":{"modelTurn":{"parts":[{"text":"a"}]}}}`, `{"usageMetadata":{}}`,
		`{"serverContent":{"generationComplete":true}}`, `!{"serverContent":{"turnComplete":true}}`, `!{"goAway":{}}`,
		`!{"serverContent":{"modelTurn":{"parts":[{"text":"a"}]},"turnComplete":true}}`, `{"serverContent":{"turnComplete":false,"outputTranscription":{"text":"a"}}}`, `!{"serverContent":{"interrupted":true}}`,
		`{"serverContent":{"modelTurn":{}}}`, `!{"toolCall":{"functionCalls":[{"name":"f","args":{}}]}}`, `{"toolCall":{"functionCalls":[{"name":"f","willContinue":true}]}}`,
		`!{"toolCall":{"functionCalls":[{}]}}`, `{"serverContent":{"modelTurn":{}}}`, `!{"error":{"code":500}}`,
	} {
		message, none := strings.CutPrefix(m, "!")
		w.Write([]byte(message))
		if w.InTurn() == none {
			t.Errorf("%t after %s", w.InTurn(), message)
		}
	}
	if _, ok := google.Watch(llm.WatchOptions{Framing: llm.FramingSSE}).(llm.TurnWatcher); ok {
		t.Error("a stream of events has turns")
	}
}

func TestEnd(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "d-1", Rule: "R-1", Message: "No."}
	chunk := `{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}`
	for _, c := range []struct {
		framing llm.Framing
		sent    string
	}{
		{llm.FramingJSONArray, ""},
		{llm.FramingJSONArray, "[" + chunk},
		{llm.FramingJSONArray, "[" + chunk + ",\r\n" + chunk},
	} {
		w := google.Watch(llm.WatchOptions{ContentType: "application/json", Framing: c.framing})
		w.Write([]byte(c.sent))
		var all []struct {
			Error *struct {
				Code    int
				Status  string
				Message string
			}
		}
		whole := c.sent + string(w.End(refusal))
		if err := json.Unmarshal([]byte(whole), &all); err != nil || all[len(all)-1].Error == nil || all[len(all)-1].Error.Code != 403 {
			t.Errorf("%s: %v", whole, err)
		}
	}
	w := google.Watch(llm.WatchOptions{Framing: llm.FramingSSE})
	if end := string(w.End(refusal)); !strings.HasPrefix(end, `data: {"error":{"code":403,`) || !strings.HasSuffix(end, "}}\n\n") {
		t.Errorf("%q", end)
	}
	w = google.Watch(llm.WatchOptions{ContentType: "application/json"})
	if end := w.End(refusal); end != nil {
		t.Errorf("one JSON text ends with %q", end)
	}
}

// An array whose framing nobody said is read like one that is framed.
func TestArrayWithoutFraming(t *testing.T) {
	body := golden.Files(t, "testdata/stream_generate_content/responses", "array.array.json")["array.array"]
	plain, framed := google.Watch(llm.WatchOptions{ContentType: "application/json"}), google.Watch(llm.WatchOptions{Framing: llm.FramingJSONArray})
	plain.Write(body)
	framed.Write(body)
	if a, b := plain.Reply(), framed.Reply(); a.Usage != b.Usage || a.FinishReason != b.FinishReason || a.Usage.InputTokens == 0 {
		t.Errorf("%+v, %+v", a, b)
	}
}

// Calls that cannot be told in full are told nevertheless, and said to be incomplete.
func TestIncompleteCalls(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, c := range []struct{ part, name string }{
		{`{"functionCall":{"args":{}}}`, "unnamed"},
		{`{"functionCall":{"name":"` + long + `","args":{}}}`, "unnamed"},
		{`{"functionCall":{"name":"f","args":{"a":"` + long + `"}}}`, "f"},
		{`{"functionCall":{"name":"f","args":{"a":"` + long[:100] + `"}}}`, "f"},
		{`{"functionCall":{"name":"f","partialArgs":[{"jsonPath":"$.a"}]}}`, "f"},
		{`{"executableCode":{"code":"` + long + `"}}`, "code_execution"},
	} {
		w := google.Watch(llm.WatchOptions{ContentType: "application/json", Arguments: 64})
		w.Write([]byte(`{"candidates":[{"content":{"parts":[` + c.part + `]}}]}`))
		calls := w.Reply().ToolCalls
		if len(calls) != 1 || calls[0].Name != c.name || !calls[0].Truncated || !calls[0].Done || len(calls[0].Arguments) > 64 {
			t.Errorf("%.80s: %+v", c.part, calls)
		}
	}
}

func FuzzDecode(f *testing.F) { fuzz(f, "generate_content") }

func FuzzDecodeCount(f *testing.F) { fuzz(f, "count_tokens") }

func FuzzDecodePredict(f *testing.F) { fuzz(f, "predict") }

func FuzzDecodeLive(f *testing.F) { fuzz(f, "live") }

func FuzzDecodeBatch(f *testing.F) { fuzz(f, "batches") }

func FuzzDecodeEmbed(f *testing.F) { fuzz(f, "batch_embed_contents") }

func FuzzDecodeAnthropic(f *testing.F) { fuzz(f, "anthropic_messages") }

func fuzz(f *testing.F, name string) {
	decode, base := surface(f, name)
	golden.FuzzDecode(f, "testdata/"+name+"/requests", decode, base)
}

func FuzzWatch(f *testing.F) {
	golden.FuzzWatch(f, "testdata/stream_generate_content/responses", google.Watch)
}

// Anthropic's models answer as Anthropic does.
func TestAnthropicDialect(t *testing.T) {
	row, _ := find(t, google.VertexRows, "POST", surfaces["anthropic_messages"].path)
	r := llm.Refusal{Rule: "R-1"}
	if got, want := row.Refuse(r), anthropic.Refuse(r); !bytes.Equal(got.Body, want.Body) {
		t.Errorf("%s", got.Body)
	}
}
