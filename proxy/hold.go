package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
	"sallyport.dev/sallyport/pkg/llm/framing"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
)

// The rules by which a response is withheld that cannot be judged. No setting relaxes them.
const (
	ruleHeldTooLarge = "PROXY-HELD-TOO-LARGE"
	ruleHeldMemory   = "PROXY-MEMORY"
	ruleHeldCoding   = "PROXY-RESPONSE-CODING"
	ruleTooManyCalls = "PROXY-TOO-MANY-TOOL-CALLS"
)

// mostToolCalls is how many tool calls a response may ask for where they are judged: a watcher keeps no more.
const mostToolCalls = 256

// errCut says that a response was ended or withheld, and that the caller was told.
var errCut = errors.New("the response was withheld")

// screen decides what of a response may be passed on, frame by frame:
//
//	cut              a frame is passed on unless the response is denied with it
//	hold-tool-calls  the same; but from the frame in which a tool call begins, frames are held until all calls that have begun are complete
//	hold-all         frames are held until the end; of a WebSocket, those of a response until the end of that
//
// The response is judged whenever something new is known of it that the policy sees: who answers, a tool call that is complete, why it ends. It is used
// by one goroutine.
type screen struct {
	mode  policy.ResponseMode
	judge func(llm.Reply) gate.ResponseVerdict
	// withhold denies without asking.
	withhold func(rule, message string) gate.ResponseVerdict
	most     int // bytes held in hold-tool-calls

	// steps and seen have read all frames; steps keeps no arguments, so that asking it after each frame costs little. passed has read
	// those that were passed on, so that it knows how to end them.
	steps, seen, passed llm.Watcher

	// A WebSocket goes on after its responses: from time to time renew forgets tool calls that are done with; before counts them.
	endless bool
	renew   func()
	before  int

	asked   bool
	last    step
	held    []heldFrame
	size    int // bytes of held
	refusal llm.Refusal
}

// heldFrame is a frame as it is on the wire and as the watchers read it.
type heldFrame struct{ wire, text []byte }

// step is what a judgement depends on.
type step struct {
	model, finish string
	complete      int
}

func newScreen(mode policy.ResponseMode, row *llm.Row, o llm.WatchOptions, limits Limits) *screen {
	s := &screen{mode: mode, most: limits.HeldToolCalls, endless: o.Framing == llm.FramingWebSocket}
	s.renew = func() {
		seen, o := o, o
		seen.Arguments = limits.HeldToolCalls
		o.Answered = nil // one tells it
		s.steps, s.passed, s.seen = row.Watch(o), row.Watch(o), row.Watch(seen)
		s.asked, s.last = false, step{}
	}
	s.renew()
	return s
}

// frame takes the next frame, as it is on the wire and as the watchers read it, and appends what may be passed on to dst. ok is false at a
// violation: refusal is what to tell the caller then.
func (s *screen) frame(dst, wire, text []byte) (out []byte, ok bool) {
	s.steps.Write(text)
	s.seen.Write(text)
	if s.mode == policy.ResponseHoldAll {
		if turns, ok := s.steps.(llm.TurnWatcher); !s.endless || !ok || turns.InTurn() {
			s.hold(wire, text)
			return dst, true
		}
		return s.turn(dst, wire, text)
	}
	now, open, calls := s.step()
	switch {
	case calls >= mostToolCalls:
		return dst, s.deny(s.withhold(ruleTooManyCalls, fmt.Sprintf("The response asks for more than %d tools.", mostToolCalls-1)))
	case open && s.mode != policy.ResponseCut:
		s.hold(wire, text)
		if s.size > s.most {
			return dst, s.deny(s.withhold(ruleHeldTooLarge, fmt.Sprintf("A tool call of the response is longer than the %d bytes that are held.", s.most)))
		}
		return dst, true
	case now != s.last || !s.asked:
		s.last = now
		if !s.ask(false) {
			return dst, false
		}
	}
	return s.release(dst, wire, text, !open && calls >= mostToolCalls/2), true
}

// turn takes a message that is no part of a response, or the last of one: then all of it is judged.
func (s *screen) turn(dst, wire, text []byte) (out []byte, ok bool) {
	now, _, calls := s.step()
	switch {
	case calls >= mostToolCalls:
		return dst, s.deny(s.withhold(ruleTooManyCalls, fmt.Sprintf("The response asks for more than %d tools.", mostToolCalls-1)))
	case len(s.held) > 0 || now != s.last || !s.asked:
		s.last = now
		if !s.ask(true) {
			return dst, false
		}
	}
	return s.release(dst, wire, text, calls >= mostToolCalls/2), true
}

// release appends what was held, and a frame. forget says that there are many tool calls, and all are done with.
func (s *screen) release(dst, wire, text []byte, forget bool) []byte {
	dst = s.letGo(dst)
	s.passed.Write(text)
	if s.endless && forget {
		s.before += s.callers()
		s.renew()
	}
	return append(dst, wire...)
}

// end judges what was not yet judged when the response has ended, and appends what was held.
func (s *screen) end(dst []byte) (out []byte, ok bool) {
	now, open, calls := s.step()
	if calls >= mostToolCalls {
		return dst, s.deny(s.withhold(ruleTooManyCalls, fmt.Sprintf("The response asks for more than %d tools.", mostToolCalls-1)))
	}
	if !s.asked || open || now != s.last {
		s.last = now
		if !s.ask(true) { // a call that is not complete may be carried out nevertheless
			return dst, false
		}
	}
	return s.letGo(dst), true
}

// step says where the response is, whether a tool call for the caller is under way, and how many there are.
func (s *screen) step() (now step, open bool, calls int) {
	r := s.steps.Reply()
	now = step{model: r.Model, finish: r.FinishReason}
	for i := range r.ToolCalls {
		switch c := &r.ToolCalls[i]; {
		case c.Done:
			now.complete++
		case !c.ServerSide: // what the provider carries out itself is not kept from it by holding
			open = true
		}
	}
	return now, open, len(r.ToolCalls)
}

// ask has the response judged: the tool calls that are complete, or all.
func (s *screen) ask(all bool) bool {
	s.asked = true
	r := s.seen.Reply()
	if !all {
		r.ToolCalls = slices.DeleteFunc(r.ToolCalls, func(c llm.ToolCall) bool { return !c.Done })
	}
	return s.deny(s.judge(r))
}

// deny notes a refusal, and says whether there is none.
func (s *screen) deny(v gate.ResponseVerdict) bool {
	s.refusal = v.Refusal
	return v.Release
}

func (s *screen) hold(wire, text []byte) {
	f := heldFrame{wire: slices.Clone(wire)}
	if f.text = f.wire; len(text) != len(wire) || len(text) > 0 && &text[0] != &wire[0] {
		f.text = slices.Clone(text)
		s.size += len(text)
	}
	s.size += len(wire)
	s.held = append(s.held, f)
}

// letGo appends what was held.
func (s *screen) letGo(dst []byte) []byte {
	if len(s.held) == 0 {
		return dst
	}
	for _, f := range s.held {
		dst = append(dst, f.wire...)
		s.passed.Write(f.text)
	}
	s.held, s.size = nil, 0
	return dst
}

// heldToolCalls is how many tool calls the caller got, or did not get, only after they were judged.
func (s *screen) heldToolCalls() int {
	if s.mode == policy.ResponseCut {
		return 0
	}
	return s.before + s.callers()
}

// callers is how many tool calls there are for the caller to carry out.
func (s *screen) callers() (n int) {
	for _, c := range s.steps.Reply().ToolCalls {
		if !c.ServerSide {
			n++
		}
	}
	return n
}

// screened is a response that is passed on as far as it is judged.
type screened struct {
	c        *call
	res      *http.Response
	row      *llm.Row
	idle     *time.Timer
	framing  llm.Framing
	screen   *screen
	share    share
	trailers map[string]bool

	mu      sync.Mutex // held to write to the caller, and guards what follows
	begun   bool       // the head is out
	over    bool       // nothing more is written
	holding bool       // frames are held; timer runs
	timer   *time.Timer
	alive   []byte // what keeps the caller waiting; nil where there is no such thing
}

func newScreened(c *call, res *http.Response, idle *time.Timer) *screened {
	s := &screened{c: c, res: res, row: c.verdict.Row, idle: idle, share: share{of: c.view.memory}}
	if s.row == nil {
		s.row = surface.Lookup(c.provider.api, "", "").Row
	}
	return s
}

// end gives back what was taken. Nothing is written to the caller after it.
func (s *screened) end() {
	s.mu.Lock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.share.release()
}

// run passes the response on. It returns errCut where it was ended or withheld.
func (s *screened) run() error {
	c, contentType := s.c, s.res.Header.Get("Content-Type")
	coded := contentCoding(s.res.Header) != ""
	media, _, _ := mime.ParseMediaType(contentType)
	kind, _, _ := strings.Cut(media, "/")
	s.framing = s.row.Framing(contentType)
	if s.res.StatusCode >= http.StatusBadRequest && s.framing == llm.FramingJSONArray {
		s.framing = llm.FramingNone // an error is one object
	}
	if c.verdict.Response != policy.ResponseHoldAll && (kind == "audio" || kind == "video" || kind == "image") {
		// Nothing in it can be judged, and sound is played as it comes.
		s.trailers = c.begin(s.res)
		s.begun = true
		return c.stream(s.res, s.idle)
	}
	s.screen = newScreen(c.verdict.Response, s.row, llm.WatchOptions{ContentType: contentType, Framing: s.framing, Answered: c.verdict.Answered}, c.view.limits)
	s.screen.judge = func(r llm.Reply) gate.ResponseVerdict {
		return c.p.judgeResponse(c.r.Context(), c.verdict, r, s.res.StatusCode)
	}
	s.screen.withhold = func(rule, message string) gate.ResponseVerdict { return withhold(c.verdict, rule, message) }
	c.watch, c.judged = &sideReader{watcher: s.screen.seen}, true
	defer func() { c.verdict.Record.HeldToolCalls = s.screen.heldToolCalls() }()
	if s.framing == llm.FramingNone || coded {
		return s.whole(coded)
	}
	return s.frames()
}

// frames passes the frames of a stream on.
func (s *screened) frames() error {
	s.res.Header.Del("Content-Length") // it may become another
	s.alive = framing.KeepAlive(s.framing)
	if s.screen.mode == policy.ResponseHoldAll {
		s.wait()
	} else if err := s.write(nil, false); err != nil {
		return err
	}
	split := framing.New(s.framing, s.c.view.limits.HeldResponse)
	p, n := newPiece(), 0
	defer p.end()
	var out []byte
	unsplit := 0 // bytes in split that are no whole frame
	for {
		buf := p.next(n)
		var rerr error
		n, rerr = s.res.Body.Read(buf)
		s.idle.Reset(s.c.view.timeouts.Idle)
		split.Write(buf[:n])
		unsplit += n
		out = out[:0]
		for raw, ok := split.Next(); ok; raw, ok = split.Next() {
			unsplit -= len(raw)
			if out, ok = s.screen.frame(out, raw, raw); !ok {
				return s.cut(out)
			}
		}
		if err := split.Err(); err != nil {
			return s.deny(out, ruleHeldTooLarge, "The response cannot be judged: "+err.Error()+".")
		}
		if s.screen.mode == policy.ResponseHoldAll && s.screen.size > s.c.view.limits.HeldResponse {
			return s.deny(out, ruleHeldTooLarge, fmt.Sprintf("The response is longer than the %d bytes that are held.", s.c.view.limits.HeldResponse))
		}
		if !s.share.cover(unsplit + s.screen.size) {
			return s.deny(out, ruleHeldMemory, "No memory is left to hold the response in.")
		}
		if rerr == io.EOF {
			return s.last(out, split.Rest())
		}
		if err := s.write(out, len(s.screen.held) > 0 || s.screen.mode == policy.ResponseHoldAll); err != nil {
			return err
		}
		if rerr != nil {
			return rerr
		}
	}
}

// last passes on what is left when the stream has ended: a frame that lacks its end, which some clients read nevertheless, and what was held.
func (s *screened) last(out, rest []byte) error {
	var ok bool
	if len(rest) > 0 {
		text := slices.Clone(rest)
		switch s.framing {
		case llm.FramingSSE:
			text = append(text, "\n\n"...)
		case llm.FramingNDJSON:
			text = append(text, '\n')
		case llm.FramingEventStream:
			return io.ErrUnexpectedEOF
		}
		if out, ok = s.screen.frame(out, rest, text); !ok {
			return s.cut(out)
		}
	}
	if out, ok = s.screen.end(out); !ok {
		return s.cut(out)
	}
	return s.write(out, false)
}

// whole holds a response until it was read and judged: one that is no stream, or one that was compressed though we asked for it not to be.
func (s *screened) whole(coded bool) error {
	limit := s.c.view.limits.HeldResponse
	tooLarge := fmt.Sprintf("The response is longer than the %d bytes that are held.", limit)
	if s.res.ContentLength > int64(limit) {
		return s.deny(nil, ruleHeldTooLarge, tooLarge)
	}
	var body []byte
	if n := s.res.ContentLength; n > 0 {
		if !s.share.cover(int(n)) {
			return s.deny(nil, ruleHeldMemory, "No memory is left to hold the response in.")
		}
		body = make([]byte, 0, n+1)
	}
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, max(4<<10, len(body)))
			if !s.share.cover(cap(body)) {
				return s.deny(nil, ruleHeldMemory, "No memory is left to hold the response in.")
			}
		}
		n, err := s.res.Body.Read(body[len(body):cap(body)])
		s.idle.Reset(s.c.view.timeouts.Idle)
		body = body[:len(body)+n]
		if len(body) > limit {
			return s.deny(nil, ruleHeldTooLarge, tooLarge)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	plain := body
	if coded {
		var findings []llm.Finding
		plain, findings = coding.Decode(contentCoding(s.res.Header), body, coding.Limits{MaxBytes: int64(limit)})
		if len(findings) > 0 {
			return s.deny(nil, ruleHeldCoding, "The response is compressed in a way that cannot be read.")
		}
	}
	s.screen.steps.Write(plain)
	s.screen.seen.Write(plain)
	if _, ok := s.screen.end(nil); !ok {
		return s.cut(nil)
	}
	return s.write(body, false)
}

// deny withholds the response without asking the policy.
func (s *screened) deny(out []byte, rule, message string) error {
	s.screen.deny(withhold(s.c.verdict, rule, message))
	return s.cut(out)
}

// cut tells the caller of the refusal after what was passed on, of which out is the last: by an answer where nothing was, else by what ends the
// stream, and where it has no such thing, by breaking off.
func (s *screened) cut(out []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if !s.begun && len(out) == 0 {
		s.c.answer(s.row.Refuse(s.screen.refusal))
		return errCut
	}
	end := framing.End(s.framing, s.screen.passed.End(s.screen.refusal), s.c.verdict.Record.ResponseBytes+int64(len(out)) > 0)
	if len(end) == 0 {
		s.c.verdict.Record.ResponseBytes += int64(len(out))
		panic(http.ErrAbortHandler)
	}
	if err := s.put(append(out, end...)); err != nil {
		return err
	}
	return errCut
}

// write passes bytes on, the head before them. holding says whether there is more that is held.
func (s *screened) write(b []byte, holding bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !holding && s.holding:
		s.holding = false
		s.timer.Stop()
	case holding && s.alive != nil && (!s.holding || len(b) > 0):
		s.restart()
	}
	if len(b) == 0 && (holding || s.begun) {
		return nil
	}
	return s.put(b)
}

// wait begins to hold before anything was written.
func (s *screened) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive != nil {
		s.restart()
	}
}

// restart lets the caller wait anew.
func (s *screened) restart() {
	s.holding = true
	if s.timer == nil {
		s.timer = time.AfterFunc(s.c.view.timeouts.Hold, s.keepAlive)
		return
	}
	s.timer.Reset(s.c.view.timeouts.Hold)
}

// put writes to the caller, the head first. mu is held.
func (s *screened) put(b []byte) error {
	if !s.begun {
		s.begun = true
		s.trailers = s.c.begin(s.res)
	}
	if len(b) > 0 {
		if _, err := s.c.w.Write(b); err != nil {
			return fmt.Errorf("%w: %w", context.Canceled, err)
		}
		s.c.verdict.Record.ResponseBytes += int64(len(b))
	}
	if s.res.Header.Get("Content-Length") != "" {
		return nil // it is all there is
	}
	if err := http.NewResponseController(s.c.w).Flush(); err != nil {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return nil
}

// keepAlive sends the caller what keeps it waiting.
func (s *screened) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || !s.holding {
		return
	}
	if s.put(s.alive) == nil { // else the caller is gone, which ends the reading
		s.c.verdict.Record.ResponseBytes -= int64(len(s.alive))
		s.timer.Reset(s.c.view.timeouts.Hold)
	}
}
