package websocket

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Opcode is what a frame is.
type Opcode byte

// The opcodes.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xa
)

// Control says whether frames of this kind may stand between the frames of a message.
func (o Opcode) Control() bool { return o&0x8 != 0 }

// The close codes that this package and its users send.
const (
	CloseGoingAway      uint16 = 1001
	CloseProtocolError  uint16 = 1002
	CloseInvalidPayload uint16 = 1007
	ClosePolicy         uint16 = 1008
	CloseTooBig         uint16 = 1009
	CloseTryAgainLater  uint16 = 1013
)

// Error is a breach of the protocol. The connection cannot go on after it.
type Error struct {
	// Code is the close code to end the connection with.
	Code uint16
	// Reason is a short sentence without content of the messages.
	Reason string
}

// Error is part of error.
func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.Reason, e.Code) }

func protocolError(reason string) error { return &Error{CloseProtocolError, reason} }

// maxControl is the longest payload of a control frame.
const maxControl = 125

// Frame is the head of a frame.
type Frame struct {
	// Fin says that the message ends with this frame.
	Fin bool
	// Compressed is RSV1: the message, whose first frame this is, is compressed.
	Compressed bool
	Opcode     Opcode
	// Length of the payload.
	Length int64
}

// Options say what a Reader accepts.
type Options struct {
	// Masked says that the frames come from a client. Frames that are masked otherwise are an error.
	Masked bool
	// Deflate says that permessage-deflate was negotiated.
	Deflate bool
	// MaxMessage is how long the payloads of a message's frames may be together, as sent; 0 is no bound.
	MaxMessage int64
}

// Reader reads the frames of one direction of a connection. It holds one frame's head at a time and never reads further than it was asked to,
// but for what its buffer takes.
type Reader struct {
	r *bufio.Reader
	o Options

	head   []byte // of the current frame, as sent
	key    [4]byte
	at     int   // into key
	left   int64 // of the current frame's payload
	within bool  // a message has begun and not ended
	length int64 // of the message so far
}

// NewReader returns a reader of the frames that r gives. A *bufio.Reader is used as it is.
func NewReader(r io.Reader, o Options) *Reader {
	b, ok := r.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(r, 16<<10)
	}
	return &Reader{r: b, o: o}
}

// Next reads the head of the next frame. The payload of the frame before must have been read. The error is an *Error for a breach of the
// protocol, io.EOF where the connection ended between two frames, and else what the connection says.
func (r *Reader) Next() (Frame, error) {
	if r.left > 0 {
		return Frame{}, errors.New("websocket: the frame before was not read to its end")
	}
	r.head = r.head[:0]
	if err := r.take(2); err != nil {
		return Frame{}, err
	}
	f := Frame{Fin: r.head[0]&0x80 != 0, Compressed: r.head[0]&0x40 != 0, Opcode: Opcode(r.head[0] & 0xf)}
	masked := r.head[1]&0x80 != 0
	if r.head[0]&0x30 != 0 {
		return f, protocolError("a reserved bit is set")
	}
	if masked != r.o.Masked {
		return f, protocolError("the frame is masked where it must not be, or not where it must")
	}
	switch n := r.head[1] & 0x7f; n {
	case 126:
		if err := r.take(2); err != nil {
			return f, err
		}
		f.Length = int64(binary.BigEndian.Uint16(r.head[2:]))
		if f.Length < 126 {
			return f, protocolError("the length is not written in its shortest form")
		}
	case 127:
		if err := r.take(8); err != nil {
			return f, err
		}
		u := binary.BigEndian.Uint64(r.head[2:])
		if u>>63 != 0 || u < 1<<16 {
			return f, protocolError("the length is not written in its shortest form")
		}
		f.Length = int64(u)
	default:
		f.Length = int64(n)
	}
	if err := r.check(f); err != nil {
		return f, err
	}
	r.key, r.at, r.left = [4]byte{}, 0, f.Length
	if masked {
		n := len(r.head)
		if err := r.take(4); err != nil {
			return f, err
		}
		r.key = [4]byte(r.head[n:])
	}
	return f, nil
}

// take reads n more bytes of the head.
func (r *Reader) take(n int) error {
	from := len(r.head)
	r.head = slices.Grow(r.head, n)[:from+n]
	got, err := io.ReadFull(r.r, r.head[from:])
	if from+got > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// check holds a frame against the frames before it.
func (r *Reader) check(f Frame) error {
	switch f.Opcode {
	case Close, Ping, Pong:
		switch {
		case !f.Fin:
			return protocolError("a control frame is fragmented")
		case f.Length > maxControl:
			return protocolError("a control frame is too long")
		case f.Compressed:
			return protocolError("a control frame is compressed")
		}
		return nil
	case Text, Binary:
		if r.within {
			return protocolError("a message begins within another")
		}
		if f.Compressed && !r.o.Deflate {
			return protocolError("a message is compressed, which was not agreed on")
		}
		r.length = 0
	case Continuation:
		if !r.within {
			return protocolError("a continuation has nothing to continue")
		}
		if f.Compressed {
			return protocolError("a continuation says again that it is compressed")
		}
	default:
		return protocolError("the opcode is reserved")
	}
	if r.o.MaxMessage > 0 && f.Length > r.o.MaxMessage-r.length {
		return &Error{CloseTooBig, fmt.Sprintf("a message is larger than %d bytes", r.o.MaxMessage)}
	}
	r.length += f.Length
	r.within = !f.Fin
	return nil
}

// Head returns the bytes of the current frame before its payload, as sent. They are valid until the next call of Next.
func (r *Reader) Head() []byte { return r.head }

// Read reads the payload of the current frame, unmasked; io.EOF is its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.o.Masked {
		r.at = mask(p[:n], r.key, r.at)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		err = nil // it will be said again
	}
	return n, err
}

// Payload reads what is left of the current frame's payload, unmasked, and appends it to dst, which grows as the bytes come: a length alone
// costs nothing.
func (r *Reader) Payload(dst []byte) ([]byte, error) {
	for r.left > 0 {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, int(min(r.left, int64(max(512, len(dst))))))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// mask applies a key that was used for at bytes before, and returns how many it was used for, modulo its length.
func mask(b []byte, key [4]byte, at int) int {
	if len(b) >= 16 {
		k := [4]byte{key[at&3], key[(at+1)&3], key[(at+2)&3], key[(at+3)&3]}
		word := uint64(binary.LittleEndian.Uint32(k[:]))
		word |= word << 32
		for len(b) >= 8 { // eight bytes are twice the key: at stays what it is
			binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
			b = b[8:]
		}
	}
	for i := range b {
		b[i] ^= key[(at+i)&3]
	}
	return (at + len(b)) & 3
}

// AppendFrame appends a frame to dst: masked with key, or not where key is nil. The frame's length is the payload's.
func AppendFrame(dst []byte, f Frame, key *[4]byte, payload []byte) []byte {
	first, second := byte(f.Opcode), byte(0)
	if f.Fin {
		first |= 0x80
	}
	if f.Compressed {
		first |= 0x40
	}
	if key != nil {
		second = 0x80
	}
	switch n := len(payload); {
	case n <= 125:
		dst = append(dst, first, second|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, first, second|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, second|127), uint64(n))
	}
	if key != nil {
		dst = append(dst, key[:]...)
	}
	from := len(dst)
	dst = append(dst, payload...)
	if key != nil {
		mask(dst[from:], *key, 0)
	}
	return dst
}

// AppendClose appends a close frame. A reason that is too long for one is cut.
func AppendClose(dst []byte, code uint16, reason string, key *[4]byte) []byte {
	for len(reason) > maxControl-2 {
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	payload := append(binary.BigEndian.AppendUint16(nil, code), reason...)
	return AppendFrame(dst, Frame{Fin: true, Opcode: Close}, key, payload)
}

// CheckClose says what is wrong with the payload of a close frame.
func CheckClose(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 {
		return protocolError("a close frame has half a code")
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code < 1000, code == 1004, code == 1005, code == 1006, code >= 1015 && code < 3000, code >= 5000:
		return protocolError("a close frame has a code that may not be sent")
	}
	if !utf8.Valid(payload[2:]) {
		return &Error{CloseInvalidPayload, "the reason of a close frame is not UTF-8"}
	}
	return nil
}
