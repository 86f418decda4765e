package google

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// generateFields are the members of a request for content, as in the public reference and in what the official SDKs send.
var generateFields = both(wire.Fields{
	"cachedContent":     text,
	"contents":          list,
	"continuationToken": text,
	"generationConfig":  object,
	"labels":            object,
	"model":             text,
	"modelArmorConfig":  object,
	"outputConfig":      object,
	"safetySettings":    list,
	"serviceTier":       {Kinds: wire.String | wire.Number | wire.Null},
	"store":             boolean,
	"systemInstruction": object,
	"toolConfig":        object,
	"tools":             list,
})

// countFields are those of a request to count tokens, of both APIs.
var countFields = both(wire.Fields{
	"contents":               list,
	"generateContentRequest": object,
	"generationConfig":       object,
	"instances":              list,
	"model":                  text,
	"systemInstruction":      object,
	"tools":                  list,
})

type decoder struct {
	*wire.Reader
	call *llm.Call
	// model is the path's, "" where it has none.
	model string
}

// read reads a request whose body is one JSON object.
func read(call *llm.Call, r *llm.Request, lim llm.Limits, fields wire.Fields, body func(d decoder, root strictjson.Value)) {
	rd := wire.Open(call, r.ContentType, r.Body, lim)
	defer rd.Close()
	d := decoder{rd, call, call.Model}
	root, ok := rd.Object(fields)
	if !ok {
		return
	}
	d.spellings(root)
	body(d, root)
}

// bodiless reads a request without a body.
func bodiless(call *llm.Call, r *llm.Request, lim llm.Limits) { wire.NoBody(call, r, lim) }

// overrides are headers by which a request can be another one than its first line says. Google's front ends heed the first.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// envelope reads what is around the body.
func envelope(call *llm.Call, r *llm.Request, query []string) {
	values := wire.Query(call, r, query)
	alt, dollar := values["alt"], values["$alt"]
	if alt != "" && dollar != "" && alt != dollar {
		call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingQuery, Detail: "alt and $alt ask for different forms of the response"})
	}
	for _, form := range []string{alt, dollar} {
		switch strings.ToLower(form) {
		case "", "json", "json;enum-encoding=int", "sse", "media":
		default:
			call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingQuery, Detail: "the response is asked for in a form that is not read"})
		}
	}
	settle(call, r)
}

// settle finds what makes the request another one than its method and path say.
func settle(call *llm.Call, r *llm.Request) {
	for _, name := range overrides {
		if _, ok := r.Header[name]; ok {
			call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingDuplicateKey, Detail: "a header says another method than the request"})
		}
	}
	for _, v := range r.Vars {
		// A colon begins a custom method that no row knows, and what an escape stands for is for nobody to say.
		if strings.ContainsAny(v, ":%") {
			call.Class, call.Operation = llm.ClassUnknown, llm.OperationUnknown
		}
	}
}

// generate reads a request for content.
func generate(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, generateFields, func(d decoder, root strictjson.Value) {
		d.generate(root)
		if get(root, "contents").Kind() == strictjson.Absent {
			d.Missing(root, "contents")
		}
	})
}

// count reads a request to count tokens.
func count(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, countFields, func(d decoder, root strictjson.Value) {
		d.generate(root)
		if g := get(root, "generateContentRequest"); g.Kind() == strictjson.Object {
			d.TopLevel(g, generateFields)
			d.generate(g)
		}
		for i := range each(get(root, "instances")) {
			d.instance(i)
		}
	})
}

// generate reads a request for content, or what of one is within another request. The types of its members have been checked.
func (d decoder) generate(root strictjson.Value) {
	d.Grow(get(root, "contents").Len() + 1)
	d.modelOf(get(root, "model"))
	for _, name := range []string{"responseFormat", "responseJsonSchema", "_responseJsonSchema", "responseSchema"} {
		d.Aside(llm.RoleSystem, get(get(root, "generationConfig"), name))
	}
	// The system instruction comes first, wherever the body has it.
	if v := get(root, "systemInstruction"); v.Kind() == strictjson.Object {
		d.content(v, llm.RoleSystem)
	}
	for c := range each(get(root, "contents")) {
		d.content(c, "")
	}
	for t := range each(get(root, "tools")) {
		d.tool(t)
	}
	d.config(get(root, "generationConfig"))
}

// modelOf reads the model that a body names. It must be the path's, where that names one.
func (d decoder) modelOf(v strictjson.Value) {
	name := modelName(d.Str(v))
	switch {
	case name == "":
	case d.model != "" && name != d.model:
		d.Find(llm.FindingDuplicateKey, v, "the body names another model than the path")
	case d.model == "" && d.call.Model == "":
		d.call.Model = name
	case d.model == "" && d.call.Model != name:
		d.call.OtherModels = append(d.call.OtherModels, name)
	}
}

// modelName returns the name that a model has in a path, for the name of its resource: "gemini-2.5-flash" for "models/gemini-2.5-flash" and for
// "projects/p/locations/l/publishers/google/models/gemini-2.5-flash". Names of other resources stay as they are.
func modelName(resource string) string {
	if i := strings.Index(resource, "publishers/"); i == 0 || i > 0 && resource[i-1] == '/' {
		if _, after, ok := strings.Cut(resource[i:], "/models/"); ok {
			return after
		}
	}
	return strings.TrimPrefix(resource, "models/")
}

var configNames = known("temperature", "maxOutputTokens",
	"audioTimestamp", "audioTranscriptionConfig", "candidateCount", "enableAffectiveDialog", "enableEnhancedCivicAnswers", "frequencyPenalty", "imageConfig", "logprobs",
	"mediaResolution", "modelConfig", "modelSelectionConfig", "presencePenalty", "responseFormat", "responseJsonSchema", "_responseJsonSchema", "responseLogprobs",
	"responseMimeType", "responseModalities", "responseSchema", "routingConfig", "seed", "speechConfig", "stopSequences", "thinkingConfig", "topK", "topP",
	"translationConfig")

// config reads generationConfig. Members of it that are unknown are among the call's unknown fields.
func (d decoder) config(v strictjson.Value) {
	if !d.Want(v, wire.Object|wire.Null) {
		return
	}
	for k, m := range v.Members() {
		switch d.name(k, configNames) {
		case "temperature":
			if f := d.float(m); f != nil {
				d.call.Temperature = f
			}
		case "maxOutputTokens":
			if n := d.integer(m); n != nil {
				d.call.MaxTokens = n
			}
		case "":
			wire.Unknown(d.call, "generationConfig."+string(k.Text()))
		}
	}
}
