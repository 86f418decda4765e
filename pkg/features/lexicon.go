package features

// The lexicon is English, as most injections against English-speaking models are. What it does not know is left to the features that need
// no words. It was written from how instructions are phrased in general, not from a corpus of attacks.

// category is a set of classes that a word belongs to.
type category uint16

const (
	instruction category = 1 << iota // of command, urgency or about instructions
	address                          // the second person
	machine                          // names of models and words for them
	speaker                          // names of roles in a conversation
	imperative                       // verbs that make a command at the beginning of a sentence
	function                         // English function words
	aside                            // verbs for setting aside
	order                            // words for instructions and for what went before
	effect                           // verbs in names of tools that change something
)

var lexicon = newTable(map[category]string{
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
	aside: `ignore ignoring disregard disregarding forget forgetting override overriding bypass bypassing neglect discard supersede supersedes replace replaces cancel stop`,
	order: `instruction instructions prompt prompts rule rules guideline guidelines directive directives order orders command commands task tasks
		request requests context constraints restrictions policy policies told previous prior above preceding foregoing earlier everything`,
	effect: `add append approve book buy cancel change clear commit create delete deploy destroy disable drop edit email enable exec execute forward
		grant insert install invite merge message modify move order pay post publish purchase push put refund remove rename reply reserve reset
		revoke run save schedule send set share shell submit subscribe transfer update upload wire withdraw write`,
})

// FNV-1a, 64 bits, over a word in lower case.
const (
	hashBasis = 14695981039346656037
	hashPrime = 1099511628211
)

// table maps the hash of a word to its categories. It is open-addressed and at most a quarter full, so that a miss, the
// common case, is seldom more than one look.
type table struct {
	slots [tableSize]struct {
		hash uint64
		cat  category
	}
}

const tableSize = 2048

func newTable(words map[category]string) *table {
	t := &table{}
	for cat, list := range words {
		h := uint64(hashBasis)
		inWord := false
		for i := 0; i <= len(list); i++ {
			if i < len(list) && list[i] >= 'a' && list[i] <= 'z' {
				h = (h ^ uint64(list[i])) * hashPrime
				inWord = true
				continue
			}
			if inWord {
				t.add(h, cat)
			}
			h, inWord = hashBasis, false
		}
	}
	return t
}

func (t *table) add(h uint64, cat category) {
	for i := h % tableSize; ; i = (i + 1) % tableSize {
		if s := &t.slots[i]; s.hash == h || s.hash == 0 {
			s.hash = h
			s.cat |= cat
			return
		}
	}
}

func (t *table) find(h uint64) category {
	for i := h % tableSize; ; i = (i + 1) % tableSize {
		s := &t.slots[i]
		if s.hash == h {
			return s.cat
		}
		if s.hash == 0 {
			return 0
		}
	}
}
