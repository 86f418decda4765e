package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestVerbsThatOnlyPrint(t *testing.T) {
	env := map[string]string{"SALLYPORT_CACHE": "/cache", "SALLYPORT_CLUSTER_DIR": "/it's here"}
	tests := []struct{ verb, want string }{
		{"kubeconfig", "/it's here/kubeconfig\n"},
		{"env", `export KUBECONFIG='/it'\''s here/kubeconfig'` + "\n" +
			`export IMAGE_REGISTRY='127.0.0.1:5000'` + "\n" +
			`export PATH='/it'\''s here/bin':"$PATH"` + "\n"},
	}
	for _, test := range tests {
		var out bytes.Buffer
		if err := run(context.Background(), []string{test.verb}, environment(env), &out, io.Discard); err != nil {
			t.Errorf("%s: %v", test.verb, err)
		}
		if out.String() != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.verb, out.String(), test.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"other"}, {"up", "now"}, {"image"}, {"image", "a", "b"}, {"image", "a", "--what"}} {
		err := run(context.Background(), args, environment(map[string]string{"HOME": "/home"}), io.Discard, io.Discard)
		if !errors.Is(err, errUsage) {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

func TestLayout(t *testing.T) {
	tests := []struct {
		name         string
		env          map[string]string
		cache, state string
	}{
		{"defaults", map[string]string{"HOME": "/home"}, "/home/.cache/sallyport", "/var/lib/sallyport-cluster"},
		{"XDG", map[string]string{"HOME": "/home", "XDG_CACHE_HOME": "/xdg"}, "/xdg/sallyport", "/var/lib/sallyport-cluster"},
		{"explicit", map[string]string{"SALLYPORT_CACHE": "/c", "SALLYPORT_CLUSTER_DIR": "/s"}, "/c", "/s"},
	}
	for _, test := range tests {
		got, err := layout(environment(test.env))
		if err != nil || got.Cache != test.cache || got.State != test.state {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	if _, err := layout(environment(nil)); err == nil {
		t.Error("an environment without a home is accepted")
	}
}

func TestImageTakesItsNameBeforeOrAfterTheFlags(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	at := strings.TrimPrefix(server.URL, "http://")
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment(map[string]string{"HOME": "/home", "IMAGE_REGISTRY": at})
	var outputs []string
	for _, args := range [][]string{{"image", "name:tag", "--binary", program}, {"image", "--binary", program, "name:tag"}} {
		var out bytes.Buffer
		if err := run(context.Background(), args, env, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, out.String())
	}
	if outputs[0] != outputs[1] {
		t.Errorf("%q and %q", outputs[0], outputs[1])
	}
	if !regexp.MustCompile(`^` + regexp.QuoteMeta(at) + `/name@sha256:[0-9a-f]{64}\n$`).MatchString(outputs[0]) {
		t.Errorf("printed %q", outputs[0])
	}
}
