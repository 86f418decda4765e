package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Made up, with right check digits where there are any. Credentials are put together, so that no scanner of sources takes them for real.
var samples = map[Kind][]string{
	Credential: {
		"sk-" + "proj-4f9aK2mQ8xTz7LpR3vB6", "sk-" + "ant-api03-Zx81kLq0-Pw_77aBcDeFg", "AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "Y34FZKBOKMUTVV7A",
		"ghp_" + strings.Repeat("aB3d", 9), "github_pat_" + strings.Repeat("1aB_", 8), "glpat-" + "x9Yz_1234567890abcde", "xoxb-" + "123456789012-abcdefGHIJ",
		"AIza" + strings.Repeat("aB3-_", 7), "hf_" + strings.Repeat("Qw", 17), "gsk_" + strings.Repeat("Zz9", 12),
		"eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
		"-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END PRIVATE KEY-----",
		"-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEvQIBADANBg",
	},
	CreditCard: {"4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005", "6011111111111117", "2223003122003222"},
	Email:      {"a@b.co", "first.last+tag@mail.example.com", "o_reilly%x@sub-domain.example.org", "a@xn--bcher-kva.example"},
	IBAN:       {"DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606", "NO93 8601 1117 947"},
	Phone:      {"+4930123456", "+1 (555) 123-4567", "+44 20 7946 0958", "+33.1.23.45.67.89"},
}

// innocent text has none of it.
var innocent = []string{
	"", "hello", "sk-fading-circle-wrapper-element", "sk-short1", "AKIA1234", "AKIAIOSFODNN7EXAMPLEX", "ghp_short", "eyJhbGciOi.x.y",
	"4111111111111112", "41111111111111111", "0.4111111111111111", "411111111111111", "1234567890123456", "x4111111111111111", "4111111111111111x",
	"a@b", "@b.co", "a@.co", "a@b..co", "a@b.c", "a.@b.co", "a@-b.co", "a@b-.co", "user@localhost", "me @ example.com",
	"DE88370400440532013000", "DE8937040044053201300", "XX89370400440532013000", "de89370400440532013000", "DE89370400440532013000X",
	"+123", "+0123456789", "1+4930123456", "+1234567890123456", "4930123456", "C++11 20 30",
	"-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBg\n-----END CERTIFICATE-----", "-----BEGIN ", "日本@例え.テスト",
}

func quote(t testing.TB, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// escaped spells every character as an escape, in upper and lower case by turns.
func escaped(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		if r > 0xffff {
			panic(r)
		}
		fmt.Fprintf(&b, []string{`\u%04x`, `\u%04X`}[i%2], r)
	}
	b.WriteByte('"')
	return b.String()
}

func TestFind(t *testing.T) {
	for kind, all := range samples {
		for _, s := range all {
			for form, text := range map[string]string{
				"alone": quote(t, s), "in a sentence": quote(t, "é \"key\": "+s+", und so weiter"), "escaped": escaped(s), "in brackets": quote(t, "<"+s+">"),
				"in JSON in a string": quote(t, `{"to":`+quote(t, s)+`}`),
			} {
				if strings.Contains(s, "\n") && strings.HasPrefix(form, "in ") || strings.HasSuffix(s, "ADANBg") {
					continue // a key without an end goes to the end of the string
				}
				body := `{"a":[null,` + text + `],"b":"x"}`
				spans, err := Find([]byte(body))
				if err != nil {
					t.Fatal(err)
				}
				spans = slices.DeleteFunc(spans, func(s Span) bool { return s.Kind != kind })
				if len(spans) != 1 {
					t.Errorf("%s, %s, %s: %v", kind, form, body, spans)
					continue
				}
				var got string
				if raw := body[spans[0].Start:spans[0].End]; json.Unmarshal([]byte(`"`+raw+`"`), &got) != nil || got != s && form != "in JSON in a string" {
					t.Errorf("%s, %s, %s: found %q", kind, form, body, raw)
				}
			}
		}
	}
	for _, s := range innocent {
		if spans, err := Find([]byte(quote(t, s))); err != nil || len(spans) != 0 {
			t.Errorf("%q: %v %v", s, spans, err)
		}
	}
}

func TestFindLeavesNamesAndOtherValuesAlone(t *testing.T) {
	body := `{"a@b.co" : 4111111111111111, "x": {"a@b.co":1}, "sk-proj-4f9aK2mQ8xTz7LpR3vB6"` + "\n\t:true}"
	if spans, err := Find([]byte(body)); err != nil || len(spans) != 0 {
		t.Errorf("%v %v", spans, err)
	}
}

func TestFindWantsUnambiguousJSON(t *testing.T) {
	for _, body := range []string{``, `a@b.co`, `"a@b.co`, `{"a":1,"a":"a@b.co"}`, `{"a":"a@b.co"} x`, "\"a@b.co\xff\"", `"\ud800 a@b.co"`} {
		if _, err := Find([]byte(body)); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%s: %v", body, err)
		}
		if _, _, err := Redact([]byte(body), Kinds); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if n := Count([]byte("--x\r\nmail a@b.co\r\n")); n[Email] != 1 {
		t.Errorf("a form: %v", n)
	}
}

func TestRedact(t *testing.T) {
	for _, tc := range []struct {
		body, want string
		kinds      []Kind
		counts     map[Kind]int
	}{
		{`{"m":"to a@b.co, c@d.co"}`, `{"m":"to [redacted:email], [redacted:email]"}`, Kinds, map[Kind]int{Email: 2}},
		{`{"m":"a@b.co 4111111111111111"}`, `{"m":"a@b.co [redacted:credit_card]"}`, []Kind{CreditCard, IBAN}, map[Kind]int{CreditCard: 1}},
		{`{"m" : "é\n\u0061\u0040b.co\n" }`, `{"m" : "é\n[redacted:email]\n" }`, Kinds, map[Kind]int{Email: 1}},
		{`{"m":"4111 1111 1111 1111 12/26"}`, `{"m":"[redacted:credit_card] 12/26"}`, Kinds, map[Kind]int{CreditCard: 1}},
		{`"4111 1111 1111 1111.4111 1111 1111 1111"`, `"[redacted:credit_card].[redacted:credit_card]"`, Kinds, map[Kind]int{CreditCard: 2}},
		{`{"m":"a@b.co"}`, `{"m":"a@b.co"}`, []Kind{Phone}, map[Kind]int{}},
		{`{"m":"a@b.co"}`, `{"m":"a@b.co"}`, nil, map[Kind]int{}},
		{`"sk-proj-4f9aK2mQ8xTz7LpR3vB6@b.co"`, `"[redacted:credential]"`, Kinds, map[Kind]int{Credential: 1, Email: 1}},
	} {
		got, counts, err := Redact([]byte(tc.body), tc.kinds)
		if err != nil || string(got) != tc.want || !reflect.DeepEqual(counts, tc.counts) {
			t.Errorf("%s: %s %v %v, want %s %v", tc.body, got, counts, err, tc.want, tc.counts)
		}
	}
}

// check holds an edit to its promises: every byte outside the spans is the same, the result is JSON that differs in strings alone, and nothing
// is found again.
func check(t testing.TB, body []byte, kinds []Kind) {
	t.Helper()
	before := slices.Clone(body)
	edited, counts, err := Redact(body, kinds)
	if !bytes.Equal(body, before) {
		t.Fatal("the body itself was changed")
	}
	if errors.Is(err, ErrNotJSON) {
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	at, total := body, 0
	for {
		spans, err := Find(at)
		if err != nil {
			t.Fatal(err)
		}
		spans = slices.DeleteFunc(spans, func(s Span) bool { return !slices.Contains(kinds, s.Kind) })
		if len(spans) == 0 {
			break
		}
		total += len(spans)
		next := Apply(at, spans)
		checkApply(t, at, next, spans)
		at = next
	}
	if !bytes.Equal(at, edited) {
		t.Fatalf("%q: %q is not its edits %q", body, edited, at)
	}
	for _, c := range counts {
		total -= c
	}
	if total != 0 {
		t.Fatalf("%q: counts %v, %d are not counted", body, counts, total)
	}
	var a, b any
	if json.Unmarshal(body, &a) != nil || json.Unmarshal(edited, &b) != nil {
		t.Fatalf("%q: %q is no JSON any more", body, edited)
	}
	if !alike(a, b) {
		t.Fatalf("%q: %q differs in more than strings", body, edited)
	}
	if again, _, err := Redact(edited, kinds); err != nil || !bytes.Equal(again, edited) {
		t.Fatalf("%q: %q has something again", body, edited)
	}
}

// checkApply holds one edit to changing nothing but the spans.
func checkApply(t testing.TB, body, edited []byte, spans []Span) {
	t.Helper()
	rest, at := edited, 0
	for _, s := range spans {
		if s.Start >= s.End || s.End > len(body) {
			t.Fatalf("%q: %+v", body, s)
		}
		if s.Start < at { // within the one before
			at = max(at, s.End)
			continue
		}
		if !bytes.HasPrefix(rest, body[at:s.Start]) {
			t.Fatalf("%q: %q differs outside of %+v", body, edited, s)
		}
		rest = rest[s.Start-at:]
		_, after, ok := bytes.Cut(rest, []byte("]"))
		if !ok || !bytes.HasPrefix(rest, []byte("[redacted:")) {
			t.Fatalf("%q: %q at %+v", body, edited, s)
		}
		rest, at = after, s.End
	}
	if !bytes.Equal(rest, body[at:]) {
		t.Fatalf("%q: %q differs at the end", body, edited)
	}
}

// alike compares two values but for what strings say.
func alike(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range x {
			if v, ok := y[k]; !ok || !alike(x[k], v) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !alike(x[i], y[i]) {
				return false
			}
		}
		return true
	case string:
		_, ok := b.(string)
		return ok
	default:
		return reflect.DeepEqual(a, b)
	}
}

func TestRedactProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	glue := []string{" ", "", ",", "\n", "\"", "-", "_", ".", "@", "+", "é", "1", "x", "🙂", "\\", "eyJ", "sk-", "DE89"}
	var pieces []string
	for _, all := range samples {
		pieces = append(pieces, all...)
	}
	pieces = append(pieces, innocent...)
	slices.Sort(pieces)
	str := func() string {
		var b strings.Builder
		for range rng.IntN(6) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
			b.WriteString(glue[rng.IntN(len(glue))])
		}
		s := quote(t, b.String())
		if rng.IntN(3) == 0 { // some plain characters as escapes
			var e strings.Builder
			for i := 0; i < len(s); i++ {
				if c := s[i]; c == '\\' {
					e.WriteByte(c)
					i++
					e.WriteByte(s[i])
				} else if (c >= 'a' && c <= 'z' || c == '@' || c >= '0' && c <= '9') && rng.IntN(4) == 0 && !strings.Contains(s[max(0, i-5):i], `\u`) {
					fmt.Fprintf(&e, `\u%04x`, c)
				} else {
					e.WriteByte(c)
				}
			}
			s = e.String()
		}
		return s
	}
	for range 5000 {
		body := fmt.Sprintf(`{"a":%s, "b":[%s,1e5,true,{%s:%s}]}`, str(), str(), str(), str())
		var kinds []Kind
		for _, k := range Kinds {
			if rng.IntN(2) == 0 {
				kinds = append(kinds, k)
			}
		}
		check(t, []byte(body), kinds)
	}
}

func FuzzRedact(f *testing.F) {
	for _, all := range samples {
		for _, s := range all {
			f.Add(`{"m":`+quote(f, s)+`}`, uint8(31))
			f.Add(escaped(s), uint8(31))
		}
	}
	for _, s := range innocent {
		f.Add(quote(f, s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, body string, mask uint8) {
		var kinds []Kind
		for i, k := range Kinds {
			if mask&(1<<i) != 0 {
				kinds = append(kinds, k)
			}
		}
		check(t, []byte(body), kinds)
	})
}

// BenchmarkScan has texts that a careless scan would go over again and again: the figure for a megabyte is that for 64 KB.
func BenchmarkScan(b *testing.B) {
	for name, unit := range map[string]string{
		"prose": "The oak table was packed on Monday and handed to the carrier in Lyon; the lamp follows later this week. ",
		"sk":    "sk-", "eyJ": "eyJ-", "eyJ.": "eyJaaaaaaaaa.", "at": "a@", "digits": "4111 ", "iban": "DE89 ", "plus": "+1 2 3 ", "pem": "-----BEGIN ", "dots": "a.b.c.",
	} {
		for _, n := range []int{64 << 10, 1 << 20} {
			text := []byte(strings.Repeat(unit, n/len(unit)))
			b.Run(fmt.Sprintf("%s/%dKB", name, n>>10), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					scan(text, func(Kind, int, int) {})
				}
			})
		}
	}
}
