package policy

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// systemModule is package sallyport: the entry point and the rules that no bundle can lift.
//
//go:embed system.rego
var systemModule string

const (
	systemFile    = "sallyport/system.rego"
	bundlePackage = "sallyport.bundle"
	regoSuffix    = ".rego"
	testSuffix    = "_test.rego"
)

// SystemModule returns the Rego of package sallyport, which Assemble puts into every bundle.
func SystemModule() string { return systemModule }

// Source is the policy of one ClusterPolicyBundle.
type Source struct {
	// Name is the object's name: a DNS label. Its packages are sallyport.bundle.<name with - as _> and below.
	Name string
	// Modules are Rego by file name; files ending in _test.rego are tests, which Check runs and Assemble leaves out.
	Modules map[string]string
}

// SourceDigest is the SHA-256, in hexadecimal, of the modules that a source puts into a bundle: tests do not change it.
func SourceDigest(s Source) string { return digest(served(s.Modules)) }

// served leaves the tests out.
func served(modules map[string]string) map[string]string {
	out := maps.Clone(modules)
	maps.DeleteFunc(out, func(file, _ string) bool { return isTest(file) })
	return out
}

// digest is of names and contents, each preceded by its length, in the order of the names.
func digest(files map[string]string) string {
	h := sha256.New()
	write := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		write(name)
		write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func isTest(file string) bool { return strings.HasSuffix(file, testSuffix) }

// segment is a source's name as the last element of its package.
func segment(name string) string { return strings.ReplaceAll(name, "-", "_") }

// parse parses modules and collects the errors of all.
func parse(modules map[string]string) (map[string]*ast.Module, error) {
	parsed := make(map[string]*ast.Module, len(modules)+1)
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		m, err := ast.ParseModuleWithOpts(file, modules[file], parserOptions())
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("parse %s: %w", file, err))
		case m == nil:
			errs = append(errs, fmt.Errorf("%s: empty module", file))
		default:
			parsed[file] = m
		}
	}
	return parsed, errors.Join(errs...)
}

// bundleOf returns the name in package sallyport.bundle.<name>, "" for any other package, and whether the package is below that one.
func bundleOf(m *ast.Module) (name string, below bool) {
	path := make([]string, 0, len(m.Package.Path))
	for _, t := range m.Package.Path[1:] {
		s, ok := t.Value.(ast.String)
		if !ok {
			return "", false
		}
		path = append(path, string(s))
	}
	if len(path) < 3 || path[0] != "sallyport" || path[1] != "bundle" {
		return "", false
	}
	return path[2], len(path) > 3
}

// checkRules refuses an allow, deny or obligations that would not be asked, or not be understood, so that no author believes in a rule that never
// speaks.
func checkRules(m *ast.Module, below bool) error {
	var errs []error
	for _, r := range m.Rules {
		word, ok := r.Head.Ref()[0].Value.(ast.Var)
		if !ok || word != "allow" && word != "deny" && word != "obligations" {
			continue
		}
		switch {
		case below:
			errs = append(errs, fmt.Errorf("%s: %s in %s is never asked: only the package %s.<name> itself is", r.Location, word, m.Package, bundlePackage))
		case len(r.Head.Ref()) > 1 || len(r.Head.Args) > 0:
			errs = append(errs, fmt.Errorf("%s: %s takes neither arguments nor keys", r.Location, word))
		case word == "deny" && (r.Head.Key == nil || r.Head.Value != nil):
			errs = append(errs, fmt.Errorf("%s: deny must be a set of reasons: deny contains {\"rule\": id, \"message\": sentence} if { … }", r.Location))
		case word == "obligations" && (r.Head.Key == nil || r.Head.Value != nil):
			errs = append(errs, fmt.Errorf("%s: obligations must be a set: obligations contains {\"response\": mode} if { … }", r.Location))
		case word == "allow" && (r.Head.Key != nil || !isBoolean(r.Head.Value, !r.Default)):
			errs = append(errs, fmt.Errorf("%s: allow must be true or undefined, and its default false: allow if { … }", r.Location))
		}
	}
	return errors.Join(errs...)
}

func isBoolean(t *ast.Term, want bool) bool { return t != nil && t.Equal(ast.BooleanTerm(want)) }
