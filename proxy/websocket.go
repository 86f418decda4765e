package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/surface"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy/websocket"
)

// What the proxy itself objects to about WebSockets. No setting relaxes these.
const (
	FindingUpgrade llm.FindingCode = "upgrade" // a handshake that is none, or at a surface that has no WebSocket
	FindingMessage llm.FindingCode = "message" // a message that cannot be judged: binary, broken, too large
)

const (
	headerExtensions = "Sec-Websocket-Extensions"
	headerProtocol   = "Sec-Websocket-Protocol"
)

// serveWebSocket judges a handshake as a call, passes it on, and from then on judges every message of the caller's.
func (c *call) serveWebSocket() {
	if err := websocket.CheckRequest(c.r); err != nil {
		c.reject(http.StatusBadRequest, FindingUpgrade, "The WebSocket handshake is refused: "+err.Error()+".")
		return
	}
	c.verdict = c.p.judge(c.r.Context(), c.request(nil))
	if c.verdict.Release {
		switch row := c.verdict.Row; {
		case row != nil && row.Surface != llm.SurfaceUnknown && !slices.Contains(row.Streams, llm.FramingWebSocket):
			refuse(c.verdict, "PROXY-UPGRADE", "This surface has no WebSocket; call it by plain HTTP.")
		case c.verdict.Response == policy.ResponseHoldAll && !hasTurns(row):
			refuse(c.verdict, ruleHoldAll, noTurns)
		}
	}
	if !c.verdict.Release {
		c.refuse(0)
		return
	}

	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	offers := websocket.Offers(c.r.Header.Values(headerExtensions))
	c.r.Header = c.r.Header.Clone()
	c.r.Header.Del(headerExtensions)
	if offers != "" {
		c.r.Header.Set(headerExtensions, offers)
	}
	out, err := c.outgoing(ctx, nil)
	if err != nil {
		c.fail(err)
		return
	}
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", "websocket")
	res, err := c.roundTrip(out)
	if err != nil {
		c.fail(err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusSwitchingProtocols {
		c.respond(ctx, cancel, res) // the provider has its reasons
		return
	}
	deflate, err := websocket.Accepted(res.Header.Values(headerExtensions), offers)
	up, ok := res.Body.(io.ReadWriteCloser)
	if err == nil {
		err = websocket.CheckResponse(res, c.r.Header.Get("Sec-Websocket-Key"), websocket.Protocols(out.Header))
	}
	if err == nil && !ok {
		err = errors.New("the connection cannot be written to")
	}
	if err != nil {
		c.fail(err)
		return
	}
	if deflate != nil {
		// A message that is refused is never seen by the provider, so none may refer to one before it. Every client must heed this (RFC 7692, 7.1.1.2).
		deflate.ClientNoTakeover = true
	}
	c.upgrade(res, up, deflate)
}

// ruleHoldAll refuses what cannot be held whole.
const (
	ruleHoldAll = "PROXY-HOLD-ALL"
	noTurns     = "The policy asks to hold whole responses, and what goes over this WebSocket has no end to hold it to; call by plain HTTP."
)

// hasTurns says whether it can be told where the responses of a surface's WebSocket begin and end.
func hasTurns(row *llm.Row) bool {
	if row == nil {
		return false
	}
	_, ok := row.Watch(llm.WatchOptions{Framing: llm.FramingWebSocket}).(llm.TurnWatcher)
	return ok
}

// upgrade takes the caller's connection over, answers its handshake, and relays until both ends are done.
func (c *call) upgrade(res *http.Response, up io.ReadWriteCloser, deflate *websocket.Deflate) {
	caller, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		c.fail(fmt.Errorf("take the connection over: %w", err))
		return
	}
	rec := c.verdict.Record
	rec.Status = res.StatusCode
	c.judged = true // its messages are
	h := http.Header{}
	c.head(h, res)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Del(headerExtensions)
	if deflate != nil {
		h.Set(headerExtensions, deflate.String())
	}
	for name, values := range h {
		if values == nil {
			delete(h, name)
		}
	}

	s := &socket{
		call: c, caller: caller, up: up, most: int(min(c.view.maxBytes, c.view.memory.size)), share: share{of: c.view.memory},
		held: share{of: c.view.memory}, mode: c.verdict.Response, verdict: c.verdict,
		session: gate.NewSession(c.verdict),
	}
	s.fromCaller = websocket.NewReader(buffered.Reader, websocket.Options{Masked: true, Deflate: deflate != nil, MaxMessage: int64(s.most)})
	s.fromUp = websocket.NewReader(bufio.NewReaderSize(up, 16<<10), websocket.Options{Deflate: deflate != nil})
	if deflate != nil {
		s.inflate = websocket.NewInflater(false, s.most)
		s.takeover = !deflate.ServerNoTakeover
		s.inflateUp = websocket.NewInflater(s.takeover, c.view.limits.HeldResponse)
	}
	if c.verdict.Row != nil {
		c.watch = &sideReader{watcher: c.verdict.Row.Watch(llm.WatchOptions{Framing: llm.FramingWebSocket})}
	}
	c.p.mu.Lock()
	c.p.open[caller] = struct{}{}
	c.p.mu.Unlock()
	defer func() {
		c.p.mu.Lock()
		delete(c.p.open, caller)
		c.p.mu.Unlock()
		s.close()
		s.share.release()
		s.held.release()
	}()
	var head strings.Builder
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err = h.Write(&head); err == nil {
		_, err = io.WriteString(caller, head.String()+"\r\n")
	}
	if err != nil {
		rec.UpstreamError = "caller_gone"
		return
	}
	if err := s.relay(); err != nil {
		rec.UpstreamError = classify(err)
	}
	if s.screen != nil {
		rec.HeldToolCalls = s.screen.heldToolCalls()
	}
}

// socket is a WebSocket between a caller and a provider. Messages of the caller's are read whole, judged, and passed on in the frames in which
// they came, with masks of our own; those of the provider's are passed on as they arrive, or as they are judged.
type socket struct {
	call   *call
	caller net.Conn
	up     io.ReadWriteCloser
	closed sync.Once
	idle   *time.Timer
	most   int // bytes of a message

	// Of the goroutine that reads the caller.
	fromCaller *websocket.Reader
	inflate    *websocket.Inflater
	share      share
	session    *gate.Session

	// Of the goroutine that reads the provider.
	fromUp    *websocket.Reader
	inflateUp *websocket.Inflater
	side      []byte // the message that is passed on as it arrives, for the watcher
	takeover  bool   // its messages may refer to those before
	deaf      bool   // the message, and where they refer to it those after it, cannot be read on the side
	held      share
	wire      []byte // the message that is held, as it came
	screen    *screen

	toUp sync.Mutex // held to write to up

	mu     sync.Mutex // held to write to caller, and guards what follows
	within bool       // the provider's message has begun and not ended at the caller
	queue  [][]byte   // whole messages of our own that wait for its end
	ended  bool       // a close frame was sent to the caller: nothing follows
	hungUp bool       // it was one of ours: nothing that the caller says is passed on

	pinging bool // messages are held; ping runs
	ping    *time.Timer

	state   sync.Mutex // guards what follows
	mode    policy.ResponseMode
	verdict *gate.Verdict // that the provider's messages answer
}

// close ends both connections.
func (s *socket) close() {
	s.closed.Do(func() {
		_ = s.caller.Close()
		_ = s.up.Close()
	})
}

// errClosed says that a direction ended with a close frame.
var errClosed = errors.New("closed")

// relay passes both ways until both have ended.
func (s *socket) relay() error {
	expired := make(chan struct{})
	once := sync.OnceFunc(func() { close(expired) })
	s.idle = time.AfterFunc(s.call.view.timeouts.Idle, func() {
		once()
		s.close()
	})
	defer s.idle.Stop()
	ends := make(chan error, 2)
	go func() { ends <- s.callerToProvider() }()
	go func() { ends <- s.providerToCaller() }()
	first := <-ends
	if errors.Is(first, errClosed) {
		// The other end may still answer the close frame, and have something to say before.
		t := time.AfterFunc(s.call.p.timeouts.Close, s.close)
		defer t.Stop()
	} else {
		s.close()
	}
	second := <-ends
	s.close()
	s.waiting(false)
	select {
	case <-expired:
		return errIdle
	default:
	}
	if errors.Is(first, errClosed) || errors.Is(second, errClosed) {
		return nil
	}
	return first
}

// moved notes that the connection is in use.
func (s *socket) moved() { s.idle.Reset(s.call.view.timeouts.Idle) }

// fresh is a frame's mask.
func fresh() *[4]byte {
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	return &key
}

// send writes frames to the provider.
func (s *socket) send(frames []byte) error {
	s.toUp.Lock()
	defer s.toUp.Unlock()
	_, err := s.up.Write(frames)
	return err
}

// say writes a message of our own to the caller as soon as the provider's own is over.
func (s *socket) say(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	if s.within {
		if len(s.queue) >= 64 {
			return errors.New("the provider's message does not end")
		}
		s.queue = append(s.queue, frame)
		return nil
	}
	return s.write(frame)
}

// write writes to the caller. mu is held.
func (s *socket) write(b []byte) error {
	if _, err := s.caller.Write(b); err != nil {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return nil
}

// pass writes frames of the provider's, or a part of one, to the caller. within says whether its message goes on after them.
func (s *socket) pass(b []byte, within bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errClosed
	}
	if err := s.write(b); err != nil {
		return err
	}
	s.call.verdict.Record.ResponseBytes += int64(len(b))
	s.within = within
	for ; !within && len(s.queue) > 0; s.queue = s.queue[1:] {
		if err := s.write(s.queue[0]); err != nil {
			return err
		}
	}
	return nil
}

// hangUp ends the connection for a reason of ours: last and a close frame to the caller, unless it has had one, and one to the provider, which need
// not know why.
func (s *socket) hangUp(code uint16, reason string, last []byte) {
	s.mu.Lock()
	if !s.ended && !s.within {
		_ = s.caller.SetWriteDeadline(s.call.p.now().Add(s.call.p.timeouts.Close))
		_, _ = s.caller.Write(websocket.AppendClose(last, code, reason, nil))
	}
	s.ended, s.hungUp = true, true
	s.mu.Unlock()
	if s.toUp.TryLock() { // else a message is on its way that the provider does not take
		defer s.toUp.Unlock()
		_, _ = s.up.Write(websocket.AppendClose(nil, websocket.CloseGoingAway, "", fresh()))
	}
}

// over says whether we have hung up.
func (s *socket) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hungUp
}

// closeReason is what a close frame has room for: who refused, by which rule, and the decision to look for.
func closeReason(r llm.Refusal) string {
	return "Sallyport refused this call. Rule " + r.Rule + ", decision " + r.DecisionID + "."
}

// drain reads what a caller still says that was sent a close frame, until it ends the connection: closing with that unread would overtake the frame.
func (s *socket) drain() error {
	_ = s.caller.SetReadDeadline(s.call.p.now().Add(s.call.p.timeouts.Close))
	_, _ = io.Copy(io.Discard, s.caller)
	return errClosed
}

// incoming is a message of the caller's.
type incoming struct {
	frames []websocket.Frame
	bytes  []byte // the payloads, one after another
}

// callerToProvider judges and passes on what the caller says.
func (s *socket) callerToProvider() error {
	var m incoming
	for {
		f, err := s.fromCaller.Next()
		if s.over() {
			return s.drain()
		}
		if err != nil {
			return s.callerFailed(err)
		}
		s.moved()
		if f.Opcode.Control() {
			if err := s.callerControl(f); err != nil {
				return err
			}
			continue
		}
		if !s.share.cover(len(m.bytes) + int(f.Length)) {
			return s.refuseBroken("No memory is left to judge the message in.", websocket.CloseTryAgainLater)
		}
		if m.bytes, err = s.fromCaller.Payload(m.bytes); err != nil {
			return s.callerFailed(err)
		}
		m.frames = append(m.frames, f)
		if !f.Fin {
			if len(m.frames) >= maxFragments {
				return s.refuseBroken("The message has too many fragments.", websocket.ClosePolicy)
			}
			continue
		}
		if err := s.message(&m); err != nil {
			return err
		}
		m = incoming{}
		s.share.release()
	}
}

// maxFragments is how many frames a message may have: empty ones cost memory, too.
const maxFragments = 64 << 10

// callerControl passes a control frame on. What it carries means nothing to a model.
func (s *socket) callerControl(f websocket.Frame) error {
	payload, err := s.fromCaller.Payload(nil)
	if err != nil {
		return s.callerFailed(err)
	}
	if f.Opcode == websocket.Close {
		if err := websocket.CheckClose(payload); err != nil {
			return s.callerFailed(err)
		}
	}
	if f.Opcode == websocket.Pong && string(payload) == holdPing {
		return nil // the answer to a ping of ours
	}
	if err := s.send(websocket.AppendFrame(nil, f, fresh(), payload)); err != nil {
		return err
	}
	if f.Opcode == websocket.Close {
		return errClosed
	}
	return nil
}

// callerFailed ends the connection after what cannot be read.
func (s *socket) callerFailed(err error) error {
	var breach *websocket.Error
	if errors.As(err, &breach) {
		return s.refuseBroken("The WebSocket message is refused: "+breach.Reason+".", breach.Code)
	}
	return fmt.Errorf("%w: %w", context.Canceled, err)
}

// refuseBroken records the refusal of a message that cannot be judged, and ends the connection.
func (s *socket) refuseBroken(message string, code uint16) error {
	verdict, _ := s.judge(nil, message)
	s.call.p.recorder.Emit(verdict.Record)
	s.hangUp(code, message, s.refusal(verdict))
	return s.drain()
}

// refusal is the frame that tells the caller of a refused message, nil where its dialect has none.
func (s *socket) refusal(v *gate.Verdict) []byte {
	if v.Row == nil || v.Row.RefuseMessage == nil {
		return nil
	}
	return websocket.AppendFrame(nil, websocket.Frame{Fin: true, Opcode: websocket.Text}, nil, v.Row.RefuseMessage(v.Refusal))
}

// judge asks the gate about a message, under the settings of now. What is broken is refused whatever they are.
func (s *socket) judge(text []byte, broken string) (*gate.Verdict, time.Time) {
	c := *s.call
	c.view, c.start = s.call.p.view.Load(), s.call.p.now()
	if p := c.view.provider(c.dest.host, c.dest.orig.Port()); broken == "" && (p == nil || p.scheme() != c.dest.scheme) {
		broken = "The destination is no model provider any more."
	}
	req := c.request(text)
	req.Message, req.Session, req.ContentType, req.ContentEncoding = true, s.session, "application/json", ""
	if broken != "" {
		req.Body, req.Findings = nil, []llm.Finding{{Code: FindingMessage, Detail: broken}}
	}
	v := c.p.judge(c.r.Context(), req)
	switch {
	case broken != "":
		refuse(v, "PROXY-MESSAGE", broken)
	case v.Release && v.Response == policy.ResponseHoldAll && !hasTurns(s.call.verdict.Row):
		refuse(v, ruleHoldAll, noTurns)
	}
	return v, c.start
}

// message judges a message and passes it on, or says that it is refused.
func (s *socket) message(m *incoming) error {
	first := m.frames[0]
	text, broken, code := m.bytes, "", uint16(0)
	if first.Compressed {
		var err error
		if text, err = s.inflate.Inflate(nil, m.bytes); err != nil {
			return s.callerFailed(err)
		}
	}
	switch {
	case first.Opcode != websocket.Text:
		broken, code = "The WebSocket message is refused: it is binary.", websocket.ClosePolicy
	case !utf8.Valid(text):
		broken, code = "The WebSocket message is refused: it is not UTF-8.", websocket.CloseInvalidPayload
	}
	if broken != "" {
		return s.refuseBroken(broken, code)
	}

	v, start := s.judge(text, "")
	defer func() {
		v.Record.TotalMicros = s.call.p.now().Sub(start).Microseconds()
		s.call.p.recorder.Emit(v.Record)
	}()
	if !v.Release {
		return s.refuseMessage(v)
	}
	s.session.Released(v)
	s.obey(v)
	var out []byte
	if v.Body != nil {
		out = websocket.AppendFrame(nil, websocket.Frame{Fin: true, Opcode: websocket.Text}, fresh(), v.Body)
	} else {
		out = make([]byte, 0, len(m.bytes)+14*len(m.frames))
		at := 0
		for _, f := range m.frames {
			end := at + int(f.Length)
			out = websocket.AppendFrame(out, f, fresh(), m.bytes[at:end])
			at = end
		}
	}
	if err := s.send(out); err != nil {
		v.Record.UpstreamError = classify(err)
		return err
	}
	return nil
}

// refuseMessage tells the caller of a refusal. The connection goes on, but where the message was none, or the dialect has no word for it.
func (s *socket) refuseMessage(v *gate.Verdict) error {
	frame := s.refusal(v)
	if frame == nil || v.Row.RefusalCloses || slices.Contains(v.Record.Call.Findings, string(llm.FindingUnparseable)) {
		s.hangUp(websocket.ClosePolicy, closeReason(v.Refusal), frame)
		return s.drain()
	}
	return s.say(frame)
}

// obey makes the provider's messages be handled as a verdict asks: never less strictly than before, since nobody can tell which message they answer.
func (s *socket) obey(v *gate.Verdict) {
	s.state.Lock()
	defer s.state.Unlock()
	if strictest := s.mode.Stricter(v.Response); strictest == v.Response {
		// A copy of its own: the record goes its own way.
		kept, record := *v, *v.Record
		kept.Record, kept.Body = &record, nil
		s.mode, s.verdict = strictest, &kept
	}
}

// providerToCaller passes on what the provider says.
func (s *socket) providerToCaller() error {
	// The head of a frame and what there is of its payload go out together.
	buf := make([]byte, 0, 32<<10)
	within := false // a message of the provider's is under way
	var first websocket.Frame
	screened := false // it is held
	for {
		f, err := s.fromUp.Next()
		if err != nil {
			return s.providerFailed(err)
		}
		s.moved()
		if f.Opcode.Control() {
			payload, err := s.fromUp.Payload(slices.Clone(s.fromUp.Head()))
			if err != nil {
				return s.providerFailed(err)
			}
			if err := s.pass(payload, within && !screened); err != nil {
				return err
			}
			if f.Opcode == websocket.Close {
				s.mu.Lock()
				s.ended = true
				s.mu.Unlock()
				return errClosed
			}
			continue
		}
		if f.Opcode != websocket.Continuation {
			first = f
			s.side = s.side[:0]
			screened = s.screens()
		}
		within = !f.Fin
		if screened {
			if err := s.take(first, f); err != nil {
				return err
			}
			continue
		}
		buf = append(buf[:0], s.fromUp.Head()...)
		left := f.Length
		for begun := false; left > 0 || !begun; begun = true {
			if left > 0 {
				n, err := s.fromUp.Read(buf[len(buf):cap(buf)])
				if err != nil {
					return s.providerFailed(err)
				}
				s.moved()
				left -= int64(n)
				s.overhear(buf[len(buf) : len(buf)+n])
				buf = buf[:len(buf)+n]
			}
			if err := s.pass(buf, within || left > 0); err != nil {
				return err
			}
			buf = buf[:0]
		}
		if f.Fin {
			s.heard(first)
		}
	}
}

// providerFailed ends the connection where the provider's side of it did.
func (s *socket) providerFailed(err error) error {
	var breach *websocket.Error
	if errors.As(err, &breach) {
		s.hangUp(websocket.CloseProtocolError, "The provider broke the protocol.", nil)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// overhear keeps a piece of a message that was passed on, for the watcher.
func (s *socket) overhear(p []byte) {
	if s.deaf || s.call.watch == nil {
		return
	}
	if n := len(s.side) + len(p); n > s.call.view.limits.HeldResponse || !s.held.cover(n) {
		s.deaf = true
		s.side = nil
		s.held.release()
		return
	}
	s.side = append(s.side, p...)
}

// heard gives the watcher a message that was passed on. One that was too large to keep is left out; where later ones refer to it, they are, too.
func (s *socket) heard(first websocket.Frame) {
	if s.call.watch == nil {
		return
	}
	text := s.side
	switch {
	case s.deaf:
		s.deaf = first.Compressed && s.takeover
		return
	case first.Compressed:
		var err error
		if text, err = s.inflateUp.Inflate(nil, s.side); err != nil {
			s.deaf = s.takeover
			return
		}
	}
	s.call.watch.watcher.Write(text)
	if cap(s.side) > 64<<10 {
		s.side = nil
	}
	s.held.release()
}

// screens says whether the message that begins is to be held until it is judged.
func (s *socket) screens() bool {
	s.state.Lock()
	defer s.state.Unlock()
	if s.mode == policy.ResponseObserve || s.mode == "" {
		return false
	}
	if s.screen == nil {
		row := s.call.verdict.Row
		if row == nil {
			row = surface.Lookup(s.call.provider.api, "", "").Row
		}
		s.screen = newScreen(s.mode, row, llm.WatchOptions{Framing: llm.FramingWebSocket}, s.call.view.limits)
		s.screen.judge, s.screen.withhold = s.judgeReply, s.withhold
		s.call.judged = true
	}
	s.screen.mode = s.mode
	return true
}

// judgeReply has the provider's messages judged, as the response to the message of the caller's that asked for it.
func (s *socket) judgeReply(r llm.Reply) gate.ResponseVerdict {
	v := *s.answered()
	record := *v.Record
	record.ResponseAction, record.ResponseMicros = "", 0
	v.Record = &record
	out := s.call.p.judgeResponse(s.call.r.Context(), &v, r, http.StatusSwitchingProtocols)
	if rec := s.call.verdict.Record; rec.ResponseAction == "" || rec.ResponseAction == policy.ActionAllow {
		rec.ResponseAction, rec.ResponseRule, rec.ResponseReasons, rec.ResponseFault = record.ResponseAction, record.ResponseRule, record.ResponseReasons, record.ResponseFault
	}
	if !out.Release {
		s.call.verdict.Record.Outcome = telemetry.OutcomeCut
	}
	s.call.verdict.Record.ResponseMicros += record.ResponseMicros
	return out
}

// answered is the verdict on what the provider's messages answer.
func (s *socket) answered() *gate.Verdict {
	s.state.Lock()
	defer s.state.Unlock()
	return s.verdict
}

func (s *socket) withhold(rule, message string) gate.ResponseVerdict {
	return withhold(s.call.verdict, rule, message)
}

// take reads a frame of a message that is held, and passes the message on when it is whole and judged.
func (s *socket) take(first, f websocket.Frame) error {
	limit := s.call.view.limits.HeldResponse
	if s.deaf && first.Compressed {
		return s.end(s.withhold(ruleHeldCoding, "The response is compressed in a way that cannot be read any more."))
	}
	if int64(limit-len(s.side)) < f.Length {
		return s.end(s.withhold(ruleHeldTooLarge, fmt.Sprintf("A message of the response is longer than the %d bytes that are held.", limit)))
	}
	if !s.held.cover(2*(len(s.side)+int(f.Length)) + s.screen.size) {
		return s.end(s.withhold(ruleHeldMemory, "No memory is left to hold the response in."))
	}
	s.wire = append(s.wire, s.fromUp.Head()...)
	from := len(s.side)
	var err error
	if s.side, err = s.fromUp.Payload(s.side); err != nil {
		return s.providerFailed(err)
	}
	s.wire = append(s.wire, s.side[from:]...)
	if !f.Fin {
		return nil
	}
	text := s.side
	s.side = nil
	if first.Compressed {
		if text, err = s.inflateUp.Inflate(nil, text); err != nil {
			return s.end(s.withhold(ruleHeldCoding, "The response is compressed in a way that cannot be read."))
		}
	}
	if s.call.watch != nil {
		s.call.watch.watcher.Write(text)
	}
	out, ok := s.screen.frame(nil, s.wire, text)
	s.wire = nil
	if !ok {
		if len(out) > 0 {
			if err := s.pass(out, false); err != nil {
				return err
			}
		}
		return s.end(gate.ResponseVerdict{Refusal: s.screen.refusal})
	}
	if s.screen.mode == policy.ResponseHoldAll && s.screen.size > limit {
		return s.end(s.withhold(ruleHeldTooLarge, fmt.Sprintf("The response is longer than the %d bytes that are held.", limit)))
	}
	s.waiting(len(s.screen.held) > 0)
	if len(out) == 0 {
		return nil
	}
	s.held.release()
	return s.pass(out, false)
}

// end tells the caller that the response is withheld, and ends the connection: nobody can say what the provider goes on with.
func (s *socket) end(v gate.ResponseVerdict) error {
	s.waiting(false)
	last := s.screen.passed.End(v.Refusal)
	if len(last) == 0 {
		if row := s.call.verdict.Row; row != nil && row.RefuseMessage != nil {
			last = row.RefuseMessage(v.Refusal)
		}
	}
	var frame []byte
	if len(last) > 0 {
		frame = websocket.AppendFrame(nil, websocket.Frame{Fin: true, Opcode: websocket.Text}, nil, last)
	}
	s.hangUp(websocket.ClosePolicy, closeReason(v.Refusal), frame)
	return errClosed
}

// holdPing is the payload of the pings by which a caller is kept waiting. Their answers are not passed on.
const holdPing = "sallyport"

// waiting notes whether messages are held. While they are, the caller is sent pings.
func (s *socket) waiting(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case held == s.pinging:
	case !held:
		s.ping.Stop()
	case s.ping == nil:
		s.ping = time.AfterFunc(s.call.view.timeouts.Hold, s.keepAlive)
	default:
		s.ping.Reset(s.call.view.timeouts.Hold)
	}
	s.pinging = held
}

func (s *socket) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pinging || s.ended || s.within {
		return
	}
	if _, err := s.caller.Write(websocket.AppendFrame(nil, websocket.Frame{Fin: true, Opcode: websocket.Ping}, nil, []byte(holdPing))); err == nil {
		s.ping.Reset(s.call.view.timeouts.Hold)
	}
}
