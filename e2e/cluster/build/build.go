package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/sys/unix"
)

// A Component is one module below the source directory and what is built from it.
type Component struct {
	// Name is the component's directory below the source directory and the first
	// part of its cache entry's name.
	Name string
	// Module is the path of the required module whose version is the component's
	// version. Empty means that the component is our own and has no version.
	Module string
	// Binaries are built in this order.
	Binaries []Binary
	// CRDs is a directory inside Module that is copied next to the binaries as
	// "crds". Empty means none.
	CRDs string
	// Stamp is the package whose gitVersion, gitMajor and gitMinor variables are set
	// to the version. Empty means none.
	Stamp string
}

// A Binary is one program of a component.
type Binary struct {
	// Name is the file's name in the cache.
	Name string
	// Package is what is built: an import path, or "." for the component's own main.
	Package string
}

// Components returns everything a cluster is run from, the quickest to build first
// so that progress shows early.
func Components() []Component {
	kubernetes := Component{Name: "kubernetes", Module: "k8s.io/kubernetes", Stamp: "k8s.io/component-base/version"}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		kubernetes.Binaries = append(kubernetes.Binaries, Binary{name, "k8s.io/kubernetes/cmd/" + name})
	}
	const containerd = "github.com/containerd/containerd/v2"
	const registry = "github.com/google/go-containerregistry"
	return []Component{
		{Name: "pause", Binaries: []Binary{{"pause", "."}}},
		{Name: "crane", Module: registry, Binaries: []Binary{{"crane", registry + "/cmd/crane"}}},
		{Name: "etcd", Module: "go.etcd.io/etcd/server/v3", Binaries: []Binary{{"etcd", "."}}},
		{Name: "containerd", Module: containerd, Binaries: []Binary{
			{"containerd", containerd + "/cmd/containerd"},
			{"containerd-shim-runc-v2", containerd + "/cmd/containerd-shim-runc-v2"},
			{"ctr", containerd + "/cmd/ctr"},
		}},
		{Name: "coredns", Module: "github.com/coredns/coredns", Binaries: []Binary{{"coredns", "github.com/coredns/coredns"}}},
		kubernetes,
		{Name: "certmanager", Module: "github.com/cert-manager/cert-manager", CRDs: "deploy/crds", Binaries: []Binary{{"certmanager", "."}}},
	}
}

// A Builder builds components into a cache.
type Builder struct {
	// Source is the directory that holds one module per component.
	Source string
	// Cache is the directory that holds one directory per built component.
	Cache string
	// Log receives one line per program built.
	Log io.Writer
}

// A Set is a complete set of built components.
type Set struct {
	dirs     map[string]string // component → directory
	versions map[string]string // component → version
	owners   map[string]string // binary → component
}

// Path returns the absolute path of the binary called name. It panics on a name that
// no component has, which is a mistake of the caller's source.
func (s Set) Path(name string) string {
	owner, ok := s.owners[name]
	if !ok {
		panic("build: no component has a binary called " + name)
	}
	return filepath.Join(s.dirs[owner], name)
}

// Binaries returns the names of all binaries, sorted.
func (s Set) Binaries() []string {
	var names []string
	for name := range s.owners {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Dir returns the cache entry of a component.
func (s Set) Dir(component string) string { return s.dirs[component] }

// Version returns the version of a component, without a leading v.
func (s Set) Version(component string) string { return s.versions[component] }

// Ensure builds what the cache lacks and returns the complete set.
func (b Builder) Ensure(ctx context.Context) (Set, error) {
	set := Set{dirs: map[string]string{}, versions: map[string]string{}, owners: map[string]string{}}
	goVersion, err := b.goVersion(ctx)
	if err != nil {
		return Set{}, err
	}
	total := 0
	for _, c := range Components() {
		version, key, err := b.key(c, goVersion)
		if err != nil {
			return Set{}, err
		}
		set.versions[c.Name] = version
		set.dirs[c.Name] = filepath.Join(b.Cache, fmt.Sprintf("%s-%s-%s", c.Name, version, key))
		for _, binary := range c.Binaries {
			set.owners[binary.Name] = c.Name
		}
		total += len(c.Binaries)
	}
	if !set.missing() {
		return set, nil
	}

	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return Set{}, fmt.Errorf("create the cache: %w", err)
	}
	unlock, err := Lock(filepath.Join(b.Cache, ".lock"), func() {
		fmt.Fprintln(b.Log, "build: waiting for another build to finish")
	})
	if err != nil {
		return Set{}, err
	}
	defer unlock()

	start, done := time.Now(), 0
	for _, c := range Components() {
		if exists(set.dirs[c.Name]) {
			done += len(c.Binaries)
			fmt.Fprintf(b.Log, "build: %d of %d %s %s is in the cache\n", done, total, c.Name, set.versions[c.Name])
			continue
		}
		if err := b.build(ctx, c, set.dirs[c.Name], set.versions[c.Name], &done, total); err != nil {
			return Set{}, err
		}
	}
	fmt.Fprintf(b.Log, "build: everything is in %s after %.0f s\n", b.Cache, time.Since(start).Seconds())
	return set, nil
}

// missing says whether a component of the set is not in the cache.
func (s Set) missing() bool {
	for _, dir := range s.dirs {
		if !exists(dir) {
			return true
		}
	}
	return false
}

// build builds one component beside its place in the cache and moves it there when
// it is complete, so that a build that was cut off leaves nothing that looks whole.
func (b Builder) build(ctx context.Context, c Component, dir, version string, done *int, total int) error {
	unfinished := filepath.Join(b.Cache, ".unfinished-"+filepath.Base(dir))
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("clear an unfinished build: %w", err)
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return fmt.Errorf("create the cache entry: %w", err)
	}
	for _, binary := range c.Binaries {
		*done++
		fmt.Fprintf(b.Log, "build: %d of %d %s (%s %s) ...\n", *done, total, binary.Name, c.Name, version)
		start := time.Now()
		args := []string{"build", "-trimpath", "-ldflags", ldflags(c, version), "-o", filepath.Join(unfinished, binary.Name), binary.Package}
		if out, err := b.goCommand(ctx, c, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s of %s %s: %w\n%s", binary.Name, c.Name, version, err, out)
		}
		fmt.Fprintf(b.Log, "build: %d of %d %s in %.0f s\n", *done, total, binary.Name, time.Since(start).Seconds())
	}
	if c.CRDs != "" {
		out, err := b.goCommand(ctx, c, "list", "-m", "-f", "{{.Dir}}", c.Module).Output()
		if err != nil {
			return fmt.Errorf("find module %s: %w", c.Module, err)
		}
		if err := copyYAML(filepath.Join(strings.TrimSpace(string(out)), c.CRDs), filepath.Join(unfinished, "crds")); err != nil {
			return fmt.Errorf("copy the CRDs of %s: %w", c.Name, err)
		}
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("finish the cache entry: %w", err)
	}
	return nil
}

// settings are the environment every build has; they are part of the cache key.
func settings() []string {
	return []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "GOOS=linux", "GOARCH=" + runtime.GOARCH}
}

func ldflags(c Component, version string) string {
	flags := "-s -w"
	if c.Stamp != "" {
		parts := strings.SplitN(version, ".", 3)
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			c.Stamp, version, parts[0], parts[1])
	}
	return flags
}

func (b Builder) goCommand(ctx context.Context, c Component, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.Source, c.Name)
	cmd.Env = append(os.Environ(), settings()...)
	return cmd
}

func (b Builder) goVersion(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir = b.Source
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// key returns a component's version and the hash of everything its binaries depend
// on: the files of its module, the Go release, the settings and the list of binaries.
func (b Builder) key(c Component, goVersion string) (version, key string, err error) {
	dir := filepath.Join(b.Source, c.Name)
	version, err = requiredVersion(filepath.Join(dir, "go.mod"), c.Module)
	if err != nil {
		return "", "", err
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return "", "", fmt.Errorf("read component %s: %w", c.Name, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%q\n%+v\n", goVersion, settings(), ldflags(c, version), c)
	for _, entry := range entries {
		if name := entry.Name(); name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".go") {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return "", "", fmt.Errorf("read component %s: %w", c.Name, err)
			}
			fmt.Fprintf(h, "%s %d\n", name, len(content))
			h.Write(content)
		}
	}
	return version, hex.EncodeToString(h.Sum(nil))[:12], nil
}

// requiredVersion reads from a go.mod file the version of a module it requires.
func requiredVersion(file, module string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the component's module: %w", err)
	}
	if module == "" {
		return "own", nil
	}
	mod, err := modfile.ParseLax(file, content, nil)
	if err != nil {
		return "", fmt.Errorf("read the component's module: %w", err)
	}
	for _, require := range mod.Require {
		if require.Mod.Path == module {
			return strings.TrimPrefix(require.Mod.Version, "v"), nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", file, module)
}

// copyYAML copies the YAML files of one directory into another.
func copyYAML(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s holds no YAML files: %w", from, fs.ErrNotExist)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Lock takes the lock that file stands for, calling waiting once if somebody else
// holds it. The lock goes with the process, however it ends.
func Lock(file string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		waiting()
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("take the lock %s: %w", file, err)
	}
	return func() { f.Close() }, nil
}

// Named returns a set that knows the names of all binaries but not where they are: its
// paths are only good for describing what would run.
func Named() Set {
	set := Set{dirs: map[string]string{}, versions: map[string]string{}, owners: map[string]string{}}
	for _, c := range Components() {
		for _, binary := range c.Binaries {
			set.owners[binary.Name] = c.Name
		}
	}
	return set
}
