package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
	"sallyport.dev/sallyport/pkg/xds/xdsserver"
)

// Delays by which what sidecars report is gathered before statuses are written.
const (
	statusDelay   = 300 * time.Millisecond
	baselineDelay = time.Second
	// Counts of calls change all the time; each workload that calls costs a write in this time, and where there are many, so many workloads a second.
	countDelay    = 10 * time.Second
	countsASecond = 5
)

// Config is what a Plane needs to know.
type Config struct {
	// Namespace is the controller's own: credentials, referred modules and what is kept are there.
	Namespace string
	// Issuer is the cert-manager Issuer in Namespace that signs intermediates.
	Issuer string
	// BundleKey signs bundles; ECDSA P-256.
	BundleKey *ecdsa.PrivateKey
	// GetCertificate returns the serving certificate; it is asked at every handshake.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// DiscoveryAddress and BundleAddress are where the leader listens, host:port.
	DiscoveryAddress string
	BundleAddress    string
	// MemoryLimit is how much memory the controller has, in bytes; 512 MiB if it is 0. It bounds how many sidecars may be connected, and what is learned beside them.
	MemoryLimit int64
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Plane is the control plane. It is a leader-election runnable of the manager it was made for.
type Plane struct {
	config  Config
	client  client.Client
	reader  client.Reader // not a cache
	log     logr.Logger
	events  events.EventRecorder
	metrics *metrics

	discovery *xdsserver.Server
	bundles   *Bundles
	service   *BundleService
	sources   *sources
	learner   *Learner
	signer    *Signer
	clock     *clock

	// primed is closed when everything was restored and looked at once; reconcilers and listeners wait for it.
	primed chan struct{}
	// listening is closed when both services listen; addresses are set by then.
	listening                        chan struct{}
	discoveryAddress, bundlesAddress net.Addr

	policyChanged    *notifier // a sidecar's policy, or which sidecars there are
	providersChanged *notifier // what a sidecar acknowledged
	baselinesChanged *notifier // which models and workloads there are
	callsCounted     *notifier // how much was learned
	sourcesChanged   *notifier // what is in force

	mu        sync.Mutex
	hosts     map[string][]string                   // of the providers of each namespace
	workloads map[types.NamespacedName]xds.Workload // by the name of their Baseline
	seen      map[types.NamespacedName]bool         // Baselines that were there
	verdicts  map[string]verdictOf                  // of ClusterPolicyBundles
}

// Scheme has every type that the control plane reads or writes.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cmapi.AddToScheme} {
		if err := add(s); err != nil {
			panic(err) // a type was registered twice: cannot happen with these
		}
	}
	return s
}

// CacheOptions limit a manager's cache to what is needed: of Secrets and ConfigMaps those of the controller's namespace, without what it keeps there
// itself.
func CacheOptions(namespace string) cache.Options {
	own := map[string]cache.Config{namespace: {}}
	notKept, err := labels.NewRequirement(managedByLabel, selection.NotEquals, []string{managedBy})
	if err != nil {
		panic(err) // constants
	}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}:    {Namespaces: own},
		&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{namespace: {LabelSelector: labels.NewSelector().Add(*notKept)}}},
	}}
}

// New puts the control plane on a manager, whose scheme and cache must be those of Scheme and CacheOptions.
func New(mgr manager.Manager, config Config) (*Plane, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Namespace == "" || config.Issuer == "" || config.GetCertificate == nil || config.DiscoveryAddress == "" || config.BundleAddress == "" {
		return nil, errors.New("control plane: namespace, issuer, certificate and addresses are required")
	}
	p := &Plane{
		config:           config,
		client:           mgr.GetClient(),
		reader:           mgr.GetAPIReader(),
		log:              mgr.GetLogger().WithName("controlplane"),
		events:           mgr.GetEventRecorder("sallyport-controller"),
		metrics:          newMetrics(),
		primed:           make(chan struct{}),
		listening:        make(chan struct{}),
		policyChanged:    newNotifier(statusDelay),
		providersChanged: newNotifier(statusDelay),
		baselinesChanged: newNotifier(baselineDelay),
		callsCounted:     newNotifier(countDelay),
		sourcesChanged:   newNotifier(0),
		hosts:            map[string][]string{},
		workloads:        map[types.NamespacedName]xds.Workload{},
		seen:             map[types.NamespacedName]bool{},
		verdicts:         map[string]verdictOf{},
	}
	k := &keeper{client: p.client, reader: p.reader, namespace: config.Namespace, wrote: func(kind string, bytes int) { p.metrics.keptBytes.WithLabelValues(kind).Add(float64(bytes)) }}
	p.sources = newSources(k)
	p.clock = &clock{keeper: k, now: config.Now}
	watcher, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	limit := defaultMemory
	if config.MemoryLimit > 0 {
		limit = memory(config.MemoryLimit)
	}
	reviewer, err := NewReviewer(p.client, p.reader, config.Now)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if p.bundles, err = NewBundles(config.BundleKey, p.clock.issue); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if p.service, err = NewBundleService(reviewer, p.bundles, config.Now, p.policyChanged.poke); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	p.service.maxConnections = limit.sidecars()
	if p.signer, err = newSigner(watcher, config.Namespace, config.Issuer, p.hostsOf, config.Now, p.metrics); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if p.discovery, err = xdsserver.New(xdsserver.Config{
		Authenticator:  reviewer,
		GetCertificate: config.GetCertificate,
		OnRecord:       func(id xds.Identity, record []byte) { p.learner.Record(id, record) },
		Sign:           p.sign,
		Salt:           func(w xds.Workload) uint64 { return p.learner.saltOf(w) },
		OnChange: func() {
			p.policyChanged.poke()
			p.providersChanged.poke()
			p.baselinesChanged.poke()
		},
		Now:            config.Now,
		MaxConnections: limit.sidecars(),
	}); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	p.callsCounted.delay = func() time.Duration {
		return max(countDelay, time.Second*time.Duration(len(p.learner.known()))/countsASecond)
	}
	p.learner = newLearner(p.discovery.SetModel, k, config.Now, p.baselinesChanged.poke, p.callsCounted.poke, p.metrics, p.report)
	p.learner.room.bound = func() int { return limit.learned(p.discovery.Streams()) }

	if config.Registerer != nil {
		sidecars := func() float64 { return float64(p.discovery.Streams()) }
		learned := func() float64 { return float64(len(p.learner.known())) }
		taken := func() float64 { return float64(p.learner.taken()) }
		if err := p.metrics.register(config.Registerer, sidecars, learned, taken, phases{p.learner}); err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
	}
	for _, setup := range []func(manager.Manager) error{p.setupNamespaces, p.setupPolicyBundles, p.setupProviders, p.setupProfiles, p.setupBaselines} {
		if err := setup(mgr); err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
	}
	if err := mgr.Add(p); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	return p, nil
}

// NeedLeaderElection makes the manager start the Plane on the leader alone.
func (p *Plane) NeedLeaderElection() bool { return true }

// Start restores what was kept, looks at everything once, then listens until ctx is done.
func (p *Plane) Start(ctx context.Context) error {
	if err := p.prime(ctx); err != nil {
		return fmt.Errorf("start control plane: %w", err)
	}
	var listen net.ListenConfig
	discovery, err := listen.Listen(ctx, "tcp", p.config.DiscoveryAddress)
	if err != nil {
		return fmt.Errorf("listen for discovery: %w", err)
	}
	bundles, err := listen.Listen(ctx, "tcp", p.config.BundleAddress)
	if err != nil {
		_ = discovery.Close()
		return fmt.Errorf("listen for bundles: %w", err)
	}
	p.discoveryAddress, p.bundlesAddress = discovery.Addr(), bundles.Addr()
	close(p.listening)
	close(p.primed)
	p.log.Info("serving sidecars", "discovery", discovery.Addr().String(), "bundles", bundles.Addr().String())

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.discovery.Serve(ctx, discovery) })
	g.Go(func() error { return p.service.Serve(ctx, bundles, p.config.GetCertificate) })
	g.Go(func() error { return p.learner.run(ctx) })
	g.Go(func() error { p.signer.sweep(ctx, p.report); return nil })
	g.Go(func() error { p.clock.run(ctx, p.report); return nil })
	for _, n := range []*notifier{p.policyChanged, p.providersChanged, p.baselinesChanged, p.callsCounted, p.sourcesChanged} {
		g.Go(func() error { n.run(ctx); return nil })
	}
	return g.Wait()
}

// Addresses waits until both services listen and returns where.
func (p *Plane) Addresses(ctx context.Context) (discovery, bundles net.Addr, err error) {
	select {
	case <-p.listening:
		return p.discoveryAddress, p.bundlesAddress, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// prime restores what was kept and looks at every object once. The manager's caches are filled by now.
func (p *Plane) prime(ctx context.Context) error {
	if err := p.clock.restore(ctx); err != nil {
		return err
	}
	unusable, err := p.sources.restore(ctx)
	if err != nil {
		return err
	}
	for _, err := range unusable {
		p.report(err, "kept policy is not used")
	}
	secret, err := p.saltSecret(ctx)
	switch {
	case err == nil:
	case isUnusable(err):
		p.report(err, "words are not learned")
	default:
		return err
	}
	if err := p.learner.restore(ctx, saltOf(secret)); err != nil {
		return err
	}

	var policies v1alpha1.ClusterPolicyBundleList
	if err := p.client.List(ctx, &policies); err != nil {
		return err
	}
	there := map[string]bool{}
	for i := range policies.Items {
		there[policies.Items[i].Name] = true
		if _, _, err := p.judge(ctx, &policies.Items[i]); err != nil {
			p.report(err, "last good policy is not kept")
		}
	}
	for _, name := range p.sources.names() {
		if !there[name] {
			if _, err := p.sources.remove(ctx, name); err != nil {
				return err
			}
		}
	}

	var namespaces corev1.NamespaceList
	if err := p.client.List(ctx, &namespaces); err != nil {
		return err
	}
	there = map[string]bool{}
	for i := range namespaces.Items {
		there[namespaces.Items[i].Name] = true
		if err := p.compose(ctx, &namespaces.Items[i]); err != nil {
			return err
		}
	}
	for _, w := range p.learner.known() {
		if !there[w.Namespace] {
			if err := p.learner.forgetNamespace(ctx, w.Namespace); err != nil {
				return err
			}
		}
	}
	return p.primeBaselines(ctx)
}

// gated is a reconciler that waits until the plane is primed.
func (p *Plane) gated(f func(context.Context, reconcile.Request) (reconcile.Result, error)) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		select {
		case <-p.primed:
			return f(ctx, request)
		case <-ctx.Done():
			return reconcile.Result{}, ctx.Err()
		}
	})
}

// sign tells the log what the sidecar is not told.
func (p *Plane) sign(ctx context.Context, id xds.Identity, csrDER []byte) ([]byte, error) {
	chain, err := p.signer.Sign(ctx, id, csrDER)
	if err != nil {
		p.log.Info("certificate request was not signed", "namespace", id.Namespace, "pod", id.Pod, "error", err.Error())
	}
	return chain, err
}

func (p *Plane) hostsOf(namespace string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hosts[namespace]
}

func (p *Plane) report(err error, what string) { p.log.Error(err, what) }
