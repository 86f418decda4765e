package features

import (
	"time"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// Sessions recognises conversations. It is safe for concurrent use.
type Sessions struct{}

// NewSessions returns Sessions that hold at most max conversations, each until it has been idle for the given time. Values that
// are not positive take their defaults: 4096 and one hour.
func NewSessions(max int, idle time.Duration) *Sessions { return &Sessions{} }

// Turn is one call's place in its conversation: a snapshot taken by Begin and handed back to Settle.
type Turn struct {
	session policy.Session
	newFrom int
}

// Session is the conversation as it was before the call.
func (t *Turn) Session() policy.Session { return t.session }

// NewFrom is the index of the first message that the conversation's earlier calls did not bring.
func (t *Turn) NewFrom() int { return t.newFrom }

// Begin finds the call's conversation.
func (s *Sessions) Begin(call *llm.Call, now time.Time) *Turn { return &Turn{} }

// Settle records the call in its conversation.
func (s *Sessions) Settle(t *Turn, percentile float64, released, taint bool, now time.Time) {}

// Len is the number of conversations held.
func (s *Sessions) Len() int { return 0 }
