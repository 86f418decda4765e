package detect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/pkg/detector"
)

// trainOptions are the flags of train.
type trainOptions struct {
	input
	out         string
	budget      float64
	minCalls    int
	minSessions int
	seed        uint64
}

// NewTrain returns the command "train".
func NewTrain() *cobra.Command {
	var o trainOptions
	cmd := &cobra.Command{
		Use:   "train --in FILE --out FILE",
		Short: "Learn a detector's model from recorded calls",
		Long: `Learn a detector's model of one workload, or of one agent of a recording.

` + accepted + `

Only calls that were released by decision are learned from: not those that were refused or that a setting
released, that exceeded the threshold then in force, or that came in a conversation with such a call; nor those
of sessions that are labelled as attacks. The threshold is set so that of benign calls as those recorded a share
of at most --budget exceeds it, by scores that each call gets from forests that have not seen its conversation.
Where there are too few calls to say so, the threshold is extrapolated beyond their scores, and the summary says
that.`,
		Example: `  kubectl logs deploy/support -c sallyport-proxy > decisions.jsonl
  sallyport train --in decisions.jsonl --out support.model --budget 0.01`,
		Args: cobra.NoArgs,
		RunE: runs(func(*cobra.Command) error {
			if o.minCalls < 0 || o.minSessions < 0 {
				return errors.New("--min-calls and --min-sessions cannot be negative")
			}
			return checkBudget(o.budget)
		}, func(ctx context.Context, s streams) error { return train(ctx, s, o) }),
	}
	f := cmd.Flags()
	o.flag(cmd, "in", "to read")
	f.StringVar(&o.out, "out", "", "`file` to write the model to")
	o.workloadFlag(cmd)
	budgetFlag(cmd, &o.budget)
	f.IntVar(&o.minCalls, "min-calls", detector.DefaultMinCalls, "calls that there must be, 16 at least")
	f.IntVar(&o.minSessions, "min-sessions", detector.DefaultMinSessions, "conversations that they must come from, 2 at least")
	f.Uint64Var(&o.seed, "seed", 1, "the same records, flags and seed give the same model")
	required(cmd, "in", "out")
	return cmd
}

// budgetFlag adds the flag of the budget, and checkBudget says whether a budget can be kept to.
func budgetFlag(cmd *cobra.Command, to *float64) {
	cmd.Flags().Float64Var(to, "budget", float64(detector.DefaultFalsePositivesPerMillion)/1e6, "`share` of benign calls that may exceed the threshold")
}

func checkBudget(budget float64) error {
	if !(budget >= 1e-6 && budget <= 0.5) {
		return fmt.Errorf("--budget %v: accepted is 0.000001 to 0.5, the share of benign calls that may exceed the threshold", budget)
	}
	return nil
}

func train(ctx context.Context, s streams, o trainOptions) error {
	l, err := collect(ctx, s, o.input)
	if err != nil {
		return err
	}
	m, err := l.learn(ctx, s, detector.Options{
		FalsePositivesPerMillion: int(math.Round(o.budget * 1e6)),
		Trimmed:                  detector.Counts{Seen: uint64(len(l.rows)), Exceeded: uint64(l.tally.exceeding)}.Trimmed(),
		MinCalls:                 o.minCalls, MinSessions: o.minSessions, Seed: o.seed,
	})
	if errors.Is(err, detector.ErrTooFew) {
		return fmt.Errorf("%w; --min-calls and --min-sessions ask for fewer", err)
	}
	if err != nil {
		return err
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return err
	}
	if err := writeFile(o.out, "model", func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(b)); return err }); err != nil {
		return err
	}

	info := m.Info()
	fmt.Fprintf(s.out, "workload   %s\n", l.who)
	fmt.Fprintf(s.out, "records    %d: %d learned, %s%s\n", l.tally.records, info.Calls, l.tally.causes(),
		when(l.tally.logLines > 0, "; "+counted(l.tally.logLines, "line of a log is no decision", "lines of a log are no decisions")))
	fmt.Fprintf(s.out, "sessions   %d\n", info.Sessions)
	fmt.Fprintf(s.out, "schema     %s\n", info.Schema)
	fmt.Fprintf(s.out, "threshold  %.4f for a budget of %g %%\n", info.Threshold, o.budget*100)
	fmt.Fprintf(s.out, "model      %s, %d bytes, sha256 %s\n", o.out, len(b), m.Digest())
	if !info.Supported {
		fmt.Fprintf(s.out, "\nToo few calls for that budget: it takes about %.0f. The threshold is extrapolated beyond the\nlargest score among them, which one benign call in %d is expected to exceed.\n",
			math.Ceil(1/o.budget)-1, info.Calls+1)
	}
	blind := 0
	for i := range l.rows {
		if len(l.rows[i].Evidence) == 0 {
			blind++
		}
	}
	if blind > 0 {
		fmt.Fprintf(s.out, "\n%d of %d calls have no evidence, as in the log of a pod: of them nothing is learned of words, nor of what is\nnew to the workload. The access log and the records of \"sallyport exec\" have it.\n", blind, len(l.rows))
	}
	return nil
}
