package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// Bounds on a source.
const (
	maxSourceBytes = 2 << 20
	testTimeout    = 5 * time.Second  // of one test
	checkTimeout   = 30 * time.Second // of all
)

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	fileName = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,252}\.rego$`)
)

// Check says whether a source may be served. It parses and compiles the modules together with the system module, strictly, with the
// Capabilities and against the schema of the input; holds them to their package; and runs their tests. The error
// names the file and line of each objection.
func Check(src Source) error {
	parsed, err := confine(src)
	if err != nil {
		return err
	}
	modules := served(src.Modules)
	if len(modules) == 0 {
		return fmt.Errorf("source %s has no module but tests", src.Name)
	}
	modules[systemFile] = systemModule
	if err := compileCheck(modules); err != nil {
		return err
	}
	return runTests(parsed)
}

// confine parses a source and holds its modules to their packages.
func confine(src Source) (map[string]*ast.Module, error) {
	if err := checkName(src); err != nil {
		return nil, err
	}
	parsed, err := parse(src.Modules)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(parsed)) {
		if err := checkModule(src.Name, file, parsed[file]); err != nil {
			errs = append(errs, err)
		}
	}
	return parsed, errors.Join(errs...)
}

func checkName(src Source) error {
	if !dnsLabel.MatchString(src.Name) {
		return fmt.Errorf("source %q: the name is no DNS label", src.Name)
	}
	size := 0
	for file, text := range src.Modules {
		if !fileName.MatchString(file) {
			return fmt.Errorf("source %s: %q is no name of a Rego file", src.Name, file)
		}
		size += len(text)
	}
	if size > maxSourceBytes {
		return fmt.Errorf("source %s: %d bytes of modules, more than %d", src.Name, size, maxSourceBytes)
	}
	return nil
}

// checkModule holds a module to its package. A test has a package of its own, so that none of its rules can be mistaken for one that is
// served.
func checkModule(source, file string, m *ast.Module) error {
	name, below := bundleOf(m)
	want := segment(source)
	if isTest(file) {
		if name != want+"_test" {
			return fmt.Errorf("%s: a test's package must be %s.%s_test, not %s", m.Package.Location, bundlePackage, want, m.Package.Path)
		}
		return nil
	}
	if name != want {
		return fmt.Errorf("%s: package must be %s.%s or below it, not %s", m.Package.Location, bundlePackage, want, m.Package.Path)
	}
	return errors.Join(checkReferences(m, want), checkRules(m, below))
}

// checkReferences holds a module to data of its own package, so that bundles can be read, tested and replaced one by one.
func checkReferences(m *ast.Module, segment string) error {
	own := ast.MustParseRef(fmt.Sprintf("data.%s[%q]", bundlePackage, segment))
	var errs []error
	check := func(r ast.Ref, at *ast.Location) {
		if r[0].Equal(ast.DefaultRootDocument) && !r.HasPrefix(own) {
			errs = append(errs, fmt.Errorf("%s: %s: a bundle may refer to its own package only", at, r))
		}
	}
	for _, imp := range m.Imports {
		if r, ok := imp.Path.Value.(ast.Ref); ok {
			check(r, imp.Location)
		}
	}
	for _, rule := range m.Rules {
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			if r, ok := t.Value.(ast.Ref); ok {
				check(r, t.Location)
			}
			return false
		})
	}
	return errors.Join(errs...)
}

// compileCheck compiles modules by path with the system module among them, against the schema of the input.
func compileCheck(modules map[string]string) error {
	parsed, err := parse(modules)
	if err != nil {
		return err
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, InputSchema())
	c := newCompiler().WithSchemas(schemas)
	if c.Compile(parsed); c.Failed() {
		return fmt.Errorf("compile policy: %w", c.Errors)
	}
	return nil
}

// runTests runs the tests among the modules.
func runTests(parsed map[string]*ast.Module) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	modules := make(map[string]*ast.Module, len(parsed)+1)
	maps.Copy(modules, parsed)
	modules[systemFile] = ast.MustParseModuleWithOpts(systemModule, parserOptions())

	store := inmem.New()
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return fmt.Errorf("run tests: %w", err)
	}
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().
		SetCompiler(newCompiler()).SetStore(store).SetModules(modules).
		RaiseBuiltinErrors(true).SetTimeout(testTimeout).SetParallel(1).
		RunTests(ctx, txn)
	if err != nil {
		return fmt.Errorf("compile tests: %w", err)
	}
	var errs []error
	for r := range results {
		switch {
		case r.Error != nil:
			errs = append(errs, fmt.Errorf("%s: test %s: %w", r.Location, r.Name, r.Error))
		case r.Fail:
			errs = append(errs, fmt.Errorf("%s: test %s fails%s", r.Location, r.Name, failedCases(r)))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if ctx.Err() != nil {
		errs = append(errs, fmt.Errorf("run tests: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// failedCases names the cases of a test that failed, where it has cases.
func failedCases(r *tester.Result) string {
	var names []string
	for path, sub := range r.SubResults.Iter {
		if sub.Fail {
			names = append(names, strings.Join(path, "/"))
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ")
}
