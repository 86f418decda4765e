package detector

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"
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

// unzip goes on with what the rest is by DEFLATE, which must be at most so many bytes and have nothing after it.
func (r *reader) unzip(most int) {
	if r.err != nil {
		return
	}
	rest := bytes.NewReader(r.rest)
	b, err := io.ReadAll(io.LimitReader(flate.NewReader(rest), int64(most)+1))
	switch {
	case err != nil:
		r.fail(err.Error())
	case len(b) > most:
		r.fail(fmt.Sprintf("more than %d bytes when unzipped", most))
	case rest.Len() > 0:
		r.fail("bytes after the end")
	default:
		r.rest = b
	}
}

// appendZipped appends what, by DEFLATE.
func appendZipped(to, what []byte) ([]byte, error) {
	zipped := bytes.NewBuffer(to)
	w := zippers.Get().(*flate.Writer) //nolint:forcetypeassert // the pool has no other
	defer zippers.Put(w)
	w.Reset(zipped)
	if _, err := w.Write(what); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zipped.Bytes(), nil
}

// zippers are large, and used again.
var zippers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, zipEffort)
	if err != nil {
		panic(err) // an effort that there is not
	}
	return w
}}

// zipEffort is flate's own default: with less, models take an eighth more, and rows a seventh.
const zipEffort = 6

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

func (r *reader) float64() float64 {
	if b := r.bytes(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
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
