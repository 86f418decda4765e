package wire

import (
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
)

const (
	maxParameters = 64      // parameters of a query that are read
	maxQuery      = 8 << 10 // bytes of a query that is read
)

// Query reads a request's query, of which known are the parameters that the surface has, and returns their values. An unknown one is among
// the call's unknown fields with a "?" before its name. One that is there twice, unless its name ends in "[]", and whatever two readers could
// take apart in two ways is FindingQuery.
func Query(call *llm.Call, r *llm.Request, known []string) map[string]string {
	if r.Query == "" {
		return nil
	}
	lim := llm.DefaultLimits()
	bad := func(detail string) { find(call, lim, llm.Finding{Code: llm.FindingQuery, Detail: detail}) }
	if len(r.Query) > maxQuery {
		bad("the query is longer than is read")
		return nil
	}
	if strings.ContainsAny(r.Query, ";#") {
		bad("the query has a semicolon or a number sign, at which some readers end a parameter")
	}
	values := map[string]string{}
	seen := map[string]string{}
	count := 0
	for piece := range strings.SplitSeq(r.Query, "&") {
		if count++; count > maxParameters {
			bad("the query has more parameters than are read")
			break
		}
		rawName, rawValue, hasValue := strings.Cut(piece, "=")
		if !hasValue || rawName == "" {
			bad("a parameter of the query lacks its name or its value")
		}
		name, nameOK := unescape(rawName, true)
		value, valueOK := unescape(rawValue, false)
		if !nameOK || !valueOK {
			bad("a parameter of the query is escaped in a way that not all readers understand alike")
		}
		if name == "" {
			continue
		}
		if first, twice := seen[strings.ToLower(name)]; twice && (first != name || !strings.HasSuffix(name, "[]")) {
			bad("a parameter of the query is there twice, or twice but for case")
		}
		seen[strings.ToLower(name)] = name
		if slices.Contains(known, name) {
			if _, ok := values[name]; !ok {
				values[name] = value
			}
			continue
		}
		for _, k := range known {
			if strings.EqualFold(k, name) {
				bad("the name of a parameter of the query is written in other case")
			}
		}
		Unknown(call, "?"+name)
	}
	sortUnknown(call)
	return values
}

// Unknown adds a name to the call's unknown fields, of which a bounded number is kept.
func Unknown(call *llm.Call, name string) {
	if len(call.UnknownFields) >= maxUnknownFields {
		tooMany(call)
		return
	}
	call.UnknownFields = append(call.UnknownFields, short([]byte(name)))
}

// unescape takes percent-encoding off a name or a value. It is not ok when there is something that readers treat differently: an
// escape that is none, bytes that must be escaped, bytes that are no text, and in a name a plus or an escape of what needs none.
func unescape(s string, name bool) (string, bool) {
	ok := true
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) || unhex(s[i+1]) > 15 || unhex(s[i+2]) > 15 {
				ok = false
				break
			}
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
			if c < 0x20 || c == 0x7F || name && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
				ok = false
			}
		case c == '+':
			c = ' '
			ok = ok && !name
		case c <= 0x20 || c >= 0x7F || strings.IndexByte(`"<>\^`+"`{|}", c) >= 0:
			ok = false
		}
		b.WriteByte(c)
	}
	out := b.String()
	clean := strings.ToValidUTF8(out, "\uFFFD")
	return clean, ok && clean == out
}

// unhex returns the value of a hexadecimal digit, more than 15 for what is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
