package wire

import (
	"encoding/binary"
	"hash/crc32"

	"sallyport.dev/sallyport/pkg/llm"
)

// A frame of application/vnd.amazon.eventstream: total length, length of the headers, checksum of these eight bytes; headers; payload;
// checksum of all before it. All numbers are big-endian.
const (
	preludeLen  = 12
	checksumLen = 4
	// maxHeaders and maxFrame are the bounds that the format has.
	maxHeaders = 128 << 10
	maxFrame   = 16 << 20
)

// frames is how far an event stream is read.
type frames struct {
	part    framePart
	buf     []byte // the prelude, the headers or the checksum so far
	want    int    // bytes of the part that are still to come
	headers int    // of the frame, in bytes
	payload int
	sum     uint32 // of the frame so far
	named   bool
}

type framePart uint8

const (
	framePrelude framePart = iota
	frameHeaders
	framePayload
	frameChecksum
	frameBroken // what was read is no event stream, or has been damaged: nothing more is read
)

// eventStream follows frames. What is in a payload is read as it comes, before its checksum.
func (w *watcher) eventStream(p []byte) {
	f := &w.frames
	for len(p) > 0 && f.part != frameBroken {
		if f.part == framePrelude && f.want == 0 {
			f.want, f.buf, f.sum = preludeLen, f.buf[:0], 0
		}
		piece := p[:min(len(p), f.want)]
		p = p[len(piece):]
		f.want -= len(piece)
		if f.part == framePayload {
			f.sum = crc32.Update(f.sum, crc32.IEEETable, piece)
			w.json.write(piece)
		} else {
			f.buf = append(f.buf, piece...)
		}
		if f.want == 0 {
			w.endPart()
		}
	}
}

// endPart follows the end of a part of a frame, and passes over those that are empty.
func (w *watcher) endPart() {
	f := &w.frames
	for f.want == 0 && f.part != frameBroken {
		switch f.part {
		case framePrelude:
			total, headers := binary.BigEndian.Uint32(f.buf), binary.BigEndian.Uint32(f.buf[4:])
			if crc32.ChecksumIEEE(f.buf[:8]) != binary.BigEndian.Uint32(f.buf[8:]) || headers > maxHeaders || total > maxFrame || total < preludeLen+headers+checksumLen {
				f.part = frameBroken
				return
			}
			f.sum = crc32.ChecksumIEEE(f.buf)
			f.headers, f.payload = int(headers), int(total-headers-preludeLen-checksumLen)
			f.part, f.want, f.buf = frameHeaders, f.headers, f.buf[:0]
		case frameHeaders:
			f.sum = crc32.Update(f.sum, crc32.IEEETable, f.buf)
			name, ok := eventType(f.buf)
			if !ok {
				f.part = frameBroken
				return
			}
			w.json.reset()
			if f.named = len(name) > 0; f.named {
				w.eventName(name)
			}
			f.part, f.want, f.buf = framePayload, f.payload, f.buf[:0]
		case framePayload:
			f.part, f.want = frameChecksum, checksumLen
		case frameChecksum:
			if f.sum != binary.BigEndian.Uint32(f.buf) {
				f.part = frameBroken
				return
			}
			if f.named {
				w.eventName(nil)
			}
			f.part = framePrelude
			return
		}
	}
}

// headerSizes are the lengths of values by type; those of types 6 and 7, bytes and strings, say theirs.
var headerSizes = [...]int{0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}

const (
	headerBytes  = 6
	headerString = 7
)

// eventType returns the value of :event-type or :exception-type, "" when there is none. ok is false when these are no headers.
func eventType(b []byte) (name []byte, ok bool) {
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < n+2 {
			return nil, false
		}
		key, kind := string(b[1:1+n]), int(b[1+n])
		b = b[n+2:]
		var size int
		switch {
		case kind == headerBytes || kind == headerString:
			if len(b) < 2 {
				return nil, false
			}
			size = int(binary.BigEndian.Uint16(b))
			b = b[2:]
		case kind < len(headerSizes):
			size = headerSizes[kind]
		default:
			return nil, false
		}
		if len(b) < size {
			return nil, false
		}
		if kind == headerString && (key == ":event-type" || key == ":exception-type") {
			name = b[:size]
		}
		b = b[size:]
	}
	return name, true
}

// EventHeader is a header of a frame of an event stream, whose value is a string.
type EventHeader struct{ Name, Value string }

// AppendEvent appends a frame of an event stream to dst.
func AppendEvent(dst []byte, headers []EventHeader, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, preludeLen)...)
	for _, h := range headers {
		dst = append(dst, byte(len(h.Name)))
		dst = append(dst, h.Name...)
		dst = append(dst, headerString)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.Value)))
		dst = append(dst, h.Value...)
	}
	frame := dst[start:]
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-preludeLen))
	binary.BigEndian.PutUint32(frame, uint32(len(frame)+len(payload)+checksumLen))
	binary.BigEndian.PutUint32(frame[8:], crc32.ChecksumIEEE(frame[:8]))
	dst = append(dst, payload...)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
}

// EventException returns the frame that ends an event stream with an exception, as AWS's SDKs raise it: its payload is a JSON text.
func EventException(name string, payload []byte) []byte {
	return AppendEvent(nil, []EventHeader{{":exception-type", name}, {":content-type", JSON}, {":message-type", "exception"}}, payload)
}

// SSE returns a server-sent event with a name, which may be "", and data of one line.
func SSE(name string, data []byte) []byte {
	var b []byte
	if name != "" {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	return append(append(append(b, "data: "...), data...), "\n\n"...)
}

// Frame returns one JSON text as a frame of a framing that has no names: NDJSON, a WebSocket message, or server-sent events. It is nil for the
// others.
func Frame(f llm.Framing, text []byte) []byte {
	switch f {
	case llm.FramingSSE:
		return SSE("", text)
	case llm.FramingNDJSON:
		return append(append([]byte(nil), text...), '\n')
	case llm.FramingWebSocket:
		return text
	}
	return nil
}
