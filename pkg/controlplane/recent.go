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
	minWindow   = 256
	windowEvery = 10 * time.Second
)

// recentCall is a call that feedback may name.
type recentCall struct {
	id      string
	row     detector.Row
	counted bool   // among those that the false-positive rate is of
	label   string // what somebody said of it
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
	exceeded []recentCall // the oldest first
	others   []recentCall
	window   []features.Vector
	next     int       // where in window the next is written once it is full
	windowAt time.Time // when the last was
}

// note takes a call in. Model is the digest of the model in use.
func (c *recent) note(r *telemetry.Record, row detector.Row, a detector.Admission, model string, now time.Time) {
	current := r.Anomaly.Ready && model != "" && r.Anomaly.ModelDigest == model
	counted := current && !a.Tainted && (a.Released || a.Exceeds && refusedForScore(r))
	if counted {
		c.tally.Judged++
		if a.Exceeds {
			c.tally.Exceeded++
		}
	}
	if counted && now.Sub(c.windowAt) >= windowEvery {
		c.windowAt = now
		if len(c.window) < maxWindow {
			c.window = append(c.window, row.Vector)
		} else {
			c.window[c.next] = row.Vector
		}
		c.next = (c.next + 1) % maxWindow
	}
	if r.ID == "" || len(r.ID) > maxCallID || len(row.Session) > maxSessionID || slices.ContainsFunc(row.Vector[:], func(x float32) bool { return x-x != 0 }) || c.find(r.ID) != nil {
		return // nothing to name it by, nothing to learn from, or here already: a batch may arrive twice
	}
	call := recentCall{id: strings.Clone(r.ID), row: row, counted: counted}
	if a.Exceeds {
		c.exceeded = push(c.exceeded, call, maxExceeded)
	} else if h := fnv.New32a(); len(c.others) < maxSampled || func() bool { _, _ = h.Write([]byte(r.ID)); return h.Sum32()%sampled == 0 }() {
		c.others = push(c.others, call, maxSampled)
	}
}

// refusedForScore says whether a call was refused, and for its score alone as far as can be told: rules of bundles have names of their own, but those of the system are
// about other things.
func refusedForScore(r *telemetry.Record) bool {
	return r.Action == policy.ActionDeny && r.Fault == "" && len(r.Reasons) == 1 && !strings.HasPrefix(r.Reasons[0].Rule, "SYS-")
}

// push appends, and drops the oldest over most, and the evidence of the oldest over maxRecentEvidence.
func push(calls []recentCall, call recentCall, most int) []recentCall {
	if len(calls) >= most {
		calls = slices.Delete(calls, 0, len(calls)-most+1)
	}
	calls = append(calls, call)
	size := 0
	for i := len(calls) - 1; i >= 0; i-- {
		if size += len(calls[i].row.Evidence); size > maxRecentEvidence {
			calls[i].row.Evidence = nil
		}
	}
	return calls
}

// find returns the call of this id, or nil.
func (c *recent) find(id string) *recentCall {
	for _, calls := range [][]recentCall{c.exceeded, c.others} {
		for i := range calls {
			if calls[i].id == id {
				return &calls[i]
			}
		}
	}
	return nil
}

// renew begins to count for another model.
func (c *recent) renew() {
	c.tally, c.window, c.next, c.windowAt = tally{}, nil, 0, time.Time{}
	for _, calls := range [][]recentCall{c.exceeded, c.others} {
		for i := range calls {
			calls[i].counted = false
		}
	}
}

// appendCalls encodes calls: how many there are, then of each id, label, flags, session, numbers and evidence, strings with their length before them.
func appendCalls(b []byte, calls []recentCall) []byte {
	b = binary.AppendUvarint(b, uint64(len(calls)))
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for i := range calls {
		c := &calls[i]
		text(c.id)
		text(c.label)
		var flags byte
		if c.counted {
			flags = 1
		}
		b = append(b, flags)
		text(c.row.Session)
		for _, x := range c.row.Vector {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		text(string(c.row.Evidence))
	}
	return b
}

var errCalls = errors.New("not a list of calls")

// decodeCalls reads what appendCalls wrote, at most so many calls, and returns what follows.
func decodeCalls(b []byte, most int) (calls []recentCall, rest []byte, err error) {
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
		return nil, nil, errCalls
	}
	b = b[size:]
	for range n {
		c := recentCall{id: string(take(maxCallID)), label: string(take(maxCallID))}
		if err != nil || len(b) < 1 {
			return nil, nil, errCalls
		}
		c.counted = b[0] == 1
		b = b[1:]
		c.row.Session = string(take(maxSessionID))
		if err != nil || len(b) < 4*features.Size {
			return nil, nil, errCalls
		}
		for f := range c.row.Vector {
			x := math.Float32frombits(binary.LittleEndian.Uint32(b[4*f:]))
			if x-x != 0 {
				return nil, nil, fmt.Errorf("%w: feature %d is %v", errCalls, f, x)
			}
			c.row.Vector[f] = x
		}
		b = b[4*features.Size:]
		if evidence := take(maxRecentEvidence); len(evidence) > 0 {
			c.row.Evidence = slices.Clone(evidence)
		}
		if err != nil {
			return nil, nil, err
		}
		if _, err := features.DecodeEvidence(c.row.Evidence); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errCalls, err)
		}
		calls = append(calls, c)
	}
	return calls, b, nil
}
