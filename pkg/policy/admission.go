package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"sallyport.dev/sallyport/pkg/atomicfile"
)

// markFile holds the high-water mark in an engine's directory.
const markFile = "issued.json"

// ErrRollback is the refusal of a bundle that is not newer than the newest one accepted before, and has other content.
var ErrRollback = errors.New("the bundle is no newer than one that was accepted before")

// mark is the newest bundle accepted. It is kept across restarts, because a signature does not expire: without it, an old bundle
// could be served again after the one that mended it.
type mark struct {
	IssuedAt string `json:"issued_at"`
	Digest   string `json:"digest"`
}

// admission is what a bundle with a good signature must still pass. It is used under the bundle plugin's lock.
type admission struct {
	path    string
	highest mark // in memory, raised at each activation
	saved   mark // what the file says
	pending *program
	issued  mark // of pending
}

// newAdmission reads the high-water mark. A mark that cannot be read stops the engine: to go on without would open the way back.
func newAdmission(dir string) (*admission, error) {
	a := &admission{path: filepath.Join(dir, markFile)}
	raw, err := os.ReadFile(a.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, nil
	case err != nil:
		return nil, fmt.Errorf("read the newest bundle's time of issue: %w", err)
	}
	if err := json.Unmarshal(raw, &a.saved); err != nil {
		return nil, fmt.Errorf("read the newest bundle's time of issue from %s: %w", a.path, err)
	}
	if !isIssuedAt(a.saved.IssuedAt) {
		return nil, fmt.Errorf("read the newest bundle's time of issue from %s: %q is none", a.path, a.saved.IssuedAt)
	}
	a.highest = a.saved
	return a, nil
}

// isIssuedAt holds a time to the one way of writing it in which the order of texts is that of times. (Parsing alone would take T3 for T03.)
func isIssuedAt(s string) bool {
	t, err := time.Parse(issuedAtLayout, s)
	return err == nil && t.Format(issuedAtLayout) == s
}

// activate checks a bundle whose signature is good, compiles it with the capabilities and readies it. Nothing comes into force
// until the transaction commits; any error leaves the last good bundle as it is.
func (a *admission) activate(o *bundle.ActivateOpts) error {
	a.pending = nil
	if len(o.Bundles) != 1 {
		return fmt.Errorf("%d bundles at once, want 1", len(o.Bundles))
	}
	for _, b := range o.Bundles {
		next, err := a.inspect(b)
		if err != nil {
			return err
		}
		restrict(o.Compiler)
		if err := new(bundle.DefaultActivator).Activate(o); err != nil {
			return err
		}
		p, err := prepare(o.Ctx, o.Compiler, o.Store, o.Txn)
		if err != nil {
			return err
		}
		p.revision, p.digest = b.Manifest.Revision, next.Digest
		a.pending, a.issued = p, next
	}
	return nil
}

// inspect reads the manifest and parses the modules anew: OPA's reader drops annotations from a bundle that it finds on disk, and knows
// no capabilities.
func (a *admission) inspect(b *bundle.Bundle) (mark, error) {
	if b.Type() != bundle.SnapshotBundleType || len(b.WasmModules)+len(b.PlanModules) > 0 {
		return mark{}, errors.New("a bundle holds Rego modules and data only")
	}
	if b.Manifest.Roots == nil || !slices.Equal(*b.Manifest.Roots, []string{bundleRoot}) {
		return mark{}, fmt.Errorf("the bundle's roots are not [%s]", bundleRoot)
	}
	var next mark
	next.IssuedAt, _ = b.Manifest.Metadata[metaIssuedAt].(string)
	next.Digest, _ = b.Manifest.Metadata[metaDigest].(string)
	if !isIssuedAt(next.IssuedAt) || next.Digest == "" || b.Manifest.Revision == "" {
		return mark{}, errors.New("the bundle's manifest lacks revision, digest or time of issue")
	}
	switch {
	case next.IssuedAt > a.highest.IssuedAt:
	case next.Digest == a.highest.Digest:
		next.IssuedAt = a.highest.IssuedAt // the same content, signed by another replica or once more: no way back
	default:
		return mark{}, fmt.Errorf("%w: issued %s (digest %s), accepted %s (digest %s)",
			ErrRollback, next.IssuedAt, next.Digest, a.highest.IssuedAt, a.highest.Digest)
	}
	for i := range b.Modules {
		file := &b.Modules[i]
		name := strings.TrimPrefix(file.Path, "/")
		m, err := ast.ParseModuleWithOpts(name, string(file.Raw), parserOptions())
		if err != nil {
			return mark{}, fmt.Errorf("parse %s: %w", name, err)
		}
		if bundled, below := bundleOf(m); bundled != "" {
			err = checkRules(m, below)
		} else if name != systemFile {
			err = fmt.Errorf("%s: package must be %s.<name>", m.Package.Location, bundlePackage)
		}
		if err != nil {
			return mark{}, err
		}
		file.Parsed = m
	}
	return next, nil
}

// admitted returns the program whose transaction has just committed, once, and raises the mark.
func (a *admission) admitted() *program {
	p := a.pending
	if p != nil {
		a.pending, a.highest = nil, a.issued
	}
	return p
}

func (a *admission) issuedAt() time.Time {
	t, _ := time.Parse(issuedAtLayout, a.highest.IssuedAt)
	return t
}

// save writes the mark. It is called after the bundle itself was persisted, so that a crash between the two leaves a bundle on disk that
// the mark still admits.
func (a *admission) save() error {
	if a.saved == a.highest {
		return nil
	}
	raw, err := json.Marshal(a.highest)
	if err == nil {
		err = atomicfile.Write(a.path, 0o600, raw)
	}
	if err != nil {
		return fmt.Errorf("keep the bundle's time of issue: %w", err)
	}
	a.saved = a.highest
	return nil
}
