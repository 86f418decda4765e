package features

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// What a Baseline knows marks of.
const (
	kindModel byte = iota
	kindSystem
	kindDestination
	kindCredential
	kindTool
	kindArgument // destinations in arguments
	kinds
	kindSalt = kinds // of the salt itself
)

// knownLimits bound how many of each a Baseline knows.
var knownLimits = [kinds]int{kindModel: 64, kindSystem: 256, kindDestination: 64, kindCredential: 64, kindTool: 1024, kindArgument: 4096}

// Bounds of what a Baseline knows of tool calls.
const (
	maxTools       = 512
	maxTransitions = 4096
)

// startOfTools stands for the tool before a conversation's first.
const startOfTools = 0

// weekKnownDays is on how many days of the week a workload must have been seen before an hour can be unusual for it: what was learned on one morning
// knows nothing of the evening.
const weekKnownDays = 5

var errBaseline = errors.New("not a valid encoding of a baseline")

// Baseline is what is usual in a workload, learned from the Evidence of its calls: which words follow each other, which models, tools, system
// prompts, destinations and credentials there were, how often each tool is called and after which, at which hours calls come and at what pace. It is bounded: under
// half a megabyte, whatever it has learned.
//
// Where a workload has more different ones of something than a Baseline keeps (1,024 tools, 256 system prompts, 64 each of models, destinations and credentials, 4,096 destinations
// in arguments), nothing of that kind is new any more, as it can no longer be told.
//
// Learn is not safe for concurrent use; a Baseline that is no longer taught is, and nothing in it is locked.
type Baseline struct {
	salt        uint32 // the mark of what all marks are salted with; 0 while nothing was learned
	rows        uint32 // calls learned
	words       sketch
	known       [kinds]tally
	tools       tally  // how often each tool was called
	events      uint32 // tool calls, and calls without any
	transitions tally  // how often a tool followed another: the first's hash in the high half
	departures  tally  // how often any tool followed it
	hours       [hoursOfWeek]uint32
	timed       uint64 // calls in all hours
	days        uint8  // on which days there were calls, a bit each
	calling     paces
	costing     paces
}

// NewBaseline returns a Baseline that knows nothing.
func NewBaseline() *Baseline {
	b := new(Baseline)
	b.limits()
	return b
}

func (b *Baseline) limits() {
	for i := range b.known {
		b.known[i].limit = knownLimits[i]
	}
	b.tools.limit, b.transitions.limit, b.departures.limit = maxTools, maxTransitions, maxTools
}

// Learn adds what one call left behind. What was salted otherwise than what was learned before is left out, as nothing in it could be told apart.
func (b *Baseline) Learn(e *Evidence) {
	if b.rows == 0 {
		b.salt = e.salt
	}
	if !e.present || e.salt != b.salt {
		return
	}
	b.words.learn(&e.words)
	m := &e.marks
	b.rows += min(1, ^b.rows)
	b.known[kindModel].add(m.model, 1)
	b.known[kindSystem].add(m.system, 1)
	b.known[kindDestination].add(m.destination, 1)
	b.known[kindCredential].add(m.credential, 1)
	for _, x := range m.tools {
		b.known[kindTool].add(x, 1)
	}
	for _, x := range m.destinations {
		b.known[kindArgument].add(x|destinationSaid, 1)
	}
	previous := m.previous
	for _, tool := range m.calls {
		b.tools.add(uint32(tool), 1)
		b.transitions.add(uint32(previous)<<16|uint32(tool), 1)
		b.departures.add(uint32(previous)+1, 1)
		previous = tool
	}
	b.events += min(uint32(max(1, len(m.calls))), ^b.events)
	b.calling.add(m.calling)
	b.costing.add(m.costing)
	if m.hour != noHour {
		n := min(1, ^b.hours[m.hour])
		b.hours[m.hour] += n
		b.calls(int(m.hour), n)
	}
}

// Compares reports whether a call can be compared with the baseline by what it left behind: where that was salted otherwise, or is nothing, nothing in the call is told as
// new.
func (b *Baseline) Compares(e *Evidence) bool {
	return b != nil && b.rows > 0 && e != nil && e.present && e.salt == b.salt
}

// Features writes those features of a call that come of a comparison with the baseline to its vector, as Extract does for a call at hand, and leaves the
// others. Of a long text, it sees what the evidence has of it. Where the evidence was salted otherwise, nothing is new.
func (b *Baseline) Features(dst *Vector, e *Evidence) {
	if b.rows > 0 && b.salt != e.salt {
		clear(dst[unseenBurst : voicePeak+1])
		clear(dst[newModel : newCredential+1])
		clear(dst[toolSurprise : hourSurprise+1])
		return
	}
	b.words.novelty(dst, &e.words)
	b.compare(dst, &e.marks)
}

// compare writes the features that do not come of words.
func (b *Baseline) compare(dst *Vector, m *marks) Facts {
	f := Facts{
		Ready:          b.rows > 0,
		NewModel:       b.unknown(kindModel, m.model),
		NewSystem:      b.unknown(kindSystem, m.system),
		NewDestination: b.unknown(kindDestination, m.destination),
		NewCredential:  b.unknown(kindCredential, m.credential),
	}
	for _, x := range m.tools {
		f.NewTools = f.NewTools || b.unknown(kindTool, x)
	}
	if !f.Ready {
		f = Facts{}
	}
	flag := func(feature int, is bool) {
		dst[feature] = 0
		if is {
			dst[feature] = 1
		}
	}
	flag(newModel, f.NewModel)
	flag(newTools, f.NewTools)
	flag(newSystem, f.NewSystem)
	flag(newDestination, f.NewDestination)
	flag(newCredential, f.NewCredential)

	strange := 0
	for _, x := range m.destinations {
		if x&destinationSaid == 0 && f.Ready && b.unknown(kindArgument, x|destinationSaid) {
			strange++
		}
	}
	dst[newDestinations] = log1pOf(strange)

	tool, pair := b.surprise(m)
	dst[toolSurprise], dst[pairSurprise] = float32(tool), float32(pair)
	dst[workloadRate], dst[costRate] = float32(b.calling.over(m.calling)), float32(b.costing.over(m.costing))
	dst[hourSurprise] = float32(b.hourSurprise(m.hour))
	return f
}

// unknown says that a mark is there and not known.
func (b *Baseline) unknown(kind byte, mark uint32) bool {
	return mark != 0 && b.known[kind].get(mark) == 0 && !b.known[kind].full()
}

// surprise is how many bits the least likely of the tools called takes to tell, by itself and after the tool before it. Half a call is added to each tool and to
// those not seen yet; where little is known of what follows a tool, it is what is usual at large.
func (b *Baseline) surprise(m *marks) (alone, after float64) {
	if b.rows == 0 {
		return 0, 0
	}
	const half, weight = 0.5, 2
	previous := m.previous
	for _, tool := range m.calls {
		p := (float64(b.tools.get(uint32(tool))) + half) / (float64(b.events) + half*float64(b.tools.used+2))
		q := (float64(b.transitions.get(uint32(previous)<<16|uint32(tool))) + weight*p) / (float64(b.departures.get(uint32(previous)+1)) + weight)
		alone, after = max(alone, -math.Log2(p)), max(after, -math.Log2(q))
		previous = tool
	}
	return alone, max(0, after)
}

// hourSurprise is how many bits an hour of the week takes to tell. An hour is as likely as it was seen, with a half of each hour beside it and a quarter of the
// same hour on each other day.
func (b *Baseline) hourSurprise(hour uint8) float64 {
	if hour == noHour {
		return 0
	}
	if bits.OnesCount8(b.days) < weekKnownDays {
		return 0
	}
	total := float64(b.timed)
	h := int(hour)
	seen := float64(b.hours[h]) + float64(b.hours[(h+1)%hoursOfWeek])/2 + float64(b.hours[(h+hoursOfWeek-1)%hoursOfWeek])/2
	for d := 1; d < 7; d++ {
		seen += float64(b.hours[(h+24*d)%hoursOfWeek]) / 4
	}
	const weights = 1 + 2*.5 + 6*.25
	return -math.Log2((seen + .5) / (weights*total + .5*hoursOfWeek))
}

// calls counts calls of an hour of the week among those of all.
func (b *Baseline) calls(hour int, n uint32) {
	if n > 0 {
		b.timed += uint64(n)
		b.days |= 1 << (hour / 24)
	}
}

const baselineVersion = 1

// AppendBinary appends the baseline to b. Equal baselines have equal bytes.
func (b *Baseline) AppendBinary(to []byte) ([]byte, error) {
	to = append(to, baselineVersion)
	to = binary.LittleEndian.AppendUint32(to, b.salt)
	to = binary.AppendUvarint(to, uint64(b.rows))
	to = binary.AppendUvarint(to, uint64(b.events))
	for _, t := range b.tallies() {
		to = t.append(to)
	}
	for _, counts := range b.counts() {
		for _, n := range counts {
			to = binary.AppendUvarint(to, uint64(n))
		}
	}
	return b.words.append(to), nil
}

func (b *Baseline) tallies() [kinds + 3]*tally {
	var all [kinds + 3]*tally
	for i := range b.known {
		all[i] = &b.known[i]
	}
	all[kinds], all[kinds+1], all[kinds+2] = &b.tools, &b.transitions, &b.departures
	return all
}

func (b *Baseline) counts() [3][]uint32 {
	return [3][]uint32{b.hours[:], b.calling.steps[:], b.costing.steps[:]}
}

// UnmarshalBinary reads what AppendBinary wrote, and leaves the baseline alone where it is something else. A baseline that was read is for comparing, not for
// learning on: how much is known of each tool's words begins at nothing.
func (b *Baseline) UnmarshalBinary(from []byte) error {
	if len(from) < 5 || from[0] != baselineVersion {
		return fmt.Errorf("%w: not of version %d", errBaseline, baselineVersion)
	}
	read := NewBaseline()
	read.salt = binary.LittleEndian.Uint32(from[1:])
	rest := from[5:]
	number := func(to *uint32) error {
		x, after, err := uvarint(rest, 1<<32-1)
		*to, rest = uint32(x), after
		return err
	}
	if err := number(&read.rows); err != nil {
		return err
	}
	if err := number(&read.events); err != nil {
		return err
	}
	for _, t := range read.tallies() {
		var err error
		if rest, err = t.decode(rest); err != nil {
			return err
		}
	}
	for _, counts := range read.counts() {
		for i := range counts {
			if err := number(&counts[i]); err != nil {
				return err
			}
		}
	}
	if len(rest) != sketchBytes {
		return fmt.Errorf("%w: %d bytes of words, not %d", errBaseline, len(rest), sketchBytes)
	}
	read.words.decode(rest)
	read.calling.settle()
	read.costing.settle()
	for h, n := range read.hours {
		read.calls(h, n)
	}
	*b = *read
	return nil
}
