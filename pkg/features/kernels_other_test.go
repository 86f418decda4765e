//go:build !amd64 || purego

package features

// eachPath runs f in the one way that there is.
func eachPath(f func()) { f() }
