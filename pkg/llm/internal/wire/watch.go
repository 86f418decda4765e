package wire

import (
	"bytes"
	"sync"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Shape says which values of a response a codec wants to see. A nil Shape wants nothing.
type Shape struct {
	Members Shapes // of an object
	Each    *Shape // of an array
	// Take, when not 0, is handed to Taker.Take with each string, number or literal found here.
	Take int
	// End, when not 0, is handed to Taker.End when an object or array found here has ended.
	End int
	// Long says that the value may be as long as the arguments that the watcher keeps, and a little more; of a longer one, Take is handed
	// an absent Value. Without it a value of more than 512 bytes is passed over in silence.
	Long bool
	// Raw says that an object or array found here is handed to Take whole, within the bounds of Long, and not looked into.
	Raw bool
	// Base64 is the shape of the JSON text whose base64 a string found here is.
	Base64 *Shape
}

// Shapes are the shapes of an object's members.
type Shapes = map[string]*Shape

// Members returns the shape of an object of which nothing but its members is wanted.
func Members(m Shapes) *Shape { return &Shape{Members: m} }

// Take returns the shape of a short value.
func Take(id int) *Shape { return &Shape{Take: id} }

// TakeLong returns the shape of a value that may be long.
func TakeLong(id int) *Shape { return &Shape{Take: id, Long: true} }

// TakeWhole returns the shape of a value that may be long, and is handed over whole where it is an object or array.
func TakeWhole(id int) *Shape { return &Shape{Take: id, Long: true, Raw: true} }

// Taker is handed what a Shape wants, in the order of the text.
type Taker interface {
	Take(id int, v strictjson.Value)
	End(id int)
	Reply() llm.Reply
	// Close returns what ends a stream of the framing with a refusal, as llm.Watcher's End does.
	Close(f llm.Framing, r llm.Refusal) []byte
}

// EventNamer is a Taker that wants the names of the events of a stream: the event field of server-sent events, the :event-type or
// :exception-type of an event stream. The name is handed over as soon as it is read, which providers write before the event's data, and
// "" when an event that had a name has ended.
type EventNamer interface {
	EventName(name string)
}

// TurnTaker is a Taker that knows, between two messages of a WebSocket, whether a response is under way.
type TurnTaker interface {
	InTurn() bool
}

// turnWatcher implements llm.TurnWatcher.
type turnWatcher struct {
	*watcher
	turns TurnTaker
}

// InTurn implements llm.TurnWatcher.
func (w turnWatcher) InTurn() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turns.InTurn()
}

// maxEventName is the length of the longest name of an event that is handed over; a longer one is none.
const maxEventName = 128

// Watch returns a watcher of a response. Each event of a stream of events, each text of NDJSON, each element of an array, each message
// of a WebSocket is one JSON text of the shape, and so is a response that is no stream. A response of another type is no JSON, and nothing comes of it. Of
// a WebSocket, whose Taker is a TurnTaker, the watcher is an llm.TurnWatcher.
func Watch(o llm.WatchOptions, shape *Shape, t Taker) llm.Watcher {
	w := &watcher{json: follower{root: shape, taker: t, long: max(0, o.Arguments) + maxValue}, taker: t, framing: o.Framing}
	if w.framing == llm.FramingNone {
		w.framing = llm.FramingOf(o.ContentType)
	}
	w.names, _ = t.(EventNamer)
	w.json.texts = w.framing == llm.FramingNDJSON || w.framing == llm.FramingJSONArray
	w.json.reset()
	if turns, ok := t.(TurnTaker); ok && w.framing == llm.FramingWebSocket {
		return turnWatcher{w, turns}
	}
	return w
}

// watcher keeps no part of the response but a value that is wanted, in bounds. It follows the text byte by byte, so
// that it is the same to it where one Write ends and the next begins.
type watcher struct {
	mu      sync.Mutex
	json    follower
	taker   Taker
	names   EventNamer // nil when the taker wants none
	framing llm.Framing
	sse     sse
	frames  frames
}

// Write implements llm.Watcher.
func (w *watcher) Write(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.framing {
	case llm.FramingSSE:
		w.events(p)
	case llm.FramingEventStream:
		w.eventStream(p)
	case llm.FramingWebSocket:
		w.json.reset()
		w.json.write(p)
	case llm.FramingNDJSON:
		for {
			line, rest, more := bytes.Cut(p, []byte("\n"))
			w.json.write(line)
			if !more {
				return
			}
			w.json.write([]byte("\n"))
			w.json.line()
			p = rest
		}
	default:
		w.json.write(p)
	}
}

// Reply implements llm.Watcher.
func (w *watcher) Reply() llm.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taker.Reply()
}

// End implements llm.Watcher.
func (w *watcher) End(r llm.Refusal) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taker.Close(w.framing, r)
}

// eventName hands over the name of the event that is being read.
func (w *watcher) eventName(name []byte) {
	if w.names == nil {
		return
	}
	if len(name) > maxEventName {
		name = nil
	}
	w.names.EventName(string(name))
}

// sse is how far a stream of server-sent events is read.
type sse struct {
	line  lineState
	match int    // bytes of a byte order mark seen at the start of the stream
	field []byte // the field's name so far, and then the name of the event
	cr    bool   // the last byte was a carriage return, which a line feed may follow
	data  bool   // the event has had a line of data
	named bool   // the event has had a name
	began bool   // the first line has begun
}

type lineState uint8

const (
	lineStart  lineState = iota
	lineMark             // in a byte order mark, at the start of the stream
	lineField            // in what may be the name of a field
	lineColon            // after the colon, where one space is not part of the data
	lineEvent            // after the colon of an event's name
	lineName             // in an event's name
	lineData             // in the data
	lineIgnore           // in a line that is none of these
)

// maxField is the length of the longest name of a field that is looked at: "event".
const maxField = 5

// events follows server-sent events.
func (w *watcher) events(p []byte) {
	s := &w.sse
	for len(p) > 0 {
		if s.cr {
			s.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		switch s.line {
		case lineData, lineName, lineIgnore:
			n := bytes.IndexByte(p, '\n')
			if n < 0 {
				n = len(p)
			}
			if r := bytes.IndexByte(p[:n], '\r'); r >= 0 {
				n = r
			}
			switch s.line {
			case lineData:
				w.json.write(p[:n])
			case lineName:
				s.field = append(s.field, p[:min(n, maxEventName+1-len(s.field))]...)
			}
			if p = p[n:]; len(p) > 0 {
				w.endLine(p[0])
				p = p[1:]
			}
		default:
			if c := p[0]; c == '\n' || c == '\r' {
				w.endLine(c)
				p = p[1:]
			} else if w.head(c) {
				p = p[1:]
			}
		}
	}
}

// head follows the start of a line and reports whether it has used up the byte.
func (w *watcher) head(c byte) bool {
	s := &w.sse
	switch s.line {
	case lineStart:
		s.match, s.field = 0, s.field[:0]
		s.line = lineField
		if !s.began {
			s.began = true
			if c == 0xEF {
				s.line = lineMark
			}
		}
		return false
	case lineMark:
		if c != "\xEF\xBB\xBF"[s.match] {
			s.line = lineIgnore
			return false
		}
		if s.match++; s.match == 3 {
			s.line = lineStart
		}
		return true
	case lineField:
		switch {
		case c == ':' && string(s.field) == "data":
			s.line = lineColon
			if s.data {
				w.json.write([]byte{'\n'})
			}
			s.data = true
			return true
		case c == ':' && string(s.field) == "event":
			s.line, s.field = lineEvent, s.field[:0]
			return true
		case c != ':' && len(s.field) < maxField:
			s.field = append(s.field, c)
			return true
		}
		s.line = lineIgnore
		return false
	case lineEvent:
		s.line = lineName
	default: // lineColon
		s.line = lineData
	}
	return c == ' '
}

func (w *watcher) endLine(c byte) {
	s := &w.sse
	switch s.line {
	case lineStart: // an empty line ends the event
		w.json.reset()
		s.data = false
		if s.named {
			s.named = false
			w.eventName(nil)
		}
	case lineEvent:
		s.named = true
		w.eventName(nil)
	case lineName:
		s.named = true
		w.eventName(s.field)
	}
	s.line = lineStart
	s.began = true
	s.cr = c == '\r'
}
