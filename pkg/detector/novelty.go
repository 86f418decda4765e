package detector

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"sallyport.dev/sallyport/pkg/features"
)

// noveltyFolds is how many parts the groups are dealt to for novelty: the words of each part are compared with a sketch that has learned the others.
// More parts are nearer to what the model's sketch, which has learned all, will say of new calls, and take longer.
const noveltyFolds = 10

// decodeEvidence returns the evidence of each row, nil where there are none.
func decodeEvidence(rows []Row) ([]*features.Evidence, error) {
	words := make([]*features.Evidence, len(rows))
	for i := range rows {
		if len(rows[i].Evidence) == 0 {
			continue
		}
		w, err := features.DecodeEvidence(rows[i].Evidence)
		if err != nil {
			return nil, fmt.Errorf("row %d of session %q: %w", i, rows[i].Session, err)
		}
		words[i] = w
	}
	return words, nil
}

// Bars for groups: which share of what they read two sessions must have in common to be of one. Above 1 there is none.
const (
	byOpening = 2.
	byReading = 1. / 3
)

// reasons are kept for a group where they leave as many groups as that, and the largest has no more than such a share of the rows. Of recorded agents with six and eight tasks, 2 % of the
// calls of other tasks exceeded a threshold for 1 % on average where five groups by opening were enough, and 6 % where it was set by sessions. What reads alike is joined in chains: where a group by
// reading has more than a fifth, nearly all that is like a call is held out with it, and thresholds are too high.
var reasons = []struct {
	alike   float64
	few     int
	largest float64
}{
	{byReading, 10, 1. / 5},
	{byOpening, 5, 1. / 3},
}

// group names the group of each row: calls that resemble each other for a reason that new calls will not share. Those are the calls of a session; of
// sessions that opened with the same messages, as an agent that is given one task ten times has done one task; and of sessions that read much the same, as
// where one task was put in different words. Where groups would be too few to learn from, or one of them much of all, as where every conversation begins with
// the same greeting, the coarser reasons are given up.
func group(rows []Row, sessions []*read, of []int, alike float64) []string {
	for _, reason := range reasons {
		if reason.alike < alike {
			continue
		}
		groups := make([]string, len(rows))
		sizes := make(map[string]int)
		parent := link(sessions, reason.alike)
		for i := range rows {
			groups[i] = sessions[find(parent, of[i])].id
			sizes[groups[i]]++
		}
		if len(sizes) >= reason.few && float64(slices.Max(slices.Collect(maps.Values(sizes)))) <= reason.largest*float64(len(rows)) {
			return groups
		}
	}
	groups := make([]string, len(rows))
	for i := range rows {
		groups[i] = rows[i].Session
	}
	return groups
}

// deal deals groups to parts of about equal numbers of rows and returns each row's part.
func deal(groups []string, parts int, seed uint64) []int {
	sizes := make(map[string]int)
	for _, g := range groups {
		sizes[g]++
	}
	names := slices.Sorted(maps.Keys(sizes))
	rand.New(rand.NewPCG(seed, 0x6e6f76656c)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(sizes[b], sizes[a]) })
	held := make([]int, parts)
	part := make(map[string]int, len(names))
	for _, name := range names {
		least := 0
		for p := range held {
			if held[p] < held[least] {
				least = p
			}
		}
		part[name] = least
		held[least] += sizes[name]
	}
	of := make([]int, len(groups))
	for i, g := range groups {
		of[i] = part[g]
	}
	return of
}

// hashes is how many numbers stand for what a session read: the share of them that two sessions have in common is about the share of pairs of words
// that they do, give or take a tenth.
const hashes = 32

// read is what is known of a session when it is put in a group.
type read struct {
	id      string
	opening uint64
	pairs   map[uint32]bool
	least   [hashes]uint32 // MinHash of the pairs that are not everybody's
	empty   bool
}

// sessionsOf returns the sessions in the order of their first row, and which each row is of.
func sessionsOf(rows []Row, words []*features.Evidence) (sessions []*read, of []int) {
	of = make([]int, len(rows))
	place := make(map[string]int)
	for i := range rows {
		at, ok := place[rows[i].Session]
		if !ok {
			at = len(sessions)
			place[rows[i].Session] = at
			sessions = append(sessions, &read{id: rows[i].Session, pairs: map[uint32]bool{}})
		}
		of[i] = at
		if w := words[i]; w != nil {
			sessions[at].opening = w.Opening()
			w.Pairs(func(pair uint32) { sessions[at].pairs[pair] = true })
		}
	}
	common := make(map[uint32]int)
	for _, s := range sessions {
		for pair := range s.pairs {
			common[pair]++
		}
	}
	for _, s := range sessions {
		s.empty = true
		for k := range s.least {
			s.least[k] = math.MaxUint32
		}
		for pair := range s.pairs {
			if common[pair] > len(sessions)/4 {
				continue
			}
			s.empty = false
			x := uint64(pair) + 1
			for k := range s.least {
				x = (x + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
				x ^= x >> 29
				s.least[k] = min(s.least[k], uint32(x>>32))
			}
		}
		s.pairs = nil
	}
	return sessions, of
}

// link joins sessions that opened alike or of whose pairs at least that share are in common. It returns each one's parent in a tree whose root names the group.
func link(sessions []*read, alike float64) []int {
	parent := make([]int, len(sessions))
	for i := range parent {
		parent[i] = i
	}
	for i, a := range sessions {
		for j, b := range sessions[:i] {
			same := 0
			if !a.empty && !b.empty {
				for k := range a.least {
					if a.least[k] == b.least[k] {
						same++
					}
				}
			}
			if a.opening != 0 && a.opening == b.opening || float64(same) >= alike*hashes {
				parent[find(parent, i)] = find(parent, j)
			}
		}
	}
	return parent
}

func find(parent []int, i int) int {
	for parent[i] != i {
		parent[i] = parent[parent[i]]
		i = parent[i]
	}
	return i
}

// compared returns the rows as the forest wants them, with those features that come of a comparison with a baseline by one that knows nothing of a row's group. Were a row
// compared with a baseline that has learned it, nothing in it would be new, and the forest would learn that nothing ever is. Rows without evidence keep what they have.
func compared(rows []Row, evidence []*features.Evidence, groups []string, by *[features.Size]float32, o Options, seed uint64) [][]float32 {
	vectors := make([]features.Vector, len(rows))
	known := make(map[string]bool)
	for i := range rows {
		vectors[i] = rows[i].Vector
		known[groups[i]] = true
	}
	parts := min(noveltyFolds, len(known))
	part := deal(groups, parts, seed)
	for p := range parts {
		others := features.NewBaseline()
		for i, e := range evidence {
			if e != nil && part[i] != p {
				others.Learn(e)
			}
		}
		for i, e := range evidence {
			if e != nil && part[i] == p {
				others.Features(&vectors[i], e)
			}
		}
	}
	out := make([][]float32, len(rows))
	for i := range vectors {
		if o.mask != nil {
			o.mask(&vectors[i])
		}
		scaledBy(&vectors[i], &vectors[i], by)
		out[i] = vectors[i][:]
	}
	return out
}

// frequencies are the features that say how often the workload does what a call does.
var frequencies = func() (of []int) {
	for i := range features.Schema {
		switch features.Schema[i].Name {
		case "tool.surprise", "tool.pair_surprise", "time.hour_surprise", "time.workload_rate", "cost.rate":
			of = append(of, i)
		}
	}
	return of
}()

// asJudged returns the rows as calls of the same kind will be judged, for drift to be told by: with frequencies by the whole baseline. A row's part in those is next to nothing, while nine
// tenths of a baseline give other values than all of it for every call of a tool, which many have alike and which would pass for drift.
func asJudged(vectors [][]float32, evidence []*features.Evidence, base *features.Baseline, by *[features.Size]float32, o Options) [][]float32 {
	if base == nil {
		return vectors
	}
	out := slices.Clone(vectors)
	for i, e := range evidence {
		if e == nil {
			continue
		}
		var v features.Vector
		base.Features(&v, e)
		if o.mask != nil {
			o.mask(&v)
		}
		out[i] = slices.Clone(vectors[i])
		for _, f := range frequencies {
			out[i][f] = v[f] * by[f]
		}
	}
	return out
}

// untaught knows nothing. It is made where something is trained, which no sidecar does.
var untaught = sync.OnceValue(features.NewBaseline)

// uncompare takes the features out of a vector that come of a comparison with a baseline.
func uncompare(v *features.Vector) { untaught().Features(v, &features.Evidence{}) }

// fewestTold is how many rows with evidence make a baseline, if they are less than half of all.
const fewestTold = 2 * DefaultMinCalls

// tells says whether enough of so many rows of the workload's own have evidence still for a baseline. One that was learned from few of them, as where memory was short, knows little, and finds in every
// call what it finds in none of the rows that keep what they had when they were judged: of a constructed agent's calls, of which 3 in 600 had evidence, every second exceeded a threshold for one in a hundred.
func tells(evidence []*features.Evidence, own int) bool {
	n := 0
	for _, e := range evidence {
		if e != nil {
			n++
		}
	}
	return n >= fewestTold || 2*n >= own
}

// baseline learns the evidence of all rows; it is nil where there are none.
func baseline(words []*features.Evidence) *features.Baseline {
	var s *features.Baseline
	for _, w := range words {
		if w != nil {
			if s == nil {
				s = features.NewBaseline()
			}
			s.Learn(w)
		}
	}
	return s
}
