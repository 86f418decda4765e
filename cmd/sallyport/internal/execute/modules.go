package execute

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"

	library "sallyport.dev/sallyport/deploy/policy"
)

// modules are the policy's Rego modules by file name: the baseline, those below a directory, or those of a bundle as the controller serves it. A
// bundle's signature is not checked: who can write the file can write the command line.
func (o *options) modules() (map[string]string, error) {
	if o.policy == "" {
		return library.Baseline(), nil
	}
	info, err := os.Stat(o.policy)
	if err != nil {
		return nil, fmt.Errorf("--policy: %w", err)
	}
	var modules map[string]string
	if info.IsDir() {
		modules, err = ofDirectory(os.DirFS(o.policy))
	} else {
		modules, err = ofBundle(o.policy)
	}
	if err == nil && len(modules) == 0 {
		err = errors.New("no module in it; accepted are .rego files in packages sallyport.bundle.<name>")
	}
	if err != nil {
		return nil, fmt.Errorf("--policy %s: %w", o.policy, err)
	}
	return modules, nil
}

func ofDirectory(dir fs.FS) (map[string]string, error) {
	modules := map[string]string{}
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".rego" {
			return err
		}
		b, err := fs.ReadFile(dir, path)
		modules[path] = string(b)
		return err
	})
	return modules, err
}

// systemPackage is the package of the modules that Sallyport adds to a bundle itself, and has here as well.
const systemPackage = "data.sallyport"

func ofBundle(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := bundle.NewReader(f).WithSkipBundleVerification(true).Read()
	if err != nil {
		return nil, fmt.Errorf("read a bundle: %w", err)
	}
	modules := map[string]string{}
	for _, m := range b.Modules {
		if m.Parsed != nil && m.Parsed.Package.Path.String() == systemPackage {
			continue
		}
		modules[strings.TrimPrefix(m.Path, "/")] = string(m.Raw)
	}
	return modules, nil
}
