package certs

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	// TrustStoreFile is the name of the PKCS#12 trust store beside ca.crt and bundle.crt. It has the content
	// of bundle.crt, for Java.
	TrustStoreFile = "trust.p12"
	// TrustStorePassword is the password of the trust store. It guards nothing: the content is public, but
	// Java wants one.
	TrustStorePassword = "changeit"
)

// TrustStore encodes the certificates of a PEM bundle as a PKCS#12 trust store with the password
// [TrustStorePassword]. Java reads it from 8u301, 11.0.12 and 16 on. What is no certificate that parses is left
// out, because a system's own bundle may hold oddities; it is an error if nothing is left.
func TrustStore(bundlePEM []byte) ([]byte, error) {
	var roots []*x509.Certificate
	for rest := bundlePEM; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			roots = append(roots, cert)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("trust store: no certificate")
	}
	// Java tells entries apart by their friendly name, and drops all but one of those that share it: two
	// roots may have one subject, so the names are numbered.
	entries := make([]pkcs12.TrustStoreEntry, len(roots))
	for i, cert := range roots {
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: fmt.Sprintf("%03d %s", i, cert.Subject)}
	}
	store, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, TrustStorePassword)
	if err != nil {
		return nil, fmt.Errorf("trust store: %w", err)
	}
	return store, nil
}
