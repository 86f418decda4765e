package google

import (
	"mime"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var cacheFields = both(wire.Fields{
	"contents":          list,
	"displayName":       text,
	"encryptionSpec":    object,
	"expireTime":        text,
	"model":             text,
	"name":              text,
	"systemInstruction": object,
	"toolConfig":        object,
	"tools":             list,
	"ttl":               text,
})

// cache reads content that is to be kept for later calls.
func cache(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, cacheFields, func(d decoder, root strictjson.Value) { d.generate(root) })
}

var (
	batchFields  = both(wire.Fields{"batch": object})
	batchOf      = known("displayName", "inputConfig", "model", "name", "priority", "webhookConfig")
	inputOf      = known("requests", "fileName")
	inlinedOf    = known("requests")
	requestOf    = known("request", "metadata", "key")
	webhookURL   = known("uri", "uris", "url", "webhookUri")
	embedRequest = known("content", "model", "taskType", "title", "outputDimensionality", "embedContentConfig")
)

// batch reads a batch, of requests for content or of requests to embed: their turns follow one another in the call.
func batch(call *llm.Call, r *llm.Request, lim llm.Limits) {
	read(call, r, lim, batchFields, func(d decoder, root strictjson.Value) {
		d.walk(get(root, "batch"), batchOf, func(name string, v strictjson.Value) {
			switch name {
			case "inputConfig":
				d.walk(v, inputOf, func(name string, v strictjson.Value) {
					if name == "requests" {
						d.walk(v, inlinedOf, func(_ string, v strictjson.Value) {
							for one := range each(v) {
								d.batched(one)
							}
						})
					}
				})
			case "model":
				d.modelOf(v)
			case "webhookConfig":
				for k, m := range v.Members() {
					if d.name(k, webhookURL) != "" {
						for u := range each(m) {
							d.URL(u)
						}
					}
				}
				d.Whole(v)
			}
		})
	})
}

// walk goes over the members of an object that are known, and puts the others where they are seen.
func (d decoder) walk(v strictjson.Value, n names, known func(name string, v strictjson.Value)) {
	if !d.Want(v, wire.Object|wire.Null) {
		return
	}
	for k, m := range v.Members() {
		if name := d.name(k, n); name != "" {
			known(name, m)
			continue
		}
		d.Find(llm.FindingUnknownPart, m, "the member is unknown")
		d.Whole(m)
	}
}

func (d decoder) batched(one strictjson.Value) {
	d.walk(one, requestOf, func(name string, v strictjson.Value) {
		switch {
		case name != "request":
			if len(v.Raw()) > wire.MaxSilent {
				d.Whole(v)
			}
		case !d.Want(v, wire.Object):
		case get(v, "content").Kind() != strictjson.Absent:
			d.walk(v, embedRequest, func(string, strictjson.Value) {})
			d.embed(v)
		default:
			d.TopLevel(v, generateFields)
			d.generate(v)
		}
	})
}

// stored returns a reader of a request that leaves something at the provider that is no conversation: members that the surface has are those of
// fields, and all of them are put where they are seen.
func stored(fields ...string) func(call *llm.Call, r *llm.Request, lim llm.Limits) {
	known := wire.Fields{}
	for _, name := range fields {
		known[name] = wire.Field{Kinds: wire.Any}
	}
	known = both(known)
	return func(call *llm.Call, r *llm.Request, lim llm.Limits) {
		if len(r.Body) == 0 {
			return // as good as an object without members
		}
		read(call, r, lim, known, func(d decoder, root strictjson.Value) {
			d.locations(root, 0)
			for _, m := range root.Members() {
				if !trivial(m) {
					d.Whole(m)
				}
			}
		})
	}
}

// describeFile are the members of the description with which an upload begins.
var describeFile = stored("file", "chunkingConfig", "customMetadata", "displayName", "mimeType", "name")

// upload reads a request of the resumable upload: the first describes the file, the others have its bytes, whatever their content type says. A file that is
// described and sent at once, in the form multipart/related, is not taken apart, which is a finding.
func upload(call *llm.Call, r *llm.Request, lim llm.Limits) {
	command := strings.ToLower(strings.ReplaceAll(r.Header.Get("X-Goog-Upload-Command"), " ", ""))
	resumable := strings.EqualFold(r.Header.Get("X-Goog-Upload-Protocol"), "resumable")
	switch command {
	case "start":
		if !resumable {
			call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingContentType, Detail: "the upload is of a protocol that is not read"})
		}
		describeFile(call, r, lim)
	case "upload", "finalize", "upload,finalize", "query", "cancel":
		content(call, r, lim)
	default:
		call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingContentType, Detail: "the upload is of a protocol that is not read"})
		content(call, r, lim)
	}
}

// maxMediaType is how much of a media type is kept, in bytes.
const maxMediaType = 128

// content reads a body that is a file, or a piece of one.
func content(call *llm.Call, r *llm.Request, lim llm.Limits) {
	call.BodyBytes = len(r.Body)
	if int64(len(r.Body)) > lim.WithDefaults().MaxBytes {
		call.Findings = append(call.Findings, llm.Finding{Code: llm.FindingOversize, Detail: "the body is longer than the limit"})
		return
	}
	if len(r.Body) == 0 {
		return
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("X-Goog-Upload-Header-Content-Type"))
	if media == "" {
		media, _, _ = mime.ParseMediaType(r.ContentType)
	}
	m := llm.Message{
		Role: llm.RoleUser, Bytes: len(r.Body), Digest: wire.DigestOf(r.Body),
		Parts: []llm.Part{{Kind: llm.PartFile, Bytes: len(r.Body), MediaType: media[:min(len(media), maxMediaType)]}},
	}
	if utf8.Valid(r.Body) {
		m.Parts = append(m.Parts, llm.Part{Kind: llm.PartText, Text: r.Body[:len(r.Body):len(r.Body)]})
	}
	call.Messages = append(call.Messages, m)
}
