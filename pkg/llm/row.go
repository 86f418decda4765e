package llm

import (
	"mime"
	"net/http"
	"slices"
	"strings"
)

// Request is a request as a codec reads it.
type Request struct {
	Method string
	// Path is the canonical path of the request, below the provider's base path, without query.
	Path string
	// Query is the query as sent, without the question mark.
	Query string
	// Vars are what the {names} of the row's path matched, in their order, as sent.
	Vars []string
	// ContentType is the header of that name; a WebSocket message has that of the JSON it is.
	ContentType string
	// Header is the request's header, read only; nil is an empty one.
	Header http.Header
	// Body is the body with its content coding taken off, or one WebSocket message.
	Body []byte
}

// Framing is the form that a stream has on the wire.
type Framing string

// The framings.
const (
	// FramingNone is a response that is one thing: JSON, sound, an image.
	FramingNone Framing = ""
	// FramingSSE is text/event-stream.
	FramingSSE Framing = "sse"
	// FramingNDJSON is one JSON text after another, each on a line of its own.
	FramingNDJSON Framing = "ndjson"
	// FramingJSONArray is one JSON array whose elements arrive one by one.
	FramingJSONArray Framing = "json_array"
	// FramingEventStream is application/vnd.amazon.eventstream.
	FramingEventStream Framing = "event_stream"
	// FramingWebSocket is a WebSocket, each message of which is one JSON text.
	FramingWebSocket Framing = "websocket"
)

// Row is one line of the table of surfaces: how one API shape is recognised, read and answered. Rows are shared and must not be changed.
type Row struct {
	Surface   Surface
	Class     Class
	Operation Operation
	// Method is matched byte for byte, as is Path but for its variables: "{name}" is one segment or the rest of one, never empty and without
	// a colon where a literal with a colon follows it, as in "/v1beta/models/{model}:generateContent". Where two rows match the same path the
	// one with more literal bytes counts.
	Method, Path string
	// Query are the names of the query parameters that the surface has, sorted.
	Query []string
	// Streams are the framings that a response can have, besides FramingNone.
	Streams []Framing
	// Decode reads a request into the normal form. It never fails and never returns nil: what is wrong is among the call's findings. For a
	// surface whose Streams have FramingWebSocket it reads the handshake where the request's method is the row's, and
	// one client message where the method is MethodMessage.
	Decode func(r *Request, lim Limits) *Call
	// Watch returns a reader of a response.
	Watch func(o WatchOptions) Watcher
	// Refuse answers a refused caller in its own dialect: an error that the provider's SDK surfaces and does not retry.
	Refuse func(r Refusal) Answer
	// RefuseMessage answers a refused WebSocket message in the surface's dialect; nil where the surface has no WebSocket.
	RefuseMessage func(r Refusal) []byte
	// RefusalCloses says that a refused message ends the WebSocket: the API has no message by which all its clients learn of an error, so that
	// one that was refused would wait for its answer.
	RefusalCloses bool
}

// Match reports whether a request's method and path are the row's, and returns what the variables of the row's path matched. It allocates nothing
// for a path without variables.
func (r *Row) Match(method, path string) (vars []string, ok bool) {
	if r.Method != method {
		return nil, false
	}
	if strings.IndexByte(r.Path, '{') < 0 {
		return nil, r.Path == path
	}
	var found [8]string // of which a row has no more
	n := 0
	for pattern := r.Path; ; {
		p, patternRest, patternMore := strings.Cut(pattern, "/")
		s, pathRest, pathMore := strings.Cut(path, "/")
		if patternMore != pathMore {
			return nil, false
		}
		if before, after, isVar := strings.Cut(p, "{"); !isVar {
			if p != s {
				return nil, false
			}
		} else {
			_, suffix, _ := strings.Cut(after, "}")
			if len(s) <= len(before)+len(suffix) || !strings.HasPrefix(s, before) || !strings.HasSuffix(s, suffix) || n == len(found) {
				return nil, false
			}
			s = s[len(before) : len(s)-len(suffix)]
			if strings.IndexByte(suffix, ':') >= 0 && strings.IndexByte(s, ':') >= 0 {
				return nil, false
			}
			found[n] = s
			n++
		}
		if !patternMore {
			return slices.Clone(found[:n]), true
		}
		pattern, path = patternRest, pathRest
	}
}

// Framing returns the framing of a response to the row with a content type: the one that the type says, or that of the row which is sent as
// plain JSON.
func (r *Row) Framing(contentType string) Framing {
	f := FramingOf(contentType)
	if f == FramingNone && slices.Contains(r.Streams, FramingJSONArray) {
		if media, _, _ := mime.ParseMediaType(contentType); media == "application/json" {
			return FramingJSONArray
		}
	}
	return f
}

// MethodMessage is the method of a Request that is a message of a WebSocket.
const MethodMessage = "MESSAGE"

// Answer is a whole response.
type Answer struct {
	Status int
	// ContentType is the header of that name; Header holds further ones, and may be nil.
	ContentType string
	Header      http.Header
	Body        []byte
}

// WatchOptions say what a response is and what is to be read of it.
type WatchOptions struct {
	// ContentType is the response's header of that name.
	ContentType string
	// Framing is how the response is framed. FramingOf tells it from the content type; a JSON array and a WebSocket cannot be told from it.
	Framing Framing
	// Arguments is how many bytes of each tool call's arguments are kept; 0 keeps none.
	Arguments int
	// Answered, if it is not nil, is told the id by which a later call can go on from a response, see Call.History, within the Write that brings it. It may be told the same one several times.
	Answered func(id string)
}

// Watcher reads a response on the side. The response must not be compressed.
type Watcher interface {
	// Write reads the next bytes. It never fails, never holds more than a bounded part of the text and never delays the caller. It is the
	// same to it where one Write ends and the next begins, but for FramingWebSocket, where each is one message.
	Write(p []byte)
	// Reply returns what was read so far. It may be asked at any time, also while another goroutine writes.
	Reply() Reply
	// End returns what to send after what was written so far so that the stream ends as its wire format wants, and the caller is told of the
	// refusal in its own dialect. It is nil where the response has no such form; then the connection must be broken off.
	End(r Refusal) []byte
}

// TurnWatcher is a Watcher of a WebSocket that knows when a response begins and when it has ended.
type TurnWatcher interface {
	Watcher
	// InTurn says whether a response is under way: one has begun, and what was written last is not its end.
	InTurn() bool
}

// FramingOf returns the framing that a content type says.
func FramingOf(contentType string) Framing {
	media, _, _ := mime.ParseMediaType(contentType)
	switch media {
	case "text/event-stream":
		return FramingSSE
	case "application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/stream+json":
		return FramingNDJSON
	case "application/vnd.amazon.eventstream":
		return FramingEventStream
	}
	return FramingNone
}
