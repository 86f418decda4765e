// Package harness sets up what the demo and the end-to-end tests run in: a real cluster with Sallyport installed, stand-in
// providers behind the real host names, and agents. Every step can be repeated; one that is done already is quick.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Names of what the harness makes.
const (
	SystemNamespace   = "sallyport-system"
	ProvidersService  = "providers"
	ProviderNamespace = "standin"
	OtherHost         = "files-exchange.example" // a host that is no model provider
)

// Env is a cluster and the tree it is tested from.
type Env struct {
	Root       string // of the repository
	Kubeconfig string
	Registry   string // host:port[/path] that the cluster's nodes pull from
	kubectl    string
	own        bool // made by e2e/cluster
	out        io.Writer
}

// Root finds the repository from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if b, err := os.ReadFile(filepath.Join(d, "go.mod")); err == nil && bytes.HasPrefix(b, []byte("module sallyport.dev/sallyport\n")) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside the Sallyport repository", dir)
		}
	}
}

// Connect returns the cluster that KUBECONFIG and IMAGE_REGISTRY name, or brings the project's own one up. Progress goes to out.
func Connect(ctx context.Context, out io.Writer) (*Env, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	e := &Env{Root: root, Kubeconfig: os.Getenv("KUBECONFIG"), Registry: os.Getenv("IMAGE_REGISTRY"), out: out}
	switch named, err := Named(ctx); {
	case err != nil:
		return nil, err
	case named:
		if e.kubectl, err = exec.LookPath("kubectl"); err != nil {
			return nil, errors.New("KUBECONFIG and IMAGE_REGISTRY name a cluster, but there is no kubectl on the PATH")
		}
		return e, nil
	}
	for _, verb := range []string{"deps", "up"} {
		if err := e.run(ctx, e.clusterTool(), "go", "run", ".", verb); err != nil {
			return nil, err
		}
	}
	env, err := e.output(ctx, e.clusterTool(), nil, "go", "run", ".", "env")
	if err != nil {
		return nil, err
	}
	path := os.Getenv("PATH")
	for line := range strings.Lines(env) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.NewReplacer(`"`, "", `'`, "").Replace(value)
		switch name {
		case "KUBECONFIG":
			e.Kubeconfig = value
		case "IMAGE_REGISTRY":
			e.Registry = value
		case "PATH":
			path = strings.ReplaceAll(value, "$PATH", path)
		}
	}
	if err := os.Setenv("PATH", path); err != nil {
		return nil, err
	}
	if e.kubectl, err = exec.LookPath("kubectl"); err != nil || e.Kubeconfig == "" || e.Registry == "" {
		return nil, fmt.Errorf("the cluster tool's env names no KUBECONFIG, IMAGE_REGISTRY or kubectl:\n%s", env)
	}
	e.own = true
	return e, nil
}

// Named says whether KUBECONFIG and IMAGE_REGISTRY name another cluster than the project's own, which a shell that works with the latter has in
// its environment too.
func Named(ctx context.Context) (bool, error) {
	config, registry := os.Getenv("KUBECONFIG"), os.Getenv("IMAGE_REGISTRY")
	if config == "" && registry == "" {
		return false, nil
	}
	root, err := Root()
	if err != nil {
		return false, err
	}
	e := &Env{Root: root}
	own, err := e.output(ctx, e.clusterTool(), nil, "go", "run", ".", "kubeconfig")
	if err != nil {
		return false, err
	}
	switch {
	case config == strings.TrimSpace(own):
		return false, nil
	case config == "" || registry == "":
		return false, errors.New("set both KUBECONFIG and IMAGE_REGISTRY to use a cluster of your own, or neither to have one made here")
	}
	return true, nil
}

func (e *Env) clusterTool() string { return filepath.Join(e.Root, "e2e", "cluster") }

// Binaries that are built, and the package each comes from. Those with an image run in the cluster.
var binaries = []struct {
	name, pkg string
	image     bool
}{
	{"sallyport", "./cmd/sallyport", false},
	{"sallyport-proxy", "./cmd/sallyport-proxy", true},
	{"sallyport-controller", "./cmd/sallyport-controller", true},
	{"agent", "./e2e/agent", true},
	{"standind", "./e2e/standin/standind", true},
}

// Build compiles the binaries into bin/ and pushes their images.
func (e *Env) Build(ctx context.Context) error {
	bin := filepath.Join(e.Root, "bin")
	for _, b := range binaries {
		e.say("build %s", b.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "netgo,osusergo,opa_no_oci,grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(bin, b.name), b.pkg)
		cmd.Dir = e.Root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", b.name, err, text)
		}
	}
	for _, b := range binaries {
		if !b.image {
			continue
		}
		if err := e.PushImage(ctx, b.name+":latest", filepath.Join(bin, b.name)); err != nil {
			return err
		}
	}
	return nil
}

// PushImage makes an image of one static binary, with the system's roots, and pushes it to the cluster's registry.
func (e *Env) PushImage(ctx context.Context, name, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "run", ".", "image", name, "--binary", binary, "--entrypoint", "/"+filepath.Base(binary), "--certs")
	cmd.Dir = e.clusterTool()
	cmd.Env = append(os.Environ(), "IMAGE_REGISTRY="+e.Registry)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("image %s: %w\n%s", name, err, text)
	}
	e.say("image %s", lastLine(string(text)))
	return nil
}

// Install applies deploy/overlays/demo and waits until the controller serves.
func (e *Env) Install(ctx context.Context) error {
	overlay := filepath.Join("deploy", "overlays", "demo")
	if !e.own {
		// The overlay names the registry of the project's own cluster; another one's is set by an overlay over it.
		var err error
		if overlay, err = e.overlayFor(overlay); err != nil {
			return err
		}
	}
	existed := e.exists(ctx, SystemNamespace, "deployment/sallyport-controller")
	// The first apply makes the definitions that later objects are instances of, so it is repeated until they are served.
	if err := e.Eventually(ctx, 2*time.Minute, "apply -k "+overlay, func() error {
		return e.Kubectl(ctx, nil, "apply", "--server-side", "--force-conflicts", "-k", overlay).Err
	}); err != nil {
		return err
	}
	if err := e.roll(ctx, SystemNamespace, "deployment/sallyport-controller", existed); err != nil {
		return err
	}
	return e.Eventually(ctx, time.Minute, "CA injection into the webhook configuration", func() error {
		ca := e.Kubectl(ctx, nil, "get", "mutatingwebhookconfiguration", "sallyport", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
		if ca.Err != nil {
			return ca.Err
		}
		if ca.Out == "" {
			return errors.New("no caBundle yet")
		}
		return nil
	})
}

// Uninstall removes what Install and the other steps made; the cluster stays.
func (e *Env) Uninstall(ctx context.Context, namespaces ...string) error {
	var failed []error
	for _, ns := range append(namespaces, ProviderNamespace) {
		failed = append(failed, e.Kubectl(ctx, nil, "delete", "namespace", ns, "--ignore-not-found", "--wait=true").Err)
	}
	failed = append(failed,
		e.Kubectl(ctx, nil, "-n", "kube-system", "delete", "configmap", "coredns-custom", "--ignore-not-found").Err,
		e.Kubectl(ctx, nil, "delete", "--ignore-not-found", "-k", filepath.Join("deploy", "overlays", "demo")).Err)
	return errors.Join(failed...)
}

func (e *Env) overlayFor(base string) (string, error) {
	dir := filepath.Join(e.Root, "out", "overlay")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text := fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../%s]
images:
  - {name: 127.0.0.1:5000/sallyport-controller, newName: %s/sallyport-controller, newTag: latest}
patches:
  - target: {kind: Deployment, name: sallyport-controller}
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: sallyport-controller}
      spec: {template: {spec: {containers: [{name: controller, env: [{name: SALLYPORT_PROXY_IMAGE, value: "%s/sallyport-proxy:latest"}]}]}}}
`, filepath.ToSlash(base), e.Registry, e.Registry)
	return dir, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o644)
}

// KillContainer ends a container's process, as a crash would, and leaves it to the kubelet to start it again. It works on the project's own
// cluster, whose node is this machine.
func (e *Env) KillContainer(ctx context.Context, ns, pod, container string) error {
	if !e.own {
		return errors.New("killing a container takes the node, and the node of another cluster is not at hand")
	}
	id := e.Kubectl(ctx, nil, "-n", ns, "get", "pod", pod, "-o",
		`jsonpath={.status.initContainerStatuses[?(@.name=="`+container+`")].containerID}{.status.containerStatuses[?(@.name=="`+container+`")].containerID}`)
	if id.Err != nil {
		return id.Err
	}
	socket := filepath.Join(filepath.Dir(e.Kubeconfig), "run", "containerd.sock")
	_, err := e.output(ctx, e.Root, nil, "ctr", "--address", socket, "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", strings.TrimPrefix(id.Out, "containerd://"))
	return err
}

// Own says whether the cluster is the project's own, whose node is this machine.
func (e *Env) Own() bool { return e.own }

// Result is what kubectl said.
type Result struct {
	Out string
	Err error
}

// Kubectl runs kubectl in the repository with the cluster's configuration.
func (e *Env) Kubectl(ctx context.Context, stdin []byte, args ...string) Result {
	out, err := e.output(ctx, e.Root, stdin, e.kubectl, append([]string{"--kubeconfig", e.Kubeconfig}, args...)...)
	return Result{Out: out, Err: err}
}

// Apply applies a manifest.
func (e *Env) Apply(ctx context.Context, manifest string) error {
	return e.Kubectl(ctx, []byte(manifest), "apply", "--server-side", "--force-conflicts", "-f", "-").Err
}

// Get reads an object into v.
func (e *Env) Get(ctx context.Context, v any, args ...string) error {
	r := e.Kubectl(ctx, nil, append(append([]string{"get"}, args...), "-o", "json")...)
	if r.Err != nil {
		return r.Err
	}
	if err := json.Unmarshal([]byte(r.Out), v); err != nil {
		return fmt.Errorf("read kubectl get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (e *Env) exists(ctx context.Context, ns, what string) bool {
	return e.Kubectl(ctx, nil, "-n", ns, "get", what).Err == nil
}

// roll waits until a workload has rolled out. One that existed before is restarted, for there may be a newer image under the same tag.
func (e *Env) roll(ctx context.Context, ns, what string, existed bool) error {
	if existed {
		if err := e.Kubectl(ctx, nil, "-n", ns, "rollout", "restart", what).Err; err != nil {
			return err
		}
	}
	return e.Rollout(ctx, ns, what)
}

// Rollout waits until a workload has rolled out, and says what is wrong when it has not.
func (e *Env) Rollout(ctx context.Context, ns, what string) error {
	r := e.Kubectl(ctx, nil, "-n", ns, "rollout", "status", what, "--timeout=180s")
	if r.Err == nil {
		return nil
	}
	pods := e.Kubectl(ctx, nil, "-n", ns, "get", "pods", "-o", "wide")
	events := e.Kubectl(ctx, nil, "-n", ns, "get", "events", "--sort-by=.lastTimestamp")
	logs := e.Kubectl(ctx, nil, "-n", ns, "logs", what, "--all-containers", "--tail=20", "--prefix")
	return fmt.Errorf("%s in %s does not come up: %w\n%s\n%s\n%s", what, ns, r.Err, pods.Out, tail(events.Out, 15), logs.Out)
}

// Eventually repeats a check until it passes, and returns what it last said when it does not within the limit.
func (e *Env) Eventually(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		case <-tick.C:
		}
	}
}

func (e *Env) say(format string, args ...any) { _, _ = fmt.Fprintf(e.out, "    "+format+"\n", args...) }

// run runs a command whose output is progress.
func (e *Env) run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, e.out, e.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// output runs a command and returns what it printed.
func (e *Env) output(ctx context.Context, dir string, stdin []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
