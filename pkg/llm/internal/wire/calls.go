package wire

import (
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
)

// maxCalls is how many tool calls a reply keeps. That there are more is said by one that is named tooManyCalls, so that a policy sees that it does not see
// all of them.
const (
	maxCalls     = 512
	tooManyCalls = "too_many_tool_calls"
)

// Unnamed is the name of a call whose name is missing or too long to be one, so that it is not passed over.
const Unnamed = "unnamed"

// Calls gathers the tool calls of a response from their pieces.
type Calls struct {
	// Keep is how many bytes of the arguments of each call are kept.
	Keep int
	list []llm.ToolCall
	keys []int
	more bool // than are kept
}

// At returns the call that the wire format knows by a key, such as its index, and begins it where there is none. The result is valid until
// the next call of At or Add. Beyond a bound it is a call that is not kept.
func (c *Calls) At(key int) *llm.ToolCall {
	// The last ones are asked for.
	for i := len(c.keys) - 1; i >= 0; i-- {
		if c.keys[i] == key {
			return &c.list[i]
		}
	}
	return c.begin(key)
}

// Add begins a call that the wire format has no key for.
func (c *Calls) Add() *llm.ToolCall { return c.begin(-1 - len(c.keys)) }

func (c *Calls) begin(key int) *llm.ToolCall {
	if len(c.list) >= maxCalls {
		c.more = true
		return &llm.ToolCall{}
	}
	c.list = append(c.list, llm.ToolCall{})
	c.keys = append(c.keys, key)
	return &c.list[len(c.list)-1]
}

// Append adds a piece to the arguments of a call.
func (c *Calls) Append(call *llm.ToolCall, piece []byte) {
	if len(piece) > c.Keep-len(call.Arguments) {
		call.Truncated = true
		return
	}
	if !call.Truncated {
		call.Arguments = append(call.Arguments, piece...)
	}
}

// AppendPiece adds a piece, if there is one, that may have been lost.
func (c *Calls) AppendPiece(call *llm.ToolCall, p *Piece) {
	switch {
	case p.Lost:
		call.Truncated = true
	case p.Found:
		c.Append(call, p.Text)
	}
}

// Done says of all calls so far that they are complete.
func (c *Calls) Done() {
	for i := range c.list {
		c.list[i].Done = true
	}
}

// List returns the calls of which anything is known. One without a name, which is one that has not come yet or that was too long to be read, is among them, so
// that a policy sees that there is a call it does not know.
func (c *Calls) List() []llm.ToolCall {
	var out []llm.ToolCall
	for _, call := range c.list {
		if call.Name != "" || call.ID != "" || call.Truncated || len(call.Arguments) > 0 {
			call.Arguments = slices.Clone(call.Arguments)
			out = append(out, call)
		}
	}
	if c.more {
		out = append(out, llm.ToolCall{Name: tooManyCalls, Truncated: true, Done: true})
	}
	return out
}
