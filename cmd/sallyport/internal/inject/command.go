package inject

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/webhook"
)

// New returns the command "inject". The version is written into the status annotation.
func New(version string) *cobra.Command {
	var (
		file, anchors, keys, format string
		options                     Options
		config                      = webhook.Config{Version: version}
	)
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Add the sidecar to the pods in a file of manifests",
		Long: `Add the sidecar to every pod, and every pod template, in a file of manifests: what the
webhook does in a cluster, for review, for GitOps, or for clusters without the webhook.

Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob and lists of them are
understood; other documents are copied. Namespaces and EgressProfiles in the file count as they would in the
cluster; a namespace that is not in the file is taken to be labelled for injection.

The manifests go to standard output, the report to standard error. If a pod cannot be guarded, the report says
why, nothing is written, and the exit code is 1.`,
		Example: `  sallyport inject -f agents.yaml --trust-anchors-file ca.crt --bundle-keys-file bundle.pub | kubectl apply -f -`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch format {
			case "text":
			case "json":
				options.JSON = true
			default:
				return fmt.Errorf("--report %q: accepted are text and json", format)
			}
			switch {
			case anchors == "" && keys == "":
				config.TrustAnchors, config.BundleKeys = preview, preview
				if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "This is a preview: a sidecar without --trust-anchors-file and --bundle-keys-file trusts nobody and does not start. Give both to apply it."); err != nil {
					return err
				}
			case anchors == "" || keys == "":
				return errors.New("--trust-anchors-file and --bundle-keys-file go together: give both, or neither for a preview")
			default:
				var err error
				if config.TrustAnchors, err = readFile(anchors); err != nil {
					return fmt.Errorf("--trust-anchors-file: %w", err)
				}
				if config.BundleKeys, err = readFile(keys); err != nil {
					return fmt.Errorf("--bundle-keys-file: %w", err)
				}
				if err := config.Validate(); err != nil {
					return err
				}
			}
			options.Config = &config
			in := cmd.InOrStdin()
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				in = f
			}
			cmd.SilenceUsage = true
			return Run(in, cmd.OutOrStdout(), cmd.ErrOrStderr(), options)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "filename", "f", "", "file of manifests, YAML or JSON; - is standard input")
	f.StringVarP(&options.Namespace, "namespace", "n", "default", "namespace of objects that name none")
	f.StringVar(&format, "report", "text", "form of the report: text or json")
	f.StringVar(&config.ProxyImage, "proxy-image", "sallyport-proxy:latest", "image of the sidecar")
	f.StringVar(&config.DiscoveryAddress, "discovery-address", "sallyport-controller.sallyport-system.svc:15012", "host:port of the controller's gRPC service")
	f.StringVar(&config.BundleURL, "bundle-url", "https://sallyport-controller.sallyport-system.svc:15013", "base URL of the controller's bundle service")
	f.StringVar(&anchors, "trust-anchors-file", "", "PEM file with the cluster's root certificate: ca.crt of the secret sallyport-serving; without it and the next, the output is a preview")
	f.StringVar(&keys, "bundle-keys-file", "", "PEM file with the public keys that may sign policy bundles")
	if err := cmd.MarkFlagRequired("filename"); err != nil {
		panic("inject: " + err.Error())
	}
	return cmd
}

// preview stands where a preview has no trust anchors and no keys. It is no PEM, so that a sidecar that gets it does not start.
const preview = "(preview: see sallyport inject --help)"

func readFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}
