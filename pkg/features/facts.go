package features

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
)

// Context is what a call is seen in.
type Context struct {
	// Salt is the workload's, the same for all of its calls; see the function Salt. With 0, no evidence is written and nothing compared with a baseline.
	Salt uint64
	// Baseline is what is usual in the workload; nil while nothing was learned. One that was learned under another salt counts as none.
	Baseline *Baseline
	// Destination is where the call goes: host:port.
	Destination string
	// Credential is the caller's own, or whatever of it stays the same from call to call; empty where there is none. Only a salted hash of it is made.
	Credential []byte
	// Now is when the call arrived; zero where that is not known.
	Now time.Time
}

// Facts are what a call has that no other call of its workload had before, as policy sees it.
type Facts struct {
	// Ready says that there is a baseline to compare with. Without, nothing is new.
	Ready bool
	// NewTools says that a tool is offered whose definition is not known: a new one, or another form of an old one.
	NewModel, NewTools, NewSystem, NewDestination, NewCredential bool
}

// mark is the mark of something of a kind: never 0. The hash is one that nobody can find another text for, so that nothing new passes for something known but by
// chance, one in four thousand million for each that is known.
func mark[T []byte | string](kind byte, b T, salt uint64) uint32 {
	var room [256]byte
	text := binary.LittleEndian.AppendUint64(append(room[:0], kind), salt)
	sum := sha256.Sum256(append(text, b...))
	return max(1, binary.LittleEndian.Uint32(sum[:]))
}

func hashOf(s string) uint64 {
	h := uint64(hashBasis)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

// note writes the marks of a call but for those that are found while its messages are read. from is where the new messages begin.
func (m *marks) note(call *llm.Call, t *Turn, from int, cx *Context, seen *markCache, known *toolMarks) {
	if !cx.Now.IsZero() {
		now := cx.Now.UTC()
		m.hour = uint8((int(now.Weekday())+6)%7*24 + now.Hour())
	}
	m.model = seen.mark(kindModel, call.Model, cx.Salt)
	if len(call.Messages) > 0 { // else it offers tools only
		var system point
		if t != nil {
			system = t.system
		} else {
			system = systemOf(call.Messages)
		}
		m.system = seen.markBytes(kindSystem, system[:], cx.Salt)
	}
	if cx.Destination != "" {
		m.destination = seen.mark(kindDestination, cx.Destination, cx.Salt)
	}
	if len(cx.Credential) > 0 {
		m.credential = seen.markBytes(kindCredential, cx.Credential, cx.Salt)
	}
	if t != nil && len(call.Tools) > 0 && known.salt == cx.Salt && known.of == t.tools {
		m.tools = append(m.tools, known.marks...)
	} else {
		m.offered(call, cx.Salt)
		if t != nil {
			known.salt, known.of, known.marks = cx.Salt, t.tools, append(known.marks[:0], m.tools...)
		}
	}
	p := pace{calls: 1}
	if t != nil {
		p = t.pace
	} else {
		p.cost = costOf(call)
	}
	m.calling, m.costing = step(p.calls), step(p.cost)
	m.previous = lastTool(call.Messages[:from])
}

// markCache has marks made lately, as calls mostly have the same model, system prompt, destination and credential as calls before them. They are kept by a hash of what they are
// of, 64 bits by a secret of the process, so that nothing of it stays; one in 2⁶⁴ is taken for another, where the mark itself is one of 2³².
type markCache [64]struct {
	key  uint64
	mark uint32
}

var markSeed = maphash.MakeSeed()

func (c *markCache) mark(kind byte, s string, salt uint64) uint32 {
	key := scramble(maphash.String(markSeed, s) ^ scramble(salt+uint64(kind)))
	e := &c[key%uint64(len(c))]
	if e.key != key || e.mark == 0 {
		e.key, e.mark = key, mark(kind, s, salt)
	}
	return e.mark
}

func (c *markCache) markBytes(kind byte, b []byte, salt uint64) uint32 {
	key := scramble(maphash.Bytes(markSeed, b) ^ scramble(salt+uint64(kind)))
	e := &c[key%uint64(len(c))]
	if e.key != key || e.mark == 0 {
		e.key, e.mark = key, mark(kind, b, salt)
	}
	return e.mark
}

// toolMarks are the marks of the tools that a call offered, kept for the next, which mostly offers the same.
type toolMarks struct {
	salt, of uint64
	marks    []uint32
}

// offered writes the marks of the tools.
func (m *marks) offered(call *llm.Call, salt uint64) {
	for i := range call.Tools[:min(len(call.Tools), maxToolMarks)] {
		digest := call.Tools[i].Digest
		if i+1 == maxToolMarks { // all that are left share one mark
			for _, tool := range call.Tools[i+1:] {
				sum := sha256.Sum256(append(digest[:], tool.Digest[:]...))
				copy(digest[:], sum[:])
			}
		}
		m.tools = append(m.tools, mark(kindTool, digest[:], salt))
	}
}

// calledTool is the hash by which evidence has a tool that was called: never 0.
func calledTool(name string) uint16 { return max(1, toolName(name)) }

// lastTool is the last tool called in messages; startOfTools where there is none.
func lastTool(messages []llm.Message) uint16 {
	for i := len(messages) - 1; i >= 0; i-- {
		parts := messages[i].Parts
		for j := len(parts) - 1; j >= 0; j-- {
			if parts[j].Kind == llm.PartToolCall {
				return calledTool(parts[j].ToolName)
			}
		}
	}
	return startOfTools
}

// maxSystem is how many bytes of a system prompt are read; of what is longer, any change makes another.
const maxSystem = 256 << 10

// leadingSystem is how many messages there are before the first of another role.
func leadingSystem(messages []llm.Message) int {
	for i := range messages {
		if messages[i].Role != llm.RoleSystem {
			return i
		}
	}
	return len(messages)
}

// systemOf names the system prompt: the messages before the first of another role, and asides of the same. Words with digits in them are all one, and white space is left out, as prompts have dates, numbers and
// other identifiers in them.
func systemOf(messages []llm.Message) point {
	h := sha256.New()
	var room [512]byte
	b := room[:0]
	budget := maxSystem
	before := asides(messages)
	for i := range messages[:before+leadingSystem(messages[before:])] {
		if messages[i].Role != llm.RoleSystem {
			continue // what only says whose call it is
		}
		for j := range messages[i].Parts {
			text := messages[i].Parts[j].Text
			if len(text) > budget {
				h.Write(messages[i].Digest[:])
				text = nil
			}
			budget -= len(text)
			begun, digits := 0, false // where the word began, and whether it has digits
			for _, c := range text {
				switch classOf[c] {
				case space, newline:
					begun, digits = len(b), false
					continue
				case word, high:
					if isDigit(c) && !digits {
						b, digits, c = b[:begun], true, '0'
					} else if digits {
						continue
					}
				default:
					begun, digits = len(b)+1, false
				}
				if b = append(b, c); len(b) == cap(b) {
					// The word that goes on stays: it may have digits yet. One that is longer than all there is room for is cut.
					if begun == 0 {
						begun = len(b)
					}
					h.Write(b[:begun])
					b, begun = b[:copy(b, b[begun:])], 0
				}
			}
			h.Write(append(b, 0))
			b = b[:0]
		}
	}
	var p point
	var sum [sha256.Size]byte
	copy(p[:], h.Sum(sum[:0]))
	return p
}

// called notes a tool call of the new messages. Of many the latest are kept, as those are what has not happened yet: of a conversation that is not recognised, all calls are new.
func (m *marks) called(p *llm.Part, said *wordSet, salt uint64) {
	if len(m.calls) == maxCalledTools {
		m.previous = m.calls[0]
		m.calls = slices.Delete(m.calls, 0, 1)
	}
	m.calls = append(m.calls, calledTool(p.ToolName))
	m.destinationsIn(p.Text[:min(len(p.Text), maxArguments)], said, salt)
}

// maxArguments is how many bytes of one tool call's arguments are looked through for destinations.
const maxArguments = 256 << 10

// destinationsIn marks the destinations that a tool call's arguments, JSON as sent, name: hosts of URLs, domains of e-mail addresses, and what looks like the number of a bank account.
// said has the words of users. Of those of one call that are not marked yet, the first maxDestinations are.
func (m *marks) destinationsIn(b []byte, said *wordSet, salt uint64) {
	for i, left := 0, maxDestinations; i < len(b) && left > 0; {
		switch c := b[i]; {
		case c == ':' && slashes(b[i+1:]) > 0:
			i += 1 + slashes(b[i+1:])
			host, n := hostOf(b[i:])
			left -= m.addDestination(host, said, salt)
			i += n
		case c == '@':
			i++
			if host, n := hostOf(b[i:]); n > 0 && bytes.IndexByte(host, '.') > 0 {
				left -= m.addDestination(host, said, salt)
				i += n
			}
		case classOf[c] == word && (i == 0 || classOf[b[i-1]] != word && b[i-1] != '\\'):
			if n := account(b[i:]); n > 0 {
				left -= m.addDestination(b[i:i+n], said, salt)
				i += n
				continue
			}
			if len(b)-i > 4 && b[i]|0x20 == 'w' && b[i+1]|0x20 == 'w' && b[i+2]|0x20 == 'w' && b[i+3] == '.' {
				host, n := hostOf(b[i:])
				left -= m.addDestination(host, said, salt)
				i += n
				continue
			}
			for i < len(b) && classOf[b[i]] == word {
				i++
			}
		default:
			i++
		}
	}
}

// slashes is the length of the two slashes that b begins with, which JSON may escape; 0 where it does not.
func slashes(b []byte) int {
	switch {
	case hasPrefix(b, "//"):
		return 2
	case hasPrefix(b, `\/\/`):
		return 4
	}
	return 0
}

// hostOf returns the host of an authority that b begins with, without user and port, and the authority's length.
func hostOf(b []byte) (host []byte, n int) {
	for n < len(b) && n < 512 {
		if c := b[n]; classOf[c] != word && classOf[c] != high && c != '.' && c != '-' && c != '_' && c != ':' && c != '@' && c != '%' {
			break
		}
		n++
	}
	host = b[:n]
	if i := bytes.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return bytes.Trim(host, ".-_%"), n
}

// account returns the length of what looks like an IBAN that b begins with, in one piece or in groups of four; 0 where there is none. Its check digits are not
// looked at: money also goes where a number only looks right.
func account(b []byte) int {
	if len(b) < 15 || classOf[b[0]] != word || b[0] <= '9' || classOf[b[1]] != word || b[1] <= '9' || !isDigit(b[2]) || !isDigit(b[3]) {
		return 0
	}
	n, signs, digits, group := 0, 0, 0, 0
	for n < len(b) && signs <= 34 {
		switch c := b[n]; {
		case classOf[c] == word:
			signs++
			group++
			if isDigit(c) {
				digits++
			}
			n++
			continue
		case c == ' ' && group == 4 && n+1 < len(b) && classOf[b[n+1]] == word:
			group = 0
			n++
			continue
		}
		break
	}
	if signs < 15 || signs > 34 || digits < 8 {
		return 0
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// addDestination adds a destination, in small letters and without spaces, once; where there are many, in the place of the first. It returns how many it added.
func (m *marks) addDestination(name []byte, said *wordSet, salt uint64) int {
	if len(name) == 0 {
		return 0
	}
	var room [128]byte
	text := room[:0]
	known, length := true, 0
	for i := range len(name) + 1 {
		c := byte(0)
		if i < len(name) {
			c = name[i]
		}
		if k := classOf[c]; k == word || k == high {
			length++
		} else if length > 0 {
			known = known && said.has(hashAt(name, i-length, i))
			length = 0
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != ' ' && c != 0 {
			text = append(text, c)
		}
	}
	x := mark(kindArgument, text, salt) | destinationSaid
	for _, y := range m.destinations {
		if y|destinationSaid == x {
			return 0
		}
	}
	if !known {
		x &^= destinationSaid
	}
	if len(m.destinations) == maxDestinations {
		m.destinations = slices.Delete(m.destinations, 0, 1)
	}
	m.destinations = append(m.destinations, x)
	return 1
}
