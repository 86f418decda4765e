package google

import (
	"iter"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// names are the members of an object in the order in which they were given, in both spellings.
type names struct {
	camel []string
	all   []string
	index []int // of each of all in camel
}

func known(camel ...string) names {
	n := names{camel: camel}
	for i, name := range camel {
		n.all, n.index = append(n.all, name), append(n.index, i)
		if s := snake(name); s != name {
			n.all, n.index = append(n.all, s), append(n.index, i)
		}
	}
	return n
}

// snake returns the name that a field has in its protocol buffer: for "generationConfig", "generation_config".
func snake(camel string) string {
	var b strings.Builder
	for _, c := range []byte(camel) {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// appendCamel appends the name that a field has in JSON: for "generation_config", "generationConfig".
func appendCamel(dst, snake []byte) []byte {
	upper := false
	for _, c := range snake {
		switch {
		case c == '_':
			upper = true
			continue
		case upper && c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		upper = false
		dst = append(dst, c)
	}
	return dst
}

// The types that members can have. null is as good as absent, a list of one can go without brackets, and a number can be a string.
var (
	object  = wire.Field{Kinds: wire.Object | wire.Null}
	list    = wire.Field{Kinds: wire.Array | wire.Object | wire.Null}
	text    = wire.Field{Kinds: wire.String | wire.Null}
	boolean = wire.Field{Kinds: wire.Bool | wire.String | wire.Null}
	number  = wire.Field{Kinds: wire.Number | wire.String | wire.Null}
)

// both returns fields with both spellings of their names.
func both(fields wire.Fields) wire.Fields {
	out := wire.Fields{}
	for name, f := range fields {
		out[name], out[snake(name)] = f, f
	}
	return out
}

// member returns which of the known members a name is, or -1.
func (d decoder) member(name strictjson.Value, n names) int {
	if i := d.Member(name, n.all); i >= 0 {
		return n.index[i]
	}
	return -1
}

// name returns which of the known members a name is, as it is spelled in JSON, or "".
func (d decoder) name(name strictjson.Value, n names) string {
	if i := d.member(name, n); i >= 0 {
		return n.camel[i]
	}
	return ""
}

// get returns a member of an object by its name, in either spelling.
func get(v strictjson.Value, camel string) strictjson.Value {
	if m := v.Get(camel); m.Kind() != strictjson.Absent {
		return m
	}
	return v.Get(snake(camel))
}

// each goes over a list, which may be one element without brackets.
func each(v strictjson.Value) iter.Seq[strictjson.Value] {
	switch v.Kind() {
	case strictjson.Array:
		return v.Elements()
	case strictjson.Absent, strictjson.Null:
		return func(func(strictjson.Value) bool) {}
	}
	return func(yield func(strictjson.Value) bool) { yield(v) }
}

// opaque are the members whose objects have names of the caller's choosing, where two that differ in spelling are two.
var opaque = map[string]bool{
	"additionalProperties": true, "args": true, "customMetadata": true, "default": true, "enum": true, "example": true, "headers": true, "labels": true, "metadata": true,
	"parametersJsonSchema": true, "partMetadata": true, "response": true, "responseJsonSchema": true, "ResponseJsonSchema": true,
}

// maps are the members whose objects have names of the caller's choosing, and values that are messages.
var maps = map[string]bool{"properties": true, "$defs": true, "defs": true}

// fewMembers is the number of members up to which comparing each name with each other is quicker than a map.
const fewMembers = 32

// spellings finds members that are there in both of their spellings, in a message and in those within it.
func (d decoder) spellings(v strictjson.Value) {
	switch v.Kind() {
	case strictjson.Array:
		for e := range v.Elements() {
			if k := e.Kind(); k == strictjson.Object || k == strictjson.Array {
				d.spellings(e)
			}
		}
	case strictjson.Object:
		d.twice(v)
		var buf [64]byte
		for k, m := range v.Members() {
			if kind := m.Kind(); kind != strictjson.Object && kind != strictjson.Array {
				continue
			}
			switch name := appendCamel(buf[:0], k.Text()); {
			case opaque[string(name)]:
			case maps[string(name)]:
				for _, schema := range m.Members() {
					d.spellings(schema)
				}
			default:
				d.spellings(m)
			}
		}
	}
}

// twice finds members of one object that are there in both of their spellings.
func (d decoder) twice(v strictjson.Value) {
	var all map[string]bool
	if v.Len() > fewMembers {
		all = make(map[string]bool, v.Len())
		for k := range v.Members() {
			all[string(k.Text())] = true
		}
	}
	var buf [64]byte
	for k := range v.Members() {
		name := k.Text()
		if strings.IndexByte(string(name), '_') < 0 {
			continue
		}
		camel := appendCamel(buf[:0], name)
		found := all[string(camel)] && string(camel) != string(name)
		if all == nil {
			for other := range v.Members() {
				if other.Is(string(camel)) && string(camel) != string(name) {
					found = true
				}
			}
		}
		if found {
			d.Find(llm.FindingDuplicateKey, k, "a member is there in both of its spellings")
		}
	}
}

// integer returns an integer, which may be a string or have an exponent; nil when there is none.
func (d decoder) integer(v strictjson.Value) *int64 {
	if !d.Want(v, wire.Number|wire.String|wire.Null) || v.Kind() == strictjson.Null {
		return nil
	}
	s := string(v.Raw())
	if v.Kind() == strictjson.String {
		s = string(v.Text())
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return &n
	}
	const exact = 1 << 53
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= -exact && f <= exact && f == float64(int64(f)) {
		n = int64(f)
		return &n
	}
	d.Find(llm.FindingNumberRange, v, "the number is no integer of 64 bits")
	return nil
}

// float returns a number, which may be a string; nil when there is none.
func (d decoder) float(v strictjson.Value) *float64 {
	if v.Kind() != strictjson.String {
		return d.Float(v)
	}
	f, err := strconv.ParseFloat(string(v.Text()), 64)
	if err != nil || f != f {
		d.Find(llm.FindingNumberRange, v, "the string is no number")
		return nil
	}
	return &f
}
