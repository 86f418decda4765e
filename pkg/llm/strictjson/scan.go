package strictjson

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// Document is a text that was read: the text itself and an index of its values. The zero Document is ready for Parse and may be
// used again for another text; what was taken from the first one, but not the Values themselves, stays valid.
type Document struct {
	text     []byte
	opt      Options
	nodes    []node
	open     []uint32 // containers that are not closed yet, innermost last
	problems []Problem
	dropped  int
	arena    []byte // decoded strings; belongs to those who asked for them
	decoded  int    // upper bound of the bytes that decoding every string takes
	keys     keySet
}

// node is one value or name. Nodes lie in the order of the text: an object's node is followed by its first name, that by its
// value, and so on; next skips over what belongs to a node.
type node struct {
	start, end uint32 // of the token in the text, brackets and quotes included; end is 0 while a container is open
	next       uint32 // index of the node after this one and all that is in it; 0 while a container is open
	count      uint32 // members or elements
	kind       Kind
	flags      flags
}

type flags uint8

const (
	flagEscaped  flags = 1 << iota // has an escape
	flagNeedless                   // has an escape for a character that no writer escapes
	flagInvalid                    // is no UTF-8, or has half of a surrogate pair
	flagKey                        // is a member's name
)

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// Parse reads text, which must not change as long as the document is used. It reports whether there is a value: false
// after a problem that is fatal.
func (d *Document) Parse(text []byte, o Options) bool {
	d.opt = o.withDefaults()
	d.text = text
	d.nodes, d.open = d.nodes[:0], d.open[:0]
	d.problems, d.dropped = nil, 0
	d.arena, d.decoded = nil, 0
	if int64(len(text)) > d.opt.MaxBytes {
		d.report(Problem{Code: Oversize, Detail: "the text is longer than the limit of " + strconv.FormatInt(d.opt.MaxBytes, 10) + " bytes"})
		return false
	}
	i := 0
	if len(text) >= 3 && text[0] == 0xEF && text[1] == 0xBB && text[2] == 0xBF {
		d.report(Problem{Code: BOM, Detail: "the text begins with a byte order mark"})
		i = 3
	}
	i, ok := d.scan(i)
	if !ok {
		d.nodes = d.nodes[:0]
		return false
	}
	if i = skipSpace(text, i); i < len(text) {
		d.report(Problem{Code: TrailingData, Offset: i, Detail: "there is more after the end of the value"})
	}
	return true
}

// Problems returns what was found, in the order of the text but for duplicate keys, which are found at the
// end of their object.
func (d *Document) Problems() []Problem { return d.problems }

// Dropped returns how many problems were found beyond Options.MaxProblems.
func (d *Document) Dropped() int { return d.dropped }

// Forget lets go of the text, so that a Document that is kept for the next text does not keep this one in memory.
// Memory for an index of unusual size is let go of, too.
func (d *Document) Forget() {
	d.text, d.arena, d.problems = nil, nil, nil
	d.nodes = d.nodes[:0]
	if cap(d.nodes) > keptNodes {
		d.nodes = nil
	}
	if cap(d.keys.slots) > keptNodes {
		d.keys.slots = nil
	}
}

// keptNodes is how many nodes' memory a Document keeps for its next text: 1.25 MiB, enough for a long conversation.
const keptNodes = 1 << 16

func (d *Document) report(p Problem) {
	if len(d.problems) >= d.opt.MaxProblems {
		d.dropped++
		return
	}
	d.problems = append(d.problems, p)
}

// reportAt reports a problem at a node.
func (d *Document) reportAt(code Code, n uint32, detail string) {
	if len(d.problems) >= d.opt.MaxProblems {
		d.dropped++
		return
	}
	d.problems = append(d.problems, Problem{Code: code, Path: d.pointer(n), Offset: int(d.nodes[n].start), Detail: detail})
}

// fail reports a violation of the grammar. It is fatal and therefore kept even when the list is full.
func (d *Document) fail(code Code, i int, detail string) (int, bool) {
	path := ""
	if len(d.nodes) > 0 {
		path = d.pointer(uint32(len(d.nodes) - 1))
	}
	if len(d.problems) >= d.opt.MaxProblems {
		d.problems = d.problems[:d.opt.MaxProblems-1]
		d.dropped++
	}
	d.problems = append(d.problems, Problem{Code: code, Path: path, Offset: i, Detail: detail})
	return i, false
}

// scan reads one value from i on. It is a loop over the text with an explicit stack, so that depth costs no stack of the goroutine.
func (d *Document) scan(i int) (int, bool) {
	b := d.text
	var (
		ok     bool
		detail string
	)

value:
	if i = skipSpace(b, i); i >= len(b) {
		return d.fail(Unparseable, i, "the text ends where a value is expected")
	}
	if len(d.nodes) >= d.opt.MaxValues {
		return d.fail(Oversize, i, "the text has more values than the limit of "+strconv.Itoa(d.opt.MaxValues))
	}
	switch c := b[i]; c {
	case '{', '[':
		if len(d.open) >= d.opt.MaxDepth {
			return d.fail(Depth, i, "values are nested deeper than the limit of "+strconv.Itoa(d.opt.MaxDepth))
		}
		kind, closing := Object, byte('}')
		if c == '[' {
			kind, closing = Array, ']'
		}
		d.open = append(d.open, uint32(len(d.nodes)))
		d.nodes = append(d.nodes, node{start: uint32(i), kind: kind})
		if i = skipSpace(b, i+1); i < len(b) && b[i] == closing {
			goto end
		}
		if kind == Array {
			goto value
		}
		goto name
	case '"':
		if i, detail = d.str(i, 0); detail != "" {
			return d.fail(Unparseable, i, detail)
		}
	case 't':
		if i, ok = d.literal(i, "true", Bool); !ok {
			return d.fail(Unparseable, i, "a literal is misspelt")
		}
	case 'f':
		if i, ok = d.literal(i, "false", Bool); !ok {
			return d.fail(Unparseable, i, "a literal is misspelt")
		}
	case 'n':
		if i, ok = d.literal(i, "null", Null); !ok {
			return d.fail(Unparseable, i, "a literal is misspelt")
		}
	default:
		if i, ok = d.number(i); !ok {
			return d.fail(Unparseable, i, "a value begins with a character that no value begins with, or a number is misspelt")
		}
	}

after: // a value has ended before i
	if len(d.open) == 0 {
		return i, true
	}
	{
		top := &d.nodes[d.open[len(d.open)-1]]
		top.count++
		if i = skipSpace(b, i); i >= len(b) {
			return d.fail(Unparseable, i, "the text ends in an object or array")
		}
		switch {
		case b[i] == ',' && top.kind == Array:
			i++
			goto value
		case b[i] == ',':
			i = skipSpace(b, i+1)
			goto name
		case b[i] == ']' && top.kind == Array, b[i] == '}' && top.kind == Object:
			goto end
		}
		return d.fail(Unparseable, i, "a comma or the end of an object or array is expected")
	}

name:
	if i >= len(b) || b[i] != '"' {
		return d.fail(Unparseable, i, "the name of a member is expected")
	}
	if len(d.nodes) >= d.opt.MaxValues {
		return d.fail(Oversize, i, "the text has more values than the limit of "+strconv.Itoa(d.opt.MaxValues))
	}
	if i, detail = d.str(i, flagKey); detail != "" {
		return d.fail(Unparseable, i, detail)
	}
	if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
		return d.fail(Unparseable, i, "a colon is expected")
	}
	i++
	goto value

end: // b[i] closes the innermost container
	{
		n := d.open[len(d.open)-1]
		i++
		if d.nodes[n].kind == Object && d.nodes[n].count > 1 {
			d.findDuplicates(n)
		}
		d.nodes[n].end = uint32(i)
		d.nodes[n].next = uint32(len(d.nodes))
		d.open = d.open[:len(d.open)-1]
		goto after
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

func (d *Document) leaf(start, end int, k Kind, f flags) uint32 {
	n := uint32(len(d.nodes))
	d.nodes = append(d.nodes, node{start: uint32(start), end: uint32(end), next: n + 1, kind: k, flags: f})
	return n
}

func (d *Document) literal(i int, word string, k Kind) (int, bool) {
	if len(d.text)-i < len(word) || string(d.text[i:i+len(word)]) != word {
		return i, false
	}
	d.leaf(i, i+len(word), k, 0)
	return i + len(word), true
}

// number reads -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (d *Document) number(i int) (int, bool) {
	b, start := d.text, i
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i] >= '1' && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return i, false
	}
	long := i-start > 300 // digits enough to leave the range without an exponent
	if i < len(b) && b[i] == '.' {
		from := i + 1
		if i = skipDigits(b, from); i == from {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		long = true
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = skipDigits(b, from); i == from {
			return i, false
		}
	}
	n := d.leaf(start, i, Number, 0)
	if long {
		if _, err := strconv.ParseFloat(string(b[start:i]), 64); err != nil {
			d.reportAt(NumberRange, n, "a number is out of the range of a float64")
		}
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// str reads the string whose opening quote is at i and returns the place after its closing quote. A detail that is not empty
// says what is wrong with it.
//
// Eight bytes are looked at together: m has the high bit set of each byte that is a quote, a backslash or a control
// character. The subtraction can also set it in a byte above such a one, never below, so the lowest is right.
func (d *Document) str(i int, f flags) (int, string) {
	b, start := d.text, i
	var wide uint64 // high bits of the bytes seen: set means that there is more than ASCII
	i++
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q := w ^ (lows * '"')
			s := w ^ (lows * '\\')
			m := ((q-lows)&^q | (s-lows)&^s | (w-lows*0x20)&^w) & highs
			if m != 0 {
				wide |= w & (m&-m - 1)
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			wide |= w
			i += 8
		}
		// Here is a byte to stop at, or one of the last seven of the text.
		if i >= len(b) {
			return i, "the text ends in a string"
		}
		switch c := b[i]; {
		case c == '"':
			i++
			if wide&highs != 0 && !utf8.Valid(b[start:i]) {
				f |= flagInvalid
			}
			d.endString(start, i, f)
			return i, ""
		case c == '\\':
			if i+1 < len(b) && (b[i+1] == 'n' || b[i+1] == '"' || b[i+1] == '\\' || b[i+1] == 't') { // nearly all of them
				f |= flagEscaped
				i += 2
				continue
			}
			n, more := escape(b[i:])
			if n == 0 {
				return i, "a string has an escape that there is not"
			}
			f |= flagEscaped | more
			i += n
		case c < 0x20:
			return i, "a string has a control character that is not escaped"
		default:
			wide |= uint64(c)
			i++
		}
	}
}

func (d *Document) endString(start, end int, f flags) {
	if f&(flagEscaped|flagInvalid) != 0 && f&flagKey == 0 {
		n := end - start
		if f&flagInvalid != 0 {
			n *= utf8.UTFMax - 1 // each byte may become U+FFFD
		}
		d.decoded += n
	}
	n := d.leaf(start, end, String, f)
	if f&flagInvalid != 0 {
		d.reportAt(InvalidUTF8, n, "a string has bytes that are no UTF-8 or half of a surrogate pair")
	}
	if f&(flagKey|flagNeedless) == flagKey|flagNeedless {
		d.reportAt(EscapedKey, n, "a name is spelled with an escape that it does not need")
	}
}

// escape reads the escape at the start of b and returns its length, 0 when it is none. A surrogate pair is one escape.
func escape(b []byte) (int, flags) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, 0
	case 'u':
	default:
		return 0, 0
	}
	r, ok := hex4(b[2:])
	switch {
	case !ok:
		return 0, 0
	case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '_':
		return 6, flagNeedless
	case r >= 0xDC00 && r <= 0xDFFF:
		return 6, flagInvalid
	case r >= 0xD800 && r <= 0xDBFF:
		if len(b) >= 8 && b[6] == '\\' && b[7] == 'u' {
			if low, ok := hex4(b[8:]); ok && low >= 0xDC00 && low <= 0xDFFF {
				return 12, 0
			}
		}
		return 6, flagInvalid
	}
	return 6, 0
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case (c|0x20)-'a' <= 5:
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
