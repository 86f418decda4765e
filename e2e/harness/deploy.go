package harness

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"sallyport.dev/sallyport/e2e/standin"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Credentials that the stand-in providers ask for. They live in Secrets of the controller's namespace alone.
const (
	openAIKey    = "sk-standin-openai-0001"
	anthropicKey = "sk-ant-standin-0001"
)

// ProviderHosts are the names that cluster DNS points at the stand-in.
var ProviderHosts = []string{"api.openai.com", "api.anthropic.com"}

// Providers starts the stand-in providers, points the real host names at them and makes the ModelProviders.
func (e *Env) Providers(ctx context.Context) error {
	ca, cert, key, err := e.providerCertificate(ctx)
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: providers, namespace: %[1]s}
stringData: {openai: %[2]s, anthropic: %[3]s}
data: {tls.crt: %[4]s, tls.key: %[5]s, ca.crt: %[6]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: providers, namespace: %[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: providers}}
  template:
    metadata: {labels: {app: providers}}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
      - name: providers
        image: %[7]s/standind:latest
        args: [-first-byte=40ms, -gap=15ms]
        env:
        - {name: OPENAI_API_KEY, valueFrom: {secretKeyRef: {name: providers, key: openai}}}
        - {name: ANTHROPIC_API_KEY, valueFrom: {secretKeyRef: {name: providers, key: anthropic}}}
        readinessProbe: {httpGet: {path: /received, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: tls, mountPath: /etc/standin, readOnly: true}]
      volumes: [{name: tls, secret: {secretName: providers}}]
---
apiVersion: v1
kind: Service
metadata: {name: %[8]s, namespace: %[1]s}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: providers}
  ports:
  - {name: https, port: 443}
  - {name: https-other, port: 8443}
  - {name: http, port: 80}
  - {name: quic, port: 443, protocol: UDP}
  - {name: admin, port: 8080}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns-custom, namespace: kube-system}
data:
  standin.override: |
%[9]s
`, ProviderNamespace, openAIKey, anthropicKey, b64(cert), b64(key), b64(ca), e.Registry, ProvidersService, e.rewrites())
	existed := e.exists(ctx, ProviderNamespace, "deployment/providers")
	if err := e.Apply(ctx, manifest); err != nil {
		return err
	}
	if err := e.roll(ctx, ProviderNamespace, "deployment/providers", existed); err != nil {
		return err
	}
	return e.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: model-credentials, namespace: %[1]s}
stringData: {openai: %[2]s, anthropic: %[3]s}
---
apiVersion: sallyport.dev/v1alpha1
kind: ModelProvider
metadata: {name: openai}
spec:
  api: openai
  hosts: [api.openai.com]
  credential: {secretRef: {name: model-credentials, key: openai}}
  caBundle: |
%[4]s
---
apiVersion: sallyport.dev/v1alpha1
kind: ModelProvider
metadata: {name: anthropic}
spec:
  api: anthropic
  hosts: [api.anthropic.com]
  credential: {secretRef: {name: model-credentials, key: anthropic}}
  caBundle: |
%[4]s
`, SystemNamespace, openAIKey, anthropicKey, indent(string(ca), "    ")))
}

func (e *Env) rewrites() string {
	var b strings.Builder
	for _, h := range append([]string{OtherHost}, ProviderHosts...) {
		fmt.Fprintf(&b, "    rewrite name exact %s %s.%s.svc.cluster.local answer auto\n", h, ProvidersService, ProviderNamespace)
	}
	return b.String()
}

// providerCertificate returns the stand-in's CA, certificate and key, PEM: those in the cluster where there are any, so that agents that
// trust the CA go on trusting it.
func (e *Env) providerCertificate(ctx context.Context) (ca, cert, key []byte, err error) {
	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	if e.Get(ctx, &secret, "-n", ProviderNamespace, "secret", "providers") == nil && len(secret.Data["ca.crt"]) > 0 {
		return secret.Data["ca.crt"], secret.Data["tls.crt"], secret.Data["tls.key"], nil
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	now := time.Now()
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Stand-in for the public web's CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, caKey.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	caCert, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, nil, nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: ProviderHosts[0]},
		DNSNames:  append([]string{OtherHost}, ProviderHosts...),
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, caCert, leafKey.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		return nil, nil, nil, err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", caDER), block("CERTIFICATE", leafDER), block("EC PRIVATE KEY", keyDER), nil
}

// Agent deploys the agent in a namespace. The manifest is the same whether or not the namespace is labelled: no proxy setting, no base
// URL, no key. The CA that stands for the public web's is where a distribution keeps such CAs.
func (e *Env) Agent(ctx context.Context, ns string, labelled bool, replicas int, pause time.Duration) error {
	ca, _, _, err := e.providerCertificate(ctx)
	if err != nil {
		return err
	}
	existed := e.exists(ctx, ns, "deployment/agent")
	label := ""
	if labelled {
		label = "sallyport.dev/inject: enabled"
	}
	if err := e.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s, labels: {%[2]s}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: public-web-ca, namespace: %[1]s}
data:
  public-web.pem: |
%[3]s
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, namespace: %[1]s}
spec:
  replicas: %[4]d
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: agent
        image: %[5]s/agent:latest
        args: [work, -pause=%[6]s]
        securityContext: {runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: public-web-ca, mountPath: /etc/ssl/certs, readOnly: true}]
      volumes: [{name: public-web-ca, configMap: {name: public-web-ca}}]
`, ns, label, indent(string(ca), "    "), replicas, e.Registry, pause)); err != nil {
		return err
	}
	return e.roll(ctx, ns, "deployment/agent", existed)
}

// Scenario is what came of a scenario of the agent; see e2e/agent.
type Scenario struct {
	Scenario   string `json:"scenario"`
	OK         bool   `json:"ok"`
	Text       string `json:"text"`
	Error      string `json:"error"`
	Status     int    `json:"status"`
	DecisionID string `json:"decision_id"`
	Issuer     string `json:"issuer"`
	SHA256     string `json:"sha256"`
	Stream     []struct {
		Sent    int64 `json:"sent"`
		Arrived int64 `json:"arrived"`
	} `json:"stream"`
	Millis int64 `json:"ms"`
}

// Run runs a scenario in the agent's container.
func (e *Env) Run(ctx context.Context, ns string, scenario ...string) (Scenario, error) {
	return e.RunIn(ctx, ns, "deployment/agent", scenario...)
}

// RunIn runs a scenario in the agent container of a pod or of a workload's pod.
func (e *Env) RunIn(ctx context.Context, ns, what string, scenario ...string) (Scenario, error) {
	var s Scenario
	r := e.Kubectl(ctx, nil, append([]string{"-n", ns, "exec", what, "-c", "agent", "--", "/agent", "run"}, scenario...)...)
	if r.Err != nil {
		return s, r.Err
	}
	if err := json.Unmarshal([]byte(lastLine(r.Out)), &s); err != nil {
		return s, fmt.Errorf("scenario %s printed %q: %w", scenario[0], r.Out, err)
	}
	return s, nil
}

// Received asks the stand-in what reached it.
func (e *Env) Received(ctx context.Context) ([]standin.Received, error) {
	var out []standin.Received
	return out, e.admin(ctx, "received", &out)
}

// Datagrams asks the stand-in how many UDP datagrams reached it.
func (e *Env) Datagrams(ctx context.Context) (int64, error) {
	var out struct {
		Datagrams int64 `json:"datagrams"`
	}
	return out.Datagrams, e.admin(ctx, "datagrams", &out)
}

func (e *Env) admin(ctx context.Context, path string, v any) error {
	r := e.Kubectl(ctx, nil, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/services/%s:admin/proxy/%s", ProviderNamespace, ProvidersService, path))
	if r.Err != nil {
		return r.Err
	}
	if err := json.Unmarshal([]byte(r.Out), v); err != nil {
		return fmt.Errorf("stand-in's %s: %w", path, err)
	}
	return nil
}

// Decisions reads the decision records that the sidecars of a workload have logged.
func (e *Env) Decisions(ctx context.Context, ns, selector string) ([]telemetry.Record, error) {
	r := e.Kubectl(ctx, nil, "-n", ns, "logs", "-l", selector, "-c", "sallyport-proxy", "--tail=-1", "--prefix=false", "--max-log-requests=20")
	if r.Err != nil {
		return nil, r.Err
	}
	return parseDecisions(r.Out)
}

func parseDecisions(logs string) ([]telemetry.Record, error) {
	var out []telemetry.Record
	for line := range strings.Lines(logs) {
		if !strings.Contains(line, telemetry.DecisionMessage) {
			continue
		}
		var l struct {
			Record telemetry.Record `json:"record"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return nil, fmt.Errorf("decision line %q: %w", line, err)
		}
		out = append(out, l.Record)
	}
	return out, nil
}

// ErrNoDecision says that no sidecar has logged a decision that was asked for.
var ErrNoDecision = errors.New("no such decision in the sidecars' logs")

// Decision finds the newest decision that matches.
func (e *Env) Decision(ctx context.Context, ns, selector string, match func(*telemetry.Record) bool) (*telemetry.Record, error) {
	all, err := e.Decisions(ctx, ns, selector)
	if err != nil {
		return nil, err
	}
	var newest *telemetry.Record
	for i := range all {
		if match(&all[i]) && (newest == nil || all[i].Time.After(newest.Time)) {
			newest = &all[i]
		}
	}
	if newest == nil {
		return nil, ErrNoDecision
	}
	return newest, nil
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func indent(s, by string) string {
	return string(bytes.TrimRight([]byte(by+strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+by)), " "))
}
