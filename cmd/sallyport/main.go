// Command sallyport is the command line for people: it runs a command behind the gate, follows and explains decisions, injects sidecars
// into manifests, and trains and evaluates detectors with recorded calls.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/detect"
	"sallyport.dev/sallyport/cmd/sallyport/internal/execute"
	"sallyport.dev/sallyport/cmd/sallyport/internal/feedback"
	"sallyport.dev/sallyport/cmd/sallyport/internal/inject"
	"sallyport.dev/sallyport/cmd/sallyport/internal/tail"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = ""

func main() {
	if err := command().Execute(); err != nil {
		var exit *execute.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.Code) // the command has said what there is to say
		}
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A gate for the model calls of agents on Kubernetes",
		// main says what is wrong, once.
		SilenceErrors: true,
	}
	root.AddCommand(execute.New()...)
	root.AddCommand(
		inject.New(buildVersion()),
		detect.NewTrain(),
		detect.NewEval(),
		detect.NewExplain(),
		detect.NewFeatures(),
		detect.NewDrift(),
		tail.New(),
		feedback.New(),
		&cobra.Command{
			Use:   "version",
			Short: "Print the version",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), buildVersion())
				return err
			},
		},
	)
	return root
}

// buildVersion is what the linker was told, or else what the Go toolchain knows of the module and the commit.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "unknown"
}
