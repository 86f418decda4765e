package execute

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/evaluation"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// patienceOfTests is how long a test waits for what must happen; nothing is measured against it.
const patienceOfTests = 30 * time.Second

// TestMain lets the test's binary be what exec runs itself as, and the command under it.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == insideCommand:
		fmt.Fprintln(os.Stderr, inside(os.NewFile(3, "control")))
		os.Exit(1)
	case len(os.Args) > 2 && os.Args[1] == "as-command":
		os.Exit(asCommand(os.Args[2]))
	}
	os.Exit(m.Run())
}

// asCommand is what the test runs under the gate. It prints what it sees and returns its exit code.
func asCommand(what string) int {
	client := &http.Client{Timeout: patienceOfTests}
	base := os.Getenv("OPENAI_BASE_URL")
	if base == "" {
		base = "https://api.openai.com/v1"
	}
	post := func(body string) {
		res, err := client.Post(base+"/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		b, _ := io.ReadAll(res.Body)
		fmt.Println(res.StatusCode, string(b))
	}
	switch what {
	case "call":
		post(goodBody)
		return 7
	case "refused":
		post(`{"model":"made-up","messages":[{"role":"user","content":"hello"}]}`)
	case "trespass":
		trespass()
	case "look":
		fmt.Println("key", os.Getenv("OPENAI_API_KEY"))
		for _, address := range []string{"198.51.100.1:80", "[2001:db8:7::1]:443", "127.0.66.1:443"} {
			c, err := net.DialTimeout("tcp", address, patienceOfTests)
			if err != nil {
				fmt.Println("no way to", address)
				continue
			}
			// Captured, told nothing, and reset.
			_ = c.SetDeadline(time.Now().Add(patienceOfTests))
			_, _ = c.Write([]byte("\x00\x01\x02"))
			n, _ := c.Read(make([]byte, 1))
			fmt.Println("read", n, "of", address)
		}
		if c, err := net.Dial("udp", "198.51.100.1:443"); err == nil {
			_, err := c.Write([]byte("x"))
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(patienceOfTests))
				_, err = c.Read(make([]byte, 1))
			}
			fmt.Println("udp refused:", err != nil && !errors.Is(err, os.ErrDeadlineExceeded))
		}
		addrs, err := net.LookupHost("carries-a-secret.attacker.example")
		fmt.Println("name:", addrs, err)
		_, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
		fmt.Println("parent readable:", err == nil)
		out, err := exec.Command("/proc/self/exe", "as-command", "child").CombinedOutput()
		fmt.Print("child: ", string(out), err, "\n")
	case "child":
		fmt.Print("in the same namespace: ", os.Getenv("SSL_CERT_FILE") != "")
	case "signal":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("waiting")
		<-signals
		return 3
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return 0
}

// trespass is what another process of the machine may try that found the gate's port, and what one that was told can do.
func trespass() {
	told, err := url.Parse(os.Getenv("HTTPS_PROXY"))
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	try := func(name string, change func(*url.URL)) {
		by := *told
		change(&by)
		through := &http.Client{Timeout: patienceOfTests, Transport: &http.Transport{Proxy: http.ProxyURL(&by)}}
		for _, target := range []string{"https://api.openai.com/v1/models", "http://plain.example/x"} {
			if res, err := through.Get(target); err != nil {
				fmt.Println(name, target, "error:", err)
			} else {
				b, _ := io.ReadAll(res.Body)
				fmt.Println(name, target, res.StatusCode, string(b))
			}
		}
	}
	try("nobody", func(u *url.URL) { u.User = nil })
	try("stranger", func(u *url.URL) { u.User = url.UserPassword("sallyport", strings.Repeat("A", 26)) })
	for name, base := range map[string]string{"nobody's": "http://" + told.Host + "/openai/v1", "stranger's": "http://" + told.Host + "/" + strings.Repeat("A", 26) + "/openai/v1"} {
		res, err := http.Post(base+"/chat/completions", "application/json", strings.NewReader(goodBody))
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		b, _ := io.ReadAll(res.Body)
		fmt.Println(name, res.StatusCode, string(b))
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		// Another program that was told.
		res, err := http.Post(os.Getenv("OPENAI_BASE_URL")+"/chat/completions", "application/json", strings.NewReader(goodBody))
		if err == nil {
			fmt.Println("curl told", res.StatusCode)
		}
		fmt.Println("curl untold 407")
		return
	}
	for name, proxy := range map[string]string{"told": told.String(), "untold": "http://" + told.Host} {
		cmd := exec.Command(curl, "-sS", "-o", os.DevNull, "-w", "%{http_connect}", "--max-time", "20", "-H", "Content-Type: application/json", "-d", goodBody, "https://api.openai.com/v1/chat/completions")
		cmd.Env = append(os.Environ(), "HTTPS_PROXY="+proxy, "https_proxy="+proxy, "ALL_PROXY=", "all_proxy=")
		out, _ := cmd.Output() // that it fails is seen in the code
		fmt.Println("curl", name, string(out))
	}
}

const goodBody = `{"model":"gpt-4o",  "messages":[{"role":"user","content":"h\u00e9llo"}]}`

// provider is a stand-in for OpenAI at an address of the loopback network.
type provider struct {
	file string // of its ModelProvider

	mu     sync.Mutex
	bodies []string
	keys   []string
}

func (p *provider) seen() (bodies, keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bodies), slices.Clone(p.keys)
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in"}, DNSNames: []string{"api.openai.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.66.1:443")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{file: filepath.Join(t.TempDir(), "openai.yaml")}
	server := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			p.mu.Lock()
			p.bodies, p.keys = append(p.bodies, string(b)), append(p.keys, r.Header.Get("Authorization"))
			p.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"id":"1","model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`)
		}),
	}
	go server.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	object := map[string]any{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ModelProvider", "metadata": map[string]any{"name": "openai"}, "spec": map[string]any{
		"api": "openai", "hosts": []string{"api.openai.com"}, "addresses": []string{"127.0.66.1"},
		"caBundle": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}}
	b, err := json.Marshal(object)
	if err == nil {
		err = os.WriteFile(p.file, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ran is what came of a command under exec.
type ran struct {
	out, err string
	code     int
	failure  error
	state    string
}

func (r *ran) records(t *testing.T) (all []*telemetry.Record) {
	t.Helper()
	files, err := evaluation.Open(nil, RecordsFile(r.state))
	if err == nil {
		err = files.Each(t.Context(), func(s *evaluation.Sample) bool { all = append(all, s.Record); return false }, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func under(t *testing.T, ctx context.Context, o options, stdout io.Writer, env ...string) *ran {
	t.Helper()
	var out, errs shared
	if stdout == nil {
		stdout = &out
	}
	if o.state == "" {
		o.state = t.TempDir()
	}
	o.name = "agent"
	err := o.run(ctx, strings.NewReader(""), stdout, &errs, append(os.Environ(), env...))
	r := &ran{out: out.String(), err: errs.String(), failure: err, state: o.state}
	var exit *ExitError
	if errors.As(err, &exit) {
		r.code, r.failure = exit.Code, nil
	}
	return r
}

// shared is a buffer for the command and the gate both.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func command(what string) []string { return []string{"/proc/self/exe", "as-command", what} }

// self is this program by its path: /proc/self/exe is another program to whoever looks it up.
func self(t *testing.T, what string) []string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, "as-command", what}
}

// Both ways lead through the same gate: what is released arrives as it was sent, with the credential that the command never had, and the exit
// code is the command's.
func TestCalls(t *testing.T) {
	for _, capture := range []string{captureNamespace, captureProxy} {
		t.Run(capture, func(t *testing.T) {
			p := newProvider(t)
			r := under(t, t.Context(), options{capture: capture, providers: []string{p.file}, argv: self(t, "call")}, nil, "OPENAI_API_KEY=sk-real", "OPENAI_BASE_URL=")
			if r.failure != nil || r.code != 7 || !strings.Contains(r.out, `200 {"id":"1"`) {
				t.Fatalf("code %d, error %v, printed %q and %q", r.code, r.failure, r.out, r.err)
			}
			bodies, keys := p.seen()
			if len(bodies) != 1 || bodies[0] != goodBody || keys[0] != "Bearer sk-real" {
				t.Errorf("the provider saw %q with %q", bodies, keys)
			}
			for _, want := range []string{"released openai gpt-4o", "200", "3+2 tokens", "1 released", "decisions in " + RecordsFile(r.state)} {
				if !strings.Contains(r.err, want) {
					t.Errorf("no %q in what was said:\n%s", want, r.err)
				}
			}
			if all := r.records(t); len(all) != 1 || all[0].Outcome != telemetry.OutcomeReleased || all[0].Workload.Name != "agent" || len(all[0].Evidence) == 0 {
				t.Errorf("records %+v", all)
			}

			r = under(t, t.Context(), options{capture: capture, providers: []string{p.file}, argv: self(t, "refused")}, nil, "OPENAI_BASE_URL=")
			if r.failure != nil || r.code != 0 || !strings.Contains(r.out, "403 ") || !strings.Contains(r.out, "MODEL-001") {
				t.Errorf("code %d, error %v, printed %q", r.code, r.failure, r.out)
			}
			if !strings.Contains(r.err, "refused") || !strings.Contains(r.err, "MODEL-001 1×") {
				t.Errorf("said\n%s", r.err)
			}
			if bodies, _ := p.seen(); len(bodies) != 1 {
				t.Errorf("the refused call arrived: %q", bodies)
			}

			r = under(t, t.Context(), options{capture: capture, quiet: true, observe: true, providers: []string{p.file}, argv: self(t, "refused")}, nil, "OPENAI_BASE_URL=")
			if r.failure != nil || !strings.HasPrefix(r.out, "200 ") || r.err != "" {
				t.Errorf("observed: error %v, printed %q, said %q", r.failure, r.out, r.err)
			}
		})
	}
}

// The gate's port on the loopback address is anybody's to find, but its credentials are not anybody's to spend.
func TestOnlyTheCommandIsServed(t *testing.T) {
	p := newProvider(t)
	r := under(t, t.Context(), options{capture: captureProxy, providers: []string{p.file}, argv: self(t, "trespass")}, nil, "OPENAI_API_KEY=sk-real", "OPENAI_BASE_URL=")
	if r.failure != nil || r.code != 0 {
		t.Fatalf("code %d, error %v: %s%s", r.code, r.failure, r.out, r.err)
	}
	for _, want := range []string{
		"nobody https://api.openai.com/v1/models error: Get \"https://api.openai.com/v1/models\": Proxy Authentication Required",
		"nobody http://plain.example/x 407 The explicit proxy serves only those who show its token",
		"stranger https://api.openai.com/v1/models error: Get \"https://api.openai.com/v1/models\": Proxy Authentication Required",
		"stranger http://plain.example/x 407", "nobody's 403 The explicit proxy serves only", "stranger's 403", "curl told 200\n", "curl untold 407\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if bodies, keys := p.seen(); len(bodies) != 1 || bodies[0] != goodBody || keys[0] != "Bearer sk-real" {
		t.Errorf("the provider saw %q with %q", bodies, keys)
	}
	if all := r.records(t); len(all) != 1 {
		t.Errorf("%d records", len(all))
	}
}

// In the namespace there is no other way out, and no way to the credentials.
func TestSealed(t *testing.T) {
	p := newProvider(t)
	r := under(t, t.Context(), options{capture: captureNamespace, providers: []string{p.file}, argv: self(t, "look")}, nil, "OPENAI_API_KEY=sk-real")
	if r.failure != nil || r.code != 0 {
		t.Fatalf("code %d, error %v: %s%s", r.code, r.failure, r.out, r.err)
	}
	for _, want := range []string{
		"key " + placeholder, "read 0 of 198.51.100.1:80", "read 0 of [2001:db8:7::1]:443", "no way to 127.0.66.1:443",
		"udp refused: true", "name: [198.18.", "parent readable: false", "child: in the same namespace: true<nil>",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if bodies, _ := p.seen(); len(bodies) != 0 {
		t.Errorf("arrived: %q", bodies)
	}
	if !strings.Contains(r.err, "SYS-004") {
		t.Errorf("said\n%s", r.err)
	}
}

func TestEnds(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		r := under(t, t.Context(), options{capture: captureNamespace, argv: self(t, "killed")}, nil)
		if r.failure != nil || r.code != 128+9 {
			t.Errorf("code %d, error %v", r.code, r.failure)
		}
	})
	t.Run("told to end", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := under(t, ctx, options{capture: captureNamespace, argv: self(t, "signal")}, onWrite(cancel))
		if r.failure != nil || r.code != 3 {
			t.Errorf("code %d, error %v", r.code, r.failure)
		}
	})
}

// onWrite calls f at each write.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) { f(); return len(b), nil }

func TestBadOptions(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		o    options
		want string
	}{
		{"capture", options{capture: "ebpf", argv: command("look")}, "accepted are auto, namespace and proxy"},
		{"no such command", options{capture: captureAuto, argv: []string{"no-such-command-here"}}, "no-such-command-here"},
		{"no such policy", options{capture: captureAuto, argv: command("look"), policy: filepath.Join(dir, "absent")}, "--policy"},
		{"empty policy", options{capture: captureAuto, argv: command("look"), policy: dir}, "no module in it"},
		{"policy that is no bundle", options{capture: captureAuto, argv: command("look"), policy: write("x.tar.gz", "x")}, "read a bundle"},
		{"no such detector", options{capture: captureAuto, argv: command("look"), detector: filepath.Join(dir, "absent")}, "--detector"},
		{"no such providers", options{capture: captureAuto, argv: command("look"), providers: []string{filepath.Join(dir, "absent")}}, "absent"},
		{"passthrough port", options{capture: captureAuto, argv: command("look"), passthrough: []string{"a.example:http"}}, `"http" is no port`},
		{"passthrough host", options{capture: captureAuto, argv: command("look"), passthrough: []string{"a..b"}}, "malformed label"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r := under(t, t.Context(), tc.o, nil); r.failure == nil || !strings.Contains(r.failure.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", r.failure, tc.want)
			}
		})
	}
}
