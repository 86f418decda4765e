package standin

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// turn is what the brain reads of a conversation, whatever its wire format.
type turn struct {
	task        string   // the first user message
	toolResults []string // in order
	tools       []tool
}

// tool is a tool that the agent offers, with the names of its string parameters.
type tool struct {
	name   string
	params []string
}

// reply is what the brain answers: a tool call, or text.
type reply struct {
	toolName string
	toolArgs string // JSON
	text     string
}

// obeyed finds the instruction that a hijacked model follows: a recipient named in a tool result that gives orders.
var obeyed = regexp.MustCompile(`(?is)ignore (?:all )?previous instructions.*?send .*? to ([\w.+-]+@[\w.-]+)`)

// think plays a model: it asks for one to three tools, chosen by the task, then sums up. Like a real one it can be hijacked: a tool
// result that orders a message to somebody is obeyed.
func think(t turn) reply {
	for _, r := range t.toolResults {
		if m := obeyed.FindStringSubmatch(r); m != nil && len(t.toolResults) < 4 {
			for _, tl := range t.tools {
				if tl.name == "send_message" {
					return reply{toolName: tl.name, toolArgs: arguments(tl, m[1])}
				}
			}
		}
	}
	steps := 1 + int(hash(t.task)%3)
	if len(t.tools) > 0 && len(t.toolResults) < steps {
		// A task names the tool it wants first; what follows varies with the task.
		pick := t.tools[hash(fmt.Sprint(t.task, len(t.toolResults)))%uint32(len(t.tools))]
		for i, tl := range t.tools {
			if tl.name != "send_message" {
				continue
			}
			// What a task asks to be sent is sent in the end, and nothing else is.
			switch last := len(t.toolResults) == steps-1; {
			case last && strings.Contains(t.task, "message"):
				pick = tl
			case pick.name == tl.name:
				pick = t.tools[(i+1)%len(t.tools)]
			}
		}
		return reply{toolName: pick.name, toolArgs: arguments(pick, t.task)}
	}
	last := "nothing further"
	if n := len(t.toolResults); n > 0 {
		last = firstWords(t.toolResults[n-1], 18)
	}
	return reply{text: "Here is what I found. " + last + ". Let me know whether you want more detail."}
}

func arguments(t tool, about string) string {
	words := strings.Fields(about)
	args := make(map[string]string, len(t.params))
	for i, p := range t.params {
		switch {
		case p == "to" && strings.Contains(about, "@"):
			args[p] = about
		case len(words) > 0:
			args[p] = strings.Trim(words[(int(hash(t.name))+i)%len(words)], ".,?")
		default:
			args[p] = "all"
		}
	}
	b, _ := json.Marshal(args) // a map of strings always encodes
	return string(b)
}

func firstWords(s string, n int) string {
	w := strings.Fields(s)
	if len(w) > n {
		w = w[:n]
	}
	return strings.Join(w, " ")
}

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// pieces cuts a text into n parts, as a stream sends it.
func pieces(s string, n int) []string {
	words := strings.SplitAfter(s, " ")
	if n <= 0 || n > len(words) {
		n = len(words)
	}
	out := make([]string, 0, n)
	for i := range n {
		out = append(out, strings.Join(words[i*len(words)/n:(i+1)*len(words)/n], ""))
	}
	return out
}
