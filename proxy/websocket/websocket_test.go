package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

var testKey = [4]byte{0xde, 0xad, 0xbe, 0xef}

// compress is a message as a sender with a window of its own writes it.
func compress(t testing.TB, w *flate.Writer, buf *bytes.Buffer, message string) []byte {
	t.Helper()
	buf.Reset()
	if _, err := io.WriteString(w, message); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(bytes.TrimSuffix(buf.Bytes(), tail[:4]))
}

func newCompressor(t testing.TB) (*flate.Writer, *bytes.Buffer) {
	t.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	return w, &buf
}

func TestFramesSurviveTheRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 7, 125, 126, 127, 65535, 65536, 200_000} {
		for _, key := range []*[4]byte{nil, &testKey} {
			payload := bytes.Repeat([]byte("payload"), size/7+1)[:size]
			wire := AppendFrame(nil, Frame{Opcode: Text, Compressed: true}, key, payload)
			wire = AppendFrame(wire, Frame{Fin: true, Opcode: Ping}, key, []byte("ping"))
			wire = AppendFrame(wire, Frame{Fin: true, Opcode: Continuation}, key, payload)
			for name, r := range map[string]io.Reader{"whole": bytes.NewReader(wire), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire))} {
				in := NewReader(r, Options{Masked: key != nil, Deflate: true})
				var again []byte
				for {
					f, err := in.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatalf("%d bytes, %s: %v", size, name, err)
					}
					p, err := in.Payload(nil)
					if err != nil {
						t.Fatal(err)
					}
					if want := string(payload); f.Opcode != Ping && string(p) != want {
						t.Fatalf("%d bytes, %s: the payload changed", size, name)
					}
					again = AppendFrame(again, f, key, p)
				}
				if !bytes.Equal(again, wire) {
					t.Errorf("%d bytes, %s: not the frames that were sent", size, name)
				}
			}
		}
	}
}

func TestWhatIsNoFrame(t *testing.T) {
	fin := func(op Opcode, p string) []byte {
		return AppendFrame(nil, Frame{Fin: true, Opcode: op}, nil, []byte(p))
	}
	part := func(op Opcode, p string) []byte { return AppendFrame(nil, Frame{Opcode: op}, nil, []byte(p)) }
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for name, tc := range map[string]struct {
		wire []byte
		code uint16 // 0: the connection breaks off
	}{
		"reserved bit 2":                 {[]byte{0xa1, 0}, CloseProtocolError},
		"reserved bit 3":                 {[]byte{0x91, 0}, CloseProtocolError},
		"compressed without agreement":   {[]byte{0xc1, 0}, CloseProtocolError},
		"reserved opcode":                {[]byte{0x83, 0}, CloseProtocolError},
		"reserved control opcode":        {[]byte{0x8b, 0}, CloseProtocolError},
		"masked by a server":             {[]byte{0x81, 0x80, 1, 2, 3, 4}, CloseProtocolError},
		"fragmented ping":                {part(Ping, ""), CloseProtocolError},
		"ping of 126 bytes":              {fin(Ping, strings.Repeat("x", 126)), CloseProtocolError},
		"compressed ping":                {[]byte{0xc9, 0}, CloseProtocolError},
		"length 125 in two bytes":        {append([]byte{0x81, 126, 0, 125}, make([]byte, 125)...), CloseProtocolError},
		"length 65535 in eight bytes":    {[]byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, CloseProtocolError},
		"negative length":                {[]byte{0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0}, CloseProtocolError},
		"continuation of nothing":        {fin(Continuation, "x"), CloseProtocolError},
		"message within a message":       {join(part(Text, "a"), fin(Text, "b")), CloseProtocolError},
		"continuation after the end":     {join(fin(Text, "a"), fin(Continuation, "b")), CloseProtocolError},
		"too long":                       {fin(Text, strings.Repeat("x", 1001)), CloseTooBig},
		"too long together":              {join(part(Text, strings.Repeat("x", 600)), part(Continuation, strings.Repeat("x", 400)), fin(Continuation, "x")), CloseTooBig},
		"longest length, nothing behind": {[]byte{0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, CloseTooBig},
		"breaks off in the head":         {[]byte{0x81}, 0},
		"breaks off in the payload":      {[]byte{0x81, 5, 'a'}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := NewReader(bytes.NewReader(tc.wire), Options{MaxMessage: 1000})
			var err error
			for err == nil {
				if _, err = in.Next(); err == nil {
					_, err = in.Payload(nil)
				}
			}
			var breach *Error
			switch {
			case errors.As(err, &breach):
				if breach.Code != tc.code {
					t.Errorf("%v, want code %d", err, tc.code)
				}
			case tc.code != 0 || !errors.Is(err, io.ErrUnexpectedEOF):
				t.Errorf("%v, want code %d", err, tc.code)
			}
		})
	}
	t.Run("unmasked by a client", func(t *testing.T) {
		if _, err := NewReader(bytes.NewReader(fin(Text, "x")), Options{Masked: true}).Next(); err == nil {
			t.Error("taken")
		}
	})
	t.Run("a second message as large as the first", func(t *testing.T) {
		in := NewReader(bytes.NewReader(join(fin(Text, strings.Repeat("x", 1000)), fin(Text, strings.Repeat("x", 1000)))), Options{MaxMessage: 1000})
		for range 2 {
			if _, err := in.Next(); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Payload(nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCheckClose(t *testing.T) {
	for payload, ok := range map[string]bool{
		"": true, "\x03\xe8": true, "\x03\xe8bye": true, "\x0f\xa0": true, "\x03\xf0no": true,
		"\x03": false, "\x03\xec": false, "\x03\xed": false, "\x03\xee": false, "\x03\xf7": false, "\x00\x00": false, "\x13\x88": false, "\x03\xe8\xff": false,
	} {
		if err := CheckClose([]byte(payload)); (err == nil) != ok {
			t.Errorf("%q: %v", payload, err)
		}
	}
	long := AppendClose(nil, ClosePolicy, strings.Repeat("é", 200), nil)
	in := NewReader(bytes.NewReader(long), Options{})
	if _, err := in.Next(); err != nil {
		t.Fatal(err)
	}
	p, err := in.Payload(nil)
	if err != nil || CheckClose(p) != nil || len(p) < 120 {
		t.Errorf("%q %v %v", p, err, CheckClose(p))
	}
}

func TestInflate(t *testing.T) {
	messages := []string{`{"type":"session.update"}`, "", `{"type":"session.update"}`, strings.Repeat("a long message, ", 5000), `{"type":"response.create"}`, strings.Repeat("a long message, ", 5000)}
	t.Run("messages refer to those before", func(t *testing.T) {
		w, buf := newCompressor(t)
		in := NewInflater(true, 1<<20)
		for i, m := range messages {
			got, err := in.Inflate([]byte("kept "), compress(t, w, buf, m))
			if err != nil || string(got) != "kept "+m {
				t.Fatalf("message %d: %v", i, err)
			}
		}
	})
	t.Run("each for itself", func(t *testing.T) {
		in := NewInflater(false, 1<<20)
		for i, m := range messages {
			w, buf := newCompressor(t)
			if got, err := in.Inflate(nil, compress(t, w, buf, m)); err != nil || string(got) != m {
				t.Fatalf("message %d: %v", i, err)
			}
		}
	})
	t.Run("refers to one before where none may", func(t *testing.T) {
		w, buf := newCompressor(t)
		in := NewInflater(false, 1<<20)
		first := compress(t, w, buf, messages[0])
		second := compress(t, w, buf, messages[0])
		if _, err := in.Inflate(nil, first); err != nil {
			t.Fatal(err)
		}
		if got, err := in.Inflate(nil, second); err == nil {
			t.Errorf("read as %q", got)
		}
		if _, err := in.Inflate(nil, first); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
	t.Run("bomb", func(t *testing.T) {
		w, buf := newCompressor(t)
		in := NewInflater(true, 100_000)
		bomb := compress(t, w, buf, strings.Repeat("0", 1<<20))
		var e *Error
		if _, err := in.Inflate(nil, bomb); !errors.As(err, &e) || e.Code != CloseTooBig {
			t.Errorf("%v", err)
		}
		if _, err := in.Inflate(nil, nil); err == nil {
			t.Error("goes on after what it could not read")
		}
	})
	t.Run("just fits", func(t *testing.T) {
		w, buf := newCompressor(t)
		if _, err := NewInflater(true, 1000).Inflate(nil, compress(t, w, buf, strings.Repeat("0", 1000))); err != nil {
			t.Error(err)
		}
	})
	t.Run("last block in the midst", func(t *testing.T) {
		var buf bytes.Buffer
		w, err := flate.NewWriter(&buf, 9)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, `{"seen":1}`)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w2, buf2 := newCompressor(t)
		hidden := append(buf.Bytes(), compress(t, w2, buf2, `{"hidden":1}`)...)
		if got, err := NewInflater(false, 1000).Inflate(nil, hidden); err == nil {
			t.Errorf("read as %q", got)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		w, buf := newCompressor(t)
		whole := compress(t, w, buf, strings.Repeat("unlike anything before 1234567890 ", 3))
		for n := 1; n < len(whole)-1; n++ {
			got, err := NewInflater(false, 1000).Inflate(nil, whole[:n])
			if err == nil && !bytes.HasPrefix([]byte(strings.Repeat("unlike anything before 1234567890 ", 3)), got) {
				t.Errorf("%d of %d bytes read as %q", n, len(whole), got)
			}
		}
	})
}

func TestExtensions(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "permessage-deflate": "permessage-deflate",
		"permessage-deflate; client_max_window_bits":                             "permessage-deflate; client_max_window_bits",
		"x-webkit-deflate-frame, permessage-deflate; server_no_context_takeover": "permessage-deflate; server_no_context_takeover",
		"permessage-deflate; mystery=1, permessage-deflate":                      "permessage-deflate",
		"mux; a=\"b\"": "",
	} {
		if got := Offers([]string{in}); got != want {
			t.Errorf("%q is passed on as %q", in, got)
		}
	}
	for in, want := range map[string]string{
		"": "", "permessage-deflate": "permessage-deflate",
		"permessage-deflate; server_no_context_takeover;client_max_window_bits=\"12\"": "permessage-deflate; server_no_context_takeover; client_max_window_bits=12",
		"permessage-deflate; server_max_window_bits=9; client_no_context_takeover":     "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
		"mux": "error", "permessage-deflate, mux": "error", "permessage-deflate; client_max_window_bits": "error", "permessage-deflate; x": "error",
		"permessage-deflate; server_max_window_bits=7": "error", "permessage-deflate; server_no_context_takeover; server_no_context_takeover": "error",
		"permessage-deflate; server_no_context_takeover=1": "error",
	} {
		d, err := Accepted([]string{in}, "permessage-deflate")
		got := ""
		if d != nil {
			got = d.String()
		}
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is read as %q %v", in, got, err)
		}
	}
	if _, err := Accepted([]string{"permessage-deflate"}, ""); err == nil {
		t.Error("agreed on without an offer")
	}
}

func TestHandshake(t *testing.T) {
	good := func() *http.Request {
		return &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}}
	}
	if r := good(); !IsUpgrade(r.Header) || CheckRequest(r) != nil {
		t.Error(CheckRequest(r))
	}
	for name, edit := range map[string]func(*http.Request){
		"POST":       func(r *http.Request) { r.Method = "POST" },
		"HTTP/2":     func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 },
		"body":       func(r *http.Request) { r.ContentLength = 2 },
		"chunked":    func(r *http.Request) { r.ContentLength = -1 },
		"version 8":  func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") },
		"short key":  func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "YQ==") },
		"two keys":   func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") },
		"two things": func(r *http.Request) { r.Header.Set("Upgrade", "websocket, h2c") },
	} {
		r := good()
		edit(r)
		if CheckRequest(r) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := Accept("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455, 1.3
		t.Errorf("accept %q", got)
	}
	answer := func() *http.Response {
		return &http.Response{StatusCode: 101, Header: http.Header{"Connection": {"upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}}}
	}
	for name, tc := range map[string]struct {
		edit func(http.Header)
		ok   bool
	}{
		"good":              {func(http.Header) {}, true},
		"chosen":            {func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "realtime") }, true},
		"chosen, unoffered": {func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "other") }, false},
		"empty protocol":    {func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "") }, false},
		"other key":         {func(h http.Header) { h.Set("Sec-WebSocket-Accept", "x") }, false},
		"other protocol":    {func(h http.Header) { h.Set("Upgrade", "h2c") }, false},
	} {
		res := answer()
		tc.edit(res.Header)
		if err := CheckResponse(res, "dGhlIHNhbXBsZSBub25jZQ==", []string{"realtime"}); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is read as frames, written again, is what was read; and nothing that comes in breaks the reader.
func FuzzReader(f *testing.F) {
	f.Add(AppendFrame(nil, Frame{Fin: true, Opcode: Text}, nil, []byte("hello")), false)
	f.Add(AppendFrame(AppendFrame(nil, Frame{Opcode: Text, Compressed: true}, &testKey, []byte("he")), Frame{Fin: true, Opcode: Continuation}, &testKey, []byte("llo")), true)
	f.Add(AppendClose(nil, 1000, "bye", &testKey), true)
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}, false)
	f.Fuzz(func(t *testing.T, wire []byte, masked bool) {
		src := bytes.NewReader(wire)
		in := NewReader(src, Options{Masked: masked, Deflate: true, MaxMessage: 1 << 16})
		var again []byte
		for {
			fr, err := in.Next()
			if err != nil {
				break
			}
			p, err := in.Payload(nil)
			if err != nil {
				break
			}
			var key *[4]byte
			if masked {
				k := [4]byte(in.Head()[len(in.Head())-4:])
				key = &k
			}
			again = AppendFrame(again, fr, key, p)
		}
		if !bytes.HasPrefix(wire, again) {
			t.Errorf("%x was read as %x", wire, again)
		}
	})
}

// What is inflated is what the standard library makes of it.
func FuzzInflate(f *testing.F) {
	w, buf := newCompressor(f)
	f.Add(compress(f, w, buf, "hello hello hello"))
	f.Add(compress(f, w, buf, "hello hello hello"))
	f.Add([]byte{0})
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := NewInflater(true, 1<<16).Inflate(nil, payload)
		if err != nil {
			return
		}
		want, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), bytes.NewReader(tail))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x: %q, the standard library says %q %v", payload, got, want, err)
		}
	})
}
