package wire_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

const (
	takeShort = 1 + iota
	takeLong
	takeRaw
	takeInner
	endRoot
	endItem
)

var testShape = &wire.Shape{End: endRoot, Members: map[string]*wire.Shape{
	"short": {Take: takeShort},
	"long":  {Take: takeLong, Long: true},
	"raw":   {Take: takeRaw, Raw: true},
	"items": {Each: &wire.Shape{End: endItem, Members: map[string]*wire.Shape{"raw": {Take: takeRaw, Raw: true}}}},
	"bytes": {Base64: &wire.Shape{Members: map[string]*wire.Shape{"inner": {Take: takeInner}}}},
}}

// recorder writes down what it is handed.
type recorder struct{ log []string }

func (r *recorder) Take(id int, v strictjson.Value) {
	r.log = append(r.log, fmt.Sprintf("%d=%s", id, v.Raw()))
}
func (r *recorder) End(id int)                                { r.log = append(r.log, fmt.Sprintf("end %d", id)) }
func (r *recorder) EventName(name string)                     { r.log = append(r.log, "name "+name) }
func (r *recorder) Reply() llm.Reply                          { return llm.Reply{Model: strings.Join(r.log, " ")} }
func (r *recorder) Close(f llm.Framing, _ llm.Refusal) []byte { return []byte(f) }

func frames(parts ...[]byte) string { return string(bytes.Join(parts, nil)) }

func event(name, payload string) []byte {
	return wire.AppendEvent(nil, []wire.EventHeader{{Name: ":event-type", Value: name}, {Name: ":content-type", Value: wire.JSON}}, []byte(payload))
}

func damaged(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// Every framing hands over the same things in the same order, wherever it is cut.
func TestWatch(t *testing.T) {
	long, tooLong := strings.Repeat("x", 600), strings.Repeat("x", 2000)
	inner := base64.StdEncoding.EncodeToString([]byte(`{"inner":"é","other":[1,{}]}`))
	for _, c := range []struct {
		name, contentType string
		framing           llm.Framing
		body, want        string
	}{
		{"one text", wire.JSON, "", ` {"short":1,"other":{"short":2},"items":[{},{"raw":[1]}]} `, "1=1 end 6 3=[1] end 6 end 5"},
		{"nothing after the text", wire.JSON, "", `{"short":1}{"short":2}`, "1=1 end 5"},
		{"no text", wire.JSON, "", `<html>{"short":1}`, ""},
		{"a short value that is long is passed over", wire.JSON, "", `{"short":"` + long + `","short":2}`, "1=2 end 5"},
		{"a long value", wire.JSON, "", `{"long":"` + long + `"}`, `2="` + long + `" end 5`},
		{"a long value that is too long is said to be there", wire.JSON, "", `{"long":"` + tooLong + `","short":true}`, "2= 1=true end 5"},
		{"raw values of any kind", wire.JSON, "", `{"raw":{"a":[1,"]}\"",{"b":{}}]},"raw":[ ],"raw":"s","raw":-1.5e3,"raw":null}`, `3={"a":[1,"]}\"",{"b":{}}]} 3=[ ] 3="s" 3=-1.5e3 3=null end 5`},
		{"a raw value that is too long", wire.JSON, "", `{"raw":{"a":"` + tooLong + `"},"raw":1}`, "3= 3=1 end 5"},
		{"a raw value that is broken", wire.JSON, "", `{"raw":{"a"},"short":1}`, "3= 1=1 end 5"},
		{"names with escapes", wire.JSON, "", `{"\u0073hort":1,"sho\rt":2,"\"short":3,"short\\":4,"\x":5,"` + strings.Repeat(`\u0061`, 70) + `":6,"\u0073\u0068\u006f\u0072\u0074":7}`, "1=1 1=7 end 5"},
		{"base64", wire.JSON, "", `{"bytes":"` + inner + `","short":1}`, `4="é" 1=1 end 5`},
		{"base64 with escaped slashes", wire.JSON, "", `{"bytes":"` + strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(`{"inner":"???>>>"}`)), "/", `\/`) + `"}`, `4="???>>>" end 5`},
		{"base64 that is none", wire.JSON, "", `{"bytes":"eyJp*m5lciI6MX0=","bytes":"` + inner + `"}`, `4="é" end 5`},
		{"nested too deep", wire.JSON, "", `{"items":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `,"short":1}`, "end 6 1=1 end 5"},

		{"events", "text/event-stream", "", "event: a\ndata: {\"short\":1}\n\ndata:{\"short\":\ndata: 2}\n\n", "name a 1=1 end 5 name  1=2 end 5"},
		{"events with comments and other fields", "text/event-stream; charset=utf-8", "", ": hi\nid: 3\ndatax: {\"short\":8}\neventually: b\nevent:b\ndata\ndata: {\"short\":1}\nretry: 2\n\n[DONE]\n\n", "name b 1=1 end 5 name "},
		{"an event named after its data", "", llm.FramingSSE, "data: {\"short\":1}\nevent: late\n\n", "1=1 end 5 name late name "},
		{"an event named twice, and in vain", "", llm.FramingSSE, "event: a\nevent:\nevent: " + tooLong + "\n\n", "name a name  name  name "},
		{"an event that is cut off", "", llm.FramingSSE, "data: {\"short\":1", ""},
		{"an event that is cut off does not spoil the next", "", llm.FramingSSE, "data: {\"short\":1,\"x\":\"\n\ndata: {\"short\":2}\n\n", "1=1 1=2 end 5"},

		{"lines", "application/x-ndjson", "", "{\"short\":1}\n\n{\"short\":2}\r\n{\"short\":3}", "1=1 end 5 1=2 end 5 1=3 end 5"},
		{"lines, one of them broken", "application/jsonl", "", "oops\n{\"short\":\"x\n{\"short\":2}\n", "1=2 end 5"},
		{"texts in one line and over several", "", llm.FramingNDJSON, "{\"short\":1}{\"short\":\n2}\n", "1=1 end 5 1=2 end 5"},

		{"an array", wire.JSON, llm.FramingJSONArray, "[{\"short\":1}\n,\r\n{\"short\":2,\"items\":[{}]}]\n", "1=1 end 5 1=2 end 6 end 5"},
		{"an array with one element so far", wire.JSON, llm.FramingJSONArray, "[{\"short\":1},", "1=1 end 5"},
		{"no array but an error", wire.JSON, llm.FramingJSONArray, "{\"short\":1}", "1=1 end 5"},
		{"an empty array", wire.JSON, llm.FramingJSONArray, "[]", ""},

		{"frames", "application/vnd.amazon.eventstream", "", frames(event("a", `{"short":1}`), event("b", `{"bytes":"`+inner+`"}`)), `name a 1=1 end 5 name  name b 4="é" end 5 name `},
		{"frames without headers or payload", "", llm.FramingEventStream, frames(wire.AppendEvent(nil, nil, nil), event("a", ""), wire.AppendEvent(nil, nil, []byte(`{"short":1}`))), "name a name  1=1 end 5"},
		{"an exception", "", llm.FramingEventStream, frames(wire.EventException("throttlingException", []byte(`{"short":1}`))), "name throttlingException 1=1 end 5 name "},
		{"a damaged prelude ends the reading", "", llm.FramingEventStream, frames(damaged(event("a", `{"short":1}`), 3), event("b", `{"short":2}`)), ""},
		{"damaged headers end the reading", "", llm.FramingEventStream, frames(damaged(event("a", `{"short":1}`), 12), event("b", `{"short":2}`)), ""},
		{"a wrong checksum ends the reading", "", llm.FramingEventStream, frames(damaged(event("a", `{"short":1}`), len(event("a", `{"short":1}`))-1), event("b", `{"short":2}`)), "name a 1=1 end 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := func(pieces func(yield func([]byte) bool)) string {
				w := wire.Watch(llm.WatchOptions{ContentType: c.contentType, Framing: c.framing, Arguments: 1000}, testShape, &recorder{})
				for p := range pieces {
					w.Write(p)
				}
				return w.Reply().Model
			}
			whole := func(yield func([]byte) bool) { yield([]byte(c.body)) }
			got := read(whole)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for cut := range len(c.body) {
				if again := read(slices.Values([][]byte{[]byte(c.body[:cut]), []byte(c.body[cut:])})); again != got {
					t.Fatalf("cut at %d: %s", cut, again)
				}
			}
			if again := read(slices.Chunk([]byte(c.body), 1)); again != got {
				t.Fatalf("byte by byte: %s", again)
			}
		})
	}
}

// Each message of a WebSocket is a text of its own, whatever the one before it was.
func TestWatchWebSocket(t *testing.T) {
	w := wire.Watch(llm.WatchOptions{Framing: llm.FramingWebSocket}, testShape, &recorder{})
	for _, m := range []string{`{"short":1}`, `{"short":"cut of`, ``, `{"short":3}`} {
		w.Write([]byte(m))
	}
	if got := w.Reply().Model; got != "1=1 end 5 1=3 end 5" {
		t.Error(got)
	}
	if got := string(w.End(llm.Refusal{})); got != string(llm.FramingWebSocket) {
		t.Error(got)
	}
}

// What nobody wants is passed over without being kept.
func TestWatchKeepsLittle(t *testing.T) {
	chunk := []byte(`"` + strings.Repeat("a", 1<<10) + `",`)
	w := wire.Watch(llm.WatchOptions{ContentType: wire.JSON}, testShape, &recorder{})
	w.Write([]byte(`{"other":[`))
	if n := testing.AllocsPerRun(100, func() { w.Write(chunk) }); n > 0 {
		t.Errorf("%v allocations to pass over a value", n)
	}
}

func FuzzWatch(f *testing.F) {
	f.Add([]byte("event: a\ndata: {\"short\":1,\"raw\":{}}\n\n"), 3, uint64(1))
	f.Add(event("a", `{"bytes":"e30=","long":"x"}`), 0, uint64(2))
	f.Add([]byte(`[{"items":[{"raw":[]}]},{}]`), 1, uint64(3))
	framings := []llm.Framing{llm.FramingEventStream, llm.FramingJSONArray, llm.FramingNDJSON, llm.FramingSSE, llm.FramingNone}
	f.Fuzz(func(t *testing.T, body []byte, framing int, seed uint64) {
		o := llm.WatchOptions{Framing: framings[uint(framing)%uint(len(framings))], Arguments: 64}
		w := wire.Watch(o, testShape, &recorder{})
		w.Write(body)
		cut := wire.Watch(o, testShape, &recorder{})
		random := rand.New(rand.NewPCG(seed, 0))
		for rest := body; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 20))
			cut.Write(rest[:n])
			rest = rest[n:]
		}
		if w.Reply().Model != cut.Reply().Model {
			t.Errorf("whole: %s\ncut: %s", w.Reply().Model, cut.Reply().Model)
		}
	})
}

func BenchmarkWatch(b *testing.B) {
	text := strings.Repeat(`Some words of an answer that \"nobody\" keeps, in lines.\n`, 4)
	for _, c := range []struct {
		name string
		o    llm.WatchOptions
		body string
	}{
		{"sse", llm.WatchOptions{Framing: llm.FramingSSE}, strings.Repeat("data: {\"choices\":[{\"delta\":{\"content\":\""+text+"\"}}],\"short\":1}\n\n", 100)},
		{"whole", llm.WatchOptions{ContentType: wire.JSON}, `{"choices":[{"message":{"content":"` + strings.Repeat(text, 100) + `"}}],"short":1}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			body := []byte(c.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				w := wire.Watch(c.o, testShape, &recorder{})
				w.Write(body)
			}
		})
	}
}
