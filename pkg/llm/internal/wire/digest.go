package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// maxMarker is the length of the longest cache marker that a digest leaves out, in bytes. A longer one could carry something.
const maxMarker = 64

// digester takes digests of messages and tools as they were sent, but for cache markers. Agents move the marker
// (Anthropic's cache_control, OpenAI's prompt_cache_breakpoint) to the last message of every call, and write content as a list of blocks
// for it that they wrote as a string before; a conversation would not be recognised if that changed a digest.
type digester struct {
	h   hash.Hash
	sum [sha256.Size]byte
	len [9]byte
}

func newDigester() digester { return digester{h: sha256.New()} }

// field adds a piece, with its length and what it is, so that no two sequences of pieces are the same bytes.
func (d *digester) field(kind byte, b []byte) {
	d.len[0] = kind
	binary.BigEndian.PutUint64(d.len[1:], uint64(len(b)))
	d.h.Write(d.len[:])
	d.h.Write(b)
}

func (d *digester) end() (out llm.Digest) {
	copy(out[:], d.h.Sum(d.sum[:0]))
	d.h.Reset()
	return out
}

// marks says whether a member is a cache marker that is left out.
func marks(name, value strictjson.Value, markers []string) bool {
	for _, marker := range markers {
		if marker != "" && name.Is(marker) && len(value.Raw()) <= maxMarker {
			return true
		}
	}
	return false
}

// object adds an object's members but for the markers.
func (d *digester) object(v strictjson.Value, markers []string) {
	for k, m := range v.Members() {
		if marks(k, m, markers) {
			continue
		}
		d.field('k', k.Raw())
		d.field('v', m.Raw())
	}
	d.field('}', nil)
}

// plainText returns the text of a block that is text and nothing else.
func plainText(block strictjson.Value, markers []string) (text strictjson.Value, ok bool) {
	isText := false
	for k, m := range block.Members() {
		switch {
		case k.Is("type") && m.Is("text"):
			isText = true
		case k.Is("text") && m.Kind() == strictjson.String:
			text = m
		case marks(k, m, markers):
		default:
			return text, false
		}
	}
	return text, isText && text.Kind() == strictjson.String
}

// isMarker says whether a block is a cache marker and nothing else, as Bedrock's are.
func isMarker(block strictjson.Value, markers []string) bool {
	for k, m := range block.Members() {
		return block.Len() == 1 && marks(k, m, markers)
	}
	return false
}

// content adds a message's content. A string counts as a list of one block of text.
func (d *digester) content(v strictjson.Value, markers []string) {
	switch v.Kind() {
	case strictjson.String:
		d.field('t', v.Raw())
	case strictjson.Array:
		for e := range v.Elements() {
			if isMarker(e, markers) {
				continue
			}
			if t, ok := plainText(e, markers); ok {
				d.field('t', t.Raw())
			} else if e.Kind() == strictjson.Object {
				d.object(e, markers)
			} else {
				d.field('v', e.Raw())
			}
		}
	default:
		d.field('v', v.Raw())
	}
	d.field(']', nil)
}

// Digest returns the digest of a message, a tool or a system prompt: of its bytes as sent, but for white space between the members, for
// members named as one of the markers (the wire format's cache markers, if they are short) and for whether content that is one text is written as
// a string or as a list of one block.
func (r *Reader) Digest(v strictjson.Value, markers ...string) llm.Digest {
	d := &r.digest
	if v.Kind() != strictjson.Object {
		d.content(v, markers)
		return d.end()
	}
	for k, m := range v.Members() {
		switch {
		case k.Is("content"):
			d.field('k', k.Raw())
			d.content(m, markers)
		case marks(k, m, markers):
		default:
			d.field('k', k.Raw())
			d.field('v', m.Raw())
		}
	}
	return d.end()
}

// DigestOf returns the digest of a body that is no JSON, or of a part of one.
func DigestOf(body []byte) llm.Digest {
	sum := sha256.Sum256(body)
	return llm.Digest(sum[:len(llm.Digest{})])
}
