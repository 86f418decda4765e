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
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"sallyport.dev/sallyport/cmd/sallyport-proxy/internal/app"
	"sallyport.dev/sallyport/proxy/collector"
)

func main() {
	tuneCollector(os.Getenv("GOGC") != "")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := app.Main(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sallyport-proxy:", err)
		os.Exit(1)
	}
}

// tuneCollector gives the garbage collector the container's memory to work in. The webhook sets GOMEMLIMIT to the container's limit; an eighth of that
// is left to what Go does not count: stacks of the kernel, the page cache, the memory-backed volume. Without a limit everything stays as Go has it.
func tuneCollector(percentIsSet bool) {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return
	}
	debug.SetMemoryLimit(limit - limit/8)
	if !percentIsSet {
		collector.Tune()
	}
}
