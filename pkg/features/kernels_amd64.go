//go:build !purego

package features

import "golang.org/x/sys/cpu"

// kernels says that the processor can run what kernels_amd64.s has. Tests switch it off.
var kernels = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT

// setsAVX2 is chunk.sort.
//
//go:noescape
func setsAVX2(sets *chunk, block int, text *byte, blocks int, counts *quads)

// placesAVX2 is placesOf. of has for each byte the places of its bits.
//
//go:noescape
func placesAVX2(places *uint32, turns *uint64, blocks int, at uint32, of *[256]uint64) (n int)

// spellAVX2 spells words by fours, as spellShort does each, and returns how many are capitals. Of fours that have a word of more than sixteen bytes, what it says of that word is
// nothing; long gets which they are, and longs how many. Sixteen bytes from the beginning of each word are read.
//
//go:noescape
func spellAVX2(text *byte, bounds *uint32, hashes *uint64, ids *uint16, fours int, salt uint64, long *uint16) (longs, capitals int)

// siftASM is table.sift for one word or more.
//
//go:noescape
func siftASM(t *table, hashes *uint64, n int) (functions, tell uint64)

// lookUpASM is sketch.lookUp for one word or more.
//
//go:noescape
func lookUpASM(s *sketch, last uint16, ids *uint16, n int, name uint16) (results, said, own uint64)
