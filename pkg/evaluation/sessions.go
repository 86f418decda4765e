package evaluation

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// recordedSalt is that of all recorded sessions: what a model learned of some can be compared with others.
var recordedSalt = features.Salt(nil, "recorded", "sessions", "")

// recordedDestination is where recorded calls are said to go, as recordings do not tell.
const recordedDestination = "recorded.invalid:443"

// recordedPace is the time between two calls of a session whose times were not recorded.
const recordedPace = 3 * time.Second

// epoch is when such sessions are said to begin, for the times between calls; the hour is not told to the detector.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func recordedContext(b *features.Baseline, at time.Time) *features.Context {
	return &features.Context{Salt: recordedSalt, Baseline: b, Destination: recordedDestination, Now: at}
}

// session is a line of recorded sessions. Request k is {model, messages: messages[:requests[k].n], tools}.
type session struct {
	Session  string            `json:"session"`
	Agent    string            `json:"agent"`
	Model    string            `json:"model"`
	Task     string            `json:"task"`
	Label    Label             `json:"label"`
	Attack   string            `json:"attack"`
	Tools    json.RawMessage   `json:"tools"` // a file's name, or the schemas themselves
	Messages []json.RawMessage `json:"messages"`
	Requests []request         `json:"requests"`
}

type request struct {
	N            int    `json:"n"`
	Stage        Stage  `json:"stage"`
	FirstExposed bool   `json:"first_exposed"`
	Time         string `json:"ts"`
}

// sessions returns what reads a line of recorded sessions. It keeps the tools' files.
func (s source) sessions() func(at string, line []byte, want func(*Sample) bool, each func(*Sample) error) error {
	tools := map[string]json.RawMessage{}
	return func(at string, line []byte, want func(*Sample) bool, each func(*Sample) error) error {
		var r session
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("not a recorded session: %w", err)
		}
		switch {
		case r.Session == "":
			return errors.New("not a recorded session: it has no session, which names it")
		case r.Messages == nil || r.Requests == nil:
			return errors.New("not a recorded session: it has no messages or requests")
		}
		of := Sample{At: at, Session: r.Session, Agent: r.Agent, Task: r.Task, Model: r.Model, Attack: r.Attack, Label: r.Label, Outcome: telemetry.OutcomeReleased, Schema: features.SchemaID}
		if of.Label == Attack && of.Attack == "" {
			of.Attack = "unnamed"
		}
		if err := of.check(); err != nil {
			return err
		}
		r.markFirst()
		wanted := make([]bool, len(r.Requests))
		any := -1
		for k, q := range r.Requests {
			if q.N < 1 || q.N > len(r.Messages) {
				return fmt.Errorf("request %d has %d messages of %d", k+1, q.N, len(r.Messages))
			}
			sample := of
			sample.ID = r.id(k)
			sample.stage(&q)
			if err := sample.check(); err != nil {
				return fmt.Errorf("request %d: %w", k+1, err)
			}
			if wanted[k] = want(&sample); wanted[k] {
				any = k
			}
		}
		if any < 0 {
			return nil
		}
		schemas, err := s.tools(tools, r.Tools)
		if err != nil {
			return err
		}
		return r.replay(of, schemas, wanted[:any+1], each)
	}
}

// markFirst marks the first exposed request of a recording that marks none.
func (r *session) markFirst() {
	first := -1
	for k, q := range r.Requests {
		if q.FirstExposed {
			return
		}
		if q.Stage == Exposed && first < 0 {
			first = k
		}
	}
	if first >= 0 {
		r.Requests[first].FirstExposed = true
	}
}

// id is request k's: requests are counted from 1.
func (r *session) id(k int) string { return r.Session + "#" + strconv.Itoa(k+1) }

func (s *Sample) stage(q *request) {
	s.Stage = q.Stage
	if q.FirstExposed && q.Stage == Exposed {
		s.Stage = FirstExposed
	}
}

// replay makes the requests of the session one after the other, as the agent sent them, and hands over those that are wanted.
func (r *session) replay(of Sample, tools json.RawMessage, wanted []bool, each func(*Sample) error) error {
	sessions := features.NewSessions(16, time.Hour)
	clock := epoch
	for k, q := range r.Requests[:len(wanted)] {
		body, err := r.body(q.N, tools)
		if err != nil {
			return fmt.Errorf("request %d: %w", k+1, err)
		}
		call := openai.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
		if len(call.Messages) != q.N {
			return fmt.Errorf("request %d: %d of %d messages could be read: %v", k+1, len(call.Messages), q.N, call.Findings)
		}
		sample := new(Sample)
		*sample = of
		sample.ID = r.id(k)
		sample.stage(&q)
		clock = clock.Add(recordedPace)
		if q.Time != "" {
			if sample.Time, err = parseTime(q.Time); err != nil {
				return fmt.Errorf("request %d: %w", k+1, err)
			}
			clock = sample.Time
		}
		sample.call, sample.turn = call, sessions.Begin(call, clock)
		if wanted[k] {
			var e features.Evidence
			features.Extract(&sample.Vector, &e, call, sample.turn, recordedContext(nil, sample.Time))
			sample.Evidence = e.Encoded()
			if err := each(sample); err != nil {
				return err
			}
		}
		sessions.Settle(sample.turn, features.Outcome{Released: true}, clock)
	}
	return nil
}

// body is the request's, as the agent sent it.
func (r *session) body(n int, tools json.RawMessage) ([]byte, error) {
	model, err := json.Marshal(r.Model)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(`{"model":`)
	b.Write(model)
	b.WriteString(`,"messages":[`)
	for i, m := range r.Messages[:n] {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(m)
	}
	b.WriteByte(']')
	if tools != nil {
		b.WriteString(`,"tools":`)
		b.Write(tools)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// parseTime reads a time with its zone, or without, which is taken for UTC.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	t, err := time.Parse("2006-01-02T15:04:05.999999999", s)
	if err != nil {
		return t, fmt.Errorf("time %.64q; accepted is 2006-01-02T15:04:05, with or without a zone", s)
	}
	return t, nil
}

// maxTools bounds a file of tool schemas.
const maxTools = 8 << 20

// tools returns the schemas that a session names: a file beside the recording, gzipped or not, or the schemas themselves; nil where there are none.
func (s source) tools(known map[string]json.RawMessage, named json.RawMessage) (json.RawMessage, error) {
	named = bytes.TrimSpace(named)
	if len(named) == 0 || string(named) == "null" {
		return nil, nil
	}
	if named[0] == '[' {
		return named, nil
	}
	var name string
	if err := json.Unmarshal(named, &name); err != nil {
		return nil, errors.New(`tools: accepted is the name of a file beside the recording, or an array of schemas`)
	}
	if name == "" {
		return nil, nil
	}
	if schemas, ok := known[name]; ok {
		return schemas, nil
	}
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("tools %.128q: accepted is a file in the recording's directory or below", name)
	}
	if s.name != s.path {
		return nil, fmt.Errorf("tools %.128q: %s has no directory to look for the file in; name the recording's file instead", name, s.name)
	}
	path := filepath.Join(filepath.Dir(s.path), name)
	b, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		var packed error
		if b, packed = readSmall(path + ".gz"); packed == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '[' || !json.Valid(b) {
		return nil, fmt.Errorf("tools: %s: not a JSON array of tool schemas", path)
	}
	known[name] = b
	return b, nil
}

// readSmall reads a file, gzipped or not.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var in io.Reader = f
	if filepath.Ext(path) == ".gz" {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTools+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxTools {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxTools)
	}
	return b, nil
}
