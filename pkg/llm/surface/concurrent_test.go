package surface_test

import (
	"fmt"
	"sync"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

// Decoders share what they reuse, and a reply is asked for while the response is still coming: neither may mix calls up.
func TestConcurrentCalls(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			spec := surface.Lookup(surface.APIOpenAI, "POST", "/v1/chat/completions")
			for i := range 200 {
				want := fmt.Sprintf("text %d\n%d", g, i)
				call := spec.Decode(&llm.Request{ContentType: "application/json", Body: fmt.Appendf(nil, `{"model":"m%d","messages":[{"role":"user","content":%q}]}`, g, want)}, llm.DefaultLimits())
				if call.Model != fmt.Sprint("m", g) || len(call.Messages) != 1 || string(call.Messages[0].Parts[0].Text) != want || len(call.Findings) > 0 {
					t.Errorf("call %+v, want %q", call, want)
				}
			}
		}()
	}
	w := surface.Lookup(surface.APIAnthropic, "POST", "/v1/messages").Watch(llm.WatchOptions{ContentType: "text/event-stream"})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := range 200 {
			w.Write(fmt.Appendf(nil, "data: {\"type\":\"content_block_start\",\"index\":%d,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\"}}\n\n", i))
			w.Write(fmt.Appendf(nil, "data: {\"type\":\"content_block_stop\",\"index\":%d}\n\n", i))
			w.Write(fmt.Appendf(nil, "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":%d}}\n\n", i))
		}
	}()
	last := int64(0)
	for range 200 {
		r := w.Reply()
		if r.Usage.OutputTokens < last {
			t.Errorf("tokens fall from %d to %d", last, r.Usage.OutputTokens)
		}
		last = r.Usage.OutputTokens
		for i := range r.ToolCalls {
			r.ToolCalls[i].Name = "changed by the caller"
		}
	}
	wg.Wait()
	r := w.Reply()
	if r.Usage.OutputTokens != 199 || len(r.ToolCalls) != 200 || r.ToolCalls[0].Name != "f" {
		t.Errorf("reply %+v", r)
	}
}
