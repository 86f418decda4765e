package golden

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// Compare compares a value, as JSON, with a golden file.
func Compare(t *testing.T, file string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if want, same := Text(t, file, b.Bytes()); !same {
		t.Errorf("%s differs; what was read:\n%s\nwhat it has:\n%s", file, b.Bytes(), want)
	}
}

// Text compares a text with a golden file, and returns what that has. With -update it writes the file.
func Text(t *testing.T, file string, text []byte) (want []byte, same bool) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return text, true
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return want, bytes.Equal(text, want)
}

// all returns the contents of a directory's files by name with extension; there must be at least one.
func all(t testing.TB, dir string, patterns []string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, p := range patterns {
		files, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(f)] = b
		}
	}
	if len(out) == 0 {
		t.Fatalf("no files %s in %s", patterns, dir)
	}
	return out
}

// Files returns the contents of files by name without extension.
func Files(t testing.TB, dir, pattern string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for file, text := range all(t, dir, []string{pattern}) {
		out[strings.TrimSuffix(file, filepath.Ext(file))] = text
	}
	return out
}
