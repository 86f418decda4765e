package evaluation

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/evaluation/evaluationtest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func put(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func packed(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func recording(t testing.TB, agent string, benign, attacked int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := evaluationtest.WriteSessions(&b, agent, 1, benign, attacked); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, names ...string) *Files {
	t.Helper()
	f, err := Open(nil, names...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func all(t testing.TB, f *Files) []*Sample {
	t.Helper()
	var out []*Sample
	if err := f.Each(t.Context(), nil, func(s *Sample) error { out = append(out, s); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSessions(t *testing.T) {
	text := recording(t, "support", 12, 6)
	dir := t.TempDir()
	plain := all(t, open(t, put(t, filepath.Join(dir, "s.jsonl"), text)))
	zipped := all(t, open(t, put(t, filepath.Join(dir, "s.jsonl.gz"), packed(t, text))))
	stages := map[Stage]int{}
	sessions := map[string]bool{}
	for i, s := range plain {
		stages[s.Stage]++
		sessions[s.Session] = true
		if s.Vector != zipped[i].Vector || !bytes.Equal(s.Evidence, zipped[i].Evidence) {
			t.Fatalf("%s differs when it is gzipped", s.ID)
		}
		if s.Subject() != "support" || s.Group() != s.Task || !s.HasFeatures() || !s.Admission().Released || len(s.Evidence) == 0 {
			t.Fatalf("%+v", s)
		}
	}
	if len(sessions) != 18 || stages[FirstExposed] != 6 || stages[Hijacked] != 6 || stages[Exposed] != 0 {
		t.Errorf("%d sessions, stages %v", len(sessions), stages)
	}
}

// The features are those that the gate would have found on the way.
func TestSessionsAreReplayedAsTheyWere(t *testing.T) {
	text := recording(t, "support", 1, 0)
	got := all(t, open(t, put(t, filepath.Join(t.TempDir(), "s"), text)))
	c := detectortest.New(1).Benign()
	sessions := features.NewSessions(0, 0)
	at := epoch
	for i, call := range c.Calls {
		at = at.Add(recordedPace)
		turn := sessions.Begin(call, at)
		var v features.Vector
		features.Extract(&v, nil, call, turn, recordedContext(nil, time.Time{}))
		sessions.Settle(turn, features.Outcome{Released: true}, at)
		for f := range v {
			if v[f] != got[i].Vector[f] && !strings.HasPrefix(features.Schema[f].Name, "cost.") && features.Schema[f].Name != "envelope.max_tokens" {
				t.Errorf("call %d: %s is %v, not %v", i, features.Schema[f].Name, got[i].Vector[f], v[f])
			}
		}
	}
}

func TestSessionsWantedOnly(t *testing.T) {
	f := open(t, put(t, filepath.Join(t.TempDir(), "s"), recording(t, "support", 4, 4)))
	var got []*Sample
	want := func(s *Sample) bool { return s.Stage == FirstExposed }
	if err := f.Each(t.Context(), want, func(s *Sample) error { got = append(got, s); return nil }); err != nil {
		t.Fatal(err)
	}
	whole := map[string]features.Vector{}
	for _, s := range all(t, f) {
		whole[s.ID] = s.Vector
	}
	if len(got) != 4 {
		t.Fatalf("%d calls", len(got))
	}
	for _, s := range got {
		if s.Vector != whole[s.ID] {
			t.Errorf("%s has other features when it is read alone", s.ID)
		}
	}
}

func TestToolsBesideTheRecording(t *testing.T) {
	const line = `{"session":"s","agent":"a","label":"benign","tools":%s,"messages":[{"role":"user","content":"hello"}],"requests":[{"n":1,"stage":"clean","ts":"2025-08-01T16:20:46.714768"}]}`
	const schemas = `[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]`
	dir := t.TempDir()
	put(t, filepath.Join(dir, "tools/plain.json"), []byte(schemas))
	put(t, filepath.Join(dir, "tools/packed.json.gz"), packed(t, []byte(schemas)))
	put(t, filepath.Join(dir, "tools/none.json"), []byte("{}"))
	for tools, want := range map[string]string{
		`"tools/plain.json"`: "", `"tools/packed.json"`: "", `"tools/packed.json.gz"`: "", schemas: "",
		`"tools/absent.json"`: "absent.json: no such file", `"../../etc/passwd"`: "in the recording's directory", `"tools/none.json"`: "not a JSON array", `7`: "tools: accepted is",
	} {
		f := open(t, put(t, filepath.Join(dir, "s"), fmt.Appendf(nil, line, tools)))
		var got []*Sample
		err := f.Each(t.Context(), nil, func(s *Sample) error { got = append(got, s); return nil })
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "s:1: ") {
				t.Errorf("%s: %v, want %q", tools, err, want)
			}
			continue
		}
		if err != nil || len(got) != 1 || len(got[0].call.Tools) != 2 || got[0].Time.Hour() != 16 {
			t.Errorf("%s: %+v, %v", tools, got, err)
		}
	}
}

// A recording that does not mark the first exposed request has one all the same.
func TestFirstExposedIsFound(t *testing.T) {
	text := bytes.ReplaceAll(recording(t, "support", 0, 6), []byte(`"first_exposed":true,`), nil)
	first := 0
	for _, s := range all(t, open(t, put(t, filepath.Join(t.TempDir(), "s"), text))) {
		if s.Stage == FirstExposed {
			first++
		}
	}
	if first != 6 {
		t.Errorf("%d first exposed calls of 6 sessions", first)
	}
}

// What editors put around lines changes nothing.
func TestLinesOfEditors(t *testing.T) {
	text := recording(t, "support", 3, 1)
	want := len(all(t, open(t, put(t, filepath.Join(t.TempDir(), "f"), text))))
	for name, b := range map[string][]byte{
		"a byte order mark": append([]byte("\ufeff"), text...), "carriage returns": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), "empty lines": bytes.ReplaceAll(text, []byte("\n"), []byte("\n\n  \n")),
	} {
		if got := len(all(t, open(t, put(t, filepath.Join(t.TempDir(), "f"), b)))); got != want || want == 0 {
			t.Errorf("with %s %d calls, want %d", name, got, want)
		}
	}
}

func TestLogLinesAreCounted(t *testing.T) {
	r := telemetry.Record{ID: "x", Outcome: telemetry.OutcomeReleased}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, put(t, filepath.Join(t.TempDir(), "s"), fmt.Appendf(nil, "%s\n{\"msg\":\"started\"}\n\n%s\n{\"msg\":\"ended\"}\n", b, bytes.ReplaceAll(b, []byte(`"x"`), []byte(`"y"`)))))
	for range 2 {
		if n := len(all(t, f)); n != 2 || f.LogLines() != 2 {
			t.Errorf("%d calls, %d lines of a log", n, f.LogLines())
		}
	}
}

// A call that is in two files is read once, and two calls of the same ID that differ in what they are of are two.
func TestRepeatedCallsAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	text := recording(t, "support", 3, 2)
	a, b := put(t, filepath.Join(dir, "a"), text), put(t, filepath.Join(dir, "b"), bytes.ReplaceAll(text, []byte(`"agent":"support"`), []byte(`"agent":"billing"`)))
	f := open(t, a)
	n := len(all(t, f))
	if f.Repeated() != 0 {
		t.Errorf("%d calls of one file repeated", f.Repeated())
	}
	f = open(t, a, b, a, a)
	for range 2 {
		if got := len(all(t, f)); got != 2*n || f.Repeated() != 2*n {
			t.Errorf("%d calls, %d repeated, of %d in a file", got, f.Repeated(), n)
		}
	}
}

// Features of another schema are an error where they are wanted, so that a decision can be found among older ones.
func TestOtherSchemaIsReadUnlessWanted(t *testing.T) {
	var lines []byte
	for _, schema := range []string{"sallyport.features/v0", "", features.SchemaID} {
		r := telemetry.Record{ID: "of " + schema, Outcome: telemetry.OutcomeReleased, Schema: schema, Features: make([]float32, features.Size)}
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, b...), '\n')
	}
	f := open(t, put(t, filepath.Join(t.TempDir(), "s"), lines))
	seen := 0
	wanted := func(id string) error {
		return f.Each(t.Context(), func(s *Sample) bool { seen++; return s.HasFeatures() && s.Record != nil && s.ID == id }, func(*Sample) error { return nil })
	}
	if err := wanted("of " + features.SchemaID); err != nil || seen != 3 {
		t.Errorf("%v after %d calls", err, seen)
	}
	for _, id := range []string{"of sallyport.features/v0", "of "} {
		if err := wanted(id); !errors.Is(err, ErrSchema) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// written returns the samples written to a file and read from it.
func written(t *testing.T, name string, samples []*Sample) []*Sample {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write(*Sample) error
		Close() error
	} = NewRecordWriter(&b)
	if filepath.Ext(name) == ".parquet" {
		w = NewParquetWriter(&b)
	}
	for _, s := range samples {
		if err := w.Write(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return all(t, open(t, put(t, filepath.Join(t.TempDir(), name), b.Bytes())))
}

func TestFeatureFilesRoundTrip(t *testing.T) {
	samples := all(t, open(t, put(t, filepath.Join(t.TempDir(), "s"), recording(t, "support", 30, 10))))
	samples[0].Time = time.Date(2026, 3, 4, 5, 6, 7, 890_000_001, time.UTC)
	samples[1].Workload, samples[1].Agent, samples[1].Label, samples[1].Stage = "agents/Deployment/support", "", Unlabelled, NoStage
	samples[2].Outcome, samples[2].Tainted = telemetry.OutcomeRefused, true
	samples[3].Exceeds = true
	samples[4].Evidence = nil
	for _, name := range []string{"f.jsonl", "f.parquet"} {
		got := written(t, name, samples)
		if len(got) != len(samples) {
			t.Fatalf("%s: %d of %d samples", name, len(got), len(samples))
		}
		for i, s := range samples {
			want := *s
			want.call, want.turn, want.evidence, want.At, want.Record = nil, nil, nil, got[i].At, got[i].Record
			if !reflect.DeepEqual(*got[i], want) {
				t.Fatalf("%s: %+v\nwant %+v", name, *got[i], want)
			}
		}
	}
}

// What a feature file says of a call that is compared with a baseline is what the call itself says.
func TestAgainstBaseline(t *testing.T) {
	samples := all(t, open(t, put(t, filepath.Join(t.TempDir(), "s"), recording(t, "support", 30, 6))))
	b := features.NewBaseline()
	for _, s := range samples[:60] {
		e, err := features.DecodeEvidence(s.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		b.Learn(e)
	}
	read := written(t, "f.parquet", samples)
	different := 0
	for i, s := range samples {
		a, err := s.Against(b)
		if err != nil {
			t.Fatal(err)
		}
		c, err := read[i].Against(b)
		if err != nil {
			t.Fatal(err)
		}
		if a != c {
			t.Fatalf("%s: %v\nfrom its evidence %v", s.ID, a, c)
		}
		if a != s.Vector {
			different++
		}
		if same, err := s.Against(nil); err != nil || same != s.Vector {
			t.Fatalf("without a baseline the features change: %v", err)
		}
	}
	if different == 0 {
		t.Error("the baseline bears on nothing")
	}
}

func TestReadErrors(t *testing.T) {
	session := `{"session":"s","agent":"a","label":"benign","messages":[{"role":"user","content":"x"}],"requests":[{"n":1,"stage":"clean"}]}`
	record := func(change func(*telemetry.Record)) string {
		r := telemetry.Record{ID: "x", Outcome: telemetry.OutcomeReleased, Schema: features.SchemaID, Features: make([]float32, features.Size)}
		change(&r)
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := record(func(*telemetry.Record) {})
	for name, tc := range map[string]struct{ in, want string }{
		"no JSON":             {"boom", "f:1: not a line of JSON"},
		"no record":           {good + "\n{}", "f:2: not a decision record"},
		"what is accepted":    {"{}", "Parquet"},
		"session in records":  {good + "\n" + session, "f:2: a recorded session in a file that began with decision records"},
		"record in sessions":  {session + "\n\n" + good, "f:3: not a recorded session"},
		"no messages":         {session + "\n" + `{"session":"s","requests":[]}`, "f:2: not a recorded session"},
		"no session":          {session + "\n" + `{"messages":[],"requests":[]}`, "f:2: not a recorded session: it has no session"},
		"too many messages":   {strings.Replace(session, `"n":1`, `"n":2`, 1), "f:1: request 1 has 2 messages of 1"},
		"label":               {strings.Replace(session, "benign", "bening", 1), `f:1: label "bening"; accepted are`},
		"stage":               {strings.Replace(session, "clean", "claen", 1), `f:1: request 1: stage "claen"; accepted are`},
		"stage of no attack":  {strings.Replace(session, "clean", "hijacked", 1), `f:1: request 1: stage "hijacked" of a session whose label is "benign"; accepted is "attack"`},
		"time":                {strings.Replace(session, `"n":1`, `"n":1,"ts":"noon"`, 1), `f:1: request 1: time "noon"; accepted is`},
		"other schema":        {record(func(r *telemetry.Record) { r.Schema = "sallyport.features/v0" }), `"sallyport.features/v0", not "` + features.SchemaID},
		"other dimension":     {record(func(r *telemetry.Record) { r.Features = r.Features[:3] }), "f:1: "},
		"evidence":            {record(func(r *telemetry.Record) { r.Evidence = []byte("evidence") }), "f:1: "},
		"label of a record":   {good[:len(good)-1] + `,"sample":{"label":"evil"}}`, `f:1: label "evil"`},
		"half a gzip":         {string(packed(t, []byte(good+"\n"+good)))[:40], "f:1: the file is cut off or damaged: unexpected EOF"},
		"gzip's beginning":    {"\x1f\x8b\b", "f: the file is cut off or damaged: "},
		"Parquet's beginning": {"PAR1 and no more", "f: not a Parquet file that can be read"},
	} {
		f, err := Open(strings.NewReader(""), put(t, filepath.Join(t.TempDir(), "f"), []byte(tc.in)))
		if err == nil {
			err = f.Each(context.Background(), nil, func(*Sample) error { return nil })
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Open(nil, "nowhere"); err == nil {
		t.Error("a file that is not there was opened")
	}
}

func TestParquetErrors(t *testing.T) {
	var b bytes.Buffer
	w := NewParquetWriter(&b)
	if err := w.Write(&Sample{ID: "x", Session: "s", Schema: "sallyport.features/v0"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	each := func(b []byte) error {
		f := open(t, put(t, filepath.Join(t.TempDir(), "f.parquet"), b))
		return f.Each(t.Context(), nil, func(*Sample) error { return nil })
	}
	err := each(b.Bytes())
	if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), `f.parquet:1: `) || !strings.Contains(err.Error(), `"sallyport.features/v0", not "`+features.SchemaID) {
		t.Errorf("rows of another schema: %v", err)
	}
	// The footer names the schema too.
	other := bytes.ReplaceAll(b.Bytes(), []byte(features.SchemaID), []byte(features.SchemaID[:len(features.SchemaID)-1]+"7"))
	if err := each(other); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "/v7") || !strings.Contains(err.Error(), features.SchemaID) {
		t.Errorf("file of another schema: %v", err)
	}
	renamed := bytes.ReplaceAll(b.Bytes(), []byte("data.capitals"), []byte("data.CAPITALS"))
	if err := each(renamed); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "no column data.capitals") {
		t.Errorf("file without a feature: %v", err)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		b.Reset()
		w = NewParquetWriter(&b)
		s := Sample{ID: "x", Session: "s", Schema: features.SchemaID}
		s.Vector[2] = bad
		if err := errors.Join(w.Write(&s), w.Close()); err != nil {
			t.Fatal(err)
		}
		if err := each(b.Bytes()); err == nil || !strings.Contains(err.Error(), "f.parquet:1: column "+features.Schema[2].Name+" is ") {
			t.Errorf("a feature that is %v: %v", bad, err)
		}
	}
	// What Each's callee panics with is not taken for damage.
	defer func() {
		if recover() != "callee" {
			t.Error("the callee's panic was swallowed")
		}
	}()
	var ok bytes.Buffer
	w = NewParquetWriter(&ok)
	if err := errors.Join(w.Write(&Sample{ID: "x", Session: "s", Schema: features.SchemaID}), w.Close()); err != nil {
		t.Fatal(err)
	}
	_ = open(t, put(t, filepath.Join(t.TempDir(), "ok"), ok.Bytes())).Each(t.Context(), nil, func(*Sample) error { panic("callee") })
}

// Files of others' making have other types, orders and levels: what says the same is read, and what is not there is not taken for 0.
func TestParquetOfOthers(t *testing.T) {
	type column struct {
		node  parquet.Node
		value func(i int) parquet.Value // level of definition included
	}
	file := func(change map[string]column) []byte {
		g := parquet.Group{"session": parquet.Optional(parquet.String())}
		values := map[string]func(int) parquet.Value{"session": func(int) parquet.Value { return parquet.ByteArrayValue([]byte("s")).Level(0, 1, 0) }}
		for i, f := range features.Schema {
			g[f.Name] = parquet.Optional(parquet.Leaf(parquet.DoubleType))
			values[f.Name] = func(int) parquet.Value { return parquet.DoubleValue(float64(i)).Level(0, 1, 0) }
		}
		for name, c := range change {
			g[name], values[name] = c.node, c.value
		}
		schema := parquet.NewSchema("others", g)
		var b bytes.Buffer
		w := parquet.NewGenericWriter[any](&b, schema)
		for n := range 3 {
			row := make(parquet.Row, len(schema.Columns()))
			for name, value := range values {
				c, _ := schema.Lookup(name)
				v := value(n)
				row[c.ColumnIndex] = v.Level(0, v.DefinitionLevel(), c.ColumnIndex)
			}
			if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	text := func(s string) column {
		return column{parquet.Optional(parquet.String()), func(int) parquet.Value { return parquet.ByteArrayValue([]byte(s)).Level(0, 1, 0) }}
	}
	null := func(int) parquet.Value { return parquet.NullValue() }
	last := features.Schema[features.Size-1].Name
	for name, tc := range map[string]struct {
		change map[string]column
		want   string
	}{
		"doubles that may be missing": {nil, ""},
		"labels":                      {map[string]column{"label": text("attack"), "stage": text("exposed"), "more": text("x")}, ""},
		"no label":                    {map[string]column{"label": {parquet.Optional(parquet.String()), null}}, ""},
		"a feature is missing":        {map[string]column{last: {parquet.Optional(parquet.Leaf(parquet.FloatType)), null}}, "f:1: column " + last + " is <null>; accepted are finite numbers"},
		"a session is missing":        {map[string]column{"session": {parquet.Optional(parquet.String()), null}}, "f:1: no session"},
		"whole numbers":               {map[string]column{last: {parquet.Leaf(parquet.Int32Type), func(int) parquet.Value { return parquet.Int32Value(1) }}}, "column " + last + " is of type"},
		"text for a flag":             {map[string]column{"tainted": text("no")}, "column tainted is of type"},
	} {
		f := open(t, put(t, filepath.Join(t.TempDir(), "f"), file(tc.change)))
		rows := 0
		err := f.Each(t.Context(), nil, func(s *Sample) error {
			rows++
			if s.Session != "s" || s.Vector[5] != 5 || s.Outcome != telemetry.OutcomeReleased {
				t.Errorf("%s: %+v", name, s)
			}
			return nil
		})
		switch {
		case tc.want == "" && (err != nil || rows != 3):
			t.Errorf("%s: %d rows, %v", name, rows, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// What is compressed in whatever way is read as it was written, or refused.
func TestParquetCompressions(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for codec, want := range map[compress.Codec]string{
		&parquet.Uncompressed: "", &parquet.Snappy: "", &parquet.Gzip: "", &parquet.Brotli: "", &parquet.Zstd: "",
		&parquet.Lz4Raw: "is compressed by LZ4_RAW; accepted are ZSTD, SNAPPY, GZIP, BROTLI and no compression",
	} {
		g := parquet.Group{"session": parquet.String()}
		for _, f := range features.Schema {
			g[f.Name] = parquet.Leaf(parquet.FloatType)
		}
		schema := parquet.NewSchema("others", g)
		var b bytes.Buffer
		w := parquet.NewGenericWriter[any](&b, schema, parquet.Compression(codec))
		written := make([]features.Vector, 200)
		for i := range written {
			row := make(parquet.Row, len(schema.Columns()))
			for j, f := range features.Schema {
				written[i][j] = rng.Float32()
				c, _ := schema.Lookup(f.Name)
				row[c.ColumnIndex] = parquet.FloatValue(written[i][j]).Level(0, 0, c.ColumnIndex)
			}
			c, _ := schema.Lookup("session")
			row[c.ColumnIndex] = parquet.ByteArrayValue([]byte("s")).Level(0, 0, c.ColumnIndex)
			if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var read []features.Vector
		err := open(t, put(t, filepath.Join(t.TempDir(), "f"), b.Bytes())).Each(t.Context(), nil, func(s *Sample) error { read = append(read, s.Vector); return nil })
		switch {
		case want != "":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", codec, err, want)
			}
		case err != nil || !slices.Equal(read, written):
			t.Errorf("%s: other features than were written, %v", codec, err)
		}
	}
}

func TestStandardInputIsReadOften(t *testing.T) {
	f, err := Open(bytes.NewReader(recording(t, "support", 3, 0)), "-", "-")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := len(all(t, f)), len(all(t, f)); a == 0 || a != b {
		t.Errorf("%d calls and then %d", a, b)
	}
	spool := f.spool
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(spool); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy stays: %v", err)
	}
}

// FuzzRead hands whatever bytes to what reads files. Errors are as good as samples; what is delivered must be sound.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := evaluationtest.WriteSessions(&b, "support", 1, 1, 1); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"id":"x","outcome":"released","sample":{"label":"attack"}}`))
	f.Add([]byte(`{"msg":"m","record":{"id":"x","outcome":"released"}}`))
	f.Add([]byte("PAR1PAR1"))
	var p bytes.Buffer
	w := NewParquetWriter(&p)
	if err := errors.Join(w.Write(&Sample{ID: "x", Session: "s", Schema: features.SchemaID}), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(p.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := Open(nil, put(t, filepath.Join(t.TempDir(), "f"), b))
		if err != nil {
			return
		}
		_ = files.Each(t.Context(), nil, func(s *Sample) error {
			if s.check() != nil || s.HasFeatures() && s.Schema != features.SchemaID {
				t.Errorf("%+v", s)
			}
			return nil
		})
	})
}
