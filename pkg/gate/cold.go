package gate

import "sallyport.dev/sallyport/pkg/policy"

// unjudged is the rule that refuses a call because there is no model to judge it by.
const unjudged = "GATE-COLD"

// cold is the refusal of a call that policy allowed without a detector, where the configuration wants one.
func cold(d policy.Decision) policy.Decision {
	return policy.Decision{
		Action: policy.ActionDeny, Fault: policy.FaultCold, Digest: d.Digest, Revision: d.Revision, Rules: d.Rules,
		Reasons: []policy.Reason{{Rule: unjudged, Message: "The detector has no model of this workload yet, and its profile refuses calls until it has."}},
	}
}
