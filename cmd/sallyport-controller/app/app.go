package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/controlplane"
	"sallyport.dev/sallyport/webhook"
)

// leaseName is the lease by which replicas elect a leader.
const leaseName = "sallyport-controller"

// linked is set by the linker: -X sallyport.dev/sallyport/cmd/sallyport-controller/app.linked=v1.2.3.
var linked string

// NewCommand is the command line of the controller.
func NewCommand() *cobra.Command {
	o := NewOptions()
	cmd := &cobra.Command{
		Use:           "sallyport-controller",
		Short:         "Sallyport's admission webhook and control plane",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Complete(); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return err
			}
			config, err := ctrl.GetConfig()
			if err != nil {
				return err
			}
			return Run(cmd.Context(), o, config)
		},
	}
	o.AddFlags(cmd.Flags())
	return cmd
}

// Run runs the controller with completed options until ctx is done.
func Run(ctx context.Context, o *Options, config *rest.Config) error {
	logger := zap.New(zap.UseDevMode(false), zap.Level(zapcore.Level(-o.Verbosity)))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)

	certificate, err := certwatcher.New(filepath.Join(o.ServingCertDir, certFile), filepath.Join(o.ServingCertDir, keyFile))
	if err != nil {
		return fmt.Errorf("load serving certificate: %w", err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        controlplane.Scheme(),
		Cache:                         controlplane.CacheOptions(o.Namespace),
		Logger:                        logger,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true, // main ends when the manager does
		GracefulShutdownTimeout:       &o.ShutdownTimeout,
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:        o.HealthAddress,
		// The webhook server watches the files itself.
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{Port: o.WebhookPort, CertDir: o.ServingCertDir}),
	})
	if err != nil {
		return fmt.Errorf("make manager: %w", err)
	}
	if err := mgr.Add(everyReplica{certificate}); err != nil {
		return fmt.Errorf("watch serving certificate: %w", err)
	}
	if err := addWebhook(ctx, mgr, o); err != nil {
		return err
	}
	if _, err := controlplane.New(mgr, controlplane.Config{
		Namespace:        o.Namespace,
		Issuer:           o.Issuer,
		BundleKey:        o.bundleKey,
		GetCertificate:   certificate.GetCertificate,
		DiscoveryAddress: net.JoinHostPort("", strconv.Itoa(o.DiscoveryPort)),
		BundleAddress:    net.JoinHostPort("", strconv.Itoa(o.BundlePort)),
		MemoryLimit:      tuneMemory(),
		Registerer:       ctrlmetrics.Registry,
	}); err != nil {
		return err
	}
	if err := addChecks(mgr); err != nil {
		return err
	}
	logger.Info("starting", "version", version(), "namespace", o.Namespace)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// tuneMemory returns what GOMEMLIMIT says, which deploy/base sets to the container's limit; 0 where it says nothing. A sixteenth of it is left to what Go does not count.
func tuneMemory() int64 {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return 0
	}
	debug.SetMemoryLimit(limit - limit/16)
	return limit
}

// everyReplica starts a runnable without waiting to be the leader.
type everyReplica struct{ manager.Runnable }

// NeedLeaderElection is false.
func (everyReplica) NeedLeaderElection() bool { return false }

// addWebhook serves admission.
func addWebhook(ctx context.Context, mgr manager.Manager, o *Options) error {
	// The handler reads these at each admission; asked for now, their caches are filled before the webhook listens.
	if _, err := mgr.GetCache().GetInformer(ctx, &corev1.Namespace{}); err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	if _, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.EgressProfile{}); err != nil {
		return fmt.Errorf("watch profiles: %w", err)
	}
	handler, err := webhook.NewHandler(webhook.HandlerOptions{
		Reader:     mgr.GetClient(),
		Config:     func() (*webhook.Config, error) { return &o.webhook, nil },
		Events:     mgr.GetEventRecorder("sallyport-webhook"),
		Registerer: ctrlmetrics.Registry,
	})
	if err != nil {
		return err
	}
	mgr.GetWebhookServer().Register(webhook.MutatePath, &admission.Webhook{Handler: handler})
	return nil
}

// addChecks answers the probes: alive is who answers, ready who has filled its caches and serves the webhook with a certificate. Being the leader is no part of it, since
// followers admit pods too.
func addChecks(mgr manager.Manager) error {
	synced := func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("caches are not filled")
		}
		return nil
	}
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", synced),
		mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()),
	)
}

// version is what the linker was told, or else the commit as far as the Go toolchain knows it.
func version() string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "unknown"
}
