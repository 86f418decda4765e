package controlplane

import (
	"cmp"
	"math"
	"slices"
	"time"

	"sallyport.dev/sallyport/pkg/xds"
)

// What is learned of all workloads is bounded, and shared fairly: while there is too much of it, the largest give up evidence first, then calls down to those that a model takes, until none has more
// than its share. What goes has the same chance to go, so that what is left is a sample still; were it the oldest, whoever can make room scarce could have a workload forget what it was like before.
const (
	// leastShare is what there must be room for to learn of a further workload: a model, the calls that it takes, without evidence, and what is remembered of calls.
	leastShare = 320 << 10
	// maxTurnedAway is how many workloads for which there is no room are remembered by name.
	maxTurnedAway = 4096
)

// room is how much is learned, and how much may be.
type room struct {
	most       int        // bytes of memory
	bound      func() int // what that is to be now
	least      int        // what there must be of them for a further workload
	taken      int
	turnedAway map[xds.Workload]bool // workloads for which there was none
	sharedAt   time.Time             // when everybody gave up what they can, and it was too little
}

// weigh finds how much memory a workload's baseline takes. The lock is held by the caller.
func (l *Learner) weigh(have *learned) {
	const fixed = 4 << 10
	n, _ := have.reservoir.Bytes()
	n += fixed + have.recent.bytes() + have.labels.bytes()
	if have.model != nil {
		n += 2 * len(have.model.encoded) // once here, once as sidecars are sent it
	}
	l.room.taken += n - have.bytes
	have.bytes = n
}

// grew weighs a workload's baseline that something was added to, and has those with the most give up some where that was too much. The lock is held by the caller.
func (l *Learner) grew(have *learned) {
	if l.weigh(have); l.full() {
		l.share(0)
	}
}

// full says that more is taken than may be. Where all have given up what they can, calls take the place of others then, and none comes besides. The lock is held by the caller.
func (l *Learner) full() bool { return l.room.taken > l.room.most }

// begin makes room for a workload; nil where there is none. The lock is held by the caller.
func (l *Learner) begin(w xds.Workload) *learned {
	if l.room.taken+l.room.least > l.room.most {
		l.share(l.room.least)
	}
	if len(l.workloads) >= l.room.most/l.room.least || l.room.taken+l.room.least > l.room.most {
		if len(l.room.turnedAway) < maxTurnedAway {
			l.room.turnedAway[w] = true
		}
		return nil
	}
	delete(l.room.turnedAway, w)
	have := newLearned(w, l.now())
	l.workloads[w] = have
	l.weigh(have)
	return have
}

// leave gives the room of a workload to others. The lock is held by the caller.
func (l *Learner) leave(w xds.Workload) {
	if have := l.workloads[w]; have != nil {
		l.room.taken -= have.bytes
	}
	delete(l.workloads, w)
	delete(l.room.turnedAway, w)
}

// share has those that take more than their share give up some, the largest first, until there is room for so many bytes more and a little besides: a little at a time, since nothing else is
// learned meanwhile. The lock is held by the caller.
func (l *Learner) share(more int) {
	if l.now().Sub(l.room.sharedAt) < lookEvery {
		return
	}
	enough := l.room.most - l.room.most/256 - more
	for range 3 { // what is given up is found by what evidence and calls take on average
		if l.room.taken <= enough {
			return
		}
		sizes := make([]int, 0, len(l.workloads))
		all := make([]xds.Workload, 0, len(l.workloads))
		for w, have := range l.workloads {
			sizes, all = append(sizes, have.bytes), append(all, w)
		}
		share := level(sizes, l.room.most-l.room.most/8-more)
		slices.SortFunc(all, func(a, b xds.Workload) int { return cmp.Compare(l.workloads[b].bytes, l.workloads[a].bytes) })
		for _, w := range all {
			have := l.workloads[w]
			if have.bytes <= share || l.room.taken <= enough {
				break
			}
			have.giveUp(share, l.leastCalls(w))
			l.weigh(have)
		}
	}
	if l.room.taken+more > l.room.most {
		l.room.sharedAt = l.now()
	}
}

// level is how much each may have so that all together have no more than most, where those that have less keep it.
func level(sizes []int, most int) int {
	slices.Sort(sizes)
	for i, size := range sizes {
		left := len(sizes) - i
		if size*left > most {
			return max(0, most/left)
		}
		most -= size
	}
	if len(sizes) == 0 {
		return 0
	}
	return sizes[len(sizes)-1]
}

// leastCalls is how many calls a workload does not give up: what a model takes. The lock is held by the caller.
func (l *Learner) leastCalls(w xds.Workload) int {
	if s, ok := l.settings[w.Namespace]; ok {
		return max(s.minCalls, s.minSessions)
	}
	return reservoirCapacity / 2
}

// giveUp drops what a workload has over its share, of evidence and of calls over the least.
func (have *learned) giveUp(share, least int) {
	have.limited, have.dirty = true, true
	over := have.bytes - share
	all, evidence := have.reservoir.Bytes()
	counts := have.reservoir.Counts()
	if evidence > over {
		have.words = int(float64(counts.Evidence) * float64(evidence-over) / float64(evidence))
		have.reservoir.Limit(have.capacity, have.words)
		return
	}
	over -= evidence
	remembered := have.recent.bytes()
	have.recent.strip()
	// One that has too few calls for a model keeps its capacity: its sessions' shares are of that, and few long sessions would never come to enough in a small one.
	if over -= remembered - have.recent.bytes(); over > 0 && counts.Calls > least {
		each := max(1, (all-evidence)/max(1, counts.Calls))
		have.capacity = max(least, min(have.capacity, counts.Calls-over/each))
	}
	have.words = 0
	have.reservoir.Limit(have.capacity, have.words)
}

// widen gives a workload back the capacity for so many calls, which it needs for a model.
func (have *learned) widen(least int) {
	if have.capacity < least {
		have.capacity = least
		have.reservoir.Limit(have.capacity, have.words)
	}
}

// spread has workloads that gave something up learn as before where there is room for that again. The lock is held by the caller.
func (l *Learner) spread() {
	if l.room.taken > l.room.most/2 {
		return
	}
	for _, have := range l.workloads {
		if have.limited {
			have.unlimit()
		}
	}
}

// unlimit has a workload learn as much as any again.
func (have *learned) unlimit() {
	have.limited, have.capacity, have.words = false, reservoirCapacity, math.MaxInt
	have.reservoir.Limit(have.capacity, have.words)
}

// taken is how much memory all baselines take.
func (l *Learner) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room.taken
}
