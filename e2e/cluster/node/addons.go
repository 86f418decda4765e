package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sallyport.dev/sallyport/e2e/cluster/build"
	"sallyport.dev/sallyport/e2e/cluster/image"
)

// pushImages pushes the images of what runs in pods and fills in their references. The
// registry keeps its manifests in memory only, so a registry that was started anew gets
// them again; otherwise what an earlier push noted down is good.
func (n Node) pushImages(ctx context.Context, set build.Set, v *values, again bool) error {
	for _, i := range []struct {
		binary, tag string
		reference   *string
		byDigest    bool
	}{
		{"pause", v.PauseImage, nil, false}, // containerd's configuration names it by tag
		{"coredns", Registry + "/cluster/coredns:" + set.Version("coredns"), &v.CoreDNSImage, true},
		{"certmanager", Registry + "/cluster/cert-manager:" + set.Version("certmanager"), &v.CertManagerImage, true},
	} {
		note := n.in("images", i.binary)
		want := set.Path(i.binary)
		if content, err := os.ReadFile(note); err == nil && !again {
			if from, ref, ok := strings.Cut(string(content), "\n"); ok && from == want {
				if i.byDigest {
					*i.reference = ref
				}
				continue
			}
		}
		img, err := image.Build(image.Spec{Binaries: []string{want}})
		if err != nil {
			return fmt.Errorf("make the image of %s: %w", i.binary, err)
		}
		ref, err := image.Push(ctx, img, i.tag)
		if err != nil {
			return err
		}
		if i.byDigest {
			*i.reference = ref
		}
		if err := writeFile(note, []byte(want+"\n"+ref), 0o644); err != nil {
			return fmt.Errorf("note down the image of %s: %w", i.binary, err)
		}
	}
	return nil
}

// applyAddons applies CoreDNS, cert-manager's resource types and cert-manager, and
// waits until they serve. What was applied before in the same form is not applied again.
func (n Node) applyAddons(ctx context.Context, set build.Set, v values) error {
	crds, err := concatenated(filepath.Join(set.Dir("certmanager"), "crds"))
	if err != nil {
		return fmt.Errorf("read cert-manager's resource types: %w", err)
	}
	coredns, err := render("manifests/coredns.yaml", v)
	if err != nil {
		return err
	}
	certManager, err := render("manifests/cert-manager.yaml", v)
	if err != nil {
		return err
	}
	for _, addon := range []struct {
		name    string
		content []byte
	}{{"coredns", coredns}, {"cert-manager-crds", crds}, {"cert-manager", certManager}} {
		sum := sha256.Sum256(addon.content)
		note, want := n.in("applied", addon.name), []byte(hex.EncodeToString(sum[:]))
		if have, err := os.ReadFile(note); err == nil && bytes.Equal(have, want) {
			continue
		}
		n.say("applying %s", addon.name)
		if err := n.kubectl(ctx, set, addon.content, "apply", "--server-side", "--force-conflicts", "--filename=-"); err != nil {
			return err
		}
		if err := writeFile(note, want, 0o644); err != nil {
			return fmt.Errorf("note down that %s is applied: %w", addon.name, err)
		}
	}
	for _, wait := range []struct{ namespace, what, condition string }{
		{"", "node/" + nodeName, "condition=Ready"},
		{"kube-system", "deployment/coredns", "condition=Available"},
		{certManagerName, "deployment/cert-manager", "condition=Available"},
		{certManagerName, "deployment/cert-manager-cainjector", "condition=Available"},
		{"", "crd/certificates.cert-manager.io", "condition=Established"},
	} {
		args := []string{"wait", "--for=" + wait.condition, wait.what, "--timeout=120s"}
		if wait.namespace != "" {
			args = append(args, "--namespace="+wait.namespace)
		}
		if err := n.kubectl(ctx, set, nil, args...); err != nil {
			state, _ := exec.CommandContext(ctx, set.Path("kubectl"), "--kubeconfig="+n.Kubeconfig(), "get", "nodes,pods,events", "--all-namespaces", "--output=wide").CombinedOutput()
			return fmt.Errorf("%w\nthe cluster's state:\n%s", err, state)
		}
	}
	return nil
}

func (n Node) kubectl(ctx context.Context, set build.Set, input []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, set.Path("kubectl"), append([]string{"--kubeconfig=" + n.Kubeconfig()}, args...)...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// concatenated returns the YAML files of a directory as one stream of documents.
func concatenated(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []byte
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		all = append(append(all, content...), "\n---\n"...)
	}
	return all, nil
}
