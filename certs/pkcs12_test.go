package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

func trustStoreRoot(t *testing.T, serial int64, subject string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: subject},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_000_000_000, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTrustStore(t *testing.T) {
	one, two, same := trustStoreRoot(t, 1, "one"), trustStoreRoot(t, 2, "two"), trustStoreRoot(t, 3, "one")
	odd := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no certificate")})
	tests := []struct {
		name   string
		bundle []byte
		want   int // 0 means an error
	}{
		{"one root", one, 1},
		{"roots that share a subject are all kept", bytes.Join([][]byte{one, two, same}, nil), 3},
		{"what does not parse is left out", bytes.Join([][]byte{odd, one, []byte("# text\n")}, nil), 1},
		{"nothing", nil, 0},
		{"only oddities", odd, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store, err := TrustStore(tt.bundle)
			if (err != nil) != (tt.want == 0) {
				t.Fatalf("TrustStore: %v; want an error: %v", err, tt.want == 0)
			}
			if err != nil {
				return
			}
			got, err := pkcs12.DecodeTrustStore(store, TrustStorePassword)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != tt.want {
				t.Errorf("%d certificates in the store, want %d", len(got), tt.want)
			}
		})
	}
}
