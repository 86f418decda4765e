package anthropic_test

import (
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
)

func TestDecode(t *testing.T) {
	golden.Requests(t, "testdata/requests", anthropic.Decode, llm.Request{})
}

func TestWatch(t *testing.T) { golden.Replies(t, "testdata/responses", anthropic.Watch) }

func FuzzDecode(f *testing.F) {
	golden.FuzzDecode(f, "testdata/requests", anthropic.Decode, llm.Request{})
}

func FuzzWatch(f *testing.F) { golden.FuzzWatch(f, "testdata/responses", anthropic.Watch) }
