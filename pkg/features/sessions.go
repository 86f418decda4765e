package features

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// Bounds of Sessions. With the default number of conversations they come to less than 4 MB.
const (
	defaultSessions = 4096
	defaultIdle     = time.Hour

	// maxMessages is how many messages of a call are compared with earlier calls; those beyond are always new.
	maxMessages = 4096
	// maxHeld is how many messages are remembered over all conversations, 8 bytes each.
	maxHeld = 1 << 17
	// maxSharers is how many conversations are found by one opening once they have gone on from it.
	maxSharers = 16
	// maxNames is how many ids of what the provider holds of a conversation are remembered, some 50 bytes each: of so many of its last responses a call can go on from any.
	maxNames = 4
)

// How a conversation's worst call fades. At each call, the tail 1-p of the worst percentile grows: a call at 0.999 counts as 0.991 ten calls
// later and as 0.91 after twenty. The worst score shrinks, by a fifth in ten calls.
const (
	tailGrowth = 1.25
	scoreDecay = 0.98
)

// Sessions recognises conversations by the calls themselves, as no header can be trusted to say which one a call goes
// on with. A model's API has no memory: each call brings its whole conversation, the earlier messages and then the new ones. So a call goes
// on with the conversation whose last released call it answers, or else with the one with whose last released call it shares the longest run of messages from the first on, provided that
// the run holds all messages of that conversation's first call. Otherwise, as when its history was trimmed or altered at the front, it opens a
// conversation, and all of its messages are new.
//
// The system prompt, and what stands beside the conversation, may be other in each call, as with a prompt that says what time it is, or where one agent hands a conversation over to another:
// that makes them new and the conversation no other one.
//
// Where the provider holds what came before, a call names it and brings what is new alone: it goes on with the conversation that this was held of, as Answered was told, or that named it before.
//
// Messages are equal when their roles and digests are. Only messages of released calls count as known: what was refused
// is new again when it comes back. A call that brings nothing new is a repetition, and what was new in the original is new in it.
//
// A Sessions belongs to one workload. It is safe for concurrent use and bounded in the number of conversations, in their idle time and in what it
// remembers of them.
type Sessions struct {
	max  int
	idle time.Duration

	seed maphash.Seed // nobody outside knows what a prefix is remembered by, so that none can be made to pass for another

	mu       sync.Mutex
	clean    list                  // conversations that are not tainted
	tainted  list                  // those that are; they are forgotten after the others, so that no flood washes taint away, unless they take up half of the room
	ends     map[prefix][]*session // conversations by the whole of their last released calls
	openings map[prefix][]*session // conversations that have gone on, by their openings; the latest last
	names    map[prefix]*session   // conversations by the ids of what the provider holds of them
	counter  uint64                // makes ids unique
	pace     pace
}

// point names a prefix of a conversation: a hash over the roles and digests of its messages.
type point [16]byte

// prefix is what Sessions remembers of a point.
type prefix uint64

// session is a conversation. All fields are guarded by Sessions.mu.
type session struct {
	id      string
	calls   int
	started int64   // arrival of the first call, in nanoseconds
	last    int64   // arrival of the last call
	used    int64   // when it was settled last
	worst   float64 // decayed maximum of percentiles
	score   float64 // decayed maximum of scores
	tainted bool
	opening uint16 // turns of the first call
	named   point  // names the messages of the first call

	chain  []prefix // of the last released call that brought its whole conversation: chain[k-1] stands for its first k messages
	names  []prefix // ids of what the provider holds of it, the latest last
	bounds []uint16 // how many messages each released call had, as far as chain holds them; ascending
	model  uint64
	tools  uint64
	system point
	beside point

	in           *list // Sessions.clean or Sessions.tainted; nil once forgotten
	newer, older *session
}

// list has sessions in the order of their last use.
type list struct {
	newest, oldest *session
	n              int
	held           int // messages
}

// push makes the session the newest. It and its chain stay as they are until they are removed.
func (l *list) push(c *session) {
	if c.older, c.newer = l.newest, nil; l.newest != nil {
		l.newest.newer = c
	} else {
		l.oldest = c
	}
	l.newest, c.in = c, l
	l.n++
	l.held += len(c.chain)
}

func (l *list) remove(c *session) {
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		l.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		l.oldest = c.newer
	}
	c.newer, c.older, c.in = nil, nil, nil
	l.n--
	l.held -= len(c.chain)
}

// Thread is a conversation that is known by the connection which holds it, as the messages of a WebSocket are one. Most of these bring what is new alone, and all that is said in one is new,
// but where it begins with the whole of the one before. Its zero value is one that nothing was said in.
type Thread struct {
	// Guarded by Sessions.mu.
	session session
	opening point // of what was said up to the first that was no system prompt, as Turn.opening
	opened  bool  // that was said
}

// NewSessions returns Sessions that hold at most max conversations, each until it has been idle for the given time. Values that
// are not positive take their defaults: 4096 and one hour.
func NewSessions(max int, idle time.Duration) *Sessions {
	if max <= 0 {
		max = defaultSessions
	}
	if idle <= 0 {
		idle = defaultIdle
	}
	return &Sessions{max: max, idle: idle, seed: maphash.MakeSeed(), ends: map[prefix][]*session{}, openings: map[prefix][]*session{}, names: map[prefix]*session{}}
}

// Turn is one call's place in its conversation: a snapshot that Begin takes and Settle gets back, which alone changes it.
type Turn struct {
	session policy.Session
	newFrom int

	at     time.Time // arrival
	with   *session  // nil for a call that opens a conversation, until it is settled
	partly bool      // the provider holds what came before
	name   prefix    // what it is known by there
	thread *Thread   // nil for a call that brings its whole conversation
	opens  bool      // in a thread: somebody else than the system prompt speaks for the first time
	points []point   // of the call's turns, as other processes have them
	chain  []prefix  // of the same
	beside point     // names what comes before the turns: asides and the system prompt
	before int       // how many messages that is
	others bool      // it is not that of the conversation's last released call
	model  uint64
	tools  uint64
	system point // names the system prompt
	// opening names the messages of the conversation's first call.
	opening point

	pace pace // of the workload, this call included
	cost float64

	// Zero for a call that opens a conversation, and for what is said in a Thread.
	calls        int // before this one
	modelChanged bool
	toolsChanged bool
	lacks        int           // messages of the conversation's previous call that this one does not have
	gap          time.Duration // since the conversation's previous call
	age          time.Duration // since its first call
}

// Session is the conversation as it was before the call.
func (t *Turn) Session() policy.Session { return t.session }

// NewFrom is the index of the first message that is new of the conversation itself: the turns before it came, byte for byte and in these places, with a released call of it.
func (t *Turn) NewFrom() int { return t.newFrom }

// IsNew says whether the message at an index is new. Asides and the system prompt are if they are others than those of the last released call of the conversation.
func (t *Turn) IsNew(i int) bool { return i >= t.newFrom || i < t.before && t.others }

// openingName names the messages of the conversation's first call; 0 where there are none.
func (t *Turn) openingName(salt uint64) uint64 {
	if t.opening == (point{}) {
		return 0
	}
	return scramble(binary.LittleEndian.Uint64(t.opening[:]) ^ salt)
}

// Answered is told the id that the provider has given to its response to a call that was settled, by which another may go on from it.
func (s *Sessions) Answered(t *Turn, id string) {
	name := s.named(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.with != nil && t.with.in != nil {
		s.name(t.with, name)
	}
}

// named is what is remembered of an id.
func (s *Sessions) named(id string) prefix { return prefix(maphash.String(s.seed, id)) }

// name makes the conversation findable by a name.
func (s *Sessions) name(c *session, name prefix) {
	if of := s.names[name]; of != nil {
		of.names = slices.DeleteFunc(of.names, func(n prefix) bool { return n == name })
	}
	if len(c.names) == maxNames {
		delete(s.names, c.names[0])
		c.names = slices.Delete(c.names, 0, 1)
	}
	s.names[name], c.names = c, append(c.names, name)
}

// Begin finds the conversation that the call goes on with. It changes nothing but what is remembered of idle conversations: a call that is
// not settled leaves no trace.
func (s *Sessions) Begin(call *llm.Call, now time.Time) *Turn {
	t := s.newTurn(call, now)
	if s.begin(t, call.Messages[t.before:], now); t.with == nil {
		t.opening = lastPoint(call.Messages[asides(call.Messages):], point{})
	}
	if t.with == nil || t.others {
		t.system = systemOf(call.Messages)
	}
	return t
}

// BeginIn is Begin for what is said in a thread.
func (s *Sessions) BeginIn(thread *Thread, call *llm.Call, now time.Time) *Turn {
	t := s.newTurn(call, now)
	t.thread, t.system = thread, systemOf(call.Messages)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.pace = s.pace.with(t.cost, now)
	if t.opening = thread.opening; !thread.opened {
		turns := call.Messages[asides(call.Messages):]
		t.opening, t.opens = lastPoint(turns, t.opening), leadingSystem(turns) < len(turns)
	}
	if thread.session.id == "" {
		s.counter++
		thread.session.id = newID([]point{t.opening}, now, s.counter)
	}
	if last := thread.session.chain; len(last) > 0 && len(last) < len(t.chain) && inCommon(last, t.chain) == len(last) {
		t.newFrom, t.others = t.before+len(last), t.beside != thread.session.beside
	}
	t.session = thread.session.seen()
	return t
}

func (s *Sessions) newTurn(call *llm.Call, now time.Time) *Turn {
	first := asides(call.Messages)
	before := first + leadingSystem(call.Messages[first:])
	t := &Turn{
		at: now, model: hashOf(call.Model), tools: toolsOf(call.Tools), cost: costOf(call),
		before: before, beside: lastPoint(call.Messages[:before], point{}), points: pointsOf(call.Messages[before:], point{}),
	}
	if t.partly = call.History != ""; t.partly {
		t.name = s.named(call.History)
	}
	t.chain = make([]prefix, len(t.points))
	for i := range t.points {
		t.chain[i] = prefix(maphash.Bytes(s.seed, t.points[i][:]))
	}
	return t
}

// seen is the session as policy sees it.
func (c *session) seen() policy.Session {
	return policy.Session{ID: c.id, Calls: c.calls, MaxPercentile: c.worst, MaxScore: c.score, Tainted: c.tainted}
}

func (s *Sessions) begin(t *Turn, turns []llm.Message, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	t.pace = s.pace.with(t.cost, now)

	var with *session
	known := 0
	if t.partly {
		with = s.names[t.name]
	} else if with, known = s.find(t.chain, t.beside, lastReply(turns)); with != nil {
		t.lacks = max(0, len(with.chain)-known)
	}
	if with == nil {
		s.counter++
		t.session.ID = newID(t.points, now, s.counter)
		return
	}
	t.with = with
	t.opening = with.named
	if known == len(turns) && !t.partly {
		// A repetition: go back to where the last call before it ended.
		known = 0
		for _, n := range with.bounds {
			if int(n) < len(turns) {
				known = int(n)
			}
		}
	}
	t.newFrom, t.others = t.before+known, t.beside != with.beside
	t.session, t.calls = with.seen(), with.calls
	t.modelChanged = t.model != with.model
	t.toolsChanged = t.tools != with.tools
	t.gap = time.Duration(max(0, now.UnixNano()-with.last))
	t.age = time.Duration(max(0, now.UnixNano()-with.started))
	t.system = with.system
}

// find returns the conversation that a call with this chain goes on with and how many of the call's messages it knows, or nil. A conversation is found by the whole of its
// last call, which most calls go on from, and by its opening, where history was changed. Of more than maxSharers that opened alike and have gone on, those that did so longest ago
// are found by their last calls only; what a call that changes their history brings counts as new.
//
// A conversation whose last call the call answers comes before one that has more in common with it but has gone on already: two users who both say hello and are both answered alike have
// two conversations, as has a program that is run twice. reply is where the call's last reply begins.
func (s *Sessions) find(chain []prefix, beside point, reply int) (with *session, known int) {
	with, known = s.longest(chain, beside)
	if with == nil || len(with.chain) == known && known < len(chain) {
		return with, known
	}
	for k := known - 1; k >= max(1, reply); k-- {
		var waiting *session
		for _, c := range s.ends[chain[k-1]] {
			if c.eligible(k, chain) && (waiting == nil || rather(c, waiting, k, beside)) {
				waiting = c
			}
		}
		if waiting != nil {
			return waiting, k
		}
	}
	return with, known
}

// longest returns the conversation that a call with this chain has the most messages in common with, and how many.
func (s *Sessions) longest(chain []prefix, beside point) (with *session, known int) {
	for k := len(chain); k > 0 && k >= known; k-- {
		for _, c := range s.ends[chain[k-1]] {
			if c.eligible(k, chain) && (known < k || c != with && rather(c, with, k, beside)) {
				with, known = c, k
			}
		}
		for _, c := range s.openings[chain[k-1]] {
			common := inCommon(c.chain, chain)
			if c.eligible(common, chain) && (known < common || known == common && c != with && rather(c, with, known, beside)) {
				with, known = c, common
			}
		}
	}
	return with, known
}

// lastReply is where the model's last reply begins: what its answer to the call before this one was made of, and nothing but what came of it follows. Where the model has not
// spoken yet, it is the end.
func lastReply(messages []llm.Message) int {
	i := len(messages)
	for i > 0 && messages[i-1].Role != llm.RoleAssistant {
		i--
	}
	if i == 0 {
		return len(messages)
	}
	for i > 0 && messages[i-1].Role == llm.RoleAssistant {
		i--
	}
	return i
}

// eligible says whether a call that has so many messages in common with c may go on with it. Less than the opening in common is another conversation of the same agent; exactly
// the opening and no more is another conversation that begins alike.
func (c *session) eligible(common int, chain []prefix) bool {
	return common >= int(c.opening) && (common > int(c.opening) || common < len(chain))
}

// inCommon is the length of the longest beginning that two chains have in common: as each prefix stands for all before it, it is found by halving.
func inCommon(a, b []prefix) int {
	return sort.Search(min(len(a), len(b)), func(i int) bool { return a[i] != b[i] })
}

// rather reports whether a call that shares k messages with both a and b goes on with a: with one that has not gone another
// way already, then with one that has the same beside it, and then with the one of worse repute, so that a repeated opening launders nothing.
func rather(a, b *session, k int, beside point) bool {
	if ta, tb := len(a.chain) == k, len(b.chain) == k; ta != tb {
		return ta
	}
	if ta, tb := a.beside == beside, b.beside == beside; ta != tb {
		return ta
	}
	if a.tainted != b.tainted {
		return a.tainted
	}
	return a.worst > b.worst
}

// Outcome is what became of a call.
type Outcome struct {
	// Percentile and Score are the detector's; 0 where there is none.
	Percentile, Score float64
	// Released says that the call was forwarded.
	Released bool
	// Taint says that the call taints its conversation.
	Taint bool
}

// Settle records the call in its conversation, with what became of it. A call that opens a conversation and is not released is forgotten, as it will be
// new in full when it comes back.
func (s *Sessions) Settle(t *Turn, o Outcome, now time.Time) {
	if t == nil {
		return
	}
	for _, x := range [...]*float64{&o.Percentile, &o.Score} {
		if !(*x >= 0 && *x <= 1) { // cannot be had: as bad as can be
			*x = 1
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	s.pace = s.pace.with(t.cost, t.at)

	if t.thread != nil {
		t.thread.settle(t, o)
		return
	}
	c := t.with
	if c == nil {
		if !o.Released || len(t.chain) == 0 {
			return
		}
		c = &session{id: t.session.ID, started: t.at.UnixNano(), opening: uint16(len(t.chain)), named: t.opening}
	}
	forgotten := c.in == nil // meanwhile, or not known yet
	if !forgotten {
		c.in.remove(c)
	}
	c.last = max(c.last, t.at.UnixNano())
	c.used = now.UnixNano()
	c.carry(o)
	if o.Released {
		s.advance(c, t)
	} else if forgotten {
		return
	}
	t.with, t.points, t.chain = c, nil, nil // a response may take long, and all that it takes of this is where it belongs
	if c.tainted {
		s.tainted.push(c)
	} else {
		s.clean.push(c)
	}
	if t.partly {
		s.name(c, t.name)
	}
	for n := s.clean.n + s.tainted.n; n > s.max || s.clean.held+s.tainted.held > maxHeld && n > 1; n-- {
		s.forget(s.least(c))
	}
}

// least is the conversation to forget where there is no room for c: another one.
func (s *Sessions) least(c *session) *session {
	clean, tainted := s.clean.oldest, s.tainted.oldest
	if tainted == nil || tainted == c || clean != nil && clean != c && 2*s.tainted.n <= s.max && 2*s.tainted.held <= maxHeld {
		return clean
	}
	return tainted
}

// carry notes what became of a call.
func (c *session) carry(o Outcome) {
	c.calls++
	c.worst = max(o.Percentile, 1-min(1, (1-c.worst)*tailGrowth))
	c.score = Carried(c.score, o.Score)
	c.tainted = c.tainted || o.Taint
}

// settle notes what became of what was said. A thread remembers what was refused, too, as the connection goes on.
func (thread *Thread) settle(t *Turn, o Outcome) {
	thread.session.carry(o)
	if !o.Released {
		return
	}
	if thread.session.chain, thread.session.beside = t.chain, t.beside; !thread.opened {
		thread.opening, thread.opened = t.opening, t.opens
	}
}

// advance makes the released call the conversation's last one.
func (s *Sessions) advance(c *session, t *Turn) {
	c.model, c.tools, c.system, c.beside = t.model, t.tools, t.system, t.beside
	if t.partly {
		return // it is no beginning of anything
	}
	common := inCommon(c.chain, t.chain)
	if common == len(t.chain) {
		return // a repetition of this call or an earlier one
	}
	s.unlink(c)
	c.bounds = slices.DeleteFunc(c.bounds, func(n uint16) bool { return int(n) > common })
	c.bounds = append(c.bounds, uint16(len(t.chain)))
	c.chain = t.chain
	s.link(c)
}

// Carried is the score that a conversation carries after a call, from that before it and the call's own: its worst one, which fades.
func Carried(before, score float64) float64 { return max(score, before*scoreDecay) }

// Len is the number of conversations held.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clean.n + s.tainted.n
}

// expire forgets conversations that have been idle for too long. It looks at the least recently used only, so that its
// work is bounded by what it forgets.
func (s *Sessions) expire(now time.Time) {
	for _, l := range [...]*list{&s.clean, &s.tainted} {
		for c := l.oldest; c != nil && now.UnixNano()-c.used > int64(s.idle); c = l.oldest {
			s.forget(c)
		}
	}
}

func (s *Sessions) forget(c *session) {
	s.unlink(c)
	c.in.remove(c)
	for _, name := range c.names {
		delete(s.names, name)
	}
	c.chain, c.bounds, c.names = nil, nil, nil
}

// link makes the conversation findable.
func (s *Sessions) link(c *session) {
	if len(c.chain) == 0 {
		return
	}
	end := c.chain[len(c.chain)-1]
	s.ends[end] = append(s.ends[end], c)
	if len(c.chain) <= int(c.opening) {
		return
	}
	opening := c.chain[c.opening-1]
	sharers := s.openings[opening]
	if len(sharers) >= maxSharers {
		// Give up the oldest that is not tainted.
		i := max(0, slices.IndexFunc(sharers, func(o *session) bool { return !o.tainted }))
		sharers = slices.Delete(sharers, i, i+1)
	}
	s.openings[opening] = append(sharers, c)
}

func (s *Sessions) unlink(c *session) {
	if len(c.chain) == 0 {
		return
	}
	drop(s.ends, c.chain[len(c.chain)-1], c)
	if len(c.chain) > int(c.opening) {
		drop(s.openings, c.chain[c.opening-1], c)
	}
}

func drop(index map[prefix][]*session, p prefix, c *session) {
	sharers := index[p]
	i := slices.Index(sharers, c)
	switch {
	case i < 0:
	case len(sharers) == 1:
		delete(index, p)
	default:
		index[p] = slices.Delete(sharers, i, i+1)
	}
}

// asides is how many messages stand beside the conversation.
func asides(messages []llm.Message) int {
	for i := range messages {
		if !messages[i].Aside {
			return i
		}
	}
	return len(messages)
}

// lastPoint names messages that come after a point.
func lastPoint(messages []llm.Message, p point) point {
	if points := pointsOf(messages, p); len(points) > 0 {
		return points[len(points)-1]
	}
	return p
}

// pointsOf names the prefixes of a conversation, or of what goes on after a point.
func pointsOf(messages []llm.Message, p point) []point {
	points := make([]point, min(len(messages), maxMessages))
	var b []byte
	for i := range points {
		m := &messages[i]
		b = append(b[:0], p[:]...)
		b = append(b, m.Digest[:]...)
		b = append(b, m.Role...)
		sum := sha256.Sum256(b)
		copy(p[:], sum[:])
		points[i] = p
	}
	return points
}

// toolsOf names the tools offered, in their order.
func toolsOf(tools []llm.Tool) uint64 {
	h := sha256.New()
	for i := range tools {
		h.Write(tools[i].Digest[:])
	}
	var sum [sha256.Size]byte
	return binary.LittleEndian.Uint64(h.Sum(sum[:0]))
}

// newID names a conversation. It says nothing of its content and is unique across pods and restarts, as records of all
// pods of a workload are grouped by it.
func newID(points []point, now time.Time, counter uint64) string {
	var b []byte
	if len(points) > 0 {
		b = append(b, points[len(points)-1][:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, counter)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// rate is how many calls a minute the conversation makes, this call being one of them. Ages under a minute count as one, so
// that the first calls of a conversation are not a burst.
func (t *Turn) rate() float64 {
	return float64(t.calls+1) / math.Max(1, t.age.Minutes())
}
