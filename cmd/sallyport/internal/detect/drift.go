package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/evaluation"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// driftedStatus is the exit status of a drift beyond --fail-over.
const driftedStatus = 3

// driftOptions are the flags of drift.
type driftOptions struct {
	model    string
	in       []string // what the model is made of, where none is given
	against  input
	failOver float64
	all      bool
	json     bool
}

// NewDrift returns the command "drift".
func NewDrift() *cobra.Command {
	var o driftOptions
	cmd := &cobra.Command{
		Use:   "drift (--model FILE | --in FILE) --against FILE",
		Short: "Say how far calls have moved from those that a model learned from",
		Long: `Say how far the calls of --against have moved from those that a model learned from, or from those of --in, of
which a model is made first: for the scores and for each feature, the population stability index (PSI) and the
distance of Kolmogorov and Smirnov (KS), largest PSI first. By custom a PSI above 0.1 is worth a look and one
above 0.25 a change. A "*" marks what has moved beyond chance.

Compared are calls that are not labelled as attacks, those that exceeded the threshold among them. Features that
come of a comparison with a baseline are compared with the model's.

With --fail-over, the exit status is 3 where the scores or a feature have a PSI beyond it, chance taken off.

` + accepted,
		Example: `  sallyport drift --model support.model --against today.jsonl
  sallyport drift --in march.parquet --against april.parquet --fail-over 0.25`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command) error {
			if cmd.Flags().Changed("fail-over") && !(o.failOver >= 0) {
				return fmt.Errorf("--fail-over %v: accepted is a PSI, 0 and more", o.failOver)
			}
			if slices.Contains(o.in, "-") && slices.Contains(o.against.files, "-") {
				return errors.New("standard input cannot be both --in and --against")
			}
			return nil
		}, func(ctx context.Context, s streams) error { return drift(ctx, s, o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "`file` with the model")
	f.StringArrayVar(&o.in, "in", nil, "`file` of the calls to compare with; may be repeated; - is standard input")
	o.against.flag(cmd, "against", "of the calls that may have moved")
	o.against.workloadFlag(cmd)
	f.Float64Var(&o.failOver, "fail-over", math.Inf(1), "exit with status 3 beyond this `PSI`")
	f.BoolVar(&o.all, "all", false, "show features that have not moved as well")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("model", "in")
	cmd.MarkFlagsOneRequired("model", "in")
	required(cmd, "against")
	return cmd
}

func drift(ctx context.Context, s streams, o driftOptions) error {
	m, err := o.learned(ctx, s)
	if err != nil {
		return err
	}
	rows, left, err := o.moved(ctx, s, m)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("no calls to compare in %s%s", &o.against, when(left != "", ": "+left))
	}
	d := m.Shifts(rows)
	shifts := ordered(d)
	if o.json {
		err = driftJSON(s.out, m, d, shifts)
	} else {
		driftTable(s.out, m, d, shifts, left, o.all)
	}
	if err != nil {
		return err
	}
	for _, shift := range append(shifts, named{"score", d.Score}) {
		if shift.PSI-shift.PSIChance > o.failOver {
			return &execute.ExitError{Code: driftedStatus}
		}
	}
	return nil
}

// learned is the model to compare with: the one given, or one of the calls of --in.
func (o *driftOptions) learned(ctx context.Context, s streams) (*detector.Model, error) {
	if o.model != "" {
		return loadModel(o.model)
	}
	l, err := collect(ctx, s, input{o.in, o.against.workload})
	if err != nil {
		return nil, err
	}
	return l.learn(ctx, s, whatever)
}

// moved reads the calls that may have moved, with features against the model's baseline, and says what it left out.
func (o *driftOptions) moved(ctx context.Context, s streams, m *detector.Model) (rows []detector.Row, left string, err error) {
	elsewhere, featureless, attacks, foreign, logLines, repeated := 0, 0, 0, 0, 0, 0
	workloads := map[string]int{}
	want := func(s *evaluation.Sample) bool {
		switch {
		case !s.Of(o.against.workload):
			elsewhere++
		case !s.HasFeatures():
			featureless++
		case s.Label == evaluation.Attack || s.Label == evaluation.AttackerTask:
			attacks++
		default:
			workloads[subject(s)]++
			return true
		}
		return false
	}
	err = o.against.use(s, func(files *evaluation.Files, p *progress) error {
		err := files.Each(ctx, want, func(s *evaluation.Sample) error {
			v, err := s.Against(m.Baseline())
			if err != nil {
				return err
			}
			if ok, err := comparable(s, m); err != nil {
				return err
			} else if !ok {
				foreign++
			}
			p.tell("read", len(rows), 0)
			rows = append(rows, detector.Row{Vector: v})
			return nil
		})
		logLines, repeated = files.LogLines(), files.Repeated()
		return err
	})
	if err == nil && len(workloads) > 1 {
		err = fmt.Errorf("calls of %d workloads in %s; name one with --workload:%s", len(workloads), &o.against, list(workloads))
	}
	return rows, amounts(amount{foreign, "not to be compared with its baseline, so that nothing in them counts as new"}, amount{attacks, "of attacks left out"}, amount{featureless, "without features left out"}, amount{elsewhere, "of other workloads left out"}, amount{repeated, "repeated"}, amount{logLines, "lines of logs passed over"}), err
}

// named is the shift of a feature.
type named struct {
	Name string
	iforest.Shift
}

// ordered returns the features by PSI, the largest first.
func ordered(d iforest.Drift) []named {
	out := make([]named, len(d.Features))
	for f, s := range d.Features {
		out[f] = named{features.Schema[f].Name, s}
	}
	slices.SortStableFunc(out, func(a, b named) int { return cmp.Compare(b.PSI, a.PSI) })
	return out
}

func driftTable(out io.Writer, m *detector.Model, d iforest.Drift, shifts []named, left string, all bool) {
	fmt.Fprintf(out, "%d calls against %d that the model learned from%s\n\n%-26s %8s %8s  %8s %8s\n", d.Rows, m.Info().Calls, when(left != "", "; "+left), "", "PSI", "chance", "KS", "chance")
	row := func(name string, s iforest.Shift) {
		fmt.Fprintf(out, "%-26s %8.3f %8.3f  %8.3f %8.3f%s\n", name, s.PSI, s.PSIChance, s.KS, s.KSChance, when(s.Drifted(), "  *"))
	}
	row("score", d.Score)
	hidden := 0
	for _, s := range shifts {
		if !all && !s.Drifted() {
			hidden++
			continue
		}
		row(s.Name, s.Shift)
	}
	if hidden > 0 {
		fmt.Fprintf(out, "%d features have not moved beyond chance (--all shows them)\n", hidden)
	}
}

func driftJSON(out io.Writer, m *detector.Model, d iforest.Drift, shifts []named) error {
	type shift struct {
		Name      string  `json:"name"`
		PSI       float64 `json:"psi"`
		PSIChance float64 `json:"psi_chance"`
		KS        float64 `json:"ks"`
		KSChance  float64 `json:"ks_chance"`
		Drifted   bool    `json:"drifted"`
	}
	report := struct {
		Model    string  `json:"model"`
		Learned  int     `json:"learned"`
		Calls    int     `json:"calls"`
		Score    shift   `json:"score"`
		Features []shift `json:"features"`
	}{Model: m.Digest(), Learned: m.Info().Calls, Calls: d.Rows}
	of := func(n named) shift { return shift{n.Name, n.PSI, n.PSIChance, n.KS, n.KSChance, n.Drifted()} }
	report.Score = of(named{"score", d.Score})
	for _, s := range shifts {
		report.Features = append(report.Features, of(s))
	}
	return printJSON(out, "drift", report)
}
