// Command sallyport-proxy is the sidecar: it judges the model calls of its pod and forwards what it releases. Its
// subcommand init installs the capture rules and ends.
//
// It is built static and small, without what OPA and gRPC bring along for others:
//
//	CGO_ENABLED=0 go build -trimpath -tags netgo,osusergo,opa_no_oci,grpcnotrace -ldflags '-s -w' ./cmd/sallyport-proxy
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sallyport.dev/sallyport/cmd/sallyport-proxy/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := app.Main(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sallyport-proxy:", err)
		os.Exit(1)
	}
}
