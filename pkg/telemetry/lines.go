package telemetry

import (
	"errors"
	"io"
	"runtime"
	"sync"
)

// Lines is where a logger writes to whose lines are many: it takes them at once and hands them on from a goroutine of its own, those of a busy moment in one
// write. (e2e/bench: a system call a line was an eighth of what the gate costs.) Lines keep their order and none is left out: whoever writes waits while more than
// a mebibyte is pending. A process that is killed loses what is pending, which is what was written since other goroutines last let this one run.
//
// It is a zapcore.WriteSyncer and safe for concurrent use. Whoever ends the process calls Sync first; zap does where it ends it.
type Lines struct {
	out io.Writer

	mu      sync.Mutex
	changed sync.Cond // writing has ended, or there is room
	pending []byte
	spare   []byte // the other buffer, while it is not being written
	writing bool
	err     error // of writes, for the next caller to be told
}

// mostPending is how many bytes may wait to be written; a line is not cut for it.
const mostPending = 1 << 20

// NewLines returns Lines that end up in out, which is written to by one goroutine at a time.
func NewLines(out io.Writer) *Lines {
	l := &Lines{out: out}
	l.changed.L = &l.mu
	return l
}

// Write takes a line, or several. The error, if any, is that of an earlier write.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > mostPending {
		l.changed.Wait()
	}
	l.pending = append(l.pending, b...)
	if !l.writing {
		l.writing = true
		go l.write()
	}
	return len(b), l.told()
}

// Sync waits until all that was written before is out.
func (l *Lines) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing {
		l.changed.Wait()
	}
	return l.told()
}

func (l *Lines) told() error {
	err := l.err
	l.err = nil
	return err
}

// write writes until nothing is pending.
func (l *Lines) write() {
	runtime.Gosched() // calls that can go on do so first, and their lines go with this one
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > 0 {
		b := l.pending
		l.pending, l.spare = l.spare, nil
		l.mu.Unlock()
		_, err := l.out.Write(b)
		l.mu.Lock()
		l.err = errors.Join(l.err, err)
		if cap(b) <= mostKept {
			l.spare = b[:0]
		}
		l.changed.Broadcast()
	}
	l.writing = false
	l.changed.Broadcast()
}
