//go:build !amd64 || purego

package features

// kernels says that there is something faster than Go for the machine, which there is not: what follows is never called.
const kernels = false

func setsKernel(*chunk, int, *byte, int, *quads) {}

func wordsKernel(*uint64, *byte, int) {}

func placesKernel(*uint32, *uint64, int, uint32, *[256]uint64) int { return 0 }

func spellKernel(*byte, *uint32, *uint64, *uint16, int, uint64, *uint16) (longs, capitals int) {
	return 0, 0
}

func siftKernel(*table, *uint64, int) (functions, tell uint64) { return 0, 0 }

func lookUpKernel(*sketch, uint16, *uint16, int, uint16) (results, said, own uint64) { return 0, 0, 0 }
