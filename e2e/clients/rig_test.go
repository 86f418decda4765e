package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/e2e/standin"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// The ways from a client to a provider.
const (
	wayDirect   = "direct"
	wayCapture  = "capture"
	wayExplicit = "explicit"
)

var ways = []string{wayDirect, wayCapture, wayExplicit}

// The two ends of the link between the namespace of a client and that of the providers, and where the providers are.
const (
	podAddress      = "198.18.79.2"
	worldAddress    = "198.18.79.1"
	providerNetwork = "198.18.78." // one address a provider
)

// patience is how long the matrix waits for what must happen; nothing is measured against it.
const patience = 90 * time.Second

// placeholder is what a client has for a key where the gate has the real one.
const placeholder = "added-by-sallyport"

// realKeys are what the providers want.
var realKeys = standin.Options{
	OpenAIKey: "sk-standin-openai", AzureKey: "azure-standin", AnthropicKey: "sk-ant-standin", GeminiKey: "AIza-standin", MCPToken: "mcp-standin",
	VertexToken: "ya29.standin", CohereKey: "co-standin", OllamaKey: "ollama-standin", A2AToken: "a2a-standin",
	AWSAccessKey: "AKIASTANDIN000000001", AWSSecretKey: "standin/secret+key",
}

// rig is one way: two namespaces, the providers, and the gate where the way has one.
type rig struct {
	way    string
	dir    string // files of the gate and the trust of the client
	ns     string // the client's
	server *standin.Server

	mu       sync.Mutex
	job      job
	attempts int           // at the job, at the provider
	hold     chan struct{} // closed when a stream may go on

	records chan telemetry.Record
}

func newRig(t *testing.T, way string) *rig {
	t.Helper()
	r := &rig{way: way, dir: t.TempDir(), ns: fmt.Sprintf("sallyport-clients-%d-%s", os.Getpid(), way), hold: make(chan struct{}), records: make(chan telemetry.Record, 1<<14)}
	// The gate gives root up.
	for d := r.dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	options := realKeys
	options.Think, options.KeepBodies = r.think, 1<<20
	r.server = standin.New(options)
	leaf := r.credentials(t)
	world := r.network(t)
	r.listen(t, world, leaf)
	if way != wayDirect {
		r.startGate(t)
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// network makes the namespaces and returns the providers'.
func (r *rig) network(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces and must run as root")
	}
	world := r.ns + "-world"
	for _, ns := range []string{r.ns, world} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	run(t, "ip", "-n", r.ns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world)
	for ns, a := range map[string]string{r.ns: podAddress, world: worldAddress} {
		run(t, "ip", "-n", ns, "addr", "add", a+"/24", "dev", "eth0")
		run(t, "ip", "-n", ns, "link", "set", "eth0", "up")
	}
	run(t, "ip", "-n", r.ns, "route", "add", "default", "via", worldAddress)
	hosts := "127.0.0.1 localhost\n"
	for i, p := range providers {
		address := fmt.Sprint(providerNetwork, i+1)
		run(t, "ip", "-n", world, "addr", "add", address+"/32", "dev", "lo")
		hosts += address + " " + p.host + "\n"
	}
	// ip netns exec mounts what is here over /etc.
	etc := filepath.Join("/etc/netns", r.ns)
	must(t, os.MkdirAll(etc, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(etc)) })
	must(t, os.WriteFile(filepath.Join(etc, "hosts"), []byte(hosts), 0o644))
	must(t, os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+worldAddress+"\noptions timeout:1 attempts:1\n"), 0o644))
	if r.way == wayExplicit {
		// Whoever does not ask the gate gets nowhere.
		rules := fmt.Sprintf("table inet sealed { chain out { type filter hook output priority 0; oif lo accept; meta skuid %d accept; reject; }; }", gateUID)
		run(t, "ip", "netns", "exec", r.ns, "nft", rules)
	}
	return world
}

// credentials writes the files of the gate and of the client's trust, and returns the providers' certificate.
func (r *rig) credentials(t *testing.T) tls.Certificate {
	t.Helper()
	root := func(name string) (*x509.Certificate, func(template *x509.Certificate, key any) []byte) {
		key, err := certs.GenerateKey()
		must(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		must(t, err)
		cert, err := x509.ParseCertificate(der)
		must(t, err)
		return cert, func(template *x509.Certificate, of any) []byte {
			template.NotBefore, template.NotAfter = cert.NotBefore, cert.NotAfter
			der, err := x509.CreateCertificate(rand.Reader, template, cert, of, key)
			must(t, err)
			return der
		}
	}
	asPEM := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	var hosts []string
	for _, p := range providers {
		hosts = append(hosts, p.host)
	}

	world, signByWorld := root("Stand-in for the public web's CA")
	key, err := certs.GenerateKey()
	must(t, err)
	leaf := tls.Certificate{PrivateKey: key, Certificate: [][]byte{signByWorld(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: hosts,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, key.Public())}}

	own, signByOwn := root("Sallyport root of the test")
	gateKey, err := certs.GenerateKey()
	must(t, err)
	der, err := certs.IntermediateRequest(gateKey, "sallyport sidecar clients/"+r.way, hosts)
	must(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	must(t, err)
	intermediate, err := x509.ParseCertificate(signByOwn(&x509.Certificate{SerialNumber: big.NewInt(3), Subject: csr.Subject, ExtraExtensions: csr.Extensions, SubjectKeyId: []byte{3}}, csr.PublicKey))
	must(t, err)
	authority, err := certs.NewAuthority([]*x509.Certificate{intermediate}, gateKey)
	must(t, err)
	chain, keyPEM, err := authority.MarshalPEM()
	must(t, err)
	for name, b := range map[string][]byte{"world.crt": asPEM(world), "intermediate.crt": chain, "intermediate.key": keyPEM} {
		must(t, os.WriteFile(filepath.Join(r.dir, name), b, 0o644))
	}
	trusted := own
	if r.way == wayDirect {
		trusted = world
	}
	must(t, os.Mkdir(filepath.Join(r.dir, "trust"), 0o755))
	must(t, certs.WriteTrust(filepath.Join(r.dir, "trust"), asPEM(trusted)))
	return leaf
}

// inNamespace runs f on a thread inside a namespace. The thread ends with f; sockets keep the namespace they were made in.
func inNamespace(name string, f func() error) error {
	fd, err := unix.Open("/var/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// listen serves the providers.
func (r *rig) listen(t *testing.T, world string, leaf tls.Certificate) {
	t.Helper()
	var l net.Listener
	must(t, inNamespace(world, func() (err error) { l, err = net.Listen("tcp", "0.0.0.0:443"); return err }))
	server := &http.Server{Handler: r.server, TLSConfig: &tls.Config{Certificates: []tls.Certificate{leaf}}, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve the providers: %v", err)
		}
	})
}

// startGate starts the gate and reads its records.
func (r *rig) startGate(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command("ip", "netns", "exec", r.ns, self)
	cmd.Env = append(os.Environ(), gateVariable+"="+r.way+":"+r.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	serving, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			if lines.Text() == ready {
				close(serving)
				continue
			}
			var rec telemetry.Record
			if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
				t.Errorf("the gate of the way %s said %q", r.way, lines.Text())
				continue
			}
			r.records <- rec
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		<-ended
		err := cmd.Wait()
		late.Stop()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("the gate of the way %s: %v\n%s", r.way, err, stderr.String())
		}
	})
	select {
	case <-serving:
	case <-ended:
		t.Fatalf("the gate of the way %s did not start:\n%s", r.way, stderr.String())
	case <-time.After(patience):
		t.Fatalf("the gate of the way %s does not serve", r.way)
	}
}

// think is the model of the scenarios.
func (r *rig) think(turn standin.Turn) standin.Reply {
	if turn.Surface == "a2a.card" {
		return standin.Reply{} // an agent's description, not its answer
	}
	r.mu.Lock()
	j, hold := r.job, r.hold
	r.attempts++
	first := r.attempts == 1
	r.mu.Unlock()
	switch j.Scenario {
	case upstream:
		return standin.Reply{Status: http.StatusBadRequest}
	case busy:
		if first {
			return standin.Reply{Status: http.StatusTooManyRequests, RetryAfter: "1"}
		}
	case broken:
		return standin.Reply{Status: http.StatusInternalServerError}
	case streamed, abort:
		return standin.Reply{Text: "The policy says: thirty days, unused, in the box.", Hold: hold}
	case tools:
		if len(turn.ToolResults) == 0 {
			return standin.Reply{Tool: "lookup", Arguments: `{"query":"returns"}`}
		}
		return standin.Reply{Text: "So it is. " + turn.ToolResults[0]}
	case image:
		text := "I see nothing."
		for _, a := range turn.Attachments {
			sum := sha256.Sum256(a.Bytes)
			text = "I see " + a.MediaType + " " + hex.EncodeToString(sum[:4])
		}
		return standin.Reply{Text: text, Coding: "br"}
	}
	return standin.Reply{Text: "Thirty days, unused.", Coding: "gzip"}
}

// environment is what the user of a client has set.
func (r *rig) environment(c client) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LANG=C.UTF-8",
		"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=2", "MCP_URL=https://mcp.shelf.example/mcp", "A2A_URL=https://agent.shelf.example",
		"AZURE_OPENAI_ENDPOINT=https://shelf.openai.azure.com", "OPENAI_API_VERSION=2024-10-21", "OLLAMA_HOST=https://ollama.com",
	}
	for _, v := range certs.Variables(filepath.Join(r.dir, "trust")) {
		env = append(env, v.Name+"="+v.Value)
	}
	keys := realKeys
	if r.way != wayDirect {
		keys = standin.Options{OpenAIKey: placeholder, AzureKey: placeholder, VertexToken: placeholder, CohereKey: placeholder, OllamaKey: placeholder, A2AToken: placeholder, AnthropicKey: placeholder, GeminiKey: placeholder, AWSAccessKey: placeholder, AWSSecretKey: placeholder, MCPToken: placeholder}
	}
	env = append(env, "OPENAI_API_KEY="+keys.OpenAIKey, "ANTHROPIC_API_KEY="+keys.AnthropicKey,
		"AWS_ACCESS_KEY_ID="+keys.AWSAccessKey, "AWS_SECRET_ACCESS_KEY="+keys.AWSSecretKey, "MCP_TOKEN="+keys.MCPToken, "A2A_TOKEN="+keys.A2AToken,
		"AZURE_OPENAI_API_KEY="+keys.AzureKey, "VERTEX_TOKEN="+keys.VertexToken, "CO_API_KEY="+keys.CohereKey, "OLLAMA_API_KEY="+keys.OllamaKey)
	if slices.ContainsFunc(c.surfaces, func(o offered) bool { return o.api == "gemini" }) { // not beside a credential of Vertex AI
		env = append(env, "GEMINI_API_KEY="+keys.GeminiKey, "GOOGLE_GENERATIVE_AI_API_KEY="+keys.GeminiKey)
	}
	if r.way == wayExplicit {
		if c.baseURL != nil {
			return append(env, c.baseURL...)
		}
		gate := fmt.Sprintf("http://127.0.0.1:%d", explicitPort)
		env = append(env, "HTTPS_PROXY="+gate, "https_proxy="+gate, "NODE_USE_ENV_PROXY=1")
	}
	return env
}

// driver is a running program that drives a client.
type driver struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string
	stderr *bytes.Buffer
}

func (r *rig) start(c client, command []string) (*driver, error) {
	cmd := exec.Command("ip", append([]string{"netns", "exec", r.ns}, command...)...)
	cmd.Env = r.environment(c)
	d := &driver{cmd: cmd, lines: make(chan string, 16), stderr: &bytes.Buffer{}}
	cmd.Stderr = d.stderr
	var err error
	if d.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		defer close(d.lines)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			d.lines <- lines.Text()
		}
	}()
	return d, nil
}

// end ends the program and says how it ended.
func (d *driver) end() error {
	_ = d.in.Close()
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	for range d.lines {
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, d.stderr.String())
	}
	return nil
}

// seen is what a user sees of a job.
type seen struct {
	job
	OK        bool   `json:"ok"`
	Exception string `json:"exception"`
	Message   string `json:"message"`
	Text      string `json:"text"`
}

// outcome is what came of a job, at both ends.
type outcome struct {
	seen     seen
	first    bool // the driver has said that the first text of a stream came
	received []standin.Received
	err      error // the driver failed
}

// do has one job done.
func (r *rig) do(d *driver, j job) (o outcome) {
	hold := make(chan struct{})
	r.mu.Lock()
	r.job, r.attempts, r.hold = j, 0, hold
	r.mu.Unlock()
	before := len(r.server.Received())
	b, err := json.Marshal(j)
	if err == nil {
		_, err = d.in.Write(append(b, '\n'))
	}
	if err != nil {
		o.err = fmt.Errorf("%w: %s", err, d.stderr.String())
		return o
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for o.seen.Client == "" {
		select {
		case l, ok := <-d.lines:
			if !ok {
				o.err = fmt.Errorf("the driver ended: %s", d.stderr.String())
				return o
			}
			if l == `{"event":"first"}` || l == `{"event": "first"}` {
				o.first = true
				if j.Scenario == streamed {
					close(hold)
				}
				continue
			}
			if err := json.Unmarshal([]byte(l), &o.seen); err != nil {
				o.err = fmt.Errorf("the driver said %q", l)
				return o
			}
		case <-late.C:
			o.err = errors.New("the driver gives no answer")
			return o
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if o.err = r.server.Settle(ctx); o.err != nil {
		return o
	}
	o.received = r.server.Received()[before:]
	return o
}
