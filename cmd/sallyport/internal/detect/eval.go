package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/evaluation"
)

// evalOptions are the flags of eval.
type evalOptions struct {
	in      []string
	model   string
	budget  float64
	folds   int
	seeds   int
	samples int
	without []string
	html    string
	json    bool
}

// NewEval returns the command "eval".
func NewEval() *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval --in FILE",
		Short: "Say what the detector finds in recorded traffic, and what it costs",
		Long: `Say what the detector finds in recorded traffic, and how many benign calls exceed its thresholds.

Without --model, each agent's tasks are dealt to --folds parts; a model is trained on the benign calls of all
parts but one and judges that one; --seeds times over, with other parts. A task is what a recording calls so;
without, it is a conversation. With --model, that model judges everything: give it calls that it has not learned.

A figure over several models is the mean over attacks, each compared with the benign calls that its own model
judged. Intervals come of drawing tasks with replacement; they do not tell what other training data would have
given.

Accepted are ` + evaluation.Accepted + `.
Records that sidecars made have no labels: those released count as benign, and there is nothing to find.

A model that was learned in a cluster knows words under a salt of that cluster: judge with it calls that were
recorded there, for to it all words of others are new.`,
		Example: `  sallyport eval --in sessions.jsonl.gz --html report.html
  sallyport eval --in calls.parquet --without lexicon --seeds 10
  sallyport eval --in later.jsonl --model support.model`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"budget", "folds", "seeds"} {
				if o.model != "" && cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for training, and --model says not to train", name)
				}
			}
			cmd.SilenceUsage = true
			return eval(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.in, "in", nil, "file to read; may be repeated; - is standard input")
	f.StringVar(&o.model, "model", "", "file with the model that is to judge; without, models are trained")
	f.Float64Var(&o.budget, "budget", 0.01, "share of benign calls that may exceed the threshold")
	f.IntVar(&o.folds, "folds", 5, "parts that an agent's tasks are dealt to")
	f.IntVar(&o.seeds, "seeds", 3, "how often that is done")
	f.IntVar(&o.samples, "samples", 1000, "samples that intervals are found from")
	f.StringArrayVar(&o.without, "without", nil, "leave out these features: a group ("+strings.Join(evaluation.Groups(), ", ")+") or a single one; may be repeated")
	f.StringVar(&o.html, "html", "", "file to write a report with plots to")
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	if err := cmd.MarkFlagRequired("in"); err != nil {
		panic("eval: " + err.Error())
	}
	return cmd
}

func eval(ctx context.Context, stdin io.Reader, out, errs io.Writer, o evalOptions) (err error) {
	if o.samples < 2 || o.samples > 1_000_000 {
		return fmt.Errorf("--samples %d: accepted are 2 to 1000000", o.samples)
	}
	files, err := evaluation.Open(stdin, o.in...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := newProgress(errs)
	defer p.end()
	options := evaluation.Options{
		Folds: o.folds, Seeds: o.seeds, Budget: o.budget, Without: o.without, Progress: p.tell,
		Resampling: evaluation.Resampling{Samples: o.samples, Confidence: 0.95, Seed: 1},
	}
	if o.model != "" {
		if options.Model, err = loadModel(o.model); err != nil {
			return err
		}
	}
	r, err := evaluation.Evaluate(ctx, files, options)
	p.end()
	if err != nil {
		return err
	}
	if o.html != "" {
		if err := writeFile(o.html, "report", r.WriteHTML); err != nil {
			return err
		}
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		return nil
	}
	printReport(out, r)
	return nil
}

// loadModel reads a model's file.
func loadModel(file string) (*detector.Model, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err // names the file
	}
	m, err := detector.Load(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

func printReport(out io.Writer, r *evaluation.Report) {
	c := r.Counts
	fmt.Fprintf(out, "calls      %d of %d sessions: %s\n", c.Calls, c.Sessions, amounts(
		amount{c.Benign, "benign"}, amount{c.Unlabelled, "without a label, taken for benign"}, amount{c.Attack, fmt.Sprintf("of attacked sessions (%d exposed)", c.Exposed)},
		amount{c.AttackerTask, "left out: their users ask for what attackers want"}, amount{c.Featureless, "left out: without features"}, amount{c.Refused, "left out: not released"}))
	if r.Model != "" {
		fmt.Fprintf(out, "judged by  model %s\n", r.Model)
	} else {
		fmt.Fprintf(out, "judged by  models of each agent, trained on its other tasks: %d folds, %d seeds\n", r.Folds, r.Seeds)
	}
	fmt.Fprintf(out, "features   %s", r.Schema)
	if len(r.Without) > 0 {
		fmt.Fprintf(out, ", without %s", strings.Join(r.Without, ", "))
	}
	fmt.Fprintf(out, "\nintervals  %g %%, from %d samples of tasks\n", r.Confidence*100, r.Samples)
	for _, s := range r.Stages {
		head := fmt.Sprintf("%-34s %7s %7s  %-23s", "", "attacks", "benign", "AUC")
		for _, rate := range r.Rates {
			head += fmt.Sprintf("  %-23s", fmt.Sprintf("TPR at %g %% FPR", rate*100))
		}
		fmt.Fprintf(out, "\n%s\n%s\n%s\n", s.Title, s.Doc, strings.TrimRight(head, " "))
		printLine(out, "all", &s.Table.All)
		if len(s.Table.Agents) > 1 {
			for i := range s.Table.Agents {
				printLine(out, "  "+s.Table.Agents[i].Name, &s.Table.Agents[i])
			}
		}
		printLine(out, "mean over families", &s.Table.FamilyMean)
		for i := range s.Table.Families {
			printLine(out, "  "+s.Table.Families[i].Name, &s.Table.Families[i])
		}
	}
	fmt.Fprintf(out, "\nBenign calls over the threshold for a budget of %g %%\n%-34s %7s  %s\n", r.Budget*100, "", "calls", "realised"+when(len(r.Stages) > 0, strings.Repeat(" ", 18)+"first exposed calls found"))
	for _, s := range r.Budgets {
		line := fmt.Sprintf("%-34s %7d  %-24s", fit(record.Clean(s.Name), 34), s.Calls, percent(s.Realised))
		if len(r.Stages) > 0 {
			line += "  " + percent(s.Found)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	for _, a := range r.Agents {
		if !a.Supported {
			fmt.Fprintf(out, "%s: too few calls for that budget; its thresholds are the largest scores among those learned\n", record.Clean(a.Name))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
}

func printLine(out io.Writer, name string, l *evaluation.Line) {
	line := fmt.Sprintf("%-34s %7d %7d  %-23s", fit(record.Clean(name), 34), l.Positives, l.Negatives, share(l.AUC))
	for _, f := range l.TPR {
		line += fmt.Sprintf("  %-23s", share(f))
	}
	fmt.Fprintln(out, strings.TrimRight(line, " "))
}

// fit cuts a name to so many characters.
func fit(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func share(f evaluation.Figure) string {
	switch {
	case math.IsNaN(f.Value):
		return "-"
	case math.IsNaN(f.Low):
		return fmt.Sprintf("%.4f", f.Value)
	}
	return fmt.Sprintf("%.4f (%.4f-%.4f)", f.Value, f.Low, f.High)
}

func percent(f evaluation.Figure) string {
	if math.IsNaN(f.Value) {
		return "-"
	}
	return fmt.Sprintf("%.2f %% (%.2f-%.2f %%)", f.Value*100, f.Low*100, f.High*100)
}

// amount is how many there are of something.
type amount struct {
	n    int
	what string
}

// amounts lists those that are not nothing.
func amounts(all ...amount) string {
	var out []string
	for _, a := range all {
		if a.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", a.n, a.what))
		}
	}
	return strings.Join(out, ", ")
}
