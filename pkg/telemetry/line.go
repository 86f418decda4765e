package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxLine bounds a line of a file of records. A record holds no text of a call and takes a few KiB.
const MaxLine = 4 << 20

// logLine is what tells a log line from a record: a log line has a message, and the decision line the record beside it.
type logLine struct {
	Message *string         `json:"msg"`
	Record  json.RawMessage `json:"record"`
}

// ParseLine reads a line of a file of records or of a sidecar's log: a record, or a log line that holds one. It returns nil for an empty line and for a log
// line that is no decision, and beside the record its JSON.
func ParseLine(b []byte) (*Record, []byte, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return nil, nil, nil
	}
	var l logLine
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, nil, fmt.Errorf("not a line of JSON: %w", err)
	}
	switch {
	case l.Record != nil:
		b = l.Record
	case l.Message != nil:
		return nil, nil, nil
	}
	r := new(Record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, nil, fmt.Errorf("not a decision record: %w", err)
	}
	if r.ID == "" || r.Outcome == "" {
		return nil, nil, errors.New("not a decision record: it has no id or no outcome")
	}
	return r, b, nil
}
