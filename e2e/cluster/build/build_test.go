package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source copies the committed component modules, so that a test may change them.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../components")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func edit(t *testing.T, file, old, new string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, []byte(old)) {
		t.Fatalf("%s does not hold %q", file, old)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(content, []byte(old), []byte(new)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func component(t *testing.T, name string) Component {
	t.Helper()
	for _, c := range Components() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no component %s", name)
	return Component{}
}

func TestKeyChangesWithWhatABuildDependsOn(t *testing.T) {
	tests := []struct {
		name      string
		component string
		goVersion string
		change    func(t *testing.T, dir string)
		rebuilds  bool
	}{
		{"nothing changes", "etcd", "go1.26.8", func(*testing.T, string) {}, false},
		{"a version in go.mod", "etcd", "go1.26.8", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "go.mod"), "go.etcd.io/etcd/server/v3 v3.7.3", "go.etcd.io/etcd/server/v3 v3.7.4")
		}, true},
		{"a sum in go.sum", "etcd", "go1.26.8", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "go.sum"), "h1:", "h1:x")
		}, true},
		{"its main", "pause", "go1.26.8", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "main.go"), "package main", "package main // changed")
		}, true},
		{"a file that is no part of the build", "pause", "go1.26.8", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("text"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the Go release", "pause", "go1.26.9", func(*testing.T, string) {}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := source(t)
			b, c := Builder{Source: dir}, component(t, test.component)
			_, before, err := b.key(c, "go1.26.8")
			if err != nil {
				t.Fatal(err)
			}
			test.change(t, filepath.Join(dir, c.Name))
			_, after, err := b.key(c, test.goVersion)
			if err != nil {
				t.Fatal(err)
			}
			if (before != after) != test.rebuilds {
				t.Errorf("key %s became %s, want a rebuild: %v", before, after, test.rebuilds)
			}
		})
	}
}

func TestVersionsAreThoseOfTheModules(t *testing.T) {
	b := Builder{Source: "../components"}
	for _, c := range Components() {
		version, _, err := b.key(c, "go1.26.8")
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if c.Module == "" {
			if version != "own" {
				t.Errorf("%s has version %s", c.Name, version)
			}
			continue
		}
		if version == "" || strings.HasPrefix(version, "v") {
			t.Errorf("%s has version %q", c.Name, version)
		}
	}
}

func TestKeyNeedsTheRequirement(t *testing.T) {
	dir := source(t)
	edit(t, filepath.Join(dir, "etcd", "go.mod"), "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/other")
	if _, _, err := (Builder{Source: dir}).key(component(t, "etcd"), "go1.26.8"); err == nil {
		t.Error("a module without its requirement has a key")
	}
}

func TestLdflagsStampTheVersion(t *testing.T) {
	got := ldflags(Component{Stamp: "example.com/version"}, "1.37.2")
	want := "-s -w -X example.com/version.gitVersion=v1.37.2 -X example.com/version.gitMajor=1 -X example.com/version.gitMinor=37 -X example.com/version.gitTreeState=clean"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := ldflags(Component{}, "own"); got != "-s -w" {
		t.Errorf("without a stamp: %s", got)
	}
}

func TestBuildLeavesNothingWholeBehindWhenItFails(t *testing.T) {
	src, cache := source(t), t.TempDir()
	edit(t, filepath.Join(src, "pause", "main.go"), "func main() {", "func main() { undefined()")
	b := Builder{Source: src, Cache: cache, Log: &bytes.Buffer{}}
	dir, done := filepath.Join(cache, "pause-own-x"), 0
	err := b.build(context.Background(), component(t, "pause"), dir, "own", &done, 1)
	if err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("the compiler's message is missing: %v", err)
	}
	if exists(dir) {
		t.Error("a failed build left a cache entry")
	}

	edit(t, filepath.Join(src, "pause", "main.go"), "func main() { undefined()", "func main() {")
	if err := b.build(context.Background(), component(t, "pause"), dir, "own", &done, 1); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "pause")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("no program after a good build: %v %v", info, err)
	}
}

func TestLockIsHeldByOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(file, func() { t.Error("the first had to wait") })
	if err != nil {
		t.Fatal(err)
	}
	waiting, second := make(chan struct{}), make(chan error)
	go func() {
		unlock, err := Lock(file, func() { close(waiting) })
		if err == nil {
			unlock()
		}
		second <- err
	}()
	<-waiting
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}
