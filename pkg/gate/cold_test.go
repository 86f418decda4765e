package gate_test

import (
	"context"
	"testing"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Where the configuration wants a detector, what it would judge is refused while there is none, and counted as a fault.
func TestColdDetector(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*gate.Request)
		trained bool
		outcome telemetry.Outcome
		fault   policy.Fault
	}{
		"abstains":        {func(r *gate.Request) { r.RefuseCold = false }, false, telemetry.OutcomeReleased, policy.FaultNone},
		"refuses":         {func(*gate.Request) {}, false, telemetry.OutcomeRefused, policy.FaultCold},
		"observes":        {func(r *gate.Request) { r.Mode = gate.ModeObserve }, false, telemetry.OutcomeRelaxed, policy.FaultCold},
		"has a model":     {func(*gate.Request) {}, true, telemetry.OutcomeReleased, policy.FaultNone},
		"policy's denial": {func(r *gate.Request) { r.KillSwitch = true }, false, telemetry.OutcomeRefused, policy.FaultNone},
		"nothing to judge": {func(r *gate.Request) {
			r.Destination.Path, r.Body = "/v1/models", nil
			r.Destination.Method = "GET"
		}, false, telemetry.OutcomeReleased, policy.FaultNone},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			r := chat(hello)
			if tt.trained {
				g = trained(t)
				r = chat(conversation(401, `{"order":1401,"state":"packed","total":"55.00","items":["table 3","lamp"]}`))
			}
			r.RefuseCold = true
			tt.change(r)
			v := g.Judge(context.Background(), r)
			if v.Record.Outcome != tt.outcome || v.Record.Fault != string(tt.fault) {
				t.Fatalf("%s by %q, fault %q", v.Record.Outcome, v.Record.Rule, v.Record.Fault)
			}
			if tt.fault == policy.FaultCold && v.Record.Rule != "GATE-COLD" {
				t.Errorf("rule %q", v.Record.Rule)
			}
		})
	}
}
