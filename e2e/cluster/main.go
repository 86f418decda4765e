// Command cluster runs a real Kubernetes cluster on this machine for the end-to-end
// tests. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"sallyport.dev/sallyport/e2e/cluster/host"
	"sallyport.dev/sallyport/e2e/cluster/image"
	"sallyport.dev/sallyport/e2e/cluster/node"
)

const usage = `usage: go run -C e2e/cluster . <verb>

  deps        install the Debian packages that are missing
  build       build what the cluster is run from, into the cache
  up          bring the cluster up, or whatever of it is not up
  status      show what runs
  down        end everything and remove its traces
  kubeconfig  print the path of the administrator's kubeconfig
  env         print shell lines that set KUBECONFIG, IMAGE_REGISTRY and PATH, for eval
  image NAME[:TAG] --binary PATH [--binary PATH]... [--entrypoint /NAME] [--user UID[:GID]] [--certs]
              make an image of static binaries, push it to $IMAGE_REGISTRY and print its
              reference by digest; paths are best absolute, others count from e2e/cluster

  SALLYPORT_CACHE        where built programs are kept   (default ~/.cache/sallyport)
  SALLYPORT_CLUSTER_DIR  where the running cluster lives (default /var/lib/sallyport-cluster)
  IMAGE_REGISTRY         where image pushes to           (default 127.0.0.1:5000)
`

// errUsage asks for the usage to be shown.
var errUsage = errors.New("see the usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run is the whole command. What a script may read goes to out, progress to log.
func run(ctx context.Context, args []string, getenv func(string) string, out, log io.Writer) error {
	if len(args) == 0 || args[0] != "image" && len(args) != 1 {
		return errUsage
	}
	layout, err := layout(getenv)
	if err != nil {
		return err
	}
	n := node.Node{Layout: layout, Log: log}
	switch args[0] {
	case "deps":
		return host.Install(ctx, log)
	case "build":
		_, err := n.Build(ctx)
		return err
	case "up":
		return n.Up(ctx)
	case "status":
		return status(ctx, n, out)
	case "down":
		return n.Down(ctx)
	case "kubeconfig":
		_, err := fmt.Fprintln(out, n.Kubeconfig())
		return err
	case "env":
		_, err := fmt.Fprintf(out, "export KUBECONFIG=%s\nexport IMAGE_REGISTRY=%s\nexport PATH=%s:\"$PATH\"\n",
			quote(n.Kubeconfig()), quote(imageRegistry(getenv)), quote(n.Programs()))
		return err
	case "image":
		return pushImage(ctx, args[1:], imageRegistry(getenv), out)
	}
	return errUsage
}

// layout takes the places of things from the environment.
func layout(getenv func(string) string) (node.Layout, error) {
	cache := getenv("SALLYPORT_CACHE")
	if cache == "" {
		base := getenv("XDG_CACHE_HOME")
		if base == "" {
			home := getenv("HOME")
			if home == "" {
				return node.Layout{}, errors.New("none of SALLYPORT_CACHE, XDG_CACHE_HOME and HOME is set")
			}
			base = filepath.Join(home, ".cache")
		}
		cache = filepath.Join(base, "sallyport")
	}
	state := getenv("SALLYPORT_CLUSTER_DIR")
	if state == "" {
		state = "/var/lib/sallyport-cluster"
	}
	layout := node.Layout{}
	for _, dir := range []struct {
		path string
		set  *string
	}{{cache, &layout.Cache}, {state, &layout.State}, {".", &layout.Source}} {
		absolute, err := filepath.Abs(dir.path)
		if err != nil {
			return node.Layout{}, fmt.Errorf("find %s: %w", dir.path, err)
		}
		*dir.set = absolute
	}
	return layout, nil
}

func imageRegistry(getenv func(string) string) string {
	if registry := getenv("IMAGE_REGISTRY"); registry != "" {
		return registry
	}
	return node.Registry
}

// quote makes one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// status prints the table; that something is not well is an error, so that scripts can ask.
func status(ctx context.Context, n node.Node, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tPID\tHEALTH")
	bad := 0
	for _, state := range n.Status(ctx) {
		pid := "-"
		if state.PID != 0 {
			pid = fmt.Sprint(state.PID)
		}
		if state.Health != "ok" {
			bad++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", state.Name, pid, state.Health)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d components are not well", bad)
	}
	return nil
}

// pushImage is the verb image: the name may stand before or after the flags.
func pushImage(ctx context.Context, args []string, registry string, out io.Writer) error {
	var name string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	var spec image.Spec
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.Func("binary", "a static binary; may be given more than once", func(path string) error {
		spec.Binaries = append(spec.Binaries, path)
		return nil
	})
	flags.StringVar(&spec.Entrypoint, "entrypoint", "", "what runs, as a path in the image (default the first binary)")
	flags.StringVar(&spec.User, "user", "", "the numeric user that runs it (default root)")
	flags.BoolVar(&spec.Certs, "certs", false, "add this machine's CA certificates")
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if name == "" && flags.NArg() == 1 {
		name = flags.Arg(0)
	} else if name == "" || flags.NArg() != 0 {
		return errUsage
	}
	img, err := image.Build(spec)
	if err != nil {
		return err
	}
	ref, err := image.Push(ctx, img, registry+"/"+name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, ref)
	return err
}
