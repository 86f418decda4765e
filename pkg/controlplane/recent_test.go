package controlplane

import (
	"fmt"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// What counts for the false-positive rate, and what is remembered of calls.
func TestRecent(t *testing.T) {
	const model = "m"
	judged := policy.Anomaly{Ready: true, ModelDigest: model}
	over := policy.Anomaly{Ready: true, ModelDigest: model, Exceeds: true}
	deny := func(rules ...string) []policy.Reason {
		var out []policy.Reason
		for _, r := range rules {
			out = append(out, policy.Reason{Rule: r})
		}
		return out
	}
	for name, tt := range map[string]struct {
		anomaly policy.Anomaly
		reasons []policy.Reason
		tainted bool
		want    tally
	}{
		"released":                   {judged, nil, false, tally{1, 0}},
		"released though over":       {over, nil, false, tally{1, 1}},
		"refused for its score":      {over, deny("ANOM-001"), false, tally{1, 1}},
		"refused by a bundle's own":  {over, deny("mine"), false, tally{1, 1}},
		"refused for more than that": {over, deny("ANOM-001", "TOOL-002"), false, tally{}},
		"refused by the system":      {over, deny("SYS-001"), false, tally{}},
		"refused for something else": {judged, deny("TOOL-002"), false, tally{}},
		"in a tainted session":       {over, deny("ANOM-001"), true, tally{}},
		"judged by the model before": {policy.Anomaly{Ready: true, ModelDigest: "old"}, nil, false, tally{}},
		"before there was a model":   {policy.Anomaly{}, nil, false, tally{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := telemetry.Record{ID: "x", Action: policy.ActionAllow, Outcome: telemetry.OutcomeReleased, Anomaly: tt.anomaly, Reasons: tt.reasons}
			if len(tt.reasons) > 0 {
				r.Action, r.Outcome = policy.ActionDeny, telemetry.OutcomeRefused
			}
			var c recent
			c.note(&r, detector.Row{Session: "s"}, detector.Admission{Released: len(tt.reasons) == 0, Exceeds: tt.anomaly.Exceeds, Tainted: tt.tainted}, model, time.Now(), false)
			if c.tally != tt.want {
				t.Errorf("tally %+v, want %+v", c.tally, tt.want)
			}
			if call := c.call("x"); call == nil {
				t.Error("not remembered")
			} else if call.counted {
				c.relabel(call, v1alpha1.LabelAttack)
				if c.tally != (tally{}) {
					t.Errorf("an attack counts: %+v", c.tally)
				}
				c.relabel(call, v1alpha1.LabelAttack)
				c.relabel(call, v1alpha1.LabelFalsePositive)
				if c.tally != tt.want {
					t.Errorf("no attack after all, and %+v", c.tally)
				}
			}
		})
	}
	var c recent
	for i := range 3000 {
		r := telemetry.Record{ID: fmt.Sprint(i), Action: policy.ActionAllow, Anomaly: judged}
		r.Anomaly.Exceeds = i%10 == 0
		c.note(&r, detector.Row{Session: "s", Evidence: make([]byte, 4<<10)}, detector.Admission{Released: true, Exceeds: r.Anomaly.Exceeds}, model, time.Unix(0, 0).Add(time.Duration(i)*windowEvery/2), false)
	}
	if len(c.exceeded.list) != maxExceeded || len(c.others.list) != maxSampled || c.window.Len() != maxWindow || c.call("2990") == nil || c.call("0") != nil {
		t.Errorf("%d exceeded, %d others, %d in the window", len(c.exceeded.list), len(c.others.list), c.window.Len())
	}
	size := 0
	for _, row := range append(c.exceeded.rows.All(), c.others.rows.All()...) {
		size += len(row.Evidence)
	}
	if size > 2*maxRecentEvidence {
		t.Errorf("%d bytes of evidence", size)
	}
}

func FuzzCalls(f *testing.F) {
	var some calls
	some.push(recentCall{id: "a", label: "attack", counted: true}, detector.Row{Session: "s", Evidence: evidenceOf("")}, maxExceeded)
	some.push(recentCall{id: "b"}, detector.Row{}, maxExceeded)
	f.Add(some.append(nil))
	f.Add([]byte{1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, again calls
		rest, err := first.decode(b, maxExceeded)
		if err != nil {
			return
		}
		left, err := again.decode(append(first.append(nil), rest...), maxExceeded)
		if err != nil || len(again.list) != len(first.list) || len(left) != len(rest) {
			t.Errorf("%d calls, read again %d: %v", len(first.list), len(again.list), err)
		}
	})
}
