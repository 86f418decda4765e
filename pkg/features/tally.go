package features

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// tally counts things by a number that is not 0, up to a limit of different ones: those that come when it is full are not counted. It is an open-addressed table, so that
// one that is no longer added to may be read from anywhere.
type tally struct {
	slots []tallied // a power of two, at most two thirds of them used; nil while empty
	used  int
	limit int
}

type tallied struct{ key, n uint32 }

func (t *tally) place(key uint32) *tallied {
	mask := uint32(len(t.slots) - 1)
	for i := uint32(scramble(uint64(key))) & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.key == key || s.key == 0 {
			return s
		}
	}
}

// get is how often key was added.
func (t *tally) get(key uint32) uint32 {
	if len(t.slots) == 0 || key == 0 {
		return 0
	}
	return t.place(key).n
}

// full says that what is not known may have been left out.
func (t *tally) full() bool { return t.used >= t.limit }

// add counts key n times more.
func (t *tally) add(key, n uint32) {
	if key == 0 || n == 0 {
		return
	}
	if 3*(t.used+1) > 2*len(t.slots) {
		if t.get(key) == 0 && t.full() {
			return
		}
		old := t.slots
		t.slots = make([]tallied, max(16, 2*len(old)))
		for _, s := range old {
			if s.key != 0 {
				*t.place(s.key) = s
			}
		}
	}
	s := t.place(key)
	if s.key == 0 {
		if t.full() {
			return
		}
		s.key = key
		t.used++
	}
	s.n += min(n, ^s.n) // never past the largest number
}

// append appends how many keys there are and each with its count, in the order of keys.
func (t *tally) append(b []byte) []byte {
	held := make([]tallied, 0, t.used)
	for _, s := range t.slots {
		if s.key != 0 {
			held = append(held, s)
		}
	}
	slices.SortFunc(held, func(a, b tallied) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	b = binary.AppendUvarint(b, uint64(len(held)))
	last := uint32(0)
	for _, s := range held {
		b = binary.AppendUvarint(b, uint64(s.key-last))
		b = binary.AppendUvarint(b, uint64(s.n))
		last = s.key
	}
	return b
}

// decode reads what append wrote, for a tally of the same limit, and returns what follows it.
func (t *tally) decode(b []byte) ([]byte, error) {
	t.slots, t.used = nil, 0
	n, b, err := uvarint(b, uint64(t.limit))
	if err != nil {
		return nil, err
	}
	key := uint64(0)
	for range n {
		var step, times uint64
		if step, b, err = uvarint(b, 1<<32-1); err != nil {
			return nil, err
		}
		if times, b, err = uvarint(b, 1<<32-1); err != nil {
			return nil, err
		}
		if key += step; step == 0 || times == 0 || key >= 1<<32 {
			return nil, fmt.Errorf("%w: keys out of order", errBaseline)
		}
		t.add(uint32(key), uint32(times))
	}
	return b, nil
}

// uvarint reads a number that is at most limit and returns what follows it.
func uvarint(b []byte, limit uint64) (uint64, []byte, error) {
	x, n := binary.Uvarint(b)
	if n <= 0 || x > limit || n > 1 && b[n-1] == 0 {
		return 0, nil, fmt.Errorf("%w: no number of at most %d", errBaseline, limit)
	}
	return x, b[n:], nil
}
