//go:build !purego

package features

import "golang.org/x/sys/cpu"

// The functions that take most of the time are written twice: in Go, for every machine, and in assembly, in kernels_amd64.s, for those that have AVX2, as nearly all of that
// kind have. Tests and a fuzz test run every text through both; the build tag purego leaves the assembly out. What the processor is asked for more of than a compiler would: 32 bytes
// or four words at once, counting and looking up without a branch that it would have to guess, and bits shifted in by the carry.

// kernels says that the processor can run what kernels_amd64.s has. Tests switch it off.
var kernels = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT

// setsKernel is chunk.sort for that many blocks of text, one or more.
//
//go:noescape
func setsKernel(sets *chunk, block int, text *byte, blocks int, counts *quads)

// wordsKernel is wordBits for each of that many blocks of text, one or more.
//
//go:noescape
func wordsKernel(words *uint64, text *byte, blocks int)

// placesKernel is placesOf for one block or more; of is bitsOf. It writes eight places beyond the last, at most.
//
//go:noescape
func placesKernel(places *uint32, turns *uint64, blocks int, at uint32, of *[256]uint64) (n int)

// spellKernel makes hashes and classes of that many fours of words, one or more, and returns how many words are all capitals. It knows words of sixteen bytes at most: what it
// makes of longer ones is nothing, and long and longs say in which fours there are some. It reads sixteen bytes from the beginning of each word, and writes in long one place more than it says.
// Without ids, nil, it makes hashes only.
//
//go:noescape
func spellKernel(text *byte, bounds *uint32, hashes *uint64, ids *uint16, fours int, salt uint64, long *uint16) (longs, capitals int)

// siftKernel is table.sift for one word or more, with the bits of fewer than 64 words at the upper end.
//
//go:noescape
func siftKernel(t *table, hashes *uint64, n int) (functions, tell uint64)

// lookUpKernel is sketch.lookUp for one class or more.
//
//go:noescape
func lookUpKernel(s *sketch, last uint16, ids *uint16, n int, name uint16) (results, said, own uint64)
