package app

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/contract"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
	"sallyport.dev/sallyport/proxy"
)

// patience is how long a test waits for what must happen; nothing is measured against it.
const patience = 60 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is the cluster's root.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := certs.GenerateKey()
	must(t, err)
	a := &authority{key: key}
	a.cert = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}, key.Public(), 24*time.Hour)
	return a
}

func (a *authority) issue(t testing.TB, tmpl *x509.Certificate, pub crypto.PublicKey, life time.Duration) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	must(t, err)
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = serial, time.Now().Add(-time.Minute), time.Now().Add(life)
	parent := a.cert
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, a.key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// sign is the control plane's half: it checks and signs.
func (a *authority) sign(t testing.TB, csrDER []byte, cn string, allowed []string, life time.Duration) ([]byte, error) {
	if err := certs.CheckIntermediateRequest(csrDER, cn, allowed); err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, err
	}
	c := a.issue(t, &x509.Certificate{Subject: csr.Subject, ExtraExtensions: csr.Extensions, SubjectKeyId: []byte(cn[:4])}, csr.PublicKey, life)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), nil
}

func TestWhatTheSidecarDoesNotLink(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "sallyport.dev/sallyport/cmd/sallyport-proxy").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		for _, banned := range []string{
			"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "k8s.io/api/", "k8s.io/apimachinery", "github.com/parquet-go/",
			"sallyport.dev/sallyport/pkg/evaluation", "sallyport.dev/sallyport/pkg/xds/xdsserver",
		} {
			if strings.HasPrefix(pkg, banned) {
				t.Errorf("the sidecar imports %s", pkg)
			}
		}
	}
}

// maxBinary is how large the sidecar's program may be, in bytes: it is pulled by every node.
const maxBinary = 36_000_000

func TestBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sallyport-proxy")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "netgo,osusergo,opa_no_oci,grpcnotrace", "-ldflags", "-s -w", "-o", path, "sallyport.dev/sallyport/cmd/sallyport-proxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Size() > maxBinary {
		t.Errorf("%d bytes, want at most %d", st.Size(), maxBinary)
	}
	f, err := elf.Open(path)
	must(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is linked dynamically")
		}
	}
}

func environment(root *authority) map[string]string {
	return map[string]string{
		contract.EnvDiscoveryAddress: "controller.example:15012", contract.EnvBundleURL: "https://controller.example:15013",
		contract.EnvTrustAnchors: string(root.pem()), contract.EnvBundleKeys: "keys", contract.EnvPodName: "agent-1", contract.EnvPodNamespace: "agents",
	}
}

func TestOptions(t *testing.T) {
	env := environment(newAuthority(t))
	getenv := func(k string) string { return env[k] }
	o, err := parseRun(nil, getenv, io.Discard)
	must(t, err)
	if o.node() != "agents/agent-1" || o.commonName() != "sallyport sidecar agents/agent-1" || o.tokenPath != contract.TokenPath || o.healthListen != ":15020" || o.explicit != "" {
		t.Errorf("options %+v", o)
	}
	env[contract.EnvExplicit] = "true"
	if o, err := parseRun(nil, getenv, io.Discard); err != nil || o.explicit != "127.0.0.1:15002" {
		t.Errorf("options %+v (%v)", o, err)
	}
	delete(env, contract.EnvPodName)
	env[contract.EnvBundleKeys] = " \n"
	_, err = parseRun(nil, getenv, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "POD_NAME, SALLYPORT_BUNDLE_KEYS") {
		t.Errorf("missing names: %v", err)
	}
	for _, args := range [][]string{{"run", "x"}, {"unknown"}, {"init", "-uid", "0"}, {"init", "-port", "70000"}, {"init", "x"}, {"run", "-nonsense"}, {"init", "-resolv-conf", "/nowhere/at/all"}} {
		if err := Main(t.Context(), args, getenv, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	for _, args := range [][]string{{"-h"}, {"init", "-h"}} {
		if err := Main(t.Context(), args, getenv, io.Discard); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestConvert(t *testing.T) {
	good := func() *xdsclient.Snapshot {
		return &xdsclient.Snapshot{
			Config: &xdsv1.WorkloadConfig{Namespace: "agents", Kind: "Deployment", Name: "agent", Pod: "agent-1", ServiceAccount: "default", Mode: "observe", KillSwitch: true, MaxRequestBytes: 7,
				Timeouts:    &xdsv1.Timeouts{RequestBody: durationpb.New(1), Connect: durationpb.New(2), FirstByte: durationpb.New(3), Idle: durationpb.New(4), Hold: durationpb.New(5)},
				Limits:      &xdsv1.Limits{MemoryBytes: 6, HeldToolCallBytes: 7, HeldResponseBytes: 8},
				FeatureSalt: 9, RefuseCold: true, Canaries: []*xdsv1.Canary{{Name: "decoy", Value: []byte("AKIA-not-a-key-4711")}},
				Passthrough: []*xdsv1.Passthrough{{Host: "a.example", Ports: []uint32{443}}, {Cidr: "10.0.0.0/8"}}},
			Providers: []*xdsv1.ModelProvider{{Name: "p", Api: "openai", Hosts: []string{"b.example"}, Port: 443, Credential: "c", CaBundle: "roots",
				BasePath: "/openai", Plaintext: true, Addresses: []string{"10.0.0.1"}}},
			Secrets: map[string][]byte{"c": []byte("key")},
		}
	}
	s, err := convert(good())
	must(t, err)
	if s.Workload.Pod != "agent-1" || s.Mode != "observe" || !s.KillSwitch || s.MaxRequestBytes != 7 || s.Passthrough[0].Ports[0] != 443 || s.Passthrough[1].CIDR != "10.0.0.0/8" ||
		s.Providers[0].CABundle != "roots" || s.Providers[0].BasePath != "/openai" || !s.Providers[0].Plaintext || s.Providers[0].Addresses[0] != "10.0.0.1" || string(s.Credentials[s.Providers[0].Credential]) != "key" {
		t.Errorf("snapshot %+v", s)
	}
	if s.Timeouts != (proxy.CallTimeouts{RequestBody: 1, Connect: 2, FirstByte: 3, Idle: 4, Hold: 5}) || s.Limits != (proxy.Limits{Memory: 6, HeldToolCalls: 7, HeldResponse: 8}) {
		t.Errorf("timeouts %+v, limits %+v", s.Timeouts, s.Limits)
	}
	if found := s.Canaries.Find([]byte(`{"key":"AKIA-not-a-key-4711"}`)); s.Salt != 9 || !s.RefuseCold || !slices.Equal(found, []string{"decoy"}) {
		t.Errorf("salt %d, refuse cold %v, found %q", s.Salt, s.RefuseCold, found)
	}
	older := good() // of a control plane that knows of no timeouts
	older.Config.Timeouts, older.Config.Limits, older.Config.Canaries = nil, nil, nil
	s, err = convert(older)
	must(t, err)
	if s.Timeouts != (proxy.CallTimeouts{}) || s.Limits != (proxy.Limits{}) || s.Canaries != nil {
		t.Errorf("timeouts %+v, limits %+v", s.Timeouts, s.Limits)
	}
	for name, change := range map[string]func(*xdsclient.Snapshot){
		"provider without port": func(s *xdsclient.Snapshot) { s.Providers[0].Port = 0 },
		"provider's port":       func(s *xdsclient.Snapshot) { s.Providers[0].Port = 65536 + 443 },
		"canary of no value":    func(s *xdsclient.Snapshot) { s.Config.Canaries[0].Value = nil },
		"rule's port":           func(s *xdsclient.Snapshot) { s.Config.Passthrough[0].Ports[0] = 65536 },
	} {
		bad := good()
		change(bad)
		if _, err := convert(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	sc := &sidecar{log: zap.NewNop()}
	for _, m := range []*xdsv1.DetectorModel{{Schema: "other"}, {Schema: "sallyport.features/v2", Model: []byte("x")}} {
		if _, err := sc.loadModel(m); err == nil {
			t.Errorf("loaded %v", m)
		}
	}
}

// signer is a control plane that signs, or does not.
type signer struct {
	root *authority
	life time.Duration

	mu    sync.Mutex
	fails int // how many requests still fail
	asked chan []string
}

func (s *signer) sign(t testing.TB) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, csr []byte) ([]byte, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fails > 0 {
			s.fails--
			return nil, errors.New("the control plane is away")
		}
		chain, err := s.root.sign(t, csr, "sallyport sidecar agents/agent-1", []string{"a.example", "b.example"}, s.life)
		if err == nil {
			c, perr := certs.ParseChain(chain)
			must(t, perr)
			s.asked <- c[0].PermittedDNSDomains
		}
		return chain, err
	}
}

func (s *signer) next(t testing.TB) string {
	t.Helper()
	select {
	case hosts := <-s.asked:
		return strings.Join(hosts, " ")
	case <-time.After(patience):
		t.Fatal("no intermediate was asked for")
		return ""
	}
}

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestIntermediate(t *testing.T) {
	s := &signer{root: newAuthority(t), life: time.Hour, fails: 1, asked: make(chan []string, 16)}
	o := &runOptions{trustAnchors: s.root.pem(), podName: "agent-1", podNamespace: "agents", stateDir: t.TempDir()}
	begin := func(now func() time.Time) (*intermediate, *certs.Minter, func()) {
		t.Helper()
		m := certs.NewMinter()
		i, err := newIntermediate(m, o, s.sign(t), zap.NewNop())
		must(t, err)
		i.now = now
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.run(ctx) }()
		return i, m, func() { cancel(); must(t, <-done) }
	}

	i, m, end := begin(time.Now)
	if err := i.ready(); err != nil {
		t.Errorf("without providers: %v", err)
	}
	i.want([]string{"b.example", "a.example", "b.example"})
	if err := i.ready(); err == nil {
		t.Error("ready before it was signed")
	}
	if got := s.next(t); got != "a.example b.example" {
		t.Errorf("asked for %q", got)
	}
	until(t, "the intermediate is in force", func() bool { return i.ready() == nil })
	first := m.Authority()
	i.want([]string{"a.example", "b.example"}) // no change
	i.want([]string{"a.example"})
	if got := s.next(t); got != "a.example" {
		t.Errorf("asked for %q", got)
	}
	until(t, "it is replaced", func() bool { return m.Authority() != first })
	path := filepath.Join(o.stateDir, intermediateFile)
	until(t, "it is kept", func() bool { _, err := os.Stat(path); return err == nil })
	end()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("kept with mode %v (%v)", st.Mode(), err)
	}

	// A new process, without a control plane.
	s.mu.Lock()
	s.fails = 1 << 30
	s.mu.Unlock()
	i, m, end = begin(time.Now)
	i.want([]string{"a.example"})
	if err := i.ready(); err != nil {
		t.Errorf("what was kept is not taken over: %v", err)
	}
	if _, err := m.Leaf(t.Context(), "a.example"); err != nil {
		t.Error(err)
	}
	end()

	// After two thirds of its life it is renewed, while it is still good.
	s.mu.Lock()
	s.fails = 0
	s.mu.Unlock()
	late := time.Now().Add(45 * time.Minute)
	s.life = 3 * time.Hour
	i, m, end = begin(func() time.Time { return late })
	kept := m.Authority()
	i.want([]string{"a.example"})
	s.next(t)
	until(t, "it is renewed", func() bool { return m.Authority() != kept })
	end()

	for name, content := range map[string][]byte{"nothing": nil, "no PEM": []byte("x"), "no chain": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})} {
		must(t, os.WriteFile(path, content, 0o600))
		if _, err := newIntermediate(certs.NewMinter(), o, s.sign(t), zap.NewNop()); err != nil {
			t.Errorf("%s in the file: %v", name, err)
		}
	}
	other := *o
	other.trustAnchors = newAuthority(t).pem()
	must(t, i.save(m.Authority()))
	m = certs.NewMinter()
	if _, err := newIntermediate(m, &other, s.sign(t), zap.NewNop()); err != nil || m.Authority() != nil {
		t.Errorf("another root's intermediate was taken over (%v)", err)
	}
}

func TestIntermediateNotAsAsked(t *testing.T) {
	root := newAuthority(t)
	o := &runOptions{trustAnchors: root.pem(), podName: "agent-1", podNamespace: "agents", stateDir: t.TempDir()}
	for name, sign := range map[string]func(csr *x509.CertificateRequest) *x509.Certificate{
		"unconstrained": func(csr *x509.CertificateRequest) *x509.Certificate {
			return root.issue(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{2}}, csr.PublicKey, time.Hour)
		},
		"no authority": func(csr *x509.CertificateRequest) *x509.Certificate {
			return root.issue(t, &x509.Certificate{DNSNames: []string{"a.example"}}, csr.PublicKey, time.Hour)
		},
		"another root's": func(csr *x509.CertificateRequest) *x509.Certificate {
			return newAuthority(t).issue(t, &x509.Certificate{ExtraExtensions: csr.Extensions, SubjectKeyId: []byte{2}}, csr.PublicKey, time.Hour)
		},
	} {
		m := certs.NewMinter()
		i, err := newIntermediate(m, o, func(_ context.Context, der []byte) ([]byte, error) {
			csr, err := x509.ParseCertificateRequest(der)
			must(t, err)
			return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(csr).Raw}), nil
		}, zap.NewNop())
		must(t, err)
		if err := i.renew(t.Context(), []string{"a.example"}); err == nil || m.Authority() != nil {
			t.Errorf("%s: taken (%v)", name, err)
		}
	}
}

func TestLoggerHasNoSampling(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&b, zap.InfoLevel)
	for range 1000 {
		log.Info("same")
	}
	must(t, log.Sync())
	if n := bytes.Count(b.Bytes(), []byte("\n")); n != 1000 {
		t.Errorf("%d lines of 1000", n)
	}
}
