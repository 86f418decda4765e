package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"sallyport.dev/sallyport/pkg/contract"
)

// runOptions are what the sidecar is started with. The webhook writes the environment; the flags have defaults that
// fit the container that it renders.
type runOptions struct {
	discoveryAddress string
	bundleURL        string
	trustAnchors     []byte
	bundleKeys       []byte
	workload         string
	podName          string
	podNamespace     string
	podUID           string
	serviceAccount   string

	tokenPath     string
	stateDir      string
	trustDir      string
	captureListen string
	explicit      string // address of the explicit proxy; "" where there is none
	healthListen  string
	drain         time.Duration
	logLevel      zapcore.Level
}

// node is how the sidecar names itself to the control plane, which takes the identity from the token.
func (o *runOptions) node() string { return o.podNamespace + "/" + o.podName }

// commonName is the subject that the sidecar's intermediate must have.
func (o *runOptions) commonName() string { return "sallyport sidecar " + o.node() }

// parseRun reads flags and environment, and says all that is missing at once.
func parseRun(args []string, getenv func(string) string, out io.Writer) (*runOptions, error) {
	o := &runOptions{
		discoveryAddress: getenv(contract.EnvDiscoveryAddress),
		bundleURL:        getenv(contract.EnvBundleURL),
		trustAnchors:     []byte(getenv(contract.EnvTrustAnchors)),
		bundleKeys:       []byte(getenv(contract.EnvBundleKeys)),
		workload:         getenv(contract.EnvWorkload),
		podName:          getenv(contract.EnvPodName),
		podNamespace:     getenv(contract.EnvPodNamespace),
		podUID:           getenv(contract.EnvPodUID),
		serviceAccount:   getenv(contract.EnvServiceAccount),
	}
	explicit := ""
	if getenv(contract.EnvExplicit) == "true" {
		explicit = fmt.Sprintf("127.0.0.1:%d", contract.ExplicitPort)
	}
	f := flag.NewFlagSet("sallyport-proxy run", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.tokenPath, "token", contract.TokenPath, "file with the ServiceAccount token")
	f.StringVar(&o.stateDir, "state-dir", contract.StatePath, "directory for the last good of everything")
	f.StringVar(&o.trustDir, "trust-dir", contract.TrustPath, "directory for the agent's trust files")
	f.StringVar(&o.captureListen, "capture-listen", "", "address for captured connections; by default the capture port on all addresses of both families")
	f.StringVar(&o.explicit, "explicit-listen", explicit, "address of the explicit proxy, to which whoever reaches it may make calls; none where it is empty")
	f.StringVar(&o.healthListen, "health-listen", fmt.Sprintf(":%d", contract.HealthPort), "address for probes and metrics")
	f.DurationVar(&o.drain, "drain", 25*time.Second, "how long calls in flight may take to end after SIGTERM")
	f.TextVar(&o.logLevel, "log-level", zap.InfoLevel, "least level that is logged; decisions are info")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var missing []string
	for name, value := range map[string]string{
		contract.EnvDiscoveryAddress: o.discoveryAddress,
		contract.EnvBundleURL:        o.bundleURL,
		contract.EnvTrustAnchors:     string(o.trustAnchors),
		contract.EnvBundleKeys:       string(o.bundleKeys),
		contract.EnvPodName:          o.podName,
		contract.EnvPodNamespace:     o.podNamespace,
	} {
		if strings.TrimSpace(value) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, errors.New("the environment lacks " + strings.Join(sorted(missing), ", "))
	}
	return o, nil
}

// initOptions are those of the init container.
type initOptions struct {
	resolvConf string
	port       uint
	uid        uint
}

func parseInit(args []string, out io.Writer) (*initOptions, error) {
	o := &initOptions{}
	f := flag.NewFlagSet("sallyport-proxy init", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.resolvConf, "resolv-conf", "/etc/resolv.conf", "file that names the pod's resolvers")
	f.UintVar(&o.port, "port", uint(contract.CapturePort), "port that connections are redirected to")
	f.UintVar(&o.uid, "uid", uint(contract.ProxyUID), "user whose own connections are not captured")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.port == 0 || o.port > 65535 || o.uid == 0 || o.uid > 1<<31 {
		return nil, errors.New("port or uid out of range")
	}
	return o, nil
}
