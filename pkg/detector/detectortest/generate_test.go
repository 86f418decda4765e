package detectortest_test

import (
	"bytes"
	"testing"

	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/llm"
)

func TestConversations(t *testing.T) {
	a, b := detectortest.New(3), detectortest.New(3)
	for range 50 {
		for _, c := range []struct {
			it, same detectortest.Conversation
			hijacked bool
		}{{a.Benign(), b.Benign(), false}, {a.Hijacked(), b.Hijacked(), true}} {
			if len(c.it.Calls) < 3 || len(c.it.Bodies) != len(c.it.Calls) || len(c.it.Gaps) != len(c.it.Calls) {
				t.Fatalf("%d calls, %d bodies, %d gaps", len(c.it.Calls), len(c.it.Bodies), len(c.it.Gaps))
			}
			if c.hijacked != (c.it.Exposed > 0) || c.hijacked && c.it.Exposed != len(c.it.Calls)-2 {
				t.Errorf("hijacked %v, exposed %d of %d", c.hijacked, c.it.Exposed, len(c.it.Calls))
			}
			previous := 0
			for i, call := range c.it.Calls {
				if !bytes.Equal(c.it.Bodies[i], c.same.Bodies[i]) {
					t.Fatal("the same seed made two conversations")
				}
				if len(call.Findings) > 0 || len(call.UnknownFields) > 0 || len(call.Tools) == 0 || call.Messages[0].Role != llm.RoleSystem {
					t.Errorf("call is not clean: %+v", call.Findings)
				}
				if len(call.Messages) <= previous {
					t.Errorf("call %d brings nothing new", i)
				}
				previous = len(call.Messages)
			}
		}
	}
}
