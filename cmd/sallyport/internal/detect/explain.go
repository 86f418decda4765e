package detect

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	in    []string
	model string
	id    string
	all   bool
}

// NewExplain returns the command "explain".
func NewExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain --model FILE --in FILE ID",
		Short: "Show what a detector saw in a recorded call",
		Long: `Show a recorded decision, and what each feature of the call did to its score by a model: the one that
judged it, or another, to see what that would say.

A contribution is in units of path length: how much shorter than the usual one is the way on which the forest
sets the call apart, for the splits on this feature. Positive contributions make a call more anomalous. They
say what the forest did, not what caused the call.`,
		Example: `  sallyport explain --model support.model --in decisions.jsonl 01JQ7Z3M9T`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			o.id = args[0]
			out := cmd.OutOrStdout()
			return explain(cmd.InOrStdin(), out, isTerminal(out) && os.Getenv("NO_COLOR") == "", o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.in, "in", nil, "file of decision records; may be repeated; - is standard input")
	f.StringVar(&o.model, "model", "", "file with the model")
	f.BoolVar(&o.all, "all", false, "show features without a part in the score as well")
	for _, name := range []string{"in", "model"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic("explain: " + err.Error())
		}
	}
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// errFound ends reading once the record is found.
var errFound = errors.New("found")

func explain(stdin io.Reader, out io.Writer, colour bool, o explainOptions) error {
	b, err := os.ReadFile(o.model)
	if err != nil {
		return err // names the file
	}
	m, err := detector.Load(b)
	if err != nil {
		return fmt.Errorf("%s: %w", o.model, err)
	}
	var r *telemetry.Record
	err = readAll(stdin, o.in, func(_ string, have *telemetry.Record) error {
		if have.ID == o.id {
			r = have
			return errFound
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errFound):
		return err
	case r == nil:
		return fmt.Errorf("no record %q in %s", o.id, strings.Join(o.in, ", "))
	}

	p := painter{colour}
	p.decision(out, r)
	row, _, err := detector.FromRecord(r)
	if errors.Is(err, detector.ErrNoFeatures) {
		fmt.Fprintln(out, "\nThe record has no features: the call could not be read, or was none to a model.")
		return nil
	}
	if err != nil {
		return err
	}
	p.score(out, r, m, &row.Vector)
	p.chart(out, m.Contributions(&row.Vector), m.Unit(), o.all)
	return nil
}

// painter writes in colour or without.
type painter struct{ colour bool }

const (
	red   = "31"
	green = "32"
	bold  = "1"
)

func (p painter) in(code, text string) string {
	if !p.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p painter) decision(out io.Writer, r *telemetry.Record) {
	code := green
	if r.Outcome != telemetry.OutcomeReleased {
		code = red
	}
	fmt.Fprintf(out, "%s  %s  %s\n", p.in(bold, clean(r.ID)), p.in(code, clean(string(r.Outcome))), r.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(out, "workload    %s\n", workloadName(r.Workload))
	if r.Call.Model != "" {
		fmt.Fprintf(out, "call        %s to %s, model %s, %d messages\n", clean(r.Call.Surface), clean(r.Destination.Host), clean(r.Call.Model), r.Call.Messages)
	} else {
		fmt.Fprintf(out, "call        to %s\n", clean(r.Destination.Host))
	}
	fmt.Fprintf(out, "session     %s, %d calls before, worst percentile %.4f%s\n", clean(r.Session.ID), r.Session.Calls, r.Session.MaxPercentile, when(r.Session.Tainted, ", tainted"))
	fmt.Fprintf(out, "decision    %s%s%s\n", clean(string(r.Action)), when(r.Rule != "", " by "+clean(r.Rule)), when(r.Fault != "", ", fault "+clean(r.Fault)))
	for _, reason := range r.Reasons {
		fmt.Fprintf(out, "            %s: %s\n", clean(reason.Rule), clean(reason.Message))
	}
}

func (p painter) score(out io.Writer, r *telemetry.Record, m *detector.Model, v *features.Vector) {
	if r.Anomaly.Ready {
		p.anomaly(out, "score", r.Anomaly)
	} else {
		fmt.Fprintln(out, "score       none: the workload's model was not yet learned")
	}
	if m.Digest() != r.Anomaly.ModelDigest {
		p.anomaly(out, "by this", m.Judge(v))
		fmt.Fprintln(out, "            --model is not the one that judged the call; what follows is by it")
	}
}

func (p painter) anomaly(out io.Writer, what string, a policy.Anomaly) {
	verdict := p.in(green, "within the threshold")
	if a.Exceeds {
		verdict = p.in(red, "exceeds the threshold")
	}
	fmt.Fprintf(out, "%-11s %.4f, %s of %.4f, percentile %.4f\n", what, a.Score, verdict, a.Threshold, a.Percentile)
}

// barCells is the length of the longest bar; a cell is drawn in eighths.
const barCells = 24

// chart draws the features, the one that raised the score most first. What is under a hundredth of the largest is left out.
func (p painter) chart(out io.Writer, all []policy.Feature, unit float64, every bool) {
	largest := 0.0
	for _, f := range all {
		largest = max(largest, math.Abs(f.Contribution))
	}
	fmt.Fprintf(out, "\n%-26s %14s  %12s\n", "feature", "value", "contribution")
	hidden := 0
	for _, f := range all {
		if !every && (f.Contribution == 0 || math.Abs(f.Contribution) < largest/100) {
			hidden++
			continue
		}
		code := red
		if f.Contribution < 0 {
			code = green
		}
		row := fmt.Sprintf("%-26s %14s  %+12.3f  %s", f.Name, inUnit(f), f.Contribution, p.in(code, bar(math.Abs(f.Contribution), largest)))
		fmt.Fprintln(out, strings.TrimRight(row, " "))
	}
	if hidden > 0 {
		fmt.Fprintf(out, "%d more with next to no part (--all shows them)\n", hidden)
	}
	fmt.Fprintf(out, "%.2f doubles a score\n", unit)
}

// inUnit writes a feature's value as it was before its transform.
func inUnit(f policy.Feature) string {
	for _, s := range features.Schema {
		if s.Name != f.Name {
			continue
		}
		switch {
		case s.Transform == "log1p":
			return fmt.Sprintf("%.4g %s", math.Expm1(f.Value), short(s.Unit))
		case s.Transform == "flag" && f.Value == 0:
			return "no"
		case s.Transform == "flag":
			return "yes"
		case s.Unit == "share":
			return fmt.Sprintf("%.1f %%", f.Value*100)
		default:
			return fmt.Sprintf("%.3g %s", f.Value, short(s.Unit))
		}
	}
	return fmt.Sprintf("%.4g", f.Value)
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

// clean replaces what does not show, so that nothing a caller wrote, such as a model's name, commands the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}
