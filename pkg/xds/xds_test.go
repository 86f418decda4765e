package xds_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
	"sallyport.dev/sallyport/pkg/xds/xdsserver"
)

// tokens is an Authenticator over a fixed table.
type tokens map[string]xds.Identity

func (t tokens) Authenticate(_ context.Context, token string) (xds.Identity, error) {
	if token == "unreachable" {
		return xds.Identity{}, errors.New("API server gone")
	}
	id, ok := t[token]
	if !ok {
		return xds.Identity{}, xds.ErrUnauthenticated
	}
	return id, nil
}

func identity(namespace, pod string) xds.Identity {
	return xds.Identity{Namespace: namespace, ServiceAccount: "default", Pod: pod, PodUID: "uid-" + pod, Kind: "Deployment", Name: "web"}
}

// authority is a root and the serving certificate it signed.
type authority struct {
	pem  []byte
	leaf tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"controller.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}),
		leaf: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey},
	}
}

func (a *authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &a.leaf, nil }

// newServer makes a server whose sidecars are known by the tokens.
func newServer(t testing.TB, a *authority, table tokens, change func(*xdsserver.Config)) *xdsserver.Server {
	t.Helper()
	config := xdsserver.Config{Authenticator: table, GetCertificate: a.certificate}
	if change != nil {
		change(&config)
	}
	s, err := xdsserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve serves on an address ("" for any) until the test ends or stop is called.
func serve(t testing.TB, s *xdsserver.Server, address string) (actual string, stop func()) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

// sidecar is a client and what it was given.
type sidecar struct {
	*xdsclient.Client
	dir       string
	snapshots chan xdsclient.Snapshot
	stop      func()
}

func dial(t *testing.T, a *authority, address, token string, change func(*xdsclient.Config)) *sidecar {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sc := &sidecar{dir: dir, snapshots: make(chan xdsclient.Snapshot, 64)}
	config := xdsclient.Config{
		Address: address, ServerName: "controller.test", TrustAnchors: a.pem, TokenPath: path, StateDir: dir, NodeID: "test",
		OnSnapshot: func(s xdsclient.Snapshot) error { sc.snapshots <- s; return nil },
	}
	if change != nil {
		change(&config)
	}
	c, err := xdsclient.Dial(config)
	if err != nil {
		t.Fatal(err)
	}
	sc.Client = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	sc.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(sc.stop)
	return sc
}

const patience = 20 * time.Second

// next waits for a snapshot that satisfies want.
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

// eventually waits for a condition that changes only with the server's registry.
func eventually(t *testing.T, what string, changed <-chan struct{}, condition func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for !condition() {
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("never: %s", what)
		}
	}
}

// poll waits for a condition that nothing announces.
func poll(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("never: %s", what)
		}
	}
}

// signal is an OnChange and a channel that it fills.
func signal() (func(), <-chan struct{}) {
	ch := make(chan struct{}, 1)
	return func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}, ch
}

func provider(name, host, credential string) *xdsv1.ModelProvider {
	return &xdsv1.ModelProvider{Name: name, Api: "openai", Hosts: []string{host}, Port: 443, Credential: credential, Generation: 1}
}

func resourcesOf(name, secret string) xdsserver.NamespaceResources {
	return xdsserver.NamespaceResources{
		Config:    &xdsv1.WorkloadConfig{Mode: "enforce"},
		Providers: []*xdsv1.ModelProvider{provider(name, name+".test", name)},
		Secrets:   map[string][]byte{name: []byte(secret)},
	}
}

// keptProviders are the names of the providers in a client's state, which is kept as one answer that holds everything.
func keptProviders(t *testing.T, dir string) (names []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "discovery.pb"))
	must(t, err)
	var kept discoveryv3.DeltaDiscoveryResponse
	must(t, proto.Unmarshal(b, &kept))
	for _, r := range kept.GetResources() {
		if r.GetResource().GetTypeUrl() == xds.TypeProvider {
			names = append(names, r.GetName())
		}
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestASidecarGetsWhatItsIdentityMaySee(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1"), "b": identity("team-b", "b-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key of a")))
	must(t, s.SetNamespace("team-b", resourcesOf("beta", "key of b")))
	must(t, s.SetModel(xds.Workload{Namespace: "team-b", Kind: "Deployment", Name: "web"}, &xdsv1.DetectorModel{Digest: "of b"}))
	address, _ := serve(t, s, "")

	// The node id claims the other namespace's pod.
	got := dial(t, a, address, "a", func(c *xdsclient.Config) { c.NodeID = "team-b/b-1" }).next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	if string(got.Secrets["alpha"]) != "key of a" || len(got.Secrets) != 1 {
		t.Errorf("secrets %q", got.Secrets)
	}
	if len(got.Providers) != 1 || got.Providers[0].GetName() != "alpha" {
		t.Errorf("providers %v", got.Providers)
	}
	if got.Model != nil {
		t.Errorf("model %v of another workload", got.Model)
	}
	want := identity("team-a", "a-1")
	if c := got.Config; c.GetNamespace() != want.Namespace || c.GetPod() != want.Pod || c.GetKind() != want.Kind || c.GetName() != want.Name || c.GetServiceAccount() != want.ServiceAccount {
		t.Errorf("configuration %v", c)
	}
}

// rawStream speaks the protocol by hand.
func rawStream(t *testing.T, a *authority, address, token string) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.pem)
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "controller.test"})),
	)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	must(t, err)
	return stream
}

func TestNodeMetadataOpensNothing(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key of a")))
	must(t, s.SetNamespace("team-b", resourcesOf("beta", "key of b")))
	address, _ := serve(t, s, "")
	stream := rawStream(t, a, address, "a")
	claims, err := structpb.NewStruct(map[string]any{"NAMESPACE": "team-b", "namespace": "team-b"})
	must(t, err)
	must(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node:    &corev3.Node{Id: "2", Cluster: "team-b", Metadata: claims},
		TypeUrl: xds.TypeSecret, ResourceNamesSubscribe: []string{"*", "beta", "team-b/beta"},
	}))
	resp, err := stream.Recv()
	must(t, err)
	if len(resp.GetResources()) != 1 || resp.GetResources()[0].GetName() != "alpha" {
		t.Errorf("got %v", resp.GetResources())
	}
}

func TestAnUnknownTypeIsNotAnswered(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, _ := serve(t, s, "")
	stream := rawStream(t, a, address, "a")
	must(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/of.tomorrow", ResourceNamesSubscribe: []string{"*"}}))
	must(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeProvider, ResourceNamesSubscribe: []string{"*"}}))
	resp, err := stream.Recv()
	must(t, err)
	if resp.GetTypeUrl() != xds.TypeProvider {
		t.Errorf("answered %s", resp.GetTypeUrl())
	}
}

func TestWhoIsNotServed(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"new": identity("unknown-yet", "p"), "podless": {Namespace: "team-a"}}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, _ := serve(t, s, "")
	for _, tt := range []struct {
		name, token string
		want        codes.Code
	}{
		{"a token that is not known", "forged", codes.Unauthenticated},
		{"a token that names no pod", "podless", codes.Unauthenticated},
		{"a token that cannot be checked now", "unreachable", codes.Unavailable},
		{"a namespace that is not known yet", "new", codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := rawStream(t, a, address, tt.token).Recv()
			if status.Code(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestOnlyTLS13(t *testing.T) {
	a := newAuthority(t)
	address, _ := serve(t, newServer(t, a, tokens{}, nil), "")
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestAServerOfAnotherRootIsNotTrusted(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, _ := serve(t, s, "")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	client := dial(t, other, address, "a", nil)
	if _, err := client.SignIntermediate(ctx, nil); err == nil {
		t.Error("signed by a server of another root")
	}
	if client.Stats().Connected || len(client.snapshots) > 0 {
		t.Error("connected")
	}
}

func TestChangesArriveAndAreAcknowledged(t *testing.T) {
	a := newAuthority(t)
	changed, ch := signal()
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, func(c *xdsserver.Config) { c.OnChange = changed })
	r := resourcesOf("alpha", "first")
	must(t, s.SetNamespace("team-a", r))
	address, _ := serve(t, s, "")
	client := dial(t, a, address, "a", nil)
	client.next(t, "the first secret", func(s xdsclient.Snapshot) bool { return string(s.Secrets["alpha"]) == "first" })

	r.Secrets = map[string][]byte{"alpha": []byte("second"), "gamma": []byte("third")}
	r.Providers = append(r.Providers, provider("gamma", "gamma.test", "gamma"))
	r.Config = &xdsv1.WorkloadConfig{Mode: "enforce", KillSwitch: true}
	must(t, s.SetNamespace("team-a", r))
	must(t, s.SetModel(xds.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web"}, &xdsv1.DetectorModel{Model: []byte("forest"), Digest: "d"}))
	client.next(t, "everything new", func(s xdsclient.Snapshot) bool {
		for _, p := range s.Providers {
			if s.Secrets[p.GetCredential()] == nil {
				t.Errorf("provider %s came before its credential", p.GetName())
			}
		}
		return s.Config.GetKillSwitch() && string(s.Secrets["alpha"]) == "second" && len(s.Providers) == 2 && s.Model.GetDigest() == "d"
	})
	id := identity("team-a", "a-1")
	eventually(t, "everything acknowledged", ch, func() bool {
		all := s.Sidecars()
		if len(all) != 1 {
			return false
		}
		for _, typeURL := range xds.Types {
			for name, version := range s.Current(id, typeURL) {
				if !all[0].Runs(typeURL, name, version) {
					return false
				}
			}
		}
		return true
	})

	must(t, s.SetModel(xds.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web"}, nil))
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "second")))
	client.next(t, "the rest gone", func(s xdsclient.Snapshot) bool {
		for _, p := range s.Providers {
			if s.Secrets[p.GetCredential()] == nil {
				t.Errorf("the credential of provider %s went before it", p.GetName())
			}
		}
		return s.Model == nil && len(s.Providers) == 1 && len(s.Secrets) == 1 && !s.Config.GetKillSwitch()
	})

	other := id.Workload()
	other.Name = "other"
	if !s.Connected(id.Workload()) || s.Connected(other) {
		t.Errorf("connected: %v, and one without a sidecar: %v", s.Connected(id.Workload()), s.Connected(other))
	}
	client.stop()
	eventually(t, "the sidecar gone", ch, func() bool { return len(s.Sidecars()) == 0 && s.Streams() == 0 && !s.Connected(id.Workload()) })
}

func TestARefusalIsVisibleAndChangesNothing(t *testing.T) {
	a := newAuthority(t)
	changed, ch := signal()
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, func(c *xdsserver.Config) { c.OnChange = changed })
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, stop := serve(t, s, "")
	accepted := make(chan xdsclient.Snapshot, 16)
	client := dial(t, a, address, "a", func(c *xdsclient.Config) {
		c.OnSnapshot = func(s xdsclient.Snapshot) error {
			for _, p := range s.Providers {
				if p.GetName() == "bad" {
					return errors.New("provider bad: no such thing")
				}
			}
			accepted <- s
			return nil
		}
	})
	<-accepted
	r := resourcesOf("alpha", "key")
	r.Providers = append(r.Providers, provider("bad", "bad.test", ""))
	must(t, s.SetNamespace("team-a", r))
	eventually(t, "the refusal", ch, func() bool {
		all := s.Sidecars()
		return len(all) == 1 && all[0].Types[xds.TypeProvider].Nack == "provider bad: no such thing"
	})
	if all := s.Sidecars(); all[0].Runs(xds.TypeProvider, "bad", s.Current(all[0].Identity, xds.TypeProvider)["bad"]) {
		t.Error("a refused resource counts as run")
	}
	if kept := keptProviders(t, client.dir); len(kept) != 1 {
		t.Errorf("kept %v", kept)
	}
	// On a new stream the refused resource is offered again: the sidecar never said that it has it.
	stop()
	eventually(t, "the stream's end", ch, func() bool { return len(s.Sidecars()) == 0 })
	serve(t, s, address)
	eventually(t, "the refusal again", ch, func() bool {
		all := s.Sidecars()
		return len(all) == 1 && all[0].Types[xds.TypeProvider].Nack != ""
	})
	// What came together with the refused resource is not lost when that alone is put right.
	r.Providers = append(r.Providers, provider("good", "good.test", ""))
	must(t, s.SetNamespace("team-a", r))
	eventually(t, "the new one sent with the bad", ch, func() bool {
		all := s.Sidecars()
		return len(all) == 1 && all[0].Types[xds.TypeProvider].Nack != "" && client.Stats().Nacks >= 3
	})
	r.Providers = []*xdsv1.ModelProvider{r.Providers[0], r.Providers[2]}
	must(t, s.SetNamespace("team-a", r))
	if got := <-accepted; len(got.Providers) != 2 || got.Providers[1].GetName() != "good" {
		t.Errorf("got %v", got.Providers)
	}
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	eventually(t, "no refusal", ch, func() bool {
		all := s.Sidecars()
		return len(all) == 1 && all[0].Types[xds.TypeProvider].Nack == ""
	})
}

func TestAModelThatCannotBeRunDoesNotKeepASidecarFromStarting(t *testing.T) {
	a := newAuthority(t)
	changed, ch := signal()
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, func(c *xdsserver.Config) { c.OnChange = changed })
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	must(t, s.SetModel(xds.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web"}, &xdsv1.DetectorModel{Schema: "of tomorrow"}))
	address, _ := serve(t, s, "")
	accepted := make(chan xdsclient.Snapshot, 16)
	dial(t, a, address, "a", func(c *xdsclient.Config) {
		c.OnSnapshot = func(s xdsclient.Snapshot) error {
			if s.Model != nil {
				return errors.New("unknown schema")
			}
			accepted <- s
			return nil
		}
	})
	<-accepted
	eventually(t, "the model refused, the rest run", ch, func() bool {
		all := s.Sidecars()
		return len(all) == 1 && all[0].Types[xds.TypeModel].Nack == "unknown schema" && len(all[0].Types[xds.TypeProvider].Acked) == 1
	})
}

func TestReconnectSendsOnlyWhatChanged(t *testing.T) {
	a := newAuthority(t)
	table := tokens{"a": identity("team-a", "a-1")}
	first := newServer(t, a, table, nil)
	must(t, first.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, stop := serve(t, first, "")
	client := dial(t, a, address, "a", nil)
	client.next(t, "the first", func(xdsclient.Snapshot) bool { return true })
	stop()

	changed, ch := signal()
	second := newServer(t, a, table, func(c *xdsserver.Config) { c.OnChange = changed })
	must(t, second.SetNamespace("team-a", resourcesOf("alpha", "key")))
	serve(t, second, address)
	id := table["a"]
	eventually(t, "what it has, told at once", ch, func() bool {
		all := second.Sidecars()
		return len(all) == 1 && all[0].Runs(xds.TypeProvider, "alpha", second.Current(id, xds.TypeProvider)["alpha"]) && all[0].Runs(xds.TypeConfig, xds.Self, second.Current(id, xds.TypeConfig)[xds.Self])
	})
	if n := len(client.snapshots); n != 0 {
		t.Errorf("%d snapshots though nothing changed", n)
	}
	must(t, second.SetNamespace("team-a", resourcesOf("alpha", "new key")))
	got := client.next(t, "the change", func(xdsclient.Snapshot) bool { return true })
	if string(got.Secrets["alpha"]) != "new key" {
		t.Errorf("got %q", got.Secrets)
	}
	if n := client.Stats().Streams; n != 2 {
		t.Errorf("%d streams", n)
	}
}

func TestTheLastGoodIsDeliveredWithoutAServer(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	must(t, s.SetModel(xds.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web"}, &xdsv1.DetectorModel{Digest: "d"}))
	address, stop := serve(t, s, "")
	client := dial(t, a, address, "a", nil)
	client.next(t, "the first", func(xdsclient.Snapshot) bool { return true })
	client.stop()
	stop()
	info, err := os.Stat(filepath.Join(client.dir, "discovery.pb"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("state has mode %v", info.Mode())
	}
	again := dial(t, a, address, "a", func(c *xdsclient.Config) { c.StateDir = client.dir })
	got := again.next(t, "what was kept", func(xdsclient.Snapshot) bool { return true })
	if string(got.Secrets["alpha"]) != "key" || got.Model.GetDigest() != "d" || got.Config.GetPod() != "a-1" || len(got.Providers) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestStateThatCannotBeReadIsNone(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, nil)
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	address, _ := serve(t, s, "")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "discovery.pb"), []byte("\xff\xff garbage"), 0o600))
	client := dial(t, a, address, "a", func(c *xdsclient.Config) { c.StateDir = dir })
	client.next(t, "the server's", func(s xdsclient.Snapshot) bool { return string(s.Secrets["alpha"]) == "key" })
}

func TestRecordsArriveOnceWithWhoSentThem(t *testing.T) {
	a := newAuthority(t)
	type received struct {
		id     xds.Identity
		record string
	}
	records := make(chan received, 64)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, func(c *xdsserver.Config) {
		c.OnRecord = func(id xds.Identity, record []byte) { records <- received{id, string(record)} }
	})
	must(t, s.SetNamespace("team-a", resourcesOf("alpha", "key")))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())

	// Nothing listens yet: three are kept, the fourth finds the queue full.
	client := dial(t, a, address, "a", func(c *xdsclient.Config) { c.QueuedRecords = 3 })
	want := []string{`{"id":"1"}`, `{"id":"2"}`, `{"id":"3"}`}
	for _, record := range append(want, `{"id":"4"}`) {
		client.SendRecord([]byte(record))
	}
	if stats := client.Stats(); stats.Dropped != 1 || stats.Queued != 3 {
		t.Errorf("stats %+v", stats)
	}
	serve(t, s, address)
	for _, record := range want {
		select {
		case got := <-records:
			if got.record != record || got.id != identity("team-a", "a-1") {
				t.Errorf("got %v, want %s", got, record)
			}
		case <-time.After(patience):
			t.Fatalf("record %s did not arrive; %+v", record, client.Stats())
		}
	}
	poll(t, "the batch is acknowledged", func() bool { return client.Stats().Queued == 0 })
	// What is queued when the client stops is sent before Run returns.
	client.SendRecord([]byte(`{"id":"5"}`))
	client.stop()
	select {
	case got := <-records:
		if got.record != `{"id":"5"}` {
			t.Errorf("got %v", got)
		}
	default:
		t.Error("the last record was not sent")
	}
	if stats := client.Stats(); stats.Sent != 4 || stats.Queued != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestSignIntermediate(t *testing.T) {
	a := newAuthority(t)
	s := newServer(t, a, tokens{"a": identity("team-a", "a-1")}, func(c *xdsserver.Config) {
		c.Sign = func(_ context.Context, id xds.Identity, csr []byte) ([]byte, error) {
			switch string(csr) {
			case "good":
				return []byte("chain of " + id.Pod), nil
			case "foreign":
				return nil, status.Error(codes.PermissionDenied, "not your name")
			}
			return nil, errors.New("secret detail")
		}
	})
	address, _ := serve(t, s, "")
	client := dial(t, a, address, "a", nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	chain, err := client.SignIntermediate(ctx, []byte("good"))
	if err != nil || string(chain) != "chain of a-1" {
		t.Errorf("got %q, %v", chain, err)
	}
	if _, err := client.SignIntermediate(ctx, []byte("foreign")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
	if _, err := client.SignIntermediate(ctx, []byte("broken")); status.Code(err) != codes.Internal || status.Convert(err).Message() != "sign intermediate: rpc error: code = Internal desc = certificate request was not signed" {
		t.Errorf("got %v", err)
	}
}
