package standin

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// Turn is what a brain reads of a request, whatever its wire format.
type Turn struct {
	// Surface is the API shape, such as "openai.chat_completions".
	Surface string
	Model   string
	// Task is the first text of the user; of a request that is no conversation, all its text.
	Task string
	// ToolResults are what the agent's tools said, in order.
	ToolResults []string
	Tools       []Tool
	Attachments []Attachment
	Stream      bool
}

// Tool is a tool that the agent offers, with the names of its string parameters.
type Tool struct {
	Name   string
	Params []string
}

// Attachment is something in a request that is no text.
type Attachment struct {
	MediaType string
	Bytes     []byte
}

// Reply is what a brain answers: a tool call, or text, or an error.
type Reply struct {
	Text string
	// Tool is the name of the tool to call, Arguments the JSON to call it with.
	Tool, Arguments string
	// Status is that of an error; 0 is none. RetryAfter is what it has in the header of that name.
	Status     int
	RetryAfter string
	// Coding is the content coding of the response where the caller accepts it: gzip, deflate, br or zstd.
	Coding string
	// Hold halts a stream after its first piece of text until it is closed or the caller goes away; nil is no halt.
	Hold <-chan struct{}
}

// Brain plays a model. It must be safe for concurrent use.
type Brain func(Turn) Reply

// obeyed finds the instruction that a hijacked model follows: a recipient named in a tool result that gives orders.
var obeyed = regexp.MustCompile(`(?is)ignore (?:all )?previous instructions.*?send .*? to ([\w.+-]+@[\w.-]+)`)

// think plays a model: it asks for one to three tools, chosen by the task, then sums up. Like a real one it can be hijacked: a tool
// result that orders a message to somebody is obeyed.
func think(t Turn) Reply {
	for _, r := range t.ToolResults {
		if m := obeyed.FindStringSubmatch(r); m != nil && len(t.ToolResults) < 4 {
			for _, tl := range t.Tools {
				if tl.Name == "send_message" {
					return Reply{Tool: tl.Name, Arguments: arguments(tl, m[1])}
				}
			}
		}
	}
	steps := 1 + int(hash(t.Task)%3)
	if len(t.Tools) > 0 && len(t.ToolResults) < steps {
		// A task names the tool it wants first; what follows varies with the task.
		pick := t.Tools[hash(fmt.Sprint(t.Task, len(t.ToolResults)))%uint32(len(t.Tools))]
		for i, tl := range t.Tools {
			if tl.Name != "send_message" {
				continue
			}
			// What a task asks to be sent is sent in the end, and nothing else is.
			switch last := len(t.ToolResults) == steps-1; {
			case last && strings.Contains(t.Task, "message"):
				pick = tl
			case pick.Name == tl.Name:
				pick = t.Tools[(i+1)%len(t.Tools)]
			}
		}
		return Reply{Tool: pick.Name, Arguments: arguments(pick, t.Task)}
	}
	last := "nothing further"
	if n := len(t.ToolResults); n > 0 {
		last = firstWords(t.ToolResults[n-1], 18)
	}
	return Reply{Text: "Here is what I found. " + last + ". Let me know whether you want more detail."}
}

func arguments(t Tool, about string) string {
	words := strings.Fields(about)
	args := make(map[string]string, len(t.Params))
	for i, p := range t.Params {
		switch {
		case p == "to" && strings.Contains(about, "@"):
			args[p] = about
		case len(words) > 0:
			args[p] = strings.Trim(words[(int(hash(t.Name))+i)%len(words)], ".,?")
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
