package features

import (
	"math"

	"sallyport.dev/sallyport/pkg/llm"
)

// Extract writes the call's features to dst, and what it leaves behind for learning to ev, where that is not nil; it returns what is new to the workload. t is the
// call's turn in the conversation; without one, nil, the call is taken to open a conversation. It reads the new messages' text once, of a great deal the latest, keeps nothing of it
// and changes nothing but dst and ev.
//
// In the steady state it does not allocate.
func Extract(dst *Vector, ev *Evidence, call *llm.Call, t *Turn, cx *Context) Facts {
	s := pool.Get().(*scan) //nolint:forcetypeassert // the pool holds nothing else
	s.begin()
	facts := extract(dst, s, ev, call, t, cx)
	s.keep, s.marks, s.novel.sketch = nil, nil, nil // the pool keeps nobody's
	pool.Put(s)
	return facts
}

func extract(dst *Vector, s *scan, ev *Evidence, call *llm.Call, t *Turn, cx *Context) (facts Facts) {
	*dst = Vector{}
	from, others := 0, 0
	if t != nil {
		from = min(max(0, t.newFrom), len(call.Messages))
		if t.others {
			others = min(t.before, from)
		}
	}
	fresh := [...][]llm.Message{call.Messages[:others], call.Messages[from:]}

	if ev != nil {
		ev.reset()
	}
	baseline := cx.Baseline
	if s.salt = cx.Salt; s.salt != 0 {
		salt := s.known.mark(kindSalt, "", s.salt)
		if baseline != nil && baseline.salt != salt && baseline.rows > 0 {
			baseline = nil // it was learned under another salt: all would be new
		}
		if baseline != nil {
			s.novel.sketch = &baseline.words
		}
		if ev != nil {
			ev.present, ev.salt = true, salt
			if t != nil {
				ev.opening = t.openingName(s.salt)
			}
			s.keep, s.marks = &ev.words, &ev.marks
		}
		s.marks.reset()
		s.marks.note(call, t, from, cx, &s.known, &s.tools)
	}

	var there int
	for _, messages := range fresh {
		calls, text := within(messages)
		s.comparing += calls
		there += text
	}
	s.over = max(0, there-maxScan)
	if s.comparing > 0 {
		s.recall(call.Messages[:from])
	}
	var d struct{ bytes, lateSystem, attachments int }
	for _, messages := range fresh {
		for i := range messages {
			m := &messages[i]
			d.bytes += max(0, m.Bytes)
			d.attachments += s.message(m)
		}
	}
	for i := max(from, asides(call.Messages)+1); i < len(call.Messages); i++ {
		if call.Messages[i].Role == llm.RoleSystem && call.Messages[i-1].Role != llm.RoleSystem {
			d.lateSystem++
		}
	}

	count := func(feature, n int) { dst[feature] = log1pOf(n) }
	share := func(feature, part, whole int) {
		if whole > 0 {
			dst[feature] = float32(float64(part) / float64(whole))
		}
	}

	count(lateSystem, d.lateSystem)
	count(toolsOffered, len(call.Tools))
	servers := 0
	for i := range call.Tools {
		if call.Tools[i].ServerSide {
			servers++
		}
	}
	count(serverTools, servers)
	count(attachments, d.attachments+len(call.URLs))
	count(unknownFields, len(call.UnknownFields))
	if call.MaxTokens != nil {
		dst[maxTokens] = float32(math.Log1p(float64(max(0, *call.MaxTokens))))
	}

	count(deltaBytes, d.bytes)
	count(messages, len(call.Messages))
	share(toolShare, s.toolBytes, s.bytes)
	count(unreadBytes, s.unread)

	var text histogram
	counts := countsOf(s.high != 0)
	s.text.merge(&text, counts)
	dst[textEntropy] = float32(text.entropy(s.bytes, counts))
	upper, digit := text.sum('A', 'Z'), text.sum('0', '9')
	share(textUpper, upper, s.bytes)
	share(textDigit, digit, s.bytes)
	share(textSpace, int(text[' '])+int(text['\t']), s.bytes)
	punct := text.sum('!', '/') + text.sum(':', '@') + text.sum('[', '`') + text.sum('{', '~')
	share(textPunct, punct, s.bytes)
	ascii := upper + digit + punct + text.sum('a', 'z') + text.sum(0, ' ') + int(text[0x7f])
	share(textNonASCII, s.bytes-ascii, s.bytes)
	count(longestToken, s.longestToken)
	if s.words > 0 {
		dst[meanWord] = float32(math.Log1p(float64(s.wordBytes) / float64(s.words)))
	}
	share(distinctWords, s.distinct, s.words)
	count(longestEncoded, s.longestRun)

	count(instructionWords, s.instructions)
	count(secondPerson, s.addresses)
	count(modelNames, s.machines)
	count(roleMarkers, s.markers)
	count(imperatives, s.imperatives)
	count(capitals, s.capitals)
	count(exclamations, s.exclaimed)
	count(invisible, s.invisible)
	count(tags, s.tags)
	count(overrides, s.overrides)
	count(instructionPeak, s.peak)
	count(prosePeak, s.prose)

	count(toolCalls, s.calls)
	count(argsBytes, s.argsBytes)
	dst[argsEntropy] = float32(s.args.entropy(s.argsBytes, countsOf(s.argsHigh >= 0x80)))
	count(sideEffects, s.effects)
	share(argsTainted, s.tainted, s.argsWords)

	if t != nil {
		if t.modelChanged {
			dst[modelChanged] = 1
		}
		if t.toolsChanged {
			dst[toolsChanged] = 1
		}
		dst[gap] = float32(math.Log1p(t.gap.Seconds()))
		dst[rate] = float32(math.Log1p(t.rate()))
		count(rewritten, t.lacks)
	} else {
		dst[rate] = float32(math.Log1p(1))
	}

	count(secrets, s.secrets)
	s.novel.write(dst)
	if s.salt != 0 && baseline != nil {
		facts = baseline.compare(dst, s.marks)
	}
	return facts
}

// countsOf is how many counts of bytes there are to look at, which with nothing beyond ASCII is half of them.
func countsOf(high bool) int {
	if high {
		return 256
	}
	return 128
}

func log1pOf(n int) float32 {
	if n >= 0 && n < len(log1pOfFew) {
		return log1pOfFew[n]
	}
	return float32(math.Log1p(float64(max(0, n))))
}

// log1pOfFew has the logarithms of numbers as small as most are.
var log1pOfFew = func() (t [256]float32) {
	for n := range t {
		t[n] = float32(math.Log1p(float64(n)))
	}
	return
}()

// within is how many tool calls and bytes of text there are to read.
func within(messages []llm.Message) (toolCalls, text int) {
	for i := range messages {
		for j := range messages[i].Parts {
			switch p := &messages[i].Parts[j]; p.Kind {
			case llm.PartToolCall:
				toolCalls++
				text += len(p.Text)
			case llm.PartImage, llm.PartAudio, llm.PartFile:
			default:
				text += len(p.Text)
			}
		}
	}
	return toolCalls, text
}

// recall gathers what users and tools said earlier, the latest first.
func (s *scan) recall(earlier []llm.Message) {
	budget := maxHistory
	for i := len(earlier) - 1; i >= 0; i-- {
		m := &earlier[i]
		for j := range m.Parts {
			p := &m.Parts[j]
			said := s.saidBy(m.Role, p.Kind)
			if said == nil {
				continue
			}
			text := p.Text[:min(len(p.Text), budget)]
			s.remember(text, said)
			if budget -= len(text); budget == 0 {
				return
			}
		}
	}
}

// saidBy returns whose words a text is, where that matters: a tool's, or the user's and the system prompt's.
func (s *scan) saidBy(role llm.Role, kind llm.PartKind) *wordSet {
	switch {
	case kind == llm.PartToolResult || role == llm.RoleTool && kind == llm.PartText:
		return &s.byTool
	case kind == llm.PartText && (role == llm.RoleUser || role == llm.RoleSystem):
		return &s.byUser
	}
	return nil
}

// message reads a new message and returns how many attachments it has.
func (s *scan) message(m *llm.Message) (attachments int) {
	for j := range m.Parts {
		p := &m.Parts[j]
		switch p.Kind {
		case llm.PartText, llm.PartReasoning, llm.PartToolResult:
			said := s.saidBy(m.Role, p.Kind)
			tool, prompt := said == &s.byTool, said == &s.byUser
			if s.comparing == 0 {
				said = nil // no tool call comes after it
			}
			s.read(p.Text, tool, prompt, p.ToolName, said)
		case llm.PartToolCall:
			s.calls++
			if changes(p.ToolName) {
				s.effects++
			}
			s.arguments(p.Text)
			if s.salt != 0 {
				s.marks.called(p, &s.byUser, s.salt)
			}
			s.comparing--
		case llm.PartImage, llm.PartAudio, llm.PartFile:
			attachments++
		default:
			// Not understood, but read: an unknown part's text is not a way past. What only says whose call it is, is not for the model, and new words there are nothing unusual.
			s.read(p.Text, !m.Aside || m.Role != llm.RoleUser, false, p.ToolName, nil)
		}
	}
	return attachments
}
