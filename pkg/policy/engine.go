package policy

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins"
	bundleplugin "github.com/open-policy-agent/opa/v1/plugins/bundle"
	statusplugin "github.com/open-policy-agent/opa/v1/plugins/status"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// Defaults of a Config.
const (
	DefaultLongPoll = 60 * time.Second
	DefaultMaxRetry = 15 * time.Second
)

// Names that OPA's configuration needs and nobody else sees, but for the partition, which is part of the path of status reports.
const (
	serviceName     = "sallyport"
	bundleName      = "policy"
	credentialsName = "sallyport_credentials"
	// BundlePath is the path of the bundle below the base URL, StatusPath that of the status reports.
	BundlePath      = "/v1/bundle"
	StatusPath      = "/status/" + statusPartition
	statusPartition = "sidecar"
)

// maxFileBytes bounds each file in a bundle.
const maxFileBytes = 8 << 20

// Config says where an Engine's policy comes from and whom it believes.
type Config struct {
	// URL is the base URL of the bundle service, https://host:port.
	URL string
	// TrustAnchors is PEM of the roots that the service's certificate must chain to; the system's roots are not asked.
	TrustAnchors []byte
	// TokenPath is a file with the bearer token; it is read anew for each request.
	TokenPath string
	// Keys is PEM of the public keys that may sign bundles; see ParsePublicKeys.
	Keys []byte
	// Scope is the namespace. A bundle signed for another is refused.
	Scope string
	// Dir is a directory for the last good bundle and for the time of issue below which no bundle is accepted. It is made if missing.
	Dir string
	// ID names the engine in its status reports, such as namespace/pod.
	ID string
	// Labels go with every status report.
	Labels map[string]string
	// Timeout bounds one decision; zero is DefaultTimeout.
	Timeout time.Duration
	// LongPoll is how long the service may hold a request while there is nothing new; whole seconds, zero is DefaultLongPoll.
	LongPoll time.Duration
	// MaxRetry is the longest wait after a failure; whole seconds, zero is DefaultMaxRetry.
	MaxRetry time.Duration
	// OnStatus, if set, is told after each attempt to load a bundle. It must return soon and not call the Engine's Close.
	OnStatus func(Status)
}

// Status is how loading stands.
type Status struct {
	// Revision, Digest and IssuedAt are of the active bundle; empty and zero while there is none.
	Revision, Digest string
	IssuedAt         time.Time
	// Error is why the last attempt to load a bundle failed; "" when it did not. The active bundle stays in force.
	Error string
}

// Engine decides by the active bundle. It is safe for concurrent use.
type Engine struct {
	timeout time.Duration
	active  atomic.Pointer[program]
	status  atomic.Pointer[Status]
	ready   chan struct{}
	once    sync.Once

	// What follows is used while loading only, under the bundle plugin's lock.
	manager *plugins.Manager
	gate    *admission
}

// New returns an Engine that loads bundles from the service of c until Close, beginning with the last good one in c.Dir. It does not wait
// for the first bundle: until Ready, every decision is a denial with FaultNoPolicy.
func New(ctx context.Context, c Config) (*Engine, error) {
	raw, err := c.managerConfig()
	if err != nil {
		return nil, err
	}
	credentials, err := newCredentials(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the policy directory: %w", err)
	}
	e := &Engine{timeout: c.Timeout, ready: make(chan struct{})}
	if e.timeout <= 0 {
		e.timeout = DefaultTimeout
	}
	e.status.Store(&Status{})

	store := inmem.NewWithOpts(inmem.OptReturnASTValuesOnRead(true))
	if e.gate, err = newAdmission(c.Dir); err != nil {
		return nil, err
	}

	e.manager, err = plugins.New(raw, c.ID, store,
		plugins.Logger(logging.NewNoOpLogger()), plugins.ConsoleLogger(logging.NewNoOpLogger()),
		plugins.WithParserOptions(parserOptions()))
	if err != nil {
		return nil, fmt.Errorf("configure the policy engine: %w", err)
	}
	if err := e.start(context.WithoutCancel(ctx), c, credentials); err != nil {
		e.Close(ctx)
		return nil, err
	}
	return e, nil
}

// start registers and starts the plugins. The bundle plugin loads the last good bundle before it returns.
func (e *Engine) start(ctx context.Context, c Config, credentials *credentials) error {
	m := e.manager
	m.Register(credentialsName, credentials)
	m.RegisterCompilerTrigger(func(storage.Transaction) {
		if p := e.gate.admitted(); p != nil {
			e.activate(p)
		}
	})
	if err := m.Init(ctx); err != nil {
		return fmt.Errorf("start the policy engine: %w", err)
	}
	register(m.Store, e.gate) // from here on, all that is activated is a bundle

	config := m.GetConfig()
	bundles, err := bundleplugin.NewConfigBuilder().
		WithBytes(config.Bundles).WithServices(m.Services()).WithKeyConfigs(m.PublicKeys()).Parse()
	if err != nil {
		return fmt.Errorf("configure the bundle: %w", err)
	}
	reports, err := statusplugin.NewConfigBuilder().WithBytes(config.Status).WithServices(m.Services()).Parse()
	if err != nil {
		return fmt.Errorf("configure status reports: %w", err)
	}
	loader, reporter := bundleplugin.New(bundles, m), statusplugin.New(reports, m)
	m.Register(statusplugin.Name, reporter) // before the bundle's, so that it takes reports when the first comes
	m.Register(bundleplugin.Name, loader)
	loader.RegisterBulkListener(statusplugin.Name, reporter.BulkUpdateBundleStatus)
	loader.RegisterBulkListener(serviceName, func(all map[string]*bundleplugin.Status) { e.loaded(all[bundleName], c.OnStatus) })

	if err := m.Start(ctx); err != nil {
		return fmt.Errorf("start the policy engine: %w", err)
	}
	return nil
}

// activate puts a program into force.
func (e *Engine) activate(p *program) {
	e.active.Store(p)
	s := Status{Revision: p.revision, Digest: p.digest}
	if e.gate != nil {
		s.IssuedAt = e.gate.issuedAt()
	}
	e.status.Store(&s)
	e.once.Do(func() { close(e.ready) })
}

// loaded takes note of an attempt to load, after the bundle plugin has persisted what it activated.
func (e *Engine) loaded(s *bundleplugin.Status, tell func(Status)) {
	now := *e.status.Load()
	now.Error = ""
	var errs []error
	if s != nil {
		if s.Message != "" {
			errs = append(errs, errors.New(s.Message))
		}
		errs = append(errs, s.Errors...)
	}
	errs = append(errs, e.gate.save())
	if err := errors.Join(errs...); err != nil {
		now.Error = err.Error()
	}
	e.status.Store(&now)
	if tell != nil {
		tell(now)
	}
}

// Decide answers for one call. It never fails and never blocks longer than the configured timeout: what is not a well-formed decision is
// a denial whose Fault says why.
func (e *Engine) Decide(ctx context.Context, in *Input) Decision {
	p := e.active.Load()
	if p == nil {
		return Decision{Action: ActionDeny, Fault: FaultNoPolicy}
	}
	return p.decide(ctx, in, e.timeout)
}

// Ready is closed when the first bundle has been activated.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Active returns the revision and digest of the bundle in force, "" while there is none.
func (e *Engine) Active() (revision, digest string) {
	if p := e.active.Load(); p != nil {
		return p.revision, p.digest
	}
	return "", ""
}

// Status says how loading stands.
func (e *Engine) Status() Status {
	if s := e.status.Load(); s != nil {
		return *s
	}
	return Status{}
}

// Close stops loading. Decisions go on by the bundle in force.
func (e *Engine) Close(ctx context.Context) {
	if e.manager == nil {
		return
	}
	e.manager.Stop(ctx)
	unregister(e.manager.Store)
}

// managerConfig is OPA's configuration.
func (c *Config) managerConfig() ([]byte, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("policy: the bundle service %q is no https URL", c.URL)
	}
	if c.Scope == "" || c.Dir == "" {
		return nil, errors.New("policy: scope and directory are required")
	}
	public, err := ParsePublicKeys(c.Keys)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	keys, signing := map[string]any{}, map[string]any{"scope": c.Scope}
	for id, key := range public {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		keys[id] = map[string]any{"algorithm": "ES256", "key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
		if len(public) == 1 {
			signing["keyid"] = id
		}
	}
	seconds := func(d, otherwise time.Duration) int64 {
		if d <= 0 {
			d = otherwise
		}
		return max(1, int64(d/time.Second))
	}
	retry := seconds(c.MaxRetry, DefaultMaxRetry)
	raw, err := json.Marshal(map[string]any{
		"services": map[string]any{serviceName: map[string]any{
			"url":         strings.TrimRight(c.URL, "/"),
			"credentials": map[string]any{"plugin": credentialsName},
		}},
		"keys":                  keys,
		"labels":                c.Labels,
		"persistence_directory": c.Dir,
		"bundles": map[string]any{bundleName: map[string]any{
			"service": serviceName, "resource": strings.TrimPrefix(BundlePath, "/"),
			"persist": true, "signing": signing, "size_limit_bytes": maxFileBytes,
			"polling": map[string]any{
				"min_delay_seconds": min(10, retry), "max_delay_seconds": retry,
				"long_polling_timeout_seconds": seconds(c.LongPoll, DefaultLongPoll),
			},
		}},
		"status": map[string]any{"service": serviceName, "partition_name": statusPartition},
	})
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return raw, nil
}

// engines holds the admission of each engine by its store, which is all that OPA tells an activator of who activates.
var (
	engines      sync.Map // storage.Store → *admission
	registerOnce sync.Once
)

// register makes OPA ask the admission before it activates a bundle in the store. OPA has one activator for the whole process; stores that
// are not registered keep OPA's own behaviour.
func register(store storage.Store, a *admission) {
	engines.Store(store, a)
	registerOnce.Do(func() {
		bundle.RegisterActivator(serviceName, activator{})
		bundle.RegisterDefaultBundleActivator(serviceName)
	})
}

func unregister(store storage.Store) { engines.Delete(store) }

type activator struct{}

func (activator) Activate(o *bundle.ActivateOpts) error {
	if a, ok := engines.Load(o.Store); ok {
		return a.(*admission).activate(o) //nolint:forcetypeassert // the map holds nothing else
	}
	return new(bundle.DefaultActivator).Activate(o)
}
