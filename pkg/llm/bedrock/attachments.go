package bedrock

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

var attachmentFields = []string{"format", "source", "name", "context", "citations"}

// attachment reads an image, a sound, a video or a document into p, whose MediaType is what the format comes after. Text in it becomes
// parts like of.
func (d decoder) attachment(v strictjson.Value, p, of llm.Part) {
	if !d.Expect(v, wire.Object) {
		return
	}
	var source strictjson.Value
	for k, m := range v.Members() {
		switch d.Name(k, attachmentFields) {
		case "format":
			if format := d.Str(m); p.MediaType != "" {
				p.MediaType += format
			} else {
				p.MediaType = documentType(format)
			}
		case "source":
			source = m
		case "name", "context":
			d.AddText(m, of)
		case "citations":
			d.Silent(m)
		default:
			d.Unknown(m)
		}
	}
	if strings.HasSuffix(p.MediaType, "/") {
		p.MediaType = ""
	}
	if source.Kind() == strictjson.Absent {
		d.Missing(v, "source")
	}
	d.source(source, p, of)
}

// documentType returns the media type of a format of documents.
func documentType(format string) string {
	switch format {
	case "pdf":
		return "application/pdf"
	case "doc":
		return "application/msword"
	case "docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case "xls":
		return "application/vnd.ms-excel"
	case "xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case "txt":
		return "text/plain"
	case "md":
		return "text/markdown"
	}
	return "text/" + format
}

var (
	sourceFields   = []string{"bytes", "s3Location", "text", "content"}
	locationFields = []string{"uri", "bucketOwner"}
)

func (d decoder) source(v strictjson.Value, p, of llm.Part) {
	if !d.Want(v, wire.Object) {
		d.Part(p)
		return
	}
	at := len(d.Parts())
	d.Part(p)
	for k, m := range v.Members() {
		switch d.Name(k, sourceFields) {
		case "bytes":
			d.Parts()[at].Bytes = len(d.Text(m))
		case "s3Location":
			if !d.Want(m, wire.Object) {
				continue
			}
			for k, m := range m.Members() {
				switch d.Name(k, locationFields) {
				case "uri":
					d.URL(m)
				case "bucketOwner":
					d.Silent(m)
				default:
					d.Unknown(m)
				}
			}
		case "text":
			text := d.Text(m)
			d.Parts()[at].Bytes = len(text)
			of.Text = text
			d.Part(of)
		case "content":
			if d.Want(m, wire.Array) {
				d.content(m, of)
			}
		default:
			d.Find(llm.FindingUnknownPart, k, "the kind of the source is unknown")
			d.Unknown(m)
		}
	}
}
