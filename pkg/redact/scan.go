package redact

import "bytes"

// Classes of bytes.
const (
	digit = 1 << iota
	upper
	lower
	under // _ and -
	local // what the part of an address before the @ may have besides
)

var class = func() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = digit
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c], t[c+'a'-'A'] = upper, lower
	}
	t['_'], t['-'] = under|local, under|local
	for _, c := range ".%+" {
		t[c] = local
	}
	return t
}()

func is(c byte, classes byte) bool { return class[c]&classes != 0 }

const (
	alnum = digit | upper | lower
	token = alnum | under
)

// scan finds sensitive text of every kind. What is emitted of one kind does not overlap. No byte is looked at more than a bounded number of
// times.
func scan(text []byte, emit func(kind Kind, start, end int)) {
	var past [5]int // where the last piece of each kind ended
	var r run
	const credential, card, email, iban, phone = 0, 1, 2, 3, 4
	found := func(i int, k Kind, start, end int) {
		if end > start && start >= past[i] {
			past[i] = end
			emit(k, start, end)
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		first := i == 0 || !is(text[i-1], alnum)
		switch {
		case c == '@':
			start, end := emailAt(text, i, past[email])
			found(email, Email, start, end)
		case c == '+':
			if first {
				found(phone, Phone, i, phoneAt(text, i))
			}
		case c == '-':
			if i >= past[credential] && bytes.HasPrefix(text[i:], pemBegin) {
				found(credential, Credential, i, privateKeyAt(text, i))
			}
		case !first:
		case is(c, digit):
			if i >= past[card] && !isFraction(text, i) {
				found(card, CreditCard, i, cardAt(text, i))
			}
		case is(c, upper|lower):
			if i >= past[credential] {
				found(credential, Credential, i, tokenAt(text, i, &r))
			}
			if is(c, upper) && i >= past[iban] {
				found(iban, IBAN, i, ibanAt(text, i))
			}
		}
	}
}

var (
	pemBegin = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
	pemKey   = []byte("PRIVATE KEY-----")
)

// maxPEMLabel is the length of what may stand between BEGIN and PRIVATE KEY.
const maxPEMLabel = 32

// privateKeyAt returns the end of a private key in PEM, the whole rest where its end is not there.
func privateKeyAt(text []byte, i int) int {
	head := text[i+len(pemBegin):]
	at := bytes.Index(head[:min(len(head), maxPEMLabel+len(pemKey))], pemKey)
	if at < 0 {
		return i
	}
	body := i + len(pemBegin) + at + len(pemKey)
	end := bytes.Index(text[body:], pemEnd)
	if end < 0 {
		return len(text)
	}
	tail := text[body+end:]
	if at := bytes.Index(tail[:min(len(tail), len(pemEnd)+maxPEMLabel+len(pemKey))], pemKey); at >= 0 {
		return body + end + at + len(pemKey)
	}
	return len(text)
}

// issued are prefixes of credentials, and how many characters of which classes follow at least, at most where that is not 0. Prefixes that
// words have, too, want a digit among those.
var issued = []struct {
	prefix      string
	least, most int
	of          byte
	withDigit   bool
}{
	{prefix: "sk-", least: 17, of: token, withDigit: true},   // OpenAI, Anthropic, DeepSeek, OpenRouter
	{prefix: "pk-", least: 17, of: token, withDigit: true},   // Langfuse
	{prefix: "sk_", least: 20, of: token, withDigit: true},   // Stripe, ElevenLabs
	{prefix: "rk_", least: 20, of: token, withDigit: true},   // Stripe
	{prefix: "AKIA", least: 16, most: 16, of: upper | digit}, // AWS
	{prefix: "ASIA", least: 16, most: 16, of: upper | digit},
	{prefix: "AIza", least: 35, most: 35, of: token}, // Google
	{prefix: "ya29.", least: 20, of: token},          // Google OAuth
	{prefix: "ghp_", least: 36, of: alnum},           // GitHub
	{prefix: "gho_", least: 36, of: alnum},
	{prefix: "ghu_", least: 36, of: alnum},
	{prefix: "ghs_", least: 36, of: alnum},
	{prefix: "ghr_", least: 36, of: alnum},
	{prefix: "github_pat_", least: 22, of: token},
	{prefix: "glpat-", least: 20, of: token},                 // GitLab
	{prefix: "hf_", least: 30, of: alnum},                    // Hugging Face
	{prefix: "gsk_", least: 30, of: alnum},                   // Groq
	{prefix: "npm_", least: 36, of: alnum},                   // npm
	{prefix: "xai-", least: 30, of: alnum},                   // xAI
	{prefix: "xoxa-", least: 10, of: token, withDigit: true}, // Slack
	{prefix: "xoxb-", least: 10, of: token, withDigit: true},
	{prefix: "xoxe-", least: 10, of: token, withDigit: true},
	{prefix: "xoxo-", least: 10, of: token, withDigit: true},
	{prefix: "xoxp-", least: 10, of: token, withDigit: true},
	{prefix: "xoxr-", least: 10, of: token, withDigit: true},
	{prefix: "xoxs-", least: 10, of: token, withDigit: true},
}

// issuedBy are the indexes of issued by the first byte of their prefix.
var issuedBy = func() (t [256][]int) {
	for i := range issued {
		t[issued[i].prefix[0]] = append(t[issued[i].prefix[0]], i)
	}
	return t
}()

// run is a longest piece of text of token characters that was looked at: a piece is looked at once, however many prefixes are in it.
type run struct{ start, end, lastDigit int }

// from makes r the run that goes on at i.
func (r *run) from(text []byte, i int) {
	if i >= r.start && i < r.end {
		return
	}
	*r = run{start: i, end: i, lastDigit: -1}
	for ; r.end < len(text) && is(text[r.end], token); r.end++ {
		if is(text[r.end], digit) {
			r.lastDigit = r.end
		}
	}
}

// tokenAt returns the end of a credential that begins at i, i where none does.
func tokenAt(text []byte, i int, r *run) int {
	if text[i] == 'e' && (i == 0 || !is(text[i-1], token)) {
		if end := jwtAt(text, i); end > i {
			return end
		}
	}
	for _, n := range issuedBy[text[i]] {
		p := &issued[n]
		if len(text)-i < len(p.prefix)+p.least || string(text[i:i+len(p.prefix)]) != p.prefix {
			continue
		}
		start := i + len(p.prefix)
		end := start
		if p.of == token && p.most == 0 {
			if r.from(text, start); !is(text[start], token) || p.withDigit && r.lastDigit < start {
				return i
			}
			end = r.end
		} else {
			for end < len(text) && is(text[end], p.of) && (p.most == 0 || end-start < p.most) {
				end++
			}
		}
		if end-start < p.least || p.most > 0 && end < len(text) && is(text[end], alnum) {
			return i
		}
		return end
	}
	return i
}

// jwtAt returns the end of a JSON Web Token: two parts that begin as the base64 of {" does, and a signature.
func jwtAt(text []byte, i int) int {
	const least = 10
	at := i
	for part := range 3 {
		from := at
		for at < len(text) && is(text[at], token) {
			at++
		}
		switch {
		case at-from < least:
			return i
		case part < 2:
			if string(text[from:from+3]) != "eyJ" || at == len(text) || text[at] != '.' {
				return i
			}
			at++
		}
	}
	return at
}

// Bounds of an address: RFC 5321, 4.5.3.1.
const (
	maxLocal  = 64
	maxDomain = 253
)

// emailAt returns the address around the @ at i. It does not begin before from.
func emailAt(text []byte, i, from int) (start, end int) {
	start = i
	for start > from && i-start < maxLocal && is(text[start-1], alnum|local) {
		start--
	}
	for start < i && text[start] == '.' {
		start++
	}
	if start == i || text[i-1] == '.' {
		return i, i
	}
	label := i + 1 // of the domain
	labels := 0
	for at := label; ; at++ {
		if at < len(text) && at-i <= maxDomain && (is(text[at], alnum) || text[at] == '-') {
			continue
		}
		if at == label || text[label] == '-' || text[at-1] == '-' {
			break
		}
		labels++
		if labels > 1 && isTopLevel(text[label:at]) {
			end = at
		}
		if at == len(text) || text[at] != '.' {
			break
		}
		label = at + 1
	}
	if end == 0 {
		return i, i
	}
	return start, end
}

func isTopLevel(label []byte) bool {
	if len(label) < 2 {
		return false
	}
	for _, c := range label {
		if !is(c, upper|lower) {
			return bytes.HasPrefix(label, []byte("xn--"))
		}
	}
	return true
}

// phoneAt returns the end of a number that begins with the plus at i: 8 to 15 digits, with single separators, parentheses around some.
func phoneAt(text []byte, i int) int {
	const least, most = 8, 15
	digits, end := 0, i
	for at := i + 1; at < len(text) && at-i < 2*most+4; at++ {
		switch c := text[at]; {
		case is(c, digit):
			if digits++; digits == 1 && c == '0' {
				return i
			}
			end = at + 1
		case (c == ' ' || c == '-' || c == '.' || c == '(' || c == ')') && digits > 0 && (at-end < 2):
		default:
			at = len(text)
		}
	}
	if digits < least || digits > most || end < len(text) && is(text[end], alnum) {
		return i
	}
	return end
}

// cardAt returns the end of a card number that begins at i: in one piece, or in groups of three to six digits with single spaces or hyphens
// between them.
func cardAt(text []byte, i int) int {
	const least, most = 13, 19
	if text[i] < '2' || text[i] > '6' {
		return i
	}
	var digits [most]byte
	n, group, end := 0, 0, i
	groups := 1
	for at := i; ; at++ {
		if at < len(text) && is(text[at], digit) {
			if n == most {
				return end
			}
			digits[n] = text[at] - '0'
			n++
			group++
			continue
		}
		if groups > 1 && (group < 3 || group > 6) || at < len(text) && is(text[at], upper|lower) {
			return end
		}
		if n >= least && isCard(digits[:n]) {
			end = at
		}
		if at+1 >= len(text) || text[at] != ' ' && text[at] != '-' || !is(text[at+1], digit) || group < 3 || group > 6 {
			return end
		}
		groups, group = groups+1, 0
	}
}

// isFraction says whether the digit at i is the first behind a decimal point.
func isFraction(text []byte, i int) bool {
	return i > 1 && (text[i-1] == '.' || text[i-1] == ',') && is(text[i-2], digit)
}

// isCard checks the issuer's range and length, and the check digit (ISO/IEC 7812-1, Luhn).
func isCard(digits []byte) bool {
	n := len(digits)
	lead := int(digits[0])*1000 + int(digits[1])*100 + int(digits[2])*10 + int(digits[3])
	switch {
	case lead >= 4000 && lead < 5000: // Visa
		if n != 13 && n != 16 && n != 19 {
			return false
		}
	case lead >= 5100 && lead < 5600, lead >= 2221 && lead <= 2720: // Mastercard
		if n != 16 {
			return false
		}
	case lead/100 == 34, lead/100 == 37: // American Express
		if n != 15 {
			return false
		}
	case lead/100 == 36, lead/100 == 38, lead/100 == 39, lead >= 3000 && lead <= 3059: // Diners Club
		if n < 14 {
			return false
		}
	case lead/100 == 35, lead/100 == 62, lead == 6011, lead/100 == 65, lead >= 6440 && lead <= 6499: // JCB, UnionPay, Discover
		if n < 16 {
			return false
		}
	case lead >= 5000 && lead < 5100, lead >= 5600 && lead < 7000: // Maestro
	default:
		return false
	}
	sum := 0
	for i := range n {
		d := int(digits[n-1-i])
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// ibanLength is by country: the IBAN registry of SWIFT.
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28,
	"CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18,
	"GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32,
	"LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
	"PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25,
	"SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}

// ibanAt returns the end of an IBAN that begins at i, with single spaces in it or without.
func ibanAt(text []byte, i int) int {
	if i+4 > len(text) || !is(text[i+1], upper) || !is(text[i+2], digit) || !is(text[i+3], digit) {
		return i
	}
	length, ok := ibanLength[string(text[i:i+2])]
	if !ok {
		return i
	}
	var chars [34]byte
	n, at := 0, i
	for ; n < length; at++ {
		switch {
		case at < len(text) && is(text[at], upper|digit):
			chars[n] = text[at]
			n++
		case at < len(text) && text[at] == ' ' && text[at-1] != ' ':
		default:
			return i
		}
	}
	if at < len(text) && is(text[at], alnum) {
		return i
	}
	// ISO 7064, MOD 97-10, the first four characters at the end.
	sum := 0
	for k := range length {
		if c := chars[(k+4)%length]; is(c, digit) {
			sum = (sum*10 + int(c-'0')) % 97
		} else {
			sum = (sum*100 + int(c-'A') + 10) % 97
		}
	}
	if sum != 1 {
		return i
	}
	return at
}
