package gate

import (
	"sallyport.dev/sallyport/pkg/llm/coding"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/redact"
)

// unredactable is the rule by which a call is refused from which nothing can be taken out, although a bundle asks for it.
const unredactable = "GATE-REDACT"

// sensitive counts what a body holds.
func sensitive(body []byte) policy.Sensitive {
	n := redact.Count(body)
	return policy.Sensitive{
		Credential: n[redact.Credential], CreditCard: n[redact.CreditCard], Email: n[redact.Email], IBAN: n[redact.IBAN], Phone: n[redact.Phone],
	}
}

// redact takes out of the body what the decision asks for, and notes how much that was. What cannot be done turns the decision into a denial. While
// the mode is to observe, the body stays as it is.
func (v *Verdict) redact(d policy.Decision, plain []byte, r *Request) policy.Decision {
	if len(plain) == 0 {
		return d
	}
	kinds := make([]redact.Kind, len(d.Obligations.Redact))
	for i, k := range d.Obligations.Redact {
		kinds[i] = redact.Kind(k)
	}
	edited, counts, err := redact.Redact(plain, kinds)
	if err == nil && len(counts) > 0 {
		edited, err = coding.Encode(r.ContentEncoding, edited)
	}
	if err != nil {
		return policy.Decision{
			Action: policy.ActionDeny, Digest: d.Digest, Revision: d.Revision,
			Reasons: []policy.Reason{{Rule: unredactable, Message: "A policy bundle asks for sensitive text to be taken out of the call, and its body cannot be edited."}},
		}
	}
	if len(counts) == 0 {
		return d
	}
	v.Record.Redacted = make(map[string]int, len(counts))
	for k, n := range counts {
		v.Record.Redacted[string(k)] = n
	}
	if !relaxes(r.Mode, r.KillSwitch) {
		v.Body = edited
	}
	return d
}
