package wire

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"

	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

const (
	maxValue = 512        // bytes of the longest value that is taken, quotes included, unless the Shape says Long or Raw
	maxDepth = 16         // objects and arrays within a Shape; one nested deeper is passed over
	maxKey   = 64         // bytes of the longest name in a Shape
	maxName  = 6 * maxKey // bytes of such a name when all of it is escaped
)

// follower follows JSON texts in pieces and hands over what a Shape wants. It accepts more than JSON: what it reads was written by the
// provider, whom the caller has authenticated.
type follower struct {
	root  *Shape
	taker Taker
	doc   strictjson.Document
	long  int  // bytes of the longest value of a Shape that says Long or Raw
	texts bool // texts follow one another, maybe as elements of an array

	inner *follower // follows the text within a string of base64
	quad  [4]byte   // characters of base64 that are not decoded yet
	quads int

	state  state
	shape  *Shape // of the value that is being read or expected
	stack  [maxDepth]frame
	depth  int
	skip   int  // containers open within one that is passed over
	escape bool // the next byte of a string is escaped
	keep   bool // the value is kept in value
	raw    bool // the container that is passed over is a value to take
	value  []byte
	key    [maxName]byte
	keyLen int  // more than maxName when the name is longer than any in a Shape
	odd    bool // the name has an escape
}

type frame struct {
	shape  *Shape
	object bool
}

type state uint8

const (
	wantValue state = iota
	wantFirst       // the first element or the end of an array
	wantName        // a name or the end of an object
	wantColon
	wantComma // a comma or the end of a container
	inString
	inName
	inBare // a number or literal
	inSkipped
	inSkippedString
	inBase64
	dead // the text has ended or is no JSON
)

func (f *follower) reset() {
	f.state, f.shape, f.depth, f.skip, f.escape = wantValue, f.root, 0, 0, false
}

// line follows the end of a line of NDJSON: what is broken, or is still in a string, ends with it.
func (f *follower) line() {
	switch f.state {
	case dead, inString, inName, inSkippedString, inBase64:
		f.reset()
	}
}

func (f *follower) write(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		switch f.state {
		case dead:
			return
		case inBase64:
			f.base64(c)
			i++
			continue
		case inString, inSkippedString:
			n := f.inString(p[i:])
			i += n
			continue
		case inName:
			if c == '"' && !f.escape {
				f.shape = f.member()
				f.state = wantColon
			} else {
				if f.escape = c == '\\' && !f.escape; f.escape {
					f.odd = true
				}
				if f.keyLen < maxName {
					f.key[f.keyLen] = c
				}
				f.keyLen = min(f.keyLen+1, maxName+1)
			}
			i++
			continue
		case inBare:
			switch c {
			case ',', ']', '}', ' ', '\n', '\r', '\t':
				f.take()
				f.ended()
			default:
				f.push(c)
				i++
			}
			continue
		case inSkipped:
			if f.keep {
				f.push(c)
			}
			switch c {
			case '"':
				f.state = inSkippedString
			case '{', '[':
				f.skip++
			case '}', ']':
				if f.skip--; f.skip == 0 {
					if f.raw {
						f.take()
					}
					f.ended()
				}
			}
			i++
			continue
		}
		i++
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			continue
		}
		if f.texts && f.depth == 0 && f.state == wantValue && (c == '[' || c == ',' || c == ']') {
			continue
		}
		switch f.state {
		case wantFirst, wantValue:
			if f.state == wantFirst && c == ']' {
				f.close()
				continue
			}
			f.begin(c)
		case wantName:
			switch c {
			case '"':
				f.state, f.keyLen, f.odd = inName, 0, false
			case '}':
				f.close()
			default:
				f.state = dead
			}
		case wantColon:
			f.state = wantValue
			if c != ':' {
				f.state = dead
			}
		case wantComma:
			top := f.stack[f.depth-1]
			switch {
			case c == ',' && top.object:
				f.state = wantName
			case c == ',':
				f.state, f.shape = wantValue, top.shape.Each
			case c == '}' && top.object, c == ']' && !top.object:
				f.close()
			default:
				f.state = dead
			}
		}
	}
}

// member returns the shape of the member whose name was read.
func (f *follower) member() *Shape {
	if f.keyLen > maxName {
		return nil
	}
	members, name := f.stack[f.depth-1].shape.Members, f.key[:f.keyLen]
	if !f.odd {
		return members[string(name)]
	}
	f.value = append(append(append(f.value[:0], '"'), name...), '"')
	if !f.doc.Parse(f.value, strictjson.Options{}) {
		return nil
	}
	return members[string(f.doc.Root().Text())]
}

// begin begins a value with its first byte.
func (f *follower) begin(c byte) {
	switch {
	case c == '{' || c == '[':
		f.raw = f.shape != nil && f.shape.Raw && f.shape.Take != 0
		if f.raw || f.shape == nil || f.depth == maxDepth {
			f.state, f.skip = inSkipped, 1
			f.keep = f.raw
			f.value = f.value[:0]
			f.push(c)
			return
		}
		f.stack[f.depth] = frame{f.shape, c == '{'}
		f.depth++
		f.state = wantName
		if c == '[' {
			f.state, f.shape = wantFirst, f.shape.Each
		}
		return
	case c == '"' && f.shape != nil && f.shape.Base64 != nil:
		if f.inner == nil {
			f.inner = &follower{taker: f.taker, long: f.long}
		}
		f.inner.root = f.shape.Base64
		f.inner.reset()
		f.state, f.quads = inBase64, 0
		return
	case c == '"':
		f.state = inString
	case c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z':
		f.state = inBare
	default:
		f.state = dead
		return
	}
	f.keep = f.shape != nil && f.shape.Take != 0
	f.value = f.value[:0]
	f.push(c)
}

// limit is how long the value may be.
func (f *follower) limit() int {
	if f.shape != nil && (f.shape.Long || f.shape.Raw) {
		return f.long
	}
	return maxValue
}

// push keeps a byte of the value. A value that is too long is not kept at all.
func (f *follower) push(c byte) {
	if f.keep {
		f.value = append(f.value, c)
		f.keep = len(f.value) <= f.limit()
	}
}

// inString follows the inside of a string and returns how many bytes it has used up.
func (f *follower) inString(p []byte) int {
	for i := 0; i < len(p); i++ {
		if f.keep {
			f.push(p[i])
		} else if !f.escape {
			if i += plain(p[i:]); i == len(p) {
				break
			}
		}
		c := p[i]
		switch {
		case f.escape:
			f.escape = false
		case c == '\\':
			f.escape = true
		case c == '"':
			if f.state == inSkippedString {
				f.state = inSkipped
			} else {
				f.take()
				f.ended()
			}
			return i + 1
		}
	}
	return len(p)
}

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns how many bytes p begins with that are neither a quote nor a backslash. It looks at eight together: m has the high bit set of each
// that is one, and maybe of some above it.
func plain(p []byte) int {
	i := 0
	for ; i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		q, s := w^(lows*'"'), w^(lows*'\\')
		if m := ((q-lows)&^q | (s-lows)&^s) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(p) && p[i] != '"' && p[i] != '\\'; i++ {
	}
	return i
}

// base64 follows a character of a string of base64.
func (f *follower) base64(c byte) {
	switch {
	case c == '"':
		f.ended()
		return
	case c == '\\' && !f.escape:
		f.escape = true // only of a slash, which some writers escape
		return
	case f.escape && c != '/':
		f.inner.state = dead
	}
	f.escape = false
	f.quad[f.quads] = c
	if f.quads++; f.quads == len(f.quad) {
		f.quads = 0
		var out [3]byte
		n, err := base64.StdEncoding.Decode(out[:], f.quad[:])
		if err != nil {
			f.inner.state = dead
			return
		}
		f.inner.write(out[:n])
	}
}

// take hands over the value that has ended.
func (f *follower) take() {
	switch {
	case f.shape == nil || f.shape.Take == 0:
	case f.keep && f.doc.Parse(f.value, strictjson.Options{}):
		f.taker.Take(f.shape.Take, f.doc.Root())
	case f.shape.Long || f.shape.Raw:
		f.taker.Take(f.shape.Take, strictjson.Value{})
	}
}

// ended follows the end of a value.
func (f *follower) ended() {
	f.state = wantComma
	if f.depth == 0 {
		f.state = dead
		if f.texts {
			f.reset()
		}
	}
}

// close follows the end of a container of the Shape.
func (f *follower) close() {
	f.depth--
	if id := f.stack[f.depth].shape.End; id != 0 {
		f.taker.End(id)
	}
	f.ended()
}
