// Package tail is "sallyport tail": it follows decisions, those of commands under "sallyport exec" or those of a cluster's sidecars.
package tail

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// options are the flags of tail.
type options struct {
	in        string
	namespace string
	all       bool
	since     time.Duration
	output    string
	filter    filter
}

// filter says which records to show. Empty fields let all pass.
type filter struct {
	outcomes, rules, models, providers, workloads []string
	minScore                                      float64
}

var outcomes = []string{string(telemetry.OutcomeReleased), string(telemetry.OutcomeRefused), string(telemetry.OutcomeRelaxed), string(telemetry.OutcomeCut)}

func (f *filter) check() error {
	for _, o := range f.outcomes {
		if !slices.Contains(outcomes, o) {
			return fmt.Errorf("--outcome %q; accepted are %s", o, strings.Join(outcomes, ", "))
		}
	}
	for _, patterns := range [][]string{f.rules, f.models, f.providers, f.workloads} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil {
				return fmt.Errorf("pattern %q: %w; accepted are names, with * and ? for any letters", p, err)
			}
		}
	}
	return nil
}

// pass says whether a record is to be shown.
func (f *filter) pass(r *telemetry.Record) bool {
	w := r.Workload
	return matches(f.outcomes, string(r.Outcome)) && matches(f.rules, r.Rule) && matches(f.models, r.Call.Model) && matches(f.providers, r.Destination.Provider) &&
		(matches(f.workloads, w.Name) || matches(f.workloads, w.Namespace+"/"+w.Name) || matches(f.workloads, w.Pod)) &&
		(f.minScore <= 0 || r.Anomaly.Ready && r.Anomaly.Score >= f.minScore)
}

// matches says whether any pattern matches. "/" is a letter like others: models have it in their names.
func matches(patterns []string, s string) bool {
	if len(patterns) == 0 {
		return true
	}
	flat := strings.NewReplacer("/", "\x1f")
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(flat.Replace(p), flat.Replace(s))
		return err == nil && ok
	})
}

// New returns the command "tail".
func New() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "tail [flags]",
		Short: "Follow decisions",
		Long: `Follow decisions, a line each, until interrupted. Without -n or -A they are those of the commands that ran under
"sallyport exec" on this machine; with one of them, those of the sidecars in a cluster, by their logs.

Filters take names, in which * and ? stand for any letters; a flag that is repeated lets any of its values pass.`,
		Example: `  sallyport tail
  sallyport tail -n agents --outcome refused --outcome cut
  sallyport tail -A --model 'gpt-*' -o json | jq .anomaly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), os.Getenv)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.in, "in", "", "file of records or a sidecar's log, instead of this machine's")
	f.StringVarP(&o.namespace, "namespace", "n", "", "follow the sidecars of this namespace")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "follow the sidecars of all namespaces")
	f.DurationVar(&o.since, "since", 0, "begin with the decisions of the last while, such as 10m; nothing that has been if not set")
	f.StringVarP(&o.output, "output", "o", "line", "line or json")
	f.StringArrayVar(&o.filter.outcomes, "outcome", nil, "released, refused, relaxed or cut")
	f.StringArrayVar(&o.filter.rules, "rule", nil, "rule that decided")
	f.StringArrayVar(&o.filter.models, "model", nil, "model that was asked for")
	f.StringArrayVar(&o.filter.providers, "provider", nil, "provider")
	f.StringArrayVar(&o.filter.workloads, "workload", nil, "workload, namespace/workload or pod")
	f.Float64Var(&o.filter.minScore, "min-score", 0, "detector's score, from 0 to 1, or more")
	cmd.MarkFlagsMutuallyExclusive("in", "namespace", "all-namespaces")
	return cmd
}

func (o *options) run(ctx context.Context, out, errs io.Writer, getenv func(string) string) error {
	if o.output != "line" && o.output != "json" {
		return fmt.Errorf("--output %q; accepted are line and json", o.output)
	}
	if err := o.filter.check(); err != nil {
		return err
	}
	painter := record.Painter{Colour: record.Colours(out)}
	from := time.Now().Add(-o.since)
	each := func(r *telemetry.Record) error {
		if o.since > 0 && r.Time.Before(from) || !o.filter.pass(r) {
			return nil
		}
		line := painter.Line(r)
		if o.namespace != "" || o.all {
			line = record.Clean(r.Workload.Namespace+"/"+r.Workload.Pod) + " " + line
		}
		if o.output == "json" {
			b, err := r.Encode()
			if err != nil {
				return err
			}
			line = string(b)
		}
		_, err := io.WriteString(out, line+"\n")
		return err
	}
	if o.namespace != "" || o.all {
		c, err := record.OpenCluster(o.namespace, o.all)
		if err != nil {
			return err
		}
		return c.Follow(ctx, o.since, each, func(err error) { _, _ = fmt.Fprintln(errs, "sallyport:", err) })
	}
	file := o.in
	if file == "" {
		dir, err := execute.StateDir(getenv)
		if err != nil {
			return err
		}
		file = execute.RecordsFile(dir)
	}
	return record.Follow(ctx, file, o.since > 0, each)
}
