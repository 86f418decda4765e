package node

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/e2e/cluster/build"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testNode(t *testing.T) (Node, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	dir := t.TempDir()
	return Node{Layout: Layout{State: filepath.Join(dir, "state"), Cache: filepath.Join(dir, "cache"), Source: ".."}, Log: &log}, &log
}

// golden compares with testdata/golden/NAME, in which the state directory is /state.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := writeFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from its golden file; review and run with -update:\n%s", name, got)
	}
}

func TestRenderedFiles(t *testing.T) {
	n := Node{Layout: Layout{State: "/state"}}
	v := n.values()
	v.Runc = "/usr/sbin/runc"
	v.CoreDNSImage, v.CertManagerImage = "127.0.0.1:5000/cluster/coredns@sha256:1", "127.0.0.1:5000/cluster/cert-manager@sha256:2"
	names := []string{"manifests/coredns.yaml", "manifests/cert-manager.yaml"}
	for _, name := range configFiles {
		names = append(names, "config/"+name)
	}
	for _, name := range names {
		content, err := render(name, v)
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.Contains(content, []byte("<no value>")) || bytes.Contains(content, []byte("{{")) {
			t.Errorf("%s is not filled in completely", name)
		}
		golden(t, strings.ReplaceAll(name, "/", "_"), content)
	}
}

func TestCommandLines(t *testing.T) {
	n := Node{Layout: Layout{State: "/state"}}
	var out bytes.Buffer
	for _, spec := range n.programs(build.Named()) {
		out.WriteString(spec.Name + ":\n")
		for _, arg := range append([]string{filepath.Base(spec.Path)}, spec.Args...) {
			out.WriteString("  " + arg + "\n")
		}
	}
	golden(t, "programs.txt", out.Bytes())
}

func TestNothingListensBeyondLoopbackAndTheBridge(t *testing.T) {
	n := Node{Layout: Layout{State: "/state"}}
	for _, spec := range n.programs(build.Named()) {
		for _, arg := range spec.Args {
			if strings.Contains(arg, "0.0.0.0") || strings.Contains(arg, "[::]") {
				t.Errorf("%s is told %s", spec.Name, arg)
			}
		}
	}
}

func TestDownOnAnEmptyMachine(t *testing.T) {
	n, log := testNode(t)
	if err := n.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "nothing is up") {
		t.Errorf("log: %s", log)
	}
}

func TestStatusOnAnEmptyMachine(t *testing.T) {
	n, _ := testNode(t)
	states := n.Status(context.Background())
	if len(states) != 8 {
		t.Errorf("%d rows", len(states))
	}
	for _, state := range states {
		if state.PID != 0 || state.Health != "not running" {
			t.Errorf("%+v", state)
		}
	}
}

func TestPKIIsMadeOnceAndVerifies(t *testing.T) {
	n, _ := testNode(t)
	if err := n.writePKI(); err != nil {
		t.Fatal(err)
	}
	parse := func(name string) *x509.Certificate {
		t.Helper()
		content, err := os.ReadFile(n.pki(name + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(content)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for _, c := range certificates {
		roots := x509.NewCertPool()
		roots.AddCert(parse(c.CA))
		usage := x509.ExtKeyUsageClientAuth
		options := x509.VerifyOptions{Roots: roots}
		if len(c.Hosts) > 0 {
			usage = x509.ExtKeyUsageServerAuth
			options.DNSName = c.Hosts[0]
		}
		options.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := parse(c.File).Verify(options); err != nil {
			t.Errorf("%s: %v", c.File, err)
		}
		if info, err := os.Stat(n.pki(c.File + ".key")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: its key is open to others: %v", c.File, err)
		}
	}
	before := parse("ca")
	if err := n.writePKI(); err != nil {
		t.Fatal(err)
	}
	if !before.Equal(parse("ca")) {
		t.Error("the second call made new certificates")
	}
	if err := n.writeKubeconfigs(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(n.Kubeconfig())
	if err != nil || !bytes.Contains(content, []byte("https://127.0.0.1:6443")) {
		t.Errorf("the kubeconfig: %v\n%s", err, content)
	}
}

func TestWriteFileLeavesAnEqualFileAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dir", "file")
	for _, content := range []string{"a", "a", "b"} {
		if err := writeFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestMountPoint(t *testing.T) {
	tests := []struct {
		line, want string
		ok         bool
	}{
		{"22 1 0:21 / /proc rw,nosuid - proc proc rw", "/proc", true},
		{`23 1 0:22 / /state/a\040b\134c rw - tmpfs tmpfs rw`, `/state/a b\c`, true},
		{"23 1 0:22 /", "", false},
		{"", "", false},
	}
	for _, test := range tests {
		if got, ok := mountPoint(test.line); got != test.want || ok != test.ok {
			t.Errorf("%q: got %q, %v", test.line, got, ok)
		}
	}
}

func FuzzMountPoint(f *testing.F) {
	f.Add("22 1 0:21 / /proc rw,nosuid - proc proc rw")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		if point, ok := mountPoint(line); ok && point == "" {
			t.Error("an empty mount point is accepted")
		}
	})
}

func TestShimSocket(t *testing.T) {
	tests := []struct {
		name, content, want string
		ok                  bool
	}{
		{"a shim's", `{"version":3,"address":"unix:///run/containerd/s/0123","protocol":"ttrpc"}`, "/run/containerd/s/0123", true},
		{"a file elsewhere", `{"address":"unix:///etc/passwd"}`, "/etc/passwd", false},
		{"a way out of the directory", `{"address":"unix:///run/containerd/s/../../x"}`, "/run/containerd/s/../../x", false},
		{"no unix socket", `{"address":"vsock://3:1"}`, "vsock://3:1", false},
		{"no JSON", `unix:///run/containerd/s/0123`, "", false},
	}
	for _, test := range tests {
		if got, ok := shimSocket([]byte(test.content)); got != test.want || ok != test.ok {
			t.Errorf("%s: got %q, %v", test.name, got, ok)
		}
	}
}

func FuzzShimSocket(f *testing.F) {
	f.Add([]byte(`{"address":"unix:///run/containerd/s/0123"}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		if path, ok := shimSocket(content); ok && !strings.HasPrefix(path, "/run/containerd/s/") {
			t.Errorf("a path elsewhere is accepted: %q", path)
		}
	})
}
