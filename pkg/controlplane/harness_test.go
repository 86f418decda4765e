package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/controlplane/apiservertest"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(apiservertest.Main(m))
}

const patience = 60 * time.Second

// lab is an API server with a namespace for the controller, and what is needed to run one there more than once.
type lab struct {
	t         testing.TB
	ctx       context.Context
	client    client.Client
	namespace string
	key       *ecdsa.PrivateKey
	root      []byte
	leaf      tls.Certificate
}

var serial atomic.Int64

// newLab returns a lab. Tests that start no controller, whose labs have nothing cluster-scoped, run side by side, after the others.
func newLab(t testing.TB) *lab {
	t.Helper()
	c, err := client.New(apiservertest.Config(t), client.Options{Scheme: Scheme()})
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	l := &lab{t: t, ctx: ctx, client: c, namespace: fmt.Sprintf("system-%d", serial.Add(1))}
	l.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.namespace}})
	l.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	l.authority()
	// Cluster-scoped objects are everybody's: none is left to the next test.
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		for _, object := range []client.Object{&v1alpha1.ClusterPolicyBundle{}, &v1alpha1.ModelProvider{}, &v1alpha1.EgressProfile{}} {
			if err := c.DeleteAllOf(ctx, object); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	return l
}

func (l *lab) authority() {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(l.t, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	must(l.t, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(l.t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), key)
	must(l.t, err)
	l.root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	l.leaf = tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}

// anyPort is an address with a port that is free.
const anyPort = "127.0.0.1:0"

// running is a controller.
type running struct {
	*Plane
	discovery, bundles string
	stop               func()
}

// start starts a controller and waits until it serves.
func (l *lab) start() *running { l.t.Helper(); return l.startAt(anyPort, anyPort) }

func (l *lab) startAt(discoveryAddress, bundleAddress string) *running {
	l.t.Helper()
	c := l.run(apiservertest.Config(l.t), discoveryAddress, bundleAddress, 0)
	c.wait()
	l.t.Cleanup(c.stop)
	return c.running
}

// candidate is a controller that serves once it leads.
type candidate struct {
	*running
	wait    func() // until it leads
	abandon func() // stops it, however that ends
}

// candidate starts a controller that may become the leader, with this API server, at these addresses, and is the leader for as long as the lease after it was last heard of.
func (l *lab) candidate(api *rest.Config, discoveryAddress, bundleAddress string, lease time.Duration) *candidate {
	l.t.Helper()
	out := l.run(api, discoveryAddress, bundleAddress, lease)
	l.t.Cleanup(out.abandon)
	return out
}

// run starts a controller, which is the leader at once without a lease.
func (l *lab) run(api *rest.Config, discoveryAddress, bundleAddress string, lease time.Duration) *candidate {
	l.t.Helper()
	none := true
	timeout := 20 * time.Second
	renew, retry := 2*time.Second, 300*time.Millisecond
	mgr, err := manager.New(api, manager.Options{
		Scheme: Scheme(), Cache: CacheOptions(l.namespace), Logger: logger(),
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller:              config.Controller{SkipNameValidation: &none},
		GracefulShutdownTimeout: &timeout,
		LeaderElection:          lease > 0, LeaderElectionID: "test", LeaderElectionNamespace: l.namespace, LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
		LeaderElectionReleaseOnCancel: true,
	})
	must(l.t, err)
	plane, err := New(mgr, Config{
		Namespace: l.namespace, Issuer: "root", BundleKey: l.key,
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &l.leaf, nil },
		DiscoveryAddress: discoveryAddress, BundleAddress: bundleAddress,
	})
	must(l.t, err)
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	end := sync.OnceValue(func() error { cancel(); return <-done })
	r := &running{Plane: plane, stop: func() {
		if err := end(); err != nil {
			l.t.Errorf("manager: %v", err)
		}
	}}
	return &candidate{
		running: r,
		wait: func() {
			l.t.Helper()
			discovery, bundles, err := plane.Addresses(ctx)
			must(l.t, err)
			r.discovery, r.bundles = discovery.String(), "https://"+bundles.String()
		},
		abandon: func() { _ = end() },
	}
}

// logger writes with -v only.
func logger() logr.Logger {
	if testing.Verbose() {
		return zap.New()
	}
	return logr.Discard()
}

func (l *lab) create(o client.Object) { l.t.Helper(); must(l.t, l.client.Create(l.ctx, o)) }

func (l *lab) get(o client.Object) {
	l.t.Helper()
	must(l.t, l.client.Get(l.ctx, client.ObjectKeyFromObject(o), o))
}

// agents makes a namespace with a service account and returns its name.
func (l *lab) agents(labels map[string]string) string {
	l.t.Helper()
	name := fmt.Sprintf("agents-%d", serial.Add(1))
	l.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	l.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "agent"}})
	return name
}

// pod makes a pod that is owned by what owner says.
func (l *lab) pod(namespace, name string, owner ...metav1.OwnerReference) *corev1.Pod {
	l.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, OwnerReferences: owner},
		Spec:       corev1.PodSpec{ServiceAccountName: "agent", Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
	}
	l.create(pod)
	return pod
}

// token is a token of the pod for an audience.
func (l *lab) token(pod *corev1.Pod, audience string) string {
	l.t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod.Name != "" {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: "agent"}}
	must(l.t, l.client.SubResource("token").Create(l.ctx, account, request))
	return request.Status.Token
}

// sidecar is a pod's discovery client.
type sidecar struct {
	*xdsclient.Client
	dir, tokenPath string
	snapshots      chan xdsclient.Snapshot
	stop           func()
}

func (l *lab) sidecar(r *running, pod *corev1.Pod, nodeID string) *sidecar {
	l.t.Helper()
	dir := l.t.TempDir()
	s := &sidecar{dir: dir, tokenPath: filepath.Join(dir, "token"), snapshots: make(chan xdsclient.Snapshot, 256)}
	must(l.t, os.WriteFile(s.tokenPath, []byte(l.token(pod, v1alpha1.TokenAudience)), 0o600))
	return l.connect(r, s, nodeID)
}

// connect connects a sidecar that was connected before, or for the first time.
func (l *lab) connect(r *running, s *sidecar, nodeID string) *sidecar {
	l.t.Helper()
	c, err := xdsclient.Dial(xdsclient.Config{
		Address: r.discovery, TrustAnchors: l.root, TokenPath: s.tokenPath, StateDir: s.dir, NodeID: nodeID,
		OnSnapshot: func(snapshot xdsclient.Snapshot) error { s.snapshots <- snapshot; return nil },
	})
	must(l.t, err)
	s.Client = c
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
	l.t.Cleanup(s.stop)
	return s
}

func (s *sidecar) next(t *testing.T, what string, want func(xdsclient.Snapshot) bool) xdsclient.Snapshot {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case snapshot := <-s.snapshots:
			if want(snapshot) {
				return snapshot
			}
		case <-timeout:
			t.Fatalf("no snapshot with %s; client: %+v", what, s.Stats())
		}
	}
}

// engine is a pod's policy engine.
func (l *lab) engine(r *running, s *sidecar, namespace string) *policy.Engine {
	l.t.Helper()
	public, err := x509.MarshalPKIXPublicKey(l.key.Public())
	must(l.t, err)
	e, err := policy.New(l.ctx, policy.Config{
		URL: r.bundles, TrustAnchors: l.root, TokenPath: s.tokenPath, Scope: namespace, Dir: filepath.Join(s.dir, "policy"), ID: "test",
		Keys: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), LongPoll: 30 * time.Second, MaxRetry: time.Second,
	})
	must(l.t, err)
	l.t.Cleanup(func() { e.Close(context.Background()) })
	select {
	case <-e.Ready():
	case <-time.After(patience):
		l.t.Fatal("the engine never got a bundle")
	}
	return e
}

// until waits for a condition in the API or in a sidecar.
func (l *lab) until(what string, condition func() bool) {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			l.t.Fatalf("never: %s", what)
		}
	}
}

func condition(conditions []metav1.Condition, kind string, generation int64) metav1.Condition {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.ObservedGeneration != generation {
		return metav1.Condition{}
	}
	return *c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
