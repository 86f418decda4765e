package execute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy"
)

// The ways to make a command's calls come to the gate.
const (
	captureAuto      = "auto"
	captureNamespace = "namespace"
	captureProxy     = "proxy"
)

// options are the flags of exec.
type options struct {
	capture     string
	policy      string
	detector    string
	providers   []string
	passthrough []string
	name, state string
	observe     bool
	quiet       bool
	budget      int

	argv []string
}

// ExitError is how the command ended, where that was not well.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "the command ended with code " + strconv.Itoa(e.Code) }

// New returns the command "exec" and the hidden one that it runs itself as.
func New() []*cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARG...]",
		Short: "Run a command with every model call through the gate, without a cluster",
		Long: `Run a command and its children behind the same gate that a sidecar is in a cluster: every model call is decoded,
scored and judged by policy before it leaves, and each decision is one line on standard error.

How the command's calls come to the gate (--capture):

  namespace   The command runs in user, network and mount namespaces of its own. The gate is the only way out,
              names are answered from made-up addresses, and everything that is not TCP is refused. Nothing the
              command does can go around it, short of asking another program on this machine to.
  proxy       The command is told of the gate by HTTPS_PROXY and the variables for base URLs. A program that
              heeds neither goes around it. Both have a token of this run, without which the gate serves nobody.
  auto        namespace where the kernel allows it, otherwise proxy; it says which. The default.

The providers' credentials are taken from the environment of sallyport: OPENAI_API_KEY, ANTHROPIC_API_KEY,
GEMINI_API_KEY, CO_API_KEY, MISTRAL_API_KEY, GROQ_API_KEY, DEEPSEEK_API_KEY, OPENROUTER_API_KEY,
AZURE_OPENAI_API_KEY (with AZURE_OPENAI_ENDPOINT), the AWS_ variables (for Bedrock) and
GOOGLE_APPLICATION_CREDENTIALS (for Vertex AI). The command finds a placeholder in their place. A provider of
--providers gets SALLYPORT_CREDENTIAL_<NAME>.

The detector learns the calls of each command by --name, from one run to the next, and judges them once it
has seen enough; until then policy decides alone. Decisions are kept in decisions.jsonl below --state:
"sallyport tail" follows them, "sallyport explain ID" shows one.`,
		Example: `  sallyport exec -- python agent.py
  sallyport exec --policy ./policy --passthrough pypi.org,files.pythonhosted.org -- npm start
  sallyport exec --providers ollama.yaml --capture proxy -- node agent.mjs`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			o.argv = args
			return o.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr(), os.Environ())
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.capture, "capture", captureAuto, "auto, namespace or proxy")
	f.StringVar(&o.policy, "policy", "", "directory of Rego modules, or a bundle (.tar.gz); the built-in baseline if not set")
	f.StringVar(&o.detector, "detector", "", "file with a model, made by sallyport train; nothing is learned then")
	f.StringArrayVar(&o.providers, "providers", nil, "YAML file of ModelProviders beside or in place of the known ones; may be repeated")
	f.StringSliceVar(&o.passthrough, "passthrough", nil, "hosts (or host:port) that are no model provider and may be reached, unread")
	f.StringVar(&o.name, "name", "", "workload that the calls are counted to and learned for; the command's file name if not set")
	f.StringVar(&o.state, "state", "", "directory for decisions and what is learned; $XDG_STATE_HOME/sallyport if not set")
	f.IntVar(&o.budget, "false-positives-per-million", 0, "budget of the detector that is learned; 0 is its default")
	f.BoolVar(&o.observe, "observe", false, "record what policy would refuse, and release it")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing but errors")
	return []*cobra.Command{cmd, newInside()}
}

// snapshot is what the proxy is to do.
func (o *options) snapshot(s *providerSet) (proxy.Snapshot, error) {
	snap := proxy.Snapshot{Workload: o.workload(), Mode: "enforce", Providers: s.providers, Credentials: s.credentials, Salt: features.RecordedSalt}
	if o.observe {
		snap.Mode = "observe"
	}
	for _, h := range o.passthrough {
		rule := proxy.Passthrough{Host: h, Ports: []uint16{443}}
		if host, port, err := net.SplitHostPort(h); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return snap, fmt.Errorf("--passthrough: %q: %q is no port", h, port)
			}
			rule.Host, rule.Ports = host, []uint16{uint16(n)}
		}
		snap.Passthrough = append(snap.Passthrough, rule)
	}
	return snap, nil
}

// workload is who calls, in the terms of a cluster.
func (o *options) workload() policy.Workload {
	w := policy.Workload{Namespace: Namespace, Kind: "Command", Name: o.name, Pod: "local"}
	if host, err := os.Hostname(); err == nil {
		w.Pod = host
	}
	if u, err := user.Current(); err == nil {
		w.ServiceAccount = u.Username
	}
	return w
}

// run is the life of exec.
func (o *options) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, environ []string) (err error) {
	switch o.capture {
	case captureAuto, captureNamespace, captureProxy:
	default:
		return fmt.Errorf("--capture %q; accepted are auto, namespace and proxy", o.capture)
	}
	getenv := lookup(environ)
	if o.name == "" {
		o.name = filepath.Base(o.argv[0])
	}
	if _, err := exec.LookPath(o.argv[0]); err != nil {
		return err // names the command
	}
	if o.state == "" {
		if o.state, err = StateDir(getenv); err != nil {
			return err
		}
	}
	set, err := gather(o.providers, getenv)
	if err != nil {
		return err
	}
	snap, err := o.snapshot(set)
	if err != nil {
		return err
	}
	modules, err := o.modules()
	if err != nil {
		return err
	}

	s := &show{out: stderr, painter: record.Painter{Colour: record.Colours(stderr)}, outcomes: map[telemetry.Outcome]int{}, rules: map[string]int{}}
	if o.quiet {
		s.out = nil
	}
	model, err := o.loadModel(s)
	if err != nil {
		return err
	}
	if s.kept, err = openRecords(RecordsFile(o.state)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.kept.close()) }()

	dir, err := os.MkdirTemp("", "sallyport-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	g, err := newGate(modules, model, s, stderr)
	if err != nil {
		return err
	}
	if err := certs.WriteTrust(dir, g.root); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the command may run as somebody else
		return fmt.Errorf("show the trust files: %w", err)
	}
	if err := g.proxy.Update(snap); err != nil {
		return err
	}
	err = o.under(ctx, g, s, set, dir, environ, stdin, stdout, stderr)
	g.drain()
	if s.learning != nil {
		said, lerr := s.learning.close()
		if err = errors.Join(err, lerr); said != "" {
			s.say("%s", said)
		}
	}
	s.say("%s; decisions in %s", s.summary(), RecordsFile(o.state))
	return err
}

// loadModel is the model to begin with, nil where there is none yet.
func (o *options) loadModel(s *show) (m *detector.Model, err error) {
	if o.detector == "" {
		s.learning, m, err = openLearning(o.state, o.name, detector.Options{FalsePositivesPerMillion: o.budget})
		return m, err
	}
	b, err := os.ReadFile(o.detector)
	if err == nil {
		m, err = detector.Load(b)
	}
	if err != nil {
		return nil, fmt.Errorf("--detector: %w", err)
	}
	return m, nil
}

// under runs the command under the gate, sealed or told of it.
func (o *options) under(ctx context.Context, g *theGate, s *show, set *providerSet, dir string, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if o.capture != captureProxy {
		resolvConf := filepath.Join(dir, "resolv.conf")
		if err := os.WriteFile(resolvConf, []byte("# Names are answered by sallyport.\nnameserver 127.0.0.1\noptions ndots:0\n"), 0o644); err != nil {
			return fmt.Errorf("write the name server's address: %w", err)
		}
		inside, err := seal(ctx, plan{Argv: o.argv, Env: environment(environ, set, dir, way{}), ResolvConf: resolvConf}, stdin, stdout, stderr)
		if err == nil {
			defer inside.close()
			if err := hide(); err != nil {
				inside.abandon()
				return err
			}
			names := newNames()
			go names.servePackets(inside.packets)
			go names.serveStreams(inside.streams)
			for _, l := range inside.captured {
				g.serve(func() error { return g.proxy.Serve(l) })
			}
			s.say("%s is sealed in a network namespace: every way out is through the gate", o.argv[0])
			return wait(ctx, inside.cmd, inside.release)
		}
		if o.capture == captureNamespace {
			return fmt.Errorf("--capture namespace: %w", err)
		}
		s.say("no namespace can be made (%v)", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the command: %w", err)
	}
	g.serve(func() error { return g.proxy.ServeExplicit(l) })
	s.say("%s is told of the gate by HTTPS_PROXY and base URLs: a program that heeds neither goes around it", o.argv[0])
	// wait tells the command of the end of ctx by a signal that it can heed: its end must not be a kill.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), o.argv[0], o.argv[1:]...)
	cmd.Env = environment(environ, set, dir, way{l.Addr().String(), g.token})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if err := hide(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", o.argv[0], err)
	}
	return wait(ctx, cmd, func() error { return nil })
}

// wait lets the command begin and waits for its end. Signals from the terminal reach the command by themselves; others are passed on.
func wait(ctx context.Context, cmd *exec.Cmd, begin func() error) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	if err := begin(); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("let the command begin: %w", err)
	}
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGHUP {
				_ = cmd.Process.Signal(sig)
			}
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			ctx = context.Background()
		case err := <-done:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				return err
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return &ExitError{128 + int(status.Signal())} // as shells say it
			}
			return &ExitError{exit.ExitCode()}
		}
	}
}

func lookup(environ []string) func(string) string {
	env := map[string]string{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

// patience is how long calls in flight may take to end when the command has ended.
const patience = 5 * time.Second
