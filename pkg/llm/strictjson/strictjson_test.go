package strictjson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // code and path
		unread     bool
	}{
		{name: "clean", text: ` {"a":[1,-0.5e+3,true,false,null,"x\n\u00e9\ud83d\ude00é"],"b":{}} `},
		{name: "empty text", text: "", want: []string{"unparseable "}, unread: true},
		{name: "white space only", text: " \n", want: []string{"unparseable "}, unread: true},
		{name: "duplicate key", text: `{"a":{"model":"x","n":1,"model":"y"}}`, want: []string{"duplicate_key /a/model"}},
		{name: "three times the same key", text: `{"a":1,"a":2,"a":3}`, want: []string{"duplicate_key /a", "duplicate_key /a"}},
		{name: "duplicate key by escape", text: `{"model":1,"\u006dodel":2}`, want: []string{"escaped_key /model", "duplicate_key /model"}},
		{name: "duplicate key by escape of a slash", text: `{"a/b":1,"a\/b":2}`, want: []string{"duplicate_key /a~1b"}},
		{name: "duplicate empty key", text: `{"":1,"":2}`, want: []string{"duplicate_key /"}},
		{name: "same key in two objects", text: `[{"a":1},{"a":1}]`},
		{name: "keys that differ in case", text: `{"a":1,"A":2}`},
		{name: "needless escape in a key", text: `{"x":{"\u005fid":1}}`, want: []string{"escaped_key /x/_id"}},
		{name: "needful escape in a key", text: `{"^\\d+$":1,"gr\u00f6\u00dfe":2,"a\u003cb":3,"q\"":4}`},
		{name: "needless escape in a value", text: `["\u0061"]`},
		{name: "invalid UTF-8", text: "{\"a\":[\"x\",\"\xff\"]}", want: []string{"invalid_utf8 /a/1"}},
		{name: "invalid UTF-8 in a key", text: "{\"a\xc0\xaf\":1}", want: []string{"invalid_utf8 /a\ufffd\ufffd"}},
		{name: "overlong UTF-8", text: "[\"\xc0\xa2\"]", want: []string{"invalid_utf8 /0"}},
		{name: "surrogate as UTF-8", text: "[\"\xed\xa0\x80\"]", want: []string{"invalid_utf8 /0"}},
		{name: "UTF-8 cut short by the quote", text: "[\"aaaaaaaaaaaa\xe2\x82\"]", want: []string{"invalid_utf8 /0"}},
		{name: "UTF-8 cut short by an escape", text: `["` + "\xe2\x82" + `\u00ac"]`, want: []string{"invalid_utf8 /0"}},
		{name: "lone high surrogate", text: `["\ud83d"]`, want: []string{"invalid_utf8 /0"}},
		{name: "lone low surrogate", text: `["\ude00"]`, want: []string{"invalid_utf8 /0"}},
		{name: "high surrogate twice", text: `["\ud83d\ud83d\ude00"]`, want: []string{"invalid_utf8 /0"}},
		{name: "byte order mark", text: "\xef\xbb\xbf{}", want: []string{"byte_order_mark "}},
		{name: "UTF-16", text: "\xff\xfe{\x00}\x00", want: []string{"unparseable "}, unread: true},
		{name: "trailing data", text: `{} {}`, want: []string{"trailing_data "}},
		{name: "trailing NUL", text: "{}\x00", want: []string{"trailing_data "}},
		{name: "number too large", text: `{"a":1e999}`, want: []string{"number_range /a"}},
		{name: "number too small", text: `{"a":[-1e999]}`, want: []string{"number_range /a/0"}},
		{name: "number of too many digits", text: "[1" + strings.Repeat("0", 400) + "]", want: []string{"number_range /0"}},
		{name: "number next to nothing", text: `[1e-999]`},
		{name: "depth at the limit", text: strings.Repeat("[", 64) + strings.Repeat("]", 64)},
		{name: "depth beyond the limit", text: strings.Repeat("[", 65) + strings.Repeat("]", 65), want: []string{"depth " + strings.Repeat("/0", 63)}, unread: true},
		{name: "control character in a string", text: "{\"a\":\"x\ny\"}", want: []string{"unparseable /a"}, unread: true},
		{name: "NUL in a string", text: "[\"\x00\"]", want: []string{"unparseable "}, unread: true},
		{name: "comment", text: `{"a":1/**/}`, want: []string{"unparseable /a"}, unread: true},
		{name: "trailing comma in an object", text: `{"a":1,}`, want: []string{"unparseable /a"}, unread: true},
		{name: "trailing comma in an array", text: `[1,]`, want: []string{"unparseable /0"}, unread: true},
		{name: "single quotes", text: `{'a':1}`, want: []string{"unparseable "}, unread: true},
		{name: "NaN", text: `[NaN]`, want: []string{"unparseable "}, unread: true},
		{name: "leading zero", text: `[01]`, want: []string{"unparseable /0"}, unread: true},
		{name: "leading plus", text: `[+1]`, want: []string{"unparseable "}, unread: true},
		{name: "hexadecimal number", text: `[0x1]`, want: []string{"unparseable /0"}, unread: true},
		{name: "unknown escape", text: `["\x41"]`, want: []string{"unparseable "}, unread: true},
		{name: "escape cut short", text: `["\u00e"]`, want: []string{"unparseable "}, unread: true},
		{name: "form feed between values", text: "[1,\f2]", want: []string{"unparseable /0"}, unread: true},
		{name: "text cut short", text: `{"a":{"b":"`, want: []string{"unparseable /a/b"}, unread: true},
		{name: "wrong closing bracket", text: `{"a":[1}`, want: []string{"unparseable /a/0"}, unread: true},
		{name: "control character in a pointer", text: `{"a\u0000\n\u202eb":[1e999]}`, want: []string{"number_range /a\ufffd\ufffd\ufffdb/0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var doc strictjson.Document
			if got := doc.Parse([]byte(c.text), strictjson.Options{}); got == c.unread {
				t.Errorf("Parse returns %v", got)
			}
			var got []string
			for _, p := range doc.Problems() {
				got = append(got, string(p.Code)+" "+p.Path)
				if p.Offset < 0 || p.Offset > len(c.text) || p.Detail == "" {
					t.Errorf("problem %+v has no place or no detail", p)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("problems:\n got %q\nwant %q", got, c.want)
			}
			if c.unread != (doc.Root().Kind() == strictjson.Absent) {
				t.Errorf("the root is %v", doc.Root().Kind())
			}
		})
	}
}

func TestLimits(t *testing.T) {
	var doc strictjson.Document
	check := func(text string, o strictjson.Options, want strictjson.Code) {
		t.Helper()
		if doc.Parse([]byte(text), o) {
			t.Errorf("%q is read", text)
		}
		if p := doc.Problems(); len(p) != 1 || p[0].Code != want {
			t.Errorf("%q: problems %+v, want %s", text, p, want)
		}
	}
	check(`"0123456789"`, strictjson.Options{MaxBytes: 11}, strictjson.Oversize)
	check(`[1,2,3]`, strictjson.Options{MaxValues: 3}, strictjson.Oversize)
	check(`{"a":1}`, strictjson.Options{MaxValues: 2}, strictjson.Oversize)
	check(`[[1]]`, strictjson.Options{MaxDepth: 1}, strictjson.Depth)

	if !doc.Parse([]byte(`{"a":1,"a":1,"a":1,"a":1}`), strictjson.Options{MaxProblems: 2}) {
		t.Error("duplicates are fatal")
	}
	if len(doc.Problems()) != 2 || doc.Dropped() != 1 {
		t.Errorf("%d problems kept and %d dropped, want 2 and 1", len(doc.Problems()), doc.Dropped())
	}
	if doc.Parse([]byte(`["\ud800","\ud800","\ud800",x]`), strictjson.Options{MaxProblems: 2}) {
		t.Error("a misspelt literal is read")
	}
	if p := doc.Problems(); len(p) != 2 || p[1].Code != strictjson.Unparseable {
		t.Errorf("a fatal problem is lost among others: %+v", p)
	}
}

// Objects of more members than are compared with each other take another way, and must come to the same.
func TestDuplicateKeysInLargeObjects(t *testing.T) {
	for _, members := range []int{2, 15, 16, 17, 18, 31, 32, 33, 1000} {
		var b strings.Builder
		for i := range members - 1 {
			fmt.Fprintf(&b, `"key%d":{"x":%d},`, i, i)
		}
		clean := "{" + b.String() + `"last":0}`
		twice := "{" + b.String() + `"key\u0030":0}`
		var doc strictjson.Document
		if doc.Parse([]byte(clean), strictjson.Options{}); len(doc.Problems()) != 0 {
			t.Errorf("%d members: %+v", members, doc.Problems())
		}
		doc.Parse([]byte(twice), strictjson.Options{})
		if p := doc.Problems(); len(p) != 2 || p[1].Code != strictjson.DuplicateKey || p[1].Path != "/key0" {
			t.Errorf("%d members, one of them twice: %+v", members, p)
		}
	}
}

func TestValues(t *testing.T) {
	var doc strictjson.Document
	doc.Parse([]byte(`{"s":"a\tb","i":-9223372036854775808,"j":9223372036854775808,"f":1.0,"e":1e2,"t":true,"n":null,"a":[1,"x"],"big":123456789012345678901234567890}`), strictjson.Options{})
	root := doc.Root()
	if got := string(root.Get("s").Text()); got != "a\tb" || !root.Get("s").Is("a\tb") || root.Get("s").Is("a") {
		t.Errorf("s is %q", got)
	}
	if bare := string(root.Get("s").Bare()); bare != `a\tb` || root.Get("i").Bare() != nil {
		t.Errorf("s is written %q", bare)
	}
	if n, ok := root.Get("i").Int64(); !ok || n != math.MinInt64 {
		t.Errorf("i is %d %v", n, ok)
	}
	for _, name := range []string{"j", "f", "e", "s", "n", "big", "absent"} {
		if n, ok := root.Get(name).Int64(); ok {
			t.Errorf("%s is the integer %d", name, n)
		}
	}
	if f, ok := root.Get("e").Float64(); !ok || f != 100 {
		t.Errorf("e is %v %v", f, ok)
	}
	if !root.Get("t").Bool() || root.Get("n").Bool() || root.Get("n").Kind() != strictjson.Null {
		t.Error("literals are wrong")
	}
	if root.Len() != 9 || root.Get("a").Len() != 2 || string(root.Get("a").Raw()) != `[1,"x"]` {
		t.Error("containers are wrong")
	}
	var names []string
	for k := range root.Members() {
		names = append(names, string(k.Text()))
		if len(names) == 2 {
			break
		}
	}
	if !slices.Equal(names, []string{"s", "i"}) {
		t.Errorf("the first names are %q", names)
	}
	for e := range root.Get("a").Elements() {
		if e.Pointer() != "/a/0" {
			t.Errorf("the pointer is %q", e.Pointer())
		}
		break
	}
	var absent strictjson.Value
	if absent.Kind() != strictjson.Absent || absent.Raw() != nil || absent.Text() != nil || absent.Bare() != nil || absent.Len() != 0 || absent.Pointer() != "" || absent.Get("x").Kind() != strictjson.Absent || absent.FoldsTo("") {
		t.Error("an absent value says something")
	}
	for _, c := range []struct {
		text, name string
		want       bool
	}{{`"Model"`, "model", true}, {`"\u004dodel"`, "model", true}, {`"to\u212aens"`, "tokens", true}, {`"me` + "ſſ" + `ages"`, "messages", true}, {`"model "`, "model", false}} {
		doc.Parse([]byte(c.text), strictjson.Options{})
		if got := doc.Root().FoldsTo(c.name); got != c.want {
			t.Errorf("%s folds to %s: %v", c.text, c.name, got)
		}
	}
}

// What was handed out stays as it is when strings are asked for again and the document reads another text.
func TestTextStays(t *testing.T) {
	var doc strictjson.Document
	text := []byte(`["a\nb","plain","c\u00e9d"]`)
	var got [][]byte
	doc.Parse(text, strictjson.Options{})
	for range 3 {
		for e := range doc.Root().Elements() {
			got = append(got, e.Text())
		}
	}
	for _, b := range got {
		_ = append(b, "overwritten"...)
	}
	doc.Parse([]byte(`["X\nX","XXXXX","X\u00e9X"]`), strictjson.Options{})
	for e := range doc.Root().Elements() {
		e.Text()
	}
	for i, b := range got {
		if want := []string{"a\nb", "plain", "céd"}[i%3]; string(b) != want {
			t.Errorf("string %d is %q, want %q", i, b, want)
		}
	}
}

// FuzzAgainstEncodingJSON holds the reader against encoding/json: it accepts the same texts, and understands the same by them
// unless it reports that readers may differ.
func FuzzAgainstEncodingJSON(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, `[]`, `{"a":1}`, `{"a":[1,2,{"b":null}],"c":"\u00e9\ud83d\ude00"}`, `"\ud83d"`, `"\ud83d\u0041"`, "\"\xff\"", "\"\xe2\x82\\u00ac\"", `[1e999]`, `-0`, `-`, `0.`, `1e`, `1E+2`,
		`{"a":1,"a":2}`, `{"\u0061":1,"a":2}`, "\xef\xbb\xbf[]", `[] x`, `{"a":1,}`, `["a` + "\n" + `"]`, `["\/\b\f\n\r\t\"\\"]`, `[true,false,null]`, `tru`, `nul`, `[1 2]`, `{"a" 1}`, `{1:2}`, `["\u12"]`, `["\u12G4"]`, `"\`, `"\u`,
		strings.Repeat("[", 70) + strings.Repeat("]", 70), `"` + strings.Repeat("0123456", 5) + "\x1f" + `"`, `"` + strings.Repeat("é", 20) + `"`, `{"` + strings.Repeat("k", 100) + `":1e999}`,
		`{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0,"m":0,"n":0,"o":0,"p":0,"q":0,"a":0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var doc strictjson.Document
		read := doc.Parse(text, strictjson.Options{MaxDepth: 10000, MaxValues: 1 << 30})
		codes := map[strictjson.Code]bool{}
		for _, p := range doc.Problems() {
			codes[p.Code] = true
		}
		accepted := read && !codes[strictjson.BOM] && !codes[strictjson.TrailingData]
		if want := json.Valid(text); accepted != want {
			t.Fatalf("%q: accepted %v, valid %v, problems %+v", text, accepted, want, doc.Problems())
		}
		if !accepted {
			return
		}
		var want any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if doc.Dropped() > 0 {
			return // what was found is not known in full
		}
		if !codes[strictjson.DuplicateKey] {
			same(t, want, doc.Root())
		}
		var numbers any
		if err := json.Unmarshal(text, &numbers); (err != nil) != codes[strictjson.NumberRange] {
			t.Fatalf("%q: %v, problems %+v", text, err, doc.Problems())
		}
	})
}

func same(t *testing.T, want any, got strictjson.Value) {
	t.Helper()
	switch want := want.(type) {
	case nil:
		if got.Kind() != strictjson.Null {
			t.Fatalf("%s: %v, want null", got.Pointer(), got.Kind())
		}
	case bool:
		if got.Kind() != strictjson.Bool || got.Bool() != want {
			t.Fatalf("%s: %v, want %v", got.Pointer(), got.Bool(), want)
		}
	case json.Number:
		if got.Kind() != strictjson.Number || string(got.Raw()) != string(want) {
			t.Fatalf("%s: %s, want %s", got.Pointer(), got.Raw(), want)
		}
		n, err := want.Int64()
		if m, ok := got.Int64(); ok != (err == nil) || ok && m != n {
			t.Fatalf("%s: %d %v, want %d %v", got.Pointer(), m, ok, n, err)
		}
	case string:
		if got.Kind() != strictjson.String || string(got.Text()) != want || !got.Is(want) {
			t.Fatalf("%s: %q, want %q", got.Pointer(), got.Text(), want)
		}
	case []any:
		if got.Kind() != strictjson.Array || got.Len() != len(want) {
			t.Fatalf("%s: %v of %d, want an array of %d", got.Pointer(), got.Kind(), got.Len(), len(want))
		}
		i := 0
		for e := range got.Elements() {
			same(t, want[i], e)
			i++
		}
		if i != len(want) {
			t.Fatalf("%s: %d elements, want %d", got.Pointer(), i, len(want))
		}
	case map[string]any:
		if got.Kind() != strictjson.Object || got.Len() != len(want) {
			t.Fatalf("%s: %v of %d, want an object of %d", got.Pointer(), got.Kind(), got.Len(), len(want))
		}
		for k, v := range got.Members() {
			w, ok := want[string(k.Text())]
			if !ok {
				t.Fatalf("%s is not wanted", k.Pointer())
			}
			same(t, w, v)
		}
	}
}
