package llm_test

import (
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		vars          []string
		ok            bool
	}{
		{"/v1/models", "/v1/models", nil, true},
		{"/v1/models", "/v1/models/", nil, false},
		{"", "", nil, true},
		{"", "/", nil, false},
		{"/v1/models/{model}", "/v1/models/m", []string{"m"}, true},
		{"/v1/models/{model}", "/v1/models/a:b%2Fc", []string{"a:b%2Fc"}, true},
		{"/v1/models/{model}", "/v1/models/", nil, false},
		{"/v1/models/{model}", "/v1/models", nil, false},
		{"/v1/models/{model}", "/v1/models/m/", nil, false},
		{"/v1/models/{model}", "/v1/models/m/x", nil, false},
		{"/v1/models/{model}", "v1/models/m", nil, false},
		{"/{a}/x/{b}", "/1/x/2", []string{"1", "2"}, true},
		{"/{a}/x/{b}", "/1/y/2", nil, false},
		{"/models/{model}:generate", "/models/m:generate", []string{"m"}, true},
		{"/models/{model}:generate", "/models/:generate", nil, false},
		{"/models/{model}:generate", "/models/a:b:generate", nil, false},
		{"/models/{model}:generate", "/models/m:generate:generate", nil, false},
		{"/models/{model}:generate", "/models/m:Generate", nil, false},
		{"/models/{model}:generate", "/models/generate", nil, false},
		{"/models/x-{model}-x", "/models/x-x", nil, false},
		{"/models/x-{model}-x", "/models/x-m-x", []string{"m"}, true},
		{"/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}", "/1/2/3/4/5/6/7/8/9", nil, false},
	} {
		row := &llm.Row{Method: "GET", Path: c.pattern}
		vars, ok := row.Match("GET", c.path)
		if ok != c.ok || !slices.Equal(vars, c.vars) {
			t.Errorf("%s, %s: %q, %v", c.pattern, c.path, vars, ok)
		}
		if _, ok := row.Match("get", c.path); ok {
			t.Errorf("%s matches another method", c.pattern)
		}
	}
}

func TestFraming(t *testing.T) {
	array := []llm.Framing{llm.FramingSSE, llm.FramingJSONArray}
	for _, c := range []struct {
		contentType string
		streams     []llm.Framing
		want        llm.Framing
	}{
		{"text/event-stream; charset=utf-8", nil, llm.FramingSSE},
		{"TEXT/event-stream", array, llm.FramingSSE},
		{"application/x-ndjson", nil, llm.FramingNDJSON},
		{"application/jsonl", nil, llm.FramingNDJSON},
		{"application/vnd.amazon.eventstream", nil, llm.FramingEventStream},
		{"application/json; charset=UTF-8", array, llm.FramingJSONArray},
		{"application/json", nil, llm.FramingNone},
		{"text/html", array, llm.FramingNone},
		{"", array, llm.FramingNone},
	} {
		row := &llm.Row{Streams: c.streams}
		if got := row.Framing(c.contentType); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.contentType, c.streams, got, c.want)
		}
	}
}
