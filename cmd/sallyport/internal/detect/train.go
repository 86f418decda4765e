package detect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/evaluation"
	"sallyport.dev/sallyport/pkg/policy"
)

// trainOptions are the flags of train.
type trainOptions struct {
	in          []string
	out         string
	workload    string
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

Accepted are ` + evaluation.Accepted + `.

Only calls that were released by decision are learned from: not those that were refused or that a setting
released, that exceeded the threshold then in force, or that came in a conversation with such a call; nor those
of sessions that are labelled as attacks. The
threshold is set so that of benign calls as those recorded a share of at most --budget exceeds it, by scores
that each call gets from forests that have not seen its conversation. Where there are too few calls to say
so, the threshold is the most cautious that they support, and the summary says that.`,
		Example: `  kubectl logs deploy/support -c sallyport-proxy > decisions.jsonl
  sallyport train --in decisions.jsonl --out support.model --budget 0.01`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !(o.budget >= 1e-6 && o.budget <= 0.5) {
				return fmt.Errorf("--budget %v: accepted is 0.000001 to 0.5, the share of benign calls that may exceed the threshold", o.budget)
			}
			if o.minCalls < 0 || o.minSessions < 0 {
				return errors.New("--min-calls and --min-sessions cannot be negative")
			}
			cmd.SilenceUsage = true
			return train(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.in, "in", nil, "file to read; may be repeated; - is standard input")
	f.StringVar(&o.out, "out", "", "file to write the model to")
	f.StringVar(&o.workload, "workload", "", "learn from this workload only, namespace/kind/name, or from this agent of a recording")
	f.Float64Var(&o.budget, "budget", 0.01, "share of benign calls that may exceed the threshold")
	f.IntVar(&o.minCalls, "min-calls", detector.DefaultMinCalls, "calls that there must be")
	f.IntVar(&o.minSessions, "min-sessions", detector.DefaultMinSessions, "conversations that they must come from")
	f.Uint64Var(&o.seed, "seed", 1, "the same records, flags and seed give the same model")
	for _, name := range []string{"in", "out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic("train: " + err.Error())
		}
	}
	return cmd
}

// tally counts the records that were not learned from, by cause.
type tally struct {
	records, repeated, elsewhere, featureless, refused, exceeding, tainted, attacks int
}

func train(ctx context.Context, stdin io.Reader, out, progress io.Writer, o trainOptions) error {
	rows, who, n, err := collect(ctx, stdin, progress, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "learning %s from %d calls\n", who, len(rows))
	m, err := detector.Train(rows, detector.Options{
		FalsePositivesPerMillion: int(math.Round(o.budget * 1e6)),
		Trimmed:                  detector.Counts{Seen: uint64(len(rows)), Exceeded: uint64(n.exceeding)}.Trimmed(),
		MinCalls:                 o.minCalls, MinSessions: o.minSessions, Seed: o.seed,
	})
	if err != nil {
		return fmt.Errorf("%w (of %d records: %s)", err, n.records, n.causes())
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return err
	}
	if err := writeFile(o.out, "model", func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(b)); return err }); err != nil {
		return err
	}

	info := m.Info()
	fmt.Fprintf(out, "workload   %s\n", who)
	fmt.Fprintf(out, "records    %d: %d learned, %s\n", n.records, info.Calls, n.causes())
	fmt.Fprintf(out, "sessions   %d\n", info.Sessions)
	fmt.Fprintf(out, "schema     %s\n", info.Schema)
	fmt.Fprintf(out, "threshold  %.4f for a budget of %g %%\n", info.Threshold, o.budget*100)
	fmt.Fprintf(out, "model      %s, %d bytes, sha256 %s\n", o.out, len(b), m.Digest())
	if !info.Supported {
		fmt.Fprintf(out, "\nToo few calls for that budget: it takes about %.0f. The threshold is the largest score among\nthem, and one benign call in %d is expected to exceed it.\n",
			math.Ceil(1/o.budget)-1, info.Calls+1)
	}
	return nil
}

// collect reads the rows of one workload.
func collect(ctx context.Context, stdin io.Reader, errs io.Writer, o trainOptions) (rows []detector.Row, who string, n tally, err error) {
	files, err := evaluation.Open(stdin, o.in...)
	if err != nil {
		return nil, "", n, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := newProgress(errs)
	defer p.end()
	seen := map[string]bool{}
	workloads := map[string]int{}
	counted := func(s *evaluation.Sample) bool {
		n.records++
		p.tell("read", n.records, 0)
		name := record.Clean(s.Subject())
		if s.ID != "" {
			key := name + "\x00" + s.ID
			if seen[key] {
				n.repeated++
				return false
			}
			seen[key] = true
		}
		workloads[name]++
		if o.workload != "" && !sameWorkload(o.workload, name) {
			n.elsewhere++
			return false
		}
		a := s.Admission()
		switch {
		case !s.HasFeatures():
			n.featureless++
		case s.Label == evaluation.Attack || s.Label == evaluation.AttackerTask:
			n.attacks++
		case a.Tainted:
			n.tainted++
		case a.Exceeds:
			n.exceeding++
		case !a.Released:
			n.refused++
		default:
			return true
		}
		return false
	}
	err = files.Each(ctx, counted, func(s *evaluation.Sample) error {
		rows = append(rows, s.Row())
		return nil
	})
	if err != nil {
		return nil, "", n, err
	}
	names := make([]string, 0, len(workloads))
	matching := 0
	for name := range workloads {
		names = append(names, name)
		if o.workload == "" || sameWorkload(o.workload, name) {
			matching++
			who = name
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return nil, "", n, fmt.Errorf("no calls in %s", strings.Join(o.in, ", "))
	case matching == 0:
		return nil, "", n, fmt.Errorf("no calls of the workload %s; there are calls of:%s", o.workload, list(names, workloads))
	case matching > 1:
		return nil, "", n, fmt.Errorf("calls of %d workloads; name one with --workload:%s", matching, list(names, workloads))
	}
	return rows, who, n, nil
}

func (n tally) causes() string {
	out := amounts(amount{n.refused, "not released by decision"}, amount{n.exceeding, "over the threshold"}, amount{n.tainted, "in tainted conversations"},
		amount{n.featureless, "without features"}, amount{n.attacks, "of attacks"}, amount{n.elsewhere, "of other workloads"}, amount{n.repeated, "repeated"})
	if out == "" {
		return "none left out"
	}
	return out
}

func list(names []string, counts map[string]int) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "\n  %s (%d)", name, counts[name])
	}
	return b.String()
}

func workloadName(w policy.Workload) string {
	return record.Clean(w.Namespace + "/" + w.Kind + "/" + w.Name)
}

// sameWorkload compares names; a kind's case does not matter, as with kubectl.
func sameWorkload(a, b string) bool {
	if a == b {
		return true
	}
	x, y := strings.SplitN(a, "/", 3), strings.SplitN(b, "/", 3)
	return len(x) == 3 && len(y) == 3 && x[0] == y[0] && strings.EqualFold(x[1], y[1]) && x[2] == y[2]
}

// writeFile writes the file as a whole or not at all. An error says that it is of this kind.
func writeFile(name, kind string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+kind+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	err = f.Chmod(0o644)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	return nil
}
