package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// NewStatic returns an Engine that decides by the given modules and the system rules alone: it loads nothing, verifies no
// signature and is ready at once. It is for tests, benchmarks and the command line. Every module must be in a
// package sallyport.bundle.<name>; tests among them are left out.
func NewStatic(modules map[string]string) (*Engine, error) {
	parsed, err := parse(modules)
	if err != nil {
		return nil, err
	}
	sources := map[string]any{}
	for file, m := range parsed {
		if isTest(file) {
			delete(parsed, file)
			continue
		}
		name, below := bundleOf(m)
		if name == "" {
			return nil, fmt.Errorf("%s: package must be %s.<name>", m.Package.Location, bundlePackage)
		}
		if err := checkRules(m, below); err != nil {
			return nil, err
		}
		sources[name] = "static"
	}
	parsed[systemFile] = ast.MustParseModuleWithOpts(systemModule, parserOptions())

	c := newCompiler()
	if c.Compile(parsed); c.Failed() {
		return nil, fmt.Errorf("compile policy: %w", c.Errors)
	}
	store := inmem.NewFromObjectWithOpts(map[string]any{"sallyport": map[string]any{"manifest": map[string]any{"sources": sources}}},
		inmem.OptReturnASTValuesOnRead(true))
	p, err := prepare(context.Background(), c, store, nil)
	if err != nil {
		return nil, err
	}
	p.revision = "static"
	p.digest = digest(modules)

	e := &Engine{timeout: DefaultTimeout, ready: make(chan struct{})}
	e.activate(p)
	return e, nil
}
