package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/contract"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsserver"
)

// uidEnv makes the test's own binary the sidecar, as the given user: see TestMain.
const uidEnv = "SALLYPORT_TEST_SIDECAR_UID"

func TestMain(m *testing.M) {
	if uid, err := strconv.Atoi(os.Getenv(uidEnv)); err == nil {
		if uid != 0 {
			err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid))
		}
		if err == nil {
			ctx, stop := notifyContext()
			defer stop()
			err = Main(ctx, os.Args[1:], os.Getenv, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The pod and the world.
const (
	podIP, worldIP, providerIP = "198.18.78.2", "198.18.78.1", "198.18.78.9"
	podIP6, worldIP6           = "fd78:18::2", "fd78:18::1"
	providerHost               = "api.model.example"
	controllerHost             = "sallyport-controller.sallyport-system.svc"
	allowRego                  = `package sallyport.bundle.test

allow if input.call.model == "good"

deny contains {"rule": "TEST-1", "message": "This model is not allowed."} if input.call.model == "bad"
`
)

// netns is a network namespace of the test.
type netns struct {
	name string
	fd   int
}

func newNetns(t *testing.T, suffix string) *netns {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces and must run as root")
	}
	n := &netns{name: fmt.Sprintf("sallyport-app-%d-%s", os.Getpid(), suffix)}
	ip(t, "netns", "add", n.name)
	t.Cleanup(func() { ip(t, "netns", "del", n.name) })
	fd, err := unix.Open("/var/run/netns/"+n.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	n.fd = fd
	ip(t, "-n", n.name, "link", "set", "lo", "up")
	return n
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// do runs f on a thread of its own inside the namespace, as the given user.
func (n *netns) do(uid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		if uid != 0 {
			if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
				done <- e
				return
			}
		}
		done <- f()
	}()
	return <-done
}

func (n *netns) listen(t *testing.T, network, addr string) (l net.Listener, c net.PacketConn) {
	t.Helper()
	must(t, n.do(0, func() (err error) {
		if network == "udp" {
			c, err = net.ListenPacket(network, addr)
		} else {
			l, err = net.Listen(network, addr)
		}
		return err
	}))
	return l, c
}

func (n *netns) dial(uid int, addr string) (c net.Conn, err error) {
	err = n.do(uid, func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial("tcp", addr)
		return err
	})
	return c, err
}

// world is all that is outside the pod.
type world struct {
	pod, net *netns
	root     *authority // the cluster's
	provider *authority // the provider's
	dir      string     // the pod's volumes
	env      []string
	seen     chan string // what the provider got: credential and body
	records  chan string

	stop func() // the controller
}

func newWorld(t *testing.T) *world {
	w := &world{pod: newNetns(t, "pod"), net: newNetns(t, "world"), root: newAuthority(t), provider: newAuthority(t),
		dir: t.TempDir(), seen: make(chan string, 16), records: make(chan string, 64)}
	ip(t, "-n", w.pod.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", w.net.name)
	for n, addrs := range map[*netns][]string{w.pod: {podIP + "/24", podIP6 + "/64"}, w.net: {worldIP + "/24", providerIP + "/24", worldIP6 + "/64"}} {
		for _, a := range addrs {
			args := []string{"-n", n.name, "addr", "add", a, "dev", "eth0"}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			ip(t, args...)
		}
		ip(t, "-n", n.name, "link", "set", "eth0", "up")
	}
	ip(t, "-n", w.pod.name, "route", "add", "default", "via", worldIP)
	ip(t, "-n", w.pod.name, "-6", "route", "add", "default", "via", worldIP6)

	// `ip netns exec` shows this file as /etc/resolv.conf.
	etc := "/etc/netns/" + w.pod.name
	must(t, os.MkdirAll(etc, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(etc); _ = os.Remove("/etc/netns") })
	must(t, os.WriteFile(etc+"/resolv.conf", []byte("nameserver "+worldIP+"\n"), 0o644))
	w.serveDNS(t)
	w.serveProvider(t)

	for _, d := range []string{"state", "trust"} {
		must(t, os.MkdirAll(filepath.Join(w.dir, d), 0o777))
		must(t, os.Chmod(filepath.Join(w.dir, d), 0o777))
	}
	for d := w.dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755)) // the sidecar is another user
	}
	must(t, os.WriteFile(filepath.Join(w.dir, "token"), []byte("the-token"), 0o644))
	return w
}

// serveDNS answers every name with the provider's address, but for the controller's.
func (w *world) serveDNS(t *testing.T) {
	_, c := w.net.listen(t, "udp", worldIP+":53")
	done := make(chan struct{})
	t.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Header.Response, m.Header.RCode, m.Additionals = true, dnsmessage.RCodeSuccess, nil
			if q.Type == dnsmessage.TypeA {
				a := netip.MustParseAddr(providerIP)
				if strings.HasPrefix(q.Name.String(), controllerHost) {
					a = netip.MustParseAddr(worldIP)
				}
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5}, Body: &dnsmessage.AResource{A: a.As4()}}}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(b, from)
			}
		}
	}()
}

func (w *world) certificate(t *testing.T, a *authority, host string) tls.Certificate {
	t.Helper()
	key, err := certs.GenerateKey()
	must(t, err)
	c := a.issue(t, &x509.Certificate{DNSNames: []string{host}}, key.Public(), time.Hour)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func (w *world) serveProvider(t *testing.T) {
	l, _ := w.net.listen(t, "tcp", providerIP+":443")
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.seen <- r.Header.Get("Authorization") + " " + string(b)
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"choices":[]}`)
	}), TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.certificate(t, w.provider, providerHost)}}}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
}

// Authenticate is part of xds.Authenticator.
func (w *world) Authenticate(_ context.Context, token string) (xds.Identity, error) {
	if token != "the-token" {
		return xds.Identity{}, xds.ErrUnauthenticated
	}
	return xds.Identity{Namespace: "agents", ServiceAccount: "default", Pod: "agent-1", PodUID: "uid-1", Kind: "Deployment", Name: "agent"}, nil
}

// control starts a control plane; w.stop ends it.
func (w *world) control(t *testing.T) {
	t.Helper()
	cert := w.certificate(t, w.root, controllerHost)
	server, err := xdsserver.New(xdsserver.Config{
		Authenticator: w, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		OnRecord: func(_ xds.Identity, b []byte) { w.records <- string(b) },
		Sign: func(_ context.Context, id xds.Identity, csr []byte) ([]byte, error) {
			return w.root.sign(t, csr, "sallyport sidecar "+id.Namespace+"/"+id.Pod, []string{providerHost}, time.Hour)
		},
	})
	must(t, err)
	must(t, server.SetNamespace("agents", xdsserver.NamespaceResources{
		Config: &xdsv1.WorkloadConfig{Mode: "enforce"},
		Providers: []*xdsv1.ModelProvider{{Name: "model", Api: "openai", Hosts: []string{providerHost}, Port: 443, Credential: "key",
			CaBundle: string(w.provider.pem())}},
		Secrets: map[string][]byte{"key": []byte("sk-real")},
	}))
	discovery, _ := w.net.listen(t, "tcp", worldIP+":15012")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, discovery) }()

	key, err := certs.GenerateKey()
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	bundle, err := policy.Assemble([]policy.Source{{Name: "test", Modules: map[string]string{"test.rego": allowRego}}}, "")
	must(t, err)
	tarball, err := bundle.Sign(key, policy.SignOptions{KeyID: policy.KeyID(&key.PublicKey), Scope: "agents", IssuedAt: time.Now().Add(-time.Minute)})
	must(t, err)
	l, _ := w.net.listen(t, "tcp", worldIP+":15013")
	bundles := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
		case r.Header.Get("If-None-Match") == `"1"`:
			rw.WriteHeader(http.StatusNotModified)
		default:
			rw.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
			rw.Header().Set("ETag", `"1"`)
			_, _ = rw.Write(tarball)
		}
	}), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	go func() { _ = bundles.ServeTLS(l, "", "") }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		_ = bundles.Close()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("serve discovery: %v", err)
		}
	})
	t.Cleanup(w.stop)
	w.env = []string{
		contract.EnvDiscoveryAddress + "=" + controllerHost + ":15012", contract.EnvBundleURL + "=https://" + controllerHost + ":15013",
		contract.EnvTrustAnchors + "=" + string(w.root.pem()), contract.EnvBundleKeys + "=" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		contract.EnvExplicit + "=true", contract.EnvPodName + "=agent-1", contract.EnvPodNamespace + "=agents", contract.EnvWorkload + "=Deployment/agent",
	}
}

// start runs the sidecar's program in the pod.
func (w *world) start(t *testing.T, uid int64, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.pod.name, self}, args...)...)
	cmd.Env = append(append(os.Environ(), w.env...), fmt.Sprintf("%s=%d", uidEnv, uid))
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out // one writer: exec copies them one after the other
	must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%q says:\n%s", args, out)
		}
	})
	return cmd, out
}

func (w *world) sidecar(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd, _ := w.start(t, contract.ProxyUID, "run", "-token", filepath.Join(w.dir, "token"), "-state-dir", filepath.Join(w.dir, "state"), "-trust-dir", filepath.Join(w.dir, "trust"))
	return cmd
}

// startup waits for the startup probe.
func (w *world) startup(t *testing.T) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return w.pod.dial(0, podIP+":15020")
	}}}
	last := "nobody listens"
	defer func() {
		if t.Failed() {
			t.Logf("the startup probe says: %s", last)
		}
	}()
	until(t, "the startup probe succeeds", func() bool {
		res, err := client.Get("http://sidecar/startup")
		if err != nil {
			return false
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		last = string(b)
		return res.StatusCode == http.StatusOK
	})
}

// agent is an HTTP client in the pod that trusts what the sidecar wrote for it.
func (w *world) agent(t *testing.T) *http.Client {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "trust", contract.CAFile))
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return w.pod.dial(1000, providerIP+":443") },
	}}
}

// explicitAddr is where the sidecar serves the explicit proxy.
var explicitAddr = fmt.Sprintf("127.0.0.1:%d", contract.ExplicitPort)

func (w *world) call(t *testing.T, model string) (int, string) {
	t.Helper()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}]}`, model)
	res, err := w.agent(t).Post("https://"+providerHost+"/v1/chat/completions", "application/json", strings.NewReader(body))
	must(t, err)
	b, err := io.ReadAll(res.Body)
	must(t, err)
	_ = res.Body.Close()
	if res.StatusCode == http.StatusOK {
		if got := <-w.seen; got != "Bearer sk-real "+body {
			t.Errorf("the provider got %q", got)
		}
	}
	return res.StatusCode, string(b)
}

func TestSidecar(t *testing.T) {
	w := newWorld(t)
	w.control(t)

	install, out := w.start(t, 0, "init")
	if err := install.Wait(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	cmd := w.sidecar(t)
	w.startup(t)

	if status, text := w.call(t, "good"); status != http.StatusOK || !strings.Contains(text, "usage") {
		t.Errorf("an allowed call: %d %s", status, text)
	}
	if status, text := w.call(t, "bad"); status != http.StatusForbidden && status != http.StatusBadRequest || !strings.Contains(text, "TEST-1") {
		t.Errorf("a denied call: %d %s", status, text)
	}
	if status, text := w.call(t, "other"); status == http.StatusOK {
		t.Errorf("a call that nothing allows: %d %s", status, text)
	}
	for _, want := range []string{`"outcome":"released"`, `"rule":"TEST-1"`, `"rule":"SYS-009"`} {
		select {
		case rec := <-w.records:
			if !strings.Contains(rec, want) {
				t.Errorf("the controller got %s, want %s", rec, want)
			}
		case <-time.After(patience):
			t.Fatal("no record reached the controller")
		}
	}
	t.Run("another host is refused", func(t *testing.T) {
		c, err := w.pod.dial(1000, providerIP+":443")
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		if err := tls.Client(c, &tls.Config{ServerName: "evil.example"}).Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("handshake: %v", err)
		}
	})

	// Loopback is not captured: whoever knows of the explicit proxy reaches it, by base URL and as a proxy.
	for name, tr := range map[string]*http.Transport{
		"http://" + explicitAddr + "/model": {},
		"https://" + providerHost:           w.agent(t).Transport.(*http.Transport),
	} {
		t.Run("explicit proxy, "+name, func(t *testing.T) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return w.pod.dial(1000, explicitAddr) }
			tr.DisableKeepAlives = true
			if strings.HasPrefix(name, "https") {
				tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: explicitAddr})
			}
			client := &http.Client{Timeout: patience, Transport: tr}
			body := `{"model":"good","messages":[{"role":"user","content":"hello"}]}`
			res, err := client.Post(name+"/v1/chat/completions", "application/json", strings.NewReader(body))
			must(t, err)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Fatalf("status %d", res.StatusCode)
			}
			if got := <-w.seen; got != "Bearer sk-real "+body {
				t.Errorf("the provider got %q", got)
			}
		})
	}

	// The controller goes; then the container restarts.
	w.stop()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	cmd = w.sidecar(t)
	w.startup(t)
	if status, text := w.call(t, "good"); status != http.StatusOK {
		t.Errorf("without a controller, an allowed call: %d %s", status, text)
	}
	if status, text := w.call(t, "bad"); status == http.StatusOK {
		t.Errorf("without a controller, a denied call: %d %s", status, text)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
