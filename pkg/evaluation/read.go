package evaluation

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strings"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// accepted says which files are read, in the words of an error.
const accepted = `decision records (JSON lines, as sidecars log them and "sallyport exec" keeps them), recorded sessions (JSON lines with messages and requests), either of them gzipped, and Parquet files with a column for each feature, as "sallyport features" writes`

// ErrSchema is wrapped by the error about features of another schema than this program's.
var ErrSchema = detector.ErrSchema

// Kind is what a file holds.
type Kind string

// The kinds.
const (
	Records  Kind = "records"
	Sessions Kind = "sessions"
	Parquet  Kind = "parquet"
)

// Files are recordings to read, as often as needed and in order. They are not read into memory.
type Files struct {
	files []source
	spool string // what standard input was copied to

	logLines, repeated int
}

type source struct {
	name string // as it was given
	path string // where it is
	kind Kind
}

// Open finds out what each of the named files holds, "-" being stdin, which is copied to a temporary file. Close removes it.
func Open(stdin io.Reader, names ...string) (*Files, error) {
	f := &Files{}
	for _, name := range names {
		s := source{name: name, path: name}
		if name == "-" {
			if f.spool != "" {
				continue // it has been read
			}
			path, err := spool(stdin)
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			f.spool = path
			s = source{name: "standard input", path: path}
		}
		kind, err := kindOf(s)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		s.kind = kind
		f.files = append(f.files, s)
	}
	return f, nil
}

// Close removes what Open wrote.
func (f *Files) Close() error {
	if f.spool == "" {
		return nil
	}
	spool := f.spool
	f.spool = ""
	return os.Remove(spool)
}

// String returns the files' names as they were given.
func (f *Files) String() string {
	var names []string
	for _, s := range f.files {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// LogLines returns how many lines the last Each passed over: lines of a log that are no decisions.
func (f *Files) LogLines() int { return f.logLines }

// Repeated returns how many calls the last Each passed over as it had met them before: of the same ID, workload, task, model and attack.
func (f *Files) Repeated() int { return f.repeated }

// Kinds returns what the files hold, in their order.
func (f *Files) Kinds() []Kind {
	var out []Kind
	for _, s := range f.files {
		out = append(out, s.kind)
	}
	return out
}

func spool(stdin io.Reader) (path string, err error) {
	if stdin == nil {
		return "", errors.New("there is no standard input")
	}
	t, err := os.CreateTemp("", "sallyport-input-*")
	if err != nil {
		return "", fmt.Errorf("copy standard input: %w", err)
	}
	_, err = io.Copy(t, stdin)
	if err = errors.Join(err, t.Close()); err != nil {
		return "", fmt.Errorf("copy standard input: %w", errors.Join(err, os.Remove(t.Name())))
	}
	return t.Name(), nil
}

// Each calls want for every call, with what is known of it but its features, and each with those that are wanted, features and all. A nil want wants all.
// A *Sample is the callee's to keep. It ends with the first error, each's being given its place. Features that cannot be used, such as those of another schema, are an
// error only in a call that is wanted; a file that is of another schema as a whole is not read. A call that is met again, in the same file or another, is passed over.
func (f *Files) Each(ctx context.Context, want func(*Sample) bool, each func(*Sample) error) error {
	if want == nil {
		want = func(*Sample) bool { return true }
	}
	f.logLines, f.repeated = 0, 0
	met := newMet()
	anew := func(s *Sample) bool {
		if met.before(s) {
			f.repeated++
			return false
		}
		return want(s)
	}
	for _, s := range f.files {
		var err error
		switch s.kind {
		case Parquet:
			err = s.parquet(ctx, anew, each)
		default:
			err = s.lines(ctx, anew, each, &f.logLines)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// met knows calls that were met, by 64 bits of a hash: of a million calls, two are taken for the same with a chance of one in 37 million.
type met struct {
	seed maphash.Seed
	keys map[uint64]struct{}
}

func newMet() *met { return &met{maphash.MakeSeed(), map[uint64]struct{}{}} }

// before says whether a call was met, and knows it from then on. Calls without an ID are all different.
func (m *met) before(s *Sample) bool {
	if s.ID == "" {
		return false
	}
	var h maphash.Hash
	h.SetSeed(m.seed)
	for _, part := range []string{s.ID, s.Subject(), s.Task, s.Model, s.Attack, string(s.Label)} {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	key := h.Sum64()
	_, ok := m.keys[key]
	m.keys[key] = struct{}{}
	return ok
}

// kindOf looks at the beginning of a file.
func kindOf(s source) (Kind, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return "", err // names the file
	}
	defer func() { _ = f.Close() }()
	magic := make([]byte, 4)
	n, err := io.ReadFull(f, magic)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err // names the file
	}
	if n == 4 && string(magic) == "PAR1" {
		return Parquet, nil
	}
	kind := Records
	err = s.scan(func(_ int, line []byte) error {
		var l struct {
			Messages, Requests json.RawMessage
		}
		if json.Unmarshal(line, &l) == nil && l.Messages != nil && l.Requests != nil {
			kind = Sessions
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return "", err
	}
	return kind, nil
}

// errFound ends a scan.
var errFound = errors.New("found")

// maxSession bounds the line of a recorded session, which holds its whole text.
const maxSession = 64 << 20

// scan calls each with every line that is not empty, and its number. Errors of each are returned as they are.
func (s source) scan(each func(number int, line []byte) error) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err // names the file
	}
	defer func() { _ = f.Close() }()
	in := io.Reader(bufio.NewReaderSize(f, 1<<16))
	if magic, _ := in.(*bufio.Reader).Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) { //nolint:forcetypeassert // it was made a line ago
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%s: the file is cut off or damaged: %w", s.name, err)
		}
		in = z
	}
	limit := telemetry.MaxLine
	if s.kind != Records {
		limit = maxSession
	}
	failed := &failing{Reader: in}
	lines := bufio.NewScanner(failed)
	lines.Buffer(nil, limit)
	number := 0
	for lines.Scan() {
		number++
		line := lines.Bytes()
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // the mark that some editors begin a file with
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := each(number, line); err != nil {
			if failed.err != nil {
				return fmt.Errorf("%s:%d: the file is cut off or damaged: %w", s.name, number, failed.err) // and that is why the line makes no sense
			}
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line of more than %d bytes", s.name, number+1, limit)
	} else if err != nil {
		return fmt.Errorf("%s:%d: the file is cut off or damaged: %w", s.name, number+1, err)
	}
	return nil
}

// failing remembers how reading failed.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

func (s source) lines(ctx context.Context, want func(*Sample) bool, each func(*Sample) error, passed *int) error {
	read := func(at string, line []byte, want func(*Sample) bool, each func(*Sample) error) error {
		return s.record(at, line, want, each, passed)
	}
	uninterrupted := func(s *Sample) error {
		if err := ctx.Err(); err != nil { // a line may be a long session
			return err
		}
		return each(s)
	}
	if s.kind == Sessions {
		read = s.sessions()
	}
	return s.scan(func(number int, line []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := fmt.Sprintf("%s:%d", s.name, number)
		if err := read(at, line, want, uninterrupted); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		return nil
	})
}

// annotation is what "sallyport features" adds to a decision record: what is known of the call beside it.
type annotation struct {
	Agent  string `json:"agent,omitempty"`
	Task   string `json:"task,omitempty"`
	Attack string `json:"attack,omitempty"`
	Stage  Stage  `json:"stage,omitempty"`
	Label  Label  `json:"label,omitempty"`
}

// record reads a line of decision records.
func (s source) record(at string, line []byte, want func(*Sample) bool, each func(*Sample) error, passed *int) error {
	r, b, err := telemetry.ParseLine(line)
	if err != nil {
		var session struct{ Requests json.RawMessage }
		if json.Unmarshal(line, &session) == nil && session.Requests != nil {
			return errors.New("a recorded session in a file that began with decision records; put them in files of their own")
		}
		return fmt.Errorf("%w; accepted are %s", err, accepted)
	}
	if r == nil {
		*passed++
		return nil
	}
	var a struct {
		Sample annotation `json:"sample"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("what is said of the sample: %w", err)
	}
	sample := FromRecord(r)
	sample.At = at
	sample.Agent, sample.Task, sample.Attack, sample.Stage, sample.Label = a.Sample.Agent, a.Sample.Task, a.Sample.Attack, a.Sample.Stage, a.Sample.Label
	if err := sample.check(); err != nil {
		return err
	}
	if !want(sample) {
		return nil
	}
	if err := sample.Decode(); err != nil {
		return err
	}
	return each(sample)
}

// FromRecord returns what a decision record says of a call, but for its features, which Decode takes out of it.
func FromRecord(r *telemetry.Record) *Sample {
	s := &Sample{
		ID: r.ID, Time: r.Time, Workload: workloadOf(r), Session: r.Session.ID, Model: r.Call.Model, Outcome: r.Outcome, Record: r,
		Exceeds: r.Anomaly.Exceeds, Tainted: r.Session.Tainted,
	}
	if len(r.Features) > 0 {
		s.Schema = cmp.Or(r.Schema, "unnamed")
		if r.Outcome == telemetry.OutcomeReleased && r.Action != policy.ActionAllow {
			s.Outcome = telemetry.OutcomeRelaxed // by a setting, and not by decision
		}
	}
	return s
}

// Decode takes the features out of the record, if there is one. The calls that Each hands over are decoded. The error wraps ErrSchema where the features are of another
// schema.
func (s *Sample) Decode() error {
	if s.Record == nil || len(s.Record.Features) == 0 {
		return nil
	}
	row, _, err := detector.FromRecord(s.Record)
	if err != nil {
		return err
	}
	s.Vector, s.Evidence = row.Vector, row.Evidence
	return nil
}

// workloadOf is namespace/kind/name; "" where none is given.
func workloadOf(r *telemetry.Record) string {
	if r.Workload.Namespace == "" && r.Workload.Kind == "" && r.Workload.Name == "" {
		return ""
	}
	return r.Workload.Namespace + "/" + r.Workload.Kind + "/" + r.Workload.Name
}

// check refuses labels and stages that are not known, and those that contradict each other: what is misspelt or left out would make an attack benign.
func (s *Sample) check() error {
	switch s.Label {
	case Unlabelled, Benign, Attack, AttackerTask:
	default:
		return fmt.Errorf("label %.64q; accepted are %q, %q and %q", s.Label, Benign, Attack, AttackerTask)
	}
	switch s.Stage {
	case NoStage, Clean:
	case FirstExposed, Exposed, Hijacked:
		if s.Label != Attack {
			return fmt.Errorf("stage %q of a session whose label is %q; accepted is %q", s.Stage, s.Label, Attack)
		}
	default:
		return fmt.Errorf("stage %.64q; accepted are %q, %q, %q and %q", s.Stage, Clean, FirstExposed, Exposed, Hijacked)
	}
	return nil
}
