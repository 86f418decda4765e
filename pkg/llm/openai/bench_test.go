package openai_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// conversation returns a body of about size bytes: turns of an agent that reads source code with a tool, half of it text with the escapes
// that code has.
func conversation(size int) []byte {
	line := "\tif err := run(ctx, \\\"name\\\", opts...); err != nil { // wraps once, what was being done\\n"
	var b bytes.Buffer
	b.WriteString(`{"model":"gpt-4o","stream":true,"temperature":0.2,"max_completion_tokens":4096,"tools":[{"type":"function","function":{"name":"read_file","description":"Reads a file.","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}],"messages":[{"role":"system","content":"You are a coding agent."}`)
	for i := 0; b.Len() < size-60; i++ {
		turn := min(4000, size-b.Len()-250)
		fmt.Fprintf(&b, `,{"role":"assistant","content":null,"tool_calls":[{"id":"call_%d","type":"function","function":{"name":"read_file","arguments":"{\"path\":\"file%d.go\"}"}}]}`, i, i)
		fmt.Fprintf(&b, `,{"role":"tool","tool_call_id":"call_%d","content":"%s"}`, i, strings.ReplaceAll(strings.Repeat(line, max(1, turn/len(line))), "\t", "\\t"))
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

type chat struct {
	Model    string  `json:"model"`
	Stream   bool    `json:"stream"`
	Max      *int64  `json:"max_completion_tokens"`
	Temp     float64 `json:"temperature"`
	Messages []struct {
		Role      string `json:"role"`
		Content   any    `json:"content"`
		ID        string `json:"tool_call_id"`
		ToolCalls []struct {
			ID       string `json:"id"`
			Function struct {
				Name      string `json:"name"`
				Arguments string `json:"arguments"`
			} `json:"function"`
		} `json:"tool_calls"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name       string          `json:"name"`
			Parameters json.RawMessage `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
}

var sizes = []int{1 << 10, 10 << 10, 900 << 10}

func BenchmarkDecode(b *testing.B) {
	for _, size := range sizes {
		body := conversation(size)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if c := openai.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits()); len(c.Findings) > 0 || len(c.Messages) == 0 {
					b.Fatalf("%+v", c.Findings)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(float64(len(body))/1024), "ns/KB")
		})
	}
}

// BenchmarkEncodingJSON is what the same costs with encoding/json, which checks less and takes no digests.
func BenchmarkEncodingJSON(b *testing.B) {
	for _, size := range sizes {
		body := conversation(size)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var c chat
				if err := json.Unmarshal(body, &c); err != nil || len(c.Messages) == 0 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(float64(len(body))/1024), "ns/KB")
		})
	}
}

func BenchmarkWatch(b *testing.B) {
	chunk := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":" some words"},"logprobs":null,"finish_reason":null}]}` + "\n\n")
	w := openai.Watch(llm.WatchOptions{ContentType: "text/event-stream"})
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		w.Write(chunk)
	}
}
