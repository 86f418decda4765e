package telemetry_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

// full has every field set, so that the golden file fails when one goes missing or changes its name.
func full() *telemetry.Record {
	return &telemetry.Record{
		ID: "d-1", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Outcome: telemetry.OutcomeRefused,
		Action: policy.ActionDeny, Rule: "MODEL-001", Reasons: []policy.Reason{{Rule: "MODEL-001", Message: "no"}}, Fault: "policy_timeout",
		Workload:    policy.Workload{Namespace: "agents", Kind: "Deployment", Name: "agent", Pod: "agent-1", ServiceAccount: "default"},
		Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai", Scheme: "https", Host: "api.openai.com", Port: 443, Method: "POST", Path: "/v1/chat/completions", Address: "10.0.0.1"},
		Call: policy.Call{Surface: "openai.chat_completions", Operation: "chat", Model: "gpt", Stream: true, Messages: 3, Roles: []string{"user"}, Tools: []string{"read"},
			Class: "model", RPCMethod: "m", ServerTools: []string{"web_search"}, ServerToolClasses: []string{"web_search"}, RemoteMCPHosts: []string{"mcp.example"}, URLHosts: []string{"i.example"},
			AttachmentKinds: []string{"image/png"}, Sensitive: policy.Sensitive{Credential: 1, CreditCard: 2, Email: 3, IBAN: 4, Phone: 5}, ToolCalls: []string{"read"}, MaxTokens: 10, Temperature: 0.5, BodyBytes: 100, URLs: 1, Attachments: 1, OtherModels: []string{"o"}, UnknownFields: []string{"x"}, Findings: []string{"depth"},
			Novel: policy.Novel{Ready: true, Model: true, Tools: true, System: true, Destination: true, Credential: true}, Canaries: []string{"vault"}},
		Session:      policy.Session{ID: "s-1", Calls: 2, MaxPercentile: 0.9, MaxScore: 0.55, Tainted: true},
		Anomaly:      policy.Anomaly{Ready: true, Score: 0.6, Percentile: 0.99, Threshold: 0.59, Exceeds: true, ModelDigest: "abc", TopFeatures: []policy.Feature{{Name: "f", Value: 1, Contribution: 2}}},
		ResponseMode: policy.ResponseHoldToolCalls, ResponseAction: policy.ActionDeny, ResponseRule: "CALL-001",
		ResponseReasons: []policy.Reason{{Rule: "CALL-001", Message: "no"}}, ResponseFault: "policy_timeout", HeldToolCalls: 2, Redacted: map[string]int{"email": 1},
		Schema:   "s/v1",
		Features: []float32{1, 2}, Evidence: []byte("evidence"), PolicyDigest: "p", PolicyRevision: "r", TraceID: "t", SpanID: "sp",
		DecodeMicros: 1, FeaturesMicros: 2, ScoreMicros: 3, PolicyMicros: 4, JudgeMicros: 10, ResponseMicros: 5, FirstByteMicros: 20, TotalMicros: 30,
		Status: 403, UpstreamError: "dial", ResponseBytes: 7,
		Usage: llm.Usage{InputTokens: 1, OutputTokens: 2, CachedTokens: 3, ReasoningTokens: 4}, ResponseToolCalls: []string{"send"},
	}
}

func TestRecordGolden(t *testing.T) {
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	got, _ := json.MarshalIndent(v, "", "  ")
	got = append(got, '\n')
	path := filepath.Join("testdata", "record.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("the record's form changed (-update accepts it):\n%s", got)
	}
}

func TestEmit(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	reg := prometheus.NewRegistry()
	var sunk [][]byte
	rec, err := telemetry.NewRecorder(zap.New(core), reg, func(b []byte) { sunk = append(sunk, b) })
	if err != nil {
		t.Fatal(err)
	}
	rec.Emit(full())

	if n := logs.FilterMessage(telemetry.DecisionMessage).Len(); n != 1 {
		t.Errorf("%d decision lines, want exactly one", n)
	}
	if len(sunk) != 1 || !strings.Contains(string(sunk[0]), `"id":"d-1"`) {
		t.Errorf("sink got %q", sunk)
	}
	want := `
# HELP sallyport_calls_total Decisions by outcome (released, refused, relaxed, cut), kind of destination, surface and the rule that decided.
# TYPE sallyport_calls_total counter
sallyport_calls_total{destination="model",outcome="refused",rule="MODEL-001",surface="openai.chat_completions"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_calls_total"); err != nil {
		t.Error(err)
	}
}

// Evidence goes to the sink and not to the log, which more people read and keep for longer: whatever encoder the logger has.
func TestEvidenceIsNotLogged(t *testing.T) {
	for name, reflected := range map[string]func(io.Writer) zapcore.ReflectedEncoder{"as it is": telemetry.NewReflectedEncoder, "by encoding/json": nil} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg", NewReflectedEncoder: reflected})
			var sunk []telemetry.Record
			rec, err := telemetry.NewRecorder(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zapcore.InfoLevel)), prometheus.NewRegistry(), func(b []byte) {
				var r telemetry.Record
				if err := json.Unmarshal(b, &r); err != nil {
					t.Errorf("%v: %s", err, b)
				}
				sunk = append(sunk, r)
			})
			if err != nil {
				t.Fatal(err)
			}
			rec.Emit(full())
			without := full()
			without.Evidence = nil
			rec.Emit(without)

			lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
			if len(sunk) != 2 || string(sunk[0].Evidence) != "evidence" || sunk[1].Evidence != nil {
				t.Errorf("the sink got %+v", sunk)
			}
			if len(lines) != 2 || !bytes.Equal(lines[0], lines[1]) {
				t.Errorf("the log got\n%s", out.Bytes())
			}
			var line struct{ Record telemetry.Record }
			if err := json.Unmarshal(lines[0], &line); err != nil || line.Record.ID != "d-1" || line.Record.Evidence != nil || line.Record.Features == nil {
				t.Errorf("%v: %s", err, lines[0])
			}
		})
	}
}

func TestEmitUnencodable(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	rec, err := telemetry.NewRecorder(zap.New(core), prometheus.NewRegistry(), func([]byte) { t.Error("sent what could not be encoded") })
	if err != nil {
		t.Fatal(err)
	}
	r := full()
	zero := 0.0
	r.Anomaly.Score = 1 / zero
	rec.Emit(r)
	if n := logs.FilterMessage("decision record lost").Len(); n != 1 {
		t.Errorf("a lost record was said %d times, want once", n)
	}
}

func TestContinue(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for name, tc := range map[string]struct {
		header string
		kept   bool
	}{
		"valid":                {"00-" + trace + "-" + span + "-01", true},
		"later version":        {"01-" + trace + "-" + span + "-01-more", true},
		"absent":               {"", false},
		"version ff":           {"ff-" + trace + "-" + span + "-01", false},
		"zero trace":           {"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false},
		"zero span":            {"00-" + trace + "-" + strings.Repeat("0", 16) + "-01", false},
		"upper case":           {"00-" + strings.ToUpper(trace) + "-" + span + "-01", false},
		"version 0 with extra": {"00-" + trace + "-" + span + "-01-x", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := telemetry.Continue(tc.header)
			if (c.TraceID == trace) != tc.kept {
				t.Errorf("trace %q, kept should be %v", c.TraceID, tc.kept)
			}
			if c.SpanID == span || len(c.SpanID) != 16 {
				t.Errorf("span %q is not a new one", c.SpanID)
			}
			if again := telemetry.Continue(c.Header()); again.TraceID != c.TraceID {
				t.Errorf("own header %q is not understood", c.Header())
			}
		})
	}
}
