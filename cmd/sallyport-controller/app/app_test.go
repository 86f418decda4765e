package app

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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/controlplane"
	"sallyport.dev/sallyport/pkg/controlplane/apiservertest"
	"sallyport.dev/sallyport/webhook"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(apiservertest.Main(m))
}

const patience = 60 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
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

// files writes what cert-manager would mount and returns the roots.
func files(t *testing.T, o *Options) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	o.ServingCertDir, o.BundleKeyFile = t.TempDir(), filepath.Join(t.TempDir(), "tls.key")
	for path, content := range map[string][]byte{
		filepath.Join(o.ServingCertDir, certFile): certPEM,
		filepath.Join(o.ServingCertDir, keyFile):  keyPEM,
		filepath.Join(o.ServingCertDir, caFile):   certPEM,
		o.BundleKeyFile:                           keyPEM,
	} {
		must(t, os.WriteFile(path, content, 0o600))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return roots
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// apply creates the objects of a manifest.
func apply(t *testing.T, c client.Client, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		if object.Object != nil {
			must(t, c.Create(context.Background(), object))
		}
	}
}

// TestTheControllerRunsWithItsOwnRights runs the whole program as the service account of deploy/base, with its roles and nothing more.
func TestTheControllerRunsWithItsOwnRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	admin, err := client.New(apiservertest.Config(t), client.Options{Scheme: controlplane.Scheme()})
	must(t, err)
	o := NewOptions()
	must(t, admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Namespace}}))
	apply(t, admin, filepath.FromSlash("../../../deploy/base/rbac.yaml"))
	must(t, admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents", Labels: map[string]string{v1alpha1.InjectLabel: v1alpha1.InjectEnabled}}}))
	must(t, admin.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: "agent"}}))

	roots := files(t, o)
	o.ProxyImage = "registry.test/sallyport-proxy:1"
	o.WebhookPort, o.DiscoveryPort, o.BundlePort = freePort(t), freePort(t), freePort(t)
	o.MetricsAddress = "127.0.0.1:" + strconv.Itoa(freePort(t))
	o.HealthAddress = "127.0.0.1:" + strconv.Itoa(freePort(t))
	must(t, o.Complete())
	must(t, o.Validate())
	config := apiservertest.Config(t)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + o.Namespace + ":sallyport-controller",
		Groups:   []string{"system:serviceaccounts", "system:authenticated"},
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- Run(run, o, config) }()
	stopped := false
	defer func() {
		stop()
		if !stopped {
			<-done
		}
	}()

	httpClient := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer httpClient.CloseIdleConnections()
	fetch := func(method, url, token string, body []byte) (int, []byte) {
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := httpClient.Do(req)
		if err != nil {
			return 0, nil
		}
		defer func() { _ = resp.Body.Close() }()
		content, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, content
	}
	until(t, "it is ready", func() bool {
		select {
		case err := <-done:
			stopped = true
			t.Fatalf("it has stopped: %v", err)
		default:
		}
		code, _ := fetch(http.MethodGet, "http://"+o.HealthAddress+"/readyz", "", nil)
		return code == http.StatusOK
	})

	// It injects.
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: "agent"},
		Spec:       corev1.PodSpec{ServiceAccountName: "agent", Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
	}
	raw, err := json.Marshal(pod)
	must(t, err)
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{UID: "1", Namespace: "agents", Operation: admissionv1.Create, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object: runtime.RawExtension{Raw: raw}},
	})
	must(t, err)
	code, answer := fetch(http.MethodPost, fmt.Sprintf("https://127.0.0.1:%d%s", o.WebhookPort, webhook.MutatePath), "", review)
	var reviewed admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &reviewed); err != nil || code != http.StatusOK || !reviewed.Response.Allowed || !strings.Contains(string(reviewed.Response.Patch), o.ProxyImage) {
		t.Errorf("webhook answered %d, %s", code, answer)
	}

	// It serves sidecars, once it leads.
	must(t, admin.Create(ctx, pod))
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{v1alpha1.TokenAudience}, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	must(t, admin.SubResource("token").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: "agent"}}, request))
	until(t, "a bundle is served", func() bool {
		code, _ := fetch(http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/v1/bundle", o.BundlePort), request.Status.Token, nil)
		return code == http.StatusOK
	})
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}}
	must(t, admin.Create(ctx, profile))
	until(t, "a status is written", func() bool {
		must(t, admin.Get(ctx, client.ObjectKeyFromObject(profile), profile))
		return profile.Status.ObservedGeneration == profile.Generation
	})
	if _, metrics := fetch(http.MethodGet, "http://"+o.MetricsAddress+"/metrics", "", nil); !bytes.Contains(metrics, []byte("sallyport_controller_sidecars 0")) {
		t.Error("no metrics of the control plane")
	}

	// It stops in order and leaves the lease to the next.
	stop()
	stopped = true
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: leaseName}}
	must(t, admin.Get(ctx, client.ObjectKeyFromObject(lease), lease))
	if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
		t.Errorf("the lease is held by %s", *lease.Spec.HolderIdentity)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		change func(*Options)
		want   string
	}{
		{name: "the defaults and an image", args: []string{"--proxy-image=i:1"}},
		{name: "no image", want: "proxy image is empty"},
		{name: "a port that is none", args: []string{"--proxy-image=i:1", "--webhook-port=0"}, want: "--webhook-port=0 is no port"},
		{name: "plain HTTP", args: []string{"--proxy-image=i:1", "--bundle-url=http://x:1"}, want: "bundle URL"},
		{name: "no namespace", args: []string{"--proxy-image=i:1", "--namespace="}, want: "--namespace is empty"},
		{name: "no key", args: []string{"--proxy-image=i:1"}, change: func(o *Options) { o.BundleKeyFile = "/nonexistent/key" }, want: "no such file"},
		{name: "a certificate for a key", args: []string{"--proxy-image=i:1"}, change: func(o *Options) { o.BundleKeyFile = filepath.Join(o.ServingCertDir, certFile) }, want: "bundle signing key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SALLYPORT_PROXY_IMAGE", "")
			o := NewOptions()
			files(t, o)
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			o.AddFlags(flags)
			must(t, flags.Parse(tt.args))
			if tt.change != nil {
				tt.change(o)
			}
			err := o.Complete()
			if err == nil {
				err = o.Validate()
			}
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
