package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	in            []string
	namespace     string
	allNamespaces bool
	model         string
	id            string
	all, input    bool
}

// NewExplain returns the command "explain".
func NewExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [flags] ID|FILE",
		Short: "Show a decision: rule, features, contributions and the policy's input",
		Long: `Show a recorded decision. It is looked for among those of the commands that ran under "sallyport exec" on this
machine, in the files of --in, or, with -n or -A, in the logs of a cluster's sidecars. The beginning of an ID will
do where it is only one's. Of a file of records, the one with the highest score is shown.

With a model at hand, that of --model or what exec has learned of the command, the chart shows each feature
against the calls that the model learned from, and what it did to the score; otherwise it shows those that the
record names. "usual" is what seven in eight of those calls have, and in the strip beside it

  ──┼───     ●

the line is that range with its middle, and the dot the call's value.

A contribution is in units of distance: how much farther than an ordinary call this one is from the calls that
were learned, in this feature. Positive contributions make a call more anomalous. They say what the forest did,
not what caused the call.`,
		Example: `  sallyport explain 01a205f1-546b
  sallyport explain -n agents --input 01a205f1-546b-7cc1-9394-277c26b664f9
  sallyport explain --model support.model --in decisions.jsonl 01a205f1-546b
  sallyport explain --model support.model decisions.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			o.id = args[0]
			out := cmd.OutOrStdout()
			return explain(cmd.Context(), cmd.InOrStdin(), out, record.Colours(out), os.Getenv, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.in, "in", nil, "file of decision records, instead of this machine's; may be repeated; - is standard input")
	f.StringVarP(&o.namespace, "namespace", "n", "", "look in the logs of the sidecars of this namespace")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "look in the logs of all sidecars")
	f.StringVar(&o.model, "model", "", "file with the model")
	f.BoolVar(&o.all, "all", false, "show features without a part in the score as well")
	f.BoolVar(&o.input, "input", false, "show the input that the policy decided on, as JSON")
	cmd.MarkFlagsMutuallyExclusive("in", "namespace", "all-namespaces")
	return cmd
}

// minID is how much of an ID must be given, if not all of it: its time, to the millisecond.
const minID = 13

// find looks for the record with an ID, or with the only one that begins so.
func find(ctx context.Context, stdin io.Reader, getenv func(string) string, o *explainOptions) (*telemetry.Record, error) {
	found := map[string]*telemetry.Record{}
	if st, err := os.Stat(o.id); err == nil && st.Mode().IsRegular() && len(o.in) == 0 && o.namespace == "" && !o.allNamespaces {
		return highest(o.id)
	}
	take := func(r *telemetry.Record) error {
		if r.ID == o.id || len(o.id) >= minID && strings.HasPrefix(r.ID, o.id) {
			found[r.ID] = r
		}
		return nil
	}
	where := strings.Join(o.in, ", ")
	if o.namespace != "" || o.allNamespaces {
		c, err := record.OpenCluster(o.namespace, o.allNamespaces)
		if err != nil {
			return nil, err
		}
		pods, err := c.Read(ctx, take)
		if err != nil {
			return nil, err
		}
		where = fmt.Sprintf("the logs of %d sidecars", pods)
	} else {
		files := o.in
		if len(files) == 0 {
			dir, err := execute.StateDir(getenv)
			if err != nil {
				return nil, err
			}
			files = []string{execute.RecordsFile(dir)}
			where = files[0]
		}
		if err := record.ReadAll(stdin, files, func(_ string, r *telemetry.Record) error { return take(r) }); err != nil {
			return nil, err
		}
	}
	switch ids := slices.Sorted(maps.Keys(found)); len(ids) {
	case 0:
		if len(o.id) < minID {
			where += fmt.Sprintf(" (the beginning of an ID must be of %d characters at least)", minID)
		}
		return nil, fmt.Errorf("no record %q in %s", o.id, where)
	case 1:
		return found[ids[0]], nil
	default:
		return nil, fmt.Errorf("%d records in %s begin with %q, such as %s and %s", len(ids), where, o.id, ids[0], ids[1])
	}
}

// highest is the record of a file with the highest score.
func highest(file string) (*telemetry.Record, error) {
	var top *telemetry.Record
	err := record.ReadAll(nil, []string{file}, func(_ string, r *telemetry.Record) error {
		if top == nil || r.Anomaly.Score > top.Anomaly.Score {
			top = r
		}
		return nil
	})
	if err == nil && top == nil {
		err = fmt.Errorf("no decision records in %s", file)
	}
	return top, err
}

// modelFor is the model to explain a record with: that of the option, else what exec has learned of the command; nil where there is none.
func modelFor(getenv func(string) string, o *explainOptions, r *telemetry.Record) (*detector.Model, error) {
	file := o.model
	if file == "" {
		dir, err := execute.StateDir(getenv)
		if err != nil || r.Workload.Namespace != execute.Namespace {
			return nil, nil //nolint:nilerr // a record from elsewhere has no model here
		}
		if file = execute.ModelFile(dir, r.Workload.Name); file == "" {
			return nil, nil
		}
	}
	m, err := loadModel(file)
	if errors.Is(err, fs.ErrNotExist) && o.model == "" {
		return nil, nil
	}
	return m, err
}

func explain(ctx context.Context, stdin io.Reader, out io.Writer, colour bool, getenv func(string) string, o explainOptions) error {
	r, err := find(ctx, stdin, getenv, &o)
	if err != nil {
		return err
	}
	p := painter{record.Painter{Colour: colour}}
	p.decision(out, r)
	if o.input {
		b, err := json.MarshalIndent(inputOf(r), "", "  ")
		if err != nil {
			return fmt.Errorf("encode the input: %w", err)
		}
		fmt.Fprintf(out, "\ninput       %s\n", b)
	}
	m, err := modelFor(getenv, &o, r)
	if err != nil {
		return err
	}
	row, _, err := detector.FromRecord(r)
	switch {
	case errors.Is(err, detector.ErrNoFeatures):
		fmt.Fprintln(out, "\nThe record has no features: the call could not be read, or was none to a model.")
		return nil
	case err != nil && m != nil:
		return err
	}
	if m != nil && m.Digest() != r.Anomaly.ModelDigest && m.Baseline() != nil && len(row.Evidence) > 0 {
		e, err := features.DecodeEvidence(row.Evidence)
		if err != nil {
			return fmt.Errorf("record %s: %w", record.Clean(r.ID), err)
		}
		m.Baseline().Features(&row.Vector, e) // what this model would have seen, and not the one that judged
	}
	p.score(out, r, m, &row.Vector)
	switch {
	case m != nil:
		p.chart(out, m.Contributions(&row.Vector), m.Ranges(), m.Unit(), o.all)
	case len(r.Anomaly.TopFeatures) > 0:
		p.chart(out, r.Anomaly.TopFeatures, nil, 0, true)
		fmt.Fprintln(out, "these raised the score most; --model FILE shows all")
	default:
		fmt.Fprintln(out, "\nThere is no model to explain the score with: give one by --model.")
	}
	return nil
}

// inputOf is what the policy decided on, as far as a record tells: all of it but what of the response a response's decision saw.
func inputOf(r *telemetry.Record) map[string]any {
	return map[string]any{
		"version": policy.InputVersion, "id": r.ID, "time_ns": r.Time.UnixNano(), "workload": r.Workload, "destination": r.Destination,
		"call": r.Call, "session": r.Session, "anomaly": r.Anomaly,
	}
}

// painter writes in colour or without.
type painter struct{ record.Painter }

func (p painter) decision(out io.Writer, r *telemetry.Record) {
	code := record.Green
	if r.Outcome != telemetry.OutcomeReleased {
		code = record.Red
	}
	fmt.Fprintf(out, "%s  %s%s\n", p.In(record.Bold, record.Clean(r.ID)), p.In(code, record.Clean(string(r.Outcome))), when(!r.Time.IsZero(), "  "+r.Time.UTC().Format(time.RFC3339)))
	if r.Workload != (policy.Workload{}) {
		fmt.Fprintf(out, "workload    %s\n", workloadName(r.Workload))
	}
	switch {
	case r.Destination.Host == "": // of a recording
		fmt.Fprintf(out, "call        model %s\n", record.Clean(r.Call.Model))
	case r.Call.Model != "":
		fmt.Fprintf(out, "call        %s to %s, model %s, %d messages\n", record.Clean(r.Call.Surface), record.Clean(r.Destination.Host), record.Clean(r.Call.Model), r.Call.Messages)
	default:
		fmt.Fprintf(out, "call        to %s\n", record.Clean(r.Destination.Host))
	}
	fmt.Fprintf(out, "session     %s, %d calls before, worst percentile %.4f%s\n", record.Clean(r.Session.ID), r.Session.Calls, r.Session.MaxPercentile, when(r.Session.Tainted, ", tainted"))
	fmt.Fprintf(out, "decision    %s%s%s\n", record.Clean(string(r.Action)), when(r.Rule != "", " by "+record.Clean(r.Rule)), when(r.Fault != "", ", fault "+record.Clean(r.Fault)))
	for _, reason := range r.Reasons {
		fmt.Fprintf(out, "            %s: %s\n", record.Clean(reason.Rule), record.Clean(reason.Message))
	}
}

func (p painter) score(out io.Writer, r *telemetry.Record, m *detector.Model, v *features.Vector) {
	if r.Anomaly.Ready {
		p.anomaly(out, "score", r.Anomaly)
	} else {
		fmt.Fprintln(out, "score       none: the workload's model was not yet learned")
	}
	if m != nil && m.Digest() != r.Anomaly.ModelDigest {
		p.anomaly(out, "by this", m.Judge(v))
		fmt.Fprintln(out, "            this model is not the one that judged the call; what follows is by it")
	}
}

func (p painter) anomaly(out io.Writer, what string, a policy.Anomaly) {
	verdict := p.In(record.Green, "within the threshold")
	if a.Exceeds {
		verdict = p.In(record.Red, "exceeds the threshold")
	}
	fmt.Fprintf(out, "%-11s %.4f, %s of %.4f, percentile %.4f\n", what, a.Score, verdict, a.Threshold, a.Percentile)
}

// barCells is the length of the longest bar; a cell is drawn in eighths. stripCells is that of a strip.
const (
	barCells   = 16
	stripCells = 17
)

// chart draws the features, the one that raised the score most first, and, where ranges are known, each in its range. What is under a hundredth of the largest is left
// out.
func (p painter) chart(out io.Writer, all []policy.Feature, ranges []detector.Range, unit float64, every bool) {
	largest := 0.0
	for _, f := range all {
		largest = max(largest, math.Abs(f.Contribution))
	}
	learned := ""
	if ranges != nil {
		learned = fmt.Sprintf("  %13s  %-*s", "usual", stripCells, "")
	}
	fmt.Fprintf(out, "\n%-26s %14s%s  %12s\n", "feature", "value", learned, "contribution")
	hidden := 0
	for _, f := range all {
		if !every && (f.Contribution == 0 || math.Abs(f.Contribution) < largest/100) {
			hidden++
			continue
		}
		code := record.Red
		if f.Contribution < 0 {
			code = record.Green
		}
		if ranges != nil {
			usual, strip := placed(f, ranges)
			learned = fmt.Sprintf("  %13s  %s", usual, strip)
		}
		row := fmt.Sprintf("%-26s %14s%s  %+12.3f  %s", f.Name, inUnit(f), learned, f.Contribution, p.In(code, bar(math.Abs(f.Contribution), largest)))
		fmt.Fprintln(out, strings.TrimRight(row, " "))
	}
	if hidden > 0 {
		fmt.Fprintf(out, "%d more with next to no part (--all shows them)\n", hidden)
	}
	if unit > 0 {
		fmt.Fprintf(out, "an ordinary call is at a distance of %.2f\n", unit)
	}
}

// placed is the usual range of a feature in words, and a strip that shows where its value is.
func placed(f policy.Feature, ranges []detector.Range) (usual, strip string) {
	blank := strings.Repeat(" ", stripCells)
	i := slices.IndexFunc(features.Schema[:], func(s features.Feature) bool { return s.Name == f.Name })
	if i < 0 || i >= len(ranges) || math.IsNaN(ranges[i].Middle) || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		return "", blank
	}
	r := ranges[i]
	usual = bare(i, r.Low)
	if high := bare(i, r.High); high != usual {
		usual += " to " + high
	}
	from, to := min(r.Low, f.Value), max(r.High, f.Value)
	at := func(v float64) int {
		if !(to > from) {
			return 0
		}
		return int(math.Round((v - from) / (to - from) * (stripCells - 1)))
	}
	cells := []rune(blank)
	for c := at(r.Low); c <= at(r.High); c++ {
		cells[c] = '─'
	}
	cells[at(r.Middle)] = '┼'
	cells[at(f.Value)] = '●'
	return usual, string(cells)
}

// bare is a feature's value as it was before its transform, without its unit.
func bare(feature int, value float64) string {
	switch s := features.Schema[feature]; {
	case s.Transform == "log1p":
		return fmt.Sprintf("%.4g", math.Expm1(value))
	case s.Transform == "flag" && value == 0:
		return "no"
	case s.Transform == "flag":
		return "yes"
	case s.Unit == "share":
		return fmt.Sprintf("%.1f", value*100)
	default:
		return fmt.Sprintf("%.3g", value)
	}
}

// inUnit writes a feature's value as it was before its transform.
func inUnit(f policy.Feature) string {
	i := slices.IndexFunc(features.Schema[:], func(s features.Feature) bool { return s.Name == f.Name })
	if i < 0 {
		return fmt.Sprintf("%.4g", f.Value)
	}
	switch s := features.Schema[i]; {
	case s.Transform == "flag":
		return bare(i, f.Value)
	case s.Unit == "share":
		return bare(i, f.Value) + " %"
	default:
		return bare(i, f.Value) + " " + short(s.Unit)
	}
}

func short(unit string) string {
	switch unit {
	case "bits per byte":
		return "bits"
	case "calls per minute":
		return "/min"
	case "seconds":
		return "s"
	}
	return unit
}

// bar draws part of whole as a bar of eighths of cells.
func bar(part, whole float64) string {
	if !(whole > 0) || !(part >= 0) {
		return ""
	}
	eighths := int(math.Round(part / whole * barCells * 8))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string(rune('█' + 8 - rest)) // ▏▎▍▌▋▊▉ follow █, the widest first
	}
	return s
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}
