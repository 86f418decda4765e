package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"sallyport.dev/sallyport/pkg/atomicfile"
)

// The files that WriteTrust writes.
const (
	rootFile   = "ca.crt"
	bundleFile = "bundle.crt"
)

// systemRootFiles are where images keep their roots, in the order in which they are looked for; the first that is there is used.
var systemRootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// WriteTrust writes what an agent trusts to dir: ca.crt with the given roots alone, for settings that add to a runtime's own,
// and bundle.crt with the image's system roots and the given ones, for settings that replace them; and trust.p12 with the same,
// for Java. Each file is replaced atomically and readable by all. An image without system roots gets a bundle of the given ones alone.
func WriteTrust(dir string, rootPEM []byte) error {
	return writeTrust(dir, rootPEM, systemRootFiles)
}

func writeTrust(dir string, rootPEM []byte, systemFiles []string) error {
	roots, err := parseCertificates(rootPEM)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	var ours bytes.Buffer
	for _, r := range roots {
		if !r.IsCA {
			return fmt.Errorf("write trust: %q is no certificate authority", r.Subject)
		}
		if err := pem.Encode(&ours, &pem.Block{Type: "CERTIFICATE", Bytes: r.Raw}); err != nil {
			return fmt.Errorf("write trust: %w", err)
		}
	}
	var bundle []byte
	for _, f := range systemFiles {
		b, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write trust: system roots: %w", err)
		}
		bundle = append(bytes.TrimRight(b, "\n"), '\n')
		break
	}
	bundle = append(bundle, ours.Bytes()...)
	store, err := TrustStore(bundle)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{rootFile, ours.Bytes()}, {bundleFile, bundle}, {TrustStoreFile, store}} {
		if err := atomicfile.Write(filepath.Join(dir, f.name), 0o644, f.content); err != nil {
			return fmt.Errorf("write trust: %w", err)
		}
	}
	return nil
}

// keyID is a subject key id by method 1 of RFC 7093: the leftmost 160 bits of the SHA-256 of the public key.
func keyID(pub *ecdsa.PublicKey) ([]byte, error) {
	raw, err := pub.Bytes()
	if err != nil {
		return nil, fmt.Errorf("subject key id: %w", err)
	}
	sum := sha256.Sum256(raw)
	return sum[:20], nil
}

// Pool returns the certificates of a PEM as a pool of roots.
func Pool(rootPEM []byte) (*x509.CertPool, error) {
	roots, err := parseCertificates(rootPEM)
	if err != nil {
		return nil, fmt.Errorf("pool of roots: %w", err)
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	return pool, nil
}
