package telemetry_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sallyport.dev/sallyport/pkg/telemetry"
)

// gated takes writes when it is told to.
type gated struct {
	begun, goOn chan struct{}
	got         bytes.Buffer
	writes      int
	err         error
}

func (g *gated) Write(b []byte) (int, error) {
	g.begun <- struct{}{}
	<-g.goOn
	g.writes++
	n, _ := g.got.Write(b)
	return n, g.err
}

// Whoever writes does not wait for the writer behind; what comes meanwhile goes in one write.
func TestLines(t *testing.T) {
	out := &gated{begun: make(chan struct{}), goOn: make(chan struct{})}
	l := telemetry.NewLines(out)
	if n, err := l.Write([]byte("0\n")); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	<-out.begun
	want := "0\n"
	for i := range 100 {
		line := fmt.Sprintln(i + 1)
		want += line
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	out.goOn <- struct{}{}
	<-out.begun
	synced := make(chan error)
	go func() { synced <- l.Sync() }()
	select {
	case <-synced:
		t.Error("synced before all was out")
	default:
	}
	out.goOn <- struct{}{}
	if err := <-synced; err != nil {
		t.Error(err)
	}
	if out.got.String() != want || out.writes != 2 {
		t.Errorf("%d writes: %q", out.writes, out.got.String())
	}
	if err := l.Sync(); err != nil {
		t.Error(err)
	}
}

// No line is left out, mixed with another or out of its writer's order, and not more is kept than there may be.
func TestLinesOfMany(t *testing.T) {
	var out bytes.Buffer
	l := telemetry.NewLines(&out)
	const writers, each = 8, 100
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if _, err := fmt.Fprintf(l, "%d %d %s\n", w, i, strings.Repeat("x", 2000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	next := [writers]int{}
	for line := range strings.Lines(out.String()) {
		var w, i int
		var rest string
		if _, err := fmt.Sscanf(line, "%d %d %s", &w, &i, &rest); err != nil || i != next[w] || len(rest) != 2000 {
			t.Fatalf("%v: %.40q, want line %d", err, line, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("%d lines of writer %d", n, w)
		}
	}
}

// A writer behind that does not go on holds up those who write, and nothing is dropped.
func TestLinesWaitForRoom(t *testing.T) {
	out := &gated{begun: make(chan struct{}), goOn: make(chan struct{})}
	l := telemetry.NewLines(out)
	full := bytes.Repeat([]byte("y"), 1<<20+1)
	write := func(b []byte) {
		if _, err := l.Write(b); err != nil {
			t.Error(err)
		}
	}
	write(full)
	<-out.begun
	write(full)
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		write([]byte("z"))
	}()
	out.goOn <- struct{}{}
	<-out.begun // the second is being written: there is room
	<-waited
	out.goOn <- struct{}{}
	<-out.begun
	out.goOn <- struct{}{}
	if err := l.Sync(); err != nil {
		t.Error(err)
	}
	if n := out.got.Len(); n != 2*len(full)+1 || out.writes != 3 {
		t.Errorf("%d bytes in %d writes", n, out.writes)
	}
}

// A failure is told to whoever writes or syncs next, once.
func TestLinesTellOfErrors(t *testing.T) {
	out := &gated{begun: make(chan struct{}, 9), goOn: make(chan struct{}, 9), err: errors.New("the disk is full")}
	for range 9 {
		out.goOn <- struct{}{}
	}
	l := telemetry.NewLines(out)
	if _, err := l.Write([]byte("a\n")); err != nil {
		t.Error(err)
	}
	if err := l.Sync(); !errors.Is(err, out.err) {
		t.Errorf("sync: %v", err)
	}
	if err := l.Sync(); err != nil {
		t.Errorf("told twice: %v", err)
	}
}
