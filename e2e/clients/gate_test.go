package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy"
	"sallyport.dev/sallyport/proxy/capture"
)

const (
	capturePort  = 15001
	explicitPort = 15002
	gateUID      = 2113
	// gateVariable makes the test's binary a gate; it names the way and the directory with its files.
	gateVariable = "SALLYPORT_CLIENTS_GATE"
	// ready is the line that the gate says when it serves; before and after come decision records.
	ready = `{"ready":true}`
)

// providers are who the clients speak to. Each has the name of its API.
var providers = []struct {
	api, host, secret string
}{
	{"openai", "api.openai.com", realKeys.OpenAIKey},
	{"anthropic", "api.anthropic.com", realKeys.AnthropicKey},
	{"gemini", "generativelanguage.googleapis.com", realKeys.GeminiKey},
	{"bedrock", "bedrock-runtime.us-east-1.amazonaws.com",
		fmt.Sprintf(`{"accessKeyId":%q,"secretAccessKey":%q,"region":"us-east-1"}`, realKeys.AWSAccessKey, realKeys.AWSSecretKey)},
	{"mcp", "mcp.shelf.example", realKeys.MCPToken},
	{"azure-openai", "shelf.openai.azure.com", realKeys.AzureKey},
	{"vertex-ai", "us-central1-aiplatform.googleapis.com", realKeys.VertexToken},
	{"cohere", "api.cohere.com", realKeys.CohereKey},
	{"ollama", "ollama.com", realKeys.OllamaKey},
	{"a2a", "agent.shelf.example", realKeys.A2AToken},
}

// testPolicy is the baseline with its constants edited, as its users do, and a bundle of the test's own.
func testPolicy() (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "policy", "baseline", "baseline.rego"))
	if err != nil {
		return nil, err
	}
	baseline := string(b)
	for _, edit := range [][2]string{
		{"models := {\n", "models := {\n\t\"gemini\": {\"gemini-2.5-flash\", \"gemini-embedding-001\", \"gemini-live-2.5-flash-preview\"},\n\t\"bedrock\": {\"anthropic.claude-sonnet-4-5-20250929-v1:0\"},\n" +
			"\t\"azure-openai\": {\"gpt-4o-mini\", \"text-embedding-3-small\"},\n\t\"vertex-ai\": {\"gemini-2.5-flash\"},\n" +
			"\t\"cohere\": {\"command-a-03-2025\", \"embed-v4.0\", \"rerank-v3.5\"},\n\t\"ollama\": {\"gpt-oss:20b\", \"embeddinggemma\"},\n"},
		{"\"openai\": {\n", "\"openai\": {\n\t\t\"gpt-image-1\", \"gpt-4o-mini-tts\", \"whisper-1\", \"gpt-realtime\",\n"},
		{"surfaces := set()\n", "surfaces := {\"mcp.message\", \"mcp.listen\", \"mcp.session\", \"a2a.rpc\"}\n"},
	} {
		if strings.Count(baseline, edit[0]) != 1 {
			return nil, fmt.Errorf("the baseline no longer has the one line %q", edit[0])
		}
		baseline = strings.Replace(baseline, edit[0], edit[1], 1)
	}
	return map[string]string{"baseline.rego": baseline, "clients.rego": `package sallyport.bundle.clients

# METADATA
# labels:
#   rule: TOOL-901
deny contains {"rule": "TOOL-901", "message": "The tool model-of-nobody is not to be called."} if "model-of-nobody" in input.call.tool_calls

# METADATA
# labels:
#   rule: URL-901
deny contains {"rule": "URL-901", "message": "Nothing is to be sent to model-of-nobody."} if "model-of-nobody.example" in input.call.url_hosts
`}, nil
}

// serveGate is the sidecar without its control plane. It says its records on standard output and ends with its standard input.
func serveGate(way, dir string) error {
	modules, err := testPolicy()
	if err != nil {
		return err
	}
	engine, err := policy.NewStatic(modules)
	if err != nil {
		return err
	}
	begun := time.Now()
	registry := prometheus.NewRegistry()
	lines := make(chan []byte, 1024)
	go func() {
		for l := range lines {
			fmt.Println(string(l))
		}
	}()
	recorder, err := telemetry.NewRecorder(zap.NewNop(), registry, func(b []byte) { lines <- append([]byte(nil), b...) })
	if err != nil {
		return err
	}
	chain, err := os.ReadFile(filepath.Join(dir, "intermediate.crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Join(dir, "intermediate.key"))
	if err != nil {
		return err
	}
	authority, err := certs.ParseAuthority(chain, key)
	if err != nil {
		return err
	}
	minter := certs.NewMinter()
	minter.SetAuthority(authority)
	p, err := proxy.New(proxy.Options{
		Gate: &gate.Gate{
			Policy: engine, Model: func() *detector.Model { return nil }, Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits(),
			Elapsed: func() time.Duration { return time.Since(begun) },
		},
		Recorder: recorder, Minter: minter, Registerer: registry,
	})
	if err != nil {
		return err
	}
	world, err := os.ReadFile(filepath.Join(dir, "world.crt"))
	if err != nil {
		return err
	}
	snapshot := proxy.Snapshot{Workload: policy.Workload{Namespace: "clients", Kind: "Job", Name: way, Pod: way, ServiceAccount: "default"}, Mode: "enforce", Credentials: map[string][]byte{}}
	for _, x := range providers {
		snapshot.Providers = append(snapshot.Providers, proxy.Provider{Name: x.api, API: x.api, Hosts: []string{x.host}, Port: 443, Credential: x.api, CABundle: string(world)})
		snapshot.Credentials[x.api] = []byte(x.secret)
	}
	if err := p.Update(snapshot); err != nil {
		return err
	}

	var l net.Listener
	serve := p.ServeExplicit
	if way == wayCapture {
		if err := capture.Install(capture.Options{Port: capturePort, UID: gateUID, Resolvers: []netip.Addr{netip.MustParseAddr(worldAddress)}}); err != nil {
			return err
		}
		l, err = capture.Listen(capturePort)
		serve = p.Serve
	} else {
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", explicitPort))
	}
	if err != nil {
		return err
	}
	if err := syscall.Setuid(gateUID); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- serve(l) }()
	lines <- json.RawMessage(ready)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.Drain(drain) // what is cut belongs to clients that have ended
	return <-served
}
