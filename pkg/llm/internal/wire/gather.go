package wire

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// What responses have in most wire formats, for Shape's Take and End. What else a codec wants begins at TakeOwn.
const (
	TakeModel = 1 + iota
	TakeFinish
	TakeInput
	TakeOutput
	TakeCached
	TakeReasoning
	// EndError is of the object by which a response says that it failed.
	EndError
	TakeOwn
)

// Gathered is what was read of a response so far. A Taker embeds it: it hands Common what its wire format has as others do, and has a
// Reply, unless there are sums to do.
type Gathered struct {
	Model        string
	FinishReason string // as the response says it
	Usage        llm.Usage
	Calls        Calls
	// Failed says that the response did not end well, whatever reason it names.
	Failed bool
}

// Gather begins to gather what the options ask for.
func Gather(o llm.WatchOptions) Gathered { return Gathered{Calls: Calls{Keep: o.Arguments}} }

// Common takes a value in, and reports whether it is one of those before TakeOwn.
func (g *Gathered) Common(id int, v strictjson.Value) bool {
	switch id {
	case TakeModel:
		SetString(&g.Model, v)
	case TakeFinish:
		SetString(&g.FinishReason, v)
	default:
		return TakeUsage(&g.Usage, id, v)
	}
	return true
}

// TakeUsage takes a number of tokens into u, and reports whether the value is one.
func TakeUsage(u *llm.Usage, id int, v strictjson.Value) bool {
	switch id {
	case TakeInput:
		SetTokens(&u.InputTokens, v)
	case TakeOutput:
		SetTokens(&u.OutputTokens, v)
	case TakeCached:
		SetTokens(&u.CachedTokens, v)
	case TakeReasoning:
		SetTokens(&u.ReasoningTokens, v)
	default:
		return false
	}
	return true
}

// Reply implements Taker.
func (g *Gathered) Reply() llm.Reply {
	r := llm.Reply{Model: g.Model, FinishReason: g.FinishReason, Usage: g.Usage, ToolCalls: g.Calls.List()}
	if g.Failed {
		r.FinishReason = ""
	}
	return r
}

// Piece is a value of a response, or a part of one, that may be longer than is kept. Its buffer is used again.
type Piece struct {
	Text  []byte
	Found bool // there is such a value
	Lost  bool // it was too long: Text is not all of it
}

// SetText takes a string's content in.
func (p *Piece) SetText(v strictjson.Value) { p.set(v, v.Text()) }

// SetRaw takes a value in as it is written.
func (p *Piece) SetRaw(v strictjson.Value) { p.set(v, v.Raw()) }

func (p *Piece) set(v strictjson.Value, text []byte) {
	p.Text, p.Found, p.Lost = append(p.Text[:0], text...), true, v.Kind() == strictjson.Absent
}

// Reset forgets the value.
func (p *Piece) Reset() { p.Text, p.Found, p.Lost = p.Text[:0], false, false }
