package detect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/evaluation"
	"sallyport.dev/sallyport/pkg/evaluation/evaluationtest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// sessions writes a file of recorded sessions.
func sessions(t *testing.T, agent string, seed uint64, benign, attacked int) string {
	t.Helper()
	var b bytes.Buffer
	if err := evaluationtest.WriteSessions(&b, agent, seed, benign, attacked); err != nil {
		t.Fatal(err)
	}
	return write(t, agent+".jsonl", b.String())
}

var digest = regexp.MustCompile(`[0-9a-f]{64}`)

func TestEval(t *testing.T) {
	in, more := sessions(t, "support", 1, 60, 15), sessions(t, "billing", 2, 40, 5)
	report := filepath.Join(t.TempDir(), "report.html")
	out, progress, err := run(NewEval(), "", "--in", in, "--in", more, "--folds", "3", "--seeds", "1", "--samples", "20", "--without", "time", "--html", report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"of 120 sessions: ", "3 folds, 1 seed\n", "without time.gap, time.rate", "\nFirst exposed call\n", "\nHijacked calls, with what the session carries\n", "\nSessions\n", "\n  billing ", "\n  important_instructions ",
		"budget of 1 %", "\nsupport ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, " \n") {
		t.Errorf("spaces at the ends of lines:\n%s", out)
	}
	if strings.ContainsAny(progress, "\r\x1b") {
		t.Errorf("a moving line where there is no terminal: %q", progress)
	}
	page, err := os.ReadFile(report)
	if err != nil || !strings.HasPrefix(string(page), "<!DOCTYPE html>") || !strings.HasSuffix(string(page), "</html>\n") {
		t.Errorf("%v, a page of %d bytes", err, len(page))
	}

	out, _, err = run(NewEval(), "", "--in", in, "--folds", "2", "--seeds", "1", "--samples", "10", "--json")
	var parsed struct {
		Stages []struct{ Name string }
	}
	if err != nil || json.Unmarshal([]byte(out), &parsed) != nil || len(parsed.Stages) == 0 || parsed.Stages[0].Name != "first" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEvalModel(t *testing.T) {
	model := filepath.Join(t.TempDir(), "m.model")
	if _, _, err := run(NewTrain(), "", "--in", sessions(t, "support", 1, 120, 10), "--out", model); err != nil {
		t.Fatal(err)
	}
	out, _, err := run(NewEval(), "", "--model", model, "--in", sessions(t, "support", 2, 30, 20), "--samples", "50")
	if err != nil {
		t.Fatal(err)
	}
	if !digest.MatchString(out) || !strings.Contains(out, "judged by  model ") {
		t.Errorf("%s", out)
	}
}

// figures of a report that no model made, so that what is printed changes only with what prints.
func figure(value, low, high float64) evaluation.Figure {
	return evaluation.Figure{Value: value, Low: low, High: high}
}

func TestPrintReport(t *testing.T) {
	nan := math.NaN()
	of := func(name string, positives int) evaluation.Line {
		return evaluation.Line{Name: name, Positives: positives, Negatives: 653, AUC: figure(0.9987, 0.9971, 0.9996), TPR: []evaluation.Figure{figure(0.5, nan, nan), figure(0.9612, 0.94, 0.97), figure(nan, nan, nan)}}
	}
	r := &evaluation.Report{
		Schema: features.SchemaID, Without: []string{"time.gap"}, Folds: 5, Seeds: 3, Budget: 0.01, Confidence: 0.95, Samples: 1000, Rates: evaluation.Rates,
		Counts: evaluation.Counts{Calls: 17790, Sessions: 5444, Benign: 653, Unlabelled: 1, Attack: 16886, Exposed: 9992, AttackerTask: 251, Featureless: 2, Refused: 3},
		Stages: []evaluation.Asked{{Name: "first", Title: "First exposed call", Doc: "What it says.", Table: evaluation.Table{
			All: of("all", 4218), FamilyMean: of("mean over families", 4218),
			Agents:   []evaluation.Line{of("banking", 1380), of("an agent with a name that goes on \x1b[31m and on", 2838)},
			Families: []evaluation.Line{of("ignore_previous", 323)},
		}}},
		Budgets: []evaluation.Spent{{Name: "all", Calls: 653, Realised: figure(0.0117, 0.004, 0.02), Attacks: 4218, Found: figure(0.92, 0.9, 0.94)}, {Name: "banking", Calls: 171, Realised: figure(nan, nan, nan), Found: figure(nan, nan, nan)}},
		Agents:  []evaluation.Agent{{Name: "banking", Supported: false}}, Notes: []string{"what is to be known"},
	}
	var out bytes.Buffer
	printReport(&out, r)
	golden(t, "report.txt", out.String())
	r.Model, r.Stages = strings.Repeat("0", 64), nil
	out.Reset()
	printReport(&out, r)
	if strings.Contains(out.String(), "found") || !strings.Contains(out.String(), "judged by  model 000") {
		t.Errorf("%s", out.String())
	}
}

func TestDriftTable(t *testing.T) {
	m, err := detector.Train(detectortest.Rows(1, 300), detector.Options{Trees: 10})
	if err != nil {
		t.Fatal(err)
	}
	d := iforest.Drift{Rows: 412, Score: iforest.Shift{PSI: 0.31, PSIChance: 0.06, KS: 0.2, KSChance: 0.13}, Features: make([]iforest.Shift, features.Size)}
	d.Features[7] = iforest.Shift{PSI: 0.4, PSIChance: 0.06, KS: 0.3, KSChance: 0.13}
	d.Features[3] = iforest.Shift{PSI: 1.4, PSIChance: 0.06, KS: 0.5, KSChance: 0.13}
	d.Features[9] = iforest.Shift{PSI: 0.05, PSIChance: 0.06, KS: 0.01, KSChance: 0.13}
	var out bytes.Buffer
	driftTable(&out, m, d, ordered(d), "7 of attacks left out", false)
	golden(t, "drift.txt", out.String())
}

func TestEvalErrors(t *testing.T) {
	in := sessions(t, "support", 1, 5, 0)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nothing to read":   {[]string{"--seeds", "1"}, `"in" not set`},
		"no such file":      {[]string{"--in", "nowhere"}, "nowhere"},
		"model that trains": {[]string{"--in", in, "--model", "m", "--folds", "3"}, "--folds is for training"},
		"no model":          {[]string{"--in", in, "--model", "nowhere"}, "nowhere"},
		"budget":            {[]string{"--in", in, "--budget", "0.7"}, "--budget 0.7: accepted is"},
		"samples":           {[]string{"--in", in, "--samples", "1"}, "--samples 1: accepted are"},
		"group":             {[]string{"--in", in, "--without", "words"}, `no features "words"; accepted are the groups lexicon, envelope`},
		"page's place":      {[]string{"--in", sessions(t, "support", 1, 60, 0), "--seeds", "1", "--samples", "2", "--html", filepath.Join(t.TempDir(), "no", "r.html")}, "write report: "},
	} {
		if _, _, err := run(NewEval(), "", tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// A model comes out the same from sessions, from a Parquet file of their features and from JSON lines.
func TestTrainReadsWhatFeaturesWrites(t *testing.T) {
	in := sessions(t, "support", 1, 100, 10)
	dir := t.TempDir()
	var models []string
	for _, name := range []string{"", "calls.parquet", "calls.jsonl"} {
		from := in
		if name != "" {
			from = filepath.Join(dir, name)
			out, _, err := run(NewFeatures(), "", "--in", in, "--out", from)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("calls of 110 sessions written to %s\n", from); !strings.HasSuffix(out, want) {
				t.Errorf("%q, want %q", out, want)
			}
		}
		model := filepath.Join(dir, "model")
		out, _, err := run(NewTrain(), "", "--in", from, "--out", model)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "of attacks") || !strings.HasPrefix(out, "workload   support\n") {
			t.Errorf("%s", out)
		}
		b, err := os.ReadFile(model)
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, string(b))
	}
	if models[0] != models[1] || models[0] != models[2] {
		t.Error("models differ")
	}
}

func TestFeaturesOfRecords(t *testing.T) {
	all := records(20)
	all[3].Schema, all[3].Features = "", nil
	to := filepath.Join(t.TempDir(), "calls.parquet")
	out, _, err := run(NewFeatures(), encode(t, all...), "--in", "-", "--out", to)
	if err != nil || !strings.HasPrefix(out, "19 calls of ") || !strings.HasSuffix(out, "; 1 without features left out\n") {
		t.Errorf("%q, %v", out, err)
	}
	back := filepath.Join(t.TempDir(), "calls.jsonl")
	if out, _, err = run(NewFeatures(), "", "--in", to, "--out", back); err != nil || !strings.HasPrefix(out, "19 calls of ") {
		t.Errorf("%q, %v", out, err)
	}
	b, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(b), "\n"); !strings.Contains(first, `"id":"d-0000"`) || !strings.Contains(first, features.SchemaID) {
		t.Errorf("%s", first)
	}
	for _, args := range [][]string{{"--in", to, "--out", "calls.csv"}, {"--in", "nowhere", "--out", back}, {"--in", to, "--out", filepath.Join(t.TempDir(), "no", "x.jsonl")}} {
		if _, _, err := run(NewFeatures(), "", args...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	nothing := filepath.Join(filepath.Dir(to), "nothing.parquet")
	for want, args := range map[string][]string{
		"no calls of the workload billing; there are calls of:\n  ": {"--workload", "billing", "--in", to},
		"no calls with features in standard input: 1 without":       {"--in", "-"},
		"no calls in ": {"--in", write(t, "empty", "")},
	} {
		if _, _, err := run(NewFeatures(), encode(t, all[3]), append(args, "--out", nothing)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(to))
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v", left)
	}
}

func TestDrift(t *testing.T) {
	before, after := sessions(t, "support", 1, 120, 0), sessions(t, "support", 2, 80, 20)
	out, _, err := run(NewDrift(), "", "--in", before, "--against", after, "--fail-over", "100")
	if err != nil || !strings.Contains(out, " that the model learned from; ") || !strings.Contains(out, "\nscore ") {
		t.Errorf("%v\n%s", err, out)
	}

	// The same agent with other tools: what they return is new.
	text, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	moved := write(t, "moved.jsonl", strings.NewReplacer("read_ticket", "fetch_case", "Keep the", "Bitte halten Sie", "is calibrated with", "wird kalibriert mit").Replace(string(text)))
	model := filepath.Join(t.TempDir(), "m.model")
	if _, _, err := run(NewTrain(), "", "--in", before, "--out", model); err != nil {
		t.Fatal(err)
	}
	out, _, err = run(NewDrift(), "", "--model", model, "--against", moved, "--fail-over", "0.25")
	var exit *execute.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("%v, want status 3", err)
	}
	if !strings.Contains(out, "\nnovelty.") || !strings.Contains(out, "  *\n") {
		t.Errorf("%s", out)
	}
	if out, _, err = run(NewDrift(), "", "--model", model, "--against", moved, "--all"); err != nil || strings.Count(out, "\n") != features.Size+4 {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = run(NewDrift(), "", "--model", model, "--against", moved, "--json")
	var parsed struct {
		Score    struct{ PSI float64 }
		Features []struct{ Name string }
	}
	if err != nil || json.Unmarshal([]byte(out), &parsed) != nil || len(parsed.Features) != features.Size || parsed.Score.PSI == 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDriftErrors(t *testing.T) {
	in := sessions(t, "support", 1, 3, 0)
	model := filepath.Join(t.TempDir(), "m")
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"neither":     {[]string{"--against", in}, "at least one of the flags"},
		"both":        {[]string{"--against", in, "--in", in, "--model", model}, "none of the others can be"},
		"no model":    {[]string{"--against", in, "--model", model}, "m: no such file"},
		"too few":     {[]string{"--against", in, "--in", sessions(t, "support", 1, 1, 0)}, "too few calls"},
		"stdin twice": {[]string{"--against", "-", "--in", "-"}, "standard input cannot be both"},
		"negative":    {[]string{"--against", in, "--in", in, "--fail-over", "-1"}, "--fail-over -1: accepted is"},
	} {
		if _, _, err := run(NewDrift(), "", tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	enough := sessions(t, "support", 1, 60, 0)
	if _, _, err := run(NewDrift(), "", "--in", enough, "--workload", "support", "--against", enough, "--against", sessions(t, "billing", 1, 6, 0)); err != nil {
		t.Errorf("against the calls of one of two workloads: %v", err)
	}
	if _, _, err := run(NewTrain(), "", "--in", enough, "--out", model); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(NewDrift(), "", "--model", model, "--against", enough, "--against", sessions(t, "billing", 1, 6, 0)); err == nil || !strings.Contains(err.Error(), "calls of 2 workloads in ") {
		t.Errorf("against calls of two workloads: %v", err)
	}
	if _, _, err := run(NewDrift(), "", "--in", enough, "--against", sessions(t, "support", 1, 0, 2)); err == nil || !strings.Contains(err.Error(), "no calls to compare") {
		t.Errorf("against attacks: %v", err)
	}
}

func TestExplainFile(t *testing.T) {
	model, r := explained(t)
	in := write(t, "calls.jsonl", encode(t, records(3)...)+encode(t, r))
	for _, args := range [][]string{{"--model", model, in}, {"--model", model, "--in", in}, {in}} {
		out, _, err := run(NewExplain(), "", args...)
		if err != nil || !strings.HasPrefix(out, r.ID+"  refused") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	for in, want := range map[string]string{"": "no calls in", encode(t, records(3)...): "none of 3 calls in", `{"msg":"started"}`: "no calls in"} {
		if _, _, err := run(NewExplain(), "", write(t, "calls", in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Whatever train reads, explain shows: by a model, or by a baseline that it learns from other calls.
func TestExplainRecordings(t *testing.T) {
	in, more := sessions(t, "support", 1, 100, 10), sessions(t, "billing", 2, 60, 0)
	dir := t.TempDir()
	model := filepath.Join(dir, "support.model")
	if _, _, err := run(NewTrain(), "", "--in", in, "--out", model); err != nil {
		t.Fatal(err)
	}
	files := []string{in}
	for _, name := range []string{"calls.parquet", "calls.jsonl"} {
		files = append(files, filepath.Join(dir, name))
		if _, _, err := run(NewFeatures(), "", "--in", in, "--in", more, "--out", files[len(files)-1]); err != nil {
			t.Fatal(err)
		}
	}
	first := ""
	for _, file := range files {
		out, _, err := run(NewExplain(), "", "--model", model, "--workload", "support", file)
		if err != nil {
			t.Fatal(err)
		}
		// The highest score is an attack's.
		for _, want := range []string{"support/10", "workload    support, task task_", "session     support/10", "\nlabel       attack ", "exposed\n", "exceeds the threshold", "\nfeature ", "an ordinary call is at a distance of"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: does not say %q:\n%s", file, want, out)
			}
		}
		if strings.Contains(out, "allow") || strings.Contains(out, "released") || strings.Contains(out, "not yet learned") {
			t.Errorf("%s: tells of a decision that nobody made:\n%s", file, out)
		}
		if first == "" {
			first = out
		}
		if out != first {
			t.Errorf("%s: another explanation:\n%s\nthan of the sessions:\n%s", file, out, first)
		}
	}
	id, _, _ := strings.Cut(first, "\n")
	byID, _, err := run(NewExplain(), "", "--model", model, "--in", files[1], id)
	if err != nil || byID != first {
		t.Errorf("by its ID %q: %v\n%s", id, err, byID)
	}

	// By the recording's own calls: without the task of the one that is explained, whose words would not be new.
	for _, args := range [][]string{{"--baseline", in, "--in", files[1], id}, {"--baseline", in, "--workload", "support", files[1]}} {
		out, errs, err := run(NewExplain(), "", args...)
		if err != nil || !strings.HasPrefix(out, id+"\n") || !strings.Contains(out, "exceeds the threshold") || !regexp.MustCompile(`its model is without [0-9]+ calls of the call's own task`).MatchString(out) || !strings.Contains(errs, "learning support from ") {
			t.Errorf("%v: %v\n%s%s", args, err, errs, out)
		}
	}
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"calls of 2 workloads; name one with --workload", []string{"--baseline", files[1], files[1]}},
		{"no calls with features of nobody", []string{"--model", model, "--workload", "nobody", files[1]}},
		{"was judged by a model; judge them by --model or --baseline", []string{in}},
		{"--input: a recorded call was never decided on", []string{"--model", model, "--input", in}},
		{"no record \"nothing-like-it\" in", []string{"--in", in, "nothing-like-it"}},
	} {
		if _, _, err := run(NewExplain(), "", tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.args, err, tc.want)
		}
	}
	if out, _, err := run(NewExplain(), "", "--in", in, id); err != nil || !strings.Contains(out, "There is nothing to compare the call with") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExplainOnThisMachine(t *testing.T) {
	model, r := explained(t)
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	if _, _, err := run(NewExplain(), "", "--model", model, r.ID); err == nil || !strings.Contains(err.Error(), "no decisions were kept on this machine") {
		t.Error(err)
	}
	old := *r
	old.Schema = "sallyport.features/v0" // was written by an earlier version
	old.ID = "older"
	kept := execute.RecordsFile(filepath.Join(state, "sallyport"))
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{kept + ".1": encode(t, &old, r), kept: encode(t, records(2)...)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _, err := run(NewExplain(), "", "--model", model, r.ID)
	if err != nil || !strings.Contains(out, "by ANOM-001") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err = run(NewExplain(), "", old.ID); err != nil || !strings.Contains(out, "these raised the score most") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A whole ID means the call that has it, whatever others begin with it; where several workloads have it, one is to be named.
func TestExplainByID(t *testing.T) {
	all := records(12)
	for i, r := range all {
		r.ID = fmt.Sprintf("a-long-session#%d", i+1)
	}
	in := write(t, "long.jsonl", encode(t, all...))
	out, _, err := run(NewExplain(), "", "--in", in, "a-long-session#1")
	if err != nil || !strings.HasPrefix(out, "a-long-session#1 ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err := run(NewExplain(), "", "--in", in, "a-long-session"); err == nil || !strings.Contains(err.Error(), "begin with") {
		t.Errorf("the beginning of several: %v", err)
	}

	support := sessions(t, "support", 1, 60, 5)
	text, err := os.ReadFile(support)
	if err != nil {
		t.Fatal(err)
	}
	billing := write(t, "billing.jsonl", strings.ReplaceAll(string(text), `"agent":"support"`, `"agent":"billing"`))
	both := []string{"--in", support, "--in", billing, "support/3#1"}
	if _, _, err := run(NewExplain(), "", both...); err == nil || !strings.Contains(err.Error(), "name the workload with --workload:\n  billing (1)\n  support (1)") {
		t.Errorf("an ID of two workloads: %v", err)
	}
	if out, _, err := run(NewExplain(), "", append(both, "--workload", "billing")...); err != nil || !strings.Contains(out, "workload    billing") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A workload is chosen by the same flag everywhere, and what is left out is counted.
func TestOneWorkload(t *testing.T) {
	in, more := sessions(t, "support", 1, 60, 15), sessions(t, "billing", 2, 40, 0)
	out, _, err := run(NewEval(), "", "--in", in, "--in", more, "--folds", "2", "--seeds", "1", "--samples", "5", "--workload", "support")
	if err != nil || !regexp.MustCompile(`, [0-9]+ of other workloads\n`).MatchString(out) || strings.Contains(out, "billing") {
		t.Errorf("%v\n%s", err, out)
	}
	to := filepath.Join(t.TempDir(), "calls.parquet")
	out, _, err = run(NewFeatures(), `{"msg":"x"}`, "--in", in, "--in", more, "--in", "-", "--out", to, "--workload", "support")
	if err != nil || !regexp.MustCompile(` of 75 sessions written to .*; [0-9]+ of other workloads left out, 1 lines of logs passed over\n$`).MatchString(out) {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = run(NewDrift(), "", "--in", in, "--against", more, "--against", in, "--workload", "support")
	if err != nil || !regexp.MustCompile(`learned from; [0-9]+ of attacks left out, [0-9]+ of other workloads left out\n`).MatchString(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

// An interrupt leaves no half of a file, and is not told as an error.
func TestInterrupt(t *testing.T) {
	in, at := sessions(t, "support", 1, 40, 0), t.TempDir()
	for _, c := range []struct {
		cmd   *cobra.Command
		out   string
		until string // what is told before the interrupt comes
	}{
		{NewFeatures(), "calls.parquet", ""},
		{NewTrain(), "support.model", "learning support from"},
	} {
		t.Run(c.cmd.Name(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.until == "" {
				cancel()
			}
			told := &interrupter{until: c.until, interrupt: cancel}
			c.cmd.SetContext(ctx)
			c.cmd.SetOut(io.Discard)
			c.cmd.SetErr(told)
			args := []string{"--in", in, "--out", filepath.Join(at, c.out)}
			if c.until != "" {
				args = append(args, "--min-calls", "16", "--min-sessions", "2")
			}
			c.cmd.SetArgs(args)
			var exit *execute.ExitError
			if err := c.cmd.Execute(); !errors.As(err, &exit) || exit.Code != 130 {
				t.Errorf("%v, want status 130", err)
			}
			if !strings.Contains(told.String(), c.until) {
				t.Errorf("told %q, without %q", told, c.until)
			}
			if left, err := os.ReadDir(at); err != nil || len(left) != 0 {
				t.Errorf("the directory holds %v", left)
			}
		})
	}
}

// interrupter interrupts once something is told.
type interrupter struct {
	bytes.Buffer
	until     string
	interrupt func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	n, err := i.Buffer.Write(b)
	if strings.Contains(i.String(), i.until) {
		i.interrupt()
	}
	return n, err
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := &progress{out: &out, now: func() time.Time { return now }, told: now}
	for i := range 25 {
		now = now.Add(time.Second)
		p.tell("training", i, 25)
	}
	p.end()
	if got, want := out.String(), "training: 9 of 25\ntraining: 19 of 25\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	p.terminal = true
	p.tell("reading", 7, 0)
	now = now.Add(time.Second)
	p.tell("reading", 9, 0)
	now = now.Add(time.Millisecond)
	p.tell("reading", 10, 0)
	p.end()
	p.end()
	if got, want := out.String(), "\r\x1b[Kreading: 7\r\x1b[Kreading: 9\r\x1b[K"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
