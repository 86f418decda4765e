package features

import (
	"maps"
	"slices"
	"strings"
)

// The lexicon is English, as most injections against English-speaking models are. What it does not know is left to the features that need
// no words. It was written from how instructions are phrased in general, not from a corpus of attacks.

// category is a set of classes that a word belongs to.
type category uint16

const (
	instruction category = 1 << iota // of command, urgency or about instructions
	address                          // the second person
	machine                          // names of models and words for them
	function                         // English function words
	speaker                          // names of roles in a conversation
	imperative                       // verbs that make a command at the beginning of a sentence
	setAside                         // verbs for setting aside
	order                            // words for instructions and for what went before
	effect                           // verbs in names of tools that change something
)

var lexicon = newTable(lexiconWords)

var lexiconWords = map[category]string{
	instruction: `ignore disregard forget override bypass previous prior earlier instruction instructions prompt prompts important urgent urgently
		critical must please immediately instead comply obey task tasks command commands execute perform complete solve follow following
		directive directives mandatory required necessary ensure remember guidelines rules restrictions pretend roleplay respond reply answer
		reveal abort refuse priority attention`,
	address: `you your yours yourself yourselves ya`,
	machine: `ai assistant assistants llm llms model models chatbot chatbots bot agent agents gpt chatgpt openai claude anthropic gemini llama mistral
		qwen deepseek grok copilot`,
	speaker: `system user assistant human developer tool inst sys instruction instructions`,
	imperative: `send forward transfer pay buy delete remove add create update change make write read open click visit go call email post share invite
		book reserve cancel schedule give tell say ignore disregard forget do don never always please use run execute print return output respond reply
		answer stop begin start follow remember ensure before after first then now instead perform complete solve find get look copy upload download
		install set put let`,
	function: `a about all an and any are as at be because been before but by can could did do does for from had has have he her here him his how
		i if in into is it its just me more my no not of on once only or our out she so some such than that the their them then there these they this
		those to up was we were what when where which who will with would you your`,
	setAside: `ignore ignoring disregard disregarding forget forgetting override overriding bypass bypassing neglect discard supersede supersedes replace replaces cancel stop`,
	order: `instruction instructions prompt prompts rule rules guideline guidelines directive directives order orders command commands task tasks
		request requests context constraints restrictions policy policies told previous prior above preceding foregoing earlier everything`,
	effect: `add append approve book buy cancel change clear commit create delete deploy destroy disable drop edit email enable exec execute forward
		grant insert install invite merge message modify move order pay post publish purchase push put refund remove rename reply reserve reset
		revoke run save schedule send set share shell submit subscribe transfer update upload wire withdraw write`,
}

// table maps the hash of a word to its categories. Each word has a place of its own: words whose hashes share the lowest byte are spread by one factor,
// which was chosen so that no two of all words meet.
type table struct {
	factors [256]uint32
	slots   [1 << slotBits]uint64 // the upper 48 bits of a hash, and categories
}

const (
	slotBits = 9
	catBits  = 16
)

func newTable(words map[category]string) *table {
	cats := map[uint64]category{}
	for cat, list := range words {
		for _, word := range strings.Fields(list) {
			cats[hashAt([]byte(word), 0, len(word))] |= cat
		}
	}
	var buckets [256][]uint64
	most := 0
	for _, h := range slices.Sorted(maps.Keys(cats)) {
		buckets[h%256] = append(buckets[h%256], h)
		most = max(most, len(buckets[h%256]))
	}
	t := &table{}
	// Where many share a byte, there is the least choice.
	for ; most > 0; most-- {
		for i, hashes := range buckets {
			if len(hashes) == most {
				t.place(&t.factors[i], hashes, cats)
			}
		}
	}
	return t
}

// place finds a factor for words that share the lowest byte. As long as there are several places for each word of the lexicon, some factor soon does; a test
// finds each word.
func (t *table) place(factor *uint32, hashes []uint64, cats map[uint64]category) {
	for *factor = 1; *factor < 1<<20; *factor += 2 {
		free := map[uint32]bool{}
		for _, h := range hashes {
			if i := t.slot(h); t.slots[i] == 0 {
				free[i] = true
			}
		}
		if len(free) == len(hashes) {
			break
		}
	}
	for _, h := range hashes {
		t.slots[t.slot(h)] = h>>catBits<<catBits | uint64(cats[h])
	}
}

func (t *table) slot(h uint64) uint32 { return uint32(h>>8) * t.factors[h%256] >> (32 - slotBits) }

// find returns the categories of the word with a hash, 0 for a word that is not known.
func (t *table) find(h uint64) category {
	x := t.slots[t.slot(h)] ^ h>>catBits<<catBits
	if x >= 1<<catBits {
		x = 0
	}
	return category(x)
}

// telling are the categories that a word of a tool's result is looked at for by itself.
const telling = instruction | address | machine | speaker | imperative | setAside | order

// sift looks up one to 64 words and returns which are function words, and which are telling.
func (t *table) sift(hashes []uint64) (functions, tell uint64) {
	unused := (64 - len(hashes)) & 63
	if kernels {
		functions, tell = siftKernel(t, &hashes[0], len(hashes))
		return functions >> unused, tell >> unused
	}
	for _, h := range hashes {
		cat := t.find(h)
		functions = functions>>1 | uint64(cat/function)<<63
		// Without a branch, as which words are telling is as good as random.
		tell = tell>>1 | uint64(-uint32(cat&telling)>>31)<<63
	}
	return functions >> unused, tell >> unused
}
