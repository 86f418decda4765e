package controlplane

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/controlplane/apiservertest"
)

// certManager runs cert-manager itself until the test ends.
func (l *lab) certManager() {
	l.t.Helper()
	program, err := apiservertest.Program("certmanager")
	must(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "controller")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+apiservertest.Kubeconfig(l.t))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	must(l.t, cmd.Start())
	l.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if l.t.Failed() {
			lines := strings.Split(output.String(), "\n")
			l.t.Logf("cert-manager:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
}

func TestCertManagerSignsWhatASidecarMayHave(t *testing.T) {
	l := newLab(t)
	l.certManager()
	issuer := cmmeta.IssuerReference{Kind: "Issuer", Group: "cert-manager.io"}
	l.create(&cmapi.Issuer{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "selfsigned"}, Spec: cmapi.IssuerSpec{IssuerConfig: cmapi.IssuerConfig{SelfSigned: &cmapi.SelfSignedIssuer{}}}})
	issuer.Name = "selfsigned"
	l.create(&cmapi.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "root"}, Spec: cmapi.CertificateSpec{
		IsCA: true, CommonName: "root", SecretName: "root", IssuerRef: issuer, PrivateKey: &cmapi.CertificatePrivateKey{Algorithm: cmapi.ECDSAKeyAlgorithm, Size: 256},
	}})
	l.create(&cmapi.Issuer{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "root"}, Spec: cmapi.IssuerSpec{IssuerConfig: cmapi.IssuerConfig{CA: &cmapi.CAIssuer{SecretName: "root"}}}})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "root"}}
	l.until("there is a root", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(secret), secret) == nil && len(secret.Data["tls.crt"]) > 0
	})

	namespace := l.agents(nil)
	l.create(modelProvider("model", []string{"api.model.test"}, nil, ""))
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	key, err := certs.GenerateKey()
	must(t, err)
	request := func(name string, hosts ...string) []byte {
		t.Helper()
		csr, err := certs.IntermediateRequest(key, name, hosts)
		must(t, err)
		return csr
	}
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	own := "sallyport sidecar " + namespace + "/agent"
	chain, err := s.SignIntermediate(ctx, request(own, "api.model.test"))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(chain)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		t.Fatalf("chain:\n%s", chain)
	}
	intermediate, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["tls.crt"])
	if _, err := intermediate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("does not chain to the root: %v", err)
	}
	if !intermediate.IsCA || intermediate.Subject.CommonName != own || !intermediate.PermittedDNSDomainsCritical || len(intermediate.PermittedDNSDomains) != 1 || intermediate.PermittedDNSDomains[0] != "api.model.test" {
		t.Errorf("signed %q for %v, CA %v", intermediate.Subject.CommonName, intermediate.PermittedDNSDomains, intermediate.IsCA)
	}
	if life := time.Until(intermediate.NotAfter); life > intermediateLife+time.Minute {
		t.Errorf("lives %v", life)
	}
	for name, csr := range map[string][]byte{
		"another pod's name":           request("sallyport sidecar "+namespace+"/other", "api.model.test"),
		"a host that is no provider's": request(own, "api.model.test", "bank.test"),
		"garbage":                      []byte("garbage"),
	} {
		if _, err := s.SignIntermediate(ctx, csr); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.until("no request is left", func() bool {
		var requests cmapi.CertificateRequestList
		must(t, l.client.List(l.ctx, &requests, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: intermediateOf}))
		return len(requests.Items) == 0
	})
}

func TestOnePodCannotKeepTheIssuerBusy(t *testing.T) {
	at := time.Now()
	limit, err := newLimiter(8, 2, time.Minute, func() time.Time { return at })
	must(t, err)
	for i, want := range []bool{true, true, false, false} {
		if got := limit.allow("pod"); got != want {
			t.Errorf("request %d: %v", i, got)
		}
	}
	if !limit.allow("another") {
		t.Error("another pod is held up")
	}
	at = at.Add(time.Minute)
	if !limit.allow("pod") {
		t.Error("not allowed after a minute")
	}
}
