package framing

import (
	"encoding/binary"
	"fmt"

	"sallyport.dev/sallyport/pkg/llm"
)

// Splitter takes a stream apart into frames. It holds at most one frame that is not complete, and what was written last.
type Splitter struct {
	framing  llm.Framing
	maxFrame int
	buf      []byte
	start    int // of the frame that is not handed out yet
	pos      int // up to which that frame has been looked at
	err      error

	// Of server-sent events: whether the line up to pos has anything in it, whether a carriage return was the last byte, and whether the line
	// before it ended with one and a line feed.
	line, cr, crlf bool
	// Of a JSON array: how deep pos is within objects and arrays, and where.
	depth            int
	array            bool // the outermost value is an array
	inString, escape bool
}

// New returns a splitter of a stream of the framing. A frame of more than maxFrame bytes is an error. A response of a framing that has no frames
// in this sense, llm.FramingNone and llm.FramingWebSocket, is all Rest.
func New(f llm.Framing, maxFrame int) *Splitter { return &Splitter{framing: f, maxFrame: maxFrame} }

// Write adds the next bytes of the stream. What Next has returned before is no longer valid.
func (s *Splitter) Write(p []byte) {
	if s.start > 0 {
		n := copy(s.buf, s.buf[s.start:])
		s.buf, s.pos, s.start = s.buf[:n], s.pos-s.start, 0
	}
	s.buf = append(s.buf, p...)
}

// Next returns the next whole frame as it was sent, with what separates it from its neighbours. It is valid until the next Write. ok is false when
// there is none yet, and always after an error.
func (s *Splitter) Next() (frame []byte, ok bool) {
	if s.err != nil {
		return nil, false
	}
	end := -1
	switch s.framing {
	case llm.FramingSSE:
		end = s.event()
	case llm.FramingNDJSON:
		end = s.lineEnd()
	case llm.FramingJSONArray:
		end = s.element()
	case llm.FramingEventStream:
		end = s.message()
	}
	if s.err != nil {
		return nil, false
	}
	size := len(s.buf) - s.start
	if end >= 0 {
		size = end - s.start
	}
	if size > s.maxFrame {
		s.err = fmt.Errorf("a frame of the response is longer than %d bytes", s.maxFrame)
		return nil, false
	}
	if end < 0 {
		return nil, false
	}
	frame = s.buf[s.start:end:end]
	s.start, s.pos = end, end
	return frame, true
}

// Rest returns what has been written and is no whole frame, which at the end of a stream is what it lacks the end of, and forgets it. After
// an error it is all that Next has not returned.
func (s *Splitter) Rest() []byte {
	rest := s.buf[s.start:]
	s.start, s.pos = len(s.buf), len(s.buf)
	return rest
}

// Err returns why there are no more frames: one is longer than allowed, or is none.
func (s *Splitter) Err() error { return s.err }

// event returns the end of an event: after an empty line. Where lines end with a carriage return alone, a line feed that comes after the event is the
// next frame's, so that an event is never kept waiting for what may not come.
func (s *Splitter) event() int {
	for ; s.pos < len(s.buf); s.pos++ {
		c := s.buf[s.pos]
		if c == '\n' && s.cr {
			s.cr, s.crlf = false, true
			continue
		}
		if c != '\n' && c != '\r' {
			s.cr, s.line = false, true
			continue
		}
		if s.line {
			s.line, s.cr, s.crlf = false, c == '\r', false
			continue
		}
		end := s.pos + 1
		if c == '\r' && end < len(s.buf) && s.buf[end] == '\n' {
			end++
		} else if c == '\r' && s.crlf && end == len(s.buf) {
			return -1 // the line feed is on its way
		}
		s.cr = c == '\r' && end == s.pos+1
		s.pos = end
		return end
	}
	return -1
}

func (s *Splitter) lineEnd() int {
	for ; s.pos < len(s.buf); s.pos++ {
		if s.buf[s.pos] == '\n' {
			return s.pos + 1
		}
	}
	return -1
}

// element returns the end of an object or array that is an element, or of the whole array. Commas and white space belong to the element after
// them, and so do elements that are no objects or arrays.
func (s *Splitter) element() int {
	for ; s.pos < len(s.buf); s.pos++ {
		c := s.buf[s.pos]
		if s.inString {
			switch {
			case s.escape:
				s.escape = false
			case c == '\\':
				s.escape = true
			case c == '"':
				s.inString = false
			}
			continue
		}
		switch c {
		case '"':
			s.inString = true
		case '{', '[':
			if s.depth == 0 && c == '[' {
				s.array = true
			}
			s.depth++
		case '}', ']':
			s.depth = max(0, s.depth-1)
			if s.depth == 0 || s.depth == 1 && s.array {
				s.array = s.array && s.depth == 1
				return s.pos + 1
			}
		}
	}
	return -1
}

const (
	preludeLen = 12             // total length, length of the headers, checksum
	minMessage = 4 + preludeLen // and the checksum of it all
)

func (s *Splitter) message() int {
	if len(s.buf)-s.start < preludeLen {
		return -1
	}
	total := binary.BigEndian.Uint32(s.buf[s.start:])
	if total < minMessage {
		s.err = fmt.Errorf("a frame of the response says that it is %d bytes long, which no frame is", total)
		return -1
	}
	if int64(total) > int64(s.maxFrame) {
		s.err = fmt.Errorf("a frame of the response is longer than %d bytes", s.maxFrame)
		return -1
	}
	if len(s.buf)-s.start < int(total) {
		return -1
	}
	return s.start + int(total)
}

// KeepAlive returns what can be sent before any frame of the framing, the first one too, so that the connection does not look dead while frames are held
// back: it means nothing to a reader of the stream. A frame must follow it sooner or later. It is nil where there is no such thing; a WebSocket has ping frames.
func KeepAlive(f llm.Framing) []byte {
	switch f {
	case llm.FramingSSE:
		// A comment. No empty line ends it, since some clients take that for the end of an event without data, and fail.
		return []byte(": keep-alive\n")
	case llm.FramingNDJSON, llm.FramingJSONArray:
		// White space before the next JSON text. No line feed, since some clients take each line for a text.
		return []byte(" ")
	}
	return nil
}

// End returns what ends a stream of the framing after frames that were sent, where end is what the End of a Watcher returns, which has seen
// more frames than were sent. It makes a JSON array of an end that was meant to follow other elements, where none were sent.
func End(f llm.Framing, end []byte, sent bool) []byte {
	if f == llm.FramingJSONArray && !sent && len(end) > 0 && end[0] == ',' {
		return append([]byte{'['}, end[1:]...)
	}
	return end
}
