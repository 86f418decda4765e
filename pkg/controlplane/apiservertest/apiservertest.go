// Package apiservertest starts a real API server for tests: etcd and kube-apiserver on loopback ports, with the CustomResourceDefinitions of
// this repository and of cert-manager. Nothing of it is simulated, and no controller runs but those that a test starts.
//
//	func TestMain(m *testing.M) { os.Exit(apiservertest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		config := apiservertest.Config(t)
//
// The programs are those that `go run -C e2e/cluster . build` leaves in the cache; a test that needs them fails with that
// sentence where they are missing. It is for tests alone.
package apiservertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Environment variables that say where things are.
const (
	// EnvCache is where built programs are kept; ~/.cache/sallyport if it is empty.
	EnvCache = "SALLYPORT_CACHE"
	// EnvCRDs is the directory of the repository's own definitions; deploy/crds if it is empty.
	EnvCRDs = "SALLYPORT_CRDS"
)

const patience = 90 * time.Second

var shared struct {
	once   sync.Once
	env    *envtest.Environment
	config *rest.Config
	err    error
}

// Main runs a package's tests and stops what Config started.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.env != nil {
		if err := shared.env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Config returns an administrator's configuration for the package's API server, which the first call starts.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	shared.once.Do(func() { shared.env, shared.config, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return rest.CopyConfig(shared.config)
}

// Kubeconfig returns the path of an administrator's kubeconfig for the package's API server, for programs that a test starts.
func Kubeconfig(t testing.TB) string {
	t.Helper()
	Config(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, shared.env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Program returns the path of a program in the cache, such as "etcd" or "certmanager".
func Program(name string) (string, error) {
	cache := os.Getenv(EnvCache)
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache: %w", err)
		}
		cache = filepath.Join(home, ".cache", "sallyport")
	}
	found, err := filepath.Glob(filepath.Join(cache, "bin", "*", name))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no %s under %s/bin: build it with `go run -C e2e/cluster . build` from the repository's root, or set %s", name, cache, EnvCache)
	}
	return slices.MaxFunc(found, func(a, b string) int { return modified(a).Compare(modified(b)) }), nil
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func start() (*envtest.Environment, *rest.Config, error) {
	etcd, err := Program("etcd")
	if err != nil {
		return nil, nil, err
	}
	apiserver, err := Program("kube-apiserver")
	if err != nil {
		return nil, nil, err
	}
	certManager, err := Program("crds")
	if err != nil {
		return nil, nil, err
	}
	crds := os.Getenv(EnvCRDs)
	if crds == "" {
		root, err := repository()
		if err != nil {
			return nil, nil, err
		}
		crds = filepath.Join(root, "deploy", "crds")
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:        []string{crds, certManager},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: patience,
		ControlPlaneStopTimeout:  patience,
	}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: etcd}
	env.ControlPlane.APIServer = &envtest.APIServer{Path: apiserver}
	config, err := env.Start()
	if err != nil {
		_ = env.Stop()
		return nil, nil, fmt.Errorf("start etcd and kube-apiserver: %w", err)
	}
	return env, config, nil
}

// repository is the directory of go.mod above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", fmt.Errorf("no go.mod above the working directory: set %s", EnvCRDs)
	}
}
