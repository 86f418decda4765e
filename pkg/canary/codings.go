package canary

import (
	"unicode/utf8"
)

// property is what a byte is.
type property struct {
	sextet   byte
	nibble   byte
	inBase64 int8 // -1 where it is a sign of base64, in one alphabet or the other; else 0
	inHex    int8 // -1 where it is a hexadecimal digit
}

// properties of each byte, whether it is white space, and whether it shows nothing: that or a control character.
var properties, blank, silent = func() (all [256]property, blank, silent [256]bool) {
	for i := range all {
		c, p := byte(i), &all[i]
		switch {
		case c >= 'A' && c <= 'Z':
			p.sextet, p.inBase64 = c-'A', -1
		case c >= 'a' && c <= 'z':
			p.sextet, p.inBase64 = c-'a'+26, -1
		case c >= '0' && c <= '9':
			p.sextet, p.inBase64 = c-'0'+52, -1
		case c == '+' || c == '-':
			p.sextet, p.inBase64 = 62, -1
		case c == '/' || c == '_':
			p.sextet, p.inBase64 = 63, -1
		}
		if n, ok := digit(c); ok {
			p.nibble, p.inHex = byte(n), -1
		}
		blank[i] = c == ' ' || c >= '\t' && c <= '\r'
		silent[i] = c <= ' ' || c == 0x7f
	}
	return
}()

func digit(c byte) (rune, bool) {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0'), true
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10, true
	}
	return 0, false
}

// hidden is the length of the character that b ends with if it does not show, else 0.
func hidden(b []byte) int {
	for n := 2; n <= 4 && n <= len(b); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if hiddenHere(b[len(b)-n:]) == n {
				return n
			}
			return 0
		}
	}
	return 0
}

// hiddenHere is the length of the character that b begins with if it is white space or does not show, else 0.
func hiddenHere(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case ' ', '\t', '\n', '\v', '\f', '\r':
		return 1
	case 0xc2, 0xcd, 0xd8, 0xe1, 0xe2, 0xe3, 0xef, 0xf3: // what such characters begin with
	default:
		return 0
	}
	r, n := utf8.DecodeRune(b)
	switch {
	case r == 0xa0, r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x1680, r == 0x3000, r == 0x3164, r == 0xfeff, r == 0xffa0,
		r >= 0x17b4 && r <= 0x17b5, r >= 0x180b && r <= 0x180f, r >= 0x2000 && r <= 0x200f, r >= 0x2028 && r <= 0x202f, r >= 0x205f && r <= 0x206f,
		r >= 0xfe00 && r <= 0xfe0f, r >= 0xfff0 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe0fff:
		return n
	}
	return 0
}

// maxEscape is the length of the longest escape that is read: a number may have some zeros before it.
const maxEscape = 32

// unescape writes src without one layer of escapes to dst, as much as fits, and returns how much it wrote and took. Where src is not the last of the text, an
// escape that it may end with is left.
func unescape(dst, src []byte, last bool) (wrote, took int) {
	for took < len(src) && wrote+utf8.UTFMax <= len(dst) {
		c := src[took]
		if c != '\\' && c != '%' && c != '&' {
			dst[wrote] = c
			wrote++
			took++
			continue
		}
		if !last && len(src)-took < maxEscape {
			break
		}
		r, single, n := escape(src[took:min(len(src), took+maxEscape)])
		switch {
		case n == 0:
			dst[wrote] = c
			wrote++
			took++
		case single:
			dst[wrote] = byte(r)
			wrote++
			took += n
		default:
			wrote += utf8.EncodeRune(dst[wrote:], r)
			took += n
		}
	}
	return wrote, took
}

// escape reads the escape that b begins with: what it stands for, whether that is a byte and not a character, and its length, 0 where it is none.
func escape(b []byte) (r rune, single bool, n int) {
	if len(b) < 2 {
		return 0, false, 0
	}
	switch b[0] {
	case '\\':
		switch b[1] {
		case 'u':
			return unicodeEscape(b)
		case 'x':
			if r, n = number(b[2:], 16, 2); n == 2 {
				return r, true, 4
			}
		case 'n', 'r', 't', 'b', 'f', 'v':
			return ' ', true, 2
		case '"', '\'', '\\', '/':
			return rune(b[1]), true, 2
		}
	case '%':
		if b[1] == 'u' || b[1] == 'U' {
			if r, n = number(b[2:], 16, 4); n == 4 {
				return r, false, 6
			}
		}
		if r, n = number(b[1:], 16, 2); n == 2 {
			return r, true, 3
		}
	case '&':
		return entity(b)
	}
	return 0, false, 0
}

func unicodeEscape(b []byte) (r rune, single bool, n int) {
	if len(b) > 2 && b[2] == '{' {
		if r, n = number(b[3:], 16, 6); n > 0 && 3+n < len(b) && b[3+n] == '}' {
			return r, false, 4 + n
		}
		return 0, false, 0
	}
	r, n = number(b[2:], 16, 4)
	if n != 4 {
		return 0, false, 0
	}
	if r >= 0xd800 && r < 0xdc00 && len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		if low, n := number(b[8:], 16, 4); n == 4 && low >= 0xdc00 && low < 0xe000 {
			return 0x10000 + (r-0xd800)<<10 + low - 0xdc00, false, 12
		}
	}
	return r, false, 6
}

// number reads at most so many digits.
func number(b []byte, base rune, most int) (r rune, n int) {
	for n < len(b) && n < most {
		d, ok := digit(b[n])
		if !ok || d >= base {
			break
		}
		r = r*base + d
		n++
	}
	return r, n
}

// entity reads an HTML entity by number, with or without its semicolon, or by a name that stands for a character of ASCII or one that does not show.
func entity(b []byte) (r rune, single bool, n int) {
	if b[1] == '#' {
		from, base := 2, rune(10)
		if len(b) > 2 && b[2]|0x20 == 'x' {
			from, base = 3, 16
		}
		for from+1 < len(b) && b[from] == '0' && b[from+1] != ';' {
			from++
		}
		if r, n = number(b[from:], base, 7); n == 0 {
			return 0, false, 0
		}
		n += from
		if n < len(b) {
			switch b[n] {
			case ';':
				n++
			case '%', '\\': // the number goes on in another coding
				return 0, false, 0
			}
		}
		return r, false, n
	}
	for i := 2; i < len(b); i++ {
		if b[i] == ';' {
			if r, ok := entities[string(b[1:i])]; ok {
				return r, false, i + 1
			}
			return 0, false, 0
		}
	}
	return 0, false, 0
}

var entities = map[string]rune{
	"amp": '&', "AMP": '&', "lt": '<', "LT": '<', "gt": '>', "GT": '>', "quot": '"', "QUOT": '"', "apos": '\'', "nbsp": ' ', "shy": 0xad, "zwj": 0x200d, "zwnj": 0x200c,
	"Tab": '\t', "NewLine": '\n', "excl": '!', "num": '#', "dollar": '$', "percnt": '%', "lpar": '(', "rpar": ')', "ast": '*', "midast": '*', "plus": '+', "comma": ',',
	"period": '.', "sol": '/', "colon": ':', "semi": ';', "equals": '=', "quest": '?', "commat": '@', "lsqb": '[', "lbrack": '[', "bsol": '\\', "rsqb": ']',
	"rbrack": ']', "Hat": '^', "lowbar": '_', "UnderBar": '_', "grave": '`', "DiacriticalGrave": '`', "lcub": '{', "lbrace": '{', "verbar": '|', "vert": '|', "VerticalLine": '|',
	"rcub": '}', "rbrace": '}', "hyphen": '-', "dash": '-', "tilde": '~', "ZeroWidthSpace": 0x200b, "NoBreak": 0x2060,
}
