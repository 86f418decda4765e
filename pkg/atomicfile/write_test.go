package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sallyport.dev/sallyport/pkg/atomicfile"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, c := range []struct {
		mode    fs.FileMode
		content string
	}{{0o600, "a long first content"}, {0o644, "short"}, {0o600, ""}} {
		if err := atomicfile.Write(path, c.mode, []byte(c.content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.content {
			t.Errorf("%q, %v; want %q", got, err, c.content)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != c.mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, c.mode)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files in the directory, %v; want one", len(left), err)
	}
}

// Who holds the old file open goes on reading what it held.
func TestReadersKeepWhatTheyOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := atomicfile.Write(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := atomicfile.Write(path, 0o600, []byte("new")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := f.Read(b); err != nil || string(b[:n]) != "old" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// What cannot be replaced stays, and nothing is left beside it.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "within"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, 0o600, []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || !left[0].IsDir() {
		t.Errorf("%v, %v", left, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "absent", "file"), 0o600, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
