package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// compatibleFields are members that servers which speak OpenAI's wire format take beside OpenAI's own on the surfaces that ask a model to
// write, as their documentation has them. OpenAI refuses them, so that they need not be told apart by host. What
// makes a server load code or reach another server (vLLM's logits_processors and kv_transfer_params) is not among them on purpose.
var compatibleFields = wire.Fields{
	// Azure OpenAI, "on your data".
	"data_sources": aList,

	// vLLM, and most of them others that run open models, too: sampling parameters and extra parameters.
	"add_generation_prompt":         aBool,
	"add_special_tokens":            aBool,
	"allowed_token_ids":             aList,
	"bad_words":                     aList,
	"best_of":                       anInteger,
	"cache_salt":                    aString,
	"chat_template":                 aString,
	"chat_template_kwargs":          anObject,
	"continue_final_message":        aBool,
	"echo":                          aBool,
	"guided_choice":                 aList,
	"guided_decoding_backend":       aString,
	"guided_grammar":                aString,
	"guided_json":                   {Kinds: wire.String | wire.Object | wire.Bool | wire.Null},
	"guided_regex":                  aString,
	"guided_whitespace_pattern":     aString,
	"ignore_eos":                    aBool,
	"include_stop_str_in_output":    aBool,
	"length_penalty":                aNumber,
	"min_p":                         aNumber,
	"min_tokens":                    anInteger,
	"mm_processor_kwargs":           anObject,
	"priority":                      anInteger,
	"prompt_logprobs":               anInteger,
	"repetition_penalty":            aNumber,
	"request_id":                    aString,
	"return_token_ids":              aBool,
	"return_tokens_as_token_ids":    aBool,
	"skip_special_tokens":           aBool,
	"spaces_between_special_tokens": aBool,
	"stop_token_ids":                aList,
	"structural_tag":                aString,
	"structured_outputs":            {Kinds: wire.Object | wire.Bool | wire.Null}, // OpenRouter has a bool of that name
	"top_k":                         anInteger,
	"truncate_prompt_tokens":        anInteger,
	"use_beam_search":               aBool,

	// Mistral.
	"prompt_mode": aString,
	"random_seed": anInteger,
	"safe_prompt": aBool,

	// Groq.
	"citation_options":        aString,
	"compound_custom":         anObject,
	"disable_tool_validation": aBool,
	"documents":               aList, // vLLM has it, too
	"exclude_domains":         aList,
	"include_domains":         aList,
	"include_reasoning":       aBool, // vLLM and OpenRouter have it, too
	"reasoning_format":        aString,
	"search_settings":         anObject,

	// DeepSeek.
	"thinking": anObject,

	// OpenRouter.
	"image_config": anObject,
	"models":       aList,
	"plugins":      aList,
	"preset":       aString,
	"provider":     anObject,
	"reasoning":    anObject,
	"route":        aString,
	"session_id":   aString,
	"top_a":        aNumber,
	"trace":        anObject,
	"transforms":   aList,
	"usage":        anObject,
}

// reads returns a set of the members that a surface reads, together with those of compatible servers that compatible reads whole.
func reads(names ...string) map[string]bool {
	read := map[string]bool{"models": true}
	for _, name := range names {
		read[name] = true
	}
	return read
}

// withCompatible returns a surface's members together with those of compatible servers.
func withCompatible(own wire.Fields) wire.Fields { return with(compatibleFields, own) }

// pluginTools are the classes of OpenRouter's plugins, which act on the call without being offered to the model.
var pluginTools = map[string]llm.ServerTool{
	"web":       llm.ServerToolWebSearch,
	"web_fetch": llm.ServerToolWebFetch,
}

// compatible reads a member of compatibleFields that decides something: models to fall back to and tools that the server carries out.
func (d decoder) compatible(name []byte, v strictjson.Value) {
	server := func(class llm.ServerTool) {
		d.call.Tools = append(d.call.Tools, llm.Tool{Name: string(name), Type: string(name), ServerSide: true, Class: class, Digest: d.Digest(v, cacheMarkers...)})
	}
	switch string(name) {
	case "models":
		for m := range v.Elements() {
			d.otherModel(m)
		}
	case "data_sources":
		for s := range v.Elements() {
			d.dataSource(s)
		}
	case "plugins":
		for p := range v.Elements() {
			id := d.Str(p.Get("id"))
			class, ok := pluginTools[id]
			if !ok {
				class = llm.ServerToolOther
			}
			d.call.Tools = append(d.call.Tools, llm.Tool{Name: id, Type: "plugin", ServerSide: true, Class: class, Digest: d.Digest(p, cacheMarkers...)})
			d.otherModel(p.Get("model"))
		}
	case "search_settings":
		if v.Kind() == strictjson.Object {
			server(llm.ServerToolWebSearch)
		}
	case "compound_custom":
		if v.Kind() == strictjson.Object {
			server(llm.ServerToolOther)
			for _, m := range v.Get("models").Members() {
				d.otherModel(m)
			}
		}
	}
}

// dataSource reads one of Azure's data_sources: a search index or database that the provider asks with what the caller says.
func (d decoder) dataSource(v strictjson.Value) {
	t := llm.Tool{Name: d.Str(v.Get("type")), Type: "data_source", ServerSide: true, Class: llm.ServerToolFileSearch, Digest: d.Digest(v, cacheMarkers...)}
	if endpoint := v.Get("parameters").Get("endpoint"); endpoint.Kind() != strictjson.Absent {
		t.URL = d.Str(endpoint)
		d.URL(endpoint)
	}
	d.call.Tools = append(d.call.Tools, t)
}
