package detect

import "github.com/spf13/cobra"

// NewTrain returns the command "train".
func NewTrain() *cobra.Command { return &cobra.Command{Use: "train"} }

// NewExplain returns the command "explain".
func NewExplain() *cobra.Command { return &cobra.Command{Use: "explain"} }
