package features

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
)

// A word is known by its class only, one of 1,024: so few that many words share one, and enough that two words in a row, one of a million pairs,
// are still told from others.
const (
	classBits = 10
	classMask = 1<<classBits - 1
)

// Bounds of words.
const (
	maxWords = 4096 // classes
	maxRuns  = 512
	runWords = 64 // classes of one run at most

	maxWordsBytes = maxRuns*4 + maxWords*classBits/8
)

// words are the classes of the words of a call's tool results and of what users and system prompts say in it, in order. They are bounded: of a long
// text, evenly spaced stretches of 64 words are kept.
type words struct {
	runs   []run
	ids    []uint16
	stride int // of the runs, one in stride is kept
	count  int // runs so far, whether kept or not
	open   run
}

// run is a stretch of words of one speaker.
type run struct {
	n         uint8 // 1 to runWords
	tool      bool  // of a tool's result; else of a user or a system prompt
	continues bool  // the run before it, which is held as well, ends where this begins
	name      uint16
}

// Salt is what the classes of a workload's words are drawn by, so that those of one workload say nothing of another's. The secret is whatever the
// installation keeps from those who may read its records; without one, whoever knows the workload's name knows the salt.
func Salt(secret []byte, namespace, kind, name string) uint64 {
	h := fnv.New64a()
	for _, s := range []string{string(secret), namespace, kind, name} {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return scramble(h.Sum64())
}

// RecordedSalt is the salt of what is learned outside of a cluster, from recorded sessions or by a command that is run with the gate around it: one that everybody knows, so
// that what was learned of some can be compared with others.
var RecordedSalt = Salt(nil, "recorded", "sessions", "")

// scramble is the finaliser of SplitMix64: every bit of x bears on every bit of the result.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// classify returns the class of a word by its hash.
func classify(h, salt uint64) uint16 { return uint16(scramble(h^salt) & classMask) }

func (w *words) reset() {
	w.runs, w.ids = w.runs[:0], w.ids[:0]
	w.stride, w.count, w.open = 1, 0, run{}
}

// begin opens a run of a new text.
func (w *words) begin(tool bool, name uint16) { w.open = run{tool: tool, name: name} }

// add adds words to the open run, and begins another where it is full.
func (w *words) add(ids []uint16) {
	for len(ids) > 0 {
		n := min(len(ids), runWords-int(w.open.n))
		kept := w.count%w.stride == 0
		if kept {
			w.ids = append(w.ids, ids[:n]...)
		}
		ids = ids[n:]
		if w.open.n += uint8(n); w.open.n == runWords {
			w.end()
			w.open = run{tool: w.open.tool, name: w.open.name, continues: kept && w.stride == 1}
		}
	}
}

// end closes the open run.
func (w *words) end() {
	if w.open.n == 0 {
		return
	}
	if w.count%w.stride == 0 {
		w.runs = append(w.runs, w.open)
	}
	w.count++
	for len(w.ids) > maxWords-runWords || len(w.runs) >= maxRuns {
		w.thin()
	}
	w.open.n = 0
}

// thin drops every other run.
func (w *words) thin() {
	w.stride *= 2
	ids, runs, at := 0, 0, 0
	for i, r := range w.runs {
		if i%2 == 0 {
			copy(w.ids[ids:], w.ids[at:at+int(r.n)])
			ids += int(r.n)
			r.continues = false
			w.runs[runs] = r
			runs++
		}
		at += int(r.n)
	}
	w.ids, w.runs = w.ids[:ids], w.runs[:runs]
}

// append appends the runs, each: length-1 and two flags (1 byte), a hash of the tool's name where it is of a tool (2 bytes), classes of 10 bits each,
// the last byte filled with zeros. Numbers are little-endian, and so are the bits within a byte.
func (w *words) append(b []byte) []byte {
	at := 0
	for _, r := range w.runs {
		head := r.n - 1
		if r.tool {
			head |= 1 << 6
		}
		if r.continues {
			head |= 1 << 7
		}
		b = append(b, head)
		if r.tool {
			b = binary.LittleEndian.AppendUint16(b, r.name)
		}
		var acc uint32
		var have uint
		for _, id := range w.ids[at : at+int(r.n)] {
			acc |= uint32(id) << have
			for have += classBits; have >= 8; have -= 8 {
				b = append(b, byte(acc))
				acc >>= 8
			}
		}
		if have > 0 {
			b = append(b, byte(acc))
		}
		at += int(r.n)
	}
	return b
}

// decode reads what append wrote.
func (w *words) decode(b []byte) error {
	for len(b) > 0 {
		r := run{n: b[0]&(runWords-1) + 1, tool: b[0]&(1<<6) != 0, continues: b[0]&(1<<7) != 0}
		b = b[1:]
		if r.tool {
			if len(b) < 2 {
				return fmt.Errorf("%w: ends too early", ErrEvidence)
			}
			r.name = binary.LittleEndian.Uint16(b)
			b = b[2:]
		}
		if k := len(w.runs) - 1; r.continues && (k < 0 || w.runs[k].tool != r.tool || w.runs[k].name != r.name) {
			return fmt.Errorf("%w: a run that continues none", ErrEvidence)
		}
		size := (int(r.n)*classBits + 7) / 8
		if len(b) < size || len(w.runs) == maxRuns || len(w.ids)+int(r.n) > maxWords {
			return fmt.Errorf("%w: a run of %d words does not fit", ErrEvidence, r.n)
		}
		var acc uint32
		var have uint
		for _, c := range b[:size] {
			acc |= uint32(c) << have
			if have += 8; have >= classBits {
				w.ids = append(w.ids, uint16(acc&classMask))
				acc >>= classBits
				have -= classBits
			}
		}
		if acc != 0 {
			return fmt.Errorf("%w: bits after the end of a run", ErrEvidence)
		}
		b = b[size:]
		w.runs = append(w.runs, r)
	}
	return nil
}

// pairs calls yield for each pair of neighbouring words that is held, a number under 1<<20 that tells pairs apart.
func (w *words) pairs(yield func(pair uint32)) {
	at := 0
	for _, r := range w.runs {
		for i := at; i < at+int(r.n); i++ {
			if i > at || r.continues {
				yield(pairOf(w.ids[i-1], w.ids[i]))
			}
		}
		at += int(r.n)
	}
}

// Sizes of a sketch's sets, in bits.
const (
	pairSlots = 1 << (2 * classBits) // one for each pair of classes
	toolSlots = 1 << toolBits
	toolBits  = 19
	toolNames = 1 << 16

	// fewPairs is how many pairs of words of a tool must be known before its results are compared with its own: with fewer, all that it
	// returns would be new.
	fewPairs = 200
)

// sketch knows which words followed each other in a workload's calls: in the results of all tools, in those of each, and in what users and
// system prompts said. It is a set of bits, 328 KiB, however much it has learned, and full of holes only as long as there is little to learn: of a
// million pairs of classes, a workload of 50,000 different pairs has one in twenty, which is how often a new pair passes for a known one.
//
// learn is not safe for concurrent use; a sketch that is no longer taught is.
type sketch struct {
	heard  [2 * pairSlots / 64]uint64 // of each pair two bits, which are looked up at once: tools' results had it; users or system prompts had it
	byTool [toolSlots / 64]uint64
	tools  [toolNames / 64]uint64 // tools of which enough is known
	pairs  map[uint16]int         // how many pairs of each tool were learned; nil once it was decoded
}

func set(bits []uint64, i uint32)      { bits[i>>6] |= 1 << (i & 63) }
func has(bits []uint64, i uint32) bool { return bits[i>>6]>>(i&63)&1 != 0 }

func pairOf(a, b uint16) uint32 { return uint32(a)<<classBits | uint32(b) }

func toolPair(name uint16, pair uint32) uint32 {
	return uint32((uint64(name)<<32 | uint64(pair)) * 0x9e3779b97f4a7c15 >> (64 - toolBits))
}

// learn adds the words of one call.
func (s *sketch) learn(w *words) {
	if s.pairs == nil {
		s.pairs = map[uint16]int{}
	}
	at := 0
	for _, r := range w.runs {
		for i := at; i < at+int(r.n); i++ {
			if i == at && !r.continues {
				continue
			}
			pair := pairOf(w.ids[i-1], w.ids[i])
			if !r.tool {
				set(s.heard[:], 2*pair+1)
				continue
			}
			set(s.heard[:], 2*pair)
			set(s.byTool[:], toolPair(r.name, pair))
			if s.pairs[r.name]++; s.pairs[r.name] == fewPairs {
				set(s.tools[:], uint32(r.name))
			}
		}
		at += int(r.n)
	}
}

// sketchBytes is the length of an encoded sketch.
const sketchBytes = (2*pairSlots + toolSlots + toolNames) / 8

func (s *sketch) sets() [3][]uint64 {
	return [3][]uint64{s.heard[:], s.byTool[:], s.tools[:]}
}

// append appends the sketch to b: its sets of bits, little-endian.
func (s *sketch) append(b []byte) []byte {
	for _, words := range s.sets() {
		for _, x := range words {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
	}
	return b
}

// decode reads what append wrote, sketchBytes of it. A sketch that was read is for comparing, not for learning on: how much is known of a tool begins at
// nothing.
func (s *sketch) decode(b []byte) {
	s.pairs = nil
	for _, words := range s.sets() {
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(b)
			b = b[8:]
		}
	}
}

// novelty counts what of a call's tool results is new to a sketch. Its zero value has counted nothing.
type novelty struct {
	sketch *sketch

	// Of the text so far.
	name  uint16
	own   bool // the tool is compared with itself
	begun bool // there was a word, and last is its class
	last  uint16

	// Pairs that no tool's result had, those of them that users or system prompts had, and those that this tool's results did not have.
	fresh16, fresh32, voiced16, voiced32, alien32 window
	run, longest, unseen                          int
}

func (n *novelty) begin(name uint16) {
	n.begun, n.run, n.name = false, 0, name
	n.own = has(n.sketch.tools[:], uint32(name))
	for _, w := range []*window{&n.fresh16, &n.fresh32, &n.voiced16, &n.voiced32, &n.alien32} {
		w.past = 0
	}
}

// add adds words to the text. What is known of a pair is as good as random, so that nothing branches on it: bits are gathered, and counted where they can be
// more than there were.
func (n *novelty) add(ids []uint16) {
	if !n.begun && len(ids) > 0 {
		n.begun, n.last, ids = true, ids[0], ids[1:]
	}
	for len(ids) > 0 {
		some := ids[:min(len(ids), 64)]
		ids = ids[len(some):]
		known, said, own := n.sketch.lookUp(n.last, some, n.name)
		all := ^uint64(0) >> (64 - len(some))
		fresh := all &^ known
		alien := fresh
		if n.own {
			alien = all &^ own
		}
		n.last = some[len(some)-1]

		n.unseen += bits.OnesCount64(fresh)
		n.fresh16.add(fresh, len(some), 16)
		n.fresh32.add(fresh, len(some), 32)
		n.voiced16.add(fresh&said, len(some), 16)
		n.voiced32.add(fresh&said, len(some), 32)
		n.alien32.add(alien, len(some), 32)
		n.follow(fresh, len(some))
	}
}

// follow finds the longest run of fresh pairs.
func (n *novelty) follow(fresh uint64, count int) {
	known := ^fresh & (^uint64(0) >> (64 - count))
	if known == 0 {
		n.run += count
		n.longest = max(n.longest, n.run)
		return
	}
	n.longest = max(n.longest, n.run+bits.TrailingZeros64(known))
	n.run = bits.LeadingZeros64(known) - (64 - count)
	n.longest = max(n.longest, n.run)
	if n.longest >= bits.OnesCount64(fresh) {
		return
	}
	for ends := afterLong(known, n.longest+1); ends != 0; ends &= ends - 1 {
		k := bits.TrailingZeros64(ends)
		n.longest = max(n.longest, k-gapStart(known, k, 0, 0))
	}
}

// lookUp returns which of up to 64 pairs, of which the first begins with last, tools' results had, which users or system prompts had, and which this tool's results
// had.
func (s *sketch) lookUp(last uint16, ids []uint16, name uint16) (results, said, own uint64) {
	if kernels && len(ids) > 0 {
		return lookUpKernel(s, last, &ids[0], len(ids), name)
	}
	pair := uint32(last)
	for _, id := range ids {
		pair = (pair<<classBits | uint32(id)) % pairSlots
		i := toolPair(name, pair)
		own = own>>1 | s.byTool[i/64]>>(i%64)<<63
		x := s.heard[pair/32] >> (2 * pair % 64)
		results = results>>1 | x<<63
		said = said>>1 | x>>1<<63
	}
	unused := 64 - len(ids)
	return results >> unused, said >> unused, own >> unused
}

func (n *novelty) write(dst *Vector) {
	dst[unseenBurst] = float32(n.fresh16.most) / 16
	dst[unseenPeak] = float32(n.fresh32.most) / 32
	dst[toolPeak] = float32(n.alien32.most) / 32
	dst[unseenRun] = log1pOf(n.longest)
	dst[unseenPairs] = log1pOf(n.unseen)
	dst[voiceBurst] = log1pOf(n.voiced16.most)
	dst[voicePeak] = log1pOf(n.voiced32.most)
}

// novelty writes the novelty features of a call's words to its vector, as Extract does for a call at hand. Of a long text, it sees what words
// has of it.
func (s *sketch) novelty(dst *Vector, w *words) {
	n := novelty{sketch: s}
	at := 0
	for _, r := range w.runs {
		if r.tool {
			if !r.continues {
				n.begin(r.name)
			}
			n.add(w.ids[at : at+int(r.n)])
		}
		at += int(r.n)
	}
	n.write(dst)
}
