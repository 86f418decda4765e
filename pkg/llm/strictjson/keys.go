package strictjson

import (
	"bytes"
	"hash/maphash"
)

// smallObject is the number of members up to which comparing each name with each other is quicker than hashing them.
const smallObject = 16

// findDuplicates reports the names that an object, whose last member has just been read, has more than once. Each name is
// reported as often as it is there too much.
func (d *Document) findDuplicates(object uint32) {
	end := uint32(len(d.nodes))
	if d.nodes[object].count > smallObject {
		d.keys.reset(int(d.nodes[object].count))
		for k := object + 1; k < end; k = d.nodes[k+1].next {
			if d.keys.has(d, k) {
				d.reportAt(DuplicateKey, k, "a name is there twice in one object")
			}
		}
		return
	}
	for k := object + 1; k < end; k = d.nodes[k+1].next {
		for j := object + 1; j < k; j = d.nodes[j+1].next {
			if d.sameName(j, k) {
				d.reportAt(DuplicateKey, k, "a name is there twice in one object")
				break
			}
		}
	}
}

// name returns what is between the quotes of a string's node.
func (d *Document) name(n uint32) []byte {
	return d.text[d.nodes[n].start+1 : d.nodes[n].end-1]
}

func (d *Document) sameName(j, k uint32) bool {
	if (d.nodes[j].flags|d.nodes[k].flags)&(flagEscaped|flagInvalid) == 0 {
		return bytes.Equal(d.name(j), d.name(k))
	}
	return bytes.Equal(d.appendText(nil, j), d.appendText(nil, k))
}

// keySet is a set of names, open-addressed, by a hash that a caller cannot foresee.
type keySet struct {
	seed    maphash.Seed
	slots   []uint32 // nodes; 0, which is never a name, for an empty slot
	scratch []byte
	seeded  bool
}

func (s *keySet) reset(members int) {
	if !s.seeded {
		s.seed, s.seeded = maphash.MakeSeed(), true
	}
	size := 2 * smallObject
	for size < 2*members {
		size *= 2
	}
	if cap(s.slots) < size {
		s.slots = make([]uint32, size)
		return
	}
	s.slots = s.slots[:size]
	clear(s.slots)
}

// has reports whether the name at node k is in the set, and adds it when not.
func (s *keySet) has(d *Document, k uint32) bool {
	name := d.name(k)
	if d.nodes[k].flags&(flagEscaped|flagInvalid) != 0 {
		s.scratch = d.appendText(s.scratch[:0], k)
		name = s.scratch
	}
	mask := uint64(len(s.slots) - 1)
	for at := maphash.Bytes(s.seed, name) & mask; ; at = (at + 1) & mask {
		j := s.slots[at]
		if j == 0 {
			s.slots[at] = k
			return false
		}
		if d.sameName(j, k) {
			return true
		}
	}
}
