package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/evaluation"
)

// streams are where a command reads and writes.
type streams struct {
	in        io.Reader
	out, errs io.Writer
}

// interruptedStatus is the exit status of a command that was interrupted, as shells have it.
const interruptedStatus = 128 + int(syscall.SIGINT)

// runs makes what cobra runs of a command. An interrupt ends it and leaves no half-written file; a second one ends the program at once. Errors of check are about flags and show the usage.
func runs(check func(cmd *cobra.Command) error, do func(ctx context.Context, s streams) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := check(cmd); err != nil {
			return err
		}
		cmd.SilenceUsage = true
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop)
		err := do(ctx, streams{cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()})
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return &execute.ExitError{Code: interruptedStatus}
		}
		return err
	}
}

// required marks flags that there must be.
func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(cmd.Name() + ": " + err.Error())
		}
	}
}

// accepted says in a help text which files are read.
const accepted = `Accepted, mixed as one likes and the first two gzipped or not, are
  decision records   JSON lines or lines of a log, as sidecars log them and "sallyport exec" keeps them
  recorded sessions  JSON lines of {session, agent, model, task, label, attack, tools, messages, requests}, request k
                     being {n, stage, first_exposed, ts}: the first n messages
  Parquet files      with a column for each feature and a session, as "sallyport features" writes`

// input is what recorded calls a command reads.
type input struct {
	files    []string
	workload string // "" for all
}

// String names the files.
func (in *input) String() string {
	names := slices.Clone(in.files)
	for i, name := range names {
		if name == "-" {
			names[i] = "standard input"
		}
	}
	return strings.Join(names, ", ")
}

// flag adds a flag of files.
func (in *input) flag(cmd *cobra.Command, name, what string) {
	cmd.Flags().StringArrayVar(&in.files, name, nil, "`file` "+what+"; may be repeated; - is standard input")
}

// workloadFlag adds the flag that names a workload.
func (in *input) workloadFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.workload, "workload", "", "only calls of the workload of this `name`, namespace/kind/name, or of this agent of a recording")
}

// use hands over the files, and what tells of progress.
func (in *input) use(s streams, do func(*evaluation.Files, *progress) error) (err error) {
	files, err := evaluation.Open(s.in, in.files...)
	if err != nil {
		return err
	}
	p := newProgress(s.errs)
	defer func() {
		p.end()
		err = errors.Join(err, files.Close())
	}()
	return do(files, p)
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

// amount is how many there are of something.
type amount struct {
	n    int
	what string
}

// amounts lists those that are not nothing.
func amounts(all ...amount) string {
	out := ""
	for _, a := range all {
		if a.n > 0 {
			out += fmt.Sprintf(", %d %s", a.n, a.what)
		}
	}
	if out == "" {
		return ""
	}
	return out[2:]
}

// counted is a number of things, with the word for one or for several.
func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

// subject is the name of whose call it is, for the terminal.
func subject(s *evaluation.Sample) string { return record.Clean(s.Subject()) }
