package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// secret has letters, digits and signs that some codings treat in their own way.
const secret = "Ck-Live/9f2dQ~zZ7_maple"

func set(t testing.TB, values ...string) *Set {
	t.Helper()
	var tokens []Token
	for i, v := range values {
		tokens = append(tokens, Token{fmt.Sprintf("t%d", i), v})
	}
	s, err := New(tokens)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func each(f func(c byte) string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			b.WriteString(f(s[i]))
		}
		return b.String()
	}
}

func eachRune(f func(r rune) string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteString(f(r))
		}
		return b.String()
	}
}

// units writes a character as one or two numbers of 16 bits.
func units(format string) func(string) string {
	return eachRune(func(r rune) string {
		if high, low := utf16.EncodeRune(r); high != 0xfffd {
			return fmt.Sprintf(format+format, high, low)
		}
		return fmt.Sprintf(format, r)
	})
}

// layers are all ways in which a token is found, one at a time.
var layers = map[string]func(string) string{
	"small letters": strings.ToLower,
	"capitals":      strings.ToUpper,
	"in a sentence": func(s string) string { return "the key is " + s + ", see?" },
	"json \\u":      units(`\u%04x`),
	"json \\u{}":    eachRune(func(r rune) string { return fmt.Sprintf(`\u{%X}`, r) }),
	"json \\/":      func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
	"\\x":           each(func(c byte) string { return fmt.Sprintf(`\x%02X`, c) }),
	"percent":       each(func(c byte) string { return fmt.Sprintf("%%%02x", c) }),
	"percent u":     eachRune(func(r rune) string { return fmt.Sprintf("%%u%04X", r&0xffff) }),
	"some percent": func(s string) string {
		return strings.NewReplacer("-", "%2D", "/", "%2f", "~", "%7E", "9", "%39").Replace(s)
	},
	"entities":          eachRune(func(r rune) string { return fmt.Sprintf("&#%d;", r) }),
	"hex entities":      eachRune(func(r rune) string { return fmt.Sprintf("&#X%x;", r) }),
	"padded entities":   eachRune(func(r rune) string { return fmt.Sprintf("&#00000000000%d;", r) }),
	"named entities":    func(s string) string { return strings.NewReplacer("/", "&sol;", "_", "&lowbar;").Replace(s) },
	"base64":            func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 at 1":       func(s string) string { return base64.StdEncoding.EncodeToString([]byte("~" + s + "!?")) },
	"base64 at 2":       func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte("key:~" + s + "/~?>")) },
	"base64url":         func(s string) string { return base64.URLEncoding.EncodeToString([]byte("??" + s + ">>")) },
	"base64 after text": func(s string) string { return "abc" + base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"hex":               func(s string) string { return hex.EncodeToString([]byte(s)) },
	"hex in capitals":   func(s string) string { return "A" + strings.ToUpper(hex.EncodeToString([]byte("x"+s))) },
	"spaces":            eachRune(func(r rune) string { return string(r) + " " }),
	"lines":             eachRune(func(r rune) string { return string(r) + "\r\n\t" }),
	"zero width":        eachRune(func(r rune) string { return string(r) + "\u200b\ufeff" }),
	"other spaces":      eachRune(func(r rune) string { return string(r) + "\u00a0\u3000\u00ad\U000e0041\ufe0f" }),
	"control":           eachRune(func(r rune) string { return string(r) + "\x00\x7f" }),
}

// meaningless says that the one layer over the other says something else: what capitals make of base64 decodes to other text, and a name of two halves to none.
func meaningless(one, two string) bool {
	switch one {
	case "small letters", "capitals":
		return strings.Contains(two, "base64") || one == "capitals"
	case "percent u":
		return two == "other spaces" // which has a character beyond 16 bits
	}
	return false
}

func TestFind(t *testing.T) {
	s := set(t, "another-token", secret)
	for name, one := range layers {
		if got := s.Find([]byte(one(secret))); !slices.Equal(got, []string{"t1"}) {
			t.Errorf("%s: %q is not found: %q", name, one(secret), got)
		}
		for under, two := range layers {
			if meaningless(name, under) {
				continue
			}
			text := one(two(secret))
			if got := s.Find([]byte(text)); !slices.Equal(got, []string{"t1"}) {
				t.Errorf("%s of %s: %q is not found: %q", name, under, text, got)
			}
		}
	}
}

// What a body is made of, with the transport's own escapes: JSON within JSON, as arguments of tools are.
func TestFindInBodies(t *testing.T) {
	s := set(t, secret)
	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	for _, body := range []string{
		`{"messages":[{"content":"` + secret + `"}]}`,
		`{"arguments":"{\"q\":\"Ck-Live\\/9f2dQ~zZ7_maple\"}"}`,
		`{"arguments":"{\"q\":\"\\u0043k-Live\\u002f9f2dQ~zZ7_maple\"}"}`,
		`{"url":"https://x.example/?q=Ck-Live%252F9f2dQ%257EzZ7_maple"}`,
		`{"content":"` + encoded[:20] + `\n` + encoded[20:] + `"}`,
		`{"content":"the\u0020key\u200bis ` + strings.Join(strings.Split(secret, ""), `\u200b`) + `"}`,
		strings.Repeat("A", 3*pieceBytes) + "!" + encoded,
		strings.Repeat("A", 4*(3*pieceBytes/4)) + base64.StdEncoding.EncodeToString([]byte("a"+encoded)),
		`\n` + strings.Repeat("deadbeef", pieceBytes) + hex.EncodeToString([]byte(encoded)) + strings.Repeat("00", 9),
	} {
		if got := s.Find([]byte(body)); !slices.Equal(got, []string{"t0"}) {
			t.Errorf("%.200q: %q", body, got)
		}
	}
}

// Nothing hides at the boundary of two pieces, however many characters that do not show lie between.
func TestPieces(t *testing.T) {
	s := set(t, secret)
	for name, encode := range map[string]func(string) string{
		"plain": func(s string) string { return s }, "json": layers["json \\u"], "base64": layers["base64 at 1"], "hex": layers["hex"],
		"base64 of json": func(s string) string { return layers["base64"](layers["json \\u"](s)) },
		"json twice":     func(s string) string { return strings.ReplaceAll(layers["json \\u"](s), `\`, `\\`) },
		"base64 twice":   func(s string) string { return layers["base64"](layers["base64 at 2"](s)) },
		"far apart":      eachRune(func(r rune) string { return string(r) + strings.Repeat(" \n", 700) }),
		"far, escaped":   eachRune(func(r rune) string { return string(r) + strings.Repeat(`\u200b`, 300) }),
	} {
		token := encode(secret)
		for _, filler := range []string{".", "a\\n", "zz ", "%41"} {
			for offset := pieceBytes - len(token) - 5; offset < pieceBytes+keptBytes+5; offset += 149 {
				text := strings.Repeat(filler, max(0, offset)/len(filler)) + " !" + token + " tail"
				if len(s.Find([]byte(text))) != 1 {
					t.Errorf("%s after %d bytes of %q is not found", name, offset, filler)
				}
			}
		}
	}
}

func TestNotFound(t *testing.T) {
	s := set(t, secret, "correct horse")
	near := []byte(secret)
	for i := range near {
		text := bytes.Clone(near)
		text[i] ^= 1
		for name, encode := range layers {
			if got := s.Find([]byte(encode(string(text)))); got != nil {
				t.Errorf("%s: %q is found in %q", name, got, text)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = "abcdefABCDEF0123456789+/\\u%&#;= \n\"maple"[r.IntN(39)]
	}
	if got := s.Find(noise); got != nil {
		t.Errorf("%q is found in noise", got)
	}
	for _, text := range []string{"", "x", secret[:len(secret)-1], secret[1:], "correcthors", "\\", "%", "&", "&#", "\\u", "\\ud83d", "%u00"} {
		if got := s.Find([]byte(text)); got != nil {
			t.Errorf("%q is found in %q", got, text)
		}
	}
	var none *Set
	if none.Find([]byte(secret)) != nil || set(t).Find([]byte(secret)) != nil {
		t.Error("no tokens are found")
	}
}

func TestNames(t *testing.T) {
	s, err := New([]Token{{"b", "token-number-1"}, {"a", "TOKEN number 2"}, {"b", "token-number-3"}, {"c", "token-number-4"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Find([]byte("token-number-3 tokennumber2 token-number-1")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, tokens := range map[string][]Token{
		"no name":    {{"", "long enough"}},
		"short":      {{"a", "1234567"}},
		"spaces":     {{"a", "1234567          "}},
		"long":       {{"a", strings.Repeat("x", MaxValue+1)}},
		"control":    {{"a", "1234\x0056789"}},
		"not ASCII":  {{"a", "pässwörter"}},
		"the second": {{"a", "long enough"}, {"b", ""}},
		"too many":   make([]Token, MaxTokens+1),
	} {
		if s, err := New(tokens); err == nil || s != nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "enough") {
			t.Errorf("%s: the error tells a value: %v", name, err)
		}
	}
	if _, err := New([]Token{{"a", strings.Repeat("x", MaxValue)}, {"b", "12345678"}}); err != nil {
		t.Error(err)
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	s := set(t, secret)
	for name, text := range texts() {
		s.Find(text)
		if n := testing.AllocsPerRun(20, func() { s.Find(text) }); n > 1 { // one where the pool was emptied
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzFind asserts that no text makes it fail, and that a token is found in any text, in any two layers.
func FuzzFind(f *testing.F) {
	f.Add([]byte("before "), []byte(" after"), uint8(0), uint8(1))
	f.Add([]byte(`{"a":"\u00`), []byte(`%4`), uint8(7), uint8(9))
	f.Add([]byte("\xe2\x80"), []byte("&#x"), uint8(14), uint8(14))
	f.Add(bytes.Repeat([]byte("QUJD"), 5000), []byte("=="), uint8(3), uint8(20))
	var names []string
	for name := range layers {
		names = append(names, name)
	}
	slices.Sort(names)
	s := set(f, secret, "unrelated token")
	f.Fuzz(func(t *testing.T, before, after []byte, one, two uint8) {
		s.Find(before)
		s.Find(append(bytes.Clone(before), after...))
		// What is neither a letter nor an escape keeps what surrounds a token from being part of its coding.
		first, second := names[int(one)%len(names)], names[int(two)%len(names)]
		if meaningless(first, second) {
			return
		}
		text := slices.Concat(before, []byte(" !\x01!\xff!"), []byte(layers[first](layers[second](secret))), []byte("!\xff! "), after)
		if !slices.Contains(s.Find(text), "t0") {
			t.Errorf("not found in %q", text)
		}
	})
}

func texts() map[string][]byte {
	r := rand.New(rand.NewPCG(3, 4))
	prose := strings.Fields(`the pump of our laboratory drifts by two percent and please call me back about invoice 4711 T-17 since Monday {\"ticket\": \"open\",
 \"hours\": [3, 4] } \n\n customers <b>waiting</b> approximately internationalisation`)
	var b, image []byte
	for len(b) < 10<<10 {
		b = append(append(b, prose[r.IntN(len(prose))]...), ' ')
	}
	for len(image) < 10<<10 {
		image = append(image, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[r.IntN(64)])
	}
	return map[string][]byte{
		"prose":  []byte(strings.NewReplacer(`\n`, " ", `\"`, "'").Replace(string(b))),
		"json":   b,
		"nested": []byte(strings.ReplaceAll(string(b), `\`, `\\`)),
		"base64": image,
	}
}

func BenchmarkFind(b *testing.B) {
	s := set(b, secret, "another-token", "a third token 0123456789", "AKIAIOSFODNN7EXAMPLE")
	for name, text := range texts() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				s.Find(text)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(text)), "ns/byte")
		})
	}
}

// Every character that counts as hidden is found to be so by its first byte.
func TestHidden(t *testing.T) {
	n := 0
	for r := rune(0x80); r <= 0x10ffff; r++ {
		b := utf8.AppendRune(nil, r)
		hidden := unicode.In(r, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp) || unicode.Is(unicode.Variation_Selector, r)
		if got := hiddenHere(b); got > 0 {
			if n++; got != len(b) || hiddenHere(append(b, 'x')) != len(b) {
				t.Errorf("%U: %d of %d bytes", r, got, len(b))
			}
		} else if hidden && !unicode.Is(unicode.Prepended_Concatenation_Mark, r) && r < 0x10000 {
			t.Errorf("%U shows", r)
		}
	}
	if n < 4096 {
		t.Errorf("%d characters are hidden", n)
	}
}

// What was decoded is looked through wherever in it text begins and ends.
func TestEncodedStretches(t *testing.T) {
	s := set(t, secret)
	r := rand.New(rand.NewPCG(5, 6))
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	for name, inner := range map[string]string{
		"base64": layers["base64 at 1"](secret), "zero width": layers["zero width"](secret), "other spaces": layers["other spaces"](secret), "json": layers["json \\u"](secret),
		"control": layers["control"](secret), "hex": layers["hex"](secret),
	} {
		for i := range 300 {
			text := noise(i%61) + "\xff" + inner + "\xff" + noise(i%7)
			if len(s.Find([]byte(base64.StdEncoding.EncodeToString([]byte(text))))) != 1 {
				t.Errorf("%s after %d bytes is not found", name, i%61)
			}
		}
	}
}
