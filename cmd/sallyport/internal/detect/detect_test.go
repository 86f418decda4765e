package detect

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

var support = policy.Workload{Namespace: "agents", Kind: "Deployment", Name: "support", Pod: "support-1"}

// released is the record of a released benign call.
func released(n int, row detector.Row) *telemetry.Record {
	return &telemetry.Record{
		ID: fmt.Sprintf("d-%04d", n), Time: detectortest.Epoch.Add(time.Duration(n) * time.Second),
		Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow, Workload: support,
		Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai", Host: "api.openai.com"},
		Call:        policy.Call{Surface: "openai.chat_completions", Model: "gpt-5-mini", Messages: 4},
		Session:     policy.Session{ID: row.Session, Calls: 1, MaxPercentile: 0.5},
		Anomaly:     policy.Anomaly{TopFeatures: []policy.Feature{}},
		Schema:      features.SchemaID, Features: row.Vector[:],
	}
}

func records(n int) []*telemetry.Record {
	var out []*telemetry.Record
	for i, row := range detectortest.Rows(1, n)[:n] {
		out = append(out, released(i, row))
	}
	return out
}

func encode(t *testing.T, records ...*telemetry.Record) string {
	t.Helper()
	var b strings.Builder
	for _, r := range records {
		line, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(cmd *cobra.Command, stdin string, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.Execute()
	return out.String(), errs.String(), err
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update accepts it):\n%s", name, got)
	}
}

func TestTrain(t *testing.T) {
	all := records(400)
	all[3].Outcome = telemetry.OutcomeRefused
	all[4].Outcome, all[4].Action = telemetry.OutcomeRelaxed, policy.ActionDeny
	all[5].Anomaly.Exceeds = true
	all[6].Session.Tainted = true
	all[7].Schema, all[7].Features = "", nil
	all[8].Workload.Name = "billing"
	first := write(t, "first.jsonl", encode(t, all[:200]...)+"\n"+encode(t, all[0]))
	second := strings.Builder{}
	second.WriteString(`{"level":"info","msg":"started"}` + "\n")
	for _, r := range all[200:] {
		fmt.Fprintf(&second, `{"level":"info","msg":"SALLYPORT-DECISION","record":%s}`+"\n", strings.TrimSpace(encode(t, r)))
	}
	model := filepath.Join(t.TempDir(), "out.model")
	out, progress, err := run(NewTrain(), second.String(), "--in", first, "--in", "-", "--out", model, "--workload", "agents/deployment/support")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress, "learning agents/Deployment/support from 394 calls") {
		t.Errorf("progress:\n%s", progress)
	}
	if want := "; 1 line of a log is no decision\n"; !strings.Contains(out, want) || !strings.Contains(out, "\n394 of 394 calls have no evidence") {
		t.Errorf("does not say %q, or that there is no evidence:\n%s", want, out)
	}
	shown := regexp.MustCompile(`[0-9]+ bytes, sha256 [0-9a-f]{64}`).ReplaceAllString(strings.ReplaceAll(out, model, "out.model"), "N bytes, sha256 HEX")
	golden(t, "train.txt", regexp.MustCompile(`threshold  0\.[0-9]{4}`).ReplaceAllString(shown, "threshold  0.NNNN"))

	b, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	m, err := detector.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, m.Digest()) || m.Info().Calls != 394 || m.Info().FalsePositivesPerMillion != 10_000 {
		t.Errorf("model %s, %+v", m.Digest(), m.Info())
	}
	left, err := os.ReadDir(filepath.Dir(model))
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v", left)
	}
}

func TestTrainSaysThatTheBudgetIsNotSupported(t *testing.T) {
	in := write(t, "in.jsonl", encode(t, records(300)...))
	out, _, err := run(NewTrain(), "", "--in", in, "--out", filepath.Join(t.TempDir(), "m"), "--budget", "0.001")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "it takes about 999") || !strings.Contains(out, "one benign call in 301") {
		t.Errorf("not said:\n%s", out)
	}
}

func TestTrainErrors(t *testing.T) {
	good := encode(t, records(300)...)
	schema := records(1)
	schema[0].Schema = "sallyport.features/v0"
	short := records(1)
	short[0].Features = short[0].Features[:3]
	others := records(3)
	others[1].Workload.Name = "billing"
	others[2].Workload.Namespace = "\x1b[31mevil"
	for name, tc := range map[string]struct {
		in   string
		args []string
		want []string
	}{
		"not JSON":              {in: good + "boom\n", want: []string{"in.jsonl:301: not a line of JSON"}},
		"not a record":          {in: `{"a":1}`, want: []string{"in.jsonl:1: not a decision record: it has no id", "accepted are", "Parquet"}},
		"wrong type":            {in: `{"id":"x","outcome":7}`, want: []string{"in.jsonl:1: not a decision record"}},
		"an array":              {in: "\n[1]", want: []string{"in.jsonl:2: not a line of JSON"}},
		"half a line":           {in: good[:len(good)-9], want: []string{"in.jsonl:300: not a line of JSON"}},
		"line beyond measure":   {in: good + strings.Repeat("x", telemetry.MaxLine+1), want: []string{"in.jsonl:301: line of more than"}},
		"other schema":          {in: encode(t, schema...), want: []string{"in.jsonl:1: ", "other feature schema", "sallyport.features/v0"}},
		"other dimension":       {in: encode(t, short...), want: []string{"in.jsonl:1: ", "3 features"}},
		"empty":                 {in: "", want: []string{"no calls in"}},
		"too few":               {in: encode(t, records(10)...), want: []string{"too few calls to learn from", "of 10 records: none left out"}},
		"several workloads":     {in: encode(t, others...), want: []string{"calls of 3 workloads; name one with --workload:", "\n  agents/Deployment/billing (1)", "\n  agents/Deployment/support (1)"}},
		"no such workload":      {in: good, args: []string{"--workload", "a/b/c"}, want: []string{"no calls of the workload a/b/c", "agents/Deployment/support (300)"}},
		"budget of nothing":     {in: good, args: []string{"--budget", "0"}, want: []string{"--budget 0: accepted is"}},
		"budget of everything":  {in: good, args: []string{"--budget", "1"}, want: []string{"--budget 1: accepted is"}},
		"budget not a number":   {in: good, args: []string{"--budget", "NaN"}, want: []string{"--budget NaN: accepted is"}},
		"negative minimum":      {in: good, args: []string{"--min-calls", "-1"}, want: []string{"cannot be negative"}},
		"directory not there":   {in: good, args: []string{"--out", filepath.Join(t.TempDir(), "no", "m")}, want: []string{"write model: "}},
		"file not there":        {in: good, args: []string{"--in", "nowhere.jsonl"}, want: []string{"nowhere.jsonl"}},
		"more than was offered": {in: good, args: []string{"--min-sessions", "5000"}, want: []string{"wanted 256 of 5000"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "m")
			_, _, err := run(NewTrain(), "", append([]string{"--in", write(t, "in.jsonl", tc.in), "--out", out}, tc.args...)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("error %q commands the terminal", err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a model was written")
			}
		})
	}
}

// explained trains a small model and returns it with a record of an attack that it judged.
func explained(t *testing.T) (model string, r *telemetry.Record) {
	t.Helper()
	m, err := detector.Train(detectortest.Rows(1, 400), detector.Options{Trees: 50, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := detectortest.New(5).Hijacked()
	sessions := features.NewSessions(0, 0)
	var row detector.Row
	for i, call := range c.Calls[:c.Exposed+1] {
		at := detectortest.Epoch.Add(time.Duration(i) * time.Second)
		turn := sessions.Begin(call, at)
		row.Session = turn.Session().ID
		features.Extract(&row.Vector, nil, call, turn, &features.Context{Now: at})
		sessions.Settle(turn, features.Outcome{Released: true}, at)
	}
	r = released(7, row)
	r.Anomaly = m.Judge(&row.Vector)
	r.Outcome, r.Action, r.Rule = telemetry.OutcomeRefused, policy.ActionDeny, "ANOM-001"
	r.Reasons = []policy.Reason{{Rule: "ANOM-001", Message: "The call is unlike those that the agent makes."}}
	return write(t, "m.model", string(b)), r
}

func TestExplain(t *testing.T) {
	model, r := explained(t)
	in := encode(t, records(3)...) + encode(t, r)
	out, _, err := run(NewExplain(), in, "--model", model, "--in", "-", r.ID)
	if err != nil {
		t.Fatal(err)
	}
	// What the numbers are is the detector's to say.
	head, chart, ok := strings.Cut(out, "\n\n")
	if !ok || !strings.HasPrefix(chart, "feature ") || !strings.Contains(chart, "\ndata.") || !strings.Contains(chart, "●") {
		t.Errorf("no chart:\n%s", out)
	}
	golden(t, "explain.txt", regexp.MustCompile(`0\.[0-9]{4}`).ReplaceAllString(head, "0.NNNN")+"\n")
	if strings.ContainsRune(out, 0x1b) {
		t.Error("colours where there is no terminal")
	}

	all, _, err := run(NewExplain(), in, "--model", model, "--in", "-", "--all", r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range features.Schema {
		if !strings.Contains(all, "\n"+f.Name+" ") {
			t.Errorf("--all does not show %s", f.Name)
		}
	}
}

// The chart of made numbers: features beyond what was learned, within it, at its ends and in a range of nothing, and one that the schema does not know.
func TestChart(t *testing.T) {
	ranges := make([]detector.Range, features.Size)
	of := func(name string, value, contribution, low, middle, high float64) policy.Feature {
		for i, f := range features.Schema {
			if f.Name == name {
				ranges[i] = detector.Range{Low: low, Middle: middle, High: high, Most: high}
			}
		}
		return policy.Feature{Name: name, Value: value, Contribution: contribution}
	}
	nan := math.NaN()
	all := []policy.Feature{
		of("data.role_markers", math.Log(4), 4.79, 0, 0, 0), of("data.instruction_words", math.Log(5), 0.31, 0, 0, math.Log(2)), of("envelope.new_tools", 1, 0.3, 0, 0, 0),
		of("text.space", 0.103, 0.2, 0.12, 0.15, 0.21), of("time.gap", 1, 0.1, nan, nan, nan), of("no.feature", 1, 0.1, 0, 0, 0), of("text.entropy", 4.4, 0, 4.1, 4.4, 4.9),
		of("size.messages", math.Log(5), -0.4, math.Log(3), math.Log(5), math.Log(13)),
	}
	var out bytes.Buffer
	p := painter{}
	p.chart(&out, all, ranges, 1.47, false)
	golden(t, "chart.txt", out.String())
	for _, width := range []int{1, 40, 60, 72, 80, 100, 106, 107, 200} {
		out.Reset()
		painter{width: width}.chart(&out, all, ranges, 1.47, false)
		widest := 0
		for line := range strings.Lines(out.String()) {
			widest = max(widest, record.Width(strings.TrimSuffix(line, "\n")))
		}
		if widest > max(width, 68) || !strings.Contains(out.String(), "●") || !strings.Contains(out.String(), "█") {
			t.Errorf("%d cells wide on a terminal of %d:\n%s", widest, width, out.String())
		}
		if width == 80 {
			golden(t, "chart80.txt", out.String())
		}
	}
}

func TestExplainByAnotherModel(t *testing.T) {
	model, r := explained(t)
	r.Anomaly.ModelDigest = strings.Repeat("0", 64)
	out, _, err := run(NewExplain(), encode(t, r), "--model", model, "--in", "-", r.ID)
	if err != nil || !strings.Contains(out, "is not the one that judged the call") {
		t.Errorf("%v\n%s", err, out)
	}
	r.Anomaly = policy.Anomaly{}
	out, _, err = run(NewExplain(), encode(t, r), "--model", model, "--in", "-", r.ID)
	if err != nil || !strings.Contains(out, "was not yet learned") || !strings.Contains(out, "by this") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExplainInColour(t *testing.T) {
	model, r := explained(t)
	var out bytes.Buffer
	s := streams{in: strings.NewReader(encode(t, r)), out: &out, errs: io.Discard}
	if err := explain(t.Context(), s, painter{record.Painter{Colour: true}, 0}, func(string) string { return "" }, explainOptions{input: input{files: []string{"-"}}, model: model, id: r.ID}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31mrefused\x1b[0m") || !strings.Contains(out.String(), "\x1b[31m█") {
		t.Errorf("no colours:\n%q", out.String())
	}
}

func TestExplainDoesNotObeyTheCaller(t *testing.T) {
	model, r := explained(t)
	r.Call.Model = "gpt\x1b]0;owned\a\u202e"
	out, _, err := run(NewExplain(), encode(t, r), "--model", model, "--in", "-", r.ID)
	if err != nil || strings.ContainsAny(out, "\x1b\a\u202e") {
		t.Errorf("%v\n%q", err, out)
	}
}

func TestExplainWithoutFeatures(t *testing.T) {
	model, r := explained(t)
	r.Schema, r.Features, r.Call.Model, r.Session.ID = "", nil, "", ""
	out, _, err := run(NewExplain(), encode(t, r), "--model", model, "--in", "-", r.ID)
	if err != nil || !strings.Contains(out, "has no features") || !strings.Contains(out, "ANOM-001") || strings.Contains(out, "session ") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExplainErrors(t *testing.T) {
	model, r := explained(t)
	in := encode(t, r)
	other := *r
	other.Schema = "sallyport.features/v0"
	for name, tc := range map[string]struct {
		in   string
		args []string
		want string
	}{
		"no such record":  {in, []string{"--model", model, "--in", "-", "d-9999"}, `no record "d-9999" in standard input`},
		"no such model":   {in, []string{"--model", "nowhere", "--in", "-", r.ID}, "nowhere"},
		"model is none":   {in, []string{"--model", write(t, "x", "x"), "--in", "-", r.ID}, "not a valid model"},
		"bad line before": {"{\n" + in, []string{"--model", model, "--in", "-", r.ID}, "standard input:1: "},
		"other schema":    {encode(t, &other), []string{"--model", model, "--in", "-", r.ID}, "other feature schema"},
		"no call":         {in, []string{"--model", model}, "which call? name a decision's ID, or a file of calls"},
		"two calls":       {in, []string{"--model", model, "a", "b"}, "accepts at most 1 arg"},
		"two baselines":   {in, []string{"--model", model, "--baseline", "x", "--in", "-"}, "none of the others can be"},
		"read twice":      {in, []string{"--baseline", "-", "--in", "-"}, "standard input cannot be both"},
	} {
		if _, _, err := run(NewExplain(), tc.in, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		part, whole float64
		want        string
	}{{0, 0, ""}, {1, 0, ""}, {0, 1, ""}, {1, 1, strings.Repeat("█", barCells)}, {1, barCells, "█"}, {1, 2 * barCells, "▌"}, {1, 8 * barCells, "▏"}, {7, 8 * barCells, "▉"}} {
		if got := bar(tc.part, tc.whole, barCells); got != tc.want {
			t.Errorf("bar(%v, %v) = %q, want %q", tc.part, tc.whole, got, tc.want)
		}
	}
}
