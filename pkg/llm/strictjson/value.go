package strictjson

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds. Absent is the kind of the zero Value, which stands for a value that is not there.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "boolean"
	case Number:
		return "number"
	case String:
		return "string"
	case Array:
		return "array"
	case Object:
		return "object"
	}
	return "absent"
}

// Value is a value of a Document, or the name of a member. It is valid until the document reads another text. Asking a value for what
// it is not, or a Value that is absent for anything, returns zero.
type Value struct {
	d *Document
	n uint32
}

// Root returns the outermost value, absent when Parse returned false.
func (d *Document) Root() Value {
	if len(d.nodes) == 0 {
		return Value{}
	}
	return Value{d, 0}
}

// Kind returns the value's kind.
func (v Value) Kind() Kind {
	if v.d == nil {
		return Absent
	}
	return v.d.nodes[v.n].kind
}

// Raw returns the value's bytes as they are in the text.
func (v Value) Raw() []byte {
	if v.d == nil {
		return nil
	}
	n := &v.d.nodes[v.n]
	return v.d.text[n.start:n.end:n.end]
}

// Bare returns a string as it is in the text, without its quotes: what names without escapes are told by. It is nil for what is no string.
func (v Value) Bare() []byte {
	if v.Kind() != String {
		return nil
	}
	return v.d.name(v.n)
}

// Len returns the number of members of an object or elements of an array.
func (v Value) Len() int {
	if v.d == nil {
		return 0
	}
	return int(v.d.nodes[v.n].count)
}

// Escaped reports whether a string has an escape of any kind.
func (v Value) Escaped() bool {
	return v.d != nil && v.d.nodes[v.n].flags&flagEscaped != 0
}

// NeedlesslyEscaped reports whether a string has an escape for a letter, digit or underscore, which no writer escapes. In a name it
// is among the document's problems.
func (v Value) NeedlesslyEscaped() bool {
	return v.d != nil && v.d.nodes[v.n].flags&flagNeedless != 0
}

// Text returns a string's content, which is UTF-8: invalid bytes and half surrogate pairs become U+FFFD. It is part of the
// text where that needs no decoding, and must not be changed.
func (v Value) Text() []byte {
	if v.Kind() != String {
		return nil
	}
	in := v.d.name(v.n)
	if v.d.nodes[v.n].flags&(flagEscaped|flagInvalid) == 0 {
		return in[:len(in):len(in)]
	}
	// One buffer is made for all strings of the document. Should it grow, because a string is asked for twice, then what was handed out
	// stays in the old one.
	if v.d.arena == nil {
		v.d.arena = make([]byte, 0, v.d.decoded)
	}
	from := len(v.d.arena)
	v.d.arena = v.d.appendText(v.d.arena, v.n)
	return v.d.arena[from:len(v.d.arena):len(v.d.arena)]
}

// Is reports whether the value is the string s.
func (v Value) Is(s string) bool {
	if v.Kind() != String {
		return false
	}
	in := v.d.name(v.n)
	if v.d.nodes[v.n].flags&(flagEscaped|flagInvalid) == 0 {
		return string(in) == s
	}
	return string(v.d.appendText(nil, v.n)) == s
}

// FoldsTo reports whether the value is a string that equals s but for case, as Unicode folds it.
func (v Value) FoldsTo(s string) bool {
	if v.Kind() != String {
		return false
	}
	in := v.d.name(v.n)
	if v.d.nodes[v.n].flags&(flagEscaped|flagInvalid) != 0 {
		in = v.d.appendText(nil, v.n)
	}
	if len(in) > 3*len(s) || len(s) > 3*len(in) {
		return false // a character of one byte may fold to one of three (k to the Kelvin sign), not to more
	}
	return strings.EqualFold(string(in), s)
}

// Bool returns a boolean's value.
func (v Value) Bool() bool {
	return v.Kind() == Bool && v.d.text[v.d.nodes[v.n].start] == 't'
}

// Int64 returns a number that is written as an integer, without fraction and exponent, and that an int64 holds.
func (v Value) Int64() (int64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	raw := v.Raw()
	digits, negative := bytes.CutPrefix(raw, []byte("-"))
	var u uint64
	for _, c := range digits {
		if c < '0' || c > '9' || u > (1<<63)/10 {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}

// Float64 returns a number that a float64 holds.
func (v Value) Float64() (float64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.Raw()), 64)
	return f, err == nil
}

// Members goes over an object's members in the order of the text, each as name and value.
func (v Value) Members() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		if v.Kind() != Object {
			return
		}
		end := v.d.nodes[v.n].next
		for k := v.n + 1; k < end; k = v.d.nodes[k+1].next {
			if !yield(Value{v.d, k}, Value{v.d, k + 1}) {
				return
			}
		}
	}
}

// Elements goes over an array's elements.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != Array {
			return
		}
		end := v.d.nodes[v.n].next
		for k := v.n + 1; k < end; k = v.d.nodes[k].next {
			if !yield(Value{v.d, k}) {
				return
			}
		}
	}
}

// Get returns the first member of an object with the name, absent when there is none.
func (v Value) Get(name string) Value {
	for k, m := range v.Members() {
		if k.Is(name) {
			return m
		}
	}
	return Value{}
}

// Pointer returns the JSON pointer (RFC 6901) to the value; for a member's name, to the member. It is meant to be shown: names are
// shortened and control characters in them replaced.
func (v Value) Pointer() string {
	if v.d == nil {
		return ""
	}
	return v.d.pointer(v.n)
}

const (
	maxPointer     = 256 // bytes of a pointer
	maxPointerName = 48  // bytes of a name in it
)

// pointer finds its way down from the root: at each container, the child that the node lies in. A container that is still open while
// the text is read goes on to the last node.
func (d *Document) pointer(target uint32) string {
	var p []byte
	for n := uint32(0); n != target && len(p) < maxPointer; {
		object := d.nodes[n].kind == Object
		child, index := n+1, 0
		for {
			value := child
			if object {
				value++
			}
			if target <= value || value >= uint32(len(d.nodes)) || d.nodes[value].next == 0 || target < d.nodes[value].next {
				p = append(p, '/')
				if object {
					p = appendPointerName(p, d.appendText(nil, child))
				} else {
					p = strconv.AppendInt(p, int64(index), 10)
				}
				if target == child {
					value = child
				}
				n = value
				break
			}
			child = d.nodes[value].next
			index++
		}
	}
	return string(p)
}

func appendPointerName(p, name []byte) []byte {
	cut := len(name) > maxPointerName
	if cut {
		name = name[:maxPointerName]
		for len(name) > 0 && !utf8.Valid(name) {
			name = name[:len(name)-1]
		}
	}
	for _, r := range string(name) {
		switch {
		case r == '~':
			p = append(p, "~0"...)
		case r == '/':
			p = append(p, "~1"...)
		case !unicode.IsPrint(r):
			p = utf8.AppendRune(p, utf8.RuneError)
		default:
			p = utf8.AppendRune(p, r)
		}
	}
	if cut {
		p = append(p, "…"...)
	}
	return p
}

// appendDecoded appends what the inside of a string, which the scanner has passed, stands for. Bytes that are no UTF-8 stay as they are.
//
// It copies eight bytes at a time, as far as the next backslash. What a string stands for is never longer than the string, so that there is
// always room for the eight.
func appendDecoded(dst, in []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, len(in))
	out := dst[:n+len(in)]
	for i := 0; i < len(in); {
		if len(in)-i >= 8 {
			w := binary.LittleEndian.Uint64(in[i:])
			binary.LittleEndian.PutUint64(out[n:], w)
			s := w ^ (lows * '\\')
			m := (s - lows) &^ s & highs
			if m == 0 {
				i += 8
				n += 8
				continue
			}
			k := bits.TrailingZeros64(m) >> 3
			i += k
			n += k
		}
		c := in[i]
		i++
		if c == '\\' {
			c = in[i]
			i++
			switch c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'u':
				r, size := decodeUnicode(in[i-2:])
				i += size - 2
				n += utf8.EncodeRune(out[n:], r)
				continue
			}
		}
		out[n] = c
		n++
	}
	return out[:n]
}

// decodeUnicode returns the character of the escape \uXXXX, or of a pair of them, that b begins with, and the length of the escape.
func decodeUnicode(b []byte) (rune, int) {
	r, _ := hex4(b[2:])
	size, f := escape(b)
	switch {
	case f&flagInvalid != 0:
		r = utf8.RuneError
	case size == 12:
		low, _ := hex4(b[8:])
		r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
	}
	return r, size
}

// appendValid appends in with U+FFFD for each byte that is no UTF-8.
func appendValid(dst, in []byte) []byte {
	for len(in) > 0 {
		r, n := utf8.DecodeRune(in)
		dst = utf8.AppendRune(dst, r)
		in = in[n:]
	}
	return dst
}

// appendText appends the content of the string at a node.
func (d *Document) appendText(dst []byte, n uint32) []byte {
	in := d.name(n)
	switch f := d.nodes[n].flags; {
	case f&flagInvalid != 0:
		return appendValid(dst, appendDecoded(nil, in))
	case f&flagEscaped != 0:
		return appendDecoded(dst, in)
	}
	return append(dst, in...)
}
