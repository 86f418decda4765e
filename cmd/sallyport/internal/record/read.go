package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport.dev/sallyport/pkg/telemetry"
)

// MaxLine bounds a line of a file of records. A record holds no text of a call and takes a few KiB.
const MaxLine = 4 << 20

// line is what tells a log line from a record: a log line has a message, and the decision line the record beside it.
type line struct {
	Message *string         `json:"msg"`
	Record  json.RawMessage `json:"record"`
	ID      string          `json:"id"`
}

// ReadAll calls each with every decision record of the named files, "-" being stdin, and with where it stands, "file:line". It ends with
// the first error, each's being given its place.
func ReadAll(stdin io.Reader, names []string, each func(at string, r *telemetry.Record) error) error {
	for _, name := range names {
		if err := readFile(stdin, name, each); err != nil {
			return err
		}
	}
	return nil
}

func readFile(stdin io.Reader, name string, each func(at string, r *telemetry.Record) error) error {
	in := stdin
	if name == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err // names the file
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, MaxLine)
	number := 0
	for lines.Scan() {
		number++
		at := fmt.Sprintf("%s:%d", name, number)
		r, err := Parse(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if r == nil {
			continue
		}
		if err := each(at, r); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line of more than %d bytes", name, number+1, MaxLine)
	} else if err != nil {
		return fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	return nil
}

// Parse reads one line. It returns nil for an empty line and for a log line that is no decision.
func Parse(b []byte) (*telemetry.Record, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return nil, nil
	}
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("not a line of JSON: %w", err)
	}
	switch {
	case l.Record != nil:
		b = l.Record
	case l.Message != nil:
		return nil, nil
	}
	r := new(telemetry.Record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("not a decision record: %w", err)
	}
	if r.ID == "" || r.Outcome == "" {
		return nil, errors.New("not a decision record: it has no id or no outcome")
	}
	return r, nil
}
