package redact

import (
	"errors"
	"slices"
	"sort"

	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Kind is a kind of sensitive text.
type Kind string

// The kinds.
const (
	Credential Kind = "credential"  // provider keys, tokens, private keys, JSON Web Tokens
	CreditCard Kind = "credit_card" // with a right check digit, in one piece or in groups
	Email      Kind = "email"
	IBAN       Kind = "iban"  // with right check digits and its country's length
	Phone      Kind = "phone" // in international form, with a plus
)

// Kinds are all kinds, sorted.
var Kinds = []Kind{Credential, CreditCard, Email, IBAN, Phone}

var (
	// ErrNotJSON says that a body is no JSON that every reader reads alike, so that nobody can say what a string in it is.
	ErrNotJSON = errors.New("the body is no unambiguous JSON")
	// ErrResidue says that an edited body has sensitive text again.
	ErrResidue = errors.New("sensitive text is left after redaction")
)

// Span is a piece of sensitive text: bytes Start to End of the body, within the quotes of one string.
type Span struct {
	Kind       Kind
	Start, End int
}

// Find returns the sensitive text in the string values of a JSON body, in the order of their starts. Spans of one kind do not overlap; spans
// of different kinds may.
func Find(body []byte) ([]Span, error) {
	var doc strictjson.Document
	if !doc.Parse(body, strictjson.Options{MaxBytes: int64(len(body)) + 1}) || len(doc.Problems()) > 0 {
		return nil, ErrNotJSON
	}
	return inJSON(body), nil
}

// Count says how much sensitive text there is, by kind, in the string values of a JSON body, or anywhere in a body that is none.
func Count(body []byte) map[Kind]int {
	counts := map[Kind]int{}
	spans, err := Find(body)
	if err != nil {
		scan(body, func(k Kind, _, _ int) { counts[k]++ })
	}
	for _, s := range spans {
		counts[s.Kind]++
	}
	return counts
}

// maxRounds bounds how often an edit is looked through again. What stood beside a piece that was taken out may be one itself only now.
const maxRounds = 8

// Redact takes the text of the given kinds out of the string values of a JSON body, "[redacted:kind]" in its place, and says how many pieces of which
// kind it took. All other bytes stay as they are, and nothing of those kinds is found afterwards. A body in which there is nothing is
// returned as it is.
func Redact(body []byte, kinds []Kind) (edited []byte, counts map[Kind]int, err error) {
	counts = map[Kind]int{}
	for range maxRounds {
		spans, err := Find(body)
		if err != nil {
			return nil, nil, err
		}
		spans = slices.DeleteFunc(spans, func(s Span) bool { return !slices.Contains(kinds, s.Kind) })
		if len(spans) == 0 {
			return body, counts, nil
		}
		for _, s := range spans {
			counts[s.Kind]++
		}
		body = Apply(body, spans)
	}
	return nil, nil, ErrResidue
}

// Apply returns a copy of the body with each span replaced. The spans must be Find's for this body, in its order; where some overlap, one
// replacement stands for all.
func Apply(body []byte, spans []Span) []byte {
	out := make([]byte, 0, len(body))
	at := 0
	for i := 0; i < len(spans); {
		s := spans[i]
		for i++; i < len(spans) && spans[i].Start < s.End; i++ {
			s.End = max(s.End, spans[i].End)
		}
		out = append(out, body[at:s.Start]...)
		out = append(out, "[redacted:"...) // no character of it needs an escape in JSON
		out = append(out, s.Kind...)
		out = append(out, ']')
		at = s.End
	}
	return append(out, body[at:]...)
}

// inJSON goes over the strings of a text that is known to be JSON.
func inJSON(body []byte) []Span {
	var spans []Span
	var text unescaped
	for i := 0; i < len(body); {
		if body[i] != '"' {
			i++
			continue
		}
		start, plain := i+1, true
		for i = start; body[i] != '"'; i++ {
			if body[i] == '\\' {
				plain = false
				i++
			}
		}
		end := i
		i++
		if isName(body[i:]) {
			continue
		}
		from := len(spans)
		if plain {
			scan(body[start:end], func(k Kind, a, b int) { spans = append(spans, Span{k, start + a, start + b}) })
		} else {
			text.read(body, start, end)
			scan(text.bytes, func(k Kind, a, b int) { spans = append(spans, Span{k, text.place(a), text.placeAfter(b - 1)}) })
		}
		found := spans[from:]
		sort.SliceStable(found, func(i, j int) bool { return found[i].Start < found[j].Start })
	}
	return spans
}

// isName says whether a string is the name of a member, by what follows it.
func isName(rest []byte) bool {
	for _, c := range rest {
		switch c {
		case ' ', '\t', '\n', '\r':
		default:
			return c == ':'
		}
	}
	return false
}

// unescaped is a string without its escapes, and where they were.
type unescaped struct {
	bytes   []byte
	escapes []escape
	start   int // of the string in the body
}

// escape is one in a string: length bytes at pos of the text, spelled as raw bytes at place of the body.
type escape struct{ pos, length, place, raw int }

// read takes the string between two offsets of the body.
func (u *unescaped) read(body []byte, start, end int) {
	u.bytes, u.escapes, u.start = u.bytes[:0], u.escapes[:0], start
	for i := start; i < end; {
		if body[i] != '\\' {
			u.bytes = append(u.bytes, body[i])
			i++
			continue
		}
		e := escape{pos: len(u.bytes), place: i}
		switch c := body[i+1]; c {
		case 'u':
			r := hex(body[i+2 : i+6])
			i += 6
			if r < 0x80 {
				u.bytes = append(u.bytes, byte(r))
			} else {
				// No kind has a character beyond ASCII. What stands for it is one that none of them has, either.
				u.bytes = append(u.bytes, 0xff)
			}
		default:
			u.bytes = append(u.bytes, unescape(c))
			i += 2
		}
		e.length, e.raw = len(u.bytes)-e.pos, i-e.place
		u.escapes = append(u.escapes, e)
	}
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func hex(digits []byte) (r rune) {
	for _, c := range digits {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

// before returns the last escape that begins at pos or before it.
func (u *unescaped) before(pos int) (escape, bool) {
	i := sort.Search(len(u.escapes), func(i int) bool { return u.escapes[i].pos > pos })
	if i == 0 {
		return escape{}, false
	}
	return u.escapes[i-1], true
}

// place is where the character at pos begins in the body.
func (u *unescaped) place(pos int) int {
	e, ok := u.before(pos)
	switch {
	case !ok:
		return u.start + pos
	case pos < e.pos+e.length:
		return e.place
	default:
		return e.place + e.raw + pos - (e.pos + e.length)
	}
}

// placeAfter is where the character at pos ends in the body.
func (u *unescaped) placeAfter(pos int) int {
	if e, ok := u.before(pos); ok && pos < e.pos+e.length {
		return e.place + e.raw
	}
	return u.place(pos) + 1
}
