package detector

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// seal appends the checksum.
func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// unseal checks length, magic and checksum and returns a reader of what is between them and the version.
func unseal(b []byte, magic string, most int) (*reader, byte, error) {
	if len(b) > most {
		return nil, 0, fmt.Errorf("%w: %d bytes, more than %d", ErrCorrupt, len(b), most)
	}
	if len(b) < len(magic)+5 || string(b[:len(magic)]) != magic {
		return nil, 0, fmt.Errorf("%w: does not begin with %q", ErrCorrupt, magic)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, 0, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	return &reader{rest: body[len(magic)+1:]}, b[len(magic)], nil
}

// reader takes values from the front of rest. After a failure it gives zeros; end tells.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, why)
	}
}

func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("bytes after the end")
	}
	return r.err
}

func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.rest)) {
		r.fail("ends too early")
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) float32() float32 {
	if b := r.bytes(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// uvarint reads a number in its shortest form, so that a value has one encoding only.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if r.err != nil || n <= 0 || n > 1 && r.rest[n-1] == 0 {
		r.fail("not a number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) count(most int) int {
	v := r.uvarint()
	if v > uint64(most) {
		r.fail(fmt.Sprintf("%d is more than %d", v, most))
		return 0
	}
	return int(v)
}
