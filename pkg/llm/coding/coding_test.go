package coding_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
)

// compress compresses as a client does, with other encoders than Encode where that has its own.
func compress(t testing.TB, coding string, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, flate.BestCompression)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const hello = `{"model":"m","messages":[{"role":"user","content":"hello"}]}`

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

// polyglot is read as "both" by a reader of zlib, and as stored bytes by one of bare deflate: 0x78 begins a stored block.
func polyglot(t *testing.T) []byte {
	t.Helper()
	// 78 01: a header of zlib. To a reader of bare deflate 78 is a stored block whose length is in the two bytes that follow: 01 xx.
	for second := range 256 {
		b := []byte{0x78, 0x01, byte(second)}
		if (0x78<<8|0x01)%31 != 0 {
			t.Fatal("not a header of zlib")
		}
		// The block that the reader of zlib sees: stored and last, of a length that begins in byte 3.
		if second&7 != 1 {
			continue
		}
		size := 1 | second<<8 // that the reader of bare deflate sees in bytes 1 and 2
		b = binary.LittleEndian.AppendUint16(b, ^uint16(size))
		// The reader of zlib sees in bytes 3 and 4 its length, and wants its complement in 5 and 6.
		inner := ^uint16(size)
		b = binary.LittleEndian.AppendUint16(b, ^inner)
		content := bytes.Repeat([]byte("a"), int(inner))
		b = append(b, content...)
		b = binary.BigEndian.AppendUint32(b, adler32.Checksum(content))
		// Beyond its stored block the reader of bare deflate needs a last block: it is within the content.
		at := 5 + size
		if at+5 > len(b)-4 {
			continue
		}
		copy(b[at:], []byte{1, 0, 0, 0xFF, 0xFF})
		binary.BigEndian.PutUint32(b[len(b)-4:], adler32.Checksum(b[7:len(b)-4]))
		return b
	}
	t.Fatal("there is none")
	return nil
}

func TestDecode(t *testing.T) {
	gz, br, zs := compress(t, "gzip", []byte(hello)), compress(t, "br", []byte(hello)), compress(t, "zstd", []byte(hello))
	zeros := make([]byte, 2<<20)
	var commented bytes.Buffer
	w := gzip.NewWriter(&commented)
	w.Comment = "more"
	_, _ = w.Write([]byte(hello))
	_ = w.Close()
	var named bytes.Buffer
	w = gzip.NewWriter(&named)
	w.Name = "body.json"
	_, _ = w.Write([]byte(hello))
	_ = w.Close()
	skip := append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2A, 0x4D, 0x18}, 4), "more"...)
	for _, c := range []struct {
		name, header string
		body         []byte
		plain        string
		codes        []llm.FindingCode
	}{
		{"none", "", []byte(hello), hello, nil},
		{"identity", "identity", []byte(hello), hello, nil},
		{"gzip", "gzip", gz, hello, nil},
		{"gzip by its old name, in capitals", " X-GZIP ", gz, hello, nil},
		{"gzip of a named file", "gzip", named.Bytes(), hello, nil},
		{"deflate", "deflate", compress(t, "deflate", []byte(hello)), hello, nil},
		{"deflate without the header", "deflate", compress(t, "raw", []byte(hello)), hello, nil},
		{"br", "br", br, hello, nil},
		{"zstd", "zstd", zs, hello, nil},
		{"one upon another", "gzip, zstd", compress(t, "zstd", gz), hello, nil},
		{"one upon another, and identity", "br,identity ,gzip", compress(t, "gzip", br), hello, nil},
		{"nothing, compressed", "gzip", compress(t, "gzip", nil), "", nil},
		{"a small body of one character", "gzip", compress(t, "gzip", zeros[:60<<10]), string(zeros[:60<<10]), nil},

		{"unknown", "compress", []byte(hello), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"unknown among known", "gzip, aws-chunked", gz, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"an empty element", "gzip,,", gz, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"with a parameter", "gzip;q=1", gz, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"too many", "gzip, gzip, gzip", gz, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"in the wrong order", "zstd, gzip", compress(t, "zstd", gz), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"said but not done", "gzip", []byte(hello), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"said of nothing", "br", nil, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"said of nothing, zstd", "zstd", nil, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"said of nothing, deflate", "deflate", nil, "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"gzip cut short", "gzip", gz[:len(gz)-1], "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"br cut short", "br", br[:len(br)-1], "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"zstd cut short", "zstd", zs[:len(zs)-1], "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"gzip with a wrong checksum", "gzip", join(gz[:len(gz)-8], []byte("\x00\x00\x00\x00"), gz[len(gz)-4:]), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"zlib that wants a dictionary", "deflate", []byte("\x78\x20\x00\x00\x00\x01"), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"deflate that is read in two ways", "deflate", polyglot(t), "-", []llm.FindingCode{llm.FindingContentEncoding}},
		{"gzip with a comment", "gzip", commented.Bytes(), hello, []llm.FindingCode{llm.FindingContentEncoding}},
		{"two members of gzip", "gzip", join(gz, gz), hello + hello, []llm.FindingCode{llm.FindingContentEncoding}},
		{"two frames of zstd", "zstd", join(zs, zs), hello + hello, []llm.FindingCode{llm.FindingContentEncoding}},
		{"a frame of zstd to be skipped, first", "zstd", join(skip, zs), "", []llm.FindingCode{llm.FindingContentEncoding}},
		{"a frame of zstd to be skipped, last", "zstd", join(zs, skip), hello, []llm.FindingCode{llm.FindingContentEncoding}},
		{"more after gzip", "gzip", join(gz, []byte("more")), hello, []llm.FindingCode{llm.FindingTrailingData}},
		{"zeroes after gzip", "gzip", join(gz, make([]byte, 20)), hello, []llm.FindingCode{llm.FindingTrailingData}},
		{"more after deflate", "deflate", join(compress(t, "deflate", []byte(hello)), []byte("more")), hello, []llm.FindingCode{llm.FindingTrailingData}},
		{"more after deflate without the header", "deflate", join(compress(t, "raw", []byte(hello)), []byte("more")), hello, []llm.FindingCode{llm.FindingTrailingData}},
		{"more after zstd", "zstd", join(zs, []byte("more")), hello, []llm.FindingCode{llm.FindingTrailingData}},
		{"more after br", "br", join(br, []byte("more")), "", []llm.FindingCode{llm.FindingContentEncoding}},

		{"a bomb of gzip", "gzip", compress(t, "gzip", zeros), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"a bomb of deflate", "deflate", compress(t, "deflate", zeros), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"a bomb of br", "br", compress(t, "br", zeros), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"a bomb of zstd", "zstd", compress(t, "zstd", zeros), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"a bomb in a bomb", "gzip, gzip", compress(t, "gzip", compress(t, "gzip", zeros)), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"a bomb behind something small", "gzip", join(gz, compress(t, "gzip", zeros)), "", []llm.FindingCode{llm.FindingContentRatio}},
		{"too long", "gzip", compress(t, "gzip", noise(1<<20+1)), "", []llm.FindingCode{llm.FindingOversize}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.body)
			plain, findings := coding.Decode(c.header, c.body, coding.Limits{MaxBytes: 1 << 20})
			if c.plain != "-" && string(plain) != c.plain {
				t.Errorf("%d bytes: %.100q", len(plain), plain)
			}
			var codes []string
			for _, f := range findings {
				codes = append(codes, string(f.Code))
				if f.Detail == "" {
					t.Errorf("%+v lacks a detail", f)
				}
			}
			var want []string
			for _, f := range c.codes {
				want = append(want, string(f))
			}
			if strings.Join(codes, " ") != strings.Join(want, " ") {
				t.Errorf("findings %q, want %q", codes, want)
			}
			if !bytes.Equal(before, c.body) {
				t.Error("the body was changed")
			}
		})
	}
	same, _ := coding.Decode("", zeros, coding.Limits{})
	if &same[0] != &zeros[0] {
		t.Error("a body without a coding was copied")
	}
}

// noise is text that does not compress.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// What Encode writes is what every decoder reads, of whatever length it is.
func TestEncode(t *testing.T) {
	for _, n := range []int{0, 1, 255, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 17, 1<<17 + 1, 300_000} {
		plain := noise(n)
		for _, header := range []string{"", "gzip", "x-gzip", "deflate", "br", "zstd", "zstd, br", "br, gzip"} {
			b, err := coding.Encode(header, plain)
			if err != nil {
				t.Fatal(err)
			}
			got, findings := coding.Decode(header, b, coding.Limits{})
			if !bytes.Equal(got, plain) || len(findings) > 0 {
				t.Errorf("%q, %d bytes: %d bytes, findings %+v", header, n, len(got), findings)
			}
		}
	}
	if _, err := coding.Encode("compress", nil); err == nil {
		t.Error("an unknown coding was written")
	}
}

func TestNewReader(t *testing.T) {
	plain := bytes.Repeat([]byte("data: {}\n\n"), 2_000)
	for _, c := range []struct {
		header string
		body   []byte
	}{
		{"", plain},
		{"identity", plain},
		{"gzip", compress(t, "gzip", plain)},
		{"gzip", join(compress(t, "gzip", plain[:10]), compress(t, "gzip", plain[10:]))},
		{"deflate", compress(t, "deflate", plain)},
		{"deflate", compress(t, "raw", plain)},
		{"br", compress(t, "br", plain)},
		{"zstd", compress(t, "zstd", plain)},
		{"zstd, gzip", compress(t, "gzip", compress(t, "zstd", plain))},
	} {
		r, err := coding.NewReader(c.header, iotest.OneByteReader(bytes.NewReader(c.body)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q: %d bytes, %v", c.header, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		r, _ = coding.NewReader(c.header, bytes.NewReader(c.body[:len(c.body)/2]))
		if got, err = io.ReadAll(r); c.header != "" && c.header != "identity" && err == nil {
			t.Errorf("%q cut short: %d bytes and no error", c.header, len(got))
		}
		_ = r.Close()
	}
	if _, err := coding.NewReader("compress", nil); err == nil {
		t.Error("an unknown coding is read")
	}
}

// What the sender has flushed is read before more comes.
func TestNewReaderDoesNotWait(t *testing.T) {
	const first = "data: {\"first\":1}\n\n"
	for _, c := range []struct {
		header string
		writer func(io.Writer) interface {
			io.Writer
			Flush() error
		}
	}{
		{"gzip", func(w io.Writer) interface {
			io.Writer
			Flush() error
		} {
			return gzip.NewWriter(w)
		}},
		{"deflate", func(w io.Writer) interface {
			io.Writer
			Flush() error
		} {
			return zlib.NewWriter(w)
		}},
		{"br", func(w io.Writer) interface {
			io.Writer
			Flush() error
		} {
			return brotli.NewWriter(w)
		}},
		{"zstd", func(w io.Writer) interface {
			io.Writer
			Flush() error
		} {
			z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			return z
		}},
	} {
		pr, pw := io.Pipe()
		r, err := coding.NewReader(c.header, pr)
		if err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() {
			w := c.writer(pw)
			_, _ = io.WriteString(w, first)
			wrote <- w.Flush()
		}()
		got := make([]byte, len(first))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != first {
			t.Errorf("%s: %q, %v", c.header, got, err)
		}
		_ = pr.Close()
		<-wrote
		_ = r.Close()
	}
}

// Whatever a body is, decoding ends within the limits; what was decoded without a finding, encoded and decoded again, is the same; and what is
// encoded and cut anywhere is never taken for whole.
func FuzzCoding(f *testing.F) {
	headers := []string{"gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate"}
	for i, c := range []string{"gzip", "deflate", "br", "zstd"} {
		f.Add(compress(f, c, []byte(hello)), i, 10)
	}
	f.Add(compress(f, "raw", []byte(hello)), 1, 3)
	f.Add(compress(f, "gzip", make([]byte, 100_000)), 0, 3)
	f.Fuzz(func(t *testing.T, body []byte, n, cut int) {
		header := headers[uint(n)%uint(len(headers))]
		lim := coding.Limits{MaxBytes: 1 << 17}
		plain, findings := coding.Decode(header, body, lim)
		if len(plain) > 1<<17 {
			t.Fatalf("%d bytes", len(plain))
		}
		if len(findings) == 0 {
			r, err := coding.NewReader(header, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if side, err := io.ReadAll(r); err != nil || !bytes.Equal(side, plain) {
				t.Fatalf("read on the side: %q, %v, want %q", side, err, plain)
			}
			_ = r.Close()
		}
		if len(body) > 1<<12 {
			return
		}
		b, err := coding.Encode(header, body)
		if err != nil {
			t.Fatal(err)
		}
		if again, findings := coding.Decode(header, b, lim); !bytes.Equal(again, body) || len(findings) > 0 {
			t.Fatalf("%q became %q, %+v", body, again, findings)
		}
		if _, findings := coding.Decode(header, b[:uint(cut)%uint(len(b))], lim); len(findings) == 0 {
			t.Fatalf("cut to %d of %d bytes, and no finding", uint(cut)%uint(len(b)), len(b))
		}
	})
}
