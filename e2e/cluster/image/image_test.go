package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func binary(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func entries(t *testing.T, img v1.Image) map[string]int64 {
	t.Helper()
	modes := map[string]int64{}
	layer := mutate.Extract(img)
	defer layer.Close()
	for r := tar.NewReader(layer); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return modes
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[strings.TrimSuffix(header.Name, "/")] = header.Mode
	}
}

func TestImageHoldsWhatIsAskedFor(t *testing.T) {
	one, two := binary(t, "one", "1"), binary(t, "two", "2")
	img, err := Build(Spec{Binaries: []string{one, two}, Entrypoint: "/two", User: "2113"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := entries(t, img), map[string]int64{"tmp": 0o1777, "one": 0o755, "two": 0o755}; !reflect.DeepEqual(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(file.Config.Entrypoint, []string{"/two"}) || file.Config.User != "2113" || file.OS != "linux" {
		t.Errorf("config %+v", file)
	}
}

func TestDigestDependsOnContentAlone(t *testing.T) {
	digest := func(file string) v1.Hash {
		img, err := Build(Spec{Binaries: []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		hash, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	first, second := binary(t, "prog", "same"), binary(t, "prog", "same")
	if err := os.Chtimes(second, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if a, b := digest(first), digest(second); a != b {
		t.Errorf("the same content has digests %s and %s", a, b)
	}
	if a, b := digest(first), digest(binary(t, "prog", "other")); a == b {
		t.Error("different content has the same digest")
	}
}

func TestBuildRefuses(t *testing.T) {
	one := binary(t, "one", "1")
	for name, spec := range map[string]Spec{
		"no binary":                          {},
		"a binary that is not there":         {Binaries: []string{one + "x"}},
		"two binaries of one name":           {Binaries: []string{one, binary(t, "one", "2")}},
		"an entrypoint that is not in there": {Binaries: []string{one}, Entrypoint: "/other"},
	} {
		if _, err := Build(spec); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestPushToALoopbackRegistryOverPlainHTTP(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	img, err := Build(Spec{Binaries: []string{binary(t, "prog", "content")}})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(server.URL, "http://")
	ref, err := Push(context.Background(), img, at+"/prog:dev")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := crane.Digest(at + "/prog:dev")
	if err != nil {
		t.Fatal(err)
	}
	if want := at + "/prog@" + digest; ref != want {
		t.Errorf("pushed as %s, want %s", ref, want)
	}
}
