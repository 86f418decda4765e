// Command sallyport-controller is the admission webhook and the control plane.
package main

import (
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"

	"sallyport.dev/sallyport/cmd/sallyport-controller/app"
)

func main() {
	if err := app.NewCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "sallyport-controller:", err)
		os.Exit(1)
	}
}
