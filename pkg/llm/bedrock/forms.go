package bedrock

import (
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// form is how a body without messages is read: what its members are.
type form struct {
	operation llm.Operation
	fields    wire.Fields
	texts     []string // members that the model reads: a string or a list of them
	images    []string // members that are images in base64
	nested    []string // objects and lists, the strings in which the model reads, and the images, by their names
	maxTokens string
	// config is an object that maxTokens and temperature are members of.
	config string
}

var (
	number  = wire.Field{Kinds: wire.Number | wire.Null}
	integer = wire.Field{Kinds: wire.Number | wire.Null, Integer: true}
	str     = wire.Field{Kinds: wire.String | wire.Null}
	boolean = wire.Field{Kinds: wire.Bool | wire.Null}
	list    = wire.Field{Kinds: wire.Array | wire.Null}
	object  = wire.Field{Kinds: wire.Object | wire.Null}
)

var (
	promptForm = form{operation: llm.OperationTextCompletion, texts: []string{"prompt"}, maxTokens: "max_tokens", fields: wire.Fields{
		"prompt": {Kinds: wire.String}, "max_tokens": integer, "temperature": number, "top_p": number, "top_k": number, "p": number, "k": number, "stop": list, "stop_sequences": list,
		"return_likelihoods": str, "stream": boolean, "num_generations": integer, "truncate": str, "logit_bias": object,
	}}
	llamaForm = form{operation: llm.OperationTextCompletion, texts: []string{"prompt"}, images: []string{"images"}, maxTokens: "max_gen_len", fields: wire.Fields{
		"prompt": {Kinds: wire.String}, "images": list, "max_gen_len": integer, "temperature": number, "top_p": number,
	}}
	titanForm = form{operation: llm.OperationTextCompletion, texts: []string{"inputText"}, maxTokens: "maxTokenCount", config: "textGenerationConfig", fields: wire.Fields{
		"inputText": {Kinds: wire.String}, "textGenerationConfig": object,
	}}
	titanEmbedForm = form{operation: llm.OperationEmbeddings, texts: []string{"inputText"}, images: []string{"inputImage"}, fields: wire.Fields{
		"inputText": str, "inputImage": str, "dimensions": integer, "normalize": boolean, "embeddingTypes": list, "embeddingConfig": object,
	}}
	imageForm = form{operation: llm.OperationImage, fields: wire.Fields{
		"taskType": {Kinds: wire.String}, "imageGenerationConfig": object, "textToImageParams": object, "inPaintingParams": object, "outPaintingParams": object, "imageVariationParams": object,
		"colorGuidedGenerationParams": object, "backgroundRemovalParams": object, "virtualTryOnParams": object,
	}, nested: []string{"textToImageParams", "inPaintingParams", "outPaintingParams", "imageVariationParams", "colorGuidedGenerationParams", "backgroundRemovalParams", "virtualTryOnParams"}}
	stabilityForm = form{operation: llm.OperationImage, texts: []string{"prompt", "negative_prompt", "select_prompt", "search_prompt"}, images: []string{"image", "init_image", "mask", "mask_image", "style_image"}, nested: []string{"text_prompts"},
		fields: wire.Fields{
			"prompt": str, "negative_prompt": str, "select_prompt": str, "search_prompt": str, "image": str, "init_image": str, "mask": str, "mask_image": str, "style_image": str, "text_prompts": list,
			"mode": str, "strength": number, "aspect_ratio": str, "seed": integer, "output_format": str, "cfg_scale": number, "clip_guidance_preset": str, "sampler": str, "samples": integer, "steps": integer,
			"style_preset": str, "extras": object, "height": integer, "width": integer, "init_image_mode": str, "image_strength": number, "mask_source": str, "control_strength": number, "creativity": number,
			"fidelity": number, "grow_mask": number, "left": integer, "right": integer, "up": integer, "down": integer, "composition_fidelity": number, "change_strength": number,
		}}
)

// prompt returns a reader of bodies of a form.
func prompt(f form) func(*llm.Request, string, llm.Limits) *llm.Call {
	return func(req *llm.Request, contentType string, lim llm.Limits) *llm.Call {
		call := &llm.Call{Class: llm.ClassModel, Operation: f.operation}
		d := open(call, req, contentType, lim)
		defer d.Close()
		root, ok := d.Object(f.fields)
		if !ok {
			return call
		}
		d.Message(llm.RoleUser, root)
		for k, v := range root.Members() {
			name := string(k.Text())
			switch {
			case slices.Contains(f.texts, name):
				d.strings(v, false)
			case slices.Contains(f.images, name):
				d.strings(v, true)
			case slices.Contains(f.nested, name):
				d.strings(v, false)
			case name == f.config && name != "":
				for k, v := range v.Members() {
					d.sampling(string(k.Text()), v, f.maxTokens)
				}
			default:
				if _, known := f.fields[name]; !known {
					d.Unknown(v)
				}
				d.sampling(name, v, f.maxTokens)
			}
		}
		if len(d.Parts()) == 0 {
			d.Missing(root, strings.Join(slices.Concat(f.texts, f.images, f.nested), " or "))
		}
		return call
	}
}

func (d decoder) sampling(name string, v strictjson.Value, maxTokens string) {
	switch name {
	case maxTokens:
		d.MaxTokens(v)
	case "temperature":
		d.Temperature(v)
	}
}

// strings adds a part for each string in a value: an image, or a text.
func (d decoder) strings(v strictjson.Value, image bool) {
	switch v.Kind() {
	case strictjson.String:
		if image {
			d.Part(llm.Part{Kind: llm.PartImage, Bytes: len(v.Text())})
		} else {
			d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
		}
	case strictjson.Number:
		d.Silent(v)
	case strictjson.Array:
		if wire.HasNumber(v) {
			d.Unknown(v)
			return
		}
		for e := range v.Elements() {
			d.strings(e, image)
		}
	case strictjson.Object:
		for k, m := range v.Members() {
			name := strings.ToLower(string(k.Text()))
			if !k.Is("uri") {
				d.strings(m, image || strings.HasSuffix(name, "image") || strings.HasSuffix(name, "images"))
			} else {
				d.URL(m)
			}
		}
	}
}
