package detect

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/evaluation"
)

// evalOptions are the flags of eval.
type evalOptions struct {
	input
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

` + accepted + `

Records that sidecars made have no labels: those released count as benign, and there is nothing to find.

Groups of features for --without are ` + strings.Join(evaluation.Groups(), ", ") + `.

A model that was learned in a cluster knows words under a salt of that cluster: judge with it calls that were
recorded there, for of others it cannot tell what is new.`,
		Example: `  sallyport eval --in sessions.jsonl.gz --html report.html
  sallyport eval --in calls.parquet --without lexicon --seeds 10
  sallyport eval --in later.jsonl --model support.model`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command) error {
			for _, name := range []string{"budget", "folds", "seeds"} {
				if o.model != "" && cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for training, and --model says not to train", name)
				}
			}
			if o.samples < 2 || o.samples > 1_000_000 {
				return fmt.Errorf("--samples %d: accepted are 2 to 1000000", o.samples)
			}
			return checkBudget(o.budget)
		}, func(ctx context.Context, s streams) error { return eval(ctx, s, o) }),
	}
	f := cmd.Flags()
	o.flag(cmd, "in", "to read")
	o.workloadFlag(cmd)
	f.StringVar(&o.model, "model", "", "`file` with the model that is to judge; without, models are trained")
	budgetFlag(cmd, &o.budget)
	f.IntVar(&o.folds, "folds", 5, "parts that an agent's tasks are dealt to")
	f.IntVar(&o.seeds, "seeds", 3, "how often that is done")
	f.IntVar(&o.samples, "samples", 1000, "samples that intervals are found from")
	f.StringArrayVar(&o.without, "without", nil, "leave out the features of a `group`, or a single one; may be repeated")
	f.StringVar(&o.html, "html", "", "`file` to write a report with plots to")
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	required(cmd, "in")
	return cmd
}

func eval(ctx context.Context, s streams, o evalOptions) error {
	options := evaluation.Options{
		Workload: o.workload, Folds: o.folds, Seeds: o.seeds, Budget: o.budget, Without: o.without,
		Resampling: evaluation.Resampling{Samples: o.samples, Confidence: 0.95, Seed: 1},
	}
	var err error
	if o.model != "" {
		if options.Model, err = loadModel(o.model); err != nil {
			return err
		}
	}
	var r *evaluation.Report
	err = o.use(s, func(files *evaluation.Files, p *progress) error {
		options.Progress = p.tell
		r, err = evaluation.Evaluate(ctx, files, options)
		return err
	})
	if err != nil {
		return err
	}
	if o.html != "" {
		if err := writeFile(o.html, "report", r.WriteHTML); err != nil {
			return err
		}
	}
	if o.json {
		return printJSON(s.out, "report", r)
	}
	printReport(s.out, r)
	return nil
}

// nameCells is how wide the column of names is.
const nameCells = 34

func printReport(out io.Writer, r *evaluation.Report) {
	c := r.Counts
	fmt.Fprintf(out, "calls      %d of %d sessions: %s\n", c.Calls, c.Sessions, amounts(
		amount{c.Benign, "benign"}, amount{c.Unlabelled, "without a label, taken for benign"}, amount{c.Attack, fmt.Sprintf("of attacked sessions (%d exposed)", c.Exposed)},
		amount{c.AttackerTask, "left out: their users ask for what attackers want"}, amount{c.Featureless, "left out: without features"}, amount{c.Refused, "left out: not released"},
		amount{c.Elsewhere, "of other workloads"}, amount{c.Repeated, "repeated"}, amount{c.LogLines, "lines of logs passed over"}))
	if r.Model != "" {
		fmt.Fprintf(out, "judged by  model %s\n", r.Model)
	} else {
		fmt.Fprintf(out, "judged by  models of each agent, trained on its other tasks: %d folds, %s\n", r.Folds, counted(r.Seeds, "seed", "seeds"))
	}
	fmt.Fprintf(out, "features   %s", r.Schema)
	if len(r.Without) > 0 {
		fmt.Fprintf(out, ", without %s", strings.Join(r.Without, ", "))
	}
	fmt.Fprintf(out, "\nintervals  %g %%, from %d samples of tasks\n", r.Confidence*100, r.Samples)
	for _, s := range r.Stages {
		head := fmt.Sprintf("%-*s %7s %7s  %-23s", nameCells, "", "attacks", "benign", "AUC")
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
	fmt.Fprintf(out, "\nBenign calls over the threshold for a budget of %g %%\n%-*s %7s  %s\n", r.Budget*100, nameCells, "", "calls", "realised"+when(r.Attacked(), strings.Repeat(" ", 18)+"first exposed calls found"))
	for _, s := range r.Budgets {
		line := fmt.Sprintf("%s %7d  %-24s", record.Fit(s.Name, nameCells), s.Calls, percent(s.Realised))
		if r.Attacked() {
			line += "  " + percent(s.Found)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	for _, a := range r.Agents {
		if !a.Supported {
			fmt.Fprintf(out, "%s: too few calls for that budget; its thresholds are extrapolated beyond the scores of those learned\n", record.Clean(a.Name))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
}

func printLine(out io.Writer, name string, l *evaluation.Line) {
	line := fmt.Sprintf("%s %7d %7d  %-23s", record.Fit(name, nameCells), l.Positives, l.Negatives, share(l.AUC))
	for _, f := range l.TPR {
		line += fmt.Sprintf("  %-23s", share(f))
	}
	fmt.Fprintln(out, strings.TrimRight(line, " "))
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
