//go:build !purego

package features

// eachPath runs f as the processor can, and in plain Go.
func eachPath(f func()) {
	f()
	if kernels {
		kernels = false
		defer func() { kernels = true }()
		f()
	}
}
