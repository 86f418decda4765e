package evaluation

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
)

// quick options for made sessions.
var quick = Options{Folds: 4, Seeds: 2, Train: detector.Options{Trees: 30}, Resampling: Resampling{Samples: 50, Confidence: 0.95, Seed: 1}}

// least options, for what is asked of counts and not of figures.
var least = Options{Folds: 3, Seeds: 1, Train: detector.Options{Trees: 8}, Resampling: Resampling{Samples: 4, Confidence: 0.95, Seed: 1}}

func evaluate(t *testing.T, o Options, files ...string) *Report {
	t.Helper()
	r, err := Evaluate(t.Context(), open(t, files...), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stage(r *Report, name string) *Table {
	for i := range r.Stages {
		if r.Stages[i].Name == name {
			return &r.Stages[i].Table
		}
	}
	return nil
}

func TestEvaluate(t *testing.T) {
	dir := t.TempDir()
	a := put(t, filepath.Join(dir, "a.jsonl.gz"), packed(t, recording(t, "support", 80, 30)))
	b := put(t, filepath.Join(dir, "b.jsonl"), recording(t, "billing", 60, 0))
	told := map[string]int{}
	o := quick
	o.Progress = func(doing string, done, of int) {
		if of > 0 && (done < 0 || done >= of) {
			t.Errorf("%s: %d of %d", doing, done, of)
		}
		told[doing]++
	}
	r := evaluate(t, o, a, b)
	if len(r.Agents) != 2 || r.Agents[0].Name != "billing" || r.Agents[1].Tasks != 20 || r.Agents[1].Sessions != 80 || r.Counts.Sessions != 170 {
		t.Errorf("%+v, %+v", r.Agents, r.Counts)
	}
	first := stage(r, "first")
	if first == nil || first.All.Positives != 30 || first.All.AUC.Value < 0.9 || len(first.Families) != 2 {
		t.Fatalf("%+v", first)
	}
	if carried := stage(r, "hijacked_carried"); carried.All.AUC.Value < stage(r, "hijacked").All.AUC.Value || carried.All.Positives != 30 {
		t.Errorf("%+v", carried.All)
	}
	if s := stage(r, "session"); s.All.Positives != 30 || s.All.Negatives != 80 {
		t.Errorf("%+v", s.All)
	}
	if len(r.Budgets) != 3 || r.Budgets[0].Calls != r.Counts.Benign || r.Budgets[0].Attacks != 30 {
		t.Errorf("%+v", r.Budgets)
	}
	for _, s := range r.Budgets {
		if f := s.Realised; !(f.Low <= f.Value && f.Value <= f.High) || !slices.IsSortedFunc(s.Calibration, func(a, b Calibrated) int {
			return map[bool]int{true: 1}[a.Realised > b.Realised]
		}) {
			t.Errorf("%+v", s)
		}
	}
	if told["training"] != 2*2*4 || told["judging"] == 0 || told["computing intervals"] == 0 {
		t.Errorf("told %v", told)
	}
	if b, err := json.Marshal(r); err != nil || bytes.Contains(b, []byte(`"notes":null`)) || bytes.Contains(b, []byte(`"without":null`)) {
		t.Errorf("%v\n%s", err, b)
	}
	one := quick
	one.Workload = "support"
	if r := evaluate(t, one, a, b); len(r.Agents) != 1 || r.Counts.Sessions != 110 || r.Counts.Elsewhere == 0 || len(r.Budgets) != 1 {
		t.Errorf("of one agent: %+v, %+v", r.Agents, r.Counts)
	}
	again := evaluate(t, quick, a, b)
	first2 := stage(again, "first")
	if !reflect.DeepEqual(first2.All, first.All) || !reflect.DeepEqual(again.Budgets[1].Calibration, r.Budgets[1].Calibration) {
		t.Error("the same data, options and seeds give other figures")
	}
}

// Feature files hold all that is needed: what comes of them is what comes of the sessions they were made from.
func TestEvaluateFeatureFiles(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "s"), recording(t, "support", 60, 20))
	want := evaluate(t, quick, path)
	samples := all(t, open(t, path))
	for _, name := range []string{"f.jsonl", "f.parquet"} {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var w interface {
			Write(*Sample) error
			Close() error
		} = NewRecordWriter(f)
		if name == "f.parquet" {
			w = NewParquetWriter(f)
		}
		for _, s := range samples {
			if err := w.Write(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		got := evaluate(t, quick, f.Name())
		a, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s gives other figures:\n%s\nwant\n%s", name, b, a)
		}
	}
}

func TestEvaluateModel(t *testing.T) {
	dir := t.TempDir()
	learned := all(t, open(t, put(t, filepath.Join(dir, "learned"), recording(t, "support", 80, 0))))
	var rows []detector.Row
	for _, s := range learned {
		rows = append(rows, s.Row())
	}
	m, err := detector.Train(rows, detector.Options{Trees: 30, FalsePositivesPerMillion: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	r := evaluate(t, Options{Model: m, Resampling: quick.Resampling}, put(t, filepath.Join(dir, "s"), recording(t, "support", 20, 20)))
	if r.Model != m.Digest() || r.Budget != 0.05 || r.Folds != 1 || stage(r, "first").All.Positives != 20 {
		t.Errorf("%+v", r)
	}
	if strings.Contains(strings.Join(r.Notes, "\n"), "cannot be compared") {
		t.Errorf("notes %q", r.Notes)
	}

	// Calls whose evidence is under another salt, or that have none.
	var foreign bytes.Buffer
	w := NewRecordWriter(&foreign)
	for i, s := range learned[:40] {
		c := *s
		if c.Evidence = nil; i%2 == 0 {
			var e features.Evidence
			var v features.Vector
			features.Extract(&v, &e, s.call, s.turn, &features.Context{Salt: features.Salt(nil, "another", "cluster", "")})
			c.Evidence = e.Encoded()
		}
		if err := w.Write(&c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r = evaluate(t, Options{Model: m, Resampling: quick.Resampling}, put(t, filepath.Join(dir, "foreign"), foreign.Bytes()))
	if !strings.Contains(strings.Join(r.Notes, "\n"), "40 of 40 calls cannot be compared with the model's baseline") {
		t.Errorf("notes %q", r.Notes)
	}
}

func TestEvaluateWithout(t *testing.T) {
	if testing.Short() {
		t.Skip("two evaluations: make unit makes them without the race detector")
	}
	path := put(t, filepath.Join(t.TempDir(), "s"), recording(t, "support", 60, 20))
	o := quick
	var others []string
	for _, g := range Groups() {
		if g != "novelty" && g != Lexicon {
			others = append(others, g)
		}
	}
	o.Without = others // nothing is left but novelty
	r := evaluate(t, o, path)
	if len(r.Without) == 0 || slices.Contains(r.Without, "novelty.unseen_peak") || !slices.Contains(r.Without, "data.tags") {
		t.Errorf("without %v", r.Without)
	}
	o.Without = []string{"data", "novelty", "tool", "text"}
	if poor := evaluate(t, o, path); stage(poor, "first").All.AUC.Value >= stage(r, "first").All.AUC.Value {
		t.Errorf("injections are found without what shows them: %v, with novelty alone %v", stage(poor, "first").All.AUC, stage(r, "first").All.AUC)
	}
}

func TestMask(t *testing.T) {
	for name, want := range map[string]int{"novelty": 7, "content.secrets": 1, Lexicon: 12} {
		m, err := NewMask(name, name)
		if err != nil || len(m.Names()) != want {
			t.Errorf("%s: %v, %v", name, m.Names(), err)
		}
	}
	if _, err := NewMask("nov"); err == nil || !strings.Contains(err.Error(), "accepted are the groups lexicon, envelope,") {
		t.Error(err)
	}
	if _, err := NewMask(Groups()...); err == nil {
		t.Error("all features may be left out")
	}
	var m Mask
	v := features.Vector{1, 2, 3}
	if m.Apply(&v); v != (features.Vector{1, 2, 3}) {
		t.Error("the zero mask masks")
	}
}

func TestEvaluateBenignOnly(t *testing.T) {
	var rows strings.Builder
	w := NewRecordWriter(&rows)
	for i, row := range detectortest.Rows(1, 400) {
		if err := w.Write(&Sample{ID: strconv.Itoa(i), Workload: "agents/Deployment/support", Session: row.Session, Outcome: "released", Schema: features.SchemaID, Vector: row.Vector, Evidence: row.Evidence}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := evaluate(t, quick, put(t, filepath.Join(t.TempDir(), "f"), []byte(rows.String())))
	if len(r.Stages) != 0 || len(r.Budgets) != 1 || len(r.Notes) != 2 || !math.IsNaN(r.Budgets[0].Found.Value) || r.Agents[0].Name != "agents/Deployment/support" {
		t.Errorf("%+v", r)
	}
}

func TestEvaluateErrors(t *testing.T) {
	few := put(t, filepath.Join(t.TempDir(), "few"), recording(t, "support", 3, 0))
	attacks := put(t, filepath.Join(t.TempDir(), "attacks"), recording(t, "support", 0, 3))
	empty := put(t, filepath.Join(t.TempDir(), "empty"), nil)
	for name, tc := range map[string]struct {
		o    Options
		in   string
		want string
	}{
		"one fold":        {Options{Folds: 1}, few, "1 folds; accepted are 2 to 100"},
		"no seed":         {Options{Seeds: -1}, few, "-1 seeds"},
		"budget":          {Options{Budget: 0.7}, few, "budget 0.7; accepted is"},
		"feature":         {Options{Without: []string{"nothing"}}, few, `no features "nothing"`},
		"few tasks":       {Options{}, few, `agent "support": 3 tasks to learn from, too few for 5 folds`},
		"few calls":       {Options{Folds: 2}, few, `agent "support", fold 1 of 2: `},
		"attacks only":    {Options{}, attacks, "no benign calls"},
		"nothing":         {Options{}, empty, "no calls in " + empty},
		"of nobody":       {Options{Workload: "billing"}, few, `no calls of the workload or agent "billing" in ` + few},
		"not what it was": {Options{}, put(t, filepath.Join(t.TempDir(), "x"), []byte("x")), "x:1: not a line of JSON"},
	} {
		if _, err := Evaluate(t.Context(), open(t, tc.in), tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// An agent of which there is too little does not keep others from being judged.
func TestEvaluateLeavesOutWhatIsTooLittle(t *testing.T) {
	dir := t.TempDir()
	a, b := put(t, filepath.Join(dir, "a"), recording(t, "support", 30, 6)), put(t, filepath.Join(dir, "b"), recording(t, "billing", 2, 4))
	r := evaluate(t, least, a, b)
	if len(r.Agents) != 1 || r.Agents[0].Name != "support" || stage(r, "first").All.Positives != 6 || len(r.Budgets) != 1 {
		t.Errorf("%+v, %+v", r.Agents, r.Budgets)
	}
	if all := strings.Join(r.Notes, "\n"); !strings.Contains(all, `agent "billing": 2 tasks to learn from, too few for 3 folds`) || strings.Contains(all, "no benign calls") {
		t.Errorf("notes %q", r.Notes)
	}
	_, err := Evaluate(t.Context(), open(t, put(t, filepath.Join(dir, "c"), recording(t, "one", 1, 4)), b), least)
	if err == nil || !strings.Contains(err.Error(), `agent "one": one task`) || !strings.Contains(err.Error(), `agent "billing"`) {
		t.Errorf("of two that are too little: %v", err)
	}
}

// Recordings that count sessions anew for each model are of as many sessions as there are lines, and none carries another's score.
func TestSessionsOfTheSameName(t *testing.T) {
	once := recording(t, "support", 30, 9)
	twice := append(bytes.Clone(once), bytes.ReplaceAll(once, []byte(`"model":"gpt-5-mini"`), []byte(`"model":"gpt-5"`))...)
	if r := evaluate(t, least, put(t, filepath.Join(t.TempDir(), "f"), twice)); r.Counts.Sessions != 78 || stage(r, "session").All.Positives != 18 || r.Agents[0].Sessions != 60 {
		t.Errorf("%+v, %+v", r.Counts, r.Agents)
	}
}

// Where nobody says when an attack begins, sessions are compared, and the report speaks of nothing else.
func TestEvaluateWithoutStages(t *testing.T) {
	bare := regexp.MustCompile(`"first_exposed":true,|,?"stage":"[a-z]*"`).ReplaceAll(recording(t, "support", 30, 9), nil)
	r := evaluate(t, least, put(t, filepath.Join(t.TempDir(), "f"), bare))
	if len(r.Stages) != 1 || r.Stages[0].Name != "session" || r.Stages[0].Table.All.Positives != 9 || r.Attacked() {
		t.Errorf("%+v", r.Stages)
	}
	if html := page(t, r); strings.Contains(strings.ToLower(html), "first exposed") {
		t.Error("the page speaks of first exposed calls")
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "stage") }) {
		t.Errorf("notes %q", r.Notes)
	}
}

// TestRecordedAgents evaluates recorded agents, where the recordings lie beside the project. The bars are well under what is measured.
func TestRecordedAgents(t *testing.T) {
	if testing.Short() {
		t.Skip("models of recorded agents: make unit trains them without the race detector")
	}
	path := filepath.Join("..", "..", "..", "shared", "data", "agents", "agentdojo.jsonl.gz")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no recorded agent traffic at %s; it is not part of the project", path)
	}
	r := evaluate(t, Options{Seeds: 1, Resampling: Resampling{Samples: 20, Confidence: 0.95}}, path)
	if first := stage(r, "first").All; first.AUC.Value < 0.98 || first.TPR[2].Value < 0.8 {
		t.Errorf("first exposed call: %+v", first)
	}
	if hijacked := stage(r, "hijacked_carried").All; hijacked.AUC.Value < 0.98 {
		t.Errorf("hijacked calls: %+v", hijacked)
	}
	if f := r.Budgets[0].Realised; f.Value > 0.05 {
		t.Errorf("realised %+v for %v", f, r.Budget)
	}
}
