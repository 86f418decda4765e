package google

import (
	"net/http"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// openAICompatible are the surfaces of OpenAI's API that Google answers, too.
var openAICompatible = []llm.Surface{openai.ChatCompletions, openai.Embeddings, openai.ImageGenerations, openai.Models}

// compatible returns the rows of OpenAI's API that a provider has below a path. What is sent, and how a refusal is answered, is OpenAI's.
func compatible(provider, prefix string) []llm.Row {
	var rows []llm.Row
	for _, row := range openai.Rows {
		path, ok := strings.CutPrefix(row.Path, "/v1/")
		if !ok || !slices.Contains(openAICompatible, row.Surface) || row.Method == http.MethodDelete {
			continue
		}
		decode, vars := row.Decode, strings.Count(row.Path, "{")
		row.Path = prefix + "/" + path
		row.Decode = func(r *llm.Request, lim llm.Limits) *llm.Call {
			below := *r
			below.Vars = r.Vars[max(0, len(r.Vars)-vars):] // those of the path below the prefix
			call := decode(&below, lim)
			call.Provider = provider
			settle(call, r)
			return call
		}
		rows = append(rows, row)
	}
	return rows
}
