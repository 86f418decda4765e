package features

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
)

// Limits on what is read of one call. They bound the time that a call of any size can take to some milliseconds.
const (
	maxScan    = 4 << 20   // bytes of new text, the latest; unreadBytes says when there was more
	maxHistory = 256 << 10 // bytes of earlier text that arguments of tool calls are compared with, the latest first
)

// maxWaiting is how many classes of words wait to be looked up.
const maxWaiting = 2048

// overrideReach is how many words after one for setting aside a word for instructions makes a phrase with it.
const overrideReach = 8

// Classes of bytes.
const (
	other   = iota // punctuation
	word           // ASCII letters and digits
	high           // beyond ASCII
	space          // space and tab
	newline        // line feed and carriage return
	control        // other control characters
)

var classOf, inBase64 = func() (class [256]uint8, base64 [256]bool) {
	for c := range 256 {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			class[c], base64[c] = word, true
		case c >= 0x80:
			class[c] = high
		case c == ' ', c == '\t':
			class[c] = space
		case c == '\n', c == '\r':
			class[c] = newline
		case c < ' ', c == 0x7f:
			class[c] = control
		case c == '+', c == '/', c == '=', c == '-', c == '_':
			base64[c] = true
		}
	}
	return
}()

// histogram counts bytes.
type histogram [256]uint32

// nlogn has n·log2(n) for the numbers that bytes of texts of ordinary length come in.
var nlogn = func() (t [1024]float64) {
	for n := 2; n < len(t); n++ {
		t[n] = float64(n) * math.Log2(float64(n))
	}
	return
}()

// entropy of the bytes counted, in bits per byte; 0 for none. Only the first counts are looked at, the others being 0.
func (h *histogram) entropy(total, counts int) float64 {
	if total == 0 {
		return 0
	}
	sum := 0.0
	for b := h[:counts]; len(b) >= 4; b = b[4:] {
		four := (*[4]uint32)(b)
		if four[0]|four[1]|four[2]|four[3] == 0 {
			continue
		}
		for _, n := range four {
			if n < uint32(len(nlogn)) {
				sum += nlogn[n]
			} else {
				sum += float64(n) * math.Log2(float64(n))
			}
		}
	}
	return max(0, math.Log2(float64(total))-sum/float64(total))
}

func (h *histogram) sum(from, to byte) int {
	n := 0
	for _, k := range h[from : int(to)+1] {
		n += int(k)
	}
	return n
}

// wordSet is a set of words by hash: one bit each, so that a word may be taken for a member that is none, seldom while the set is
// sparse. 8 KiB.
type wordSet [1024]uint64

// add adds a word and returns 1 if it was not there, else 0.
func (s *wordSet) add(h uint64) int {
	slot := &s[h>>6%1024]
	old := *slot
	*slot = old | 1<<(h&63)
	return int(^old >> (h & 63) & 1)
}

// addAll adds words and returns how many were not there.
func (s *wordSet) addAll(hashes []uint64) int {
	n := 0
	for _, h := range hashes {
		n += s.add(h)
	}
	return n
}

func (s *wordSet) has(h uint64) bool { return s[h>>6%1024]>>(h&63)&1 != 0 }

// scan is what one pass over a call's new text gathers. It is 55 KiB of scratch that belongs to the Extract that took it from the pool,
// until Extract puts it back.
type scan struct {
	over int // bytes that are still to be passed over, as there are more than may be read

	// Of all new text.
	text         quads
	high         uint64 // not 0 where some of it is beyond ASCII
	bytes        int
	toolBytes    int
	unread       int
	words        int
	wordBytes    int
	distinct     int
	seen         wordSet
	longestToken int
	longestRun   int
	secrets      int

	// Of new tool results.
	instructions int
	addresses    int
	machines     int
	markers      int
	imperatives  int
	capitals     int
	exclaimed    int
	invisible    int
	tags         int
	overrides    int
	peak         int
	prose        int

	// Of tool calls in new messages.
	calls     int
	effects   int
	args      histogram
	argsHigh  byte // at least 0x80 where some of them is beyond ASCII
	argsBytes int
	argsWords int
	tainted   int

	// What earlier text said, gathered where the new messages have tool calls.
	comparing      int // tool calls that are still to come
	byUser, byTool wordSet
	users, tooled  bool // whether there is anything in them

	// Who takes the classes of words.
	salt  uint64
	keep  *words // nil for nobody
	novel novelty

	// What is compared with the baseline besides words.
	marks *marks
	spare marks // where nobody asked for evidence
	known markCache
	tools toolMarks

	// The chunk at hand.
	chunk  chunk
	turns  [chunkBlocks]uint64      // where a word begins or has ended
	bounds [chunkBytes + 10]uint32  // these places, and room for what is written before it is known to be none
	hashes [chunkBytes/2 + 1]uint64 // of its words
	long   [chunkBytes/8 + 1]uint16 // which fours of them have one of more than sixteen bytes

	// Classes of words wait until there are many: looking up pairs of them fills the processor's nearest cache with what nothing else needs.
	ids     [maxWaiting + chunkBytes/2 + 1]uint16
	waiting int
}

var pool = sync.Pool{New: func() any { return new(scan) }}

// begin makes a used scan new. Sets and histograms, most of it, are cleared only where they were used.
func (s *scan) begin() {
	if s.words > 0 {
		clear(s.seen[:])
	}
	if s.users {
		clear(s.byUser[:])
	}
	if s.tooled {
		clear(s.byTool[:])
	}
	if s.bytes > 0 {
		s.text = quads{}
	}
	if s.argsBytes > 0 {
		clear(s.args[:])
	}
	s.over, s.bytes, s.toolBytes, s.unread, s.words, s.wordBytes, s.distinct = 0, 0, 0, 0, 0, 0, 0
	s.longestToken, s.longestRun, s.secrets = 0, 0, 0
	s.instructions, s.addresses, s.machines, s.markers, s.imperatives = 0, 0, 0, 0, 0
	s.capitals, s.exclaimed, s.invisible, s.tags, s.overrides, s.peak, s.prose = 0, 0, 0, 0, 0, 0, 0
	s.calls, s.effects, s.argsBytes, s.argsWords, s.tainted = 0, 0, 0, 0, 0
	s.high, s.argsHigh = 0, 0
	s.comparing, s.users, s.tooled = 0, false, false
	s.keep, s.novel, s.marks, s.waiting = nil, novelty{}, &s.spare, 0
}

// hears notes that words are about to be added to one of the sets of words that were said.
func (s *scan) hears(said *wordSet) {
	s.users = s.users || said == &s.byUser
	s.tooled = s.tooled || said == &s.byTool
}

// take returns the part of b that may be read.
func (s *scan) take(b []byte) []byte {
	n := min(len(b), s.over)
	s.over -= n
	s.unread += n
	return b[n:]
}

// reading is the state of reading one text.
type reading struct {
	text    []byte
	said    *wordSet // takes the words; nil for nobody
	classes bool     // words have classes

	open     int  // 1 while a word goes on that begins where the first span says
	bytes    int  // of words
	unseen   int  // of those that do not show
	token    int  // where the run without white space began
	run      int  // where the run of the base64 alphabet began
	sentence int  // the last end of a sentence, before this chunk
	line     int  // the last end of a line, before this chunk
	number   int  // where the word ended that came last and was no number
	hidden   bool // something in the chunk does not show, or in a word that began before

	// Of the block before: 1 if a word goes on, if beyond ASCII, if it is in ASCII, and if the first byte is escaped.
	inWord, beyond, plain, escaped uint64

	secret uint64 // not 0 where the run that goes on may be a credential

	sentences, lines [chunkBlocks]uint64 // where the chunk's sentences and lines end

	word      int    // how many words there were before this chunk
	reach     int    // up to which word one for instructions makes a phrase with the last one for setting aside
	commands  window // of words of command, address or models
	functions window // of function words

	instructions, addresses, machines, markers, imperatives, capitals, invisible, tags, overrides int
}

// read reads new text. said, where it is not nil, takes the words; tool says that the text is a tool's result, and prompt that it is a user's or a
// system prompt's. name is that of the tool.
func (s *scan) read(b []byte, tool, prompt bool, name string, said *wordSet) {
	b = s.take(b)
	s.bytes += len(b)
	exclaimed := s.text.of('!')
	compare, keep := tool && s.novel.sketch != nil, (tool || prompt) && s.keep != nil
	short := toolName(name)
	if compare {
		s.novel.begin(short)
	}
	if keep {
		s.keep.begin(tool, short)
	}
	s.hears(said)
	r := reading{text: b, said: said, classes: compare || keep, line: -1}
	for from := 0; from < len(b); from += chunkBytes {
		part := b[from:min(from+chunkBytes, len(b))]
		s.chunk.fill(part, &s.text)
		bounds := s.blocks(&r, from, len(part))
		n := s.spell(&r, bounds/2)
		s.words += n
		s.distinct += s.seen.addAll(s.hashes[:n])
		if said != nil {
			said.addAll(s.hashes[:n])
		}
		if tool {
			s.weigh(&r, from, n)
		}
		if r.classes {
			if s.waiting += n; s.waiting >= maxWaiting || from+chunkBytes >= len(b) {
				if compare {
					s.novel.add(s.ids[:s.waiting])
				}
				if keep {
					s.keep.add(s.ids[:s.waiting])
				}
				s.waiting = 0
			}
		}
		s.turn(&r, from, bounds, n)
	}
	s.wordBytes += r.bytes - r.unseen
	s.endRun(b, r.run, len(b))
	s.longestToken = max(s.longestToken, len(b)-r.token)
	if keep {
		s.keep.end()
	}
	if !tool {
		return
	}
	s.toolBytes += len(b)
	s.exclaimed += s.text.of('!') - exclaimed
	s.instructions += r.instructions
	s.addresses += r.addresses
	s.machines += r.machines
	s.markers += r.markers
	s.imperatives += r.imperatives
	s.capitals += r.capitals
	s.invisible += r.invisible
	s.tags += r.tags
	s.overrides += r.overrides
	s.peak = max(s.peak, r.commands.most)
	s.prose = max(s.prose, r.functions.most)
}

// blocks goes through the chunk that begins at from: it ends tokens and runs and returns how many bounds of words there are. A word that the text goes on with after
// the chunk has no second one.
func (s *scan) blocks(r *reading, from, size int) (bounds int) {
	token, run, longestToken, longestRun := r.token, r.run, s.longestToken, s.longestRun
	blocks := (size + blockBytes - 1) / blockBytes
	c := &s.chunk
	for k := range blocks {
		at := from + k*blockBytes
		s.high |= c[inWord][k] &^ c[inEncoded][k]
		// Text that is JSON still: \n is a line's end, and no letter of a word.
		escaped, last := escapes(c[inBackslash][k], r.escaped)
		r.escaped = last
		broken := escaped & c[inBreaks][k]
		words, encoded, blank, sentences := c[inWord][k]&^escaped, c[inEncoded][k]&^escaped, c[inBlank][k]&^escaped, c[inSentence][k]&^escaped
		r.sentences[k], r.lines[k] = sentences|broken, blank&sentences|broken
		if rare := c[inRare][k] &^ escaped; rare != 0 {
			r.rare(at, rare)
		}
		if beyond := words &^ encoded; beyond|r.beyond != 0 {
			// A run of base64 ends at the first byte beyond ASCII, and the next begins after the word.
			beyond = spread(beyond|r.beyond&words, words)
			encoded &^= beyond
			r.beyond = beyond >> 63
		}

		if blank != 0 {
			longestToken = max(longestToken, at+bits.TrailingZeros64(blank)-token)
			if longestToken < blockBytes {
				for ends := afterLong(blank, longestToken+1); ends != 0; ends &= ends - 1 {
					k := bits.TrailingZeros64(ends)
					longestToken = max(longestToken, at+k-gapStart(blank, k, at, token))
				}
			}
			token = at + 64 - bits.LeadingZeros64(blank)
		}
		stops := ^encoded
		if rest := size - k*blockBytes; rest < blockBytes {
			stops &= 1<<rest - 1
		}
		// A credential begins after what is no letter or digit, and is not short. Few places are like that, and the second byte leaves next to none: runs are looked at where
		// there is one.
		lengthy := ^beforeShort(stops)
		secret := c[inSecret][k] & encoded & lengthy &^ (words&encoded<<1 | r.plain)
		if secret != 0 {
			secret = r.likely(secret, at)
		}
		r.plain = words & encoded >> 63
		if stops != 0 {
			longestRun = max(longestRun, at+bits.TrailingZeros64(stops)-run)
			if secret|r.secret != 0 {
				s.endSecrets(r, stops, at, run)
			}
			// Of a run of ten bytes or more, all but nine are at the beginning of ten.
			if bits.OnesCount64(lengthy) > longestRun-minSecret+1 && longestRun < blockBytes {
				for ends := afterLong(stops, longestRun+1); ends != 0; ends &= ends - 1 {
					k := bits.TrailingZeros64(ends)
					longestRun = max(longestRun, at+k-gapStart(stops, k, at, run))
				}
			}
			open := bits.LeadingZeros64(stops)
			run = at + 64 - open
			r.secret = secret >> ((64 - open) & 63)
			if open == 0 {
				r.secret = 0
			}
		} else {
			r.secret |= secret
		}
		r.bytes += bits.OnesCount64(words)
		s.turns[k] = words ^ (words<<1 | r.inWord)
		r.inWord = words >> 63
	}
	r.token, r.run, s.longestToken, s.longestRun = token, run, longestToken, longestRun
	bounds = r.open + placesOf(s.bounds[r.open:], s.turns[:blocks], from)
	if from+size == len(r.text) && bounds%2 != 0 {
		s.bounds[bounds] = uint32(len(r.text))
		bounds++
	}
	return bounds
}

// secondOf has, for what a credential begins with, what comes next: a bit for each letter.
var secondOf = func() (of [256]uint32) {
	for i := range credentials {
		prefix := credentials[i].prefix
		of[prefix[0]] |= 1 << (prefix[1] & 31)
	}
	return
}()

// likely returns those places of the block at a place in the text from which a credential's second byte follows as well.
func (r *reading) likely(first uint64, at int) (both uint64) {
	for ; first != 0; first &= first - 1 {
		k := bits.TrailingZeros64(first)
		if next := at + k + 1; next < len(r.text) && secondOf[r.text[next-1]]>>(r.text[next]&31)&1 != 0 {
			both |= 1 << k
		}
	}
	return both
}

// endSecrets counts credentials among the runs of the base64 alphabet that end at the stops of the block at a place in the text. The first run began at a place.
func (s *scan) endSecrets(r *reading, stops uint64, at, run int) {
	for ends := stops; ends != 0; ends &= ends - 1 {
		end := at + bits.TrailingZeros64(ends)
		if end-run >= minSecret && isSecret(r.text[run:end], r.text[end:]) {
			s.secrets++
		}
		run = end + 1
	}
}

// rare looks at the rare bytes of the block at a place in the text.
func (r *reading) rare(at int, rare uint64) {
	for ; rare != 0; rare &= rare - 1 {
		k := bits.TrailingZeros64(rare)
		b := r.text[at+k:]
		switch c := b[0]; c {
		case '<':
			if len(b) > 1 {
				switch n := b[1]; {
				case n == '/' || n|0x20 >= 'a' && n|0x20 <= 'z':
					r.tags++
				case n == '|' || n == '<':
					r.markers++
				}
			}
		case '[':
			// Lists in lists, [[1 or [["a", are data.
			if len(b) > 2 && b[1] == '[' && b[2]|0x20 >= 'a' && b[2]|0x20 <= 'z' {
				r.markers++
			}
		case '#':
			if len(b) > 2 && b[1] == '#' && b[2] == '#' && (at+k == 0 || r.text[at+k-1] != '#') {
				r.markers++
			}
		default:
			if c < 0x80 {
				r.invisible++
			} else if unseen(b) > 0 {
				r.hidden = true
			}
		}
	}
}

// spell makes hashes and classes of the words of the chunk and returns how many there are, which may be fewer as a word of characters that do
// not show is none.
func (s *scan) spell(r *reading, words int) int {
	if r.hidden {
		return s.spellShown(r, words)
	}
	done, short := 0, words
	if kernels {
		// All but the text's last few, which the kernel would read beyond.
		for short > 0 && int(s.bounds[2*short-2])+16 > len(r.text) {
			short--
		}
		if fours := short / 4; fours > 0 {
			longs, capitals := spellKernel(&r.text[0], &s.bounds[0], &s.hashes[0], &s.ids[s.waiting], fours, s.salt, &s.long[0])
			for _, four := range s.long[:longs] {
				for i := 4 * int(four); i < 4*int(four)+4; i++ {
					if begin, end := s.bounds[2*i], s.bounds[2*i+1]; end-begin > 16 {
						s.put(r, i, spell(r.text[begin:end]), int(end-begin))
					}
				}
			}
			r.capitals += capitals
			done = 4 * fours
		}
		short = words
	}
	for short > done && int(s.bounds[2*short-2])+8 > len(r.text) {
		short--
	}
	b := r.text
	hashes := s.hashes[:short]
	ids, bounds := s.ids[s.waiting:][:len(hashes)], s.bounds[:2*len(hashes)]
	for i := done; i < len(hashes); i++ {
		begin, end := bounds[2*i], bounds[2*i+1]
		n := end - begin
		m := head[min(n, 8)]
		x := binary.LittleEndian.Uint64(b[begin:]) & m
		h := fold(wordBasis, x, 0)
		hashes[i] = h
		if r.classes {
			// Numbers, dates and identifiers are new each time: what counts is that there is one.
			number := numeral + uint64(n)
			if x&(bit7|bit6) == 0 {
				number = numeral
			}
			if m&^(x|x>>1)&bit6 != 0 {
				h = number
			}
			ids[i] = classify(h, s.salt)
		}
		if n > 8 {
			s.put(r, i, spell(b[begin:end]), int(n))
		} else if x&(bit7|bit5) == 0 && n >= 3 {
			r.capitals++
		}
	}
	for i := short; i < words; i++ {
		word := b[s.bounds[2*i]:s.bounds[2*i+1]]
		s.put(r, i, spell(word), len(word))
	}
	return words
}

// put sets the hash and the class of the chunk's i-th word, which is of a length.
func (s *scan) put(r *reading, i int, w spelling, length int) {
	s.hashes[i] = w.hash
	if w.smalls == 0 && length >= 3 {
		r.capitals++
	}
	if r.classes {
		h := w.hash
		switch {
		case w.others == 0:
			h = numeral
		case w.digits != 0:
			h = numeral + uint64(min(length, 16))
		}
		s.ids[s.waiting+i] = classify(h, s.salt)
	}
}

// spellShown is spell for a chunk in which something does not show.
func (s *scan) spellShown(r *reading, words int) (shown int) {
	for i := range words {
		begin, end := s.bounds[2*i], s.bounds[2*i+1]
		var w spelling
		length := int(end - begin)
		if r.hides(begin, end) {
			w, length = r.spellShown(begin, end)
		} else {
			w = spell(r.text[begin:end])
		}
		if length > 0 {
			s.bounds[2*shown], s.bounds[2*shown+1] = begin, end
			s.put(r, shown, w, length)
			shown++
		}
	}
	return shown
}

// hides reports whether something in a word does not show.
func (r *reading) hides(begin, end uint32) bool {
	for i, c := range r.text[begin:end] {
		if c >= 0x80 && unseen(r.text[int(begin)+i:]) > 0 {
			return true
		}
	}
	return false
}

// spellShown spells what shows of a word, and returns how long that is.
func (r *reading) spellShown(begin, end uint32) (spelling, int) {
	w := newSpeller()
	for i := int(begin); i < int(end); {
		if n := unseen(r.text[i:]); n > 0 {
			r.invisible++
			r.unseen += n
			i += n
			continue
		}
		w.add(r.text[i])
		i++
	}
	return w.end(), w.length
}

// weigh looks up the words of the chunk that begins at from.
func (s *scan) weigh(r *reading, from, words int) {
	for first := 0; first < words; first += 64 {
		hashes := s.hashes[first:min(first+64, words)]
		functions, tell := lexicon.sift(hashes) // of each word a bit
		commands := uint64(0)
		for ; tell != 0; tell &= tell - 1 {
			i := bits.TrailingZeros64(tell)
			if s.command(r, lexicon.find(hashes[i]), from, first+i) {
				commands |= 1 << i
			}
		}
		r.commands.add(commands, len(hashes), 32)
		r.functions.add(functions, len(hashes), 32)
	}
}

// command counts a word of the lexicon, the chunk's i-th, and returns whether it is one of command, address or models.
func (s *scan) command(r *reading, cat category, from, i int) bool {
	is := cat&(instruction|address|machine) != 0
	r.instructions += int(cat & instruction / instruction)
	r.addresses += int(cat & address / address)
	r.machines += int(cat & machine / machine)
	begin, end := int(s.bounds[2*i]), int(s.bounds[2*i+1])
	if cat&order != 0 && r.word+i < r.reach {
		r.overrides++
		r.reach = 0
	}
	if cat&setAside != 0 {
		r.reach = r.word + i + overrideReach + 1
	}
	if cat&imperative != 0 && s.begins(r, from, i) {
		r.imperatives++
		is = true
	}
	if cat&speaker != 0 && isMarker(r.text, begin, end, before(&r.lines, from, begin, r.line)+1) {
		r.markers++
	}
	return is
}

// begins reports whether the chunk's i-th word begins a sentence, but for numbers before it.
func (s *scan) begins(r *reading, from, i int) bool {
	end := before(&r.sentences, from, int(s.bounds[2*i]), r.sentence)
	if i > 0 && end >= int(s.bounds[2*i-1]) {
		return true
	}
	return end >= s.lastWord(r, i)
}

// lastWord returns where the word ended that came last before the chunk's i-th and was no number.
func (s *scan) lastWord(r *reading, i int) int {
	for i--; i >= 0; i-- {
		end := int(s.bounds[2*i+1])
		for k := int(s.bounds[2*i]); k < end; k++ {
			if c := r.text[k]; c > '9' && c < 0x80 {
				return end
			}
			if n := unseen(r.text[k:]); n > 0 {
				k += n - 1
			} else if r.text[k] > '9' {
				return end
			}
		}
	}
	return r.number
}

// turn leaves the chunk that begins at from for the next one.
func (s *scan) turn(r *reading, from, bounds, words int) {
	r.number = s.lastWord(r, words)
	r.word += words
	if r.open = bounds % 2; r.open != 0 {
		s.bounds[0] = s.bounds[bounds-1]
	}
	if r.hidden && (r.open == 0 || int(s.bounds[0]) >= from) {
		r.hidden = r.open != 0 && r.hides(s.bounds[0], uint32(min(from+chunkBytes, len(r.text))))
	}
	r.sentence = before(&r.sentences, from, from+chunkBytes, r.sentence)
	r.line = before(&r.lines, from, from+chunkBytes, r.line)
}

// isMarker reports whether the name of a role at b[begin:end] is set as one that speaks: <system>, [INST], system: at a line's
// beginning.
func isMarker(b []byte, begin, end, line int) bool {
	if begin > 0 {
		switch b[begin-1] {
		case '<', '[', '|', '/', '#':
			return true
		}
	}
	if end < len(b) && b[end] == ':' && begin-line <= 4 {
		for _, c := range b[line:begin] {
			if classOf[c] == word {
				return false
			}
		}
		return true
	}
	return false
}

// unseen returns the length of the character that b begins with if it does not show, else 0: soft hyphen, zero-width and bidirectional
// controls, C1 controls, tags, variation selectors beyond the first 16.
func unseen(b []byte) int {
	switch {
	case len(b) >= 2 && b[0] == 0xc2 && (b[1] >= 0x80 && b[1] < 0xa0 || b[1] == 0xad):
		return 2
	case len(b) < 3:
		return 0
	case b[0] == 0xe2 && b[1] == 0x80 && (b[2] >= 0x8b && b[2] <= 0x8f || b[2] >= 0xaa && b[2] <= 0xae):
		return 3
	case b[0] == 0xe2 && b[1] == 0x81 && b[2] >= 0xa0 && b[2] <= 0xaf:
		return 3
	case b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf:
		return 3
	case len(b) >= 4 && b[0] == 0xf3 && b[1] == 0xa0 && b[2] >= 0x80 && b[2] <= 0x87 && b[3] >= 0x80:
		return 4
	}
	return 0
}

// numeral stands for the hash of a word of digits; what follows it, for words with digits in them.
const numeral = 1

// toolName shortens a tool's name.
func toolName(name string) uint16 {
	return uint16(scramble(hashOf(name)))
}

// minSecret is the length of the shortest run that isSecret knows.
const minSecret = 10

// endRun ends the run b[from:to] of the base64 alphabet.
func (s *scan) endRun(b []byte, from, to int) {
	s.longestRun = max(s.longestRun, to-from)
	if to-from >= minSecret && isSecret(b[from:to], b[to:]) {
		s.secrets++
	}
}

// isSecret reports whether a run of the base64 alphabet, with what follows it, has the shape of a credential. Only shapes that issuers chose so
// that they be recognised are looked for: mere randomness is as often an identifier.
func isSecret(run, after []byte) bool {
	// NAME=value is one run: what counts is the value. Padding at the end is none.
	if i := lastEquals(run[:len(run)-1]); i >= 0 && len(run)-i > minSecret {
		run = run[i+1:]
	}
	for i := range credentials {
		c := &credentials[i]
		if n := len(run); n >= c.least && (c.most == 0 || n <= c.most) && hasPrefix(run, c.prefix) && (c.also == nil || c.also(run, after)) {
			return true
		}
	}
	return false
}

// credentials are the shapes that isSecret knows, the first two bytes of which are looked for in all text.
var credentials = []struct {
	prefix      string
	least, most int                          // bytes of the run; 0 for no bound
	also        func(run, after []byte) bool // nil for nothing more
}{
	{prefix: "sk-", least: 24},
	{prefix: "sk_live_", least: 24},
	{prefix: "ghp_", least: 20},
	{prefix: "gho_", least: 20},
	{prefix: "ghs_", least: 20},
	{prefix: "ghu_", least: 20},
	{prefix: "github_pat_", least: 20},
	{prefix: "glpat-", least: 20},
	{prefix: "xox", least: 20, also: func(run, _ []byte) bool { return run[4] == '-' }},
	{prefix: "AKIA", least: 20, most: 20},
	{prefix: "ASIA", least: 20, most: 20},
	{prefix: "AIza", least: 35},
	{prefix: "eyJ", also: func(_, after []byte) bool { return hasPrefix(after, ".eyJ") }},
	{prefix: "-----BEGIN", also: func(_, after []byte) bool {
		return bytes.Contains(after[:min(len(after), 40)], []byte("PRIVATE KEY"))
	}},
	{prefix: "rk_live_", least: 24},
	{prefix: "npm_", least: 36},
}

// lastEquals is where the last equals sign is, -1 where there is none, as there mostly is: that is found faster than the last one.
func lastEquals(b []byte) int {
	if bytes.IndexByte(b, '=') < 0 {
		return -1
	}
	return bytes.LastIndexByte(b, '=')
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// remember adds the words of earlier text to said, counting nothing else. It knows no escapes, and what does not show is a part of a word.
func (s *scan) remember(b []byte, said *wordSet) {
	s.hears(said)
	if kernels && len(b) >= longText {
		s.rememberLong(b, said)
	} else {
		said.remember(b)
	}
}

// remember adds the words of a text.
func (s *wordSet) remember(b []byte) {
	begin, last := 0, uint64(0)
	for at := 0; at < len(b); at += blockBytes {
		words := wordBits(b[at:min(at+blockBytes, len(b))])
		for x := words ^ (words<<1 | last); x != 0; x &= x - 1 {
			i := at + bits.TrailingZeros64(x)
			if last ^= 1; last != 0 {
				begin = i
			} else {
				s.add(hashAt(b, begin, i))
			}
		}
	}
	if last != 0 {
		s.add(hashAt(b, begin, len(b)))
	}
}

// longText is how long a text is that rememberLong takes less time for.
const longText = 256

// rememberLong is remember with kernels.
func (s *scan) rememberLong(b []byte, said *wordSet) {
	open, last := 0, uint64(0) // 1 if a word goes on
	for from := 0; from < len(b); from += chunkBytes {
		part := b[from:min(from+chunkBytes, len(b))]
		blocks := s.turns[:wordsOf(&s.turns, part)]
		for k, words := range blocks {
			blocks[k] = words ^ (words<<1 | last)
			last = words >> 63
		}
		bounds := open + placesOf(s.bounds[open:], blocks, from)
		if from+len(part) == len(b) && bounds%2 != 0 {
			s.bounds[bounds] = uint32(len(b))
			bounds++
		}
		said.addAll(s.hash(b, bounds/2))
		if open = bounds % 2; open != 0 {
			s.bounds[0] = s.bounds[bounds-1]
		}
	}
}

// hash makes hashes of the chunk's words, of which nothing is left out.
func (s *scan) hash(b []byte, words int) []uint64 {
	hashes := s.hashes[:words]
	short := words
	for short > 0 && int(s.bounds[2*short-2])+16 > len(b) {
		short--
	}
	fours := short / 4
	if fours > 0 {
		longs, _ := spellKernel(&b[0], &s.bounds[0], &hashes[0], nil, fours, 0, &s.long[0])
		for _, four := range s.long[:longs] {
			for i := 4 * int(four); i < 4*int(four)+4; i++ {
				hashes[i] = hashAt(b, int(s.bounds[2*i]), int(s.bounds[2*i+1]))
			}
		}
	}
	for i := 4 * fours; i < words; i++ {
		hashes[i] = hashAt(b, int(s.bounds[2*i]), int(s.bounds[2*i+1]))
	}
	return hashes
}

// minArgument is the length of the shortest word of arguments that is asked where it came from: shorter ones are anyone's.
const minArgument = 3

// arguments reads the arguments of a tool call: JSON as sent. Names of members are the tool's, not the model's, and are left out.
func (s *scan) arguments(b []byte) {
	b = s.take(b)
	s.argsBytes += len(b)
	length := 0 // of the word that goes on
	end := func(i int) {
		if length >= minArgument {
			s.argsWords++
			if h := hashAt(b, i-length, i); s.byTool.has(h) && !s.byUser.has(h) {
				s.tainted++
			}
		}
		length = 0
	}
	quoted := false
	run := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		s.args[c]++
		s.argsHigh |= c
		if !inBase64[c] {
			s.endRun(b, run, i)
			run = i + 1
		}
		if k := classOf[c]; k == word || k == high {
			length++
			continue
		}
		end(i)
		switch {
		case c == '\\' && i+1 < len(b):
			i++
			s.args[b[i]]++
			s.argsHigh |= b[i]
		case c == '"' && !quoted:
			if n := memberName(b[i+1:]); n > 0 {
				for _, c := range b[i+1 : i+1+n] {
					s.args[c]++
					s.argsHigh |= c
				}
				i += n
				run = i + 1
				continue
			}
			quoted = true
		case c == '"':
			quoted = false
		}
	}
	end(len(b))
	s.endRun(b, run, len(b))
}

// maxMember is how far a member's name is looked for, so that a string is not read many times over.
const maxMember = 64

// memberName returns the length of the member's name, with its closing quote, that b begins with; 0 where b begins with another string.
func memberName(b []byte) int {
	for i := range min(len(b), maxMember) {
		switch b[i] {
		case '\\':
			return 0
		case '"':
			for j := i + 1; j < len(b) && j < i+4; j++ {
				if b[j] == ':' {
					return i + 1
				}
				if k := classOf[b[j]]; k != space && k != newline {
					return 0
				}
			}
			return 0
		}
	}
	return 0
}

// changes reports whether a tool's name has a verb in it that changes something. Words are told apart by punctuation and by capitals
// amid small letters.
func changes(name string) bool {
	w := newSpeller()
	lower := false // the last byte was a small letter
	for i := 0; i <= len(name); i++ {
		var c byte
		if i < len(name) {
			c = name[i]
		}
		capital := c >= 'A' && c <= 'Z'
		letter := capital || c >= 'a' && c <= 'z'
		if w.length > 0 && (!letter || capital && lower) {
			if lexicon.find(w.end().hash)&effect != 0 {
				return true
			}
			w = newSpeller()
		}
		if letter {
			w.add(c)
		}
		lower = letter && !capital
	}
	return false
}
