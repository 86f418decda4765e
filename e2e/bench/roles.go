package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
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
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/e2e/harness"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/proxy"
	"sallyport.dev/sallyport/proxy/capture"
	"sallyport.dev/sallyport/proxy/collector"
)

// role is one process of the benchmark.
func role(name string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch name {
	case "provider":
		return provider(ctx, args[0])
	case "floor":
		if err := profileMemory(ctx, name, args[1]); err != nil {
			return err
		}
		return floor(ctx, args[0])
	case "gate":
		if err := profileMemory(ctx, name, args[2]); err != nil {
			return err
		}
		return gateRole(ctx, args[0], args[1])
	case "load":
		var l load
		if err := json.Unmarshal([]byte(args[2]), &l); err != nil {
			return err
		}
		return loadRole(ctx, args[0], args[1], l)
	default:
		return fmt.Errorf("no such role %q", name)
	}
}

// profileMemory writes a heap profile of this process to FILE.<role> on SIGUSR1, and what the heap and the stacks take to standard error. No file, no
// profile. The file is opened while the process may.
func profileMemory(ctx context.Context, role, file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file + "." + role)
	if err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		defer func() { _ = f.Close() }()
		select {
		case <-ctx.Done():
			return
		case <-asked:
		}
		var m, live runtime.MemStats
		runtime.ReadMemStats(&m)
		runtime.GC() // the profile is of what lives
		runtime.ReadMemStats(&live)
		const mb = 1 << 20
		fmt.Fprintf(os.Stderr, "%s: heap in use %.1f MB (%.1f of objects, of which %.1f live), kept free %.1f, stacks %.1f, the runtime's own %.1f; %d goroutines\n", role,
			float64(m.HeapInuse)/mb, float64(m.HeapAlloc)/mb, float64(live.HeapAlloc)/mb, float64(m.HeapIdle-m.HeapReleased)/mb, float64(m.StackInuse)/mb,
			float64(m.MSpanSys+m.MCacheSys+m.GCSys+m.OtherSys+m.BuckHashSys)/mb, runtime.NumGoroutine())
		if err := pprof.Lookup("heap").WriteTo(f, 0); err != nil {
			fmt.Fprintf(os.Stderr, "%s: heap profile: %v\n", role, err)
		}
	}()
	return nil
}

// pin keeps this process on one core.
func pin(core int) error {
	var set unix.CPUSet
	set.Set(core % runtime.NumCPU())
	// All threads of a Go program are children of the main one and take over its mask; those that run already are set one by one.
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		var tid int
		if _, err := fmt.Sscan(t.Name(), &tid); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pin to core %d: %w", core, err)
		}
	}
	runtime.GOMAXPROCS(1)
	return nil
}

// credentials writes the CA that stands for the public web's, the provider's certificate, and the root and intermediate of the gate.
func credentials(dir string) error {
	web, webKey, err := root("Stand-in for the public web's CA")
	if err != nil {
		return err
	}
	leafKey, err := certs.GenerateKey()
	if err != nil {
		return err
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{modelHost}, NotBefore: web.NotBefore, NotAfter: web.NotAfter,
	}, web, leafKey.Public(), webKey)
	if err != nil {
		return err
	}
	own, ownKey, err := root("Sallyport benchmark root")
	if err != nil {
		return err
	}
	key, err := certs.GenerateKey()
	if err != nil {
		return err
	}
	csrDER, err := certs.IntermediateRequest(key, "sallyport sidecar bench/bench", []string{modelHost})
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: csr.Subject, NotBefore: own.NotBefore, NotAfter: own.NotAfter,
		ExtraExtensions: csr.Extensions, SubjectKeyId: []byte{3},
	}, own, csr.PublicKey, ownKey)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	authority, err := certs.NewAuthority([]*x509.Certificate{cert}, key)
	if err != nil {
		return err
	}
	chain, keyPEM, err := authority.MarshalPEM()
	if err != nil {
		return err
	}
	leafKeyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{
		"web.crt":          pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Raw}),
		"provider.crt":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}),
		"provider.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: leafKeyDER}),
		"root.crt":         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}),
		"intermediate.crt": chain,
		"intermediate.key": keyPEM,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func root(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := certs.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte(name),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// answer is a reply of half a kilobyte, as a model gives it.
var answer = []byte(`{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"` +
	strings.Repeat("All is well with the order. ", 8) + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":180,"completion_tokens":42,"total_tokens":222}}`)

// provider is the stand-in: it reads the request and answers at once.
func provider(ctx context.Context, dir string) error {
	if err := pin(loadCore); err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if !bytes.Contains(body[:min(len(body), 200)], []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		pace, _ := time.ParseDuration(r.Header.Get(paceHeader))
		for i := range 20 {
			if i > 0 && pace > 0 {
				time.Sleep(pace)
			}
			_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"word "}}]}`+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	// HTTP/1.1 alone, so that floor and gate speak the same protocol upstream.
	server := &http.Server{Handler: handler, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", webIP+":"+providerPort)
	if err != nil {
		return err
	}
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.ServeTLS(l, filepath.Join(dir, "provider.crt"), filepath.Join(dir, "provider.key")); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// floor is the least that a gate can do: end TLS, read the body, pass it on.
func floor(ctx context.Context, dir string) error {
	if err := pin(proxyCore); err != nil {
		return err
	}
	roots, err := certificate(filepath.Join(dir, "web.crt"))
	if err != nil {
		return err
	}
	minter, err := minter(dir)
	if err != nil {
		return err
	}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: modelHost}) },
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 256},
		FlushInterval: -1,
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			forward.ServeHTTP(w, r)
		}),
		TLSConfig: &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return minter.Leaf(h.Context(), h.ServerName) }},
	}
	// The namespace has capture rules; what the floor dials must not be captured.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", floorAddress)
	if err != nil {
		return err
	}
	if err := syscall.Setuid(proxyUID); err != nil {
		return err
	}
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func minter(dir string) (*certs.Minter, error) {
	chain, err := os.ReadFile(filepath.Join(dir, "intermediate.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "intermediate.key"))
	if err != nil {
		return nil, err
	}
	authority, err := certs.ParseAuthority(chain, key)
	if err != nil {
		return nil, err
	}
	m := certs.NewMinter()
	m.SetAuthority(authority)
	return m, nil
}

// gateRole is the sidecar with everything on but its control plane: capture, policy library, a forest that was trained on such calls, decision lines.
// A profile of the process is written to a file unless its name is "".
func gateRole(ctx context.Context, dir, profile string) error {
	if err := pin(proxyCore); err != nil {
		return err
	}
	if err := capture.Install(capture.Options{Port: capturePort, UID: proxyUID, Resolvers: []netip.Addr{netip.MustParseAddr(webIP)}}); err != nil {
		return err
	}
	repository, err := harness.Root()
	if err != nil {
		return err
	}
	module, err := os.ReadFile(filepath.Join(repository, "deploy", "policy", "baseline", "baseline.rego"))
	if err != nil {
		return err
	}
	engine, err := policy.NewStatic(map[string]string{"baseline.rego": string(module)})
	if err != nil {
		return err
	}
	begun := time.Now()
	g := &gate.Gate{
		Policy: engine, Model: func() *detector.Model { return nil },
		Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits(),
		Elapsed: func() time.Duration { return time.Since(begun) },
	}
	model, err := learn(ctx, g)
	if err != nil {
		return err
	}
	g.Model, g.Sessions = func() *detector.Model { return model }, features.NewSessions(0, 0)

	lines, err := os.Create(filepath.Join(dir, recordLineFile))
	if err != nil {
		return err
	}
	enc := zap.NewProductionEncoderConfig()
	enc.NewReflectedEncoder = telemetry.NewReflectedEncoder
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), telemetry.NewLines(lines), zap.InfoLevel))
	registry := prometheus.NewRegistry()
	recorder, err := telemetry.NewRecorder(log, registry, func([]byte) {})
	if err != nil {
		return err
	}
	minter, err := minter(dir)
	if err != nil {
		return err
	}
	p, err := proxy.New(proxy.Options{Gate: g, Recorder: recorder, Minter: minter, Registerer: registry, Log: log})
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "web.crt"))
	if err != nil {
		return err
	}
	if err := p.Update(proxy.Snapshot{
		Workload: policy.Workload{Namespace: "bench", Kind: "Deployment", Name: "bench", Pod: "bench-0", ServiceAccount: "default"}, Mode: "enforce",
		Providers:   []proxy.Provider{{Name: "openai", API: "openai", Hosts: []string{modelHost}, Port: 443, Credential: "openai", CABundle: string(ca)}},
		Credentials: map[string][]byte{"openai": []byte("sk-bench")},
		Salt:        features.RecordedSalt,
	}); err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile) // learning, which has large bodies, is not in it
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	collector.Tune()     // as cmd/sallyport-proxy does in a container with a limit
	debug.FreeOSMemory() // what learning left behind is not the sidecar's
	l, err := capture.Listen(capturePort)
	if err != nil {
		return err
	}
	if err := syscall.Setuid(proxyUID); err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Drain(drain) // what is cut is load that has ended
	}()
	return p.Serve(l)
}

// learn trains a model on calls like those of the load.
func learn(ctx context.Context, g *gate.Gate) (*detector.Model, error) {
	var rows []detector.Row
	now := time.Unix(1_767_225_600, 0)
	// As quick as the load and as costly: above what a workload does at its busiest, calls are unusual, and it takes minutes for a pace to be known.
	const pace, warm = 100 * time.Microsecond, 2 * time.Minute
	for at := -warm; at < 0; at += pace {
		t := now.Add(at)
		g.Sessions.Settle(g.Sessions.Begin(&llm.Call{BodyBytes: 64 << 10}, t), features.Outcome{}, t)
	}
	for i := range 2048 {
		size := sweep[i%len(sweep)].bytes
		v := g.Judge(ctx, &gate.Request{
			ID: fmt.Sprint("learn-", i), Time: now.Add(time.Duration(i) * pace), Mode: "enforce",
			Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai", Scheme: "https", Host: modelHost, Port: 443, Method: "POST", Path: "/v1/chat/completions"},
			Salt:        features.RecordedSalt,
			API:         "openai", ContentType: "application/json", Header: http.Header{"Authorization": {authorization}}, Body: body(size, i%2 == 0, i*7919), // over all that the load says
		})
		if v.Record.Fault == string(policy.FaultTimeout) {
			continue // the machine is busy with something else; there are enough of them
		}
		if !v.Release {
			return nil, fmt.Errorf("an ordinary call was refused while learning: %v %s", v.Record.Reasons, v.Record.Fault)
		}
		row, _, err := detector.FromRecord(v.Record)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return detector.Train(rows, detector.Options{Seed: 1, FalsePositivesPerMillion: 1})
}
