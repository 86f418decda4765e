package detect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

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
	model, in, against []string
	workload           string
	failOver           float64
	all, json          bool
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

Accepted are ` + evaluation.Accepted + `.`,
		Example: `  sallyport drift --model support.model --against today.jsonl
  sallyport drift --in march.parquet --against april.parquet --fail-over 0.25`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("fail-over") && !(o.failOver >= 0) {
				return fmt.Errorf("--fail-over %v: accepted is a PSI, 0 and more", o.failOver)
			}
			if len(o.model) > 1 {
				return errors.New("--model can be given once")
			}
			cmd.SilenceUsage = true
			return drift(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.model, "model", nil, "file with the model")
	f.StringArrayVar(&o.in, "in", nil, "file of the calls to compare with; may be repeated; - is standard input")
	f.StringArrayVar(&o.against, "against", nil, "file of the calls that may have moved; may be repeated; - is standard input")
	f.StringVar(&o.workload, "workload", "", "of this workload only, namespace/kind/name, or of this agent of a recording")
	f.Float64Var(&o.failOver, "fail-over", math.Inf(1), "exit with status 3 beyond this PSI")
	f.BoolVar(&o.all, "all", false, "show features that have not moved as well")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("model", "in")
	cmd.MarkFlagsOneRequired("model", "in")
	if err := cmd.MarkFlagRequired("against"); err != nil {
		panic("drift: " + err.Error())
	}
	return cmd
}

func drift(ctx context.Context, stdin io.Reader, out, errs io.Writer, o driftOptions) error {
	if slices.Contains(o.in, "-") && slices.Contains(o.against, "-") {
		return errors.New("standard input cannot be both --in and --against")
	}
	var m *detector.Model
	var err error
	if len(o.model) > 0 {
		m, err = loadModel(o.model[0])
	} else {
		m, err = modelOf(ctx, stdin, errs, o)
	}
	if err != nil {
		return err
	}
	rows, err := against(ctx, stdin, errs, o, m)
	if err != nil {
		return err
	}
	d := m.Shifts(rows)
	if d.Rows == 0 {
		return fmt.Errorf("no calls to compare in %s", strings.Join(o.against, ", "))
	}
	shifts := ordered(d)
	if o.json {
		err = driftJSON(out, m, d, shifts)
	} else {
		driftTable(out, m, d, shifts, o.all)
	}
	if err != nil {
		return err
	}
	for _, s := range append(shifts, named{"score", d.Score}) {
		if s.PSI-s.PSIChance > o.failOver {
			return &execute.ExitError{Code: driftedStatus}
		}
	}
	return nil
}

// modelOf trains on the calls of --in.
func modelOf(ctx context.Context, stdin io.Reader, errs io.Writer, o driftOptions) (*detector.Model, error) {
	rows, who, n, err := collect(ctx, stdin, errs, trainOptions{in: o.in, workload: o.workload})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(errs, "learning %s from %d calls\n", who, len(rows))
	m, err := detector.Train(rows, detector.Options{MinCalls: 1, MinSessions: 1, Seed: 1})
	if err != nil {
		return nil, fmt.Errorf("%w (of %d calls: %s)", err, n.records, n.causes())
	}
	return m, nil
}

// against reads the calls that may have moved, with features against the model's baseline.
func against(ctx context.Context, stdin io.Reader, errs io.Writer, o driftOptions, m *detector.Model) (rows []detector.Row, err error) {
	files, err := evaluation.Open(stdin, o.against...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := newProgress(errs)
	defer p.end()
	want := func(s *evaluation.Sample) bool {
		return s.HasFeatures() && s.Label != evaluation.Attack && s.Label != evaluation.AttackerTask && (o.workload == "" || sameWorkload(o.workload, s.Subject()))
	}
	err = files.Each(ctx, want, func(s *evaluation.Sample) error {
		v, err := s.Against(m.Baseline())
		if err != nil {
			return err
		}
		p.tell("read", len(rows), 0)
		rows = append(rows, detector.Row{Vector: v})
		return nil
	})
	return rows, err
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

func driftTable(out io.Writer, m *detector.Model, d iforest.Drift, shifts []named, all bool) {
	fmt.Fprintf(out, "%d calls against %d that the model learned from\n\n%-26s %8s %8s  %8s %8s\n", d.Rows, m.Info().Calls, "", "PSI", "chance", "KS", "chance")
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
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(report); err != nil {
		return fmt.Errorf("encode the drift: %w", err)
	}
	return nil
}
