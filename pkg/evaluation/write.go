package evaluation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// RecordWriter writes samples as JSON lines: decision records, cut down to what a detector learns from, each with a member "sample" that says what else is known of
// the call.
type RecordWriter struct{ w *bufio.Writer }

// NewRecordWriter returns a writer of samples.
func NewRecordWriter(w io.Writer) *RecordWriter { return &RecordWriter{bufio.NewWriter(w)} }

// Write writes one sample.
func (w *RecordWriter) Write(s *Sample) error {
	names := append(strings.SplitN(s.Workload, "/", 3), "", "", "")
	r := telemetry.Record{
		ID: s.ID, Time: s.Time, Outcome: s.Outcome, Action: policy.ActionAllow,
		Workload: policy.Workload{Namespace: names[0], Kind: names[1], Name: names[2]},
		Call:     policy.Call{Model: s.Model}, Session: policy.Session{ID: s.Session, Tainted: s.Tainted},
		Anomaly: policy.Anomaly{Exceeds: s.Exceeds, TopFeatures: []policy.Feature{}},
		Schema:  s.Schema, Features: s.Vector[:], Evidence: s.Evidence,
	}
	if s.Outcome != telemetry.OutcomeReleased && s.Outcome != telemetry.OutcomeCut {
		r.Action = policy.ActionDeny
	}
	b, err := r.Encode()
	if err != nil {
		return err
	}
	a, err := json.Marshal(annotation{s.Agent, s.Task, s.Attack, s.Stage, s.Label})
	if err != nil {
		return fmt.Errorf("encode sample %s: %w", s.ID, err)
	}
	for _, part := range [][]byte{b[:len(b)-1], []byte(`,"sample":`), a, []byte("}\n")} {
		if _, err := w.w.Write(part); err != nil {
			return fmt.Errorf("write records: %w", err)
		}
	}
	return nil
}

// Close writes what is left. The writer below stays open.
func (w *RecordWriter) Close() error {
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	return nil
}
