package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Authority is an intermediate with its key, from which leaves are minted.
type Authority struct {
	// Chain begins with the intermediate and goes on with what it chains to, without the root.
	Chain []*x509.Certificate
	// Key is the intermediate's.
	Key crypto.Signer
}

// ParseAuthority reads an authority from PEM: the chain with the intermediate first, and its key in PKCS #8 or SEC 1. It
// checks that the key is the intermediate's and that the intermediate may sign certificates.
func ParseAuthority(chainPEM, keyPEM []byte) (*Authority, error) {
	chain, err := parseCertificates(chainPEM)
	if err != nil {
		return nil, fmt.Errorf("parse authority: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("parse authority: %w", err)
	}
	return NewAuthority(chain, key)
}

// NewAuthority checks that the key is the first certificate's and that this may sign certificates. A root at the chain's end is
// left off: whoever verifies has it already.
func NewAuthority(chain []*x509.Certificate, key crypto.Signer) (*Authority, error) {
	if len(chain) == 0 {
		return nil, errors.New("authority: no certificate")
	}
	ca := chain[0]
	if !ca.BasicConstraintsValid || !ca.IsCA || ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("authority %q: may not sign certificates", ca.Subject)
	}
	if len(ca.SubjectKeyId) == 0 {
		return nil, fmt.Errorf("authority %q: no subject key id, without which strict clients refuse its leaves", ca.Subject)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(ca.PublicKey) {
		return nil, fmt.Errorf("authority %q: the key is another's", ca.Subject)
	}
	for len(chain) > 1 {
		last := chain[len(chain)-1]
		if !bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		chain = chain[:len(chain)-1]
	}
	return &Authority{Chain: slices.Clone(chain), Key: key}, nil
}

// MarshalPEM returns the chain and the key as ParseAuthority reads them.
func (a *Authority) MarshalPEM() (chainPEM, keyPEM []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("marshal authority's key: %w", err)
	}
	for _, c := range a.Chain {
		chainPEM = append(chainPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return chainPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Permits says whether the intermediate's name constraints let it speak for a host.
func (a *Authority) Permits(host string) bool {
	permitted := a.Chain[0].PermittedDNSDomains
	if len(permitted) == 0 {
		return true
	}
	return slices.ContainsFunc(permitted, func(d string) bool {
		d = strings.TrimPrefix(d, ".")
		return host == d || strings.HasSuffix(host, "."+d)
	})
}

// RenewAt is when the intermediate should be replaced: after two thirds of its life.
func (a *Authority) RenewAt() time.Time {
	ca := a.Chain[0]
	return ca.NotBefore.Add(ca.NotAfter.Sub(ca.NotBefore) * 2 / 3)
}

// VerifyRoot checks that the intermediate chains to one of the roots at the given time.
func (a *Authority) VerifyRoot(roots *x509.CertPool, now time.Time) error {
	inter := x509.NewCertPool()
	for _, c := range a.Chain[1:] {
		inter.AddCert(c)
	}
	_, err := a.Chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("authority %q: %w", a.Chain[0].Subject, err)
	}
	return nil
}

func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q among certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in the PEM")
	}
	return out, nil
}

func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no key in the PEM")
	}
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("key of type %T, want ECDSA", key)
		}
		return ec, nil
	default:
		return nil, fmt.Errorf("PEM block %q is no key", block.Type)
	}
}

// ParseChain reads certificates from PEM.
func ParseChain(chainPEM []byte) ([]*x509.Certificate, error) {
	chain, err := parseCertificates(chainPEM)
	if err != nil {
		return nil, fmt.Errorf("parse chain: %w", err)
	}
	return chain, nil
}
