package framing_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/framing"
)

// message is a frame of an event stream whose checksums nobody looks at here.
func message(payload string) string {
	return "\x00\x00\x00" + string(rune(16+len(payload))) + "\x00\x00\x00\x00...." + payload + "...."
}

func split(f llm.Framing, maxFrame int, pieces ...[]byte) (frames []string, rest string, err error) {
	s := framing.New(f, maxFrame)
	for _, p := range pieces {
		s.Write(p)
		for frame, ok := s.Next(); ok; frame, ok = s.Next() {
			frames = append(frames, string(frame))
		}
	}
	return frames, string(s.Rest()), s.Err()
}

func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name    string
		framing llm.Framing
		frames  []string
		rest    string
		fails   bool
	}{
		{"events", llm.FramingSSE, []string{"event: a\ndata: {}\n\n", ": ping\n\n", "\n", "data: é\n\n"}, "data: half", false},
		{"events with carriage returns and line feeds", llm.FramingSSE, []string{"data: 1\r\ndata: 2\r\n\r\n", "data: 3\r\n\r\n"}, "", false},
		{"an event that is too long", llm.FramingSSE, []string{"data: 1\n\n"}, "data: " + long + "\n\ndata: 2\n\n", true},
		{"an event that does not end", llm.FramingSSE, nil, "data: " + long, true},
		{"lines", llm.FramingNDJSON, []string{"{}\n", "\n", "{\"a\":\"é\"}\r\n"}, "{", false},
		{"a line that is too long", llm.FramingNDJSON, []string{"{}\n"}, long + "\n", true},
		{"an array", llm.FramingJSONArray, []string{` [{"a":["]\"}",{}]}`, ",\r\n{}", `, 1, "]", [[]]`, "]"}, "\n", false},
		{"an array that is cut off", llm.FramingJSONArray, []string{"[{}"}, `,{"a":`, false},
		{"an empty array", llm.FramingJSONArray, []string{"[]"}, "", false},
		{"no array", llm.FramingJSONArray, []string{`{"error":{}}`}, "", false},
		{"brackets that nothing opened", llm.FramingJSONArray, []string{"]", "}", "[{}", "]"}, "", false},
		{"an element that is too long", llm.FramingJSONArray, []string{"[{}"}, `,{"a":"` + long + `"}]`, true},
		{"messages", llm.FramingEventStream, []string{message("{}"), message("")}, "\x00\x00\x00\x12\x00\x00\x00\x00....{", false},
		{"a message that is too short", llm.FramingEventStream, []string{message("{}")}, "\x00\x00\x00\x0f\x00\x00\x00\x00....", true},
		{"a message that is too long", llm.FramingEventStream, nil, message(long), true},
		{"a message that is far too long", llm.FramingEventStream, nil, "\xff\xff\xff\xff\x00\x00\x00\x00....", true},
		{"no stream", llm.FramingNone, nil, "data: 1\n\n", false},
		{"messages of a WebSocket", llm.FramingWebSocket, nil, "{}\n{}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := []byte(strings.Join(c.frames, "") + c.rest)
			check := func(pieces ...[]byte) {
				t.Helper()
				frames, rest, err := split(c.framing, 64, pieces...)
				if !slices.Equal(frames, c.frames) || rest != c.rest || (err != nil) != c.fails {
					t.Fatalf("in %d pieces: %q, rest %q, %v", len(pieces), frames, rest, err)
				}
			}
			check(body)
			for cut := range len(body) {
				check(body[:cut], body[cut:])
			}
			check(slices.Collect(slices.Chunk(body, 1))...)
		})
	}
}

// Where lines end with a carriage return alone, an event is handed out at once, whatever comes.
func TestEventIsNotKeptWaiting(t *testing.T) {
	frames, rest, _ := split(llm.FramingSSE, 64, []byte("data: 1\r\r"))
	if len(frames) != 1 || rest != "" {
		t.Errorf("%q, rest %q", frames, rest)
	}
	frames, _, _ = split(llm.FramingSSE, 64, []byte("data: 1\r\r"), []byte("\ndata: 2\n"), []byte("\n"))
	if got := strings.Join(frames, "|"); got != "data: 1\r\r|\ndata: 2\n\n" {
		t.Errorf("%q", got)
	}
}

func TestKeepAlive(t *testing.T) {
	for f, want := range map[llm.Framing]string{llm.FramingSSE: ": keep-alive\n", llm.FramingNDJSON: " ", llm.FramingJSONArray: " ", llm.FramingEventStream: "", llm.FramingWebSocket: "", llm.FramingNone: ""} {
		if got := framing.KeepAlive(f); string(got) != want {
			t.Errorf("%s: %q", f, got)
		}
	}
}

func TestEnd(t *testing.T) {
	for _, c := range []struct {
		framing   llm.Framing
		end, want string
		sent      bool
	}{
		{llm.FramingJSONArray, ",{}]", ",{}]", true},
		{llm.FramingJSONArray, ",{}]", "[{}]", false},
		{llm.FramingJSONArray, "", "", false},
		{llm.FramingSSE, ",", ",", false},
	} {
		if got := string(framing.End(c.framing, []byte(c.end), c.sent)); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// Whatever is written and however it is cut, nothing is lost or changed, and where every frame begins is the same but for a line feed after a carriage return.
func FuzzSplitter(f *testing.F) {
	framings := []llm.Framing{llm.FramingSSE, llm.FramingNDJSON, llm.FramingJSONArray, llm.FramingEventStream}
	f.Add([]byte("data: 1\n\ndata: 2\r\n\r\n"), 0, uint64(1))
	f.Add([]byte("{}\n{}\n"), 1, uint64(2))
	f.Add([]byte(`[{"a":"}"},[]]`), 2, uint64(3))
	f.Add([]byte(message("{}")+message("")), 3, uint64(4))
	f.Fuzz(func(t *testing.T, body []byte, n int, seed uint64) {
		kind := framings[uint(n)%uint(len(framings))]
		random := rand.New(rand.NewPCG(seed, 0))
		var pieces [][]byte
		for rest := body; len(rest) > 0; {
			k := 1 + random.IntN(min(len(rest), 9))
			pieces = append(pieces, rest[:k])
			rest = rest[k:]
		}
		whole, wholeRest, wholeErr := split(kind, 40, body)
		cut, cutRest, cutErr := split(kind, 40, pieces...)
		if got := strings.Join(cut, "") + cutRest; got != string(body) {
			t.Fatalf("%q became %q", body, got)
		}
		if got := strings.Join(whole, "") + wholeRest; got != string(body) {
			t.Fatalf("%q became %q", body, got)
		}
		if bytes.Contains(body, []byte("\r")) {
			return
		}
		if !slices.Equal(whole, cut) || wholeRest != cutRest || (wholeErr == nil) != (cutErr == nil) {
			t.Fatalf("whole: %q %q %v\ncut: %q %q %v", whole, wholeRest, wholeErr, cut, cutRest, cutErr)
		}
	})
}
