//go:build !amd64 || purego

package features

// kernels says that there is something faster than Go for the machine, which there is not.
const kernels = false

func setsAVX2(*chunk, int, *byte, int, *quads) {}

func placesAVX2(*uint32, *uint64, int, uint32, *[256]uint64) int { return 0 }

func spellAVX2(*byte, *uint32, *uint64, *uint16, int, uint64, *uint16) (longs, capitals int) {
	return 0, 0
}

func siftASM(*table, *uint64, int) (functions, tell uint64) { return 0, 0 }

func lookUpASM(*sketch, uint16, *uint16, int, uint16) (results, said, own uint64) { return 0, 0, 0 }
