package detect

import (
	"fmt"
	"io"
	"time"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
)

// progress tells how far long work has come: to a terminal in one line that changes, elsewhere with a line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	told     time.Time // last; when work began, while nothing was told
	moving   bool      // a line that changes is on the terminal
}

func newProgress(out io.Writer) *progress {
	return &progress{out: out, terminal: record.IsTerminal(out), now: time.Now, told: time.Now()}
}

// How often something is told.
const (
	tellTerminal = 100 * time.Millisecond
	tellLog      = 10 * time.Second
)

// tell says that so much is done, of so much where that is known.
func (p *progress) tell(doing string, done, of int) {
	every := tellLog
	if p.terminal {
		every = tellTerminal
	}
	now := p.now()
	if now.Sub(p.told) < every {
		return
	}
	p.told = now
	line := fmt.Sprintf("%s: %d", doing, done)
	if of > 0 {
		line += fmt.Sprintf(" of %d", of)
	}
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		p.moving = true
	} else {
		fmt.Fprintln(p.out, line)
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.moving {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.moving = false
	}
}
