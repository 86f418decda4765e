package wire

import (
	"encoding/json"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// SetString sets dst to a string that is there and not empty.
func SetString(dst *string, v strictjson.Value) {
	if s := v.Text(); len(s) > 0 {
		*dst = string(s)
	}
}

// SetTokens sets dst to a number of tokens. A stream says the number again and again as it grows, and where a later
// event says less the earlier one is right: it was charged.
func SetTokens(dst *int64, v strictjson.Value) {
	if n, ok := v.Int64(); ok {
		*dst = max(*dst, n)
	}
}

// JSON is the content type of a refusal.
const JSON = "application/json"

// RefusalCode is the machine-readable code of a refusal, where the wire format has a place for one.
const RefusalCode = "sallyport_refused"

// Explain returns what a refused agent reads. It says who refused, so that the agent does not take it for the provider, why, and that
// there is no way around, so that it does not look for one.
func Explain(r llm.Refusal) string {
	var b strings.Builder
	b.WriteString("Sallyport refused this call before it was sent")
	if m := strings.TrimSpace(r.Message); m != "" {
		b.WriteString(": ")
		b.WriteString(m)
		if !strings.HasSuffix(m, ".") {
			b.WriteByte('.')
		}
	} else {
		b.WriteByte('.')
	}
	b.WriteString(" Rule ")
	b.WriteString(orUnknown(r.Rule))
	b.WriteString(", decision ")
	b.WriteString(orUnknown(r.DecisionID))
	b.WriteString(". Trying again, another route, host or key will not help: every way out passes the same gate. " +
		"Report the rule and the decision to whoever runs this workload.")
	return b.String()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// Encode returns v, a struct of strings, as JSON in valid UTF-8.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{}`) // strings always encode; what a caller could not read would be worse than nothing
	}
	return b
}
