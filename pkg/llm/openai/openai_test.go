package openai_test

import (
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

func TestDecode(t *testing.T) { golden.Requests(t, "testdata/requests", openai.Decode, llm.Request{}) }

func TestWatch(t *testing.T) { golden.Replies(t, "testdata/responses", openai.Watch) }

func FuzzDecode(f *testing.F) {
	golden.FuzzDecode(f, "testdata/requests", openai.Decode, llm.Request{})
}

func FuzzWatch(f *testing.F) { golden.FuzzWatch(f, "testdata/responses", openai.Watch) }
