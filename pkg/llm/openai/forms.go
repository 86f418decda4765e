package openai

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// formFields are the parts that a form of one surface can have.
type formFields struct {
	// files are those that hold an attachment of kind.
	files []string
	kind  llm.PartKind
	// texts are those that are to be read, and values those that say how: numbers, names, flags.
	texts, values []string
	// needed are those that may not be absent.
	needed []string
}

// The forms. A list is written by repeating the name with "[]" after it, an object with the member's name in brackets.
var (
	imageEditForm = formFields{
		files: []string{"image", "image[]", "mask", "markup"}, kind: llm.PartImage,
		texts: []string{"prompt"},
		values: []string{"model", "stream", "background", "complexity", "frame_count", "frame_duration_ms", "input_fidelity", "n", "output_compression", "output_format",
			"partial_images", "quality", "response_format", "safety_identifier", "size", "user", "svg[model]"},
		needed: []string{"prompt"},
	}
	imageVariationForm = formFields{
		files: []string{"image"}, kind: llm.PartImage,
		values: []string{"model", "n", "response_format", "size", "user"},
		needed: []string{"image"},
	}
	transcriptionForm = formFields{
		files: []string{"file", "known_speaker_references[]", "known_speaker_references"}, kind: llm.PartAudio,
		texts: []string{"prompt", "keywords[]", "keywords", "known_speaker_names[]", "known_speaker_names"},
		values: []string{"model", "stream", "temperature", "language", "languages[]", "languages", "response_format", "include[]", "include", "timestamp_granularities[]",
			"timestamp_granularities", "chunking_strategy", "chunking_strategy[type]", "chunking_strategy[prefix_padding_ms]", "chunking_strategy[silence_duration_ms]",
			"chunking_strategy[threshold]",
			"url"}, // Groq: where the recording is to be fetched from
		needed: []string{"model"},
	}
	translationForm = formFields{
		files: []string{"file"}, kind: llm.PartAudio,
		texts:  []string{"prompt"},
		values: []string{"model", "temperature", "response_format", "url"},
		needed: []string{"model"},
	}
	fileForm = formFields{
		files: []string{"file"}, kind: llm.PartFile,
		values: []string{"purpose", "expires_after[anchor]", "expires_after[seconds]"},
		needed: []string{"file", "purpose"},
	}
	uploadPartForm    = formFields{files: []string{"data"}, kind: llm.PartFile, needed: []string{"data"}}
	containerFileForm = formFields{files: []string{"file"}, kind: llm.PartFile, values: []string{"file_id"}}
	videoForm         = formFields{
		files: []string{"input_reference", "video"}, kind: llm.PartImage,
		texts: []string{"prompt"},
		values: []string{"model", "seconds", "size", "input_reference[image_url]", "input_reference[file_id]", "video[id]", "characters[][id]", "characters[]",
			"name"},
	}
)

// asForm returns a reader of a form.
func asForm(known formFields) reader {
	names := slices.Concat(known.files, known.texts, known.values)
	return func(call *llm.Call, r *llm.Request, lim llm.Limits) {
		readForm(call, r, lim, known, names)
	}
}

// readForm reads a form, which becomes one message of the user.
func readForm(call *llm.Call, r *llm.Request, lim llm.Limits, known formFields, names []string) {
	m := llm.Message{Role: llm.RoleUser, Bytes: len(r.Body)}
	digest := sha256.New()
	seen := make([]bool, len(names))
	for p := range wire.Multipart(call, r, lim) {
		digest.Write([]byte(p.Name + "\x00" + p.Filename + "\x00"))
		digest.Write(p.Body)
		i := p.Known(call, names)
		if i >= 0 {
			seen[i] = true
		}
		switch {
		case i < 0:
			m.Parts = append(m.Parts, llm.Part{Kind: llm.PartUnknown, Text: clip(p.Body)})
		case i < len(known.files):
			m.Parts = attached(m.Parts, call, known.kind, p)
		case i < len(known.files)+len(known.texts):
			if text := clip(p.Text(call)); len(text) > 0 {
				m.Parts = append(m.Parts, llm.Part{Kind: llm.PartText, Text: text})
			}
		default:
			value := string(p.Text(call))
			formValue(call, lim, p.Name, value)
			if len(value) > wire.MaxSilent {
				m.Parts = append(m.Parts, llm.Part{Kind: llm.PartUnknown, Text: clip(p.Body)})
			}
		}
		if len(p.Filename) > wire.MaxSilent {
			m.Parts = append(m.Parts, llm.Part{Kind: llm.PartUnknown, Text: clip([]byte(p.Filename))})
		}
		if p.Filename != "" && i >= len(known.files) {
			wire.Find(call, lim, llm.Finding{Code: llm.FindingWrongType, Detail: "a part of the form is a file where none is expected"})
		}
	}
	for _, name := range known.needed {
		i := slices.Index(names, name)
		if !seen[i] && (name != "model" || call.Model == "") {
			wire.Find(call, lim, llm.Finding{Code: llm.FindingMissingField, Detail: "the part " + name + " of the form is missing"})
		}
	}
	copy(m.Digest[:], digest.Sum(nil))
	call.Messages = append(call.Messages, m)
}

// formValue reads a value that decides something.
func formValue(call *llm.Call, lim llm.Limits, name, value string) {
	switch name {
	case "model":
		switch {
		case call.Model == "":
			call.Model = value
		case call.Model != value:
			wire.Find(call, lim, llm.Finding{Code: llm.FindingDuplicateKey, Detail: "the body names another model than the path"})
		}
	case "stream":
		call.Stream = value == "true" || value == "1"
	case "svg[model]":
		call.OtherModels = append(call.OtherModels, value)
	case "url", "input_reference[image_url]":
		call.URLs = append(call.URLs, value)
	}
}

// attached adds a file. One that is text is put in sight, too.
func attached(parts []llm.Part, call *llm.Call, kind llm.PartKind, p wire.FormPart) []llm.Part {
	if p.Filename == "" && kind != llm.PartFile { // a value where a file is expected: a data: URL, or one to fetch
		if media, data, ok := wire.DataURL(p.Body); ok {
			return append(parts, llm.Part{Kind: kind, MediaType: media, Bytes: len(data)})
		}
		if bytes.Contains(p.Body[:min(len(p.Body), maxScheme)], []byte("://")) {
			call.URLs = append(call.URLs, string(p.Text(call)))
		}
	}
	parts = append(parts, llm.Part{Kind: kind, MediaType: p.MediaType, Bytes: len(p.Body)})
	if isText(p) {
		parts = append(parts, llm.Part{Kind: llm.PartText, Text: clip(p.Body)})
	}
	return parts
}

// isText reports whether a file is text: what it says it is counts less than what it is.
func isText(p wire.FormPart) bool {
	return len(p.Body) > 0 && utf8.Valid(p.Body) && (!bytes.ContainsRune(p.Body, 0) || strings.HasPrefix(p.MediaType, "text/"))
}

// clip returns text that cannot be appended to in place.
func clip(text []byte) []byte { return text[:len(text):len(text)] }
