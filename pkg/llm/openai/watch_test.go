package openai_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// A tool call is complete with the frame after which nothing changes it, and not before.
func TestDone(t *testing.T) {
	for _, c := range []struct {
		dir, file string
		watch     golden.Watch
		want      []string // the complete calls, and how many are open, after each frame at which that changes
	}{
		{"chat_completions/responses", "tool_calls.sse", openai.Watch, []string{"[] 1", "[read_file] 1", "[read_file shéll] 0"}},
		{"responses/responses", "tool_calls.sse", openai.WatchResponses,
			[]string{"[] 1", "[get_weather] 0", "[get_weather] 1", "[get_weather sql] 0", "[get_weather sql] 1", "[get_weather sql ask] 0", "[get_weather sql ask] 1", "[get_weather sql ask web_search] 0"}},
		{"realtime/responses", "session.ws", openai.WatchRealtime, []string{"[] 1", "[f] 0", "[f] 1"}},
	} {
		text := golden.Files(t, "testdata/"+c.dir, c.file)[strings.TrimSuffix(strings.TrimSuffix(c.file, ".sse"), ".ws")]
		o, end := llm.WatchOptions{Framing: llm.FramingSSE, Arguments: 4096}, "\n\n"
		if strings.HasSuffix(c.file, ".ws") {
			o.Framing, end = llm.FramingWebSocket, "\n"
		}
		w := c.watch(o)
		var got []string
		for frame := range bytes.SplitAfterSeq(text, []byte(end)) {
			w.Write(frame)
			done, open := []string{}, 0
			for _, call := range w.Reply().ToolCalls {
				if call.Done {
					done = append(done, call.Name)
				} else {
					open++
				}
			}
			if state := fmt.Sprint(done, " ", open); state != "[] 0" && (len(got) == 0 || got[len(got)-1] != state) {
				got = append(got, state)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s/%s: %q, want %q", c.dir, c.file, got, c.want)
		}
	}
}

// A call without a name is seen, and is not complete before it has one.
func TestUnnamed(t *testing.T) {
	for name, c := range map[string]struct {
		watch  golden.Watch
		events []string
	}{
		"chat":      {openai.Watch, []string{`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}`}},
		"responses": {openai.WatchResponses, []string{`{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{}"}`}},
		"realtime":  {openai.WatchRealtime, []string{`{"type":"response.function_call_arguments.delta","response_id":"r","output_index":0,"delta":"{}"}`}},
	} {
		w := c.watch(llm.WatchOptions{Framing: llm.FramingWebSocket, Arguments: 100})
		for _, e := range c.events {
			w.Write([]byte(e))
		}
		calls := w.Reply().ToolCalls
		if len(calls) != 1 || calls[0].Name == "" || calls[0].Done || string(calls[0].Arguments) != "{}" {
			t.Errorf("%s: %+v", name, calls)
		}
	}
}

// A call that has no name when it is complete, or one that is too long, is told, and said to be incomplete.
func TestCompleteWithoutName(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		watch golden.Watch
		body  string
	}{
		"chat":           {openai.Watch, `{"choices":[{"message":{"tool_calls":[{"id":"1","function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`},
		"chat, long":     {openai.Watch, `{"choices":[{"message":{"tool_calls":[{"id":"1","function":{"name":"` + long + `","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`},
		"responses":      {openai.WatchResponses, `{"status":"completed","output":[{"type":"function_call","arguments":"{}"}]}`},
		"responses, one": {openai.WatchResponses, `{"type":"response.output_item.done","item":{"type":"custom_tool_call","name":"` + long + `","input":"x"}}`},
	} {
		w := c.watch(llm.WatchOptions{ContentType: "application/json", Arguments: 100})
		w.Write([]byte(c.body))
		if calls := w.Reply().ToolCalls; len(calls) != 1 || calls[0].Name != "unnamed" || !calls[0].Truncated || !calls[0].Done {
			t.Errorf("%s: %+v", name, calls)
		}
	}
}

// Arguments that are longer than is kept are not kept in part.
func TestLongArguments(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		watch golden.Watch
		body  string
	}{
		"chat":      {openai.Watch, `{"choices":[{"message":{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"` + long + `"}}]}}]}`},
		"responses": {openai.WatchResponses, `{"status":"completed","output":[{"type":"function_call","name":"f","arguments":"` + long + `"},{"type":"shell_call","action":{"commands":["` + long + `"]}}]}`},
		"realtime":  {openai.WatchRealtime, `{"type":"response.function_call_arguments.done","name":"f","arguments":"` + long + `"}`},
	} {
		w := c.watch(llm.WatchOptions{ContentType: "application/json", Arguments: 1000})
		w.Write([]byte(c.body))
		calls := w.Reply().ToolCalls
		if len(calls) == 0 {
			t.Errorf("%s: no calls", name)
		}
		for _, call := range calls {
			if !call.Truncated || len(call.Arguments) > 0 {
				t.Errorf("%s: %d bytes of arguments, truncated %t", name, len(call.Arguments), call.Truncated)
			}
		}
	}
}

// Over a WebSocket it is known whether a response is under way.
func TestTurns(t *testing.T) {
	for name, c := range map[string]struct {
		watch    golden.Watch
		messages []string // "!" before those after which none is
	}{
		"realtime": {openai.WatchRealtime, []string{`!{"type":"session.created"}`, `!{"type":"conversation.item.added"}`, `{"type":"response.created","response":{"id":"a"}}`,
			`{"type":"response.created","response":{"id":"b"}}`, `{"type":"error","error":{}}`, `{"type":"response.done","response":{"id":"b"}}`, `{"type":"rate_limits.updated"}`,
			`{"type":"response.output_text.delta","response_id":"a"}`, `!{"type":"response.done","response":{"id":"a"}}`, `{"type":"response.output_audio.delta","response_id":"c"}`}},
		"responses": {openai.WatchResponses, []string{`{"type":"response.created","response":{"id":"a"}}`, `{"type":"response.output_text.delta"}`, `!{"type":"response.completed","response":{"id":"a"}}`,
			`{"type":"response.in_progress"}`, `!{"type":"response.failed"}`, `{"type":"response.queued"}`, `!{"type":"response.incomplete"}`, `{"type":"response.created"}`, `!{"type":"error"}`,
			`{"type":"response.created","stream_id":"1"}`, `{"type":"response.created","stream_id":"2"}`, `{"type":"response.completed","stream_id":"1"}`, `!{"type":"response.completed","stream_id":"2"}`}},
	} {
		w, ok := c.watch(llm.WatchOptions{Framing: llm.FramingWebSocket}).(llm.TurnWatcher)
		if !ok {
			t.Fatalf("%s: no turns", name)
		}
		for i, m := range c.messages {
			message, none := strings.CutPrefix(m, "!")
			w.Write([]byte(message))
			if w.InTurn() == none {
				t.Errorf("%s: %t after message %d, %s", name, w.InTurn(), i, message)
			}
		}
	}
	w := openai.WatchRealtime(llm.WatchOptions{Framing: llm.FramingWebSocket}).(llm.TurnWatcher)
	for i := range 1000 { // more than are told apart
		fmt.Fprintf(writer{w}, `{"type":"response.created","response":{"id":"%d"}}`, i)
	}
	for i := range 1000 {
		fmt.Fprintf(writer{w}, `{"type":"response.done","response":{"id":"%d"}}`, i)
	}
	if !w.InTurn() {
		t.Error("all have ended, though not all were told apart")
	}
	for name, watch := range map[string]llm.Watcher{
		"translations": openai.WatchTranslations(llm.WatchOptions{Framing: llm.FramingWebSocket}),
		"events":       openai.WatchResponses(llm.WatchOptions{Framing: llm.FramingSSE}),
	} {
		if _, ok := watch.(llm.TurnWatcher); ok {
			t.Errorf("%s have turns", name)
		}
	}
}

type writer struct{ w llm.Watcher }

func (w writer) Write(p []byte) (int, error) { w.w.Write(p); return len(p), nil }

// Every form of a stream has its own end, and what is no stream has none.
func TestEnd(t *testing.T) {
	refusal := llm.Refusal{DecisionID: "01J", Rule: "X-1", Message: "No."}
	for _, c := range []struct {
		watch   golden.Watch
		framing llm.Framing
		begin   string
	}{
		{openai.Watch, llm.FramingSSE, `data: {"error":{"message":"`},
		{openai.Watch, llm.FramingNone, ""},
		{openai.WatchUsage, llm.FramingSSE, `data: {"error":{"message":"`},
		{openai.WatchResponses, llm.FramingSSE, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":8,"},
		{openai.WatchResponses, llm.FramingWebSocket, `{"type":"error","status":403,"error":{"message":"`},
		{openai.WatchResponses, llm.FramingNone, ""},
		{openai.WatchRealtime, llm.FramingWebSocket, `{"type":"error","event_id":"event_01J","error":{"message":"`},
	} {
		w := c.watch(llm.WatchOptions{ContentType: "application/json", Framing: c.framing})
		w.Write([]byte("data: {\"type\":\"response.in_progress\",\"sequence_number\":7}\n\n"))
		end := string(w.End(refusal))
		if !strings.HasPrefix(end, c.begin) || c.begin == "" && end != "" {
			t.Errorf("%s ends with %q, want %q", c.framing, end, c.begin)
		}
		if end != "" && !strings.Contains(end, "decision 01J") {
			t.Errorf("%q lacks the decision", end)
		}
		if c.framing == llm.FramingSSE && !strings.HasSuffix(end, "\n\n") {
			t.Errorf("%q ends within an event", end)
		}
	}
}

// A response is known by its id as soon as that was read, however the bytes come.
func TestAnswered(t *testing.T) {
	const event = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\"}}\n\n"
	for name, c := range map[string]struct {
		framing    llm.Framing
		text, want string
	}{
		"whole":           {text: `{"id":"resp_1","object":"response","status":"completed","model":"m","output":[{"type":"message","id":"msg_1"}]}`, want: "resp_1"},
		"stream":          {framing: llm.FramingSSE, text: event, want: "resp_1"},
		"message":         {framing: llm.FramingWebSocket, text: `{"type":"response.created","response":{"id":"resp_1"}}`, want: "resp_1"},
		"an error":        {text: `{"error":{"message":"no","type":"invalid_request_error"}}`},
		"no id":           {text: `{"id":null,"object":"response","output":[]}`},
		"not a string":    {text: `{"id":{"id":"resp_1"},"object":"response","output":[]}`},
		"an item's alone": {framing: llm.FramingSSE, text: "data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\"}}\n\n"},
	} {
		for _, size := range []int{1, 7, len(c.text)} {
			if c.framing == llm.FramingWebSocket && size < len(c.text) {
				continue
			}
			got := ""
			w := openai.WatchResponses(llm.WatchOptions{Framing: c.framing, Answered: func(id string) { got = id }})
			for piece := range slices.Chunk([]byte(c.text), size) {
				w.Write(piece)
			}
			if got != c.want {
				t.Errorf("%s, %d bytes at a time: %q, want %q", name, size, got, c.want)
			}
		}
	}
}

func TestHistory(t *testing.T) {
	for body, want := range map[string]string{
		`{"model":"m","input":"x"}`:                                                         "",
		`{"model":"m","input":"x","previous_response_id":null}`:                             "",
		`{"model":"m","input":"x","previous_response_id":"resp_1"}`:                         "resp_1",
		`{"model":"m","input":"x","conversation":"conv_1"}`:                                 "conv_1",
		`{"model":"m","input":"x","conversation":{"id":"conv_1"}}`:                          "conv_1",
		`{"model":"m","input":"x","conversation":{"id":7}}`:                                 "",
		`{"model":"m","input":"x","conversation":null,"previous_response_id":"resp_1"}`:     "resp_1",
		`{"model":"m","input":"x","previous_response_id":"resp_\u0031","metadata":{}}`:      "resp_1",
		`{"model":"m","input":[{"type":"message","role":"user","content":"conversation"}]}`: "",
	} {
		call := openai.DecodeResponses(&llm.Request{Method: "POST", ContentType: "application/json", Body: []byte(body)}, llm.DefaultLimits())
		if call.History != want {
			t.Errorf("%s: %q, want %q", body, call.History, want)
		}
	}
}
