// Package library is the policy library: bundles to begin with, which the overlays install as they are. It exists so that the command
// line can use them without a cluster.
package library

import (
	"embed"
	"io/fs"
	"path"
	"strings"
)

//go:embed baseline/*.rego
var files embed.FS

// Baseline returns the modules of the bundle that everything begins with, by file name, without its tests.
func Baseline() map[string]string {
	modules := map[string]string{}
	names, err := fs.Glob(files, "baseline/*.rego")
	if err != nil {
		panic(err) // the pattern is well-formed
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		b, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it was listed
		}
		modules[path.Base(name)] = string(b)
	}
	return modules
}
