package detect

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/pkg/evaluation"
)

// featuresOptions are the flags of features.
type featuresOptions struct {
	input
	out string
}

// NewFeatures returns the command "features".
func NewFeatures() *cobra.Command {
	var o featuresOptions
	cmd := &cobra.Command{
		Use:   "features --in FILE --out FILE.parquet|FILE.jsonl",
		Short: "Turn recordings into files of features",
		Long: `Turn recordings into a file of features, one row a call: Parquet, with a column of 32-bit floats for each
feature by its name, or JSON lines, decision records with what else is known of a call in a member "sample".
train, eval, explain and drift read both.

Beside the features a row has id, time, workload, session, agent, task, model, attack, stage (clean,
first_exposed, exposed, hijacked), label (benign, attack, attacker_task), outcome, exceeds, tainted, schema and
evidence: salted classes of words and marks that the features of novelty are computed from. They are no text,
but tell of one: keep such files as you keep the traffic's metadata.

Features of recorded sessions are without a baseline; the others compare them with what they learn.

` + accepted,
		Example: `  sallyport features --in sessions.jsonl.gz --out calls.parquet
  kubectl logs deploy/support -c sallyport-proxy | sallyport features --in - --out calls.jsonl`,
		Args: cobra.NoArgs,
		RunE: runs(func(*cobra.Command) error {
			_, err := writerFor(o.out)
			return err
		}, func(ctx context.Context, s streams) error { return convert(ctx, s, o) }),
	}
	o.flag(cmd, "in", "to read")
	cmd.Flags().StringVar(&o.out, "out", "", "`file` to write; its ending, .parquet or .jsonl, says how")
	o.workloadFlag(cmd)
	required(cmd, "in", "out")
	return cmd
}

// sampleWriter writes samples one after the other.
type sampleWriter interface {
	Write(s *evaluation.Sample) error
	Close() error
}

// writerFor is what writes a file of that name.
func writerFor(name string) (func(io.Writer) sampleWriter, error) {
	switch filepath.Ext(name) {
	case ".parquet":
		return func(w io.Writer) sampleWriter { return evaluation.NewParquetWriter(w) }, nil
	case ".jsonl":
		return func(w io.Writer) sampleWriter { return evaluation.NewRecordWriter(w) }, nil
	}
	return nil, fmt.Errorf("--out %s: accepted are names that end in .parquet or .jsonl", name)
}

func convert(ctx context.Context, s streams, o featuresOptions) error {
	open, err := writerFor(o.out)
	if err != nil {
		return err
	}
	written, featureless, elsewhere, logLines, repeated := 0, 0, 0, 0, 0
	sessions, workloads := map[string]bool{}, map[string]int{}
	err = o.use(s, func(files *evaluation.Files, p *progress) error {
		return writeFile(o.out, "features", func(w io.Writer) error {
			to := open(w)
			want := func(s *evaluation.Sample) bool {
				workloads[subject(s)]++
				switch {
				case !s.Of(o.workload):
					elsewhere++
				case !s.HasFeatures():
					featureless++
				default:
					return true
				}
				return false
			}
			err := files.Each(ctx, want, func(s *evaluation.Sample) error {
				written++
				sessions[s.Conversation()] = true
				p.tell("written", written, 0)
				return to.Write(s)
			})
			if err != nil {
				return err
			}
			logLines, repeated = files.LogLines(), files.Repeated()
			switch {
			case written > 0:
				return to.Close()
			case featureless > 0:
				return fmt.Errorf("no calls with features in %s: %s", &o.input, amounts(amount{featureless, "without"}, amount{elsewhere, "of other workloads"}))
			case elsewhere > 0:
				return fmt.Errorf("no calls of the workload %s; there are calls of:%s", o.workload, list(workloads))
			}
			return fmt.Errorf("no calls in %s", &o.input)
		})
	})
	if err != nil {
		return err
	}
	left := amounts(amount{featureless, "without features left out"}, amount{elsewhere, "of other workloads left out"}, amount{repeated, "repeated"}, amount{logLines, "lines of logs passed over"})
	fmt.Fprintf(s.out, "%s of %s written to %s%s\n", counted(written, "call", "calls"), counted(len(sessions), "session", "sessions"), o.out, when(left != "", "; "+left))
	return nil
}
