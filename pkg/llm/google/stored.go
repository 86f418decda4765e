package google

import (
	"crypto/sha256"
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
		d.walk(get(root, "batch"), batchOf, func(i int, v strictjson.Value) {
			switch i {
			case 1:
				d.walk(v, inputOf, func(i int, v strictjson.Value) {
					if i == 0 {
						d.walk(v, inlinedOf, func(_ int, v strictjson.Value) {
							for one := range each(v) {
								d.batched(one)
							}
						})
					}
				})
			case 2:
				d.modelOf(v)
			case 5:
				for k, m := range v.Members() {
					if d.member(k, webhookURL) >= 0 {
						for u := range each(m) {
							d.URL(u)
						}
					}
				}
				d.aside(v, llm.PartUnknown)
			}
		})
	})
}

// walk goes over the members of an object that are known, and puts the others where they are seen.
func (d decoder) walk(v strictjson.Value, n names, known func(i int, v strictjson.Value)) {
	if !d.Want(v, wire.Object|wire.Null) {
		return
	}
	for k, m := range v.Members() {
		if i := d.member(k, n); i >= 0 {
			known(i, m)
			continue
		}
		d.Find(llm.FindingUnknownPart, m, "the member is unknown")
		d.aside(m, llm.PartUnknown)
	}
}

func (d decoder) batched(one strictjson.Value) {
	d.walk(one, requestOf, func(i int, v strictjson.Value) {
		switch {
		case i != 0:
			if len(v.Raw()) > maxParameter {
				d.aside(v, llm.PartUnknown)
			}
		case !d.Want(v, wire.Object):
		case get(v, "content").Kind() != strictjson.Absent:
			d.walk(v, embedRequest, func(int, strictjson.Value) {})
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
					d.aside(m, llm.PartUnknown)
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
	sum := sha256.Sum256(r.Body)
	media, _, _ := mime.ParseMediaType(r.Header.Get("X-Goog-Upload-Header-Content-Type"))
	if media == "" {
		media, _, _ = mime.ParseMediaType(r.ContentType)
	}
	m := llm.Message{Role: llm.RoleUser, Bytes: len(r.Body), Parts: []llm.Part{{Kind: llm.PartFile, Bytes: len(r.Body), MediaType: media[:min(len(media), maxParameter)]}}}
	copy(m.Digest[:], sum[:])
	if utf8.Valid(r.Body) {
		m.Parts = append(m.Parts, llm.Part{Kind: llm.PartText, Text: r.Body[:len(r.Body):len(r.Body)]})
	}
	call.Messages = append(call.Messages, m)
}
