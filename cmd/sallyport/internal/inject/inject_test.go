package inject

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/webhook"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldens are shared with the webhook, whose tests hold the admission handler against them.
const goldens = "../../../../webhook/testdata"

func testConfig(t testing.TB) *webhook.Config {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(goldens, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	config := &webhook.Config{
		ProxyImage:       "registry.example.com/sallyport-proxy:1",
		DiscoveryAddress: "sallyport-controller.sallyport-system.svc:15012",
		BundleURL:        "https://sallyport-controller.sallyport-system.svc:15013",
		TrustAnchors:     read("trust-anchors.txt"),
		BundleKeys:       read("bundle.pub"),
		Version:          "v0.0.0-test",
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestGoldens(t *testing.T) {
	inputs, err := filepath.Glob(filepath.Join(goldens, "inject", "*.yaml"))
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	config := testConfig(t)
	known := map[string]bool{}
	for _, input := range inputs {
		name := strings.TrimSuffix(filepath.Base(input), ".yaml")
		known[name] = true
		t.Run(name, func(t *testing.T) {
			in, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			var out, report bytes.Buffer
			err = Run(bytes.NewReader(in), &out, &report, Options{Config: config, Namespace: "agents"})
			if errors.Is(err, ErrRefused) {
				if out.Len() > 0 {
					t.Errorf("wrote %d bytes although a pod was refused", out.Len())
				}
			} else if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".golden", out.Bytes())
			golden(t, name+".report", report.Bytes())
			if err != nil {
				return
			}
			// What came out goes in again, and nothing changes.
			var again, rest bytes.Buffer
			if err := Run(bytes.NewReader(out.Bytes()), &again, &rest, Options{Config: config, Namespace: "agents"}); err != nil {
				t.Fatalf("inject again: %v\n%s", err, rest.String())
			}
			if !bytes.Equal(again.Bytes(), out.Bytes()) {
				t.Errorf("injecting twice changed something:\n%s\n---- before ----\n%s", again.String(), out.String())
			}
		})
	}
	outputs, err := filepath.Glob(filepath.Join(goldens, "inject", "*.[gr]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range outputs {
		base := filepath.Base(output)
		name := strings.TrimSuffix(strings.TrimSuffix(base, ".golden"), ".report")
		if name != base && !known[name] {
			t.Errorf("%s belongs to no input; remove it", base)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join(goldens, "inject", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test with -update and read what it writes", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestRunErrors(t *testing.T) {
	config := testConfig(t)
	for _, tt := range []struct{ name, in, want string }{
		{"not YAML", "a: [", "document 1"},
		{"a key twice", "kind: Pod\nkind: Pod\n", "already set"},
		{"not an object", "- 1\n- 2\n", "no Kubernetes object"},
		{"a template is missing", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n", "there is no spec.template"},
		{"a pod with a wrong type", "apiVersion: v1\nkind: Pod\nspec: {containers: 5}\n", "cannot unmarshal"},
		{"a list with a wrong item", "apiVersion: v1\nkind: List\nitems: [5]\n", "item 1"},
		{"a wrong profile", "apiVersion: sallyport.dev/v1alpha1\nkind: EgressProfile\nmetadata: {name: p}\nspec: {killSwitch: 7}\n", "EgressProfile p"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, report bytes.Buffer
			err := Run(strings.NewReader(tt.in), &out, &report, Options{Config: config})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that contains %q", err, tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("wrote %q despite the error", out.String())
			}
		})
	}
}

func TestCommand(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: agent, image: \"example.com/agent:1\"}]}\n"
	root, keys := filepath.Join(goldens, "trust-anchors.txt"), filepath.Join(goldens, "bundle.pub")
	tests := []struct {
		name, in    string
		args        []string
		err         string
		out, report string
	}{
		{"standard input", pod, []string{"-f", "-", "--trust-anchors-file", root, "--bundle-keys-file", keys}, "", "sallyport-proxy", `Pod/p in "default": injected`},
		{"JSON report", pod, []string{"-f", "-", "--report", "json", "-n", "a", "--trust-anchors-file", root, "--bundle-keys-file", keys}, "", "sallyport-init", `{"object":"Pod/p","namespace":"a","result":"injected"`},
		{"a refusal is an error", strings.Replace(pod, "spec: {", "spec: {hostNetwork: true, ", 1), []string{"-f", "-", "--trust-anchors-file", root, "--bundle-keys-file", keys}, "refused", "", "host_network"},
		{"keys in place of anchors", pod, []string{"-f", "-", "--trust-anchors-file", keys, "--bundle-keys-file", keys}, "trust anchors", "", ""},
		{"anchors missing", pod, []string{"-f", "-", "--trust-anchors-file", "nowhere.pem", "--bundle-keys-file", keys}, "nowhere.pem", "", ""},
		{"unknown report", pod, []string{"-f", "-", "--report", "xml", "--trust-anchors-file", root, "--bundle-keys-file", keys}, "xml", "", ""},
		{"preview", pod, []string{"-f", "-"}, "", "(preview: see", "This is a preview"},
		{"one of two that go together", pod, []string{"-f", "-", "--bundle-keys-file", keys}, "go together", "", ""},
		{"no file", pod, []string{}, "required flag", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := New("v0")
			var out, report bytes.Buffer
			cmd.SetIn(strings.NewReader(tt.in))
			cmd.SetOut(&out)
			cmd.SetErr(&report)
			cmd.SetArgs(tt.args)
			err := cmd.Execute()
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Fatalf("error %v, want one that contains %q", err, tt.err)
			}
			if tt.out != "" && !strings.Contains(out.String(), tt.out) {
				t.Errorf("output lacks %q:\n%s", tt.out, out.String())
			}
			if tt.out == "" && strings.Contains(out.String(), "containers:") {
				t.Errorf("manifests were written:\n%s", out.String())
			}
			if !strings.Contains(report.String(), tt.report) {
				t.Errorf("report lacks %q:\n%s", tt.report, report.String())
			}
		})
	}
}

func FuzzRun(f *testing.F) {
	inputs, err := filepath.Glob(filepath.Join(goldens, "inject", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		b, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	config := testConfig(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out, report bytes.Buffer
		if err := Run(bytes.NewReader(in), &out, &report, Options{Config: config}); err != nil && out.Len() > 0 {
			t.Errorf("wrote something and failed: %v", err)
		}
	})
}
