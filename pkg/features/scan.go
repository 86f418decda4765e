package features

import (
	"bytes"
	"math"
	"math/bits"
	"sync"
)

// Limits on what is read of one call. They bound the time that a call of any size can take to some milliseconds.
const (
	maxScan    = 4 << 20   // bytes of new text; unreadBytes says when there was more
	maxHistory = 256 << 10 // bytes of earlier text that arguments of tool calls are compared with, the latest first
)

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

// entropy of the bytes counted, in bits per byte; 0 for none.
func (h *histogram) entropy(total int) float64 {
	if total == 0 {
		return 0
	}
	sum := 0.0
	for _, n := range h {
		if n > 0 {
			sum += float64(n) * math.Log2(float64(n))
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

func (s *wordSet) add(h uint64) (first bool) {
	h ^= h >> 29
	slot, bit := &s[h>>6%1024], uint64(1)<<(h&63)
	first = *slot&bit == 0
	*slot |= bit
	return first
}

func (s *wordSet) has(h uint64) bool {
	h ^= h >> 29
	return s[h>>6%1024]>>(h&63)&1 != 0
}

// scan is what one pass over a call's new text gathers. It is 28 KiB of scratch that belongs to the Extract that took it from the pool,
// until Extract puts it back.
type scan struct {
	budget int // bytes that may still be read

	// Of all new text.
	text         histogram
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
	argsBytes int
	argsWords int
	tainted   int

	// What earlier text said, gathered where the new messages have tool calls.
	needSaid bool
	byUser   wordSet
	byTool   wordSet

	// Who takes the classes of words.
	salt  uint64
	keep  *words // nil for nobody
	novel novelty

	// What is compared with the baseline besides words.
	marks *marks
	spare marks // where nobody asked for evidence
}

var pool = sync.Pool{New: func() any { return new(scan) }}

// begin makes a used scan new. The word sets, most of it, are cleared only where they were used.
func (s *scan) begin() {
	seen, said := s.words > 0, s.needSaid
	s.budget, s.bytes, s.toolBytes, s.unread, s.words, s.wordBytes, s.distinct = maxScan, 0, 0, 0, 0, 0, 0
	s.longestToken, s.longestRun, s.secrets = 0, 0, 0
	s.instructions, s.addresses, s.machines, s.markers, s.imperatives = 0, 0, 0, 0, 0
	s.capitals, s.exclaimed, s.invisible, s.tags, s.overrides, s.peak, s.prose = 0, 0, 0, 0, 0, 0, 0
	s.calls, s.effects, s.argsBytes, s.argsWords, s.tainted = 0, 0, 0, 0, 0
	s.needSaid = false
	s.keep, s.novel, s.marks = nil, novelty{}, &s.spare
	clear(s.text[:])
	clear(s.args[:])
	if seen {
		clear(s.seen[:])
	}
	if said {
		clear(s.byUser[:])
		clear(s.byTool[:])
	}
}

// take returns the part of b that may be read.
func (s *scan) take(b []byte) []byte {
	if len(b) > s.budget {
		s.unread += len(b) - s.budget
		b = b[:s.budget]
	}
	s.budget -= len(b)
	return b
}

// read reads new text. said, where it is not nil, takes the words; tool says that the text is a tool's result, and prompt that it is a user's or a
// system prompt's. name is that of the tool.
func (s *scan) read(b []byte, tool, prompt bool, name string, said *wordSet) {
	b = s.take(b)
	s.bytes += len(b)
	exclaimed := s.text['!']
	var r results
	if tool || prompt {
		r.compare, r.keep = tool && s.novel.sketch != nil, s.keep != nil
		short := toolName(name)
		if r.compare {
			s.novel.begin(short)
		}
		if r.keep {
			s.keep.begin(tool, short)
		}
	}
	r.starts = true
	token, run := 0, 0 // where the run without white space and the run of the base64 alphabet began
	i := 0
	for i < len(b) {
		c := b[i]
		switch classOf[c] {
		case word, high:
			i = s.word(b, i, tool, said, &r)
			// A run of base64 ends at the first byte beyond ASCII.
			if r.highAt >= 0 {
				s.endRun(b, run, r.highAt)
				run = i
			}
			continue
		case space:
			s.text[c]++
			s.endRun(b, run, i)
			s.longestToken = max(s.longestToken, i-token)
			token, run = i+1, i+1
		case newline:
			s.text[c]++
			s.endRun(b, run, i)
			s.longestToken = max(s.longestToken, i-token)
			token, run = i+1, i+1
			r.starts, r.lineStart = true, i+1
		case control:
			s.text[c]++
			s.endRun(b, run, i)
			run = i + 1
			r.invisible++
		default:
			s.text[c]++
			if !inBase64[c] {
				s.endRun(b, run, i)
				run = i + 1
			}
			switch c {
			case '.', '!', '?', ':', ';':
				r.starts = true
			case '<':
				if i+1 < len(b) {
					switch n := b[i+1]; {
					case n == '/' || n|0x20 >= 'a' && n|0x20 <= 'z':
						r.tags++
					case n == '|' || n == '<':
						r.markers++
					}
				}
			case '[':
				if i+1 < len(b) && b[i+1] == '[' {
					r.markers++
				}
			case '#':
				if i+2 < len(b) && b[i+1] == '#' && b[i+2] == '#' && (i == 0 || b[i-1] != '#') {
					r.markers++
				}
			case '\\':
				// Text that is JSON still: \n is a line's end, and no letter of a word.
				if i+1 < len(b) {
					i++
					n := b[i]
					s.text[n]++
					if n == 'n' || n == 'r' || n == 't' {
						r.starts, r.lineStart = true, i+1
					}
					run = i + 1
				}
			}
		}
		i++
	}
	s.endRun(b, run, len(b))
	s.longestToken = max(s.longestToken, len(b)-token)
	if r.keep {
		s.keep.end()
	}
	if !tool {
		return
	}
	s.toolBytes += len(b)
	s.exclaimed += int(s.text['!'] - exclaimed)
	s.instructions += r.instructions
	s.addresses += r.addresses
	s.machines += r.machines
	s.markers += r.markers
	s.imperatives += r.imperatives
	s.capitals += r.capitals
	s.invisible += r.invisible
	s.tags += r.tags
	s.overrides += r.overrides
	s.peak = max(s.peak, r.peak)
	s.prose = max(s.prose, r.prose)
}

// results is what is counted of tool results while one is read.
type results struct {
	starts    bool // no word since the sentence began
	lineStart int  // where the line began
	highAt    int  // first byte beyond ASCII of the last word; -1 for none
	compare   bool // words are compared with the sketch
	keep      bool // words are kept for learning

	aside     uint32 // the last 32 words, a bit for each of setting aside
	commands  uint32 // the last 32 words, a bit for each of command, address or models
	functions uint32 // the same of function words

	instructions, addresses, machines, markers, imperatives, capitals, invisible, tags, overrides, peak, prose int
}

// word reads a word, which begins at i, and returns where it ends. Characters that do not show are left out of it, so that a word is found
// that they were put into.
func (s *scan) word(b []byte, i int, tool bool, said *wordSet, r *results) int {
	begin := i
	h := uint64(hashBasis)
	var upper, digits, skipped int
	r.highAt = -1
	for i < len(b) {
		c := b[i]
		if classOf[c] == word {
			s.text[c]++
			l := c
			if c <= 'Z' {
				if c >= 'A' {
					upper++
					l |= 0x20
				} else {
					digits++
				}
			}
			h = (h ^ uint64(l)) * hashPrime
			i++
			continue
		}
		if classOf[c] != high {
			break
		}
		if r.highAt < 0 {
			r.highAt = i
		}
		n := unseen(b[i:])
		if n > 0 {
			r.invisible++
			skipped += n
			for range n {
				s.text[b[i]]++
				i++
			}
			continue
		}
		s.text[c]++
		h = (h ^ uint64(c)) * hashPrime
		i++
	}
	length := i - begin - skipped
	if length == 0 {
		return i
	}
	s.words++
	s.wordBytes += length
	if s.seen.add(h) {
		s.distinct++
	}
	if said != nil {
		said.add(h)
	}
	if r.compare || r.keep {
		g := h
		if digits > 0 {
			// Numbers, dates and identifiers are new each time: what counts is that there is one.
			g = numeral
			if digits < length {
				g = numeral + uint64(min(length, 16))
			}
		}
		id := classify(g, s.salt)
		if r.compare {
			s.novel.add(id)
		}
		if r.keep {
			s.keep.add(id)
		}
	}
	if !tool {
		return i
	}

	if upper >= 3 && upper == length {
		r.capitals++
	}
	cat := lexicon.find(h)
	r.aside <<= 1
	r.commands <<= 1
	r.functions <<= 1
	if cat != 0 {
		if cat&instruction != 0 {
			r.instructions++
		}
		if cat&address != 0 {
			r.addresses++
		}
		if cat&machine != 0 {
			r.machines++
		}
		if cat&order != 0 && r.aside&(1<<(overrideReach+1)-1) != 0 {
			r.overrides++
			r.aside = 0
		}
		if cat&aside != 0 {
			r.aside |= 1
		}
		begins := cat&imperative != 0 && r.starts
		if begins {
			r.imperatives++
		}
		if begins || cat&(instruction|address|machine) != 0 {
			r.commands |= 1
			r.peak = max(r.peak, bits.OnesCount32(r.commands))
		}
		if cat&function != 0 {
			r.functions |= 1
			r.prose = max(r.prose, bits.OnesCount32(r.functions))
		}
		if cat&speaker != 0 && isMarker(b, begin, i, r.lineStart) {
			r.markers++
		}
	}
	if digits < length {
		r.starts = false
	}
	return i
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
	case len(b) >= 2 && b[0] == 0xc2 && (b[1] < 0xa0 || b[1] == 0xad):
		return 2
	case len(b) < 3:
		return 0
	case b[0] == 0xe2 && b[1] == 0x80 && (b[2] >= 0x8b && b[2] <= 0x8f || b[2] >= 0xaa && b[2] <= 0xae):
		return 3
	case b[0] == 0xe2 && b[1] == 0x81 && b[2] >= 0xa0 && b[2] <= 0xaf:
		return 3
	case b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf:
		return 3
	case len(b) >= 4 && b[0] == 0xf3 && b[1] == 0xa0 && b[2] >= 0x80 && b[2] <= 0x87:
		return 4
	}
	return 0
}

// numeral stands for the hash of a word of digits; what follows it, for words with digits in them.
const numeral = 1

// toolName shortens a tool's name.
func toolName(name string) uint16 {
	h := uint64(hashBasis)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * hashPrime
	}
	return uint16(scramble(h))
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
	if i := bytes.LastIndexByte(run[:len(run)-1], '='); i >= 0 && len(run)-i > minSecret {
		run = run[i+1:]
	}
	n := len(run)
	switch run[0] {
	case 's':
		return n >= 24 && (hasPrefix(run, "sk-") || hasPrefix(run, "sk_live_"))
	case 'g':
		return n >= 20 && (hasPrefix(run, "ghp_") || hasPrefix(run, "gho_") || hasPrefix(run, "ghs_") || hasPrefix(run, "ghu_") ||
			hasPrefix(run, "github_pat_") || hasPrefix(run, "glpat-"))
	case 'x':
		return n >= 20 && hasPrefix(run, "xox") && run[4] == '-'
	case 'A':
		return n == 20 && (hasPrefix(run, "AKIA") || hasPrefix(run, "ASIA")) || n >= 35 && hasPrefix(run, "AIza")
	case 'e':
		return hasPrefix(run, "eyJ") && hasPrefix(after, ".eyJ")
	case '-':
		return hasPrefix(run, "-----BEGIN") && bytes.Contains(after[:min(len(after), 40)], []byte("PRIVATE KEY"))
	case 'r':
		return n >= 24 && hasPrefix(run, "rk_live_")
	case 'n':
		return n >= 36 && hasPrefix(run, "npm_")
	}
	return false
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// remember adds the words of earlier text to said, counting nothing else.
func remember(b []byte, said *wordSet) {
	h := uint64(hashBasis)
	length := 0
	for _, c := range b {
		if k := classOf[c]; k == word || k == high {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			h = (h ^ uint64(c)) * hashPrime
			length++
			continue
		}
		if length > 0 {
			said.add(h)
			h, length = hashBasis, 0
		}
	}
	if length > 0 {
		said.add(h)
	}
}

// minArgument is the length of the shortest word of arguments that is asked where it came from: shorter ones are anyone's.
const minArgument = 3

// arguments reads the arguments of a tool call: JSON as sent. Names of members are the tool's, not the model's, and are left out.
func (s *scan) arguments(b []byte) {
	b = s.take(b)
	s.argsBytes += len(b)
	h := uint64(hashBasis)
	length := 0
	end := func() {
		if length >= minArgument {
			s.argsWords++
			if s.byTool.has(h) && !s.byUser.has(h) {
				s.tainted++
			}
		}
		h, length = hashBasis, 0
	}
	quoted := false
	run := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		s.args[c]++
		if !inBase64[c] {
			s.endRun(b, run, i)
			run = i + 1
		}
		if k := classOf[c]; k == word || k == high {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			h = (h ^ uint64(c)) * hashPrime
			length++
			continue
		}
		end()
		switch {
		case c == '\\' && i+1 < len(b):
			i++
			s.args[b[i]]++
		case c == '"' && !quoted:
			if n := memberName(b[i+1:]); n > 0 {
				for _, c := range b[i+1 : i+1+n] {
					s.args[c]++
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
	end()
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
	h := uint64(hashBasis)
	lower := false // the last byte was a small letter
	length := 0
	for i := 0; i <= len(name); i++ {
		var c byte
		if i < len(name) {
			c = name[i]
		}
		capital := c >= 'A' && c <= 'Z'
		letter := capital || c >= 'a' && c <= 'z'
		if length > 0 && (!letter || capital && lower) {
			if lexicon.find(h)&effect != 0 {
				return true
			}
			h, length = hashBasis, 0
		}
		if letter {
			h = (h ^ uint64(c|0x20)) * hashPrime
			length++
		}
		lower = letter && !capital
	}
	return false
}
