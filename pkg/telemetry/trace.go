package telemetry

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// TraceContext is W3C trace context: https://www.w3.org/TR/trace-context/.
type TraceContext struct {
	TraceID string // 32 lower-case hex digits
	SpanID  string // 16 lower-case hex digits: this hop's
	Flags   string // 2 hex digits
}

// Continue reads a traceparent header and returns the context for the next hop: the same trace with a new span. A header that
// is absent or malformed begins a new trace, unsampled, as the recommendation asks.
func Continue(traceparent string) TraceContext {
	tc := TraceContext{SpanID: randomHex(8), Flags: "00"}
	// version "-" trace-id "-" parent-id "-" flags; later versions may go on after another "-".
	p := strings.Split(traceparent, "-")
	if len(p) >= 4 && len(p[0]) == 2 && isHex(p[0]) && p[0] != "ff" && (p[0] != "00" || len(p) == 4) &&
		len(p[1]) == 32 && isHex(p[1]) && strings.Trim(p[1], "0") != "" &&
		len(p[2]) == 16 && isHex(p[2]) && strings.Trim(p[2], "0") != "" &&
		len(p[3]) == 2 && isHex(p[3]) {
		tc.TraceID, tc.Flags = p[1], p[3]
		return tc
	}
	tc.TraceID = randomHex(16)
	return tc
}

// Header is the traceparent to send on.
func (c TraceContext) Header() string {
	return "00-" + c.TraceID + "-" + c.SpanID + "-" + c.Flags
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program where there is no randomness
	return hex.EncodeToString(b)
}
