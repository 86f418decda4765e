package coding

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"sallyport.dev/sallyport/pkg/llm"
)

// Limits bound what Decode writes. A field that is zero or negative takes its default, so that no limit can be switched off by leaving it out.
type Limits struct {
	// MaxBytes is the length of what any of the codings hides, in bytes; more is llm.FindingOversize. Default 32 MiB.
	MaxBytes int64
	// MaxRatio is how many times as long as the body what any of the codings hides may be; more is llm.FindingContentRatio. What is shorter than 64 KiB
	// is never too much. Default 100.
	MaxRatio int
	// MaxStacked is how many codings may lie one upon another; more is llm.FindingContentEncoding. Default 2.
	MaxStacked int
}

// freeBytes is how long plain text may be whatever the ratio: small bodies of one repeated character are nobody's bomb.
const freeBytes = 64 << 10

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = llm.DefaultLimits().MaxBytes
	}
	if l.MaxRatio <= 0 {
		l.MaxRatio = 100
	}
	if l.MaxStacked <= 0 {
		l.MaxStacked = 2
	}
	return l
}

// maxWindow is the largest window of zstd that is decoded, as RFC 9659 has it for content codings. That of br is 16 MiB by its format.
const maxWindow = 8 << 20

// The codings.
const (
	gzipCoding    = "gzip"
	deflateCoding = "deflate"
	brCoding      = "br"
	zstdCoding    = "zstd"
)

// parse returns the codings of a Content-Encoding header in the order in which they were put on. It is not ok where there is one that is not decoded.
func parse(header string) (codings []string, ok bool) {
	if strings.Trim(header, " \t") == "" {
		return nil, true
	}
	for c := range strings.SplitSeq(header, ",") {
		switch c = strings.ToLower(strings.Trim(c, " \t")); c {
		case "identity":
		case "x-gzip":
			codings = append(codings, gzipCoding)
		case gzipCoding, deflateCoding, brCoding, zstdCoding:
			codings = append(codings, c)
		default:
			return nil, false
		}
	}
	return codings, true
}

// Decode takes the codings that a Content-Encoding header names off a body. A body without any is returned as it is. What is wrong is among
// the findings; plain is nil where the body could not be decoded or is beyond the limits.
func Decode(header string, body []byte, lim Limits) (plain []byte, findings []llm.Finding) {
	lim = lim.withDefaults()
	codings, ok := parse(header)
	switch {
	case !ok:
		return nil, []llm.Finding{{Code: llm.FindingContentEncoding, Detail: "the body is in a content coding that is not decoded"}}
	case len(codings) > lim.MaxStacked:
		return nil, []llm.Finding{{Code: llm.FindingContentEncoding, Detail: fmt.Sprintf("more than %d content codings lie one upon another", lim.MaxStacked)}}
	}
	d := decoder{max: lim.MaxBytes, tooMuch: llm.FindingOversize}
	if byRatio := ratioLimit(len(body), lim.MaxRatio); byRatio < d.max {
		d.max, d.tooMuch = byRatio, llm.FindingContentRatio
	}
	plain = body
	for i := len(codings) - 1; i >= 0; i-- {
		if plain, ok = d.decode(codings[i], plain); !ok {
			return nil, d.findings
		}
	}
	return plain, d.findings
}

func ratioLimit(size, ratio int) int64 {
	if int64(size) > math.MaxInt64/int64(ratio) {
		return math.MaxInt64
	}
	return max(freeBytes, int64(size)*int64(ratio))
}

// decoder decodes one body.
type decoder struct {
	max      int64
	tooMuch  llm.FindingCode // what more than max is
	findings []llm.Finding
}

func (d *decoder) find(code llm.FindingCode, detail string) {
	d.findings = append(d.findings, llm.Finding{Code: code, Detail: detail})
}

const (
	broken   = "the body is not what its content coding says, or is cut short"
	trailing = "there is more after the end of the compressed body"
	several  = "the body is compressed in several pieces, of which some readers see the first alone"
)

// decode takes one coding off.
func (d *decoder) decode(coding string, body []byte) (plain []byte, ok bool) {
	switch coding {
	case gzipCoding:
		return d.gzip(body)
	case deflateCoding:
		return d.deflate(body)
	case brCoding:
		return d.read(brotli.NewReader(bytes.NewReader(body)), len(body))
	}
	return d.zstd(body)
}

// read reads all that a reader decodes.
func (d *decoder) read(r io.Reader, size int) (plain []byte, ok bool) {
	var b bytes.Buffer
	b.Grow(int(min(d.max, int64(size)*4)) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(r, d.max+1))
	switch {
	case n > d.max:
		d.find(d.tooMuch, fmt.Sprintf("the body is more than %d bytes when its content coding is taken off", d.max))
		return nil, false
	case err != nil:
		d.find(llm.FindingContentEncoding, broken)
		return nil, false
	}
	return b.Bytes(), true
}

// The flags of a gzip member's header that clients set: text or not, a checksum of the header, the name of the file. A comment, an extra field and
// what has no meaning yet is for nobody who sends a request.
const gzipFlags = 1<<0 | 1<<1 | 1<<3

func (d *decoder) gzip(body []byte) (plain []byte, ok bool) {
	r := bytes.NewReader(body)
	z, err := gzip.NewReader(r)
	if err != nil {
		d.find(llm.FindingContentEncoding, broken)
		return nil, false
	}
	if body[3]&^gzipFlags != 0 {
		d.find(llm.FindingContentEncoding, "the header of the compressed body has a field that clients do not write")
	}
	z.Multistream(false)
	if plain, ok = d.read(z, len(body)); !ok || r.Len() == 0 {
		return plain, ok
	}
	return d.whole(plain, func() ([]byte, bool) {
		all, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, false
		}
		return d.read(all, len(body))
	})
}

// whole returns what a body is of which something follows the first text that is compressed in it. All of it is read, so that nothing is out of sight; where
// that cannot be, the first text is what most readers have.
func (d *decoder) whole(first []byte, all func() ([]byte, bool)) (plain []byte, ok bool) {
	before := len(d.findings)
	if plain, ok = all(); ok {
		d.find(llm.FindingContentEncoding, several)
		return plain, true
	}
	if len(d.findings) > before && d.findings[before].Code == d.tooMuch {
		return nil, false
	}
	d.findings = d.findings[:before]
	d.find(llm.FindingTrailingData, trailing)
	return first, true
}

// deflate is the zlib format by the standard, but some clients and servers know it without the header and checksum of that. A body that can be
// read in both ways is a finding.
func (d *decoder) deflate(body []byte) (plain []byte, ok bool) {
	bare := bytes.NewReader(body)
	if len(body) < 2 || body[0]&0x0F != 8 || (int(body[0])<<8|int(body[1]))%31 != 0 {
		if plain, ok = d.read(flate.NewReader(bare), len(body)); ok && bare.Len() > 0 {
			d.find(llm.FindingTrailingData, trailing)
		}
		return plain, ok
	}
	r := bytes.NewReader(body)
	z, err := zlib.NewReader(r)
	if err != nil { // it wants a dictionary
		d.find(llm.FindingContentEncoding, broken)
		return nil, false
	}
	if plain, ok = d.read(z, len(body)); !ok {
		return nil, false
	}
	if r.Len() > 0 {
		d.find(llm.FindingTrailingData, trailing)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(flate.NewReader(bare), d.max)); err == nil {
		d.find(llm.FindingContentEncoding, "the body can be decoded both with and without the header of zlib")
	}
	return plain, true
}

func (d *decoder) zstd(body []byte) (plain []byte, ok bool) {
	end, err := frameEnd(body)
	if err != nil {
		d.find(llm.FindingContentEncoding, broken)
		return nil, false
	}
	read := func(b []byte) ([]byte, bool) {
		z, err := newZstd(bytes.NewReader(b))
		if err != nil {
			d.find(llm.FindingContentEncoding, broken)
			return nil, false
		}
		defer z.Close()
		return d.read(z, len(b))
	}
	if plain, ok = read(body[:end]); !ok || end == len(body) {
		return plain, ok
	}
	return d.whole(plain, func() ([]byte, bool) { return read(body) })
}

func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

var errFrame = errors.New("no frame of zstd")

// frameEnd returns where the first frame of zstd ends (RFC 8878, section 3.1.1). A frame that is to be skipped is none.
func frameEnd(b []byte) (int, error) {
	if len(b) < 6 || string(b[:4]) != zstdMagic {
		return 0, errFrame
	}
	descriptor := b[4]
	single := descriptor>>5&1 != 0
	at := 5 + [...]int{0, 1, 2, 4}[descriptor&3] + [...]int{0, 2, 4, 8}[descriptor>>6]
	if single {
		if descriptor>>6 == 0 {
			at++ // the content's size is of one byte
		}
	} else {
		at++ // the window
	}
	for {
		if at+3 > len(b) {
			return 0, errFrame
		}
		head := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		size := head >> 3
		if head>>1&3 == 1 {
			size = 1 // one byte, repeated
		}
		if at += 3 + size; head&1 != 0 {
			break
		}
	}
	if descriptor>>2&1 != 0 {
		at += 4 // the checksum
	}
	if at > len(b) {
		return 0, errFrame
	}
	return at, nil
}

// NewReader returns a reader that takes the codings that a Content-Encoding header names off what r reads, as it comes: what the
// sender has flushed can be read. It reads nothing before it is asked to, keeps windows of at most 16 MiB, and takes any number of members and frames.
func NewReader(header string, r io.Reader) (io.ReadCloser, error) {
	codings, ok := parse(header)
	if !ok || len(codings) > (Limits{}).withDefaults().MaxStacked {
		return nil, fmt.Errorf("content coding %.40q is not decoded", header)
	}
	for i := len(codings) - 1; i >= 0; i-- {
		r = &lazy{coding: codings[i], src: r}
	}
	if c, ok := r.(io.ReadCloser); ok && len(codings) > 0 {
		return c, nil
	}
	return io.NopCloser(r), nil
}

// lazy makes its decoder when it is first read from, since some decoders read a header at once.
type lazy struct {
	coding string
	src    io.Reader
	r      io.Reader
	err    error
}

// Read implements io.Reader.
func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil && l.err == nil {
		l.r, l.err = l.open()
	}
	if l.err != nil {
		return 0, l.err
	}
	return l.r.Read(p)
}

func (l *lazy) open() (io.Reader, error) {
	switch l.coding {
	case gzipCoding:
		return gzip.NewReader(l.src)
	case brCoding:
		return brotli.NewReader(l.src), nil
	case zstdCoding:
		return newZstd(l.src)
	}
	head := make([]byte, 2)
	n, err := io.ReadFull(l.src, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	src := io.MultiReader(bytes.NewReader(head[:n]), l.src)
	if n == 2 && head[0]&0x0F == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(src)
	}
	return flate.NewReader(src), nil
}

// Close implements io.Closer. It closes the decoders, not what they read from.
func (l *lazy) Close() error {
	if z, ok := l.r.(*zstd.Decoder); ok {
		z.Close()
	}
	l.err = io.ErrClosedPipe
	if inner, ok := l.src.(*lazy); ok {
		return inner.Close()
	}
	return nil
}
