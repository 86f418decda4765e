package coding

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// Encode puts the codings that a Content-Encoding header names on a body. A body without any is returned as it is.
func Encode(header string, plain []byte) ([]byte, error) {
	codings, ok := parse(header)
	if !ok {
		return nil, fmt.Errorf("content coding %.40q is not known", header)
	}
	for _, c := range codings {
		var b bytes.Buffer
		switch c {
		case gzipCoding:
			if err := compress(gzip.NewWriter(&b), plain); err != nil {
				return nil, err
			}
			plain = b.Bytes()
		case deflateCoding:
			if err := compress(zlib.NewWriter(&b), plain); err != nil {
				return nil, err
			}
			plain = b.Bytes()
		case brCoding:
			plain = storeBrotli(plain)
		default:
			plain = storeZstd(plain)
		}
	}
	return plain, nil
}

func compress(w io.WriteCloser, plain []byte) error {
	if _, err := w.Write(plain); err != nil {
		return fmt.Errorf("compress the body: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress the body: %w", err)
	}
	return nil
}

const (
	zstdMagic = "\x28\xB5\x2F\xFD"
	// zstdBlock is the length of the longest block: 128 KiB.
	zstdBlock = 128 << 10
	// brotliBlock is the length of the longest meta-block whose length is written in four nibbles.
	brotliBlock = 1 << 16
)

// storeZstd writes one frame of blocks that are not compressed (RFC 8878, section 3.1.1): with the length of the whole in eight bytes, a window as
// large as the longest block, and no checksum.
func storeZstd(plain []byte) []byte {
	const descriptor, window = 3 << 6, (17 - 10) << 3 // eight bytes of length; 2^17
	out := make([]byte, 0, len(plain)+len(plain)/zstdBlock*3+32)
	out = append(append(out, zstdMagic...), descriptor, window)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(plain)))
	for {
		block := plain[:min(len(plain), zstdBlock)]
		plain = plain[len(block):]
		head := len(block) << 3
		if len(plain) == 0 {
			head |= 1
		}
		out = append(append(out, byte(head), byte(head>>8), byte(head>>16)), block...)
		if len(plain) == 0 {
			return out
		}
	}
}

// storeBrotli writes meta-blocks that are not compressed (RFC 7932, section 9): the size of the window, then for each block a bit that says
// that it is not the last, two that say that its length has four nibbles, the length less one, a bit that says that it is not compressed, and
// zeroes up to the next byte; at the end a last block that is empty.
func storeBrotli(plain []byte) []byte {
	out := make([]byte, 0, len(plain)+len(plain)/brotliBlock*3+16)
	bits, n := uint32(0), 1 // the window is of 2^16 bytes, which is written as one zero
	for len(plain) > 0 {
		block := plain[:min(len(plain), brotliBlock)]
		plain = plain[len(block):]
		bits |= (uint32(len(block)-1)<<3 | 1<<19) << n
		for n += 20; n > 0; n -= 8 {
			out = append(out, byte(bits))
			bits >>= 8
		}
		bits, n = 0, 0
		out = append(out, block...)
	}
	return append(out, byte(bits|3<<n))
}
