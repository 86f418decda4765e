package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func group(t *testing.T) Group {
	t.Helper()
	g := Group{Records: t.TempDir(), Logs: t.TempDir()}
	t.Cleanup(func() {
		if names, err := g.Names(); err == nil {
			for _, name := range names {
				g.Stop(name, time.Second)
			}
		}
	})
	return g
}

// sleeper says so and then only waits to be ended.
func sleeper(g Group) Spec {
	return Spec{
		Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "echo up; exec sleep 1000"}, Timeout: 20 * time.Second,
		Ready: func(context.Context) error {
			if content, err := os.ReadFile(g.LogFile("sleeper")); err != nil || !bytes.Contains(content, []byte("up")) {
				return errors.New("it has not said that it is up")
			}
			return nil
		},
	}
}

func TestEnsureStartsOnceAndAgainWhenAskedForDifferently(t *testing.T) {
	g := group(t)
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := sleeper(g)
	spec.Files = []string{config}
	ensure := func(want bool) int {
		t.Helper()
		started, err := g.Ensure(context.Background(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if started != want {
			t.Errorf("started: %v, want %v", started, want)
		}
		pid, ok := g.Running(spec.Name)
		if !ok {
			t.Fatal("it does not run")
		}
		return pid
	}
	first := ensure(true)
	if second := ensure(false); second != first {
		t.Errorf("the second call runs %d instead of %d", second, first)
	}
	if err := os.WriteFile(config, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third := ensure(true); third == first {
		t.Error("a change of the configuration did not start it anew")
	}
	if err := g.Stop(spec.Name, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, ok := g.Running(spec.Name); ok {
		t.Error("it runs after Stop")
	}
	if err := g.Stop(spec.Name, time.Second); err != nil {
		t.Errorf("stopping what does not run: %v", err)
	}
}

func TestAFailedStartNamesTheProgramAndShowsItsLog(t *testing.T) {
	g := group(t)
	never := func(context.Context) error { return errors.New("never") }
	_, err := g.Ensure(context.Background(), Spec{
		Name: "broken", Path: "/bin/sh", Args: []string{"-c", "echo no such thing >&2; exit 3"}, Ready: never, Timeout: time.Minute,
	})
	var start *StartError
	if !errors.As(err, &start) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"broken", "exit status 3", "no such thing"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing from: %v", part, err)
		}
	}
}

func TestARecordOfAnotherProcessIsNotBelieved(t *testing.T) {
	g := group(t)
	// This test's own process, but with a start time that is not its own.
	if err := os.WriteFile(filepath.Join(g.Records, "x.json"), []byte(`{"pid":`+strings.TrimSpace(selfPID(t))+`,"started":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := g.Running("x"); ok {
		t.Error("a process with the same id passes for the program")
	}
	if err := g.Stop("x", time.Second); err != nil {
		t.Error(err)
	}
}

func selfPID(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestKillTreesTakesChildrenToo(t *testing.T) {
	g := group(t)
	marker := filepath.Join(t.TempDir(), "marker")
	program := filepath.Join(t.TempDir(), "sallyport-test-shim")
	if err := os.Symlink("/bin/sh", program); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "child")
	spec := Spec{
		Name: "tree", Path: program, Args: []string{"-c", "sleep 1000 & echo $! > " + pidFile + "; wait", marker}, Timeout: 20 * time.Second,
		Ready: func(context.Context) error {
			if content, err := os.ReadFile(pidFile); err != nil || len(content) == 0 {
				return errors.New("no child yet")
			}
			return nil
		},
	}
	if _, err := g.Ensure(context.Background(), spec); err != nil {
		t.Fatal(err)
	}
	if killed, err := KillTrees("sallyport-test-shim", marker+"x"); err != nil || killed != 0 {
		t.Errorf("another argument killed %d: %v", killed, err)
	}
	if killed, err := KillTrees("sallyport-test-shim", marker); err != nil || killed != 2 {
		t.Errorf("killed %d processes, want 2: %v", killed, err)
	}
}

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, line string
		want       procStat
		fails      bool
	}{
		{"plain", "7 (sh) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1", procStat{"S", 1, 4242}, false},
		{"a name with blanks and parentheses", "7 (a) b (c)) Z 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 99 1 1", procStat{"Z", 3, 99}, false},
		{"cut off", "7 (sh) S 1 7", procStat{}, true},
		{"empty", "", procStat{}, true},
		{"no number", "7 (sh) S x 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1", procStat{}, true},
	}
	for _, test := range tests {
		got, err := parseStat([]byte(test.line))
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: got %+v, %v", test.name, got, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (sh) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1"))
	f.Add([]byte(")"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		if stat, err := parseStat(content); err == nil && stat.state == "" {
			t.Error("a status without a state is accepted")
		}
	})
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(file, 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
	if got := Tail(file, 9); got != "a\nb\nc" {
		t.Errorf("got %q", got)
	}
	if got := Tail(file+"x", 9); !strings.Contains(got, "no such file") {
		t.Errorf("got %q", got)
	}
}
