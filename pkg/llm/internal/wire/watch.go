package wire

import (
	"bytes"
	"sync"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Shape says which values of a response a codec wants to see. A nil Shape wants nothing.
type Shape struct {
	Members map[string]*Shape // of an object
	Each    *Shape            // of an array
	// Take, when not 0, is handed to Taker.Take with each string, number or literal found here.
	Take int
	// End, when not 0, is handed to Taker.End when an object or array found here has ended.
	End int
}

// Taker is handed what a Shape wants, in the order of the text.
type Taker interface {
	Take(id int, v strictjson.Value)
	End(id int)
	Reply() llm.Reply
	// Close returns what ends a stream of the framing with a refusal, as llm.Watcher's End does.
	Close(f llm.Framing, r llm.Refusal) []byte
}

// Watch returns a watcher of a response: of a stream of server-sent events, each of which is one JSON text of the shape, or of one
// JSON text. A response of another type is no JSON, and nothing comes of it.
func Watch(o llm.WatchOptions, shape *Shape, t Taker) llm.Watcher {
	w := &watcher{json: follower{root: shape, taker: t}, taker: t, framing: o.Framing}
	if w.framing == llm.FramingNone {
		w.framing = llm.FramingOf(o.ContentType)
	}
	w.json.reset()
	w.events = w.framing == llm.FramingSSE
	return w
}

// watcher keeps no part of the response but a value of at most maxValue bytes that is wanted. It follows the text byte by byte, so
// that it is the same to it where one Write ends and the next begins.
type watcher struct {
	mu      sync.Mutex
	json    follower
	taker   Taker
	framing llm.Framing
	events  bool
	line    lineState
	match   int  // bytes of "data" seen at the start of the line, or of a byte order mark at the start of the stream
	cr      bool // the last byte was a carriage return, which a line feed may follow
	data    bool // the event has had a line of data
	began   bool // the first line has begun
}

type lineState uint8

const (
	lineStart  lineState = iota
	lineMark             // in a byte order mark, at the start of the stream
	lineField            // in what may be the field name "data"
	lineColon            // after the colon, where one space is not part of the data
	lineData             // in the data
	lineIgnore           // in a line that is none of data
)

const dataField = "data"

// Write implements llm.Watcher.
func (w *watcher) Write(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.events {
		w.json.write(p)
		return
	}
	for len(p) > 0 {
		if w.cr {
			w.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		switch w.line {
		case lineData, lineIgnore:
			n := bytes.IndexByte(p, '\n')
			if n < 0 {
				n = len(p)
			}
			if r := bytes.IndexByte(p[:n], '\r'); r >= 0 {
				n = r
			}
			if w.line == lineData {
				w.json.write(p[:n])
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
	switch w.line {
	case lineStart:
		w.match = 0
		w.line = lineField
		if !w.began {
			w.began = true
			if c == 0xEF {
				w.line = lineMark
			}
		}
		return false
	case lineMark:
		if c != "\xEF\xBB\xBF"[w.match] {
			w.line = lineIgnore
			return false
		}
		if w.match++; w.match == 3 {
			w.line = lineStart
		}
		return true
	case lineField:
		switch {
		case w.match == len(dataField) && c == ':':
			w.line = lineColon
			if w.data {
				w.json.write([]byte{'\n'})
			}
			w.data = true
			return true
		case w.match < len(dataField) && c == dataField[w.match]:
			w.match++
			return true
		}
		w.line = lineIgnore
		return false
	}
	w.line = lineData // lineColon
	return c == ' '
}

func (w *watcher) endLine(c byte) {
	if w.line == lineStart { // an empty line ends the event
		w.json.reset()
		w.data = false
	}
	w.line = lineStart
	w.began = true
	w.cr = c == '\r'
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

const (
	maxValue = 512 // bytes of the longest value that is taken, quotes included
	maxDepth = 12  // objects and arrays within a Shape; one nested deeper is passed over
	maxKey   = 40  // bytes of the longest name in a Shape
)

// follower follows one JSON text in pieces and hands over what a Shape wants. It accepts more than JSON: what it reads is a
// provider's answer, of which nothing is decided.
type follower struct {
	root  *Shape
	taker Taker
	doc   strictjson.Document

	state  state
	shape  *Shape // of the value that is being read or expected
	stack  [maxDepth]frame
	depth  int
	skip   int  // containers open within one that is passed over
	escape bool // the next byte of a string is escaped
	keep   bool // the value is kept in value
	value  []byte
	key    [maxKey]byte
	keyLen int
}

type frame struct {
	shape  *Shape
	object bool
}

type state uint8

const (
	wantValue state = iota
	wantFirst       // the first element or the end of an array
	wantName        // a name or the end of an object
	wantColon
	wantComma // a comma or the end of a container
	inString
	inName
	inBare // a number or literal
	inSkipped
	inSkippedString
	dead // the text has ended or is no JSON
)

func (f *follower) reset() {
	f.state, f.shape, f.depth, f.skip, f.escape = wantValue, f.root, 0, 0, false
}

func (f *follower) write(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		switch f.state {
		case dead:
			return
		case inString, inSkippedString:
			n := f.inString(p[i:])
			i += n
			continue
		case inName:
			switch {
			case f.escape:
				f.escape = false
				f.keyLen = maxKey + 1
			case c == '\\':
				f.escape = true
			case c == '"':
				f.shape = nil
				if f.keyLen <= maxKey {
					f.shape = f.stack[f.depth-1].shape.Members[string(f.key[:f.keyLen])]
				}
				f.state = wantColon
			case f.keyLen < maxKey:
				f.key[f.keyLen] = c
				f.keyLen++
			default:
				f.keyLen = maxKey + 1
			}
			i++
			continue
		case inBare:
			switch c {
			case ',', ']', '}', ' ', '\n', '\r', '\t':
				f.take()
				f.ended()
			default:
				f.push(c)
				i++
			}
			continue
		case inSkipped:
			switch c {
			case '"':
				f.state = inSkippedString
			case '{', '[':
				f.skip++
			case '}', ']':
				if f.skip--; f.skip == 0 {
					f.ended()
				}
			}
			i++
			continue
		}
		i++
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			continue
		}
		switch f.state {
		case wantFirst, wantValue:
			if f.state == wantFirst && c == ']' {
				f.close()
				continue
			}
			f.begin(c)
		case wantName:
			switch c {
			case '"':
				f.state, f.keyLen = inName, 0
			case '}':
				f.close()
			default:
				f.state = dead
			}
		case wantColon:
			f.state = wantValue
			if c != ':' {
				f.state = dead
			}
		case wantComma:
			top := f.stack[f.depth-1]
			switch {
			case c == ',' && top.object:
				f.state = wantName
			case c == ',':
				f.state, f.shape = wantValue, top.shape.Each
			case c == '}' && top.object, c == ']' && !top.object:
				f.close()
			default:
				f.state = dead
			}
		}
	}
}

// begin begins a value with its first byte.
func (f *follower) begin(c byte) {
	switch {
	case c == '{' || c == '[':
		if f.shape == nil || f.depth == maxDepth {
			f.state, f.skip = inSkipped, 1
			return
		}
		f.stack[f.depth] = frame{f.shape, c == '{'}
		f.depth++
		f.state = wantName
		if c == '[' {
			f.state, f.shape = wantFirst, f.shape.Each
		}
		return
	case c == '"':
		f.state = inString
	case c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z':
		f.state = inBare
	default:
		f.state = dead
		return
	}
	f.keep = f.shape != nil && f.shape.Take != 0
	f.value = f.value[:0]
	f.push(c)
}

// push keeps a byte of the value. A value that is too long is not kept at all.
func (f *follower) push(c byte) {
	if f.keep {
		f.value = append(f.value, c)
		f.keep = len(f.value) <= maxValue
	}
}

// inString follows the inside of a string and returns how many bytes it has used up.
func (f *follower) inString(p []byte) int {
	for i, c := range p {
		if f.state == inString {
			f.push(c)
		}
		switch {
		case f.escape:
			f.escape = false
		case c == '\\':
			f.escape = true
		case c == '"':
			if f.state == inSkippedString {
				f.state = inSkipped
			} else {
				f.take()
				f.ended()
			}
			return i + 1
		}
	}
	return len(p)
}

func (f *follower) take() {
	if f.keep && f.doc.Parse(f.value, strictjson.Options{}) {
		f.taker.Take(f.shape.Take, f.doc.Root())
	}
}

// ended follows the end of a value.
func (f *follower) ended() {
	f.state = wantComma
	if f.depth == 0 {
		f.state = dead
	}
}

// close follows the end of a container of the Shape.
func (f *follower) close() {
	f.depth--
	if id := f.stack[f.depth].shape.End; id != 0 {
		f.taker.End(id)
	}
	f.ended()
}
