package features

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// Bounds of Sessions. With the default number of conversations they come to about 20 MB.
const (
	defaultSessions = 4096
	defaultIdle     = time.Hour

	// maxMessages is how many messages of a call are compared with earlier calls; those beyond are always new.
	maxMessages = 4096
	// maxPoints is how many prefixes are remembered over all conversations.
	maxPoints = 1 << 17
	// maxSharers is how many conversations are remembered as having one prefix in common.
	maxSharers = 8
)

// tailGrowth is by how much, at each call, the tail 1-p of the worst percentile grows: a call at 0.999 counts as 0.991 ten calls
// later and as 0.91 after twenty.
const tailGrowth = 1.25

// Sessions recognises conversations by the calls themselves, as no header can be trusted to say which one a call goes
// on with. A model's API has no memory: each call brings its whole conversation, the earlier messages and then the new ones. So a call goes
// on with the conversation with whose last released call it shares the longest run of messages from the first on, provided that the run
// holds all messages of that conversation's first call. Otherwise, as when its history was trimmed or altered at the front, it opens a
// conversation, and all of its messages are new.
//
// Messages are equal when their roles and digests are. Only messages of released calls count as known: what was refused
// is new again when it comes back. A call that brings nothing new is a repetition, and what was new in the original is new in it.
//
// A Sessions belongs to one workload. It is safe for concurrent use and bounded in the number of conversations, in their idle time and in what it
// remembers of them.
type Sessions struct {
	max  int
	idle time.Duration

	mu      sync.Mutex
	recent  *list.List           // of *session, the most recently used first
	points  map[point][]*session // which conversations have this prefix; the latest last
	held    int                  // points over all conversations
	counter uint64               // makes ids unique
	pace    pace
}

// point names a prefix of a conversation: a hash over the roles and digests of its messages.
type point [16]byte

// session is a conversation. All fields are guarded by Sessions.mu.
type session struct {
	id      string
	calls   int
	started time.Time // arrival of the first call
	last    time.Time // arrival of the last call
	used    time.Time // when it was settled last
	worst   float64   // decayed maximum of percentiles
	tainted bool

	chain   []point // of the last released call: chain[k-1] names its first k messages
	bounds  []int   // how many messages each released call had, as far as chain holds them; ascending
	opening int     // messages of the first call
	model   string
	tools   point

	place *list.Element // in Sessions.recent; nil once forgotten
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
	return &Sessions{max: max, idle: idle, recent: list.New(), points: map[point][]*session{}}
}

// Turn is one call's place in its conversation: a snapshot that Begin takes and Settle gets back. It never changes.
type Turn struct {
	session policy.Session
	newFrom int

	at    time.Time // arrival
	with  *session  // nil for a call that opens a conversation
	chain []point   // of the call
	model string
	tools point
	// opening names the messages of the conversation's first call.
	opening point

	system uint64 // names the system prompt
	pace   pace   // of the workload, this call included
	cost   float64

	// Zero for a call that opens a conversation.
	modelChanged bool
	toolsChanged bool
	lacks        int           // messages of the conversation's previous call that this one does not have
	gap          time.Duration // since the conversation's previous call
	age          time.Duration // since its first call
}

// Session is the conversation as it was before the call.
func (t *Turn) Session() policy.Session { return t.session }

// NewFrom is the index of the first message that is new: those before it came, byte for byte and in these places, with a released call of
// the conversation.
func (t *Turn) NewFrom() int { return t.newFrom }

// openingName names the messages of the conversation's first call; 0 where there are none.
func (t *Turn) openingName(salt uint64) uint64 {
	if t.opening == (point{}) {
		return 0
	}
	return scramble(binary.LittleEndian.Uint64(t.opening[:]) ^ salt)
}

// Begin finds the conversation that the call goes on with. It changes nothing but what is remembered of idle conversations: a call that is
// not settled leaves no trace.
func (s *Sessions) Begin(call *llm.Call, now time.Time) *Turn {
	t := &Turn{at: now, chain: chainOf(call.Messages), model: call.Model, tools: toolsOf(call.Tools), system: systemOf(call.Messages), cost: costOf(call)}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	t.pace = s.pace.with(t.cost, now)

	with, known := s.find(t.chain)
	if with == nil {
		if len(t.chain) > 0 {
			t.opening = t.chain[len(t.chain)-1]
		}
		s.counter++
		t.session.ID = newID(t.chain, now, s.counter)
		return t
	}
	t.with = with
	t.opening = t.chain[with.opening-1] // a call that goes on with a conversation shares all of its opening
	t.newFrom = known
	if known == len(call.Messages) {
		// A repetition: go back to where the last call before it ended.
		t.newFrom = 0
		for _, n := range with.bounds {
			if n < known {
				t.newFrom = n
			}
		}
	}
	t.session = policy.Session{ID: with.id, Calls: with.calls, MaxPercentile: with.worst, Tainted: with.tainted}
	t.modelChanged = t.model != with.model
	t.toolsChanged = t.tools != with.tools
	t.lacks = max(0, len(with.chain)-known)
	t.gap = max(0, now.Sub(with.last))
	t.age = max(0, now.Sub(with.started))
	return t
}

// find returns the conversation that a call with this chain goes on with and how many of the call's messages it knows, or nil.
func (s *Sessions) find(chain []point) (with *session, known int) {
	for k := len(chain); k > 0; k-- {
		for _, c := range s.points[chain[k-1]] {
			// Less than the opening in common is another conversation of the same agent; exactly the opening and no more
			// is another conversation that begins alike.
			if k < c.opening || k == c.opening && k == len(chain) {
				continue
			}
			if with == nil || rather(c, with, k) {
				with = c
			}
		}
		if with != nil {
			return with, k
		}
	}
	return nil, 0
}

// rather reports whether a call that shares k messages with both a and b goes on with a: with one that has not gone another
// way already, and then with the one of worse repute, so that a repeated opening launders nothing.
func rather(a, b *session, k int) bool {
	if ta, tb := len(a.chain) == k, len(b.chain) == k; ta != tb {
		return ta
	}
	if a.tainted != b.tainted {
		return a.tainted
	}
	return a.worst > b.worst
}

// Settle records the call in its conversation, with what became of it: the percentile of its score, whether it was released, and
// whether it taints the conversation. A call that opens a conversation and is not released is forgotten, as it will be
// new in full when it comes back.
func (s *Sessions) Settle(t *Turn, percentile float64, released, taint bool, now time.Time) {
	if t == nil {
		return
	}
	if !(percentile >= 0 && percentile <= 1) { // cannot be had: as bad as can be
		percentile = 1
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	s.pace = s.pace.with(t.cost, t.at)

	c := t.with
	if c == nil {
		if !released || len(t.chain) == 0 {
			return
		}
		c = &session{id: t.session.ID, started: t.at, opening: len(t.chain)}
	}
	c.calls++
	if t.at.After(c.last) {
		c.last = t.at
	}
	c.used = now
	c.worst = max(percentile, 1-min(1, (1-c.worst)*tailGrowth))
	c.tainted = c.tainted || taint
	if released {
		s.advance(c, t)
	}
	if c.place == nil {
		if !released {
			return // forgotten meanwhile
		}
		c.place = s.recent.PushFront(c)
	} else {
		s.recent.MoveToFront(c.place)
	}
	for s.recent.Len() > s.max || s.held > maxPoints && s.recent.Len() > 1 {
		s.forget(s.recent.Back().Value.(*session)) //nolint:forcetypeassert // the list holds nothing else
	}
}

// advance makes the released call the conversation's last one.
func (s *Sessions) advance(c *session, t *Turn) {
	c.model, c.tools = t.model, t.tools
	common := 0
	for common < len(c.chain) && common < len(t.chain) && c.chain[common] == t.chain[common] {
		common++
	}
	if common == len(t.chain) {
		return // a repetition of this call or an earlier one
	}
	s.unlink(c)
	c.bounds = slices.DeleteFunc(c.bounds, func(n int) bool { return n > common })
	c.bounds = append(c.bounds, len(t.chain))
	c.chain = t.chain
	s.link(c)
}

// Len is the number of conversations held.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.Len()
}

// expire forgets conversations that have been idle for too long. It looks at the least recently used only, so that its
// work is bounded by what it forgets.
func (s *Sessions) expire(now time.Time) {
	for e := s.recent.Back(); e != nil; e = s.recent.Back() {
		c := e.Value.(*session) //nolint:forcetypeassert // the list holds nothing else
		if now.Sub(c.used) <= s.idle {
			return
		}
		s.forget(c)
	}
}

func (s *Sessions) forget(c *session) {
	s.unlink(c)
	s.recent.Remove(c.place)
	c.place = nil
	c.chain, c.bounds = nil, nil
}

// link makes the conversation findable by each prefix of its last released call.
func (s *Sessions) link(c *session) {
	for _, p := range c.chain {
		sharers := s.points[p]
		if len(sharers) >= maxSharers {
			// Give up the oldest that is not tainted.
			i := max(0, slices.IndexFunc(sharers, func(o *session) bool { return !o.tainted }))
			sharers = slices.Delete(sharers, i, i+1)
			s.held--
		}
		s.points[p] = append(sharers, c)
		s.held++
	}
}

func (s *Sessions) unlink(c *session) {
	for _, p := range c.chain {
		sharers := s.points[p]
		i := slices.Index(sharers, c)
		if i < 0 {
			continue
		}
		s.held--
		if len(sharers) == 1 {
			delete(s.points, p)
			continue
		}
		s.points[p] = slices.Delete(sharers, i, i+1)
	}
}

// chainOf names the prefixes of a conversation.
func chainOf(messages []llm.Message) []point {
	chain := make([]point, min(len(messages), maxMessages))
	var b []byte
	var p point
	for i := range chain {
		m := &messages[i]
		b = append(b[:0], p[:]...)
		b = append(b, m.Digest[:]...)
		b = append(b, m.Role...)
		sum := sha256.Sum256(b)
		copy(p[:], sum[:])
		chain[i] = p
	}
	return chain
}

// toolsOf names the tools offered, in their order.
func toolsOf(tools []llm.Tool) point {
	h := sha256.New()
	for i := range tools {
		h.Write(tools[i].Digest[:])
	}
	var p point
	copy(p[:], h.Sum(nil))
	return p
}

// newID names a conversation. It says nothing of its content and is unique across pods and restarts, as records of all
// pods of a workload are grouped by it.
func newID(chain []point, now time.Time, counter uint64) string {
	var b []byte
	if len(chain) > 0 {
		b = append(b, chain[len(chain)-1][:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, counter)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// rate is how many calls a minute the conversation makes, this call being one of them. Ages under a minute count as one, so
// that the first calls of a conversation are not a burst.
func (t *Turn) rate() float64 {
	return float64(t.session.Calls+1) / math.Max(1, t.age.Minutes())
}
