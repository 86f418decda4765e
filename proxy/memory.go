package proxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"sallyport.dev/sallyport/pkg/llm"
)

// Limits bound what the proxy keeps in memory. A field that is not positive takes its default.
type Limits struct {
	// Memory is how many bytes of requests, messages and held responses all calls may keep together, as they are sent. Decoding them takes some
	// more for as long as a call is judged. A call that needs more than is left waits for it, as long as its body may take to arrive, and is then
	// refused with 503. Default 128 MiB.
	Memory int64
	// HeldToolCalls is how many bytes of a stream may be held until a tool call is complete; at more the stream is ended with a refusal. Default 1 MiB.
	// As many bytes of each tool call's arguments are shown to the policy.
	HeldToolCalls int
	// HeldResponse is how large a response may be that is held whole, and a frame of one that is read frame by frame; more is refused. Default 16 MiB.
	HeldResponse int
}

func (l Limits) withDefaults() Limits {
	return l.or(Limits{Memory: 128 << 20, HeldToolCalls: 1 << 20, HeldResponse: 16 << 20})
}

// or is l with others where it has none.
func (l Limits) or(others Limits) Limits {
	return Limits{
		Memory:        cmp.Or(max(l.Memory, 0), others.Memory),
		HeldToolCalls: cmp.Or(max(l.HeldToolCalls, 0), others.HeldToolCalls),
		HeldResponse:  cmp.Or(max(l.HeldResponse, 0), others.HeldResponse),
	}
}

// FindingMemory says that there was no memory to judge a request in. No setting relaxes it.
const FindingMemory llm.FindingCode = "memory"

// errNoMemory says that other calls have what a call needs. It may have it later.
var errNoMemory = errors.New("no memory is left for the call")

// retryAfter is what a caller is told that may have memory later, in seconds.
const retryAfter = "1"

// budget is the memory that all calls share.
type budget struct {
	size int64
	sem  *semaphore.Weighted
}

func newBudget(size int64) *budget { return &budget{size, semaphore.NewWeighted(size)} }

// share is one call's part of a budget. It is used by one goroutine at a time.
type share struct {
	of   *budget
	size int64
}

// wait waits for a first part, until ctx is done. A call waits while it has nothing, so that no two wait for each other.
func (s *share) wait(ctx context.Context, n int64) error {
	if s.of.sem.Acquire(ctx, n) != nil {
		return errNoMemory
	}
	s.size += n
	return nil
}

// grow takes more at once, or not at all.
func (s *share) grow(n int64) bool {
	if !s.of.sem.TryAcquire(n) {
		return false
	}
	s.size += n
	return true
}

// cover sees to it that the share is n at least. It grows in steps, so that it is seldom asked for more.
func (s *share) cover(n int) bool {
	const step = 64 << 10
	missing := int64(n) - s.size
	return missing <= 0 || s.grow((missing+step-1)/step*step) || s.grow(missing)
}

// release gives everything back. It may be called again.
func (s *share) release() {
	s.of.sem.Release(s.size)
	s.size = 0
}

// inOneWrite is the largest body that is given to the transport as a reader that it knows not to block: it sends such a body with the head, in one
// TLS record and one system call. (e2e/bench: 8 µs of a call of a kilobyte.) It is what the transport's buffer holds.
const inOneWrite = 4 << 10

// payload is a request's body with its share of the memory. It lets go of both as soon as the body was sent and the response has begun: a stream
// that goes on for minutes holds nothing of its request. Of a body that goes in one write nobody says when it was sent; it is held until the call ends.
type payload struct {
	mu    sync.Mutex
	bytes []byte
	share share
	edit  bool // bytes are not those that came
	sent  bool // the transport has read the body, or there is none
	begun bool // the response has begun: the body is not sent again
}

// replace puts an edited body in the place of the one that came.
func (p *payload) replace(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes, p.edit = b, true
}

// attach makes the payload the body of a request, with the trailers that came after it. Those of a body that was edited stay behind: what they say of
// it, such as a digest, is no longer so.
func (p *payload) attach(r *http.Request, trailer http.Header) {
	r.ContentLength = int64(len(p.bytes))
	switch {
	case len(trailer) > 0 && !p.edit:
		r.Trailer, r.ContentLength = trailer, -1 // HTTP/1 has trailers only after chunks
	case len(p.bytes) == 0:
		r.Body, r.GetBody, p.sent = nil, nil, true
		return
	}
	r.Body = p.reader()
	// A connection that the provider closed before it read anything may be replaced by another.
	r.GetBody = func() (io.ReadCloser, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.bytes == nil {
			return nil, errors.New("the body is gone")
		}
		p.sent = false
		return p.reader(), nil
	}
}

func (p *payload) reader() io.ReadCloser {
	if len(p.bytes) <= inOneWrite {
		return io.NopCloser(bytes.NewReader(p.bytes))
	}
	return &sending{of: p, rest: p.bytes}
}

// responded notes that the response has begun.
func (p *payload) responded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	p.drop()
}

// drop lets go where nobody needs the body any more.
func (p *payload) drop() {
	if p.begun && p.sent {
		p.bytes = nil
		p.share.release()
	}
}

// end lets go whatever happened.
func (p *payload) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.sent = true, true
	p.drop()
}

// sending reads a payload once. The transport closes it, at whatever time: that of HTTP/2 only when the response has ended.
type sending struct {
	of   *payload
	mu   sync.Mutex
	rest []byte
	once sync.Once
}

func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	left := len(s.rest)
	s.mu.Unlock()
	if left == 0 {
		s.over()
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close is part of io.Closer.
func (s *sending) Close() error {
	s.mu.Lock()
	s.rest = nil
	s.mu.Unlock()
	s.over()
	return nil
}

// over notes that nothing more is read.
func (s *sending) over() {
	s.once.Do(func() {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.sent = true
		s.of.drop()
	})
}

// errOversize says that a body is larger than it may be.
var errOversize = errors.New("the body is too large")

// firstPart is how much memory a body of unknown length begins with.
const firstPart = 16 << 10

// readBody reads the whole body up to the limit into memory that it has a share of. The caller ends the payload.
func (c *call) readBody() (*payload, error) {
	p := &payload{share: share{of: c.view.memory}}
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return p, nil
	}
	most := min(c.view.maxBytes, c.view.memory.size)
	if c.r.ContentLength > most {
		return p, errOversize
	}
	deadline := c.p.now().Add(c.view.timeouts.RequestBody)
	room := c.r.ContentLength
	if room < 0 {
		room = min(firstPart, most)
	}
	if !p.share.grow(room) { // which does not overtake calls that wait
		if err := c.awaitMemory(p, room); err != nil {
			return p, err
		}
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(deadline)
	// One byte more than there may be, so that the end is seen without growing.
	buf := make([]byte, 0, room+1)
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) > most {
				return p, errOversize
			}
			room := min(int64(2*cap(buf)), most)
			if !p.share.grow(room - p.share.size) {
				return p, errNoMemory
			}
			buf = append(make([]byte, 0, room+1), buf...)
		}
		n, err := c.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return p, err
		}
	}
	if int64(len(buf)) > most {
		return p, errOversize
	}
	_ = rc.SetReadDeadline(time.Time{})
	p.bytes = buf
	return p, nil
}

// awaitMemory waits for the first part of a body's memory, as long as the body may take to arrive.
func (c *call) awaitMemory(p *payload, room int64) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.view.timeouts.RequestBody)
	defer cancel()
	if err := p.share.wait(ctx, room); err != nil {
		if gone := c.r.Context().Err(); gone != nil {
			return gone
		}
		return err
	}
	return nil
}
