// Package build makes the programs a cluster is run from, out of published Go
// modules, and keeps them in a cache outside the source tree.
//
// Every component is a small Go module of its own below components/, so that the
// requirements of one never decide the versions of another. A component is built
// again only when its module, the Go release or the build settings change; the cache
// key covers exactly those. Two builds at the same time wait for each other.
//
// It is not a general build tool: the list of components is fixed in this package.
//
// The call most readers came for:
//
//	b := build.Builder{Source: "components", Cache: dir, Log: os.Stdout}
//	set, err := b.Ensure(ctx)
//	set.Path("kubelet")
package build
