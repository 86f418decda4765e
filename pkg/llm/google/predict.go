package google

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var embedFields = both(wire.Fields{
	"content":              object,
	"embedContentConfig":   object,
	"model":                text,
	"outputDimensionality": number,
	"taskType":             {Kinds: wire.String | wire.Number | wire.Null},
	"title":                text,
})

// embed reads a request to embed one content.
func embed(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, embedFields, func(d decoder, root strictjson.Value) {
		d.embed(root)
		if get(root, "content").Kind() == strictjson.Absent {
			d.Missing(root, "content")
		}
	})
}

// embed reads one request to embed. The types of its members have been checked.
func (d decoder) embed(v strictjson.Value) {
	d.modelOf(get(v, "model"))
	if c := get(v, "content"); c.Kind() == strictjson.Object {
		d.content(c, "")
	}
	for _, title := range []strictjson.Value{get(v, "title"), get(get(v, "embedContentConfig"), "title")} {
		if title.Kind() == strictjson.String {
			d.said(title)
		}
	}
}

// said adds a message of the user's for a text that is in no turn.
func (d decoder) said(v strictjson.Value) {
	d.Message(llm.RoleUser, v)
	d.Part(llm.Part{Kind: llm.PartText, Text: v.Text()})
}

var embedBatchFields = both(wire.Fields{"requests": list, "model": text})

// embedBatch reads a request to embed several contents.
func embedBatch(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, embedBatchFields, func(d decoder, root strictjson.Value) {
		d.modelOf(get(root, "model"))
		requests := get(root, "requests")
		if requests.Kind() == strictjson.Absent {
			d.Missing(root, "requests")
		}
		for one := range each(requests) {
			if d.Want(one, wire.Object) {
				d.TopLevel(one, embedFields)
				d.embed(one)
			}
		}
	})
}

var predictFields = both(wire.Fields{
	"instances":  list,
	"labels":     object,
	"parameters": object,
})

// predict reads a request to a model that has a form of its own: images, videos, music, embeddings of text.
func predict(call *llm.Call, r *llm.Request, lim llm.Limits) {
	if call.Operation == llm.OperationGenerate {
		call.Operation = predicted(call.Model)
	}
	read(call, r, lim, predictFields, func(d decoder, root strictjson.Value) {
		instances := get(root, "instances")
		if instances.Kind() == strictjson.Absent {
			d.Missing(root, "instances")
		}
		for i := range each(instances) {
			d.instance(i)
		}
		d.parameters(get(root, "parameters"))
	})
}

// predicted returns what a model of a form of its own does, by its name.
func predicted(model string) llm.Operation {
	switch {
	case strings.Contains(model, "embedding"), strings.Contains(model, "embed"):
		return llm.OperationEmbeddings
	case strings.HasPrefix(model, "image"): // imagen, imagegeneration, imagetext
		return llm.OperationImage
	}
	return llm.OperationGenerate
}

// The members of an instance that are read; whatever else is in one is a part of unknown kind.
var (
	instanceNames = known("prompt", "content", "text", "title", "negativePrompt",
		"image", "video", "audio", "lastFrame", "mask", "mimeType", "taskType")
	mediaNames = known("bytesBase64Encoded", "imageBytes", "videoBytes", "audioBytes", "gcsUri", "uri", "mimeType")
)

// instance reads one of instances.
func (d decoder) instance(v strictjson.Value) {
	d.Message(llm.RoleUser, v)
	if v.Kind() != strictjson.Object {
		d.Unknown(v)
		return
	}
	for k, m := range v.Members() {
		switch d.name(k, instanceNames) {
		case "prompt", "content", "text", "title", "negativePrompt":
			if m.Kind() == strictjson.String {
				d.Part(llm.Part{Kind: llm.PartText, Text: m.Text()})
				continue
			}
		case "image", "video", "audio", "lastFrame", "mask":
			if m.Kind() == strictjson.Object {
				d.media(m)
				continue
			}
		case "mimeType", "taskType":
			d.Silent(m)
			continue
		default:
			if trivial(m) {
				continue
			}
		}
		d.locations(m, 0)
		d.Unknown(m)
	}
}

// media reads an image, a video or a sound of an instance.
func (d decoder) media(v strictjson.Value) {
	var p llm.Part
	for k, m := range v.Members() {
		switch d.name(k, mediaNames) {
		case "bytesBase64Encoded", "imageBytes", "videoBytes", "audioBytes":
			p.Bytes += len(d.Text(m))
		case "gcsUri", "uri":
			d.URL(m)
		case "mimeType":
			p.MediaType = d.Str(m)
		default:
			d.Unknown(m)
		}
	}
	p.Kind = attachment(p.MediaType)
	d.Part(p)
}

var locationNames = known("gcsUri", "uri", "storageUri", "outputUri", "outputUriPrefix", "inputUri", "trainingDatasetUri", "validationDatasetUri", "promptDatasetUri",
	"pipelineRootDirectory")

const maxLocationDepth = 8

// locations reads the URLs from which, or to which, the provider is asked to move data, wherever they are in a value.
func (d decoder) locations(v strictjson.Value, depth int) {
	if depth == maxLocationDepth {
		return
	}
	for e := range v.Elements() {
		d.locations(e, depth+1)
	}
	for k, m := range v.Members() {
		if m.Kind() == strictjson.String && d.member(k, locationNames) >= 0 {
			d.URL(m)
			continue
		}
		d.locations(m, depth+1)
	}
}

// parameters reads the parameters of a prediction: what of them is text, and where the result is to be put.
func (d decoder) parameters(v strictjson.Value) {
	d.locations(v, 0)
	for k, m := range v.Members() {
		if d.name(k, instanceNames) == "negativePrompt" && m.Kind() == strictjson.String { // what is not to be in the picture
			d.said(m)
		} else if len(m.Raw()) > wire.MaxSilent {
			d.Whole(m)
		}
	}
}

// trivial reports whether a value says next to nothing, as a number does that stands by itself.
func trivial(v strictjson.Value) bool { return v.Kind() == strictjson.Number || wire.Trivial(v) }
