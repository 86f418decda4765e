package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// The members of the requests that ask with one text, or a list of them.
var (
	completionFields = withCompatible(wire.Fields{
		"best_of":           anInteger,
		"echo":              aBool,
		"frequency_penalty": aNumber,
		"logit_bias":        anObject,
		"logprobs":          anInteger,
		"max_tokens":        anInteger,
		"model":             {Kinds: wire.String},
		"n":                 anInteger,
		"presence_penalty":  aNumber,
		"prompt":            aStringOrList,
		"response_format":   anObject, // vLLM
		"seed":              anInteger,
		"stop":              aStringOrList,
		"stream":            aBool,
		"stream_options":    anObject,
		"suffix":            aString,
		"temperature":       aNumber,
		"top_p":             aNumber,
		"user":              aString,
	})
	embeddingFields = wire.Fields{
		"dimensions":       anInteger,
		"encoding_format":  aString,
		"input":            {Kinds: wire.String | wire.Array},
		"model":            {Kinds: wire.String},
		"output_dimension": anInteger, // Mistral
		"output_dtype":     aString,   // Mistral
		"user":             aString,
	}
	moderationFields = wire.Fields{
		"input": {Kinds: wire.String | wire.Array},
		"model": aString,
	}
	speechFields = wire.Fields{
		"input":           {Kinds: wire.String},
		"instructions":    aString,
		"model":           {Kinds: wire.String},
		"response_format": aString,
		"speed":           aNumber,
		"stream_format":   aString,
		"voice":           {Kinds: wire.String | wire.Object},
	}
	imageFields = wire.Fields{
		"background":         aString,
		"complexity":         aString,
		"frame_count":        anInteger,
		"frame_duration_ms":  anInteger,
		"model":              aString,
		"moderation":         aString,
		"n":                  anInteger,
		"output_compression": anInteger,
		"output_format":      aString,
		"partial_images":     anInteger,
		"prompt":             {Kinds: wire.String},
		"quality":            aString,
		"response_format":    aString,
		"safety_identifier":  aString,
		"size":               aString,
		"stream":             aBool,
		"style":              aString,
		"svg":                anObject,
		"user":               aString,
	}
)

// promptRead are the members that ask reads.
var promptRead = reads("prompt", "input", "suffix", "instructions")

// readCompletion reads a request of the older completions.
func readCompletion(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, completionFields, func(d decoder, root strictjson.Value) { d.ask(root, "model", "prompt") })
}

// readEmbeddings reads a request for embeddings.
func readEmbeddings(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, embeddingFields, func(d decoder, root strictjson.Value) { d.ask(root, "model", "input") })
}

// readModeration reads a request to classify a text or a picture. The model has a default.
func readModeration(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, moderationFields, func(d decoder, root strictjson.Value) { d.ask(root, "input") })
}

// readSpeech reads a request to speak a text.
func readSpeech(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, speechFields, func(d decoder, root strictjson.Value) { d.ask(root, "model", "input") })
}

// readImage reads a request for a picture. The model has a default.
func readImage(call *llm.Call, r *llm.Request, lim llm.Limits) {
	readObject(call, r, lim, imageFields, func(d decoder, root strictjson.Value) { d.ask(root, "prompt") })
}

// DecodeCompletion reads a request of the older completions, as Decode does one for a chat completion.
func DecodeCompletion(r *llm.Request, lim llm.Limits) *llm.Call { return decode(Completions, r, lim) }

// DecodeEmbeddings reads a request for embeddings, as Decode does one for a chat completion.
func DecodeEmbeddings(r *llm.Request, lim llm.Limits) *llm.Call { return decode(Embeddings, r, lim) }

// ask reads a body that asks with one text, or a list of them. The needed members may not be absent.
func (d decoder) ask(root strictjson.Value, needed ...string) {
	d.asides(root, promptRead)
	var model strictjson.Value
	for k, v := range root.Members() {
		switch name := k.Bare(); string(name) {
		case "model":
			model = v
		case "instructions":
			d.instructions(v)
		case "prompt", "input":
			d.texts(v)
		case "suffix":
			if v.Kind() == strictjson.String {
				d.begin(llm.RoleUser, v)
				d.text(llm.PartText, v)
			}
		case "stream":
			d.call.Stream = v.Bool()
		case "max_tokens":
			d.maxTokens(v)
		case "temperature":
			d.Temperature(v)
		case "stream_format": // of speech: events, or the sound as it is
			d.call.Stream = v.Is("sse")
		case "svg":
			d.otherModel(v.Get("model"))
		default:
			d.compatible(name, v)
		}
	}
	for _, name := range needed {
		if name == "model" {
			d.model(root, model)
		} else if root.Get(name).Kind() == strictjson.Absent {
			d.Missing(root, name)
		}
	}
	if d.call.Model == "" {
		d.call.Model = string(model.Text())
	}
}

// texts reads a text, or a list of texts, tokens or parts. Tokens are numbers that stand for text, which nobody at the gate can read: they are put
// in sight as they are.
func (d decoder) texts(v strictjson.Value) {
	d.begin(llm.RoleUser, v)
	switch v.Kind() {
	case strictjson.String:
		d.text(llm.PartText, v)
	case strictjson.Array:
		tokens := false
		for e := range v.Elements() {
			switch e.Kind() {
			case strictjson.String:
				d.text(llm.PartText, e)
			case strictjson.Object:
				d.part(e, llm.Part{Kind: llm.PartText})
			default:
				tokens = true
			}
		}
		if tokens {
			d.Unknown(v)
		}
	}
}
