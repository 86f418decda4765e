package tail

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func TestFilter(t *testing.T) {
	r := &telemetry.Record{
		Outcome: telemetry.OutcomeRefused, Rule: "MODEL-001", Workload: policy.Workload{Namespace: "agents", Name: "triage", Pod: "triage-0"},
		Destination: policy.Destination{Provider: "openrouter"}, Call: policy.Call{Model: "meta/llama-4"}, Anomaly: policy.Anomaly{Ready: true, Score: 0.6},
	}
	for _, tc := range []struct {
		name string
		f    filter
		want bool
	}{
		{"none", filter{}, true},
		{"outcome", filter{outcomes: []string{"cut", "refused"}}, true},
		{"another outcome", filter{outcomes: []string{"released"}}, false},
		{"rule", filter{rules: []string{"MODEL-*"}}, true},
		{"another rule", filter{rules: []string{"SYS-*"}}, false},
		{"model", filter{models: []string{"meta/*"}}, true},
		{"a star spans slashes", filter{models: []string{"*llama*"}}, true},
		{"another model", filter{models: []string{"llama*"}}, false},
		{"provider", filter{providers: []string{"openrouter"}}, true},
		{"workload", filter{workloads: []string{"triage"}}, true},
		{"namespace and workload", filter{workloads: []string{"agents/*"}}, true},
		{"pod", filter{workloads: []string{"triage-?"}}, true},
		{"another workload", filter{workloads: []string{"other/triage"}}, false},
		{"score", filter{minScore: 0.6}, true},
		{"a higher score", filter{minScore: 0.61}, false},
		{"all must pass", filter{rules: []string{"MODEL-*"}, outcomes: []string{"cut"}}, false},
	} {
		if got := tc.f.pass(r); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		o    options
		want string
	}{
		{options{output: "yaml"}, "accepted are line and json"},
		{options{output: "line", filter: filter{outcomes: []string{"denied"}}}, "accepted are released, refused, relaxed, cut"},
		{options{output: "line", filter: filter{rules: []string{"["}}}, "accepted are names"},
		{options{output: "line"}, "neither XDG_STATE_HOME nor HOME"},
	} {
		if err := tc.o.run(t.Context(), nil, nil, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want an error with %q", err, tc.want)
		}
	}
}

// writer tells of what is written.
type writer struct {
	text bytes.Buffer
	told func()
}

func (w *writer) Write(b []byte) (int, error) { defer w.told(); return w.text.Write(b) }

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	var all []byte
	for _, o := range []telemetry.Outcome{telemetry.OutcomeReleased, telemetry.OutcomeRefused} {
		b, err := (&telemetry.Record{ID: "id-" + string(o), Time: time.Now(), Outcome: o, Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai"}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, b...), '\n')
	}
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	for output, want := range map[string]string{"line": " refused  openai", "json": `{"id":"id-refused",`} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &writer{told: cancel}
		o := options{in: file, since: time.Hour, output: output, filter: filter{outcomes: []string{"refused"}}}
		if err := o.run(ctx, out, out, func(string) string { return "" }); err != nil {
			t.Error(err)
		}
		if got := out.text.String(); !strings.Contains(got, want) || strings.Contains(got, "released") || strings.Contains(got, "\x1b") {
			t.Errorf("%s: %q", output, got)
		}
	}
}
