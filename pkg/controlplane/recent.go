package controlplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Bounds of what is remembered of single calls, so that feedback can name them.
const (
	maxExceeded = 128 // calls that exceeded
	maxSampled  = 128 // other calls
	sampled     = 8   // one in so many of those, once there are maxSampled
	maxLabels   = 256
	maxCallID   = 64
	// maxSessionID is as long as a session's id may be for a reservoir.
	maxSessionID = 128
	// maxRecentEvidence is how much evidence the calls of each of these may have together; the oldest lose theirs.
	maxRecentEvidence = 128 << 10
	// maxWindow is how many calls drift is found in, minWindow how few it may be found in. They are taken windowEvery apart at least: the calls of a minute are too much alike, in
	// their rates above all, to stand for a workload.
	maxWindow   = 512
	minWindow   = 128
	windowEvery = 10 * time.Second
)

// recentCall is a call that feedback may name.
type recentCall struct {
	id      string
	counted bool   // among those that the false-positive rate is of
	label   string // what somebody said of it
}

// calls are the last of some calls, with what there is to learn from them.
type calls struct {
	list []recentCall    // a ring once it is full
	rows detector.Packed // of the same indices
	next int             // the oldest, once it is full
	said int             // bytes of evidence
}

// push appends a call, and drops the oldest over most, and the evidence of the oldest over maxRecentEvidence.
func (c *calls) push(call recentCall, row detector.Row, most int) {
	at := len(c.list)
	if at < most {
		c.list = append(c.list, call)
	} else {
		at = c.next
		c.said -= c.rows.Evidence(at)
		c.list[at] = call
		c.next = (c.next + 1) % most
	}
	row.Session = strings.Clone(row.Session)
	c.rows.Put(at, row)
	c.said += c.rows.Evidence(at)
	for k := 0; c.said > maxRecentEvidence; k++ {
		i := c.index(k)
		c.said -= c.rows.Evidence(i)
		c.rows.Strip(i)
	}
}

// index is where the k-th is, the oldest being the first.
func (c *calls) index(k int) int { return (c.next + k) % len(c.list) }

// find returns where the call of this id is, or -1.
func (c *calls) find(id string) int {
	return slices.IndexFunc(c.list, func(call recentCall) bool { return call.id == id })
}

// strip takes all evidence.
func (c *calls) strip() {
	if c.said == 0 {
		return
	}
	for i := range c.list {
		c.rows.Strip(i)
	}
	c.said = 0
	c.rows.Repack()
}

// bytes is about how much memory they take.
func (c *calls) bytes() int {
	const each = 48 + 3*40 // an entry; id, session and label with what the allocator adds
	return c.rows.Bytes() + each*cap(c.list)
}

// tally counts the calls that the model in use has judged.
type tally struct {
	Judged   int64 `json:"judged"`
	Exceeded int64 `json:"exceeded"`
}

// beyond says whether more calls exceeded than a budget, in calls per million, allows and chance explains.
func (t tally) beyond(budget int) bool {
	allowed := float64(t.Judged) * float64(budget) / 1e6
	return float64(t.Exceeded) > 1+allowed+3*math.Sqrt(allowed)
}

// recent is what is known of a workload's calls of late.
type recent struct {
	tally    tally
	exceeded calls
	others   calls
	window   detector.Packed // numbers alone
	taken    int             // how many calls came into the window
	windowAt time.Time       // when the last did
}

// note takes a call in. Model is the digest of the model in use. Where there is no room, calls take the place of others alone.
func (c *recent) note(r *telemetry.Record, row detector.Row, a detector.Admission, model string, now time.Time, full bool) {
	current := r.Anomaly.Ready && model != "" && r.Anomaly.ModelDigest == model
	counted := current && !a.Tainted && (a.Released || a.Exceeds && refusedForScore(r))
	if counted {
		c.tally.Judged++
		if a.Exceeds {
			c.tally.Exceeded++
		}
	}
	if counted && now.Sub(c.windowAt) >= windowEvery && (!full || c.window.Len() == maxWindow) {
		c.windowAt = now
		c.window.Put(c.taken%maxWindow, detector.Row{Vector: row.Vector})
		c.taken++
	}
	if r.ID == "" || len(r.ID) > maxCallID || len(row.Session) > maxSessionID || slices.ContainsFunc(row.Vector[:], func(x float32) bool { return x-x != 0 }) || c.call(r.ID) != nil {
		return // nothing to name it by, nothing to learn from, or here already: a batch may arrive twice
	}
	call := recentCall{id: strings.Clone(r.ID), counted: counted}
	if full {
		row.Evidence = nil
	}
	if a.Exceeds {
		if !full || len(c.exceeded.list) == maxExceeded {
			c.exceeded.push(call, row, maxExceeded)
		}
	} else if full && len(c.others.list) < maxSampled {
		return
	} else if h := fnv.New32a(); len(c.others.list) < maxSampled || func() bool { _, _ = h.Write([]byte(r.ID)); return h.Sum32()%sampled == 0 }() {
		c.others.push(call, row, maxSampled)
	}
}

// refusedForScore says whether a call was refused, and for its score alone as far as can be told: rules of bundles have names of their own, but those of the system are
// about other things.
func refusedForScore(r *telemetry.Record) bool {
	return r.Action == policy.ActionDeny && r.Fault == "" && len(r.Reasons) == 1 && !strings.HasPrefix(r.Reasons[0].Rule, "SYS-")
}

// call returns the call of this id, or nil.
func (c *recent) call(id string) *recentCall {
	for _, calls := range []*calls{&c.exceeded, &c.others} {
		if i := calls.find(id); i >= 0 {
			return &calls.list[i]
		}
	}
	return nil
}

// row returns what there is to learn from a call that is remembered.
func (c *recent) row(id string) detector.Row {
	for _, calls := range []*calls{&c.exceeded, &c.others} {
		if i := calls.find(id); i >= 0 {
			return calls.rows.At(i)
		}
	}
	return detector.Row{}
}

// renew begins to count for another model.
func (c *recent) renew() {
	c.tally, c.window, c.taken, c.windowAt = tally{}, detector.Packed{}, 0, time.Time{}
	for _, calls := range []*calls{&c.exceeded, &c.others} {
		for i := range calls.list {
			calls.list[i].counted = false
		}
	}
}

// settle packs what came last as well.
func (c *recent) settle() {
	c.exceeded.rows.Settle()
	c.others.rows.Settle()
	c.window.Settle()
}

// strip takes the evidence of all calls that are remembered.
func (c *recent) strip() {
	c.exceeded.strip()
	c.others.strip()
}

// bytes is about how much memory is taken.
func (c *recent) bytes() int { return c.exceeded.bytes() + c.others.bytes() + c.window.Bytes() }

// append encodes calls, the oldest first: how many there are, then of each id, label, flags, session, numbers and evidence, strings with their length before them.
func (c *calls) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.list)))
	rows := c.rows.All()
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for k := range c.list {
		call, row := &c.list[c.index(k)], &rows[c.index(k)]
		text(call.id)
		text(call.label)
		var flags byte
		if call.counted {
			flags = 1
		}
		b = append(b, flags)
		text(row.Session)
		for _, x := range row.Vector {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		text(string(row.Evidence))
	}
	return b
}

var errCalls = errors.New("not a list of calls")

// decode reads what append wrote, at most so many calls, and returns what follows.
func (c *calls) decode(b []byte, most int) (rest []byte, err error) {
	*c = calls{}
	take := func(limit uint64) []byte {
		n, size := binary.Uvarint(b)
		if err != nil || size <= 0 || n > limit || n > uint64(len(b)-size) {
			err = errCalls
			return nil
		}
		out := b[size : size+int(n)]
		b = b[size+int(n):]
		return out
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(most) {
		return nil, errCalls
	}
	b = b[size:]
	for range n {
		call := recentCall{id: string(take(maxCallID)), label: string(take(maxCallID))}
		var row detector.Row
		if err != nil || len(b) < 1 {
			return nil, errCalls
		}
		call.counted = b[0] == 1
		b = b[1:]
		row.Session = string(take(maxSessionID))
		if err != nil || len(b) < 4*features.Size {
			return nil, errCalls
		}
		for f := range row.Vector {
			x := math.Float32frombits(binary.LittleEndian.Uint32(b[4*f:]))
			if x-x != 0 {
				return nil, fmt.Errorf("%w: feature %d is %v", errCalls, f, x)
			}
			row.Vector[f] = x
		}
		b = b[4*features.Size:]
		row.Evidence = take(maxRecentEvidence)
		if err != nil {
			return nil, err
		}
		if _, err := features.DecodeEvidence(row.Evidence); err != nil {
			return nil, fmt.Errorf("%w: %w", errCalls, err)
		}
		c.push(call, row, most)
	}
	return b, nil
}
