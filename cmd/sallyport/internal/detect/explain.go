package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/evaluation"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	input
	namespace     string
	allNamespaces bool
	model         string
	baseline      []string
	id            string // or a file's name, or "" for the call with the highest score
	all, showIn   bool
}

// NewExplain returns the command "explain".
func NewExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [flags] ID|FILE",
		Short: "Show a decision, or a recorded call: rule, features, contributions and the policy's input",
		Long: `Show a recorded decision or call. It is looked for among those of the commands that ran under "sallyport exec" on
this machine, in the files of --in, or, with -n or -A, in the logs of a cluster's sidecars. The beginning of an ID
will do where it is only one's. Without an ID, it is the call of the files with the highest score.

With a baseline at hand, the chart shows each feature against the calls that were learned, and what it did to the
score. That is --model, the calls of --baseline, of which a model is made first without the call's own task or
session, or what exec has learned of the command. Otherwise the chart shows the features that the record names.
"usual" is what seven in eight of the calls learned have, and in the strip beside it

  ──┼───     ●

the line is that range with its middle, and the dot the call's value.

A contribution is in units of distance: how much farther than an ordinary call this one is from the calls that
were learned, in this feature. Positive contributions make a call more anomalous. They say what the forest did,
not what caused the call.

` + accepted,
		Example: `  sallyport explain 01a205f1-546b
  sallyport explain -n agents --input 01a205f1-546b-7cc1-9394-277c26b664f9
  sallyport explain --model support.model --in decisions.jsonl 01a205f1-546b
  sallyport explain --baseline march.parquet --workload support sessions.jsonl.gz`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			o.id = args[0]
		}
		return runs(func(cmd *cobra.Command) error { return o.check() }, func(ctx context.Context, s streams) error {
			return explain(ctx, s, painter{record.Painter{Colour: record.Colours(s.out)}, record.TerminalWidth(s.out)}, os.Getenv, o)
		})(cmd, args)
	}
	f := cmd.Flags()
	o.flag(cmd, "in", "to look in, instead of this machine's decisions")
	o.workloadFlag(cmd)
	f.StringVarP(&o.namespace, "namespace", "n", "", "look in the logs of the sidecars of this namespace")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "look in the logs of all sidecars")
	f.StringVar(&o.model, "model", "", "`file` with the model")
	f.StringArrayVar(&o.baseline, "baseline", nil, "`file` of calls to learn from, instead of a model; may be repeated")
	f.BoolVar(&o.all, "all", false, "show features without a part in the score as well")
	f.BoolVar(&o.showIn, "input", false, "show the input that the policy decided on, as JSON")
	cmd.MarkFlagsMutuallyExclusive("in", "namespace", "all-namespaces")
	cmd.MarkFlagsMutuallyExclusive("model", "baseline")
	return cmd
}

// check finds out what the argument is.
func (o *explainOptions) check() error {
	cluster := o.namespace != "" || o.allNamespaces
	if o.id != "" && len(o.files) == 0 && !cluster {
		if st, err := os.Stat(o.id); err == nil && st.Mode().IsRegular() {
			o.files, o.id = []string{o.id}, ""
		}
	}
	switch {
	case o.id == "" && len(o.files) == 0:
		return errors.New("which call? name a decision's ID, or a file of calls")
	case slices.Contains(o.files, "-") && slices.Contains(o.baseline, "-"):
		return errors.New("standard input cannot be both --in and --baseline")
	}
	return nil
}

func explain(ctx context.Context, s streams, p painter, getenv func(string) string, o explainOptions) error {
	var c *evaluation.Sample
	var m *detector.Model
	var from lesson
	var err error
	if o.model != "" {
		if m, err = loadModel(o.model); err != nil {
			return err
		}
	}
	if o.id != "" {
		if c, err = o.find(ctx, s, getenv); err != nil {
			return err
		}
	}
	if len(o.baseline) > 0 {
		of := input{o.baseline, o.workload}
		if of.workload == "" && c != nil {
			of.workload = c.Subject()
		}
		if from, err = collect(ctx, s, of); err != nil {
			return err
		}
		if c == nil {
			if m, err = from.learn(ctx, s, whatever); err != nil {
				return err
			}
		}
	}
	if c == nil {
		if c, err = o.highest(ctx, s, m); err != nil {
			return err
		}
	}
	left := 0
	if len(o.baseline) > 0 {
		alone := from.without(c)
		if left = len(from.rows) - len(alone.rows); left > 0 || m == nil {
			if m, err = alone.learn(ctx, s, whatever); err != nil {
				return err
			}
		}
	}
	if m == nil && c.Record != nil {
		if m, err = learnedByExec(getenv, c.Record); err != nil {
			return err
		}
	}
	v, err := seen(c, m)
	return p.explanation(s.out, c, m, &v, err, o, left)
}

// seen are a call's features as the model sees them: those recorded where it is the one that judged, and else compared with its baseline.
func seen(c *evaluation.Sample, m *detector.Model) (v features.Vector, err error) {
	if err := c.Decode(); err != nil {
		return v, err
	}
	if m == nil || c.Record != nil && c.Record.Anomaly.ModelDigest == m.Digest() {
		return c.Vector, nil
	}
	return c.Against(m.Baseline())
}

// find looks for the call with an ID, or with the only one that begins so.
func (o *explainOptions) find(ctx context.Context, s streams, getenv func(string) string) (*evaluation.Sample, error) {
	var m matches
	where := o.input.String()
	var unread error // logs that could not be read, which matter if the call is not in the others
	if o.namespace != "" || o.allNamespaces {
		c, err := record.OpenCluster(o.namespace, o.allNamespaces)
		if err != nil {
			return nil, err
		}
		var pods int
		pods, unread = c.Read(ctx, func(r *telemetry.Record) error {
			if s := evaluation.FromRecord(r); o.looksFor(s) {
				m.add(s)
			}
			return nil
		})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		where = "the logs of " + counted(pods, "sidecar", "sidecars")
	} else {
		in := o.input
		if len(in.files) == 0 {
			dir, err := execute.StateDir(getenv)
			if err != nil {
				return nil, err
			}
			if in.files = execute.RecordsFiles(dir); len(in.files) == 0 {
				return nil, fmt.Errorf("no decisions were kept on this machine (%s); name a file by --in or a cluster's namespace by -n", execute.RecordsFile(dir))
			}
			where = in.String()
		}
		want := func(s *evaluation.Sample) bool {
			if !o.looksFor(s) {
				return false
			}
			if s.Record != nil {
				m.add(s) // whether or not its features can be used
				return false
			}
			return true
		}
		err := in.use(s, func(files *evaluation.Files, _ *progress) error {
			return files.Each(ctx, want, func(s *evaluation.Sample) error { m.add(s); return nil })
		})
		if err != nil {
			return nil, err
		}
	}
	c, err := m.only(o.id, where)
	if c == nil && unread != nil {
		err = errors.Join(err, unread)
	}
	return c, err
}

// looksFor says whether a call may be the one whose ID was given, or the beginning of it.
func (o *explainOptions) looksFor(s *evaluation.Sample) bool {
	return record.Matches(s.ID, o.id) && s.Of(o.workload)
}

// matches are calls whose ID is the one given, or begins with it.
type matches []*evaluation.Sample

// add takes a call that is not among them yet.
func (m *matches) add(s *evaluation.Sample) {
	if !slices.ContainsFunc(*m, func(other *evaluation.Sample) bool { return other.ID == s.ID && other.Subject() == s.Subject() }) {
		*m = append(*m, s)
	}
}

// only returns the one call that is meant: one that has the whole ID comes before those that begin with it.
func (m matches) only(id, where string) (*evaluation.Sample, error) {
	if whole := slices.DeleteFunc(slices.Clone(m), func(s *evaluation.Sample) bool { return s.ID != id }); len(whole) > 0 {
		m = whole
	}
	switch {
	case len(m) == 1:
		return m[0], nil
	case len(m) == 0:
		if len(id) < record.MinID {
			where += fmt.Sprintf(" (the beginning of an ID must be of %d characters at least)", record.MinID)
		}
		return nil, fmt.Errorf("no record %q in %s", id, where)
	case m[0].ID == m[1].ID:
		workloads := map[string]int{}
		for _, s := range m {
			workloads[subject(s)]++
		}
		return nil, fmt.Errorf("%d calls in %s have the ID %q; name the workload with --workload:%s", len(m), where, id, list(workloads))
	}
	return nil, fmt.Errorf("%d records in %s begin with %q, such as %q and %q", len(m), where, id, m[0].ID, m[1].ID)
}

// highest is the call of the files with the highest score: by the model, or as it was judged.
func (o *explainOptions) highest(ctx context.Context, s streams, m *detector.Model) (*evaluation.Sample, error) {
	var top *evaluation.Sample
	highest := -1.0
	calls := 0
	take := func(s *evaluation.Sample, score float64) {
		if score > highest {
			top, highest = s, score
		}
	}
	err := o.use(s, func(files *evaluation.Files, p *progress) error {
		want := func(s *evaluation.Sample) bool {
			calls++
			p.tell("read", calls, 0)
			if !s.Of(o.workload) || !s.HasFeatures() {
				return false
			}
			if m == nil && s.Record != nil && s.Record.Anomaly.Ready {
				take(s, s.Record.Anomaly.Score)
			}
			return m != nil
		}
		return files.Each(ctx, want, func(s *evaluation.Sample) error {
			v, err := seen(s, m)
			if err == nil {
				take(s, m.Judge(&v).Score)
			}
			return err
		})
	})
	where := o.input.String()
	switch {
	case err != nil || top != nil:
		return top, err
	case calls == 0:
		return nil, fmt.Errorf("no calls in %s", where)
	case m != nil:
		return nil, fmt.Errorf("no calls with features%s in %s", when(o.workload != "", " of "+o.workload), where)
	}
	return nil, fmt.Errorf("none of %s in %s was judged by a model; judge them by --model or --baseline, or name one by its ID", counted(calls, "call", "calls"), where)
}

// learnedByExec is the model of what exec has learned of a command; nil where there is none.
func learnedByExec(getenv func(string) string, r *telemetry.Record) (*detector.Model, error) {
	dir, err := execute.StateDir(getenv)
	if err != nil || r.Workload.Namespace != execute.Namespace {
		return nil, nil //nolint:nilerr // a record from elsewhere has no model here
	}
	file := execute.ModelFile(dir, r.Workload.Name)
	if file == "" {
		return nil, nil
	}
	m, err := loadModel(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// painter writes in colour or without, for a terminal of a width; 0 is one that is wide enough.
type painter struct {
	record.Painter
	width int
}

// explanation shows a call by a model, if there is one; err says why its features v cannot be shown.
func (p painter) explanation(out io.Writer, c *evaluation.Sample, m *detector.Model, v *features.Vector, err error, o explainOptions, left int) error {
	p.call(out, c)
	if o.showIn {
		if c.Record == nil {
			return errors.New("--input: a recorded call was never decided on")
		}
		b, err := json.MarshalIndent(inputOf(c.Record), "", "  ")
		if err != nil {
			return fmt.Errorf("encode the input: %w", err)
		}
		fmt.Fprintf(out, "\ninput       %s\n", b)
	}
	switch {
	case !c.HasFeatures():
		fmt.Fprintln(out, "\nThe record has no features: the call could not be read, or was none to a model.")
		return nil
	case err != nil && m != nil:
		return err
	}
	p.score(out, c, m, v)
	if left > 0 {
		fmt.Fprintf(out, "            its model is without %s of the call's own task or session\n", counted(left, "call", "calls"))
	}
	if ok, err := comparable(c, m); err != nil {
		return err
	} else if m != nil && !ok && (c.Record == nil || c.Record.Anomaly.ModelDigest != m.Digest()) {
		fmt.Fprintln(out, "            nothing in the call counts as new: it has no evidence, or that was recorded under another salt than the model's")
	}
	switch {
	case m != nil:
		p.chart(out, m.Contributions(v), m.Ranges(), m.Unit(), o.all)
	case c.Record != nil && len(c.Record.Anomaly.TopFeatures) > 0:
		p.chart(out, c.Record.Anomaly.TopFeatures, nil, 0, true)
		fmt.Fprintln(out, "these raised the score most; --model FILE or --baseline FILE shows all")
	default:
		fmt.Fprintln(out, "\nThere is nothing to compare the call with: give a model by --model, or calls to learn from by --baseline.")
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

// call says which call it is and what became of it.
func (p painter) call(out io.Writer, c *evaluation.Sample) {
	code := record.Green
	if c.Outcome != telemetry.OutcomeReleased {
		code = record.Red
	}
	r := c.Record
	judged := r != nil && (r.Destination.Host != "" || r.Anomaly.Ready) // else it is of a recording, and nobody decided
	fmt.Fprintf(out, "%s%s%s\n", p.In(record.Bold, record.Clean(c.ID)), when(judged, "  "+p.In(code, record.Clean(string(c.Outcome)))), when(!c.Time.IsZero(), "  "+c.Time.UTC().Format(time.RFC3339)))
	if name := c.Subject(); c.Agent+c.Workload != "" {
		fmt.Fprintf(out, "workload    %s%s\n", record.Clean(name), when(c.Task != "", ", task "+record.Clean(c.Task)))
	}
	switch {
	case !judged:
		fmt.Fprintf(out, "call        model %s\n", record.Clean(c.Model))
		fmt.Fprintf(out, "session     %s\n", record.Clean(c.Session))
		if c.Label != evaluation.Unlabelled {
			fmt.Fprintf(out, "label       %s%s%s\n", c.Label, when(c.Attack != "", " "+record.Clean(c.Attack)), when(c.Stage != evaluation.NoStage, ", "+string(c.Stage)))
		}
		return
	case c.Model != "":
		fmt.Fprintf(out, "call        %s to %s, model %s, %s\n", record.Clean(r.Call.Surface), record.Clean(r.Destination.Host), record.Clean(c.Model), counted(r.Call.Messages, "message", "messages"))
	default:
		fmt.Fprintf(out, "call        to %s\n", record.Clean(r.Destination.Host))
	}
	if c.Session != "" { // there is none of a tunnel
		fmt.Fprintf(out, "session     %s, %s before, worst percentile %.4f%s\n", record.Clean(c.Session), counted(r.Session.Calls, "call", "calls"), r.Session.MaxPercentile, when(c.Tainted, ", tainted"))
	}
	fmt.Fprintf(out, "decision    %s%s%s\n", record.Clean(string(r.Action)), when(r.Rule != "", " by "+record.Clean(r.Rule)), when(r.Fault != "", ", fault "+record.Clean(r.Fault)))
	for _, reason := range r.Reasons {
		fmt.Fprintf(out, "            %s: %s\n", record.Clean(reason.Rule), record.Clean(reason.Message))
	}
}

func (p painter) score(out io.Writer, c *evaluation.Sample, m *detector.Model, v *features.Vector) {
	var then policy.Anomaly
	if c.Record != nil {
		then = c.Record.Anomaly
	}
	judged := then.Ready || c.Record != nil && c.Record.Destination.Host != ""
	switch {
	case then.Ready:
		p.anomaly(out, "score", then)
	case judged:
		fmt.Fprintln(out, "score       none: the workload's model was not yet learned")
	}
	switch {
	case m == nil || m.Digest() == then.ModelDigest:
	case !judged:
		p.anomaly(out, "score", m.Judge(v))
	default:
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

// layout is how wide the columns of the chart are; 0 is a column that there is no room for.
type layout struct{ name, value, usual, strip, credit, bar int }

// layoutFor is the layout for a terminal of so many cells, 0 for one that is wide enough, with ranges or without.
func layoutFor(cells int, ranges bool) layout {
	l := layout{name: 26, value: 14, usual: 13, strip: stripCells, credit: 12, bar: barCells}
	if !ranges {
		l.usual, l.strip = 0, 0
	}
	if cells <= 0 || cells >= l.width() {
		return l
	}
	l.name, l.value, l.credit, l.usual = 24, 13, 7, 0
	for _, narrower := range []*int{&l.bar, &l.strip} {
		least := 4
		if narrower == &l.strip {
			least = min(*narrower, 7)
		}
		*narrower = max(least, *narrower-max(0, l.width()-cells))
	}
	return l
}

func (l layout) width() int {
	w := l.name + 1 + l.value + 2 + l.credit + 2 + l.bar
	for _, column := range []int{l.usual, l.strip} {
		if column > 0 {
			w += 2 + column
		}
	}
	return w
}

// row writes a line of the chart.
func (l layout) row(out io.Writer, name, value, usual, strip, credit, bar string) {
	line := fmt.Sprintf("%-*s %*s", l.name, name, l.value, value)
	if l.usual > 0 {
		line += fmt.Sprintf("  %*s", l.usual, usual)
	}
	if l.strip > 0 {
		line += fmt.Sprintf("  %-*s", l.strip, strip)
	}
	fmt.Fprintln(out, strings.TrimRight(line+fmt.Sprintf("  %*s  %s", l.credit, credit, bar), " "))
}

// chart draws the features, the one that raised the score most first, and, where ranges are known, each in its range. What is under a hundredth of the largest is left
// out.
func (p painter) chart(out io.Writer, all []policy.Feature, ranges []detector.Range, unit float64, every bool) {
	largest := 0.0
	for _, f := range all {
		largest = max(largest, math.Abs(f.Contribution))
	}
	l := layoutFor(p.width, ranges != nil)
	fmt.Fprintln(out)
	credit := "contribution"
	if len(credit) > l.credit {
		credit = "credit"
	}
	l.row(out, "feature", "value", "usual", "", credit, "")
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
		usual, strip := placed(f, ranges, l.strip)
		l.row(out, f.Name, inUnit(f), usual, strip, fmt.Sprintf("%+.3f", f.Contribution), p.In(code, bar(math.Abs(f.Contribution), largest, l.bar)))
	}
	if hidden > 0 {
		fmt.Fprintf(out, "%d more with next to no part (--all shows them)\n", hidden)
	}
	if unit > 0 {
		fmt.Fprintf(out, "an ordinary call is at a distance of %.2f\n", unit)
	}
}

// placed is the usual range of a feature in words, and a strip of so many cells that shows where its value is.
func placed(f policy.Feature, ranges []detector.Range, length int) (usual, strip string) {
	blank := strings.Repeat(" ", length)
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
		return int(math.Round((v - from) / (to - from) * float64(length-1)))
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
		value, unit := bare(i, f.Value), short(s.Unit)
		if value == "1" && len(unit) > 1 {
			unit = strings.TrimSuffix(unit, "s")
		}
		return value + " " + unit
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

// bar draws part of whole as a bar of eighths of so many cells.
func bar(part, whole float64, cells int) string {
	if !(whole > 0) || !(part >= 0) {
		return ""
	}
	eighths := int(math.Round(part / whole * float64(cells) * 8))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string(rune('█' + 8 - rest)) // ▏▎▍▌▋▊▉ follow █, the widest first
	}
	return s
}
