package wire_test

import (
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// value parses a JSON text.
func value(t *testing.T, text string) strictjson.Value {
	t.Helper()
	var doc strictjson.Document
	if !doc.Parse([]byte(text), strictjson.Options{}) {
		t.Fatalf("%s is not read", text)
	}
	return doc.Root()
}

// Each of the common values has its place in the reply; a failure takes the reason away, which does not hold then.
func TestGathered(t *testing.T) {
	g := wire.Gather(llm.WatchOptions{})
	for id, text := range map[int]string{wire.TakeModel: `"m"`, wire.TakeFinish: `"stop"`, wire.TakeInput: `7`, wire.TakeOutput: `5`, wire.TakeCached: `3`, wire.TakeReasoning: `2`} {
		if !g.Common(id, value(t, text)) {
			t.Errorf("%d is not taken", id)
		}
	}
	if g.Common(wire.TakeOwn, value(t, `1`)) || g.Common(wire.EndError, value(t, `1`)) {
		t.Error("a value of the codec's own is taken")
	}
	r := g.Reply()
	if r.Model != "m" || r.FinishReason != "stop" || r.Usage != (llm.Usage{InputTokens: 7, OutputTokens: 5, CachedTokens: 3, ReasoningTokens: 2}) {
		t.Errorf("%+v", r)
	}
	g.Failed = true
	if r := g.Reply(); r.FinishReason != "" || r.Model != "m" {
		t.Errorf("failed: %+v", r)
	}
}

// A piece that was too long leaves a call that nobody takes for complete in its arguments; where there is no piece nothing changes.
func TestPiece(t *testing.T) {
	var p wire.Piece
	calls := wire.Calls{Keep: 64}
	call := calls.Add()
	calls.AppendPiece(call, &p)
	p.SetText(value(t, `"{\"a\":"`))
	calls.AppendPiece(call, &p)
	p.SetRaw(value(t, `[1]`))
	calls.AppendPiece(call, &p)
	if string(call.Arguments) != `{"a":[1]` || call.Truncated {
		t.Errorf("%+v", call)
	}
	p.Reset()
	calls.AppendPiece(call, &p)
	if p.Found || p.Lost || call.Truncated {
		t.Errorf("%+v, %+v", p, call)
	}
	p.SetRaw(strictjson.Value{})
	calls.AppendPiece(call, &p)
	if !call.Truncated {
		t.Error("what was lost is not said")
	}
}
