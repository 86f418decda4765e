package canary

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
)

// Sizes of the pieces that text is looked through in.
const (
	pieceBytes = 16 << 10
	// keptBytes of a piece without white space are looked at again with the next one: more than the longest token takes, at two characters a byte.
	keptBytes = 512
	// keptRun bytes of a run of base64 are decoded again with what follows: more than the longest token takes that was escaped before.
	keptRun = 4 << 10
)

// search is the scratch of one Find.
type search struct {
	set   *Set
	found []bool // by name
	any   bool

	plain, once, twice view // the text, and what is left when one and two layers of escapes are taken off
	joined, bare       view // the text where escapes have white space in them, and what is left when they are taken off
	inner, unescaped   view // what runs of base64 and hexadecimal have in them, and that without escapes
	layer              [keptRun + pieceBytes]byte
	deeper             [pieceBytes]byte
	decoded            [pieceBytes]byte
}

var pool = sync.Pool{New: func() any { return new(search) }}

func (x *search) begin(s *Set) {
	x.set, x.any = s, false
	x.found = append(x.found[:0], make([]bool, len(s.names))...)
	for _, v := range [...]*view{&x.plain, &x.once, &x.twice, &x.joined, &x.bare, &x.inner, &x.unescaped} {
		v.n, v.next = 0, nil
	}
}

// all looks through the text in all ways.
func (x *search) all(text []byte) {
	x.plain.write(x, text)
	x.plain.end(x)
	if !escaped(text) {
		x.runs(text)
	} else {
		if again := x.unescape(text, false); again {
			x.unescape(text, true)
		}
		if broken(text) {
			x.joined.next = &x.bare
			x.joined.write(x, text)
			x.joined.end(x)
			x.bare.end(x)
		}
	}
	x.inner.end(x)
	x.unescaped.end(x)
}

// unescape looks through the text without its escapes; where deep is set, through that without its escapes. It says whether it has some.
func (x *search) unescape(text []byte, deep bool) (again bool) {
	kept := 0 // bytes at the beginning of the layer that were looked at before: of a run for runs, of what may be an escape where deep is set
	for len(text) > 0 {
		n, took := unescape(x.layer[kept:], text, true)
		text = text[took:]
		all := x.layer[:kept+n]
		last := len(text) == 0
		if deep {
			for rest := all; ; {
				n, took := unescape(x.deeper[:], rest, last)
				x.twice.write(x, x.deeper[:n])
				if rest = rest[took:]; took == 0 || len(rest) == 0 {
					kept = copy(x.layer[:], rest)
					break
				}
			}
			continue
		}
		again = again || escaped(all)
		x.once.write(x, all[kept:])
		x.runs(all)
		kept = 0
		if !last {
			kept = copy(x.layer[:], all[len(all)-min(runAtEnd(all), keptRun):])
		}
	}
	if deep {
		x.twice.end(x)
	} else {
		x.once.end(x)
	}
	return again
}

// view is text without white space and characters that do not show, as much of it as has not been looked through.
type view struct {
	buf  [keptBytes + pieceBytes]byte
	n    int
	next *view // takes the text without escapes, in place of looking through it; nil for none
}

func (v *view) write(x *search, b []byte) {
	for len(b) > 0 {
		if v.n == len(v.buf) {
			v.flush(x)
		}
		part := b[:min(len(b), len(v.buf)-v.n)]
		b = b[len(part):]
		n := v.n
		for _, c := range part {
			v.buf[n] = c
			if c >= 0x80 {
				n++
				n -= hidden(v.buf[:n])
				continue
			}
			if !silent[c] {
				n++
			}
		}
		v.n = n
	}
}

func (v *view) flush(x *search) {
	if v.next != nil {
		v.pass(x, false)
		return
	}
	x.scan(v.buf[:v.n])
	v.n = copy(v.buf[:], v.buf[v.n-min(v.n, keptBytes):v.n])
}

// pass hands the text on without escapes.
func (v *view) pass(x *search, last bool) {
	rest := v.buf[:v.n]
	for len(rest) > 0 {
		n, took := unescape(x.deeper[:], rest, last)
		if took == 0 {
			break
		}
		v.next.write(x, x.deeper[:n])
		rest = rest[took:]
	}
	v.n = copy(v.buf[:], rest)
}

func (v *view) end(x *search) {
	if v.next != nil {
		v.pass(x, true)
		return
	}
	if v.n >= MinValue {
		x.scan(v.buf[:v.n])
	}
	v.n = 0
}

// scan looks for tokens as they are, in hexadecimal and in base64.
func (x *search) scan(b []byte) {
	plain, sixes := &x.set.plain, &x.set.sixes
	hexEnd := 0 // where the last run of hexadecimal digits ended
	for i := 0; i+4 <= len(b); i += 4 {
		if four := binary.LittleEndian.Uint32(b[i:]) | bit5; plain.has(four) {
			x.asIs(b, i, four)
		}
		p0, p1, p2, p3 := &properties[b[i]], &properties[b[i+1]], &properties[b[i+2]], &properties[b[i+3]]
		if p0.inBase64&p1.inBase64&p2.inBase64&p3.inBase64 == 0 {
			continue
		}
		if key := uint32(p0.sextet)<<18 | uint32(p1.sextet)<<12 | uint32(p2.sextet)<<6 | uint32(p3.sextet); sixes.has(key) {
			x.inBase64(b, i, key)
		}
		if p0.inHex&p1.inHex&p2.inHex&p3.inHex != 0 && i >= hexEnd {
			begin := i
			for begin > hexEnd && properties[b[begin-1]].inHex != 0 {
				begin--
			}
			hexEnd = i + 4
			for hexEnd < len(b) && properties[b[hexEnd]].inHex != 0 {
				hexEnd++
			}
			if hexEnd-begin >= minHex {
				x.inHex(b[begin:hexEnd])
			}
		}
	}
}

func (x *search) hit(t *token) { x.found[t.name], x.any = true, true }

// same says whether a token in small letters is b, in any case.
func same(folded, b []byte) bool {
	for i, c := range folded {
		if small(b[i]) != c {
			return false
		}
	}
	return true
}

// asIs looks for tokens that have these four bytes at b[i].
func (x *search) asIs(b []byte, i int, four uint32) {
	for _, p := range x.set.plain.places[four] {
		t := &x.set.tokens[p.token]
		if from := i - p.at; from >= 0 && from+len(t.folded) <= len(b) && same(t.folded, b[from:]) {
			x.hit(t)
		}
	}
}

// inHex looks for tokens in hexadecimal digits.
func (x *search) inHex(digits []byte) {
	var last uint64 // eight bytes' digits
	for i, c := range digits {
		last = last<<4 | uint64(properties[c].nibble)
		// The first of the four bytes is the lowest.
		four := bits.ReverseBytes32(uint32(last)) | bit5
		if i < 7 || !x.set.plain.has(four) {
			continue
		}
	next:
		for _, p := range x.set.plain.places[four] {
			t := &x.set.tokens[p.token]
			from := i - 7 - 2*p.at
			if from < 0 || from+2*len(t.folded) > len(digits) {
				continue
			}
			for k, c := range t.folded {
				if small(properties[digits[from+2*k]].nibble<<4|properties[digits[from+2*k+1]].nibble) != c {
					continue next
				}
			}
			x.hit(t)
		}
	}
}

// inBase64 looks for tokens that have these four signs at b[i].
func (x *search) inBase64(b []byte, i int, key uint32) {
next:
	for _, p := range x.set.sixes.places[key] {
		t := &x.set.tokens[p.token]
		first := 6*i - p.at // where the token begins, in bits
		if first < 0 || (first+8*len(t.folded)-1)/6 >= len(b) {
			continue
		}
		for i, c := range t.folded {
			at := first + 8*i
			one, two := &properties[b[at/6]], &properties[b[at/6+1]]
			twelve := uint16(one.sextet)<<6 | uint16(two.sextet)
			if one.inBase64&two.inBase64 == 0 || small(byte(twelve>>(4-at%6))) != c {
				continue next
			}
		}
		x.hit(t)
	}
}

// Least lengths of what may hold a token that was encoded before.
const (
	minBase64 = (8*MinValue + 5) / 6
	minHex    = 2 * MinValue
)

// runs looks into what is base64 or hexadecimal by its signs, and long enough.
func (x *search) runs(b []byte) {
	for end := 0; end+minBase64 <= len(b); {
		// A run that is long enough and does not begin before end has this sign in it.
		i := end + minBase64 - 1
		if properties[b[i]].inBase64 == 0 {
			end = i + 1
			continue
		}
		begin := i
		for begin > end && properties[b[begin-1]].inBase64 != 0 {
			begin--
		}
		for end = i + 1; end < len(b) && properties[b[end]].inBase64 != 0; {
			end++
		}
		if end-begin < minBase64 {
			continue
		}
		x.base64Run(b[begin:end])
		for i := begin; i+minHex <= end; {
			n := 0
			for i+n < end && properties[b[i+n]].inHex != 0 {
				n++
			}
			x.hexRun(b[i : i+n])
			i += n + 1
		}
	}
}

// runAtEnd is the length of the run that b ends with.
func runAtEnd(b []byte) int {
	n := 0
	for n < len(b) && properties[b[len(b)-1-n]].inBase64 != 0 {
		n++
	}
	return n
}

func (x *search) base64Run(run []byte) {
	for len(run) >= minBase64 {
		part := run[:min(len(run), pieceBytes)]
		for phase := range 4 {
			x.encoded(x.decoded[:decode(x.decoded[:], part[phase:])])
		}
		if len(part) == len(run) {
			return
		}
		run = run[len(part)-keptRun:]
	}
}

// decode writes what signs of base64 stand for and returns how much it is.
func decode(to, signs []byte) (n int) {
	for ; len(signs) >= 4; signs = signs[4:] {
		three := uint32(properties[signs[0]].sextet)<<18 | uint32(properties[signs[1]].sextet)<<12 | uint32(properties[signs[2]].sextet)<<6 | uint32(properties[signs[3]].sextet)
		to[n], to[n+1], to[n+2] = byte(three>>16), byte(three>>8), byte(three)
		n += 3
	}
	if len(signs) >= 2 {
		to[n] = properties[signs[0]].sextet<<2 | properties[signs[1]].sextet>>4
		n++
	}
	if len(signs) == 3 {
		to[n] = properties[signs[1]].sextet<<4 | properties[signs[2]].sextet>>2
		n++
	}
	return n
}

func (x *search) hexRun(run []byte) {
	for len(run) >= minHex {
		part := run[:min(len(run), pieceBytes)]
		for phase := range 2 {
			n := 0
			for i := phase; i+1 < len(part); i += 2 {
				x.decoded[n] = properties[part[i]].nibble<<4 | properties[part[i+1]].nibble
				n++
			}
			x.encoded(x.decoded[:n])
		}
		if len(part) == len(run) {
			return
		}
		run = run[len(part)-keptRun:]
	}
}

// encoded looks through those stretches of what was decoded that may be text: most of it is none, where it was not encoded at all or at another place. A stretch that is long
// enough has four bytes of ASCII at a multiple of four, or a character that does not show.
func (x *search) encoded(b []byte) {
	end := 0 // of the last stretch
	for i := 0; i+4 <= len(b); i += 4 {
		begin := i
		switch {
		case i+4 <= end:
			continue
		case i < end: // what follows the sign that ended it may be the beginning of another
			for begin = end; begin < i+4 && b[begin] >= 0x80 && hiddenHere(b[begin:]) == 0; {
				begin++
			}
			if begin == i+4 {
				continue
			}
		case binary.LittleEndian.Uint32(b[i:])&0x80808080 != 0:
			if begin = firstHidden(b, i); begin < 0 {
				continue
			}
		}
		for begin > end && b[begin-1] < 0x80 {
			begin--
		}
		shown := 0
		for end = begin; end < len(b); {
			if c := b[end]; c > ' ' && c < 0x7f {
				end++
				shown++
			} else if silent[c] {
				end++
			} else if n := hiddenHere(b[end:]); n > 0 {
				end += n
			} else {
				break
			}
		}
		if shown >= MinValue {
			x.stretch(b[begin:end])
		}
	}
}

// firstHidden is where in b[i:i+4] a character of several bytes begins that does not show; -1 for nowhere.
func firstHidden(b []byte, i int) int {
	for k := i; k < i+4; k++ {
		if b[k] >= 0xc2 && hiddenHere(b[k:]) > 0 {
			return k
		}
	}
	return -1
}

// stretch looks through what was encoded.
func (x *search) stretch(b []byte) {
	x.inner.write(x, b)
	x.inner.write(x, separator)
	if !escaped(b) {
		return
	}
	for len(b) > 0 {
		n, took := unescape(x.deeper[:], b, true)
		x.unescaped.write(x, x.deeper[:n])
		b = b[took:]
	}
	x.unescaped.write(x, separator)
}

// separator is in no token and no coding.
var separator = []byte{0xff}

// broken says whether there is what would be an escape, were it not for white space and characters that do not show in it.
func broken(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if c := b[i]; c != '\\' && c != '%' && c != '&' {
			continue
		}
		if _, _, n := escape(b[i:min(len(b), i+maxEscape)]); n > 0 {
			i += n - 1
			continue
		}
		var near [maxEscape]byte
		n, j := 0, i
		for j < len(b) && n < len(near) {
			if skip := hiddenHere(b[j:]); skip > 0 {
				j += skip
			} else if silent[b[j]] {
				j++
			} else {
				near[n] = b[j]
				n++
				j++
			}
		}
		if _, _, n := escape(near[:n]); n > 0 && j > i+n {
			return true
		}
	}
	return false
}

// escaped says whether there may be escapes in b.
func escaped(b []byte) bool {
	return bytes.IndexByte(b, '\\') >= 0 || bytes.IndexByte(b, '%') >= 0 || bytes.IndexByte(b, '&') >= 0
}
