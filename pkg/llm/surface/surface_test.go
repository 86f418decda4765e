package surface_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/bedrock"
	"sallyport.dev/sallyport/pkg/llm/google"
	"sallyport.dev/sallyport/pkg/llm/openai"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		api, method, path string
		want              llm.Surface
	}{
		{surface.APIOpenAI, "POST", "/v1/chat/completions", openai.ChatCompletions},
		{surface.APIAnthropic, "POST", "/v1/messages", anthropic.Messages},
		{surface.APIAnthropic, "POST", "/v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/messages", llm.SurfaceUnknown},
		{surface.APIOpenAI, "PUT", "/v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "post", "/v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/completions/", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "//v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1//chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/V1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/Completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/completions?x=y", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/completions%2f", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/../chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/chat/completions/a/b", llm.SurfaceUnknown},
		{surface.APIOpenAI, "GET", "/v1/models/", llm.SurfaceUnknown},
		{surface.APIOpenAI, "GET", "/v1/models/a/b", llm.SurfaceUnknown},
		{surface.APIOpenAI, "POST", "/v1/organization/users", llm.SurfaceUnknown},
		{surface.APIAzureOpenAI, "POST", "/openai/deployments/d/chat/completions", openai.ChatCompletions},
		{surface.APIAzureOpenAI, "POST", "/openai/deployments//chat/completions", llm.SurfaceUnknown},
		{surface.APIAzureOpenAI, "POST", "/v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIGemini, "POST", "/v1beta/models/gemini-2.5-pro:generateContent", google.GenerateContent},
		{surface.APIGemini, "POST", "/v1beta/models/gemini-2.5-pro:generatecontent", llm.SurfaceUnknown},
		{surface.APIGemini, "POST", "/v1beta/models/:generateContent", llm.SurfaceUnknown},
		{surface.APIGemini, "POST", "/v1beta/models/a:b:generateContent", llm.SurfaceUnknown},
		{surface.APIGemini, "POST", "/v1beta/models/gemini-2.5-pro:generateContent:generateContent", llm.SurfaceUnknown},
		{surface.APIBedrock, "POST", "/model/anthropic.claude-sonnet-4-v1:0/converse", bedrock.ConverseSurface},
		{surface.APIBedrock, "POST", "/model//converse", llm.SurfaceUnknown},
		{surface.APIAnthropic, "POST", "/v1/messages\x00", llm.SurfaceUnknown},
		{"OpenAI", "POST", "/v1/chat/completions", llm.SurfaceUnknown},
		{surface.APIGemini, "POST", "/v1/messages", llm.SurfaceUnknown},
		{"", "", "", llm.SurfaceUnknown},
	} {
		s := surface.Lookup(c.api, c.method, c.path)
		if s.Surface != c.want || s.API != c.api {
			t.Errorf("%s %s %q: %s of %s, want %s", c.api, c.method, c.path, s.Surface, s.API, c.want)
		}
		call := s.Decode(&llm.Request{ContentType: "application/json", Body: []byte(`{}`)}, llm.DefaultLimits())
		if call.Surface != c.want || call.BodyBytes != 2 || (call.Operation == llm.OperationUnknown) != (c.want == llm.SurfaceUnknown) {
			t.Errorf("%s %q: call %+v", c.api, c.path, call)
		}
		for _, contentType := range []string{"text/event-stream", "application/json", ""} {
			w := s.Watch(llm.WatchOptions{ContentType: contentType})
			w.Write([]byte("data: {}\n\n"))
			w.Reply()
		}
		if a := s.Refuse(llm.Refusal{Rule: "X-1"}); a.Status != http.StatusForbidden || a.ContentType != "application/json" || !json.Valid(a.Body) {
			t.Errorf("%s %q: refusal %+v", c.api, c.path, a)
		}
	}
}

// The dialect of a refusal is the API's even where the path is unknown.
func TestRefusalOfUnknownSurface(t *testing.T) {
	body := surface.Lookup(surface.APIAnthropic, "POST", "/v1/secrets").Refuse(llm.Refusal{}).Body
	var e struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Type != "error" {
		t.Errorf("%s: %v", body, err)
	}
}
