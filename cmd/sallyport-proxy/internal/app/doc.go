// Package app puts the sidecar together: options from flags and environment, the parts that run long, and the order in which they stop.
//
// Most readers come for Main, which is all of the program but its exit code.
package app
