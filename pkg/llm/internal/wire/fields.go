package wire

import (
	"bytes"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Fields are the members that an object of the wire format can have, with the types each can have.
type Fields map[string]Field

// Field is one member of Fields.
type Field struct {
	Kinds   Kinds
	Integer bool // a number must be an integer
}

// maxUnknownFields is how many unknown top-level members are kept. Each is compared with the known names and the
// other unknown ones, so the number is small.
const maxUnknownFields = 64

// TopLevel checks the members of the body against the known ones: names in other case, with escapes, unknown, or with values of
// another type.
func (r *Reader) TopLevel(root strictjson.Value, known Fields) {
	var unknown []strictjson.Value
	for k, v := range root.Members() {
		f, ok := known[string(k.Bare())]
		if !ok && k.Escaped() {
			f, ok = known[string(k.Text())]
			r.escaped(k)
		}
		if ok {
			if r.Want(v, f.Kinds) && f.Integer {
				r.Int(v)
			}
			continue
		}
		if len(unknown) == maxUnknownFields {
			r.tooMany()
			break
		}
		for name := range known {
			if k.FoldsTo(name) {
				r.Find(llm.FindingCaseFoldedKey, k, "a known member's name is written in other case")
			}
		}
		text := k.Text()
		for _, u := range unknown {
			if other := u.Text(); bytes.EqualFold(other, text) && !bytes.Equal(other, text) {
				r.Find(llm.FindingCaseFoldedKey, k, "two members' names differ only in case")
				break
			}
		}
		unknown = append(unknown, k)
		r.call.UnknownFields = append(r.call.UnknownFields, short(text))
	}
}

// escaped keeps a finding for the name of a member that the wire format defines, where no name needs an escape. Needless ones have been
// found by the strict reader, which finds them everywhere.
func (r *Reader) escaped(name strictjson.Value) {
	if !name.NeedlesslyEscaped() {
		r.Find(llm.FindingEscapedKey, name, "a member's name has an escape")
	}
}

// Member checks a member's name of an object within the body against the known ones, and returns which it is: the index in known,
// or -1. Names in other case and names with escapes are findings.
func (r *Reader) Member(name strictjson.Value, known []string) int {
	bare := name.Bare()
	for i, k := range known {
		if string(bare) == k {
			return i
		}
	}
	if name.Escaped() {
		r.escaped(name)
	}
	for i, k := range known {
		if name.Is(k) {
			return i
		}
		if name.FoldsTo(k) {
			r.Find(llm.FindingCaseFoldedKey, name, "a known member's name is written in other case")
		}
	}
	return -1
}

// Name is Member for those who go by the name: it returns the one of the known names that a member's name is, or "".
func (r *Reader) Name(name strictjson.Value, known []string) string {
	if i := r.Member(name, known); i >= 0 {
		return known[i]
	}
	return ""
}

// StrMember sets dst to the string that is the first of an object's known members, if it is there; of the others nothing is read.
func (r *Reader) StrMember(dst *string, object strictjson.Value, known []string) {
	for k, m := range object.Members() {
		if r.Member(k, known) == 0 {
			*dst = r.Str(m)
		}
	}
}
