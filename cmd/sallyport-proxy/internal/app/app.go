package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/contract"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
	"sallyport.dev/sallyport/proxy"
	"sallyport.dev/sallyport/proxy/capture"
)

// Main runs a subcommand, "run" where none is named, until it ends or ctx does. What it logs goes to out.
func Main(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	command := "run"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "run":
		var o *runOptions
		if o, err = parseRun(args, getenv, out); err == nil {
			return run(ctx, o, newLogger(out, o.logLevel))
		}
	case "init":
		var o *initOptions
		if o, err = parseInit(args, out); err == nil {
			log := newLogger(out, zap.InfoLevel)
			defer func() { _ = log.Sync() }()
			return installCapture(o, log)
		}
	default:
		err = fmt.Errorf("unknown command %q; known are run and init", command)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func sorted(s []string) []string { slices.Sort(s); return s }

// newLogger writes one JSON object per line. There is no sampling: every decision is one line. Whoever ends the process syncs it.
func newLogger(out io.Writer, level zapcore.Level) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.NewReflectedEncoder = telemetry.NewReflectedEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), telemetry.NewLines(out), level))
}

// installCapture is the init container's work.
func installCapture(o *initOptions, log *zap.Logger) error {
	f, err := os.Open(o.resolvConf)
	if err != nil {
		return fmt.Errorf("find the pod's resolvers: %w", err)
	}
	defer func() { _ = f.Close() }()
	resolvers, err := capture.Resolvers(f)
	if err != nil {
		return err
	}
	if err := capture.Install(capture.Options{Port: uint16(o.port), UID: uint32(o.uid), Resolvers: resolvers}); err != nil {
		return err
	}
	log.Info("capture rules are in force", zap.Uint("port", o.port), zap.Uint("uid", o.uid), zap.Stringers("resolvers", resolvers))
	return nil
}

// sidecar holds the parts that snapshots are handed to.
type sidecar struct {
	proxy        *proxy.Proxy
	intermediate *intermediate
	model        atomic.Pointer[detector.Model]
	configured   atomic.Bool
	log          *zap.Logger
}

// run is the sidecar's life. Everything that runs long ends with it, in this order: calls, then what they need.
func run(ctx context.Context, o *runOptions, log *zap.Logger) (err error) {
	defer func() { _ = log.Sync() }()
	if err := certs.WriteTrust(o.trustDir, o.trustAnchors); err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	engine, err := policy.New(ctx, policy.Config{
		URL: o.bundleURL, TrustAnchors: o.trustAnchors, TokenPath: o.tokenPath, Keys: o.bundleKeys,
		Scope: o.podNamespace, Dir: filepath.Join(o.stateDir, "policy"), ID: o.node(),
		Labels:   map[string]string{"namespace": o.podNamespace, "pod": o.podName, "pod_uid": o.podUID, "workload": o.workload, "service_account": o.serviceAccount},
		OnStatus: policyLog(log),
	})
	if err != nil {
		return err
	}
	defer engine.Close(context.WithoutCancel(ctx))

	kept := filepath.Join(o.stateDir, "discovery")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	s := &sidecar{log: log}
	client, err := xdsclient.Dial(xdsclient.Config{
		Address: o.discoveryAddress, TrustAnchors: o.trustAnchors, TokenPath: o.tokenPath,
		StateDir: kept, NodeID: o.node(), OnSnapshot: s.apply, Log: log.Named("discovery"),
	})
	if err != nil {
		return err
	}
	recorder, err := telemetry.NewRecorder(log, reg, client.SendRecord)
	if err != nil {
		return err
	}
	minter := certs.NewMinter()
	if s.intermediate, err = newIntermediate(minter, o, client.SignIntermediate, log.Named("intermediate")); err != nil {
		return err
	}
	began := time.Now()
	s.proxy, err = proxy.New(proxy.Options{
		Gate: &gate.Gate{
			Policy: engine, Model: s.model.Load, Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits(),
			Elapsed: func() time.Duration { return time.Since(began) },
		},
		Recorder: recorder, Minter: minter, Registerer: reg, Log: log.Named("proxy"),
	})
	if err != nil {
		return err
	}
	registerGauges(reg, client, minter)

	captured, err := listenCapture(ctx, o.captureListen)
	if err != nil {
		return err
	}
	var explicit net.Listener
	if o.explicit != "" {
		if explicit, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.explicit); err != nil {
			_ = captured.Close()
			return fmt.Errorf("listen as explicit proxy: %w", err)
		}
	}
	probes, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.healthListen)
	if err != nil {
		_ = captured.Close()
		if explicit != nil {
			_ = explicit.Close()
		}
		return fmt.Errorf("listen for probes: %w", err)
	}
	health := proxy.NewHealth(reg, s.checks(engine)...)
	healthServer := &http.Server{Handler: health, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}

	// The parts outlive ctx until the calls in flight have ended.
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	g, failed := errgroup.WithContext(parts)
	g.Go(func() error { return ignore(client.Run(parts), context.Canceled) })
	g.Go(func() error { return s.intermediate.run(parts) })
	g.Go(func() error { return s.proxy.Serve(captured) })
	if explicit != nil {
		g.Go(func() error { return s.proxy.ServeExplicit(explicit) })
	}
	g.Go(func() error { return ignore(healthServer.Serve(probes), http.ErrServerClosed) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-failed.Done(): // a part has ended before its time
		}
		health.Drain()
		log.Info("draining", zap.Duration("at_most", o.drain))
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drain)
		defer cancel()
		if err := s.proxy.Drain(deadline); err != nil {
			log.Warn("calls in flight were cut", zap.Error(err))
		}
		stopParts()
		return healthServer.Close()
	})
	log.Info("started", zap.String("pod", o.node()), zap.String("workload", o.workload), zap.Stringer("capture", captured.Addr()), zap.String("explicit", o.explicit), zap.Stringer("health", probes.Addr()))
	if err := g.Wait(); err != nil {
		return err
	}
	log.Info("ended")
	return nil
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func listenCapture(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return capture.Listen(uint16(contract.CapturePort))
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for captured connections: %w", err)
	}
	return l, nil
}

// checks are what /startup waits for.
func (s *sidecar) checks(engine *policy.Engine) []proxy.Check {
	return []proxy.Check{
		{Name: "configuration", Err: func(context.Context) error {
			if !s.configured.Load() {
				return errors.New("none received yet")
			}
			return nil
		}},
		{Name: "policy", Err: func(context.Context) error {
			select {
			case <-engine.Ready():
				return nil
			default:
			}
			if e := engine.Status().Error; e != "" {
				return errors.New(e)
			}
			return errors.New("none active yet")
		}},
		{Name: "intermediate", Err: func(context.Context) error { return s.intermediate.ready() }},
		{Name: "capture", Err: s.proxy.SelfTest},
	}
}

// policyLog logs a change of policy, and each new error once.
func policyLog(log *zap.Logger) func(policy.Status) {
	var last atomic.Pointer[policy.Status]
	return func(now policy.Status) {
		before := last.Swap(&now)
		if before == nil {
			before = &policy.Status{}
		}
		if now.Digest != before.Digest {
			log.Info("policy in force", zap.String("digest", now.Digest), zap.String("revision", now.Revision))
		}
		if now.Error != "" && now.Error != before.Error {
			log.Warn("policy not loaded", zap.String("in_force", now.Digest), zap.String("error", now.Error))
		}
	}
}

// registerGauges exports what the parts count themselves.
func registerGauges(reg prometheus.Registerer, client *xdsclient.Client, minter *certs.Minter) {
	boolean := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_discovery_connected", Help: "Whether the stream to the control plane stands."},
			func() float64 { return boolean(client.Stats().Connected) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_discovery_refused_total", Help: "Snapshots of the control plane that were refused."},
			func() float64 { return float64(client.Stats().Nacks) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_records_sent_total", Help: "Decision records sent to the control plane."},
			func() float64 { return float64(client.Stats().Sent) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_records_dropped_total", Help: "Decision records that did not reach the control plane because the queue was full."},
			func() float64 { return float64(client.Stats().Dropped) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_intermediate_not_after_seconds", Help: "When the intermediate ends, in seconds since the epoch; 0 while there is none."},
			func() float64 {
				if a := minter.Authority(); a != nil {
					return float64(a.Chain[0].NotAfter.Unix())
				}
				return 0
			}),
	)
}
