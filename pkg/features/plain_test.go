package features

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// plainScan reads texts as scan does, byte by byte and word by word, with no thought of speed. It says what scan is to gather: the two agree on
// every text.
type plainScan struct {
	gathered
	salt   uint64
	sketch *sketch
	keep   *words
}

// gathered is what a pass leaves behind.
type gathered struct {
	Text, Args                                                                              histogram
	Bytes, ToolBytes, Words, WordBytes, Distinct, LongestToken, LongestRun, Secrets         int
	Instructions, Addresses, Machines, Markers, Imperatives, Capitals, Exclaimed, Invisible int
	Tags, Overrides, Peak, Prose                                                            int
	ArgsBytes, ArgsWords, Tainted                                                           int
	Seen, ByUser, ByTool                                                                    wordSet
	UnseenBurst, UnseenPeak, UnseenRun, UnseenPairs, ToolPeak, VoiceBurst, VoicePeak        int
	Kept                                                                                    []uint16
	Runs                                                                                    []run
}

// gathered returns what a scan has gathered.
func (s *scan) gathered() gathered {
	n := &s.novel
	var text histogram
	s.text.merge(&text, len(text))
	for c := range text {
		if c >= countsOf(s.high != 0) && text[c] > 0 || c >= countsOf(s.argsHigh >= 0x80) && s.args[c] > 0 {
			panic(fmt.Sprintf("%#x came and was not noted", c))
		}
	}
	g := gathered{
		Text: text, Args: s.args,
		Bytes: s.bytes, ToolBytes: s.toolBytes, Words: s.words, WordBytes: s.wordBytes, Distinct: s.distinct,
		LongestToken: s.longestToken, LongestRun: s.longestRun, Secrets: s.secrets,
		Instructions: s.instructions, Addresses: s.addresses, Machines: s.machines, Markers: s.markers, Imperatives: s.imperatives,
		Capitals: s.capitals, Exclaimed: s.exclaimed, Invisible: s.invisible, Tags: s.tags, Overrides: s.overrides, Peak: s.peak, Prose: s.prose,
		ArgsBytes: s.argsBytes, ArgsWords: s.argsWords, Tainted: s.tainted,
		Seen: s.seen, ByUser: s.byUser, ByTool: s.byTool,
		UnseenBurst: n.fresh16.most, UnseenPeak: n.fresh32.most, UnseenRun: n.longest, UnseenPairs: n.unseen,
		ToolPeak: n.alien32.most, VoiceBurst: n.voiced16.most, VoicePeak: n.voiced32.most,
	}
	if s.keep != nil {
		g.Kept, g.Runs = slices.Clone(s.keep.ids), slices.Clone(s.keep.runs)
	}
	return g
}

// isWord reports whether a byte is one of a word.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}

// isEncoded reports whether a byte is one of the base64 alphabet, or of that for URLs.
func isEncoded(c byte) bool { return c < 0x80 && (isWord(c) || strings.IndexByte("+/=-_", c) >= 0) }

// plainHash is the hash of a word: over its bytes with bit 5 set, sixteen at a time, the last sixteen filled up with spaces.
func plainHash(text []byte) uint64 {
	h := uint64(wordBasis)
	for part := range slices.Chunk(text, 16) {
		filled := bytes.Repeat([]byte{' '}, 16)
		for i, c := range part {
			filled[i] = c | 0x20
		}
		h = fold(h, binary.LittleEndian.Uint64(filled), binary.LittleEndian.Uint64(filled[8:]))
	}
	return h
}

func (p *plainScan) read(b []byte, tool, prompt bool, name string, said *wordSet) {
	words := plainWords{line: 0, starts: true}
	token, run := 0, 0 // where the run without white space and the run of the base64 alphabet began
	var markers, tags, invisible int
	for i := 0; i < len(b); i++ {
		c, after := b[i], b[i+1:]
		if isWord(c) {
			// A word goes on to the first byte that is none of a word. What does not show is left out of it.
			begin, ascii := i, true
			var text []byte
			for i < len(b) && isWord(b[i]) {
				if b[i] >= 0x80 && ascii {
					p.endRun(b, run, i)
					ascii = false
				}
				if n := unseen(b[i:]); n > 0 {
					invisible++
					i += n
					continue
				}
				text = append(text, b[i])
				i++
			}
			if !ascii {
				run = i
			}
			if len(text) > 0 {
				words.add(b, text, begin, i)
			}
			i--
			continue
		}
		blank := c == ' ' || c == '\t' || c == '\n' || c == '\r'
		if blank {
			p.LongestToken = max(p.LongestToken, i-token)
			token = i + 1
		}
		if !isEncoded(c) {
			p.endRun(b, run, i)
			run = i + 1
		}
		switch {
		case c == '\n' || c == '\r':
			words.starts, words.line = true, i+1
		case blank:
		case c < ' ' || c == 0x7f:
			invisible++
		case strings.IndexByte(".!?:;", c) >= 0:
			words.starts = true
		case len(after) == 0:
		case c == '<' && (after[0] == '/' || after[0] >= 'a' && after[0] <= 'z' || after[0] >= 'A' && after[0] <= 'Z'):
			tags++
		case c == '<' && (after[0] == '|' || after[0] == '<'):
			markers++
		case c == '[' && len(after) > 1 && after[0] == '[' && (after[1] >= 'a' && after[1] <= 'z' || after[1] >= 'A' && after[1] <= 'Z'):
			markers++
		case c == '#' && hasPrefix(after, "##") && (i == 0 || b[i-1] != '#'):
			markers++
		case c == '\\':
			// Text that is JSON still: \n is a line's end, and no letter of a word.
			i++
			run = i + 1
			if after[0] == 'n' || after[0] == 'r' || after[0] == 't' {
				words.starts, words.line = true, i+1
			}
		}
	}
	p.endRun(b, run, len(b))
	p.LongestToken = max(p.LongestToken, len(b)-token)

	p.Bytes += len(b)
	for _, c := range b {
		p.Text[c]++
	}
	for _, text := range words.texts {
		p.Words++
		p.WordBytes += len(text)
		h := plainHash(text)
		p.Distinct += p.Seen.add(h)
		if said != nil {
			said.add(h)
		}
	}
	p.classes(words.texts, tool, prompt, toolName(name))
	if !tool {
		return
	}
	p.ToolBytes += len(b)
	p.Exclaimed += bytes.Count(b, []byte("!"))
	p.Markers += markers
	p.Tags += tags
	p.Invisible += invisible
	p.meanings(&words)
}

func (p *plainScan) endRun(b []byte, from, to int) {
	p.LongestRun = max(p.LongestRun, to-from)
	if to-from >= minSecret && isSecret(b[from:to], b[to:]) {
		p.Secrets++
	}
}

// plainWords are the words of a text.
type plainWords struct {
	texts  [][]byte // as written, without what does not show
	begins []bool   // whether each begins a sentence
	speaks []bool   // whether each is set as one that speaks, should it be a role's name

	line   int  // where the line begins
	starts bool // no word since the sentence began
}

func (w *plainWords) add(b, text []byte, begin, end int) {
	w.texts = append(w.texts, text)
	w.begins = append(w.begins, w.starts)
	w.speaks = append(w.speaks, isMarker(b, begin, end, w.line))
	if digits(text) < len(text) {
		w.starts = false
	}
}

func digits(text []byte) int {
	n := 0
	for _, c := range text {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

// classes does what is done with the classes of words.
func (p *plainScan) classes(texts [][]byte, tool, prompt bool, name uint16) {
	if !tool && !prompt {
		return
	}
	var ids []uint16
	for _, text := range texts {
		h := plainHash(text)
		if n := digits(text); n == len(text) {
			h = numeral
		} else if n > 0 {
			h = numeral + uint64(min(len(text), 16))
		}
		ids = append(ids, classify(h, p.salt))
	}
	if p.keep != nil {
		p.keep.begin(tool, name)
		for _, id := range ids {
			p.keep.add([]uint16{id})
		}
		p.keep.end()
		p.Kept, p.Runs = slices.Clone(p.keep.ids), slices.Clone(p.keep.runs)
	}
	if !tool || p.sketch == nil {
		return
	}
	var fresh, voiced, alien []bool // of each pair
	run := 0
	for i := 1; i < len(ids); i++ {
		pair := pairOf(ids[i-1], ids[i])
		isFresh := !has(p.sketch.heard[:], 2*pair)
		fresh = append(fresh, isFresh)
		voiced = append(voiced, isFresh && has(p.sketch.heard[:], 2*pair+1))
		if has(p.sketch.tools[:], uint32(name)) {
			alien = append(alien, !has(p.sketch.byTool[:], toolPair(name, pair)))
		} else {
			alien = append(alien, isFresh)
		}
		run++
		if !isFresh {
			run = 0
		} else {
			p.UnseenPairs++
		}
		p.UnseenRun = max(p.UnseenRun, run)
	}
	p.UnseenBurst = max(p.UnseenBurst, most(fresh, 16))
	p.UnseenPeak = max(p.UnseenPeak, most(fresh, 32))
	p.VoiceBurst = max(p.VoiceBurst, most(voiced, 16))
	p.VoicePeak = max(p.VoicePeak, most(voiced, 32))
	p.ToolPeak = max(p.ToolPeak, most(alien, 32))
}

// most returns how many of any n flags in a row are set, at most.
func most(flags []bool, n int) int {
	most := 0
	for end := range flags {
		count := 0
		for _, set := range flags[max(0, end+1-n) : end+1] {
			if set {
				count++
			}
		}
		most = max(most, count)
	}
	return most
}

// meanings counts what the words of a tool's result mean.
func (p *plainScan) meanings(words *plainWords) {
	var commands, functions []bool
	aside := 0 // after how many words more an order makes no phrase any longer
	for i, text := range words.texts {
		if len(text) >= 3 && bytes.IndexFunc(text, func(c rune) bool { return c < 'A' || c > 'Z' }) < 0 {
			p.Capitals++
		}
		cat := lexicon.find(plainHash(text))
		is := func(c category) bool { return cat&c != 0 }
		for c, n := range map[category]*int{instruction: &p.Instructions, address: &p.Addresses, machine: &p.Machines} {
			if is(c) {
				*n++
			}
		}
		begins := is(imperative) && words.begins[i]
		if begins {
			p.Imperatives++
		}
		if is(speaker) && words.speaks[i] {
			p.Markers++
		}
		if is(order) && aside > 0 {
			p.Overrides++
			aside = 0
		}
		if aside--; is(setAside) {
			aside = overrideReach
		}
		commands = append(commands, begins || is(instruction|address|machine))
		functions = append(functions, is(function))
	}
	p.Peak = max(p.Peak, most(commands, 32))
	p.Prose = max(p.Prose, most(functions, 32))
}

// remember adds the words of earlier text to said: no escapes there, and what does not show is a part of a word.
func (p *plainScan) remember(b []byte, said *wordSet) {
	var text []byte
	for _, c := range append(bytes.Clone(b), ' ') {
		if isWord(c) {
			text = append(text, c)
		} else if text != nil {
			said.add(plainHash(text))
			text = nil
		}
	}
}

func (p *plainScan) arguments(b []byte) {
	p.ArgsBytes += len(b)
	for _, c := range b {
		p.Args[c]++
	}
	var text []byte
	end := func() {
		if h := plainHash(text); len(text) >= minArgument {
			p.ArgsWords++
			if p.ByTool.has(h) && !p.ByUser.has(h) {
				p.Tainted++
			}
		}
		text = nil
	}
	quoted := false
	run := 0
	for i := 0; i < len(b); i++ {
		c, after := b[i], b[i+1:]
		if !isEncoded(c) {
			p.endRun(b, run, i)
			run = i + 1
		}
		if isWord(c) {
			text = append(text, c)
			continue
		}
		end()
		switch {
		case c == '\\' && len(after) > 0:
			i++
		case c == '"' && !quoted && memberName(after) > 0:
			i += memberName(after)
			run = i + 1
		case c == '"':
			quoted = !quoted
		}
	}
	end()
	p.endRun(b, run, len(b))
}

// scanBoth reads the texts with scan, in each way that the processor can, and with plainScan and says where they differ.
func scanBoth(t *testing.T, sketch *sketch, tool, prompt, earlier, args []byte) {
	t.Helper()
	eachPath(func() {
		t.Helper()
		scanOnce(t, sketch, tool, prompt, earlier, args)
	})
}

func scanOnce(t *testing.T, sketch *sketch, tool, prompt, earlier, args []byte) {
	t.Helper()
	const salt = 99
	s := pool.Get().(*scan)
	defer pool.Put(s)
	s.begin()
	var kept, keptPlainly words
	kept.reset()
	keptPlainly.reset()
	s.salt, s.keep, s.novel.sketch = salt, &kept, sketch
	p := plainScan{salt: salt, sketch: sketch, keep: &keptPlainly}
	for _, name := range []string{"known", "strange"} {
		s.read(tool, true, false, name, &s.byTool)
		p.read(tool, true, false, name, &p.ByTool)
	}
	s.read(prompt, false, true, "", &s.byUser)
	p.read(prompt, false, true, "", &p.ByUser)
	s.read(tool, false, false, "", nil)
	p.read(tool, false, false, "", nil)
	s.remember(earlier, &s.byTool)
	p.remember(earlier, &p.ByTool)
	s.remember(tool, &s.byUser)
	p.remember(tool, &p.ByUser)
	s.arguments(args)
	p.arguments(args)
	got, want := reflect.ValueOf(s.gathered()), reflect.ValueOf(p.gathered)
	for i := range got.NumField() {
		if g, w := got.Field(i).Interface(), want.Field(i).Interface(); !reflect.DeepEqual(g, w) {
			if ids, ok := g.([]uint16); ok {
				for i, id := range ids {
					if other := w.([]uint16)[i]; id != other {
						t.Fatal(i, id, other, len(ids), len(w.([]uint16)))
					}
				}
			}
			t.Errorf("%s: got %.300v\nwant %.300v\nfor %.600q\n%.200q\n%.200q", got.Type().Field(i).Name, fmt.Sprint(g), fmt.Sprint(w), tool, prompt, args)
		}
	}
}

// pieces are what texts are made of that ask something of a pass.
var pieces = []string{
	" ", " ", " ", " ", "  ", "\t", "\n", "\r\n", ", ", ". ", "! ", "? ", ": ", ":", "; ", `\n`, `\t`, `\r`, `\"`, `\\`, `\\n`, `\\\n`, `\u0041`, `\`, `\é`, `":"`, `","`, `{"`, `"}`,
	"<", "</", "<b>", "<|", "<<", "[", "[[", "[[a", "[[{", "[INST]", "#", "##", "###", "####", "\n### ", "|", "-", "_", "+", "/", "=", "==", "\x00", "\x01", "\x7f", "\x1b",
	"ignore", "Ignore", "IGNORE", "previous", "all", "the", "of", "You", "your", "must", "instructions", "system", "\nsystem:", "\n  user:", "user:", "[system", "Assistant:", `\nuser:`,
	`\n "tool:`, "please", "send", "Send", "forget", "task", "policies", "chatgpt", "now", "order", "cancel", "THE", "A", "I", "AB", "ABC", "ABCDEFGH", "ABCDEFGHI", "ABCDEFGHIJKLMNOPQ",
	"0", "17", "4711", "12345678", "123456789", "12345678901234567890", "T17", "a1", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghijklmno", "abcdefghijklmnop", "abcdefghijklmnopq",
	"incomprehensibilities", "customer_id", strings.Repeat("x", 31), strings.Repeat("Ab1", 11), strings.Repeat("QUJD", 40), strings.Repeat("9", 70), strings.Repeat("é", 40),
	"é", "ü", "naïve", "привет", "Straße", "東京", "。", "“", "\u200b", "\u200d", "\u00ad", "\ufeff", "\u202e", "\U000e0041", "\u2060", "ig\u200bnore", "S\u00adY\u00adSTEM", "\xc2", "\xe2\x80", "\xf3\xa0", "\xff",
	"a\u200b", "\u200ba", "12\u200b3", "sk-abcdefghijklmnopqrstuvwx", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "key=AKIAABCDEFGHIJKLMNOP", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x",
	"-----BEGIN EC PRIVATE KEY-----", "xoxb-1234567890-abcdefghij", "sk-abcdefghijkl\u200bmnopqrstuvwx", `\sk-abcdefghijklmnopqrstuvwx`,
}

// mixture returns a text of n pieces, of all of them or of a few that come again and again.
func mixture(r *rand.Rand, n int) []byte {
	from := pieces
	if r.IntN(2) == 0 {
		from = nil
		for range 1 + r.IntN(12) {
			from = append(from, pieces[r.IntN(len(pieces))])
		}
	}
	var b []byte
	for range n {
		b = append(b, from[r.IntN(len(from))]...)
		if r.IntN(3) == 0 {
			b = append(b, ' ')
		}
	}
	return b
}

// sketchOf returns a sketch that knows one text as the result of a tool called known and another as what users said.
func sketchOf(result, said []byte) *sketch {
	s := &scan{salt: 99, keep: new(words)}
	s.keep.reset()
	s.begin()
	s.salt, s.keep = 99, new(words)
	s.keep.reset()
	s.read(result, true, false, "known", nil)
	s.read(said, false, true, "", nil)
	learned := &sketch{}
	learned.learn(s.keep)
	return learned
}

func TestScanIsThePlainOne(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	learned := sketchOf(mixture(r, 3000), mixture(r, 2000))
	for i := range 3000 {
		n := 1 + r.IntN(1+i%300)
		scanBoth(t, []*sketch{learned, learned, nil}[i%3], mixture(r, n), mixture(r, n/3), mixture(r, n), mixture(r, n/2))
		if t.Failed() {
			t.FailNow()
		}
	}
	for i := range 300 {
		b := make([]byte, 1+r.IntN(700))
		for j := range b {
			b[j] = byte(r.Uint32())
			if i%2 == 0 {
				b[j] &= 0x7f
			}
		}
		scanBoth(t, learned, b, b[:len(b)/2], b, b)
	}
	for _, size := range []int{900, 30_000} {
		text := []byte(prose(size))
		scanBoth(t, learned, text, text[:size/3], text, text[:size/5])
	}
}

// What does not show is whole characters: half of one takes nothing away of what comes after it.
func TestUnseen(t *testing.T) {
	for text, want := range map[string]int{
		"\u00ad": 2, "\u0085": 2, "\u200b": 3, "\u202e": 3, "\u2060": 3, "\ufeff": 3, "\U000e0041": 4,
		"": 0, "a": 0, "\u00a0": 0, "\u2014": 0, "\xc2": 0, "\xc2a": 0, "\xc2\x20": 0, "\xe2\x80": 0, "\xe2\x80a": 0, "\xf3\xa0\x81": 0, "\xf3\xa0\x81a": 0,
	} {
		if got := unseen([]byte(text + "z")); got != want {
			t.Errorf("%q: %d bytes, want %d", text, got, want)
		}
	}
}

func TestLexiconKnowsItsWords(t *testing.T) {
	want := map[string]category{}
	for cat, list := range lexiconWords {
		for _, word := range strings.Fields(list) {
			want[word] |= cat
		}
	}
	for word, cat := range want {
		if got := lexicon.find(plainHash([]byte(strings.ToUpper(word)))); got != cat {
			t.Errorf("%s is of categories %b, not %b", word, got, cat)
		}
		if got := lexicon.find(plainHash([]byte(word + "x"))); got != want[word+"x"] {
			t.Errorf("%sx is of categories %b", word, got)
		}
	}
}

// FuzzScan asserts that scan gathers of any text what the plain pass does.
func FuzzScan(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	learned := sketchOf(mixture(r, 3000), mixture(r, 2000))
	f.Add([]byte(""), []byte(""), []byte(""))
	for i := range 40 {
		f.Add(mixture(r, 3*i), mixture(r, i), mixture(r, i))
	}
	f.Fuzz(func(t *testing.T, tool, prompt, args []byte) {
		if len(tool)+len(prompt)+len(args) < maxScan/4 {
			scanBoth(t, learned, tool, prompt, prompt, args)
		}
	})
}
