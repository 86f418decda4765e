package webhook

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// Config is what every injected pod has in common. The zero value is not usable: see [Config.Validate].
type Config struct {
	// ProxyImage is the image of both containers. An EgressProfile may name another.
	ProxyImage string
	// ImagePullPolicy of both containers. Empty means what Kubernetes makes of the image's name: Always for the tag latest or
	// none, else IfNotPresent.
	ImagePullPolicy corev1.PullPolicy
	// DiscoveryAddress is host:port of the controller's gRPC service.
	DiscoveryAddress string
	// BundleURL is the base URL of the controller's bundle service, https://host:port.
	BundleURL string
	// TrustAnchors is PEM with the root certificates that the controller and all intermediates chain to.
	TrustAnchors string
	// BundleKeys is PEM with the PKIX public keys that may sign policy bundles.
	BundleKeys string
	// Resources are the defaults of the proxy container. An EgressProfile and then the pod's annotations
	// override single quantities. Empty means [DefaultResources].
	Resources corev1.ResourceRequirements
	// Version of the injector; it is written into the status annotation. Empty means "unknown".
	Version string
}

// DefaultResources are what the proxy asks for where nobody says otherwise. There is no CPU limit: a
// throttled gate delays every call of its agent.
func DefaultResources() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("50m"),
			corev1.ResourceMemory: resource.MustParse("128Mi"),
		},
		Limits: corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse("512Mi"),
		},
	}
}

// Validate says what is missing from or wrong with the configuration. A sidecar that is started with a
// configuration that fails here would refuse every call, so that the controller should not start either.
func (c *Config) Validate() error {
	var errs []error
	if c.ProxyImage == "" {
		errs = append(errs, errors.New("proxy image is empty"))
	}
	if _, _, err := net.SplitHostPort(c.DiscoveryAddress); err != nil {
		errs = append(errs, fmt.Errorf("discovery address: %w", err))
	}
	if u, err := url.Parse(c.BundleURL); err != nil {
		errs = append(errs, fmt.Errorf("bundle URL: %w", err))
	} else if u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("bundle URL %q is not https://host:port", c.BundleURL))
	}
	if err := checkPEM(c.TrustAnchors, "CERTIFICATE", func(der []byte) error { _, err := x509.ParseCertificate(der); return err }); err != nil {
		errs = append(errs, fmt.Errorf("trust anchors: %w", err))
	}
	if err := checkPEM(c.BundleKeys, "PUBLIC KEY", func(der []byte) error { _, err := x509.ParsePKIXPublicKey(der); return err }); err != nil {
		errs = append(errs, fmt.Errorf("bundle keys: %w", err))
	}
	return errors.Join(errs...)
}

// checkPEM requires one or more blocks of one type, each of which parses, and nothing else: a private key
// that slipped into the text would be written into every pod.
func checkPEM(text, blockType string, parse func([]byte) error) error {
	rest := []byte(text)
	n := 0
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != blockType {
			return fmt.Errorf("PEM block %q where only %q belongs", block.Type, blockType)
		}
		if err := parse(block.Bytes); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("no PEM block of type %q", blockType)
	}
	if strings.TrimSpace(string(rest)) != "" {
		return errors.New("text after the last PEM block")
	}
	return nil
}

func (c *Config) image(profile *v1alpha1.EgressProfile) string {
	if profile != nil && profile.Spec.Proxy.Image != "" {
		return profile.Spec.Proxy.Image
	}
	return c.ProxyImage
}

func (c *Config) pullPolicy(image string) corev1.PullPolicy {
	switch {
	case c.ImagePullPolicy != "":
		return c.ImagePullPolicy
	case strings.Contains(image, "@"):
		return corev1.PullIfNotPresent
	}
	name := image[strings.LastIndex(image, "/")+1:] // a colon before is that of the registry's port
	if _, tag, tagged := strings.Cut(name, ":"); !tagged || tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func (c *Config) version() string {
	if c.Version == "" {
		return "unknown"
	}
	return c.Version
}
