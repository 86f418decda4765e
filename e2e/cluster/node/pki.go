package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// lifetime is how long the cluster's certificates are good for: longer than anybody
// keeps a test cluster.
const lifetime = 5 * 365 * 24 * time.Hour

// A certificate of the cluster, signed by the authority of the name in CA.
type certificate struct {
	File, CA   string
	CommonName string
	Groups     []string
	Hosts      []string // addresses and names; a certificate with hosts is a server's too
}

// certificates are all certificates the cluster's programs use.
var certificates = []certificate{
	{File: "etcd", CA: "ca", CommonName: "etcd", Hosts: []string{"127.0.0.1", "localhost"}},
	{File: "apiserver", CA: "ca", CommonName: "kube-apiserver", Hosts: []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain, "localhost",
		"127.0.0.1", bridgeIPv4, apiServiceIPv4,
	}},
	{File: "local", CA: "ca", CommonName: nodeName, Hosts: []string{"127.0.0.1", "localhost"}},
	{File: "kubelet-server", CA: "ca", CommonName: "system:node:" + nodeName, Hosts: []string{nodeName, bridgeIPv4, bridgeIPv6}},
	{File: "apiserver-kubelet-client", CA: "ca", CommonName: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}},
	{File: "apiserver-etcd-client", CA: "ca", CommonName: "kube-apiserver-etcd-client"},
	{File: "front-proxy-client", CA: "front-proxy-ca", CommonName: "front-proxy-client"},
	{File: "admin", CA: "ca", CommonName: "kubernetes-admin", Groups: []string{"system:masters"}},
	{File: "controller-manager", CA: "ca", CommonName: "system:kube-controller-manager"},
	{File: "scheduler", CA: "ca", CommonName: "system:kube-scheduler"},
	{File: "kubelet", CA: "ca", CommonName: "system:node:" + nodeName, Groups: []string{"system:nodes"}},
	{File: "kube-proxy", CA: "ca", CommonName: "system:kube-proxy"},
}

// writePKI makes the cluster's authorities, certificates and the key that signs
// ServiceAccount tokens, unless they are there. The last file written marks them whole.
func (n Node) writePKI() error {
	done := n.pki("complete")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(n.pki(""), 0o700); err != nil {
		return err
	}
	authorities := map[string]*signer{}
	for _, name := range []string{"ca", "front-proxy-ca"} {
		s, err := newAuthority("sallyport-cluster-" + name)
		if err != nil {
			return fmt.Errorf("make authority %s: %w", name, err)
		}
		if err := n.writePair(name, s.cert.Raw, s.key); err != nil {
			return err
		}
		authorities[name] = s
	}
	for _, c := range certificates {
		der, key, err := authorities[c.CA].issue(c)
		if err != nil {
			return fmt.Errorf("make certificate %s: %w", c.File, err)
		}
		if err := n.writePair(c.File, der, key); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the token key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("make the token key: %w", err)
	}
	if err := writeKey(n.pki("sa.key"), key); err != nil {
		return err
	}
	if err := writePEM(n.pki("sa.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

func (n Node) writePair(name string, der []byte, key crypto.Signer) error {
	if err := writePEM(n.pki(name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(n.pki(name+".key"), key)
}

func writeKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	return writePEM(file, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// A signer is an authority's certificate and key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(name string) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(name)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &signer{cert, key}, err
}

func (s *signer) issue(c certificate) ([]byte, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(c.CommonName)
	if err != nil {
		return nil, nil, err
	}
	template.Subject.Organization = c.Groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, host := range c.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(c.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, key.Public(), s.key)
	return der, key, err
}

func newTemplate(commonName string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-time.Hour), // clocks of test machines jump
		NotAfter:     now.Add(lifetime),
	}, nil
}
