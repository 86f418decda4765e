// Command sallyport is the command line for people: it injects sidecars into manifests, trains detectors from
// recorded calls, and explains what a detector saw in one.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/sallyport/internal/detect"
	"sallyport.dev/sallyport/cmd/sallyport/internal/inject"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = ""

func main() {
	if err := command().Execute(); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A gate for the model calls of agents on Kubernetes",
	}
	root.AddCommand(
		inject.New(buildVersion()),
		detect.NewTrain(),
		detect.NewExplain(),
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
