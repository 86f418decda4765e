package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/pkg/evaluation"
)

// featuresOptions are the flags of features.
type featuresOptions struct {
	in  []string
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
train, eval and drift read both.

Beside the features a row has id, time, workload, session, agent, task, model, attack, stage (clean,
first_exposed, exposed, hijacked), label (benign, attack, attacker_task), outcome, exceeds, tainted, schema and
evidence: salted classes of words and marks that the features of novelty are computed from. They are no text,
but tell of one: keep such files as you keep the traffic's metadata.

Features of recorded sessions are without a baseline; train and eval compare them with what they learn.

Accepted are ` + evaluation.Accepted + `.`,
		Example: `  sallyport features --in sessions.jsonl.gz --out calls.parquet
  kubectl logs deploy/support -c sallyport-proxy | sallyport features --in - --out calls.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return convert(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.in, "in", nil, "file to read; may be repeated; - is standard input")
	f.StringVar(&o.out, "out", "", "file to write; its ending, .parquet or .jsonl, says how")
	for _, name := range []string{"in", "out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic("features: " + err.Error())
		}
	}
	return cmd
}

// sampleWriter writes samples one after the other.
type sampleWriter interface {
	Write(s *evaluation.Sample) error
	Close() error
}

func convert(ctx context.Context, stdin io.Reader, out, errs io.Writer, o featuresOptions) (err error) {
	var open func(io.Writer) sampleWriter
	switch filepath.Ext(o.out) {
	case ".parquet":
		open = func(w io.Writer) sampleWriter { return evaluation.NewParquetWriter(w) }
	case ".jsonl":
		open = func(w io.Writer) sampleWriter { return evaluation.NewRecordWriter(w) }
	default:
		return fmt.Errorf("--out %s: accepted are names that end in .parquet or .jsonl", o.out)
	}
	files, err := evaluation.Open(stdin, o.in...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := newProgress(errs)
	defer p.end()
	written, featureless := 0, 0
	sessions := map[string]bool{}
	err = writeFile(o.out, "features", func(w io.Writer) error {
		to := open(w)
		err := files.Each(ctx, nil, func(s *evaluation.Sample) error {
			if !s.HasFeatures() {
				featureless++
				return nil
			}
			written++
			sessions[s.Subject()+"\x00"+s.Session] = true
			p.tell("written", written, 0)
			return to.Write(s)
		})
		if err != nil {
			return err
		}
		return to.Close()
	})
	p.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d calls of %d sessions written to %s%s\n", written, len(sessions), o.out, when(featureless > 0, fmt.Sprintf("; %d without features left out", featureless)))
	return nil
}
