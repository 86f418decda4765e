package app

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/webhook"
)

// Names of the files in the serving certificate's directory.
const (
	certFile = "tls.crt"
	keyFile  = "tls.key"
	caFile   = "ca.crt"
)

// Options are what the command line says.
type Options struct {
	ProxyImage       string
	Namespace        string
	ServingCertDir   string
	BundleKeyFile    string
	Issuer           string
	DiscoveryAddress string
	BundleURL        string
	WebhookPort      int
	DiscoveryPort    int
	BundlePort       int
	MetricsAddress   string
	HealthAddress    string
	LeaderElect      bool
	ShutdownTimeout  time.Duration
	Verbosity        int

	bundleKey *ecdsa.PrivateKey
	webhook   webhook.Config
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		ProxyImage:       os.Getenv("SALLYPORT_PROXY_IMAGE"),
		Namespace:        "sallyport-system",
		ServingCertDir:   "/etc/sallyport/serving",
		BundleKeyFile:    "/etc/sallyport/bundle-signing/tls.key",
		Issuer:           "sallyport-root",
		DiscoveryAddress: fmt.Sprintf("sallyport-controller.sallyport-system.svc:%d", v1alpha1.DiscoveryPort),
		BundleURL:        fmt.Sprintf("https://sallyport-controller.sallyport-system.svc:%d", v1alpha1.BundlePort),
		WebhookPort:      9443,
		DiscoveryPort:    int(v1alpha1.DiscoveryPort),
		BundlePort:       int(v1alpha1.BundlePort),
		MetricsAddress:   ":8080",
		HealthAddress:    ":8081",
		LeaderElect:      true,
		ShutdownTimeout:  25 * time.Second,
	}
}

// AddFlags puts the options on the command line.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.ProxyImage, "proxy-image", o.ProxyImage, "image of the sidecar; an EgressProfile may name another")
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "the controller's own namespace")
	f.StringVar(&o.ServingCertDir, "serving-cert-dir", o.ServingCertDir, "directory with tls.crt and tls.key, which are read again when they change, and ca.crt, the roots that sidecars trust")
	f.StringVar(&o.BundleKeyFile, "bundle-key-file", o.BundleKeyFile, "PEM with the ECDSA P-256 private key that signs policy bundles")
	f.StringVar(&o.Issuer, "issuer", o.Issuer, "cert-manager Issuer in --namespace that signs the sidecars' intermediates")
	f.StringVar(&o.DiscoveryAddress, "discovery-address", o.DiscoveryAddress, "host:port of the discovery service as sidecars dial it")
	f.StringVar(&o.BundleURL, "bundle-url", o.BundleURL, "URL of the bundle service as sidecars reach it")
	f.IntVar(&o.WebhookPort, "webhook-port", o.WebhookPort, "port of the admission webhook")
	f.IntVar(&o.DiscoveryPort, "discovery-port", o.DiscoveryPort, "port of the discovery service; the leader alone listens on it")
	f.IntVar(&o.BundlePort, "bundle-port", o.BundlePort, "port of the bundle service; the leader alone listens on it")
	f.StringVar(&o.MetricsAddress, "metrics-address", o.MetricsAddress, "address of /metrics; 0 for none")
	f.StringVar(&o.HealthAddress, "health-address", o.HealthAddress, "address of /healthz and /readyz; 0 for none")
	f.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "elect a leader among replicas by the lease sallyport-controller in --namespace")
	f.DurationVar(&o.ShutdownTimeout, "shutdown-timeout", o.ShutdownTimeout, "how long a stop may take, in which what was learned is kept")
	f.IntVarP(&o.Verbosity, "verbosity", "v", o.Verbosity, "0 for what operators want to know, 1 for what developers do")
}

// Complete reads the files that the options name.
func (o *Options) Complete() error {
	key, err := readKey(o.BundleKeyFile)
	if err != nil {
		return err
	}
	o.bundleKey = key
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("bundle signing key: %w", err)
	}
	anchors, err := os.ReadFile(filepath.Join(o.ServingCertDir, caFile))
	if err != nil {
		return fmt.Errorf("read trust anchors: %w", err)
	}
	o.webhook = webhook.Config{
		ProxyImage:       o.ProxyImage,
		DiscoveryAddress: o.DiscoveryAddress,
		BundleURL:        o.BundleURL,
		TrustAnchors:     string(anchors),
		BundleKeys:       string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		Version:          version(),
	}
	return nil
}

// Validate says what is wrong with the options.
func (o *Options) Validate() error {
	var errs []error
	for _, required := range []struct{ flag, value string }{
		{"namespace", o.Namespace}, {"serving-cert-dir", o.ServingCertDir}, {"issuer", o.Issuer},
	} {
		if required.value == "" {
			errs = append(errs, fmt.Errorf("--%s is empty", required.flag))
		}
	}
	for _, port := range []struct {
		flag  string
		value int
	}{
		{"webhook-port", o.WebhookPort}, {"discovery-port", o.DiscoveryPort}, {"bundle-port", o.BundlePort},
	} {
		if port.value < 1 || port.value > 65_535 {
			errs = append(errs, fmt.Errorf("--%s=%d is no port", port.flag, port.value))
		}
	}
	errs = append(errs, o.webhook.Validate())
	return errors.Join(errs...)
}

// readKey reads an ECDSA private key, PKCS #8 or SEC 1. Its curve is checked where it is used.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle signing key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read bundle signing key: %s is no PEM", path)
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read bundle signing key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("read bundle signing key: not an ECDSA key")
	}
	return key, nil
}
